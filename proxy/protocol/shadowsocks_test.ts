import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { type Random, seededRandom } from "../../internal/random.ts";
import { bytesOfHex, hexOf } from "../../internal/testing/vectors.ts";
import { openCiphers, scriptedRandom, testTools } from "../testdata/ciphers.ts";
import {
  answerPacket,
  EXAMPLE,
  IPV4,
  METHODS,
  openAll,
  openPacket,
  passwordOf,
  payloadsOf,
  ROUNDS,
  sealAll,
  sealPacket,
  text,
  TIME,
} from "../testdata/shadowsocks_feed.ts";
import {
  chunks2022,
  identityBlock,
  packet2022,
  request2022,
  response2022,
} from "../testdata/shadowsocks_oracle.ts";
import { encodeAddress } from "./address.ts";
import { ChunkOpener, ChunkSealer } from "./aead_chunk.ts";
import { joinBytes } from "./octets.ts";
import { SaltFilter } from "./replay.ts";
import {
  createShadowsocksClient,
  createShadowsocksPacketClient,
  createShadowsocksPacketServer,
  createShadowsocksServer,
} from "./shadowsocks.ts";
import {
  deriveSessionSubkey,
  deriveShadowsocksKey,
  deriveShadowsocksSubkey,
  resolveShadowsocksProfile,
  SHADOWSOCKS_METHODS,
  shadowsocksIdentityHash,
  type ShadowsocksMethod,
  ShadowsocksUserTable,
} from "./shadowsocks_method.ts";
import type { ShadowsocksServerOptions, ShadowsocksServerStream } from "./shadowsocks_stream.ts";
import vectors2017 from "../testdata/shadowsocks.json" with { type: "json" };
import vectors2022 from "../testdata/shadowsocks2022.json" with { type: "json" };

Deno.test("the keys of 2017 are those of the vectors", () => {
  for (const { password, bytes, key } of vectors2017.keys) {
    equal(hexOf(deriveShadowsocksKey(password, bytes)), hexOf(bytesOfHex(key)));
  }
  for (const { method, password, salt, subkey } of vectors2017.cases) {
    const { keyBytes } = SHADOWSOCKS_METHODS[method as ShadowsocksMethod];
    const key = deriveShadowsocksKey(password, keyBytes);
    equal(hexOf(deriveShadowsocksSubkey(key, bytesOfHex(salt))), hexOf(bytesOfHex(subkey)));
  }
});

Deno.test("streams and datagrams of 2017 are those of the vectors, both ways", () => {
  for (const { method, password, salt, stream, packet } of vectors2017.cases) {
    const profile = resolveShadowsocksProfile(method as ShadowsocksMethod, password);
    const tools = testTools(scriptedRandom(bytesOfHex(salt), bytesOfHex(salt)));
    const hello = text.encode("hello");
    const { sealer } = createShadowsocksClient(profile, EXAMPLE, tools);
    equal(hexOf(sealAll(sealer, [hello])), hexOf(bytesOfHex(stream)));
    const server = createShadowsocksServer({ profile }, tools);
    deepEqual([...openAll(server, bytesOfHex(stream), () => 7)], [...hello]);
    deepEqual(server.request, EXAMPLE);

    const client = createShadowsocksPacketClient(profile, tools);
    equal(hexOf(sealPacket(client, hello, EXAMPLE)), hexOf(bytesOfHex(packet)));
    const packets = createShadowsocksPacketServer({ profile }, tools);
    deepEqual(openPacket(packets, bytesOfHex(packet)), ["hello", EXAMPLE]);
  }
});

