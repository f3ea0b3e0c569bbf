import { deepEqual, equal, ok } from "node:assert/strict";
import { recordActions, type RecordedCall } from "../../internal/testing/recorder.ts";
import type { ReceiveActions, TransferResult } from "./actions.ts";
import { NO_OPTIONS } from "./negotiate.ts";
import { wireBlock } from "./packet.ts";
import { ReceiveMachine, type ReceiveOptions } from "./receive_machine.ts";

const CLIENT: ReceiveOptions = {
  role: "client",
  opening: true,
  blockSize: 100,
  windowSize: 4,
  rollover: 0,
};

class Bench {
  readonly actions = recordActions<ReceiveActions>([
    "sendOpening",
    "deliver",
    "hold",
    "deliverHeld",
    "dropHeld",
    "sendAck",
    "commit",
    "sendError",
    "finish",
  ]);
  readonly machine: ReceiveMachine;
  now = 0;

  constructor(options: Partial<ReceiveOptions> = {}) {
    this.machine = new ReceiveMachine({ ...CLIENT, ...options });
    this.do((now) => this.machine.start(now, this.actions));
  }

  do(body: (now: number) => void): readonly RecordedCall[] {
    this.actions.take();
    this.actions.call(() => body(this.now));
    return this.actions.take();
  }

  at(now: number): this {
    this.now = now;
    return this;
  }

  data(wire: number, bytes = 100): readonly RecordedCall[] {
    return this.do((now) => this.machine.receiveData(wire, bytes, now, this.actions));
  }

  wait(): readonly RecordedCall[] {
    this.now = Math.max(this.now, this.machine.deadline);
    return this.do((now) => this.machine.expire(now, this.actions));
  }

  committed(): readonly RecordedCall[] {
    return this.do((now) => this.machine.committed(now, this.actions));
  }
}

/** A client whose options were acknowledged after ten milliseconds. */
function opened(options: Partial<ReceiveOptions> = {}): Bench {
  const bench = new Bench(options).at(10);
  const negotiated = {
    ...NO_OPTIONS,
    blockSize: 100,
    windowSize: options.windowSize ?? 4,
    timeoutMs: options.timeoutMs,
  };
  deepEqual(
    bench.do((now) => bench.machine.receiveOptions(negotiated, now, bench.actions)),
    [["sendAck", 0]],
  );
  return bench;
}

function verbs(calls: readonly RecordedCall[]): string[] {
  return calls.map((call) => call.join(" "));
}

Deno.test("ReceiveMachine acknowledges whole windows, commits, and only then the last block", () => {
  const bench = opened();
  for (const wire of [1, 2, 3]) deepEqual(verbs(bench.data(wire)), [`deliver ${wire}`]);
  deepEqual(verbs(bench.data(4)), ["deliver 4", "sendAck 4"]);
  deepEqual(verbs(bench.data(5, 7)), ["deliver 5", "commit"]);
  // Repeated while the disk is busy: swallowed.
  deepEqual(bench.data(5, 7), []);
  const calls = bench.committed();
  deepEqual(calls[0], ["sendAck", 5]);
  const result = calls[1]![1] as TransferResult;
  deepEqual([result.outcome, result.blocks, result.bytes], ["done", 5, 407]);
  equal(bench.machine.finished, false);
});

Deno.test("ReceiveMachine repeats the final ACK while it dallies, and then falls silent", () => {
  const bench = opened();
  bench.data(1, 0);
  bench.committed();
  deepEqual(verbs(bench.at(100).data(1, 0)), ["sendAck 1"]);
  deepEqual(bench.wait(), []);
  equal(bench.now, 1100);
  equal(bench.machine.finished, true);
  deepEqual(bench.data(1, 0), []);
});

Deno.test("ReceiveMachine does not dally for ever with a peer that never stops", () => {
  const bench = opened();
  bench.data(1, 0);
  bench.committed();
  while (!bench.machine.finished && bench.now < 100_000) {
    bench.at(bench.now + 500).data(1, 0);
    if (bench.machine.deadline <= bench.now) bench.wait();
  }
  ok(bench.now < 10_000, `${bench.now} ms`);
});

