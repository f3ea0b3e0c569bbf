/**
 * A terminal that remembers what was written to it, for command-line tests.
 *
 * @module
 */

import type { Output, Terminal } from "../cli/terminal.ts";

/** A {@linkcode Terminal} without a process behind it. */
export interface RecordedTerminal extends Terminal {
  /** Everything written to stdout so far, as text. */
  readonly out: string;
  /** Everything written to stderr so far, as text. */
  readonly err: string;
}

/**
 * Makes a terminal that remembers.
 *
 * @param environment The variables it has.
 * @param isTerminal Whether its streams pretend to be watched by a person.
 */
export function recordedTerminal(
  environment: Readonly<Record<string, string>> = {},
  isTerminal = false,
): RecordedTerminal {
  const out: string[] = [];
  const err: string[] = [];
  const restores = new Set<() => void>();
  return {
    stdout: recorder(out, isTerminal),
    stderr: recorder(err, isTerminal),
    columns: 80,
    environment: (name) => environment[name],
    atExit: (restore) => {
      restores.add(restore);
      return () => void restores.delete(restore);
    },
    restore: () => {
      for (const restore of restores) {
        restores.delete(restore);
        restore();
      }
    },
    get out() {
      return out.join("");
    },
    get err() {
      return err.join("");
    },
  };
}

function recorder(parts: string[], isTerminal: boolean): Output {
  const decoder = new TextDecoder();
  return {
    isTerminal,
    write: (data) =>
      void parts.push(typeof data === "string" ? data : decoder.decode(data, { stream: true })),
  };
}