Deno.test("streams of 2022 are those of the vectors, both ways", () => {
  for (const vector of vectors2022.cases) {
    const profile = resolveShadowsocksProfile(vector.method as ShadowsocksMethod, vector.psk);
    const requestSalt = bytesOfHex(vector.requestSalt);
    const responseSalt = bytesOfHex(vector.response).slice(0, requestSalt.length);
    equal(
      hexOf(deriveSessionSubkey(profile.key, requestSalt)),
      hexOf(bytesOfHex(vector.requestSubkey)),
    );
    const tools = testTools(scriptedRandom(requestSalt, responseSalt));
    const client = createShadowsocksClient(
      profile,
      EXAMPLE,
      tools,
      (payloadBytes) => payloadBytes === 5 ? 3 : 0,
    );
    const request = sealAll(client.sealer, [text.encode("GET /"), text.encode("world")]);
    equal(hexOf(request), hexOf(bytesOfHex(vector.request)));
    const server = createShadowsocksServer({ profile }, tools);
    deepEqual([...openAll(server, request, () => 11)], [...text.encode("GET /world")]);
    deepEqual(server.request, EXAMPLE);
    const response = sealAll(server.createSealer(), [text.encode("OK")], TIME + 1);
    equal(hexOf(response), hexOf(bytesOfHex(vector.response)));
    deepEqual([...openAll(client.opener, response, () => 11)], [...text.encode("OK")]);
  }
});

Deno.test("identities of 2022 are those of the vectors", () => {
  for (const vector of vectors2022.cases) {
    const method = vector.method as ShadowsocksMethod;
    const userKey = bytesOfHex(vector.userKey);
    const password = `${vector.psk}:${btoa(String.fromCharCode(...userKey))}`;
    const profile = resolveShadowsocksProfile(method, password);
    equal(hexOf(shadowsocksIdentityHash(userKey)), hexOf(bytesOfHex(vector.userHash)));
    const requestSalt = bytesOfHex(vector.requestSalt);
    const tools = testTools(scriptedRandom(requestSalt, bytesOfHex("0102030405060708")));
    const { sealer } = createShadowsocksClient(profile, EXAMPLE, tools);
    const wire = sealAll(sealer, [text.encode("x")]);
    const identity = wire.slice(requestSalt.length, requestSalt.length + 16);
    equal(hexOf(identity), hexOf(bytesOfHex(vector.streamIdentity)));
    const client = createShadowsocksPacketClient(profile, tools);
    const head = sealPacket(client, text.encode("x"), EXAMPLE).slice(0, 32);
    equal(hexOf(head), hexOf(bytesOfHex(vector.packetIdentity)));
  }
});

Deno.test("datagrams of 2022 are those of the vectors, both ways", () => {
  for (const vector of vectors2022.cases) {
    const profile = resolveShadowsocksProfile(vector.method as ShadowsocksMethod, vector.psk);
    const clientId = bytesOfHex("0102030405060708");
    const serverId = bytesOfHex("1112131415161718");
    equal(
      hexOf(deriveSessionSubkey(profile.key, clientId)),
      hexOf(bytesOfHex(vector.sessionSubkey)),
    );
    const tools = testTools(scriptedRandom(clientId, serverId));
    const client = createShadowsocksPacketClient(profile, tools);
    const server = createShadowsocksPacketServer({ profile }, tools);
    const packet = sealPacket(client, text.encode("ping"), EXAMPLE);
    equal(hexOf(packet), hexOf(bytesOfHex(vector.clientPacket)));
    deepEqual(openPacket(server, packet), ["ping", EXAMPLE]);
    const answer = answerPacket(server, text.encode("pong"), IPV4);
    equal(hexOf(answer), hexOf(bytesOfHex(vector.serverPacket)));
    deepEqual(openPacket(client, answer), ["pong", IPV4]);
  }
  const { nonce, packet } = vectors2022.chaCha;
  const profile = resolveShadowsocksProfile(
    "2022-blake3-chacha20-poly1305",
    vectors2022.cases[1]!.psk,
  );
  const tools = testTools(scriptedRandom(bytesOfHex("0102030405060708"), bytesOfHex(nonce)));
  const client = createShadowsocksPacketClient(profile, tools);
  equal(hexOf(sealPacket(client, text.encode("ping"), EXAMPLE)), hexOf(bytesOfHex(packet)));
  const server = createShadowsocksPacketServer({ profile }, tools);
  deepEqual(openPacket(server, bytesOfHex(packet)), ["ping", EXAMPLE]);
});

