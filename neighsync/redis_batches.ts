/**
 * Sends batches as calls of one script, several in flight, and keeps their order when the server has forgotten the script.
 *
 * @module
 */

interface Flight {
  /** What follows the script in the command. */
  readonly args: readonly string[];
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
  /** How often it was sent; answers to earlier sendings no longer count. */
  sendings: number;
}

/** Batches on their way. */
export class RedisBatches {
  readonly #script: string;
  readonly #send: (args: string[]) => Promise<unknown>;
  readonly #flights: Flight[] = [];
  #sha = "";
  #reloads = 0;

  /**
   * Sends nothing yet.
   *
   * @param script Lua; repeating a call must be harmless.
   * @param send Sends a command at once, in the order of the calls; rejects with `code` `redis.no-script` for NOSCRIPT.
   */
  constructor(script: string, send: (args: string[]) => Promise<unknown>) {
    this.#script = script;
    this.#send = send;
  }

  /** Batches sent and not yet answered. */
  get inFlight(): number {
    return this.#flights.length;
  }

  /** How often the server had forgotten the script. */
  get reloads(): number {
    return this.#reloads;
  }

  /** Gives the server the script; to be awaited on every new connection. */
  async load(): Promise<void> {
    this.#sha = String(await this.#send(["SCRIPT", "LOAD", this.#script]));
  }

  /** Sends a batch and resolves when it is acknowledged. */
  submit(args: readonly string[]): Promise<void> {
    return new Promise((resolve, reject) => {
      const flight: Flight = { args, resolve, reject, sendings: 0 };
      this.#flights.push(flight);
      this.#launch(flight, false);
    });
  }

  #launch(flight: Flight, whole: boolean): void {
    const sending = ++flight.sendings;
    const head = whole ? ["EVAL", this.#script] : ["EVALSHA", this.#sha];
    this.#send(head.concat(flight.args)).then(() => {
      if (flight.sendings === sending) this.#land(flight).resolve();
    }, (error) => {
      if (flight.sendings !== sending) return;
      if (error instanceof Error && "code" in error && error.code === "redis.no-script") {
        this.#relaunch(flight);
      } else {
        this.#land(flight).reject(error);
      }
    });
  }

  /**
   * Sends a refused batch again, and behind it everything that was sent after it, whether refused or not: somebody else may
   * have loaded the script in between, and a repeated batch is harmless where one that overtakes another is not.
   */
  #relaunch(refused: Flight): void {
    this.#reloads++;
    const from = this.#flights.indexOf(refused);
    this.#flights.slice(from).forEach((flight, index) => this.#launch(flight, index === 0));
  }

  #land(flight: Flight): Flight {
    this.#flights.splice(this.#flights.indexOf(flight), 1);
    return flight;
  }
}
