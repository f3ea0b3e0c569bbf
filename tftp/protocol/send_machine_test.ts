import { deepEqual, equal, ok } from "node:assert/strict";
import { recordActions, type RecordedCall } from "../../internal/testing/recorder.ts";
import type { SendActions, TransferResult } from "./actions.ts";
import { NO_OPTIONS } from "./negotiate.ts";
import { wireBlock } from "./packet.ts";
import { SendMachine, type SendOptions } from "./send_machine.ts";

const SERVER: SendOptions = {
  role: "server",
  opening: true,
  blockSize: 100,
  windowSize: 4,
  rollover: 0,
  sizeBytes: 10_000,
};
const LOCKSTEP: SendOptions = { ...SERVER, opening: false, windowSize: 1 };

/** A machine with its recorder; calls go through the rule that no action calls back. */
class Bench {
  readonly actions = recordActions<SendActions>([
    "sendOpening",
    "sendBlocks",
    "sendError",
    "finish",
  ]);
  readonly machine: SendMachine;
  now = 0;

  constructor(options: Partial<SendOptions> = {}) {
    this.machine = new SendMachine({ ...SERVER, ...options });
    this.do((now) => this.machine.start(now, this.actions));
  }

  do(body: (now: number) => void): void {
    this.actions.call(() => body(this.now));
  }

  at(now: number): this {
    this.now = now;
    return this;
  }

  /** Takes an ACK and answers what it caused. */
  ack(wire: number): readonly RecordedCall[] {
    this.actions.take();
    this.do((now) => this.machine.receiveAck(wire, now, this.actions));
    return this.actions.take();
  }

  /** Lets the deadline come and answers what it caused. */
  wait(): readonly RecordedCall[] {
    this.actions.take();
    this.now = Math.max(this.now, this.machine.deadline);
    this.do((now) => this.machine.expire(now, this.actions));
    return this.actions.take();
  }

  /** What the machine said last. */
  result(calls: readonly RecordedCall[]): TransferResult {
    const last = calls.at(-1);
    equal(last?.[0], "finish");
    return last![1] as TransferResult;
  }
}

/** A bench whose options were acknowledged after a round trip, blocks 1 to 4 under way. */
function opened(options: Partial<SendOptions> = {}, rttMs = 10): Bench {
  const bench = new Bench(options).at(rttMs);
  deepEqual(bench.ack(0), [["sendBlocks", 1, options.windowSize ?? 4, false]]);
  return bench;
}

Deno.test("SendMachine sends full windows and ends with the last block", () => {
  const bench = opened({ sizeBytes: 550 });
  deepEqual(bench.at(20).ack(4), [["sendBlocks", 5, 2, false]]);
  const result = bench.result(bench.at(30).ack(6));
  deepEqual(
    [result.outcome, result.blocks, result.bytes, result.retransmits],
    ["done", 6, 550, 0],
  );
  equal(bench.machine.finished, true);
  equal(bench.machine.deadline, Infinity);
});

Deno.test("SendMachine ends a size that is a multiple of the block with an empty block", () => {
  for (const [sizeBytes, blocks] of [[0, 1], [99, 1], [100, 2], [101, 2]] as const) {
    const bench = opened({ sizeBytes, windowSize: blocks });
    const result = bench.result(bench.ack(blocks));
    deepEqual([result.blocks, result.bytes], [blocks, sizeBytes]);
  }
});

Deno.test("SendMachine goes back behind a partial ACK and sends a full window from there", () => {
  const bench = opened();
  deepEqual(bench.at(20).ack(2), [["sendBlocks", 3, 4, true]]);
  equal(bench.machine.retransmits, 2);
  equal(bench.machine.acknowledgedBlocks, 2);
});

Deno.test("SendMachine never answers a duplicate ACK at window 1 (RFC 1123 §4.2.3.1)", () => {
  const bench = new Bench(LOCKSTEP);
  bench.at(10).ack(1);
  bench.at(20).ack(2);
  for (let i = 0; i < 100; i++) deepEqual(bench.at(20 + i / 10).ack(2), []);
  equal(bench.machine.duplicateAcks, 100);
});

Deno.test("SendMachine repairs once when a client repeats its ACK at window 1 (U-Boot)", () => {
  const bench = new Bench({ ...LOCKSTEP, timeoutMs: 8000 });
  bench.at(10).ack(1);
  deepEqual(bench.at(5010).ack(1), [["sendBlocks", 2, 1, true]]);
  deepEqual(bench.at(5100).ack(1), []);
  deepEqual(bench.at(7000).ack(1), []);
});

