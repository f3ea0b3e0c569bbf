/**
 * A progress bar on stderr, when a person is watching it.
 *
 * @module
 */

import type { Terminal } from "./terminal.ts";
import { bytesText, durationText, rateText } from "./output.ts";

/** What a transfer reports to. */
export interface Progress {
  /**
   * Cheap enough for every window: draws at most ten times a second.
   *
   * @param doneBytes Bytes so far.
   * @param totalBytes Bytes in all, once known.
   */
  update(doneBytes: number, totalBytes?: number): void;
  /** Removes the bar and restores the terminal; idempotent. */
  stop(): void;
}

/** The part of cli-progress that is used; the package carries no types. */
interface SingleBar {
  start(total: number, value: number, payload: BarState): void;
  update(value: number, payload: BarState): void;
  setTotal(total: number): void;
  stop(): void;
}

interface BarState {
  readonly rate: string;
  readonly done: string;
  readonly left: string;
}

const REDRAW_MS = 100;

/**
 * Opens a bar, or something silent when stderr is not a terminal or `quiet` is set.
 *
 * @param terminal Where it is drawn and restored.
 * @param label What is being transferred.
 * @param quiet `--quiet` or `--json`.
 */
export async function openProgress(
  terminal: Terminal,
  label: string,
  quiet: boolean,
): Promise<Progress> {
  if (quiet || !terminal.stderr.isTerminal) return SILENT;
  const [{ default: cliProgress }, { default: process }]: [
    { default: { SingleBar: new (options: object) => SingleBar } },
    { default: { stderr: unknown } },
  ] = await Promise.all([import("cli-progress"), import("node:process")]);
  const bar = new cliProgress.SingleBar({
    format: `${label} {bar} {percentage}% {done} {rate} {left}`,
    stream: process.stderr,
    barsize: Math.max(10, Math.min(40, terminal.columns - label.length - 45)),
    fps: 1000 / REDRAW_MS,
    hideCursor: true,
    clearOnComplete: true,
    stopOnComplete: false,
    gracefulExit: false, // signals belong to run.ts
    noTTYOutput: false,
  });
  return new TerminalProgress(terminal, bar);
}

class TerminalProgress implements Progress {
  readonly #bar: SingleBar;
  readonly #startedAt = performance.now();
  readonly #forget: () => void;
  #drawnAt = -Infinity;
  #totalBytes = 0;
  #stopped = false;

  constructor(terminal: Terminal, bar: SingleBar) {
    this.#bar = bar;
    this.#forget = terminal.atExit(() => this.stop());
    // A total of 0 would be drawn as complete.
    bar.start(1, 0, { rate: "", done: "", left: "" });
  }

  update(doneBytes: number, totalBytes?: number): void {
    const now = performance.now();
    if (this.#stopped || now - this.#drawnAt < REDRAW_MS) return;
    this.#drawnAt = now;
    if (totalBytes !== undefined && totalBytes !== this.#totalBytes) {
      this.#totalBytes = totalBytes;
      this.#bar.setTotal(totalBytes);
    }
    const elapsedMs = Math.max(1, now - this.#startedAt);
    const leftMs = (this.#totalBytes - doneBytes) * elapsedMs / Math.max(1, doneBytes);
    this.#bar.update(this.#totalBytes === 0 ? 0 : doneBytes, {
      done: bytesText(doneBytes),
      rate: rateText(doneBytes * 8000 / elapsedMs),
      left: doneBytes > 0 && this.#totalBytes > doneBytes ? durationText(leftMs) : "",
    });
  }

  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#forget();
    this.#bar.stop();
  }
}

const SILENT: Progress = Object.freeze({ update: () => {}, stop: () => {} });
