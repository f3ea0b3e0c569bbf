/**
 * The daemon under a service manager: says when it is ready, that it is alive, and when it ends.
 *
 * @module
 */

import type { ServiceNotifier } from "../ffi/mod.ts";
import type { NeighSync } from "./daemon.ts";

/** Tells the service manager how the daemon does, until it is stopped. */
export class ServiceReports {
  readonly #sync: NeighSync;
  readonly #notifier: ServiceNotifier;
  #timer: ReturnType<typeof setInterval> | undefined;

  /** Tells nothing yet. */
  constructor(sync: NeighSync, notifier: ServiceNotifier) {
    this.#sync = sync;
    this.#notifier = notifier;
  }

  /** Answers the watchdog from now on, as often as it is customary: twice in its time. */
  begin(): void {
    const { watchdogMs } = this.#notifier;
    this.#notifier.status("connecting");
    if (watchdogMs === 0) return;
    // A loop that does not turn does not come here; a sink that is silent without being known to be away is as bad.
    this.#timer = setInterval(() => {
      if (this.#sync.isAlive()) this.#notifier.alive();
    }, watchdogMs / 2);
  }

  /** The first synchronisation has ended. */
  ready(): void {
    this.#notifier.ready(this.#status());
  }

  /** Settings are read again; {@linkcode ServiceReports.ready} ends it. */
  reloading(): void {
    this.#notifier.reloading();
  }

  /** The end has begun. */
  stopping(): void {
    this.#notifier.stopping("writing what waits");
  }

  /** Tells nothing any more; idempotent. */
  close(): void {
    clearInterval(this.#timer);
    this.#notifier.close();
  }

  #status(): string {
    const { published, kernel, lease } = this.#sync.snapshot();
    if (lease.role === "standby") return `standing by, ${lease.holder} writes`;
    return `${published} neighbours published, ${kernel.links} interfaces`;
  }
}