Deno.test("a stream of any method survives any cut, both ways, and closes every cipher", () => {
  const random = seededRandom(21);
  const before = openCiphers.count;
  for (const method of METHODS) {
    for (let round = 0; round < 2 * ROUNDS; round++) {
      const tools = testTools(random);
      const profile = resolveShadowsocksProfile(method, passwordOf(method));
      const destination = random.u32() % 2 === 0 ? EXAMPLE : IPV4;
      const client = createShadowsocksClient(profile, destination, tools);
      const server = createShadowsocksServer({ profile, salts: new SaltFilter() }, tools);
      const up = payloadsOf(random, round === 0), down = payloadsOf(random, false);
      const wireUp = sealAll(client.sealer, up);
      const cut = () => 1 + random.u32() % (round === 0 ? 40 : 3000);
      deepEqual(openAll(server, wireUp, cut), joinBytes(...up), method);
      deepEqual(server.request, destination);
      equal(server.state, "data");
      equal(server.atBoundary, true);
      const wireDown = sealAll(server.createSealer(), down);
      deepEqual(openAll(client.opener, wireDown, cut), joinBytes(...down), method);
      equal(client.opener.atBoundary, true);
      client.sealer.close();
      client.opener.close();
      server.close();
    }
  }
  // The server's sealers are not closed above: one for each stream with a cipher.
  equal(openCiphers.count - before, (METHODS.length - 1) * 2 * ROUNDS);
});

Deno.test("a stream fed byte by byte opens as one fed at once, and never needs more than it says", () => {
  const random = seededRandom(22);
  for (const method of METHODS) {
    const tools = testTools(random);
    const profile = resolveShadowsocksProfile(method, passwordOf(method));
    const { sealer } = createShadowsocksClient(profile, EXAMPLE, tools);
    const wire = sealAll(sealer, [text.encode("one"), new Uint8Array(300), text.encode("two")]);
    const whole = createShadowsocksServer({ profile }, tools);
    const bytewise = createShadowsocksServer({ profile }, tools);
    const expected = openAll(whole, wire, () => wire.length);
    deepEqual(openAll(bytewise, wire, () => 1), expected);
    equal(expected.length, 306);
    ok(whole.need <= whole.maxNeed);
  }
});

Deno.test("a stream that is cut off ends at a boundary only where a chunk ends", () => {
  const random = seededRandom(23);
  for (const method of ["aes-256-gcm", "2022-blake3-aes-128-gcm"] as const) {
    const tools = testTools(random);
    const profile = resolveShadowsocksProfile(method, passwordOf(method));
    const { sealer } = createShadowsocksClient(profile, IPV4, tools);
    const first = sealAll(sealer, [text.encode("one")]);
    const wire = joinBytes(first, sealAll(sealer, [text.encode("two")]));
    for (let length = 0; length <= wire.length; length++) {
      const server = createShadowsocksServer({ profile }, tools);
      const buffer = wire.slice(0, length);
      const consumed = server.open(buffer, 0, length, TIME);
      const isClean = server.atBoundary && consumed === length;
      equal(isClean, [0, first.length, wire.length].includes(length), `${method}, ${length}`);
    }
  }
});

Deno.test("the header waits for no payload: an empty one sends it alone", () => {
  const random = seededRandom(24);
  for (const method of METHODS) {
    const tools = testTools(random);
    const profile = resolveShadowsocksProfile(method, passwordOf(method));
    const { sealer } = createShadowsocksClient(profile, EXAMPLE, tools);
    const server = createShadowsocksServer({ profile }, tools);
    const wire = sealAll(sealer, [new Uint8Array(0), text.encode("later")]);
    deepEqual([...openAll(server, wire, () => 50)], [...text.encode("later")]);
    deepEqual(server.request, EXAMPLE);
  }
});

