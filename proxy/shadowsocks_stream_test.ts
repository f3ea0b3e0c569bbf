import { deepEqual, equal, ok } from "node:assert/strict";
import { openAeads, openCopyRelayHost, type StreamConnection } from "../ffi/mod.ts";
import { seededRandom } from "../internal/random.ts";
import { systemClock } from "../internal/time/clock.ts";
import { resolveProxyConfig } from "./config.ts";
import type { ShadowsocksInboundConfig } from "./config_types.ts";
import type { InboundContext, InboundStream } from "./inbound.ts";
import { ShadowsocksInbound } from "./inbounds/shadowsocks.ts";
import { LoopGuard } from "./loop_guard.ts";
import { createShadowsocksClient, resolveShadowsocksProfile } from "./protocol/mod.ts";
import { ShadowsocksDuplex } from "./shadowsocks_stream.ts";
import { shadowsocksTools } from "./shadowsocks_tools.ts";
import { MemoryEnd } from "./testdata/memory_duplex.ts";
import { passwordOf, TIME } from "./testdata/shadowsocks_feed.ts";

// Bound by the first that asks, which the leak check would put down to the test that happened to.
await openAeads();

const DESTINATION = { host: "192.0.2.1", port: 80 };

class OpenInbound extends ShadowsocksInbound {
  accept(client: StreamConnection): void {
    this.accepted(client);
  }
}

/** A server whose clients a test hands over itself. */
async function openServer(method: "aes-256-gcm" | "2022-blake3-aes-128-gcm"): Promise<{
  readonly accept: (client: StreamConnection) => void;
  readonly streams: InboundStream[];
  readonly close: () => Promise<void>;
}> {
  const streams: InboundStream[] = [];
  const listener = {
    local: { family: "ipv4", address: "127.0.0.1", port: 1 },
    watch: () => {},
    close: () => Promise.resolve(),
  };
  const context = {
    streams: { listen: () => listener, traits: { driver: "linux", options: true } },
    aeads: () => openAeads(),
    handler: { stream: (stream: InboundStream) => streams.push(stream) },
    clock: systemClock,
    loops: new LoopGuard(systemClock),
    unixSeconds: () => TIME,
    random: seededRandom(7),
  } as unknown as InboundContext;
  const config = resolveProxyConfig({
    inbounds: [{
      type: "shadowsocks",
      tag: "in",
      listen: "127.0.0.1",
      network: "tcp",
      method,
      password: passwordOf(method),
    }],
  }).inbounds[0] as ShadowsocksInboundConfig;
  const inbound = new OpenInbound(config, context);
  await inbound.start();
  return {
    accept: (client) => inbound.accept(client),
    streams,
    close: () => inbound.close(),
  };
}

async function clientOver(
  wire: MemoryEnd,
  method: "aes-256-gcm" | "2022-blake3-aes-128-gcm",
  seed: number,
): Promise<ShadowsocksDuplex> {
  const tools = shadowsocksTools(await openAeads(), seededRandom(seed));
  const profile = resolveShadowsocksProfile(method, passwordOf(method));
  const { sealer, opener } = createShadowsocksClient(profile, DESTINATION, tools);
  return new ShadowsocksDuplex(wire.connection, sealer, opener, () => TIME);
}

