import { equal, ok, rejects } from "node:assert/strict";
import { networkInterfaces } from "node:os";
import type { SocketAddress } from "../ffi/mod.ts";
import { ManualClock } from "../internal/time/clock.ts";
import { LoopGuard } from "./loop_guard.ts";

const at = (address: string, port: number): SocketAddress => ({
  family: address.includes(":") ? "ipv6" : "ipv4",
  address,
  port,
});

Deno.test("LoopGuard knows where the proxy listens, by transport, until it does not any more", () => {
  const guard = new LoopGuard(new ManualClock());
  const over = guard.listens("tcp", at("127.0.0.1", 1080));
  const again = guard.listens("tcp", at("127.0.0.1", 1080));
  for (
    const [host, port, own] of [
      ["127.0.0.1", 1080, true],
      ["::ffff:127.0.0.1", 1080, true],
      ["0.0.0.0", 1080, true],
      ["127.0.0.2", 1080, false],
      ["127.0.0.1", 1081, false],
      ["::1", 1080, false],
      ["localhost", 1080, false],
    ] as const
  ) {
    equal(guard.isOwn("tcp", { host, port }), own, `${host} ${port}`);
    equal(guard.isOwn("udp", { host, port }), false);
  }
  ok(guard.isAt(at("0.0.0.0", 1080), { host: "127.0.0.1", port: 1080 }));
  equal(guard.isAt(at("127.0.0.1", 1080), { host: "127.0.0.1", port: 1081 }), false);
  over();
  over();
  ok(guard.isOwn("tcp", { host: "127.0.0.1", port: 1080 }));
  again();
  equal(guard.isOwn("tcp", { host: "127.0.0.1", port: 1080 }), false);
});

Deno.test("LoopGuard takes a wildcard for every address of this host and no other", () => {
  const guard = new LoopGuard(new ManualClock());
  guard.listens("udp", at("::", 53));
  guard.listens("udp", at("0.0.0.0", 54));
  const own = Object.values(networkInterfaces()).flatMap((list) => list ?? [])
    .map(({ address }) => address.split("%")[0]!);
  for (const host of [...own, "127.3.2.1", "::1"]) {
    ok(guard.isOwn("udp", { host, port: 53 }), host);
    equal(guard.isOwn("udp", { host, port: 54 }), !host.includes(":"), host);
  }
  equal(guard.isOwn("udp", { host: "192.0.2.1", port: 53 }), false);
});

/** What becomes of a stream that netfilter brought. */
function brought(
  guard: LoopGuard,
  source: SocketAddress,
  original: SocketAddress,
): Promise<"goes" | "cut"> {
  return new Promise((resolve) =>
    guard.bring(source, original, () => resolve("goes"), () => resolve("cut"))
  );
}

Deno.test("LoopGuard recognises a stream of ours that netfilter brought back, whoever hears of it first", async () => {
  const clock = new ManualClock();
  const guard = new LoopGuard(clock);
  const [here, there] = [at("127.0.0.1", 40_000), at("198.51.100.1", 80)];
  // Nobody wants to know yet.
  guard.dialled(here, there);
  const over = guard.watch();
  equal(await brought(guard, here, there), "goes");
  const early = brought(guard, here, there);
  guard.dialled(here, there);
  equal(await early, "cut");
  equal(await brought(guard, at("::ffff:127.0.0.1", 40_000), there), "cut");
  // Another client, or another destination, is another stream.
  equal(await brought(guard, at("127.0.0.2", 40_000), there), "goes");
  equal(await brought(guard, here, at("198.51.100.1", 443)), "goes");
  let gone = false;
  guard.bring(at("192.0.2.9", 40_000), there, () => gone = true, () => {});
  ok(gone, "clients of other hosts do not wait");
  // A port that is used again later is somebody else's.
  clock.advance(5000);
  equal(await brought(guard, here, there), "goes");
  guard.dialled(here, there);
  over();
  over();
  equal(await brought(guard, here, there), "goes");
});

Deno.test("LoopGuard keeps a bounded number of streams", async () => {
  const guard = new LoopGuard(new ManualClock());
  guard.watch();
  const there = at("198.51.100.1", 80);
  for (let port = 1; port <= 6000; port++) guard.dialled(at("127.0.0.1", port), there);
  equal(await brought(guard, at("127.0.0.1", 1), there), "goes");
  equal(await brought(guard, at("127.0.0.1", 6000), there), "cut");
});

Deno.test("LoopGuard lets a chain through the same proxy be, and ends what goes on for ever", async () => {
  const guard = new LoopGuard(new ManualClock());
  equal(await guard.depthOf(undefined), 0);
  equal(await guard.depthOf(at("192.0.2.1", 5)), 0);
  for (let depth = 1; depth <= 8; depth++) guard.returned(at("127.0.0.1", depth), depth);
  equal(await guard.depthOf(at("127.0.0.1", 7)), 7);
  await rejects(guard.depthOf(at("127.0.0.1", 8)), {
    code: "proxy.rejected",
    message: "Cannot connect: the proxy has come back to itself 8 times, expected a way out",
  });
});

Deno.test("LoopGuard recognises datagrams of ours by port and address, and how often they came round", () => {
  const guard = new LoopGuard(new ManualClock());
  const { leave } = guard.sends(50_000, at("192.0.2.9", 7));
  const other = guard.sends(50_000, undefined);
  ok(guard.datagramCameBack({ host: "127.0.0.1", port: 50_000 }));
  equal(guard.datagramCameBack({ host: "192.0.2.9", port: 50_000 }), false);
  let rounds = 0;
  while (guard.sends(50_001 + rounds, at("127.0.0.1", 50_000 + rounds)).mayReturn) rounds++;
  equal(rounds, 7);
  leave();
  leave();
  ok(guard.datagramCameBack({ host: "127.0.0.1", port: 50_000 }));
  other.leave();
  equal(guard.datagramCameBack({ host: "127.0.0.1", port: 50_000 }), false);
});
