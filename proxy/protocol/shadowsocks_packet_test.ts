import { deepEqual, equal, ok } from "node:assert/strict";
import { seededRandom } from "../../internal/random.ts";
import { openCiphers, testTools } from "../testdata/ciphers.ts";
import {
  answerPacket,
  IPV4,
  METHODS,
  openPacket,
  passwordOf,
  sealPacket,
  text,
  TIME,
} from "../testdata/shadowsocks_feed.ts";
import { REPLAY_WINDOW_PACKETS, ReplayWindow, SaltFilter } from "./replay.ts";
import { createShadowsocksPacketClient, createShadowsocksPacketServer } from "./shadowsocks.ts";
import { resolveShadowsocksProfile } from "./shadowsocks_method.ts";

Deno.test("datagrams of any method go both ways, empty and large ones too, and a cut or bent one is refused", () => {
  const random = seededRandom(41);
  for (const method of METHODS) {
    const tools = testTools(random);
    const profile = resolveShadowsocksProfile(method, passwordOf(method));
    const client = createShadowsocksPacketClient(profile, tools);
    const server = createShadowsocksPacketServer({ profile }, tools);
    for (const length of [0, 1, 1400, 60_000]) {
      const data = text.encode("d".repeat(length));
      const to = { host: length === 1 ? "2001:db8::1" : "example.com", port: 53 };
      const packet = sealPacket(client, data, to);
      deepEqual(openPacket(server, packet), ["d".repeat(length), to], method);
      deepEqual(openPacket(client, answerPacket(server, data, to)), ["d".repeat(length), to]);
    }
    const packet = sealPacket(client, text.encode("hello"), IPV4);
    for (let length = 0; length < packet.length; length++) {
      if (method === "none" && length >= 7) continue;
      ok(typeof openPacket(server, packet.slice(0, length)) === "string", `${method} ${length}`);
    }
    if (method === "none") continue;
    for (let at = 0; at < packet.length; at++) {
      const bent = packet.slice();
      bent[at]! ^= 1 << random.u32() % 8;
      ok(typeof openPacket(server, bent) === "string", `${method}, byte ${at}`);
    }
    // None of the attempts has cost the genuine one its place.
    deepEqual(openPacket(server, packet), ["hello", IPV4]);
  }
});

Deno.test("a datagram of 2022 counts once, for 30 seconds, and in one direction", () => {
  const random = seededRandom(42);
  for (const method of METHODS.filter((name) => name.startsWith("2022"))) {
    const tools = testTools(random);
    const profile = resolveShadowsocksProfile(method, passwordOf(method));
    const client = createShadowsocksPacketClient(profile, tools);
    const server = createShadowsocksPacketServer({ profile }, tools);
    const packet = sealPacket(client, text.encode("x"), IPV4);
    equal(openPacket(server, packet, TIME + 31), "time");
    equal(openPacket(server, packet, TIME - 31), "time");
    deepEqual(openPacket(server, packet, TIME + 30), ["x", IPV4]);
    equal(openPacket(server, packet), "replayed");
    const answer = answerPacket(server, text.encode("y"), IPV4);
    equal(openPacket(createShadowsocksPacketClient(profile, tools), answer), "session");
    deepEqual(openPacket(client, answer), ["y", IPV4]);
    equal(openPacket(client, answer), "replayed");
    // Sent back to where it came from, it is of the wrong type, or a session of nobody.
    equal(openPacket(server, answer), "type");
    ok(typeof openPacket(client, packet) === "string");
  }
});

Deno.test("datagrams of 2017 need no cipher that changes its key, and give back what they made", () => {
  const before = openCiphers.count;
  const tools = testTools(seededRandom(49));
  const profile = resolveShadowsocksProfile("aes-192-gcm", "secret");
  for (const fixed of [false, true]) {
    const createAead: typeof tools.createAead = (method, key) => {
      const { rekey, ...aead } = tools.createAead(method, key);
      return fixed ? aead : { ...aead, rekey: rekey! };
    };
    const client = createShadowsocksPacketClient(profile, { ...tools, createAead });
    const server = createShadowsocksPacketServer({ profile }, { ...tools, createAead });
    for (let i = 0; i < 3; i++) {
      const packet = sealPacket(client, text.encode(`${i}`), IPV4);
      deepEqual(openPacket(server, packet), [`${i}`, IPV4]);
      deepEqual(openPacket(client, answerPacket(server, text.encode("y"), IPV4)), ["y", IPV4]);
    }
    equal(openCiphers.count, before + 2);
    client.close();
    server.close();
  }
  equal(openCiphers.count, before);
});

Deno.test("datagrams of 2017 that are repeated are refused when salts are remembered", () => {
  const tools = testTools(seededRandom(43));
  const profile = resolveShadowsocksProfile("chacha20-ietf-poly1305", "secret");
  const server = createShadowsocksPacketServer({ profile, salts: new SaltFilter() }, tools);
  const packet = sealPacket(createShadowsocksPacketClient(profile, tools), text.encode("x"), IPV4);
  deepEqual(openPacket(server, packet), ["x", IPV4]);
  equal(openPacket(server, packet), "replayed");
});

