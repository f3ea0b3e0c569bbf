/**
 * Giving memory back when a process has come to rest.
 *
 * @module
 */

/** What it needs to know, and to do. */
export interface IdleMemoryNeeds {
  /** A number that moves whenever something is being done. */
  readonly work: () => number;
  /** Resident bytes. */
  readonly resident: () => number;
  /** Gives back what is free. */
  readonly release: () => Promise<void>;
}

/** Looks now and then whether anything was done since, and gives memory back once when not. */
export class IdleMemory {
  readonly #needs: IdleMemoryNeeds;
  readonly #timer: ReturnType<typeof setInterval>;
  #seen: number;
  /** Resident after the last release: what has grown less is not worth the pause. */
  #floor = 0;
  #rested = false;

  /** @param everyMs How long rest has to last. */
  constructor(needs: IdleMemoryNeeds, everyMs: number = REST_MS) {
    this.#needs = needs;
    this.#seen = needs.work();
    this.#timer = setInterval(() => this.look(), everyMs);
  }

  /** Looks now. */
  look(): void {
    const work = this.#needs.work();
    if (work !== this.#seen) {
      this.#seen = work;
      this.#rested = false;
      return;
    }
    if (this.#rested) return;
    this.#rested = true;
    if (this.#needs.resident() < this.#floor + WORTH_BYTES) return;
    this.#needs.release().then(() => this.#floor = this.#needs.resident(), () => {});
  }

  /** Looks no more. */
  close(): void {
    clearInterval(this.#timer);
  }
}

/**
 * Long, because a collection that was asked for takes compiled code along: connections that come two seconds later cost half
 * as much again, for thousands of them.
 */
const REST_MS = 60_000;
const WORTH_BYTES = 8 << 20;