Deno.test("ReceiveMachine acknowledges every duplicate at window 1, and none twice in a window", () => {
  const single = opened({ windowSize: 1 });
  single.data(1);
  deepEqual(verbs(single.at(10.1).data(1)), ["sendAck 1"]);
  const window = opened();
  for (const wire of [1, 2, 3, 4]) window.data(wire);
  for (const wire of [1, 2, 3, 4]) deepEqual(window.at(12).data(wire), []);
  deepEqual(verbs(window.at(40).data(4)), ["sendAck 4"]);
  deepEqual(window.at(41).data(3), []);
});

Deno.test("ReceiveMachine answers a duplicate amid a window only when nothing else comes", () => {
  const bench = opened();
  bench.data(1);
  bench.data(2);
  deepEqual(bench.at(20).data(1), []);
  deepEqual(verbs(bench.wait()), ["sendAck 2"]);
  equal(bench.now, 25);
  bench.data(3);
  bench.data(3);
  bench.data(4);
  ok(bench.machine.deadline > bench.now + 15, "the next block in order cancels it");
});

Deno.test("ReceiveMachine holds what comes ahead, waits a moment, and reports a hole once", () => {
  const bench = opened();
  bench.at(20).data(1);
  deepEqual(verbs(bench.data(3)), ["hold 3"]);
  equal(bench.machine.deadline, 22);
  deepEqual(verbs(bench.wait()), ["sendAck 1"]);
  deepEqual(verbs(bench.data(4)), ["hold 4"]);
  ok(bench.machine.deadline > 30);
  deepEqual(verbs(bench.data(2)), ["deliver 2", "deliverHeld 3 2"]);
  deepEqual(verbs(bench.data(5)), ["deliver 5", "sendAck 5"]);
});

Deno.test("ReceiveMachine says nothing about a hole that closes by itself", () => {
  const bench = opened();
  bench.data(2);
  deepEqual(verbs(bench.data(1)), ["deliver 1", "deliverHeld 2 1"]);
  ok(bench.machine.deadline > 20);
  equal(bench.machine.gaps, 0);
});

Deno.test("ReceiveMachine without reordering reports a hole at once and forgets what is behind it", () => {
  const bench = opened({ reorder: false });
  bench.data(1);
  deepEqual(verbs(bench.data(3)), ["sendAck 1"]);
  deepEqual(bench.data(4), []);
  deepEqual(verbs(bench.data(2)), ["deliver 2"]);
  deepEqual(verbs(bench.data(3)), ["deliver 3"]);
});

Deno.test("ReceiveMachine finishes from held blocks", () => {
  const bench = opened();
  deepEqual(verbs(bench.data(3, 5)), ["hold 3"]);
  bench.data(2);
  deepEqual(verbs(bench.data(1)), ["deliver 1", "deliverHeld 2 2", "commit"]);
  equal(bench.machine.receivedBytes, 205);
});

Deno.test("ReceiveMachine believes the order of the file when a peer ends it twice", () => {
  const bench = opened();
  bench.data(4, 5);
  deepEqual(bench.data(3, 5).map((call) => call[0]), []);
  bench.data(1);
  deepEqual(verbs(bench.data(2, 5)), ["dropHeld 3", "deliver 2", "commit"]);
  equal(bench.machine.receivedBytes, 105);
});

Deno.test("ReceiveMachine ends when a block is longer than agreed", () => {
  const bench = opened();
  const calls = bench.data(1, 101);
  deepEqual(calls[0]!.slice(0, 2), ["sendError", 4]);
  equal((calls[1]![1] as TransferResult).outcome, "protocol-error");
  equal(bench.machine.finished, true);
});

Deno.test("ReceiveMachine of a client falls back to the defaults when DATA answers its options", () => {
  const bench = new Bench({ timeoutMs: 100 }).at(10);
  deepEqual(bench.data(2, 512), []);
  deepEqual(verbs(bench.data(1, 512)), ["deliver 1", "sendAck 1"]);
  deepEqual([bench.machine.blockSize, bench.machine.windowSize], [512, 1]);
});

