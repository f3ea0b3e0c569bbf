/**
 * Our own command line as a process of its own, for tests against real programs and other networks.
 *
 * @module
 */

import type { NetworkNamespace } from "./netns.ts";

/** How a tool is started. */
export interface OwnToolOptions {
  /** Where it runs; the test's own network by default. */
  readonly namespace?: NetworkNamespace;
  /** What its standard error says once it is ready; `^` and `$` are the ends of a line. */
  readonly ready: RegExp;
  /** How often `ready` has to match; once by default. */
  readonly times?: number;
  /** How many descriptors it may have (`ulimit -n`); as many as the test by default. */
  readonly descriptors?: number;
  /** More variables for it. */
  readonly environment?: Readonly<Record<string, string>>;
}

/** A tool that said it is ready. */
export interface OwnTool extends AsyncDisposable {
  readonly pid: number;
  /** Every match of `ready` before it was told to be. */
  readonly matches: readonly RegExpMatchArray[];
  /** What it printed so far, both streams. */
  output(): string;
  /** Ends it with SIGTERM and answers its exit code; idempotent. */
  stop(): Promise<number>;
}

const ROOT = new URL("../../", import.meta.url).pathname;
const READY_WITHIN_MS = 10_000;
const STOP_WITHIN_MS = 10_000;

/**
 * The words that run one of our programs as a user would, offline.
 *
 * @param program Its path below the root: `tftp/mod.ts`.
 */
export function ownWords(program: string, args: readonly string[]): readonly string[] {
  return [Deno.execPath(), "run", "-A", "--quiet", "--cached-only", `${ROOT}${program}`, ...args];
}

/** Starts one of our programs and answers when it says that it is ready. */
export async function startOwnTool(
  program: string,
  args: readonly string[],
  options: OwnToolOptions,
): Promise<OwnTool> {
  const limit = options.descriptors;
  const own = [
    ...(limit === undefined ? [] : ["/bin/sh", "-c", `ulimit -n ${limit}; exec "$0" "$@"`]),
    ...ownWords(program, args),
  ];
  const [command, ...words] = options.namespace?.wrap(own) ?? own;
  const child = new Deno.Command(command!, {
    args: words,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    env: { NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1", ...options.environment },
  }).spawn();
  let said = "";
  let printed = "";
  let matches: readonly RegExpMatchArray[] = [];
  let ready: () => void = () => {};
  const isReady = new Promise<void>((resolve) => ready = resolve);
  const pattern = new RegExp(options.ready.source, "gm");
  const reading = Promise.all([
    collect(child.stdout, (text) => printed += text),
    collect(child.stderr, (text) => {
      said += text;
      matches = [...said.matchAll(pattern)];
      if (matches.length >= (options.times ?? 1)) ready();
    }),
  ]);
  let stopping: Promise<number> | undefined;
  const stop = async (): Promise<number> => {
    signal(child, "SIGTERM");
    const timer = setTimeout(() => signal(child, "SIGKILL"), STOP_WITHIN_MS);
    const { code } = await child.status;
    clearTimeout(timer);
    await reading;
    return code;
  };
  let late: ReturnType<typeof setTimeout> | undefined;
  const answer = await Promise.race([
    isReady.then(() => "ready"),
    child.status.then(({ code }) => `it ended with ${code}`),
    new Promise<string>((resolve) => {
      late = setTimeout(() => resolve("it took too long"), READY_WITHIN_MS);
    }),
  ]);
  clearTimeout(late);
  if (answer !== "ready") {
    await stop();
    throw new Error(`Cannot start ${program} ${args.join(" ")}: ${answer}, ${said}${printed}`);
  }
  return {
    pid: child.pid,
    matches,
    output: () => said + printed,
    stop: () => stopping ??= stop(),
    async [Symbol.asyncDispose](): Promise<void> {
      await (stopping ??= stop());
    },
  };
}

function signal(child: Deno.ChildProcess, name: Deno.Signal): void {
  try {
    child.kill(name);
  } catch {
    // It ended by itself.
  }
}

async function collect(
  stream: ReadableStream<Uint8Array>,
  take: (text: string) => void,
): Promise<void> {
  const decoder = new TextDecoder();
  for await (const chunk of stream) take(decoder.decode(chunk, { stream: true }));
}
