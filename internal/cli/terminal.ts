/**
 * What a command sees of the process: two streams, the environment and the exit. On Deno the streams are written
 * directly; `node:process` would add its stream machinery to every start.
 *
 * @module
 */

import { readSecret } from "./secret.ts";

/** A stream a command writes to. */
export interface Output {
  /** Writes all of it before it answers. */
  write(data: string | Uint8Array): void;
  /** Whether a person is watching. */
  readonly isTerminal: boolean;
}

/** The process as a command sees it; tests give one of their own. */
export interface Terminal {
  /** Data only. */
  readonly stdout: Output;
  /** Everything that is not data. */
  readonly stderr: Output;
  /** Columns to fill, 20 to 100; 80 when nobody can tell. */
  readonly columns: number;
  /** A variable, or `undefined` when it is unset, empty, or may not be read without asking. */
  environment(name: string): string | undefined;
  /**
   * Asks a person for a word that is not shown. Missing where nobody can be asked: no terminal, or Node.
   *
   * @returns `undefined` when the person gave up.
   */
  readonly askSecret?: ((question: string) => string | undefined) | undefined;
  /** Runs `restore` before the process ends, whichever way it ends; answers how to forget it. */
  atExit(restore: () => void): () => void;
  /** Runs and forgets everything given to {@linkcode Terminal.atExit}. */
  restore(): void;
}

/** The surroundings both runtimes share, as far as they are used here. */
interface NodeProcess {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  exitCode?: number;
  readonly stdout: NodeStream;
  readonly stderr: NodeStream;
  exit(code: number): never;
  on(event: string, listener: () => void): void;
  off(event: string, listener: () => void): void;
}

interface NodeStream {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(data: string | Uint8Array): boolean;
  on(event: "error", listener: (error: Error) => void): void;
}

const deno: typeof Deno | undefined = (globalThis as { Deno?: typeof Deno }).Deno;

/** The words after the program's name. */
export function processArguments(): readonly string[] {
  return deno === undefined ? node().argv.slice(2) : deno.args;
}

/** Sets the code the process will end with once it has nothing left to do. */
export function setExitCode(code: number): void {
  if (deno === undefined) node().exitCode = code;
  else deno.exitCode = code;
}

/** Ends the process at once. */
export function exitNow(code: number): never {
  return deno === undefined ? node().exit(code) : deno.exit(code);
}

/** Signals a command may be told. */
export type SignalName = "SIGINT" | "SIGTERM" | "SIGHUP" | "SIGUSR1";

/** Calls `listener` for each signal; answers how to stop. */
export function onSignals<const Name extends SignalName>(
  names: readonly Name[],
  listener: (name: Name) => void,
): () => void {
  const removals = names.map((name) => {
    const heard = (): void => listener(name);
    if (deno === undefined) {
      node().on(name, heard);
      return () => node().off(name, heard);
    }
    // Windows has none of the others.
    if (deno.build.os === "windows" && name !== "SIGINT") return () => {};
    deno.addSignalListener(name, heard);
    return () => deno.removeSignalListener(name, heard);
  });
  return () => removals.forEach((remove) => remove());
}

/** The process's own terminal. */
export function processTerminal(): Terminal {
  const restores = new Set<() => void>();
  return {
    stdout: deno === undefined ? nodeOutput(node().stdout) : denoOutput(deno.stdout),
    stderr: deno === undefined ? nodeOutput(node().stderr) : denoOutput(deno.stderr),
    columns: terminalColumns(),
    environment: readEnvironment,
    askSecret: deno?.stdin.isTerminal() === true ? askSecret : undefined,
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
  };
}

/** Whether text for `output` may be coloured: `--color`, then `NO_COLOR`, `FORCE_COLOR`, `TERM`. */
export function mayColor(
  terminal: Terminal,
  output: Output,
  choice: "auto" | "always" | "never",
): boolean {
  if (choice !== "auto") return choice === "always";
  if (terminal.environment("NO_COLOR") !== undefined) return false;
  if (terminal.environment("FORCE_COLOR") !== undefined) return true;
  return output.isTerminal && terminal.environment("TERM") !== "dumb";
}

/** Whether `error` says that the reader of a pipe has gone. */
export function isBrokenPipe(error: unknown): boolean {
  return error instanceof Error &&
    (error.name === "BrokenPipe" || (error as { code?: unknown }).code === "EPIPE");
}

function askSecret(question: string): string | undefined {
  const { stdin, stderr } = deno!;
  const key = new Uint8Array(1);
  stderr.writeSync(new TextEncoder().encode(question));
  stdin.setRaw(true);
  try {
    return readSecret(() => stdin.readSync(key) === 1 ? key[0] : undefined);
  } finally {
    stdin.setRaw(false);
    // The line that was typed did not show, and neither did its end.
    stderr.writeSync(Uint8Array.of(10));
  }
}

function readEnvironment(name: string): string | undefined {
  if (deno === undefined) return node().env[name] || undefined;
  // Reading without the permission would stop and ask.
  const { state } = deno.permissions.querySync({ name: "env", variable: name });
  return state === "granted" ? deno.env.get(name) || undefined : undefined;
}

function terminalColumns(): number {
  let columns = 0;
  try {
    if (deno === undefined) columns = node().stderr.columns ?? 0;
    else if (deno.stderr.isTerminal()) columns = deno.consoleSize().columns;
  } catch {
    // No console behind the stream; some consoles answer 0 × 0, which means the same.
  }
  return columns === 0 ? 80 : Math.min(100, Math.max(20, columns));
}

function denoOutput(stream: typeof Deno.stdout): Output {
  const encoder = new TextEncoder();
  return {
    isTerminal: stream.isTerminal(),
    write: (data) => {
      let rest = typeof data === "string" ? encoder.encode(data) : data;
      while (rest.length > 0) rest = rest.subarray(stream.writeSync(rest));
    },
  };
}

function nodeOutput(stream: NodeStream): Output {
  // A vanished reader is reported by event, after the write that met it.
  stream.on("error", (error) => {
    if (!isBrokenPipe(error)) throw error;
    exitNow(0);
  });
  return { isTerminal: stream.isTTY === true, write: (data) => void stream.write(data) };
}

function node(): NodeProcess {
  return (globalThis as unknown as { process: NodeProcess }).process;
}