Deno.test("the longest payloads fit, and one byte more is refused", () => {
  const random = seededRandom(25);
  for (const method of METHODS) {
    const tools = testTools(random);
    const profile = resolveShadowsocksProfile(method, passwordOf(method));
    const { sealer } = createShadowsocksClient(profile, EXAMPLE, tools);
    const server = createShadowsocksServer({ profile }, tools);
    const payloads = [random.bytes(sealer.maxPayload)];
    if (profile.method.edition !== 0) {
      throws(() => sealAll(sealer, [new Uint8Array(sealer.maxPayload + 1)]), RangeError);
    }
    let wire = sealAll(sealer, payloads);
    payloads.push(random.bytes(sealer.maxPayload));
    wire = joinBytes(wire, sealAll(sealer, payloads.slice(1)));
    deepEqual(openAll(server, wire, () => 1400), joinBytes(...payloads));
    throws(() => sealer.seal(new Uint8Array(40), 2, 20_000, TIME), RangeError);
  }
});

Deno.test("an address that is spread over chunks of 2017 is put together", () => {
  const tools = testTools(seededRandom(26));
  const profile = resolveShadowsocksProfile("aes-128-gcm", "secret");
  const salt = new Uint8Array(16).fill(9);
  const aead = tools.createAead("aes-128-gcm", deriveShadowsocksSubkey(profile.key, salt));
  const chunks = new ChunkSealer(aead, 0x3fff);
  const plain = joinBytes(encodeAddress(EXAMPLE), text.encode("payload"));
  const pieces = [...plain].map((byte) => Uint8Array.of(byte));
  const wire = joinBytes(salt, sealAll(chunks, pieces));
  const server = createShadowsocksServer({ profile }, tools);
  deepEqual([...openAll(server, wire, () => wire.length)], [...text.encode("payload")]);
  deepEqual(server.request, EXAMPLE);
});

Deno.test("users of a server are told apart, and strangers are not let in", () => {
  const random = seededRandom(27);
  for (const method of METHODS) {
    if (method === "none" || method === "2022-blake3-chacha20-poly1305") {
      throws(() => new ShadowsocksUserTable(method, []), TypeError);
      continue;
    }
    const tools = testTools(random);
    const is2022 = SHADOWSOCKS_METHODS[method].edition === 2022;
    const users = new ShadowsocksUserTable(
      method,
      [1, 2, 3].map((i) => ({ name: `user ${i}`, password: passwordOf(method, i) })),
    );
    const profile = resolveShadowsocksProfile(method, passwordOf(method));
    for (const i of [1, 2, 3, 4]) {
      const password = (is2022 ? `${passwordOf(method)}:` : "") + passwordOf(method, i);
      const own = resolveShadowsocksProfile(method, password);
      const client = createShadowsocksClient(own, EXAMPLE, tools);
      const server = createShadowsocksServer({ profile, users }, tools);
      const opened = openAll(server, sealAll(client.sealer, [text.encode("hi")]), () => 9);
      deepEqual([...opened], i === 4 ? [] : [...text.encode("hi")]);
      equal(server.user, i === 4 ? undefined : `user ${i}`);
      equal(server.state, i === 4 ? "drain" : "data");
      const packets = createShadowsocksPacketServer({ profile, users }, tools);
      const sender = createShadowsocksPacketClient(own, tools);
      const packet = sealPacket(sender, text.encode("ping"), EXAMPLE);
      if (i === 4) {
        equal(openPacket(packets, packet), is2022 ? "user" : "forged");
        continue;
      }
      deepEqual(openPacket(packets, packet), ["ping", EXAMPLE]);
      equal(packets.session!.user, `user ${i}`);
      const answer = answerPacket(packets, text.encode("pong"), IPV4);
      deepEqual(openPacket(sender, answer), ["pong", IPV4]);
      const back = sealAll(server.createSealer(), [text.encode("yes")]);
      deepEqual([...openAll(client.opener, back, () => 9)], [...text.encode("yes")]);
    }
  }
});

