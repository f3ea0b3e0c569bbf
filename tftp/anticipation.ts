/**
 * Staying awake until an answer is about due.
 *
 * A transfer with windows waits for one answer at a time, some tens of microseconds on a fast network, and on an idle
 * virtual machine falling asleep and being woken takes longer than that. So the thread keeps its processor until the
 * answer should be there, by what the last waits took, and only then asks the kernel, once: no system call is added.
 *
 * @module
 */

/**
 * Windows of at least so many blocks. Shorter ones are answered so soon that both ends, each staying awake for the
 * other, came to wait longer and longer (at 16 blocks: 120 to 280 MB/s instead of 190).
 */
export const ANTICIPATED_BLOCKS = 32;
/** Longest time that is kept awake for, milliseconds: a network slower than this gains nothing. */
const LIMIT_MS = 0.15;
/** Sleeps up to this long were no sleeps: the answer was there, milliseconds. */
const AT_ONCE_MS = 0.006;
/** Waits that are slept through after one that was too long, before it is tried again. */
const PAUSE = 64;

/** What the waits of one loop have taught. */
export class Anticipation {
  #expectedMs = 0;
  #pause = 0;

  /** How long to stay awake before asking the kernel, milliseconds; 0 not at all. */
  get awakeMs(): number {
    return this.#pause > 0 ? 0 : this.#expectedMs;
  }

  /** Tells how long the kernel let the thread sleep then, and whether an answer ended it. */
  learn(sleptMs: number, answered: boolean): void {
    if (this.#pause > 0) {
      this.#pause--;
      return;
    }
    if (!answered || sleptMs > LIMIT_MS) {
      this.#expectedMs = 0;
      // The first sleep of a transfer says little: being woken is most of it.
      this.#pause = PAUSE;
    } else if (sleptMs > AT_ONCE_MS) {
      this.#expectedMs = Math.min(LIMIT_MS, this.#expectedMs + sleptMs / 4 + 0.002);
    } else this.#expectedMs *= 0.97;
  }
}
