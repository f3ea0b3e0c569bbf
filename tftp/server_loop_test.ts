/** The server's loop without a network: limits, fairness, addresses that loopback does not have. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import type { SocketAddress } from "../ffi/mod.ts";
import { seededRandom } from "../internal/random.ts";
import { ManualClock } from "../internal/time/clock.ts";
import { counterRow, createCounters, sumCounters } from "./counters.ts";
import { Endpoint } from "./endpoint.ts";
import { Opening } from "./opening.ts";
import { resolveServerSettings } from "./options.ts";
import { ServerLoop } from "./server_loop.ts";
import type { TransferRecord } from "./session.ts";
import type { ServerSettings } from "./settings.ts";
import { MemoryStore } from "./store_memory.ts";
import { FakeHost, type FakeSocket } from "./testdata/fake_host.ts";
import { ack, error, request } from "./testdata/raw_peer.ts";
import { pattern } from "./testdata/server_bench.ts";

/** A loop with a clock that stands. */
class Stage {
  readonly host = new FakeHost();
  readonly clock = new ManualClock(10_000);
  readonly records: TransferRecord[] = [];
  readonly #counters = createCounters(1);
  readonly loop: ServerLoop;
  readonly listener: FakeSocket;

  private constructor(settings: ServerSettings, files: Record<string, Uint8Array>) {
    const endpoint = new Endpoint(this.host, this.clock, seededRandom(1));
    this.loop = new ServerLoop(
      endpoint,
      resolveServerSettings(settings),
      [],
      (own) => new Opening(own, new MemoryStore({ files }), {}),
      counterRow(this.#counters, 0),
      { transfer: (record) => this.records.push(record) },
    );
    this.listener = undefined as unknown as FakeSocket;
  }

  static async open(settings: ServerSettings = {}, size = 1000): Promise<Stage> {
    const stage = new Stage(settings, { file: pattern(size) });
    await stage.loop.listen({ family: "ipv4", address: "192.0.2.1", port: 69 }, false, false);
    Object.defineProperty(stage, "listener", { value: stage.host.sockets[0] });
    return stage;
  }

  /** A request arrives; answers what left. */
  ask(from: SocketAddress, options: readonly string[] = [], local?: SocketAddress): string[] {
    this.listener.deliver(request("read", "file", options), from, local);
    return this.host.take();
  }

  /** Time passes. */
  pass(ms: number): void {
    this.clock.advance(ms);
    this.loop.endpoint.runDeadlines();
  }

  get counts(): ReturnType<typeof sumCounters> {
    return sumCounters(this.#counters);
  }
}

function client(host: number, port = 1000): SocketAddress {
  return { family: "ipv4", address: `198.51.100.${host}`, port };
}

Deno.test("ServerLoop serves one client no more requests a second than allowed", async () => {
  const stage = await Stage.open({
    limits: {
      requestsPerSecondPerClient: 10,
      requestBurstPerClient: 5,
      maxTransfersPerClient: 100,
    },
  });
  const answers: string[] = [];
  for (let i = 0; i < 8; i++) answers.push(...stage.ask(client(1, 1000 + i)));
  equal(answers.filter((words) => words === "DATA 1 512").length, 5);
  equal(answers.filter((words) => words === "ERROR 0 server busy").length, 3);
  // Somebody else is not concerned.
  deepEqual(stage.ask(client(2)), ["DATA 1 512"]);
  stage.clock.advance(100);
  deepEqual(stage.ask(client(1, 2000)), ["DATA 1 512"]);
  deepEqual(stage.ask(client(1, 2001)), ["ERROR 0 server busy"]);
  equal(stage.counts.requestsRefused, 4);
  await stage.loop.close();
});

Deno.test("ServerLoop serves one client no more transfers at once than allowed", async () => {
  const stage = await Stage.open({ limits: { maxTransfersPerClient: 2 } });
  deepEqual(stage.ask(client(1, 1)), ["DATA 1 512"]);
  deepEqual(stage.ask(client(1, 2)), ["DATA 1 512"]);
  deepEqual(stage.ask(client(1, 3)), ["ERROR 0 server busy"]);
  deepEqual(stage.ask(client(2, 3)), ["DATA 1 512"]);
  stage.host.sockets[1]!.deliver(error(0, "enough"), client(1, 1));
  deepEqual(stage.ask(client(1, 3)), ["DATA 1 512"]);
  await stage.loop.close();
});

Deno.test("ServerLoop keeps unconfirmed transfers apart from real ones", async () => {
  const stage = await Stage.open({ limits: { maxPendingAnswers: 3 } });
  for (let i = 0; i < 3; i++) deepEqual(stage.ask(client(i)), ["DATA 1 512"]);
  deepEqual(stage.ask(client(9)), ["ERROR 0 server busy"]);
  // A stranger's word confirms nobody.
  stage.host.sockets[1]!.deliver(ack(1), client(77));
  deepEqual(stage.host.take(), ["ERROR 5 Unknown transfer ID"]);
  deepEqual(stage.ask(client(9)), ["ERROR 0 server busy"]);
  stage.host.sockets[1]!.deliver(ack(1), client(0));
  deepEqual(stage.host.take(), ["DATA 2 488"]);
  deepEqual(stage.ask(client(9)), ["DATA 1 512"]);
  await stage.loop.close();
});

Deno.test("ServerLoop serves no more transfers in all than allowed, loopback included", async () => {
  const stage = await Stage.open({ limits: { maxTransfers: 2 } });
  const local = (port: number): SocketAddress => ({ family: "ipv4", address: "127.0.0.1", port });
  deepEqual(stage.ask(local(1)), ["DATA 1 512"]);
  deepEqual(stage.ask(local(2)), ["DATA 1 512"]);
  deepEqual(stage.ask(local(3)), ["ERROR 0 server busy"]);
  await stage.loop.close();
});

Deno.test("ServerLoop gives no answer to what was sent to a group", async () => {
  const stage = await Stage.open();
  for (const address of ["255.255.255.255", "224.0.0.1", "239.255.0.1"]) {
    deepEqual(stage.ask(client(1), [], { family: "ipv4", address, port: 0 }), [], address);
  }
  deepEqual(stage.ask(client(1), [], { family: "ipv6", address: "ff02::1", port: 0 }), []);
  equal(stage.counts.datagramsRejected, 4);
  deepEqual(stage.ask(client(1), [], { family: "ipv4", address: "192.0.2.1", port: 0 }), [
    "DATA 1 512",
  ]);
  equal(stage.host.sockets[1]!.local.address, "192.0.2.1");
  await stage.loop.close();
});

Deno.test("ServerLoop keeps blocks below what the path takes in one piece", async () => {
  const stage = await Stage.open({}, 5000);
  deepEqual(stage.ask(client(1), ["blksize=65464"]), ["OACK blksize=1468"]);
  deepEqual(stage.ask({ family: "ipv4", address: "127.0.0.1", port: 5 }, ["blksize=65464"]), [
    "OACK blksize=65464",
  ]);
  await stage.loop.close();
});

Deno.test("ServerLoop sends a silent requester at most three retransmissions", async () => {
  const stage = await Stage.open({}, 100_000);
  let packets = stage.ask(client(1)).length;
  let options = stage.ask(client(2), ["blksize=1400", "windowsize=64"]).length;
  for (let i = 0; i < 2000 && stage.records.length < 2; i++) {
    stage.pass(100);
    for (const { to, words } of stage.host.takeAll()) {
      match(words, /^(DATA 1 512|OACK blksize=1400 windowsize=64)$/);
      if (to.address === client(1).address) packets++;
      else options++;
    }
  }
  // Content is bounded in bytes too: 3 × 512.
  deepEqual([packets, options], [3, 4]);
  deepEqual(stage.records.map(({ outcome }) => outcome), ["no-answer", "no-answer"]);
  equal(stage.host.open_, 1);
  await stage.loop.close();
});

Deno.test("ServerLoop takes an identical request for a new one after five seconds", async () => {
  const stage = await Stage.open({}, 5000);
  stage.ask(client(1));
  stage.host.sockets[1]!.deliver(ack(1), client(1));
  stage.host.take();
  deepEqual(stage.ask(client(1)), []);
  stage.clock.advance(5001);
  deepEqual(stage.ask(client(1)), ["DATA 1 512"]);
  deepEqual(stage.records.map(({ message }) => message), ["replaced by a new request"]);
  equal(stage.loop.active, 1);
  await stage.loop.close();
});

Deno.test("ServerLoop gives a flooded transfer a bounded turn", async () => {
  const stage = await Stage.open({}, 100_000);
  stage.ask(client(1));
  stage.ask(client(2));
  const [, flooded, other] = stage.host.sockets;
  for (let i = 0; i < 10_000; i++) flooded!.deliver(ack(9), client(1), undefined, false);
  flooded!.wake();
  // One turn takes 16 batches of 32; the rest waits until others had theirs.
  equal(flooded!.agains, 1);
  equal(10_000 - flooded!.queued, 16 * 32);
  stage.host.take();
  other!.deliver(ack(1), client(2));
  deepEqual(stage.host.take(), ["DATA 2 512"]);
  for (let i = 0; i < 10_000; i++) stage.listener.deliver(ack(9), client(3), undefined, false);
  stage.listener.wake();
  equal(stage.listener.agains, 1);
  equal(10_000 - stage.listener.queued, 16 * 32);
  await stage.loop.close();
});

Deno.test("ServerLoop answers a malformed client once a second, and each client for itself", async () => {
  const stage = await Stage.open();
  const nonsense = Uint8Array.of(0, 1, 97, 98, 99);
  const send = (host: number): string[] => {
    stage.listener.deliver(nonsense, client(host));
    return stage.host.take();
  };
  equal(send(1).length, 1);
  equal(send(1).length, 0);
  equal(send(2).length, 1);
  stage.clock.advance(1000);
  equal(send(1).length, 1);
  equal(stage.counts.requestsMalformed, 4);
  await stage.loop.close();
});

Deno.test("ServerLoop tells each stranger once a second", async () => {
  const stage = await Stage.open({}, 5000);
  stage.ask(client(1));
  const socket = stage.host.sockets[1]!;
  const send = (host: number): number => {
    socket.deliver(ack(1), client(host));
    return stage.host.take().length;
  };
  deepEqual([send(5), send(5), send(6), send(6)], [1, 0, 1, 0]);
  stage.clock.advance(999);
  equal(send(5), 0);
  stage.clock.advance(1);
  equal(send(5), 1);
  await stage.loop.close();
});

Deno.test("ServerLoop frees everything it held when it closes", async () => {
  const stage = await Stage.open({}, 5000);
  for (let i = 0; i < 20; i++) stage.ask(client(i));
  equal(stage.loop.active, 20);
  await stage.loop.close();
  equal(stage.loop.active, 0);
  equal(stage.host.open_, 0);
  equal(stage.loop.endpoint.deadlines.size, 0);
  equal(stage.records.length, 20);
  ok(stage.host.take().every((words) => words === "ERROR 0 server shutting down"));
});
