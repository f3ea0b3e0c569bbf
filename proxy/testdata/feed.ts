/**
 * Drives handshake machines in tests: the same bytes, cut anywhere, must give the same conversation.
 *
 * @module
 */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { Random } from "../../internal/random.ts";
import { hexOf } from "../../internal/testing/vectors.ts";
import type { Step } from "../protocol/step.ts";

/** Anything that answers bytes with steps. */
export interface Handshake<Outcome, Reason extends string> {
  receive(bytes: Uint8Array, start: number, end: number): Step<Outcome, Reason>;
}

/** What came of a conversation. */
export interface Conversation {
  /** All that was written, as hexadecimal text without spaces. */
  readonly written: string;
  /** The bytes the machine was done with. */
  readonly consumed: number;
  /** Its end: an outcome, a reason, or that it still waits. */
  readonly end: unknown;
}

/**
 * Feeds bytes in pieces and does what the machine asks for. Bytes that have not arrived yet are 0xdd, so that looking
 * too far is seen; the machine is called only with as many as it asked for.
 *
 * @param cut Says how long the next piece is.
 */
export function converse<Outcome, Reason extends string>(
  machine: Handshake<Outcome, Reason>,
  bytes: Uint8Array,
  cut: () => number,
): Conversation {
  const offset = 5;
  const buffer = new Uint8Array(bytes.length + offset).fill(0xdd);
  let start = offset, end = offset, need = 0;
  let written = "";
  for (let turns = 0;; turns++) {
    ok(turns < 10 * bytes.length + 100, "the machine does not come to an end");
    if (end - start >= need) {
      const step = machine.receive(buffer, start, end);
      ok(step.consumed >= 0 && start + step.consumed <= end, `consumed ${step.consumed}`);
      start += step.consumed;
      switch (step.kind) {
        case "need":
          ok(step.need > end - start, `needs ${step.need} of ${end - start}`);
          need = step.need;
          break;
        case "write":
          written += hexOf(step.bytes).replaceAll(" ", "");
          need = 0;
          continue;
        case "done":
          return { written, consumed: start - offset, end: step.outcome };
        case "refused":
          written += hexOf(step.bytes).replaceAll(" ", "");
          return { written, consumed: start - offset, end: [step.reason, step.code, step.text] };
      }
    }
    const fed = end - offset;
    if (fed === bytes.length) return { written, consumed: start - offset, end: "waits" };
    const more = Math.max(1, Math.min(cut(), bytes.length - fed));
    buffer.set(bytes.subarray(fed, fed + more), end);
    end += more;
  }
}

/**
 * Holds the same conversation all at once, byte by byte, and cut at random, checks that all are one, and returns it. At
 * each shorter input the machine must wait or give up, and consume no more than there is.
 *
 * @param make Makes the machine afresh.
 */
export function converseEveryWay<Outcome, Reason extends string>(
  make: () => Handshake<Outcome, Reason>,
  bytes: Uint8Array,
  random: Random,
): Conversation {
  const whole = converse(make(), bytes, () => bytes.length);
  deepEqual(converse(make(), bytes, () => 1), whole, "byte by byte");
  for (let i = 0; i < 4; i++) {
    deepEqual(converse(make(), bytes, () => 1 + random.u32() % 9), whole, "cut at random");
  }
  if (whole.end === "waits") return whole;
  for (let length = 0; length < whole.consumed; length++) {
    const short = converse(make(), bytes.subarray(0, length), () => length);
    ok(
      short.end === "waits" || Array.isArray(short.end) && Array.isArray(whole.end),
      `${length} of ${bytes.length} bytes were enough`,
    );
  }
  return whole;
}

/** Throws garbage at a machine until it ends; it must not throw and must end or wait. */
export function abuse<Outcome, Reason extends string>(
  machine: Handshake<Outcome, Reason>,
  bytes: Uint8Array,
  start: number,
  end: number,
): void {
  let at = start;
  for (let turns = 0; turns < 64; turns++) {
    const step = machine.receive(bytes, at, end);
    ok(step.consumed >= 0 && at + step.consumed <= end);
    at += step.consumed;
    if (step.kind !== "write") return;
  }
  equal(true, false, "a machine that only writes");
}
