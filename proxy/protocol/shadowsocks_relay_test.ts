import { deepEqual, equal, ok } from "node:assert/strict";
import { Buffer } from "node:buffer";
import { type Random, seededRandom } from "../../internal/random.ts";
import { aesBlock, openCiphers, testTools } from "../testdata/ciphers.ts";
import vectors2022 from "../testdata/shadowsocks2022.json" with { type: "json" };
import {
  answerPacket,
  EXAMPLE,
  IPV4,
  openAll,
  openPacket,
  sealAll,
  sealPacket,
  text,
  TIME,
} from "../testdata/shadowsocks_feed.ts";
import { identityBlock, packet2022, request2022 } from "../testdata/shadowsocks_oracle.ts";
import { encodeAddress } from "./address.ts";
import { joinBytes } from "./octets.ts";
import { SaltFilter } from "./replay.ts";
import {
  createShadowsocksClient,
  createShadowsocksPacketClient,
  createShadowsocksPacketServer,
  createShadowsocksServer,
} from "./shadowsocks.ts";
import {
  resolveShadowsocksProfile,
  type ShadowsocksMethod,
  ShadowsocksUserTable,
} from "./shadowsocks_method.ts";
import { PACKET_REJECT_NAMES } from "./shadowsocks_packet.ts";
import {
  IDENTITY_BYTES,
  relayShadowsocksStream,
  ShadowsocksPacketRelay,
  type ShadowsocksRelayOptions,
} from "./shadowsocks_relay.ts";

const METHODS = ["2022-blake3-aes-128-gcm", "2022-blake3-aes-256-gcm"] as const;

/** Vectors write bytes in digits without spaces. */
function unhex(digits: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(Buffer.from(digits, "hex"));
}

function keyOf(method: ShadowsocksMethod, fill: number): string {
  return btoa(String.fromCharCode(fill).repeat(method.includes("128") ? 16 : 32));
}

function relayOf(
  method: ShadowsocksMethod,
  own: string,
  behind: readonly string[],
  salts?: SaltFilter,
): ShadowsocksRelayOptions {
  const users = behind.map((password, index) => ({ name: `server ${index}`, password }));
  return {
    profile: resolveShadowsocksProfile(method, own),
    destinations: new ShadowsocksUserTable(method, users),
    ...(salts === undefined ? {} : { salts }),
  };
}

/** What a relay makes of a stream: for whom, and what goes on. */
function relayStream(
  options: ShadowsocksRelayOptions,
  random: Random,
  wire: Uint8Array,
  seconds = TIME,
): readonly [string, Uint8Array] | "more" | "no" {
  const buffer = joinBytes([0xdd, 0xdd], wire, [0xdd]);
  const end = buffer.length - 1;
  const found = relayShadowsocksStream(options, testTools(random), buffer, 2, end, seconds);
  equal(buffer[end], 0xdd);
  return typeof found === "string" ? found : [found.name, buffer.slice(2 + IDENTITY_BYTES, end)];
}

/** The same for datagrams. */
function relayPacket(
  relay: ShadowsocksPacketRelay,
  packet: Uint8Array,
): readonly [string, Uint8Array] | string {
  const buffer = joinBytes([0xdd, 0xdd], packet, [0xdd]);
  const begin = relay.open(buffer, 2, buffer.length - 1);
  if (begin < 0) return PACKET_REJECT_NAMES[-begin]!;
  deepEqual([buffer[0], buffer[1], buffer.at(-1)], [0xdd, 0xdd, 0xdd]);
  return [relay.session!.destination.name, buffer.slice(begin, buffer.length - 1)];
}

Deno.test("a relay takes the identity of the vectors off streams and datagrams", () => {
  for (const vector of vectors2022.cases) {
    const { userKey, streamIdentity, packetIdentity } = vector;
    if (userKey === undefined) continue;
    const method = vector.method as ShadowsocksMethod;
    const behind = btoa(String.fromCharCode(...unhex(userKey)));
    const random = seededRandom(1);
    const options = relayOf(method, vector.psk, [keyOf(method, 1), behind]);
    const salt = unhex(vector.requestSalt);
    const rest = random.bytes(40);
    deepEqual(
      relayStream(options, random, joinBytes(salt, unhex(streamIdentity), rest)),
      ["server 1", joinBytes(salt, rest)],
    );
    const relay = new ShadowsocksPacketRelay(options, testTools(random));
    const found = relayPacket(relay, joinBytes(unhex(packetIdentity), rest));
    // The first block is the same one, for the key behind.
    ok(typeof found !== "string");
    const head = aesBlock("decrypt", unhex(userKey), found[1].slice(0, 16));
    deepEqual(head, unhex("01020304050607080000000000000000"));
    deepEqual([found[0], found[1].slice(16)], ["server 1", rest]);
    relay.close();
  }
});

