/**
 * Loggers by category, and a guard against repeating oneself. Silent unless the application configures LogTape.
 *
 * @module
 */

import { getLogger, type Logger } from "@logtape/logtape";
import type { Clock } from "./time/clock.ts";

export type { Logger } from "@logtape/logtape";

/**
 * The logger of a part of the package.
 *
 * @param category Names below `fastwire`: `logger("tftp", "server")` logs as `["fastwire", "tftp", "server"]`.
 */
export function logger(...category: readonly string[]): Logger {
  return getLogger(["fastwire", ...category]);
}

/**
 * Reports a repeating condition at once and then at most once per interval, with a count of what was left out.
 *
 * @param clock Whose time counts.
 * @param report Called with the number of occurrences since the last report, this one included: 1 the first time.
 * @param intervalMs Least milliseconds between two reports.
 * @returns To be called at every occurrence; costs one reading of the clock.
 */
export function onceThenSummarise(
  clock: Clock,
  report: (occurrences: number) => void,
  intervalMs = 60_000,
): () => void {
  let reportedAt = -Infinity;
  let occurrences = 0;
  return () => {
    occurrences++;
    const now = clock.now();
    if (now - reportedAt < intervalMs) return;
    reportedAt = now;
    const count = occurrences;
    occurrences = 0;
    report(count);
  };
}