Deno.test("a client of 2022 hears two server sessions, and a third once the old one is silent", () => {
  const tools = testTools(seededRandom(44));
  const method = "2022-blake3-aes-128-gcm";
  const profile = resolveShadowsocksProfile(method, passwordOf(method));
  const client = createShadowsocksPacketClient(profile, tools);
  const hello = sealPacket(client, text.encode("x"), IPV4);
  const servers = [1, 2, 3].map(() => {
    const server = createShadowsocksPacketServer({ profile }, tools);
    openPacket(server, hello);
    return server;
  });
  const say = (index: number, at: number) =>
    openPacket(client, answerPacket(servers[index]!, text.encode("y"), IPV4, TIME + at), TIME + at);
  deepEqual(say(0, 0), ["y", IPV4]);
  deepEqual(say(1, 10), ["y", IPV4]);
  deepEqual(say(0, 20), ["y", IPV4]);
  equal(say(2, 79), "session");
  deepEqual(say(2, 80), ["y", IPV4]);
  deepEqual(say(1, 81), ["y", IPV4]);
  equal(say(0, 82), "session");
});

Deno.test("a server of 2022 forgets idle sessions and gives their ciphers back", () => {
  const before = openCiphers.count;
  const tools = testTools(seededRandom(45));
  const method = "2022-blake3-aes-256-gcm";
  const profile = resolveShadowsocksProfile(method, passwordOf(method));
  const server = createShadowsocksPacketServer({ profile }, tools);
  const clients = [0, 1, 2].map(() => createShadowsocksPacketClient(profile, tools));
  clients.forEach((client, i) => {
    const at = TIME + 30 * i;
    deepEqual(openPacket(server, sealPacket(client, text.encode("x"), IPV4, at), at), ["x", IPV4]);
    const answer = answerPacket(server, text.encode("y"), IPV4, at);
    deepEqual(openPacket(client, answer, at), ["y", IPV4]);
  });
  equal(server.expire(TIME + 60, 60), 2);
  equal(server.expire(TIME + 89, 60), 2);
  equal(server.expire(TIME + 200, 60), 0);
  for (const client of clients) client.close();
  server.close();
  equal(openCiphers.count, before);
});

Deno.test("ReplayWindow agrees with a set that remembers everything", () => {
  const random = seededRandom(46);
  for (const spread of [10, 500, 5000, 200_000]) {
    const window = new ReplayWindow();
    const seen = new Set<number>();
    let highest = -1, centre = 0;
    for (let i = 0; i < 4000; i++) {
      centre += random.u32() % 3;
      if (random.u32() % 200 === 0) centre += random.u32() % spread;
      const id = Math.max(0, centre + random.u32() % spread - (spread >> 1));
      const isTooOld = highest - id >= REPLAY_WINDOW_PACKETS;
      equal(window.accepts(id), !seen.has(id) && !isTooOld, `spread ${spread}, ${i}: ${id}`);
      if (!window.accepts(id)) continue;
      window.mark(id);
      seen.add(id);
      highest = Math.max(highest, id);
    }
  }
  // A jump over the whole ring leaves nothing behind of the lap before.
  const window = new ReplayWindow();
  for (let id = 0; id < 2048; id++) window.mark(id);
  window.mark(20_480);
  for (let id = 20_481 - REPLAY_WINDOW_PACKETS; id < 20_480; id++) ok(window.accepts(id), `${id}`);
  equal(window.accepts(20_480 - REPLAY_WINDOW_PACKETS), false);
  equal(new ReplayWindow().accepts(2 ** 53), false);
  equal(new ReplayWindow().accepts(2 ** 53 - 1), true);
});

Deno.test("SaltFilter remembers for one to two generations, exactly, within its bound", () => {
  const salts = new SaltFilter({ generationSeconds: 60 });
  const random = seededRandom(47);
  const first = random.bytes(32);
  const add = (filter: SaltFilter, salt: Uint8Array, at: number) =>
    filter.add(salt, 0, salt.length, at);
  equal(add(salts, first, 0), true);
  for (let i = 0; i < 1000; i++) equal(add(salts, random.bytes(32), i / 20), true);
  equal(add(salts, first, 59), false);
  equal(add(salts, random.bytes(32), 61), true);
  equal(add(salts, first, 119), false);
  equal(add(salts, random.bytes(32), 122), true);
  equal(add(salts, first, 122), true);
  equal(add(salts, random.bytes(32), 1000), true);
  equal(salts.size, 1);

  const small = new SaltFilter({ maxEntries: 10 });
  for (let i = 0; i < 100; i++) equal(add(small, Uint8Array.of(i), 5), true);
  ok(small.size <= 20);
  equal(add(small, Uint8Array.of(99), 5), false);
  const strict = new SaltFilter({ maxEntries: 10, whenFull: "refuse" });
  for (let i = 0; i < 20; i++) equal(add(strict, Uint8Array.of(i), 5), i < 10);
  equal(add(strict, Uint8Array.of(3), 5), false);
  equal(add(strict, Uint8Array.of(50), 65), true);
  equal(add(strict, Uint8Array.of(3), 65), false);
});
