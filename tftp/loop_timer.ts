/**
 * One host timer for all deadlines of an endpoint that lives on an event loop.
 *
 * @module
 */
import type { Endpoint } from "./endpoint.ts";

/** Keeps a host timer at the earliest deadline. Moving a deadline later costs nothing: the timer fires and looks again. */
export class LoopTimer {
  readonly #endpoint: Endpoint;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #armedAt = Infinity;
  #stopped = false;
  /** Called after each run. */
  onRun: () => void = () => {};

  constructor(endpoint: Endpoint) {
    this.#endpoint = endpoint;
    endpoint.onDeadline = () => this.arm();
  }

  /** Makes sure that the timer fires at the earliest deadline or before. */
  arm(): void {
    const next = this.#endpoint.deadlines.next;
    if (this.#stopped || next >= this.#armedAt) return;
    clearTimeout(this.#timer);
    this.#armedAt = next;
    const wait = Math.max(0, next - this.#endpoint.clock.now());
    // A host timer takes 31 bits of milliseconds.
    this.#timer = setTimeout(() => this.#fire(), Math.min(Math.ceil(wait), 0x7fff_ffff));
  }

  /** No more callbacks. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #fire(): void {
    this.#armedAt = Infinity;
    this.#timer = undefined;
    if (this.#stopped) return;
    this.#endpoint.runDeadlines();
    this.onRun();
    this.arm();
  }
}
