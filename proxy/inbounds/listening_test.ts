import { deepEqual, equal, rejects } from "node:assert/strict";
import type { DatagramOptions, SocketAddress } from "../../ffi/mod.ts";
import { SystemError } from "../../internal/errors.ts";
import { systemClock } from "../../internal/time/clock.ts";
import { resolveProxyConfig } from "../config.ts";
import type { InboundContext } from "../inbound.ts";
import { LoopGuard } from "../loop_guard.ts";
import { StreamInbound } from "./listening.ts";

class Both extends StreamInbound {
  readonly type = "both";
  override async start(): Promise<void> {
    await super.start();
    await this.openPackets();
  }
  protected accepted(): void {}
}

/** An inbound on hosts where datagrams have taken `taken` of the ports that streams are given, one after the other. */
function inbound(port: number, taken: readonly number[]): {
  readonly both: Both;
  readonly closed: number[];
} {
  const closed: number[] = [];
  let next = 5000;
  const streams = {
    traits: { driver: "linux", options: true },
    listen: ({ bind }: { bind: SocketAddress }) => {
      const local = { ...bind, port: bind.port === 0 ? next++ : bind.port };
      return { local, watch: () => {}, close: () => void closed.push(local.port) };
    },
  };
  const socket = { watch: () => {}, close: () => Promise.resolve() };
  const datagrams = {
    traits: { driver: "linux", batch: 1, options: true },
    createBatch: () => ({ slab: { bytes: new Uint8Array(8) } }),
    open: ({ bind }: DatagramOptions) => {
      if (!taken.includes(bind.port)) return { ...socket, local: bind };
      throw new SystemError("system.address-in-use", "Cannot bind: taken", {
        syscall: "bind",
        errno: 98,
        errnoName: "EADDRINUSE",
      });
    },
  };
  const { listen } = resolveProxyConfig({
    inbounds: [{ type: "mixed", tag: "in", listen: "127.0.0.1", listen_port: port }],
  }).inbounds[0]!;
  const context = {
    streams,
    datagrams: () => Promise.resolve(datagrams),
    loops: new LoopGuard(systemClock),
    clock: systemClock,
  } as unknown as InboundContext;
  return { both: new Both("in", listen, context), closed };
}

Deno.test("an inbound for streams and datagrams looks for a port that both can have", async () => {
  const { both, closed } = inbound(0, [5000, 5001]);
  await both.start();
  equal(both.addresses[0]!.port, 5002);
  deepEqual(closed, [5000, 5001]);
  await both.close();
});

Deno.test("an inbound whose port is taken for datagrams says so, and takes no other", async () => {
  const { both, closed } = inbound(6000, [6000]);
  await rejects(both.start(), (error) => {
    return error instanceof SystemError && error.errnoName === "EADDRINUSE";
  });
  deepEqual(closed, []);
  await both.close();
});
