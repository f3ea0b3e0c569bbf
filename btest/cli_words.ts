/**
 * The words people know from other tools, and where passwords come from.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import { fromRuntimeError } from "../ffi/mod.ts";
import { ConfigurationError, UsageError } from "../internal/cli/command.ts";
import type { Terminal } from "../internal/cli/terminal.ts";
import { formatEndpoint, parseEndpoint } from "../internal/units.ts";
import { DEFAULT_PORT, type Direction } from "./protocol/command.ts";

/** Standard input's descriptor. */
const STDIN = 0;

/**
 * Rewrites the words of other tools: `-s` is the command `server`, `-c HOST` is `client HOST`, and `--no-auth`, `--md5`,
 * `--ecsrp5` choose what a server asks for.
 *
 * @returns The words as the commands know them; untouched when they begin with a command, and behind `--`.
 */
export function familiarWords(words: readonly string[]): readonly string[] {
  const end = words.indexOf("--");
  const before = end < 0 ? words : words.slice(0, end);
  const rest = end < 0 ? [] : words.slice(end);
  const at = before.findIndex((word) => ["-s", "-c", "--server", "--client"].includes(word));
  let found = before;
  if (before[0]?.startsWith("-") === true && at >= 0) {
    const others = [...before.slice(0, at), ...before.slice(at + 1)];
    found = before[at] === "-s" || before[at] === "--server"
      ? ["server", ...others]
      // The host keeps its place, right behind the option; without one the command says what is missing.
      : ["client", ...others.slice(at, at + 1), ...others.slice(0, at), ...others.slice(at + 1)];
  }
  if (found[0] !== "server") return [...found, ...rest];
  return [...found.map((word, i) => serverWord(word, found[i + 1])), ...rest];
}

function serverWord(word: string, next: string | undefined): string {
  // Alone it means every address.
  if (word === "--listen6" && (next === undefined || next.startsWith("-"))) return "--listen6=::";
  return AUTH_WORDS[word] ?? word;
}

/** Where a password may come from. */
export interface PasswordSources {
  /** Typed, or from the tool's own variable. */
  readonly password: string | undefined;
  /** A file's name; `-` is standard input. */
  readonly passwordFile: string | undefined;
  /** A variable's name. */
  readonly passwordEnv: string | undefined;
}

/**
 * Reads the password from wherever it was said to be.
 *
 * @param own The tool's own variable, which is as good as a file.
 * @param user Whose password it is: with a user and no password a person at a terminal is asked.
 * @returns `undefined` when none was given. One line end behind a file's text does not belong to the password.
 * @throws {UsageError} For more than one source. @throws {ConfigurationError} For a variable that is not set.
 * @throws {SystemError} When the file cannot be read.
 */
export function readPassword(
  sources: PasswordSources,
  terminal: Terminal,
  own: string,
  user?: string | undefined,
): string | undefined {
  const { password, passwordFile, passwordEnv } = sources;
  const typed = password !== undefined && terminal.environment(own) !== password;
  if (
    [typed || undefined, passwordFile, passwordEnv].filter((one) => one !== undefined).length > 1
  ) {
    throw new UsageError(
      "Cannot take a password from several places",
      "give one of --password-file, --password-env and --password",
    );
  }
  if (passwordFile !== undefined) {
    try {
      const text = readFileSync(passwordFile === "-" ? STDIN : passwordFile, "utf8");
      return text.replace(/\r?\n$/, "");
    } catch (error) {
      throw fromRuntimeError(error, "read", `read the password from "${passwordFile}"`);
    }
  }
  if (passwordEnv !== undefined) {
    const value = terminal.environment(passwordEnv);
    if (value !== undefined) return value;
    throw new ConfigurationError(
      `Cannot read the password: the variable ${passwordEnv} is not set, or may not be read`,
    );
  }
  if (typed) {
    terminal.stderr.write(
      "warning: a typed password can be seen by every user of this machine; " +
        "--password-file and --password-env hide it\n",
    );
  }
  if (password !== undefined || user === undefined || terminal.askSecret === undefined) {
    return password;
  }
  const asked = terminal.askSecret(`password of ${JSON.stringify(user)}: `);
  if (asked !== undefined) return asked;
  throw new UsageError(
    "Cannot log in: no password was typed",
    "give --password-file or --password-env",
  );
}

/** What the short flags say of a test. */
export interface ShortFlags {
  readonly transmit: boolean;
  readonly receive: boolean;
  readonly udp: boolean;
  readonly seconds: number | undefined;
  readonly bandwidth: number | undefined;
}

/** What a test is, as far as flags of two families can say it. */
export interface TestWords {
  readonly direction: Direction;
  readonly protocol: "tcp" | "udp";
  readonly durationMs: number;
  readonly localTxSpeedBps: number;
  readonly remoteTxSpeedBps: number;
}

/**
 * Joins the short flags with the long ones.
 *
 * @param given The long ones that were typed.
 * @throws {UsageError} When both families say something different about one thing.
 */
export function joinFlags<T extends TestWords>(
  options: T,
  given: ReadonlySet<string>,
  short: ShortFlags,
): T {
  const refuse = (long: string, flag: string): void => {
    if (!given.has(long)) return;
    throw new UsageError(`Cannot use ${flag} beside the long option for it`, "give one of the two");
  };
  let { direction, protocol, durationMs, localTxSpeedBps, remoteTxSpeedBps } = options;
  if (short.transmit || short.receive) {
    refuse("direction", short.transmit ? "-t" : "-r");
    direction = !short.receive ? "transmit" : !short.transmit ? "receive" : "both";
  }
  if (short.udp) {
    refuse("protocol", "-u");
    protocol = "udp";
  }
  if (short.seconds !== undefined) {
    refuse("durationMs", "-d");
    durationMs = Math.round(short.seconds * 1000);
  }
  if (short.bandwidth !== undefined) {
    refuse("localTxSpeedBps", "-b");
    refuse("remoteTxSpeedBps", "-b");
    // What carries data in the chosen direction; a known tool has the two swapped.
    if (direction !== "receive") localTxSpeedBps = short.bandwidth;
    if (direction !== "transmit") remoteTxSpeedBps = short.bandwidth;
  }
  return { ...options, direction, protocol, durationMs, localTxSpeedBps, remoteTxSpeedBps };
}

/**
 * The host and port of a client's operand.
 *
 * @param port What `-P` said.
 * @throws {UsageError} When it is no address, or names another port than `-P`.
 */
export function readTarget(
  word: string,
  port: number | undefined,
): { readonly host: string; readonly port: number; readonly target: string } {
  const endpoint = parseEndpoint(word);
  if (endpoint === undefined || endpoint.host === "") {
    throw new UsageError(
      `Cannot test with ${JSON.stringify(word)}: expected a host`,
      "write it as host, host:port or [v6]:port",
    );
  }
  if (port !== undefined && endpoint.port !== undefined && endpoint.port !== port) {
    throw new UsageError(
      `Cannot use port ${port}: the address says ${endpoint.port}`,
      "leave out one of the two",
    );
  }
  const chosen = { host: endpoint.host, port: endpoint.port ?? port ?? DEFAULT_PORT };
  return { ...chosen, target: formatEndpoint(chosen) };
}

const AUTH_WORDS: Readonly<Record<string, string>> = {
  "--no-auth": "--auth=none",
  "--md5": "--auth=md5",
  "--ecsrp5": "--auth=ecsrp5",
};