Deno.test("resolveShadowsocksProfile() refuses keys of another length, what is no base64, and says no secret", () => {
  const refused = (method: ShadowsocksMethod, password: string): string => {
    try {
      resolveShadowsocksProfile(method, password);
    } catch (error) {
      ok(error instanceof Error && (password === "" || !error.message.includes(password)));
      return error.name;
    }
    return "";
  };
  equal(refused("2022-blake3-aes-128-gcm", btoa("x".repeat(15))), "RangeError");
  equal(refused("2022-blake3-aes-256-gcm", btoa("x".repeat(16))), "RangeError");
  equal(refused("2022-blake3-aes-128-gcm", "not base64!"), "SyntaxError");
  equal(refused("2022-blake3-aes-128-gcm", ""), "RangeError");
  const key = btoa("x".repeat(32));
  equal(refused("2022-blake3-chacha20-poly1305", `${key}:${key}`), "TypeError");
  equal(refused("rot13" as ShadowsocksMethod, "x-x-x"), "TypeError");
  const twice = [1, 2].map((i) => ({ name: `${i}`, password: key }));
  throws(() => new ShadowsocksUserTable("2022-blake3-aes-256-gcm", twice), RangeError);
});

/** What a server does with each of these must look the same from outside: nothing. */
function verdict(
  options: ShadowsocksServerOptions,
  random: Random,
  wire: Uint8Array,
  seconds = TIME,
): string {
  const server = createShadowsocksServer(options, testTools(random));
  const opened = openAll(server, wire, () => wire.length, seconds);
  if (server.state === "drain") {
    equal(opened.length, 0);
    equal(server.request, undefined);
    // Whatever comes now is swallowed whole.
    equal(server.open(new Uint8Array(99), 9, 90, seconds), 81);
    throws(() => server.createSealer(), TypeError);
  }
  return server.state;
}

Deno.test("a repeated, bent or foreign header of any method leads to draining and nothing else", () => {
  const random = seededRandom(28);
  for (const method of METHODS) {
    if (method === "none") continue;
    const profile = resolveShadowsocksProfile(method, passwordOf(method));
    const options = { profile, salts: new SaltFilter() };
    const { sealer } = createShadowsocksClient(profile, EXAMPLE, testTools(random));
    const wire = sealAll(sealer, [text.encode("hello")]);
    const { keyBytes, edition } = profile.method;
    const header = edition === 2022 ? keyBytes + 27 : keyBytes + 18;
    for (let at = 0; at < header; at++) {
      const bent = wire.slice();
      bent[at]! ^= 1 << random.u32() % 8;
      equal(verdict(options, random, bent), "drain", `${method}, byte ${at}`);
    }
    // What failed is not remembered: the genuine header still counts, once.
    equal(options.salts.size, 0);
    equal(verdict(options, random, wire), "data");
    equal(verdict(options, random, wire), "drain");
    const foreign = resolveShadowsocksProfile(method, passwordOf(method, 9));
    const stranger = createShadowsocksClient(foreign, EXAMPLE, testTools(random)).sealer;
    equal(verdict(options, random, sealAll(stranger, [text.encode("hello")])), "drain");
    for (let length = 1; length <= 200; length += 13) {
      const expected = length < header ? "header" : "drain";
      equal(verdict(options, random, random.bytes(length)), expected, `${method}, ${length}`);
    }
  }
});

Deno.test("a header of 2022 counts for 30 seconds either way, and an answer to another request not at all", () => {
  const random = seededRandom(29);
  const method = "2022-blake3-aes-128-gcm";
  const profile = resolveShadowsocksProfile(method, passwordOf(method));
  for (const skew of [-31, -30, 0, 30, 31]) {
    const client = createShadowsocksClient(profile, EXAMPLE, testTools(random));
    const wire = sealAll(client.sealer, [text.encode("x")]);
    const expected = Math.abs(skew) > 30 ? "drain" : "data";
    equal(verdict({ profile }, random, wire, TIME + skew), expected);
    const server = createShadowsocksServer({ profile }, testTools(random));
    openAll(server, wire, () => 999);
    const answer = sealAll(server.createSealer(), [text.encode("y")], TIME);
    const other = createShadowsocksClient(profile, EXAMPLE, testTools(random));
    equal(openAll(other.opener, answer, () => 999, TIME).length, 0);
    equal(other.opener.state, "drain");
    openAll(client.opener, answer, () => 999, TIME + skew);
    equal(client.opener.state, expected);
  }
});

