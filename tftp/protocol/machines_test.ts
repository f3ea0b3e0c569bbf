import { equal, ok } from "node:assert/strict";
import { type Random, seededRandom } from "../../internal/random.ts";
import type { ReceiveActions, SendActions } from "./actions.ts";
import { NO_OPTIONS } from "./negotiate.ts";
import { ReceiveMachine } from "./receive_machine.ts";
import { SendMachine } from "./send_machine.ts";

// What no honest peer does: numbers, lengths and moments at random, mostly near those that matter.

function near(random: Random, center: number, window: number): number {
  return random.u32() % 4 === 0
    ? random.u32() & 0xffff
    : (center + random.u32() % (2 * window + 3) - window - 1) & 0xffff;
}

/** Lets time pass until the machine is done; every machine must be, by itself. */
function drain(
  machine: { readonly deadline: number; readonly finished: boolean },
  expire: (now: number) => void,
  now: number,
): void {
  for (let i = 0; !machine.finished; i++) {
    ok(machine.deadline < Infinity, "who is not finished waits for something");
    now = Math.max(now, machine.deadline);
    expire(now);
    ok(i < 300, "it ends");
  }
}

Deno.test("SendMachine survives every lie a peer can tell", () => {
  for (let seed = 1; seed <= 2000; seed++) {
    try {
      lieToSender(seededRandom(seed));
    } catch (error) {
      throw new Error(`seed ${seed}`, { cause: error });
    }
  }
});

function lieToSender(random: Random): void {
  const windowSize = [1, 2, 16, 1000][random.u32() % 4]!;
  const server = random.u32() % 2 === 0;
  let finishes = 0;
  let highest = 0;
  let packets = 0;
  const machine = new SendMachine({
    role: server ? "server" : "client",
    opening: random.u32() % 2 === 0,
    blockSize: 8,
    windowSize,
    rollover: random.u32() % 2 as 0 | 1,
    sizeBytes: random.u32() % 20_000,
    pacing: random.u32() % 2 === 0,
  });
  const actions: SendActions = {
    sendOpening: () => equal(finishes, 0),
    sendBlocks: (first, count, again) => {
      equal(finishes, 0);
      ok(count > 0 && first === machine.acknowledgedBlocks + 1 || first <= highest + 1);
      ok(first + count - 1 <= machine.acknowledgedBlocks + machine.windowSize);
      equal(again, first <= highest);
      highest = Math.max(highest, first + count - 1);
      packets += count;
    },
    sendError: () => equal(finishes, 0),
    finish: () => void finishes++,
  };
  let now = 0;
  machine.start(now, actions);
  for (let i = 0; i < 150; i++) {
    now += random.u32() % 3 === 0 ? random.float() * 30 : 0;
    const dice = random.u32() % 40;
    if (dice === 0) machine.repeatRequest(now, actions);
    else if (dice === 1) machine.receiveOptions({ ...NO_OPTIONS, windowSize }, now, actions);
    else if (dice < 5) machine.expire(now, actions);
    else machine.receiveAck(near(random, machine.acknowledgedBlocks, windowSize), now, actions);
  }
  // Nothing a peer says makes us send more than a window for each thing it says.
  ok(packets <= 155 * windowSize);
  drain(machine, (at) => machine.expire(at, actions), now);
  equal(finishes, 1);
  machine.receiveAck(1, now, actions);
  machine.abort(0, "", now, actions);
  equal(finishes, 1);
}

Deno.test("ReceiveMachine survives every lie a peer can tell", () => {
  for (let seed = 1; seed <= 4000; seed++) {
    try {
      lieToReceiver(seededRandom(seed));
    } catch (error) {
      throw new Error(`seed ${seed}`, { cause: error });
    }
  }
});

function lieToReceiver(random: Random): void {
  const windowSize = [1, 2, 16, 1000][random.u32() % 4]!;
  const held = new Set<number>();
  let delivered = 0;
  let finishes = 0;
  let committing = false;
  let acks = 0;
  const machine = new ReceiveMachine({
    role: random.u32() % 2 === 0 ? "server" : "client",
    opening: random.u32() % 2 === 0,
    blockSize: 512,
    windowSize,
    rollover: ([0, 1, "auto"] as const)[random.u32() % 3]!,
    reorder: random.u32() % 3 > 0,
  });
  const actions: ReceiveActions = {
    sendOpening: () => equal(finishes, 0),
    deliver: (index) => equal(index, ++delivered),
    hold: (index) => {
      ok(index > delivered + 1 && index < delivered + 1 + machine.windowSize);
      ok(!held.has(index));
      held.add(index);
    },
    deliverHeld: (first, count) => {
      equal(first, delivered + 1);
      for (let index = first; index < first + count; index++) ok(held.delete(index));
      delivered += count;
    },
    dropHeld: (first) => {
      for (const index of held) if (index >= first) held.delete(index);
    },
    sendAck: (index) => {
      acks++;
      ok(index <= delivered);
    },
    commit: () => {
      equal(committing, false);
      committing = true;
    },
    sendError: () => equal(finishes, 0),
    finish: () => void finishes++,
  };
  let now = 0;
  const packets = 200;
  machine.start(now, actions);
  for (let i = 0; i < packets; i++) {
    now += random.u32() % 3 === 0 ? random.float() * 30 : 0;
    const dice = random.u32() % 40;
    const payloadBytes = random.u32() % 60 === 0 ? random.u32() % 530 : 512;
    if (dice === 0) machine.repeatRequest(now, actions);
    else if (dice === 1) {
      machine.receiveOptions({ ...NO_OPTIONS, windowSize }, now, actions);
    } else if (dice < 5) machine.expire(now, actions);
    else if (dice === 5) machine.committed(now, actions);
    else machine.receiveData(near(random, delivered + 1, windowSize), payloadBytes, now, actions);
    ok(held.size < windowSize || windowSize === 1 && held.size === 0);
    equal(machine.receivedBlocks, delivered);
  }
  ok(acks <= packets + 5, "at most one answer for each thing a peer says");
  machine.committed(now, actions);
  drain(machine, (at) => machine.expire(at, actions), now);
  equal(finishes, 1);
}