Deno.test("SendMachine resends a window whose first block is missing once, and not for an echo", () => {
  const bench = opened({ minRtoMs: 500 });
  bench.at(20).ack(4);
  // Four milliseconds after the window left, with ten of round trip, nobody can have missed it.
  deepEqual(bench.at(24).ack(4), []);
  deepEqual(bench.at(30).ack(4), [["sendBlocks", 5, 4, true]]);
  deepEqual(bench.at(60).ack(4), []);
  deepEqual(bench.at(70).ack(8), [["sendBlocks", 9, 4, false]]);
});

Deno.test("SendMachine stops believing duplicate ACKs after one that was an echo", () => {
  const bench = opened({ minRtoMs: 500 });
  bench.at(20).ack(4);
  deepEqual(bench.at(28).ack(4), [["sendBlocks", 5, 4, true]]);
  // The answer two milliseconds later cannot be to what was sent again.
  bench.at(30).ack(8);
  deepEqual(bench.at(38).ack(8), []);
});

Deno.test("SendMachine asks with the last block of a window before the timer, once", () => {
  const bench = opened({ minRtoMs: 200 });
  bench.at(20).ack(4);
  equal(bench.machine.deadline, 40);
  deepEqual(bench.wait(), [["sendBlocks", 8, 1, true]]);
  ok(bench.machine.deadline > 200);
  deepEqual(bench.wait(), [["sendBlocks", 5, 4, true]]);
});

Deno.test("SendMachine does not probe when told not to, nor at window 1", () => {
  const quiet = opened({ minRtoMs: 200, tailProbe: false });
  quiet.at(20).ack(4);
  deepEqual(quiet.wait(), [["sendBlocks", 5, 4, true]]);
  const single = new Bench({ ...LOCKSTEP, minRtoMs: 200 });
  single.at(10).ack(1);
  ok(single.machine.deadline >= 200);
});

Deno.test("SendMachine resends the whole window at each timeout and then gives up", () => {
  const bench = opened();
  let sent = 0;
  for (;;) {
    const calls = bench.wait();
    if (bench.machine.finished) {
      deepEqual(calls[0], ["sendError", 0, "timeout"]);
      equal(bench.result(calls).outcome, "no-answer");
      break;
    }
    if (calls[0]?.[2] === 4) sent++;
    deepEqual([calls[0]?.[0], calls[0]?.[3]], ["sendBlocks", true]);
  }
  ok(sent >= 5 && bench.now >= 5000 && bench.now < 60_000, `${sent} times in ${bench.now} ms`);
});

Deno.test("SendMachine keeps to a negotiated timeout exactly, without back-off", () => {
  const bench = new Bench({ ...LOCKSTEP, timeoutMs: 2000, opening: true });
  bench.at(10).ack(0);
  const times: number[] = [];
  while (!bench.machine.finished) {
    bench.wait();
    times.push(bench.now);
  }
  deepEqual(times, [2010, 4010, 6010, 8010, 10_010, 12_010]);
});

Deno.test("SendMachine measures round trips only where nothing was repeated (Karn)", () => {
  const bench = opened({ minRtoMs: 50 }, 10);
  equal(bench.machine.rttMs, 10);
  bench.at(20).ack(4);
  bench.wait();
  bench.at(5000).ack(8);
  equal(bench.machine.rttMs, 10);
});

Deno.test("SendMachine measures by a block that left once, though others were repeated", () => {
  const bench = opened({ minRtoMs: 50 }, 10);
  // Blocks 1 and 2 arrived; 3 to 6 leave, of which 5 and 6 for the first time.
  bench.at(20).ack(2);
  bench.at(32).ack(4);
  equal(bench.machine.rttMs, 10, "3 and 4 left twice: nobody knows which is answered");
  // 5 to 8 leave, of which 7 and 8 for the first time.
  bench.at(52).ack(8);
  equal(bench.machine.rttMs, 10 + (20 - 10) / 8);
});

Deno.test("SendMachine ignores ACKs from the past and from the future", () => {
  const bench = opened();
  bench.at(20).ack(4);
  for (const wire of [3, 0, 9, 100, 40_000, 65_535]) deepEqual(bench.at(21).ack(wire), []);
  equal(bench.machine.acksOutOfWindow, 6);
});

