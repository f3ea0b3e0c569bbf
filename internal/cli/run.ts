/**
 * From words to an exit code: help and version without loading anything, signals, errors for people and programs.
 *
 * @module
 */

import {
  AuthError,
  CapabilityError,
  DeadlineError,
  FastwireError,
  LimitError,
  ProtocolError,
  SystemError,
} from "../errors.ts";
import { VERSION } from "../version.ts";
import {
  COMMON,
  type CommonOptions,
  ConfigurationError,
  readEnvironment,
  type Tool,
  UsageError,
} from "./command.ts";
import { resolve } from "../schema.ts";
import {
  exitNow,
  isBrokenPipe,
  onSignals,
  processArguments,
  processTerminal,
  setExitCode,
  type Terminal,
} from "./terminal.ts";

/** A command was cut short by a signal; what the signal of {@linkcode CommandInput} aborts with. */
export class InterruptedError extends Error {
  override readonly name = "InterruptedError";
  /** Which signal. */
  readonly signal: "SIGINT" | "SIGTERM";

  constructor(signal: "SIGINT" | "SIGTERM") {
    super(`Interrupted by ${signal}`);
    this.signal = signal;
  }
}

/**
 * Runs a tool as its `main`.
 *
 * @param args Words behind the tool's name. When they are left out this is the outermost call: the process's words are
 * taken and its exit code is set once everything was written.
 * @param terminal Where it writes; the process by default.
 * @returns The exit code.
 */
export async function runTool(
  tool: Tool,
  args?: readonly string[],
  terminal: Terminal = processTerminal(),
): Promise<number> {
  const words = args ?? processArguments();
  const code = await guarded(words, terminal, () => dispatch(tool, words, terminal));
  if (args === undefined) setExitCode(code);
  return code;
}

/**
 * Calls `action` and turns whatever it throws into text on stderr and an exit code.
 *
 * @param words Only looked at for `--json` and `--debug`.
 */
export async function guarded(
  words: readonly string[],
  terminal: Terminal,
  action: () => Promise<number>,
): Promise<number> {
  try {
    return await action();
  } catch (error) {
    if (isBrokenPipe(error)) return 0;
    terminal.restore();
    try {
      terminal.stderr.write(
        words.includes("--json") ? errorJson(error) : errorText(error, words.includes("--debug")),
      );
    } catch (failed) {
      if (!isBrokenPipe(failed)) throw failed;
    }
    return exitCodeOf(error);
  } finally {
    terminal.restore();
  }
}

/** The exit code for an error, by its class. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof UsageError) return 2;
  if (error instanceof ConfigurationError) return 3;
  if (error instanceof InterruptedError) return error.signal === "SIGINT" ? 130 : 143;
  if (error instanceof CapabilityError) return 8;
  if (error instanceof AuthError) return 5;
  if (error instanceof DeadlineError) return 6;
  if (error instanceof ProtocolError) return 7;
  if (error instanceof LimitError) return 10;
  if (error instanceof SystemError) {
    if (DENIED.has(error.errnoName)) return 8;
    return REACHING.has(error.syscall) || UNREACHABLE.has(error.errnoName) ? 4 : 1;
  }
  if (error instanceof Error) {
    const code = String((error as { code?: unknown }).code ?? "");
    if (DENIED.has(code) || DENIED.has(error.name)) return 8;
    if (UNREACHABLE.has(code) || UNREACHABLE.has(error.name)) return 4;
  }
  return 1;
}

/** `error:`, `cause:` and `hint:` lines; the stack only when asked for. */
export function errorText(error: unknown, debug: boolean): string {
  // A configuration is wrong in as many ways as there are lines.
  const problems = error instanceof ConfigurationError ? error.message.split("\n") : [error];
  const lines = problems.map((problem) => `error: ${messageOf(problem)}`);
  let cause = error instanceof UsageError || error instanceof ConfigurationError
    ? undefined
    : error instanceof Error
    ? error.cause
    : undefined;
  for (let depth = 0; cause !== undefined && depth < 5; depth++) {
    lines.push(`cause: ${messageOf(cause)}`);
    cause = cause instanceof Error ? cause.cause : undefined;
  }
  const hint = hintOf(error);
  if (hint !== undefined) lines.push(`hint: ${hint}`);
  if (debug && error instanceof Error && error.stack !== undefined) lines.push(error.stack);
  return lines.join("\n") + "\n";
}

/** The same for programs, as one line. */
export function errorJson(error: unknown): string {
  const code = error instanceof FastwireError ? error.code : CODES[exitCodeOf(error)];
  return JSON.stringify({ error: { code, message: messageOf(error), hint: hintOf(error) } }) + "\n";
}

