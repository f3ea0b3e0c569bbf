/**
 * Two ends of a protocol over a bad network, in virtual time: thousands of transfers a second, each a number that
 * repeats it.
 *
 * @module
 */

import type { VirtualLink } from "./link.ts";

/** One side of a simulated exchange: a machine with the driver a test gives it. */
export interface SimulatedEnd<Packet> {
  /** A packet arrived. */
  receive(packet: Packet, now: number): void;
  /** Time has passed; called when `deadline` is reached. */
  expire(now: number): void;
  /** Virtual milliseconds; `Infinity` for none. */
  readonly deadline: number;
}

/** How an exchange ended. */
export interface SimulationEnd {
  /** Virtual milliseconds from the beginning. */
  readonly nowMs: number;
  /** Events that happened. */
  readonly steps: number;
  /** Nothing is on its way and nobody waits; false when a bound ended it. */
  readonly quiet: boolean;
}

/**
 * Runs two ends until nothing is left to happen.
 *
 * @param there Carries packets from `near` to `far`.
 * @param back Carries packets from `far` to `near`.
 * @param maxSteps Events after which it is stopped as endless.
 */
export function simulate<Packet>(
  near: SimulatedEnd<Packet>,
  far: SimulatedEnd<Packet>,
  there: VirtualLink<Packet>,
  back: VirtualLink<Packet>,
  maxSteps: number,
): SimulationEnd {
  let now = 0;
  for (let steps = 0; steps < maxSteps; steps++) {
    const arrival = there.nextAt < back.nextAt ? there : back;
    const waiting = near.deadline < far.deadline ? near : far;
    const at = Math.min(arrival.nextAt, waiting.deadline);
    if (at === Infinity) return { nowMs: now, steps, quiet: true };
    // A deadline may have passed already: then it is due now. Time never goes back.
    if (at > now) now = at;
    if (arrival.nextAt <= waiting.deadline) {
      (arrival === there ? far : near).receive(arrival.receive(now)!, now);
    } else {
      const deadline = waiting.deadline;
      waiting.expire(now);
      if (waiting.deadline === deadline && deadline <= now) {
        throw new Error(`expire at its deadline ${deadline} ms changed nothing`);
      }
    }
  }
  return { nowMs: now, steps: maxSteps, quiet: false };
}

/**
 * Runs `body` for the seeds `from` to `from + count − 1`, or only for the one in `FASTWIRE_SEED` when it is among them.
 * The first seed that fails ends the run with one line that repeats it.
 *
 * @param file The test file, as it is named on the line.
 * @returns How many seeds were run.
 */
export function forSeeds(
  file: string,
  from: number,
  count: number,
  body: (seed: number) => void,
): number {
  const wanted = Deno.env.get("FASTWIRE_SEED");
  if (wanted !== undefined) {
    const seed = Number(wanted);
    if (!(seed >= from && seed < from + count)) return 0;
    body(seed);
    return 1;
  }
  for (let seed = from; seed < from + count; seed++) {
    try {
      body(seed);
    } catch (error) {
      throw new Error(`FASTWIRE_SEED=${seed} deno test -A ${file}`, { cause: error });
    }
  }
  return count;
}