Deno.test("headers of 2022 that were sealed right but say something wrong are drained", () => {
  const random = seededRandom(30);
  const method = "2022-blake3-aes-128-gcm";
  const profile = resolveShadowsocksProfile(method, passwordOf(method));
  const address = encodeAddress(EXAMPLE);
  const salt = () => random.bytes(16);
  const good = { method: profile.method, key: profile.key, type: 0, time: TIME };
  const send = (variable: Uint8Array, change = {}) =>
    verdict({ profile }, random, request2022({ ...good, salt: salt(), variable, ...change }));
  equal(send(joinBytes(address, [0, 1, 0])), "data");
  equal(send(joinBytes(address, [0, 0, 65])), "data");
  equal(send(joinBytes(address, [0, 0])), "drain", "neither padding nor payload");
  equal(send(joinBytes(address, [0, 2, 0])), "drain", "more padding than there is");
  equal(send(joinBytes(address, [0])), "drain", "half a length");
  equal(send(address.slice(0, 9)), "drain", "half an address");
  equal(send(new Uint8Array(0)), "drain", "nothing");
  equal(send(joinBytes([9, 9, 9, 9], [0, 1, 0])), "drain", "no address type");
  equal(send(joinBytes([3, 1, 32, 0, 80], [0, 1, 0])), "drain", "no name");
  equal(send(joinBytes(address, [0, 1, 0]), { type: 1 }), "drain", "an answer");
});

Deno.test("a chunk that was bent, or announces more than is allowed, ends what is delivered", () => {
  const tools = testTools(seededRandom(31));
  const key = new Uint8Array(16);
  const payloads = ["first", "second", "third"].map((word) => text.encode(word));
  const wire = sealAll(new ChunkSealer(tools.createAead("aes-128-gcm", key), 0x3fff), payloads);
  for (let at = 0; at < wire.length; at++) {
    const bent = wire.slice();
    bent[at]! ^= 0x10;
    const opener = new ChunkOpener(tools.createAead("aes-128-gcm", key), 0x3fff);
    const opened = new TextDecoder().decode(openAll(opener, bent, () => wire.length));
    equal(opener.state, "drain");
    equal(opened, at < 39 ? "" : at < 79 ? "first" : "firstsecond", `byte ${at}`);
  }
  const long = sealAll(new ChunkSealer(tools.createAead("aes-128-gcm", key), 0xffff), [
    new Uint8Array(0x4000),
  ]);
  const opener = new ChunkOpener(tools.createAead("aes-128-gcm", key), 0x3fff);
  equal(openAll(opener, long, () => 18).length, 0);
  equal(opener.state, "drain");
});

Deno.test("ChunkOpener opens more chunks than it has ranges for in several calls", () => {
  const tools = testTools(seededRandom(32));
  const payloads = Array.from({ length: 150 }, (_, i) => Uint8Array.of(i));
  const aead = () => tools.createAead("aes-128-gcm", new Uint8Array(16));
  const wire = sealAll(new ChunkSealer(aead(), 0x3fff), payloads);
  deepEqual(
    openAll(new ChunkOpener(aead(), 0x3fff), wire, () => wire.length),
    joinBytes(...payloads),
  );
});