Deno.test("SendMachine reads ACKs right around block 65,535 for every window and rollover", () => {
  for (const rollover of [0, 1] as const) {
    for (const windowSize of [1, 2, 4, 1000, 32_768]) {
      const bench = opened({ windowSize, rollover, blockSize: 8, sizeBytes: 8 * 200_000 });
      let acknowledged = 0;
      while (acknowledged + windowSize < 131_080) {
        acknowledged += windowSize;
        // Nothing of the past, nothing of the future, and exactly the window moves it.
        if (acknowledged > 65_000) {
          const before = bench.machine.acksOutOfWindow;
          bench.ack(wireBlock(Math.max(0, acknowledged - windowSize - 1), rollover));
          if (acknowledged > windowSize + 1) equal(bench.machine.acksOutOfWindow, before + 1);
          bench.ack(wireBlock(acknowledged + 1, rollover));
          equal(bench.machine.acknowledgedBlocks, acknowledged - windowSize);
        }
        bench.ack(wireBlock(acknowledged, rollover));
        equal(bench.machine.acknowledgedBlocks, acknowledged);
      }
    }
  }
});

Deno.test("SendMachine never takes block number 0 for a block when numbers roll to 1", () => {
  const bench = opened({ rollover: 1, windowSize: 1 });
  bench.ack(1);
  const before = bench.machine.acksOutOfWindow;
  deepEqual(bench.ack(0), []);
  equal(bench.machine.acksOutOfWindow, before + 1);
});

Deno.test("SendMachine answers a repeated request with its first words until it was heard", () => {
  const options = new Bench();
  options.actions.take();
  options.do((now) => options.machine.repeatRequest(now, options.actions));
  deepEqual(options.actions.take(), [["sendOpening"]]);
  options.at(10).ack(0);
  options.do((now) => options.machine.repeatRequest(now, options.actions));
  deepEqual(options.actions.take(), []);

  const plain = new Bench(LOCKSTEP);
  plain.actions.take();
  plain.do((now) => plain.machine.repeatRequest(now, plain.actions));
  deepEqual(plain.actions.take(), [["sendBlocks", 1, 1, true]]);
  plain.at(10).ack(1);
  plain.do((now) => plain.machine.repeatRequest(now, plain.actions));
  deepEqual(plain.actions.take(), []);
});

Deno.test("SendMachine sends a forger's victim at most four openings and no ERROR", () => {
  const bench = new Bench();
  let openings = 1;
  while (!bench.machine.finished) {
    for (const call of bench.wait()) {
      if (call[0] === "sendOpening") openings++;
      else equal(call[0], "finish");
    }
  }
  equal(openings, 4);
});

Deno.test("SendMachine sends a forger's victim at most 1,536 bytes of data", () => {
  const bench = new Bench({ ...LOCKSTEP, blockSize: 512 });
  let blocks = 1;
  while (!bench.machine.finished) {
    for (const call of bench.wait()) {
      if (call[0] === "sendBlocks") blocks++;
      else equal(call[0], "finish");
    }
  }
  equal(blocks, 3);
});

Deno.test("SendMachine calls ERROR 8 in answer to its options a question for the size (UEFI)", () => {
  const bench = new Bench();
  bench.actions.take();
  const words = "User aborted the transfer";
  bench.do((now) => bench.machine.receiveError(8, words, now, bench.actions));
  const result = bench.result(bench.actions.take());
  deepEqual([result.outcome, result.errorCode, result.message], ["size-probe", 8, words]);
});

Deno.test("SendMachine ends at an ERROR without an answer (GRUB closes early)", () => {
  const bench = opened();
  bench.actions.take();
  bench.do((now) => bench.machine.receiveError(0, "closed", now, bench.actions));
  const calls = bench.actions.take();
  equal(calls.length, 1);
  equal(bench.result(calls).outcome, "peer-error");
  deepEqual(bench.at(1e6).ack(4), []);
  bench.do((now) => bench.machine.expire(now, bench.actions));
  deepEqual(bench.actions.take(), []);
});

Deno.test("SendMachine tells the peer when this side gives up", () => {
  const bench = opened();
  bench.actions.take();
  bench.do((now) => bench.machine.abort(0, "file truncated during transfer", now, bench.actions));
  const calls = bench.actions.take();
  deepEqual(calls[0], ["sendError", 0, "file truncated during transfer"]);
  equal(bench.result(calls).outcome, "aborted");
});