async function dispatch(
  tool: Tool,
  given: readonly string[],
  terminal: Terminal,
): Promise<number> {
  const words = commandFirst(tool, tool.rewrite?.(given) ?? given);
  const end = words.indexOf("--");
  const before = end < 0 ? words : words.slice(0, end);
  if (before.includes("-V") || before.includes("--version")) {
    return await printVersion(terminal, before.includes("--json"));
  }
  if (words.length === 0) {
    const { toolHelp } = await import("./help.ts");
    terminal.stderr.write(toolHelp(tool, false, terminal.columns));
    return 2;
  }
  if (before.includes("-h") || before.includes("--help")) {
    const { commandHelp, toolHelp } = await import("./help.ts");
    const command = tool.commands.find(({ name }) => name === words[0]);
    const full = before.includes("--help");
    terminal.stdout.write(
      command === undefined
        ? toolHelp(tool, full, terminal.columns)
        : commandHelp(tool, command, full, terminal.columns),
    );
    return 0;
  }
  return await runCommand(tool, words, terminal);
}

/** Milliseconds beyond its grace after which a command that was told to stop counts as stuck. */
const STUCK_MS = 2000;

async function runCommand(
  tool: Tool,
  words: readonly string[],
  terminal: Terminal,
): Promise<number> {
  const { scan } = await import("./scan.ts");
  const { command, words: collected } = await scan(tool, words);
  readEnvironment(tool, [...command.flags, ...COMMON.flat], terminal, collected.values);
  const common: CommonOptions = resolve(
    COMMON,
    Object.fromEntries(COMMON.flat.map(({ path, flagName }) => [
      path[0]!,
      collected.values.get(flagName),
    ])),
    "the common options",
  );
  const controller = new AbortController();
  const job = command.prepare(collected, { common, terminal, signal: controller.signal });
  const { configureLogging } = await import("./logging.ts");
  await configureLogging(terminal, common, collected.verbosity, command.logLevel ?? "warning");
  let grace: ReturnType<typeof setTimeout> | undefined;
  const stopNow = (code: number): void => {
    terminal.restore();
    exitNow(code);
  };
  const removeListeners = onSignals(["SIGINT", "SIGTERM"], (name) => {
    const interrupted = new InterruptedError(name);
    const code = exitCodeOf(interrupted);
    if (controller.signal.aborted) return stopNow(code);
    // The command is given the same time and stops by itself; this is for one that does not.
    grace = setTimeout(() => stopNow(code), common.graceMs + STUCK_MS);
    controller.abort(interrupted);
  });
  try {
    return await job();
  } finally {
    clearTimeout(grace);
    removeListeners();
  }
}

async function printVersion(terminal: Terminal, json: boolean): Promise<number> {
  if (!json) {
    terminal.stdout.write(`fastwire ${VERSION}\n`);
    return 0;
  }
  const { versionDetails } = await import("./doctor.ts");
  terminal.stdout.write(JSON.stringify(await versionDetails()) + "\n");
  return 0;
}

/** Options may stand before the command: `fastwire tftp -v get …`. */
function commandFirst(tool: Tool, words: readonly string[]): readonly string[] {
  if (words[0]?.startsWith("-") !== true || words[0] === "--") return words;
  const index = words.findIndex((word) => tool.commands.some(({ name }) => name === word));
  if (index < 0) return words;
  return [words[index]!, ...words.slice(0, index), ...words.slice(index + 1)];
}

function messageOf(error: unknown): string {
  const message = error instanceof Error ? error.message || error.name : String(error);
  // One line, whatever a peer or a runtime put into it.
  // deno-lint-ignore no-control-regex
  return message.replace(/[\x00-\x1f\x7f]+/g, " ").trim();
}

function hintOf(error: unknown): string | undefined {
  if (error instanceof UsageError) return error.hint;
  if (error instanceof CapabilityError) return error.remedy;
  if (!(error instanceof Error)) return undefined;
  for (const denied of [error, error.cause]) {
    if (!(denied instanceof Error) || denied.name !== "NotCapable") continue;
    const permission = /Requires (\w+) access/.exec(denied.message);
    if (permission !== null) return `run again with --allow-${permission[1]}`;
  }
  const name = error instanceof SystemError ? error.errnoName : (error as { code?: unknown }).code;
  const binding = error instanceof SystemError
    ? error.syscall === "bind"
    : /bind/.test(error.message);
  if (binding && (name === "EACCES" || name === "EPERM")) {
    return "ports below 1024 need CAP_NET_BIND_SERVICE, another port, or " +
      "sysctl net.ipv4.ip_unprivileged_port_start";
  }
  if (name === "EADDRINUSE") {
    return "another program uses that port: stop it, or choose another one";
  }
  return undefined;
}

const DENIED: ReadonlySet<string> = new Set([
  "EACCES",
  "EPERM",
  "NotCapable",
  "PermissionDenied",
]);

const REACHING: ReadonlySet<string> = new Set(["bind", "connect", "listen", "socket"]);

const UNREACHABLE: ReadonlySet<string> = new Set([
  "EADDRINUSE",
  "EADDRNOTAVAIL",
  "ECONNREFUSED",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOTFOUND",
  "EAI_AGAIN",
  "AddrInUse",
  "AddrNotAvailable",
  "ConnectionRefused",
]);

const CODES: Readonly<Record<number, string>> = {
  1: "cli.failed",
  2: "cli.usage",
  3: "cli.configuration",
  4: "cli.unreachable",
  8: "cli.not-permitted",
  130: "cli.interrupted",
  143: "cli.interrupted",
};
