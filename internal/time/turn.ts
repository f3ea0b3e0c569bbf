/**
 * Giving way to the rest of the program.
 *
 * @module
 */
import { setImmediate } from "node:timers";

/** Settles after everything that is ready in the event loop had its turn; much sooner than any timer. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