Deno.test("SendMachine of a client falls back to the defaults when ACK 0 answers its options", () => {
  const bench = new Bench({ role: "client", timeoutMs: 1000, sizeBytes: 513 });
  deepEqual(bench.actions.take(), [["sendOpening"]]);
  deepEqual(bench.at(10).ack(0), [["sendBlocks", 1, 1, false]]);
  deepEqual([bench.machine.blockSize, bench.machine.windowSize], [512, 1]);
  // A server that sends ACK 0 twice.
  deepEqual(bench.at(10.5).ack(0), []);
  bench.at(20).ack(1);
  equal(bench.result(bench.at(30).ack(2)).bytes, 513);
});

Deno.test("SendMachine of a client takes what its options became", () => {
  const bench = new Bench({ role: "client" });
  const negotiated = { ...NO_OPTIONS, blockSize: 50, windowSize: 8, rollover: 1 as const };
  bench.actions.take();
  bench.at(10).do((now) => bench.machine.receiveOptions(negotiated, now, bench.actions));
  deepEqual(bench.actions.take(), [["sendBlocks", 1, 8, false]]);
  deepEqual([bench.machine.blockSize, bench.machine.rollover], [50, 1]);
  bench.at(10.1).do((now) => bench.machine.receiveOptions(negotiated, now, bench.actions));
  deepEqual(bench.actions.take(), []);
});

Deno.test("SendMachine waits for a source of unknown size and ends where it ends", () => {
  const bench = new Bench({ sizeBytes: undefined });
  deepEqual(bench.at(10).ack(0), []);
  equal(bench.machine.deadline, Infinity);
  const supply = (blocks: number, last?: number, bytes?: number): readonly RecordedCall[] => {
    bench.do((now) => bench.machine.supply(blocks, last, now, bench.actions, bytes));
    return bench.actions.take();
  };
  equal(bench.machine.wantedBlocks, 8);
  deepEqual(supply(3), [["sendBlocks", 1, 3, false]]);
  deepEqual(supply(6), [["sendBlocks", 4, 1, false]]);
  deepEqual(bench.at(20).ack(4), [["sendBlocks", 5, 2, false]]);
  deepEqual(supply(7, 7, 642), [["sendBlocks", 7, 1, false]]);
  const result = bench.result(bench.at(30).ack(7));
  deepEqual([result.outcome, result.blocks, result.bytes], ["done", 7, 642]);
});

Deno.test("SendMachine spreads windows after loss when pacing, and comes back", () => {
  const bench = opened({ windowSize: 16, pacing: true, sizeBytes: 1e6, minRtoMs: 100 });
  bench.at(20).ack(8);
  deepEqual(bench.actions.take(), []);
  const parts: number[] = [];
  for (let i = 0; i < 3; i++) {
    const call = bench.wait()[0]!;
    if (call[0] === "sendBlocks") parts.push(call[2] as number);
  }
  equal(parts[0], 8);
  let acknowledged = bench.machine.acknowledgedBlocks + 16;
  for (let window = 0; window < 20; window++) {
    bench.now += 10;
    const calls = [...bench.ack(acknowledged)];
    while (bench.machine.deadline < bench.now + 5) calls.push(...bench.wait());
    acknowledged += 16;
    if (window === 19) deepEqual(calls.map((call) => call[2]), [16]);
  }
});

Deno.test("SendMachine acts only when its deadline has come", () => {
  const bench = opened();
  bench.actions.take();
  bench.at(bench.machine.deadline - 0.01).do((now) => bench.machine.expire(now, bench.actions));
  deepEqual(bench.actions.take(), []);
});

Deno.test("SendMachine takes the second refusal without a packet in between as the peer's end", () => {
  const bench = new Bench();
  bench.ack(0);
  const refuse = () => bench.do((now) => bench.machine.receiveRefusal(now, bench.actions));
  refuse();
  bench.ack(2);
  refuse();
  bench.actions.take();
  equal(bench.machine.finished, false);
  refuse();
  const calls = bench.actions.take();
  deepEqual(calls.map(([verb]) => verb), ["finish"]);
  const result = bench.result(calls);
  equal(result.outcome, "no-answer");
  equal(result.message, "refused");
  equal(bench.machine.deadline, Infinity);
});

Deno.test("SendMachine counts refusals of its opening too", () => {
  const bench = new Bench({ role: "client" });
  for (let i = 0; i < 2; i++) bench.do((now) => bench.machine.receiveRefusal(now, bench.actions));
  equal(bench.machine.finished, true);
});
