/**
 * Log lines for whoever wants to see them while they happen.
 *
 * @module
 */

/** A record of LogTape, as far as it is looked at. */
export interface FeedRecord {
  /** `trace` to `fatal`. */
  readonly level: string;
  /** Texts and values in turns. */
  readonly message: readonly unknown[];
}

/** Hands log records on; {@linkcode LogFeed.sink} is to be among the sinks that the application configures. */
export class LogFeed {
  readonly #listeners = new Set<(type: string, payload: string) => void>();

  /** Takes a record. */
  readonly sink: (record: FeedRecord) => void = ({ level, message }) => {
    if (this.#listeners.size === 0) return;
    const payload = message.map((part) => part instanceof Error ? part.message : String(part)).join(
      "",
    );
    for (const listener of this.#listeners) listener(level, payload);
  };

  /**
   * Calls back with each record that is severe enough.
   *
   * @param level `trace`, `debug`, `info`, `warning`, `error` or `silent`; what is not known is `info`.
   * @returns Stops that.
   */
  listen(level: string, call: (type: string, payload: string) => void): () => void {
    const least = LEVELS.indexOf(level) < 0 ? LEVELS.indexOf("info") : LEVELS.indexOf(level);
    const listener = (type: string, payload: string): void => {
      const severity = type === "fatal" ? LEVELS.indexOf("error") : LEVELS.indexOf(type);
      if (severity >= least) call(type, payload);
    };
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

const LEVELS = ["trace", "debug", "info", "warning", "error", "silent"];