Deno.test("ReceiveMachine acknowledges repeated options until data comes", () => {
  const bench = opened();
  const again = (): readonly RecordedCall[] =>
    bench.do((now) => bench.machine.receiveOptions(NO_OPTIONS, now, bench.actions));
  deepEqual(verbs(again()), ["sendAck 0"]);
  bench.data(1);
  deepEqual(again(), []);
  equal(bench.machine.blockSize, 100);
});

Deno.test("ReceiveMachine asks again while nothing comes, and gives up", () => {
  const bench = new Bench();
  let requests = 1;
  for (;;) {
    const calls = bench.wait();
    if (calls[0]![0] !== "sendOpening") {
      deepEqual(verbs(calls)[0], "sendError 0 timeout");
      equal((calls[1]![1] as TransferResult).outcome, "no-answer");
      break;
    }
    requests++;
  }
  equal(requests, 6);
});

Deno.test("ReceiveMachine of a server waits a minute for a telephone that erases its flash", () => {
  const bench = new Bench({ role: "server", opening: false, windowSize: 1 });
  bench.at(5).data(1);
  let acks = 0;
  while (bench.machine.deadline < 40_000) acks += bench.wait().length;
  ok(acks < 20, `${acks} reminders`);
  deepEqual(verbs(bench.at(40_000).data(2, 5)), ["deliver 2", "commit"]);
});

Deno.test("ReceiveMachine of a server sends a forger's victim at most four packets", () => {
  const bench = new Bench({ role: "server" });
  let packets = 1;
  while (!bench.machine.finished) {
    for (const call of bench.wait()) if (call[0] !== "finish") packets++;
  }
  equal(packets, 4);
  ok(bench.now < 60_000);
});

Deno.test("ReceiveMachine of a server repeats its first words for a repeated request", () => {
  const bench = new Bench({ role: "server" });
  const again = (): readonly RecordedCall[] =>
    bench.do((now) => bench.machine.repeatRequest(now, bench.actions));
  deepEqual(verbs(again()), ["sendOpening"]);
  bench.data(1);
  deepEqual(again(), []);
});

Deno.test("ReceiveMachine acknowledges each block of a server that agrees to windows and sends none", () => {
  const bench = opened({ timeoutMs: 1000 });
  deepEqual(verbs(bench.data(1)), ["deliver 1"]);
  deepEqual(verbs(bench.wait()), ["sendAck 1"]);
  deepEqual(verbs(bench.data(2)), ["deliver 2"]);
  deepEqual(verbs(bench.wait()), ["sendAck 2"]);
  deepEqual(verbs(bench.data(3)), ["deliver 3", "sendAck 3"]);
  deepEqual(verbs(bench.data(4)), ["deliver 4", "sendAck 4"]);
});

Deno.test("ReceiveMachine does not take a lossy windowed server for one without windows", () => {
  const bench = opened({ timeoutMs: 1000 });
  bench.data(1);
  bench.data(2);
  for (let block = 3; block < 8; block++) {
    bench.wait();
    deepEqual(verbs(bench.data(block)), [`deliver ${block}`]);
  }
});

/** A machine that has received everything up to block `index` in order. */
function advanced(index: number, options: Partial<ReceiveOptions>): Bench {
  const bench = opened(options);
  for (let block = 1; block <= index; block++) {
    bench.machine.receiveData(wireBlock(block, 0), 100, bench.now, bench.actions);
  }
  bench.actions.take();
  return bench;
}

Deno.test("ReceiveMachine finds out at window 1 that a server counts 65535, 1", () => {
  const bench = advanced(65_535, { windowSize: 1, rollover: "auto" });
  deepEqual(verbs(bench.data(1)), ["deliver 65536", "sendAck 65536"]);
  equal(bench.machine.rollover, 1);
  deepEqual(verbs(bench.data(2, 5)), ["deliver 65537", "commit"]);
});

Deno.test("ReceiveMachine finds out that a server counts 65535, 0", () => {
  const bench = advanced(65_535, { windowSize: 1, rollover: "auto" });
  deepEqual(verbs(bench.data(0)), ["deliver 65536", "sendAck 65536"]);
  deepEqual(verbs(bench.data(1)), ["deliver 65537", "sendAck 65537"]);
});

