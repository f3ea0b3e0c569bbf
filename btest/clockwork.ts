/**
 * Time for everything that runs on one thread: a clock, deadlines, and somebody who wakes up for them.
 *
 * @module
 */
import type { Clock } from "../internal/time/clock.ts";
import { Deadlines, type HasDeadline } from "../internal/time/deadlines.ts";

/** Something that is called when its deadline has passed. */
export interface Timed extends HasDeadline {
  /** The deadline has passed. */
  expire(now: number): void;
}

/** The deadlines of one thread. */
export class Clockwork {
  readonly #clock: Clock;
  readonly #deadlines: Deadlines<Timed> = new Deadlines<Timed>();
  /**
   * So much arrived at once that the thread does better to let some gather before it looks again. Set by those who
   * receive; whoever drives the thread takes it back.
   */
  gathers = false;
  /** Called when a deadline may have moved closer. */
  onEarlier: () => void = () => {};

  /** @param clock Whose time counts. */
  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Monotonic milliseconds. */
  now(): number {
    return this.#clock.now();
  }

  /** The earliest deadline; `Infinity` when there is none. */
  get next(): number {
    return this.#deadlines.next;
  }

  /** Takes an item in. */
  add(item: Timed): void {
    this.#deadlines.add(item);
    this.onEarlier();
  }

  /** The item's deadline has moved closer. */
  touch(item: Timed): void {
    this.#deadlines.touch(item);
    this.onEarlier();
  }

  /** Lets go of an item. */
  remove(item: Timed): void {
    this.#deadlines.remove(item);
  }

  /** Calls what is due. */
  run(): void {
    const now = this.#clock.now();
    this.#deadlines.run(now, (item) => item.expire(now));
  }
}

/** Drives a clockwork by one timer of the event loop. */
export class HostTimer {
  readonly #clockwork: Clockwork;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #armedAt = Infinity;
  #stopped = false;

  /** @param clockwork Whose deadlines it keeps. */
  constructor(clockwork: Clockwork) {
    this.#clockwork = clockwork;
    clockwork.onEarlier = () => this.#arm();
  }

  /** Nobody is called any more. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#clockwork.onEarlier = () => {};
  }

  #arm(): void {
    const next = this.#clockwork.next;
    if (this.#stopped || next >= this.#armedAt) return;
    clearTimeout(this.#timer);
    this.#armedAt = next;
    const wait = Math.max(0, next - this.#clockwork.now());
    // A host timer takes 31 bits of milliseconds.
    this.#timer = setTimeout(this.#fire, Math.min(Math.ceil(wait), 0x7fff_ffff));
  }

  readonly #fire = (): void => {
    this.#armedAt = Infinity;
    if (this.#stopped) return;
    this.#clockwork.run();
    this.#arm();
  };
}