for (const method of ["aes-256-gcm", "2022-blake3-aes-128-gcm"] as const) {
  Deno.test(`a Shadowsocks server keeps everything a first read brings, however much (${method})`, async () => {
    const server = await openServer(method);
    const [near, far] = MemoryEnd.pair(1 << 20);
    const client = await clientOver(near, method, 1);
    const sent = seededRandom(2).bytes(400_000);
    for (let at = 0; at < sent.length;) {
      // Not in pieces that fill the server's buffer by themselves.
      const count = client.sendNow(new Uint8Array(sent), at, Math.min(at + 3000, sent.length));
      ok(count > 0, "the pipe holds it all");
      at += count;
    }
    client.end();
    server.accept(far.connection);
    const [{ client: opened, metadata }] = server.streams as [InboundStream];
    deepEqual(metadata.destination, DESTINATION);
    const got = new Uint8Array(sent.length + 1);
    let length = 0;
    for (;;) {
      const count = opened.receiveNow(got, length, got.length);
      if (count <= 0) break;
      length += count;
    }
    equal(length, sent.length);
    deepEqual(got.subarray(0, length), new Uint8Array(sent));
    await Promise.all([client.close(), opened.close(), server.close()]);
  });

  Deno.test(`relays through Shadowsocks lose and change nothing, whatever the kernel takes at once (${method})`, async () => {
    for (let seed = 1; seed <= 30; seed++) {
      const random = seededRandom(seed);
      const pick = (most: number): number => 1 + random.u32() % most;
      // Now and then as much as the large buffers are for.
      const scale = seed % 6 === 0 ? 8 : 1;
      const server = await openServer(method);
      const [app, entry] = MemoryEnd.pair(pick(300_000 * scale));
      const [near, far] = MemoryEnd.pair(pick(300_000 * scale));
      const [exit, origin] = MemoryEnd.pair(pick(300_000 * scale));
      await using relays = await openCopyRelayHost();
      const up = relays.start(entry.connection, await clientOver(near, method, seed));
      server.accept(far.connection);
      const uploads = new Uint8Array(random.bytes(pick(600_000 * scale)));
      const downloads = new Uint8Array(random.bytes(pick(600_000 * scale)));
      const ends = [app, entry, near, far, exit, origin];
      const movers = [new Mover(app, uploads, downloads), new Mover(origin, downloads, uploads)];
      let down: ReturnType<typeof relays.start> | undefined;
      for (let turns = 0; movers.some((one) => !one.done); turns++) {
        ok(turns < 1_000_000, `stands still with seed ${seed}`);
        const most = pick(3) === 1 ? pick(400_000 * scale) : pick(9000 * scale);
        ends[random.u32() % ends.length]!.turn(most);
        if (down === undefined && server.streams.length > 0) {
          down = relays.start(server.streams[0]!.client, exit.connection);
        }
        if (turns % 64 === 0) await new Promise((resolve) => setImmediate(resolve));
      }
      for (const mover of movers) mover.verify(seed);
      up.abort();
      down!.abort();
      await server.close();
    }
  });
}

/** An application at one end: sends what it has, then ends, and takes what comes. */
class Mover {
  readonly #end: MemoryEnd;
  readonly #sent: Uint8Array<ArrayBuffer>;
  readonly #wanted: Uint8Array;
  readonly #got: Uint8Array<ArrayBuffer>;
  #at = 0;
  #length = 0;
  #over = false;

  constructor(end: MemoryEnd, sent: Uint8Array<ArrayBuffer>, wanted: Uint8Array) {
    this.#end = end;
    this.#sent = sent;
    this.#wanted = wanted;
    this.#got = new Uint8Array(wanted.length + 1);
    end.watch(() => this.#take(), () => this.#give());
    this.#give();
  }

  get done(): boolean {
    return this.#over && this.#at === this.#sent.length;
  }

  verify(seed: number): void {
    equal(this.#length, this.#wanted.length, `seed ${seed}`);
    ok(this.#wanted.every((byte, i) => byte === this.#got[i]), `other bytes with seed ${seed}`);
  }

  #give(): void {
    while (this.#at < this.#sent.length) {
      const count = this.#end.sendNow(this.#sent, this.#at, this.#sent.length);
      if (count <= 0) return;
      this.#at += count;
      if (this.#at === this.#sent.length) this.#end.end();
    }
  }

  #take(): void {
    for (;;) {
      const count = this.#end.receiveNow(this.#got, this.#length, this.#got.length);
      if (count < 0) return;
      if (count === 0) {
        this.#over = true;
        return;
      }
      this.#length += count;
    }
  }
}