Deno.test("what an oracle puts together for two relays and a server arrives at the server", () => {
  const random = seededRandom(2);
  for (const method of METHODS) {
    const keys = [1, 2, 3].map((fill) => keyOf(method, fill));
    const profile = resolveShadowsocksProfile(method, keys.join(":"));
    const relays = [relayOf(method, keys[0]!, [keys[1]!]), relayOf(method, keys[1]!, [keys[2]!])];
    const salt = random.bytes(profile.method.keyBytes);
    const [first, second] = profile.identityKeys;
    const wire = request2022({
      method: profile.method,
      key: profile.key,
      salt,
      identities: [identityBlock(first!, second!, salt), identityBlock(second!, profile.key, salt)],
      type: 0,
      time: TIME,
      variable: joinBytes(encodeAddress(EXAMPLE), [0, 0], text.encode("hello")),
    });
    let going: Uint8Array = wire;
    for (const relay of relays) {
      const found = relayStream(relay, random, going);
      ok(typeof found !== "string");
      equal(found[1].length, going.length - 16);
      going = found[1];
    }
    const server = createShadowsocksServer(
      { profile: resolveShadowsocksProfile(method, keys[2]!) },
      testTools(random),
    );
    deepEqual(openAll(server, going, () => going.length), text.encode("hello"));
    deepEqual(server.request, EXAMPLE);
    server.close();

    const packets = createShadowsocksPacketServer(
      { profile: resolveShadowsocksProfile(method, keys[2]!) },
      testTools(random),
    );
    let packet = packet2022(profile, random.bytes(8), 0, TIME, 3, EXAMPLE, text.encode("ping"));
    for (const options of relays) {
      const relay = new ShadowsocksPacketRelay(options, testTools(random));
      const found = relayPacket(relay, packet);
      ok(typeof found !== "string");
      packet = found[1] as Uint8Array;
      relay.close();
    }
    deepEqual(openPacket(packets, packet), ["ping", EXAMPLE]);
    packets.close();
  }
});

Deno.test("a client's own streams and datagrams pass relays, and answers come back as they are", () => {
  const random = seededRandom(3);
  const tools = testTools(random);
  const before = openCiphers.count;
  for (const method of METHODS) {
    const keys = [4, 5].map((fill) => keyOf(method, fill));
    const profile = resolveShadowsocksProfile(method, keys.join(":"));
    const behind = { profile: resolveShadowsocksProfile(method, keys[1]!) };
    const options = relayOf(method, keys[0]!, [keys[1]!]);
    const { sealer, opener } = createShadowsocksClient(profile, EXAMPLE, tools);
    const payload = random.bytes(3000);
    const found = relayStream(options, random, sealAll(sealer, [payload, payload]));
    ok(typeof found !== "string");
    const server = createShadowsocksServer(behind, tools);
    deepEqual(openAll(server, found[1], () => 700), joinBytes(payload, payload));
    const answers = server.createSealer();
    deepEqual(openAll(opener, sealAll(answers, [payload]), () => 400), payload);
    for (const each of [sealer, opener, server, answers]) each.close();

    const client = createShadowsocksPacketClient(profile, tools);
    const packets = createShadowsocksPacketServer(behind, tools);
    const relay = new ShadowsocksPacketRelay(options, tools);
    for (let number = 0; number < 5; number++) {
      const packet = relayPacket(relay, sealPacket(client, text.encode(`${number}`), IPV4));
      ok(typeof packet !== "string");
      deepEqual(openPacket(packets, packet[1] as Uint8Array), [`${number}`, IPV4]);
      const answer = answerPacket(packets, text.encode("back"), IPV4);
      deepEqual(openPacket(client, answer), ["back", IPV4]);
    }
    for (const each of [client, packets, relay]) each.close();
  }
  equal(openCiphers.count, before);
});

Deno.test("a relay passes on nothing that is bent, foreign, repeated or short, and waits for an identity", () => {
  const random = seededRandom(4);
  const tools = testTools(random);
  for (const method of METHODS) {
    const keys = [4, 5].map((fill) => keyOf(method, fill));
    const profile = resolveShadowsocksProfile(method, keys.join(":"));
    const options = relayOf(method, keys[0]!, [keys[1]!], new SaltFilter({}));
    const { sealer, opener } = createShadowsocksClient(profile, EXAMPLE, tools);
    const wire = sealAll(sealer, [text.encode("hello")]);
    const header = profile.method.keyBytes + IDENTITY_BYTES;
    for (let length = 0; length < header; length++) {
      equal(relayStream(options, random, wire.slice(0, length)), "more", `${length}`);
    }
    for (let at = 0; at < header; at++) {
      const bent = wire.slice();
      bent[at]! ^= 1 << random.u32() % 8;
      equal(relayStream(options, random, bent), "no", `${method}, byte ${at}`);
    }
    for (let round = 0; round < 50; round++) {
      equal(relayStream(options, random, random.bytes(header + random.u32() % 200)), "no");
    }
    ok(typeof relayStream(options, random, wire) !== "string");
    equal(relayStream(options, random, wire), "no", "repeated");
    equal(relayStream(options, random, wire, TIME + 59), "no", "repeated a minute later");
    for (const each of [sealer, opener]) each.close();

    const client = createShadowsocksPacketClient(profile, tools);
    const relay = new ShadowsocksPacketRelay(options, tools);
    const packet = sealPacket(client, text.encode("x"), IPV4);
    for (let length = 0; length < 59; length++) {
      equal(relayPacket(relay, packet.slice(0, length)), "short", `${length}`);
    }
    for (let at = 0; at < 32; at++) {
      const bent = packet.slice();
      bent[at]! ^= 1 << random.u32() % 8;
      equal(relayPacket(relay, bent), "user", `${method}, byte ${at}`);
    }
    ok(typeof relayPacket(relay, packet) !== "string");
    equal(relayPacket(relay, packet), "replayed");
    ok(typeof relayPacket(relay, sealPacket(client, text.encode("y"), IPV4)) !== "string");
    relay.forget(relay.session!);
    // A session that is forgotten begins anew: the server behind still knows what it has seen.
    ok(typeof relayPacket(relay, packet) !== "string");
    for (const each of [client, relay]) each.close();
  }
});