Deno.test("ReceiveMachine does not guess what follows 65535 when a block may be lost", () => {
  const bench = advanced(65_535, { windowSize: 4, rollover: "auto" });
  // Number 1 may be the block after a lost number 0: nothing is kept, the place is reported.
  deepEqual(verbs(bench.data(1)), ["sendAck 65535"]);
  deepEqual(bench.data(2), []);
  // A whole window ahead cannot be: this server counts 65535, 1.
  deepEqual(verbs(bench.data(4)), ["hold 65539"]);
  equal(bench.machine.rollover, 1);
  deepEqual(verbs(bench.data(1)), ["deliver 65536"]);
});

Deno.test("ReceiveMachine reads numbers right around 65,535 for every window and rollover", () => {
  for (const rollover of [0, 1] as const) {
    for (const windowSize of [1, 2, 64, 1000, 32_768]) {
      const bench = new Bench({ role: "server", windowSize, rollover, reorder: windowSize < 65 });
      const { machine, actions } = bench;
      for (let block = 1; block <= 131_080; block++) {
        if (block > 1 && (block % 65_536 > 65_530 || block % 65_536 < 5)) {
          // The past and what lies a window ahead change nothing.
          machine.receiveData(wireBlock(block - 1, rollover), 100, 0, actions);
          machine.receiveData(wireBlock(block + windowSize, rollover), 100, 0, actions);
          equal(machine.receivedBlocks, block - 1);
        }
        machine.receiveData(wireBlock(block, rollover), 100, 0, actions);
        equal(machine.receivedBlocks, block);
        if (block % 1000 === 0) actions.take();
      }
    }
  }
});

Deno.test("ReceiveMachine tells the peer when its sink fails, and ends", () => {
  const bench = opened();
  bench.data(1);
  const calls = bench.do((now) => bench.machine.abort(3, "disk full", now, bench.actions));
  deepEqual(verbs(calls)[0], "sendError 3 disk full");
  equal((calls[1]![1] as TransferResult).outcome, "aborted");
  deepEqual(bench.data(2), []);
});

Deno.test("ReceiveMachine ends at an ERROR without an answer", () => {
  const bench = opened();
  const calls = bench.do((now) => bench.machine.receiveError(1, "no file", now, bench.actions));
  equal(calls.length, 1);
  const result = calls[0]![1] as TransferResult;
  deepEqual([result.outcome, result.errorCode, result.message], ["peer-error", 1, "no file"]);
});

Deno.test("ReceiveMachine returns to windows when a sender that seemed to have none sends several", () => {
  const bench = opened({ timeoutMs: 1000 });
  for (const block of [1, 2]) {
    bench.data(block);
    bench.wait();
  }
  deepEqual(verbs(bench.data(3)), ["deliver 3", "sendAck 3"]);
  // A block ahead of its turn: there is a window behind it after all.
  bench.data(5);
  deepEqual(verbs(bench.data(4)), ["deliver 4", "deliverHeld 5 1"]);
  deepEqual(verbs(bench.data(6)), ["deliver 6"]);
});

Deno.test("ReceiveMachine takes the second refusal without a packet in between as the peer's end", () => {
  const bench = new Bench();
  const refuse = () => bench.do((now) => bench.machine.receiveRefusal(now, bench.actions));
  deepEqual(refuse(), []);
  bench.data(1, 512);
  deepEqual(refuse(), []);
  const calls = refuse();
  deepEqual(calls.map(([verb]) => verb), ["finish"]);
  const result = calls[0]![1] as TransferResult;
  equal(result.outcome, "no-answer");
  equal(result.message, "refused");
  equal(bench.machine.finished, true);
});

Deno.test("ReceiveMachine keeps what is complete whatever the peer's host refuses", () => {
  const bench = new Bench({ windowSize: 1 });
  const refuse = () => bench.do((now) => bench.machine.receiveRefusal(now, bench.actions));
  bench.data(1, 10);
  deepEqual([refuse(), refuse()], [[], []]);
  const calls = bench.committed();
  equal((calls.at(-1)![1] as TransferResult).outcome, "done");
  // Nobody is there to hear the last acknowledgement again.
  equal(bench.machine.finished, false);
  deepEqual(refuse(), []);
  equal(bench.machine.finished, true);
});