Deno.test("streams of 2022 agree with a straight-line codec on random input, both ways", () => {
  const random = seededRandom(33);
  for (const method of METHODS.filter((name) => name.startsWith("2022"))) {
    for (let round = 0; round < 6 * ROUNDS; round++) {
      const layers = method.includes("chacha") ? 0 : random.u32() % 3;
      const keys = Array.from({ length: layers + 1 }, (_, i) => passwordOf(method, 20 + i));
      const profile = resolveShadowsocksProfile(method, keys.join(":"));
      const salt = random.bytes(profile.method.keyBytes);
      const padding = 1 + random.u32() % 900;
      const first = random.bytes(random.u32() % 300);
      const more = payloadsOf(random, false);
      const tools = testTools(scriptedRandom(salt));
      const client = createShadowsocksClient(profile, EXAMPLE, tools, () => padding);
      const wire = sealAll(client.sealer, [first, ...more]);
      const identities = profile.identityKeys.map((key, i) =>
        identityBlock(key, profile.identityKeys[i + 1] ?? profile.key, salt)
      );
      const variable = joinBytes(
        encodeAddress(EXAMPLE),
        [padding >> 8, padding & 255],
        new Uint8Array(padding),
        first,
      );
      const { method: parts, key } = profile;
      const header = { method: parts, key, salt, identities, type: 0, time: TIME, variable };
      const expected = joinBytes(request2022(header), chunks2022(parts, key, salt, 2, more));
      deepEqual(wire, expected, `${method}, round ${round}`);
      const responseSalt = random.bytes(profile.method.keyBytes);
      const answer = joinBytes(
        response2022(parts, key, responseSalt, TIME + 9, salt, first),
        chunks2022(parts, key, responseSalt, 2, more),
      );
      const opened = openAll(client.opener, answer, () => 1 + random.u32() % 999);
      deepEqual(opened, joinBytes(first, ...more));
    }
  }
});

Deno.test("datagrams of 2022 agree with a straight-line codec on random input", () => {
  const random = seededRandom(34);
  for (const method of ["2022-blake3-aes-128-gcm", "2022-blake3-aes-256-gcm"] as const) {
    for (let round = 0; round < 10 * ROUNDS; round++) {
      const layers = random.u32() % 3;
      const keys = Array.from({ length: layers + 1 }, (_, i) => passwordOf(method, 20 + i));
      const profile = resolveShadowsocksProfile(method, keys.join(":"));
      const id = random.bytes(8);
      const padding = random.u32() % 901;
      const client = createShadowsocksPacketClient(
        profile,
        testTools(scriptedRandom(id)),
        () => padding,
      );
      for (let number = 0; number < 3; number++) {
        const data = random.bytes(random.u32() % 1400);
        const packet = sealPacket(client, data, EXAMPLE);
        deepEqual(packet, packet2022(profile, id, number, TIME, padding, EXAMPLE, data));
      }
    }
  }
});

Deno.test("servers survive hostile streams and datagrams", () => {
  const seed = 48;
  const random = seededRandom(seed);
  const rounds = Deno.env.get("FASTWIRE_LONG") === "1" ? 200_000 : 4000;
  const targets = (["aes-128-gcm", "2022-blake3-aes-128-gcm", "none"] as const).map((method) => {
    const profile = resolveShadowsocksProfile(method, passwordOf(method));
    const tools = testTools(random);
    const client = createShadowsocksClient(profile, EXAMPLE, tools);
    const wire = sealAll(client.sealer, [text.encode("hello"), text.encode("world")]);
    const packet = sealPacket(
      createShadowsocksPacketClient(profile, tools),
      text.encode("hello"),
      EXAMPLE,
    );
    const packets = createShadowsocksPacketServer({ profile }, tools);
    return { profile, wire, packet, packets, tools };
  });
  for (let i = 0; i < rounds; i++) {
    const { profile, wire, packet, packets, tools } = targets[i % 3]!;
    try {
      const bend = (good: Uint8Array<ArrayBuffer>) => {
        const bytes = random.u32() % 4 === 0 ? random.bytes(random.u32() % 200) : good.slice();
        const length = random.u32() % 2 === 0 ? bytes.length : random.u32() % (bytes.length + 1);
        if (length > 0) bytes[random.u32() % length]! ^= random.u32() % 256;
        return bytes.slice(0, length);
      };
      const server: ShadowsocksServerStream = createShadowsocksServer({ profile }, tools);
      openAll(server, bend(wire), () => 1 + random.u32() % 90);
      openPacket(packets, bend(packet));
    } catch (error) {
      throw new Error(`seed ${seed}, round ${i}`, { cause: error });
    }
  }
});
