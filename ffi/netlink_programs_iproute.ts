/**
 * Running the `ip` program: once for an answer, or for as long as it goes on telling.
 *
 * @module
 */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";

/** What a program that has ended left behind. */
export interface Output {
  /** Its exit code; −1 when it could not be started or was ended. */
  readonly code: number;
  readonly stdout: string;
  /** What it complained about, or why it could not be started. */
  readonly stderr: string;
}

/** The `ip` programs of one socket: known, so that all of them can be ended. */
export class Programs {
  readonly #program: string;
  readonly #running = new Map<ChildProcess, Promise<void>>();
  #closed = false;

  constructor(program: string) {
    this.#program = program;
  }

  /** Runs it to its end. */
  run(words: readonly string[]): Promise<Output> {
    const stdout = new Text(), stderr = new Text();
    return new Promise((resolve) => {
      this.start(words, {
        out: (chunk) => stdout.add(chunk),
        complaint: (chunk) => stderr.add(chunk),
        ended: (code, why) =>
          resolve({ code, stdout: stdout.text, stderr: why === "" ? stderr.text : why }),
      });
    });
  }

  /** Starts it. `ended` comes exactly once. @returns `undefined` when it could not be started. */
  start(
    words: readonly string[],
    told: {
      readonly out: (chunk: Uint8Array) => void;
      readonly complaint: (chunk: Uint8Array) => void;
      readonly ended: (code: number, why: string) => void;
    },
  ): ChildProcess | undefined {
    if (this.#closed) {
      told.ended(-1, "the socket is closed");
      return undefined;
    }
    let child: ChildProcess;
    try {
      child = spawn(this.#program, words, {
        stdio: ["ignore", "pipe", "pipe"],
        // Named one by one: handing on the whole environment needs the right to read it.
        env: { PATH: searchPath(), LC_ALL: "C" },
      });
    } catch (error) {
      told.ended(-1, reasonOf(error));
      return undefined;
    }
    let why = "";
    child.stdout!.on("data", told.out);
    child.stderr!.on("data", told.complaint);
    this.#running.set(
      child,
      new Promise((resolve) => {
        const end = (code: number): void => {
          if (!this.#running.delete(child)) return;
          told.ended(code, why);
          resolve();
        };
        child.on("error", (error) => {
          why = reasonOf(error);
          // One that was never started does not close either.
          if (child.pid === undefined) end(-1);
        });
        child.on("close", (code) => end(code ?? -1));
      }),
    );
    return child;
  }

  /** Ends every one. */
  async close(): Promise<void> {
    this.#closed = true;
    const ends = [...this.#running.values()];
    // They only read: there is nothing they would want to put in order.
    for (const child of this.#running.keys()) child.kill("SIGKILL");
    await Promise.all(ends);
  }
}

/** Text that comes in pieces, cut anywhere. */
class Text {
  text = "";
  readonly #decoder = new TextDecoder();

  add(chunk: Uint8Array): void {
    this.text += this.#decoder.decode(chunk, { stream: true });
  }
}

/** What the kernel says about the first netlink socket of a process: which groups it has joined, what it lost. */
export interface SocketFacts {
  readonly groups: number;
  readonly drops: number;
}

/**
 * Looks a process up in the kernel's list of netlink sockets (proc(5)).
 *
 * @returns `undefined` when it is not there yet; `"unreadable"` when the list may not be read, which is asked for by
 * nobody.
 */
export function readSocketFacts(pid: number): SocketFacts | undefined | "unreadable" {
  const list = readProc(`/proc/${pid}/net/netlink`);
  if (list === undefined) return "unreadable";
  for (const line of list.split("\n").slice(1)) {
    const [, protocol, port, groups, , , , , drops] = line.trim().split(/\s+/);
    // The first socket of a process has its id for an address; routing is protocol 0.
    if (Number(port) !== pid || protocol !== "0") continue;
    return { groups: parseInt(groups ?? "0", 16), drops: Number(drops) || 0 };
  }
  return undefined;
}

/** A file of `/proc`, where it may be read without asking anybody. */
export function readProc(path: string): string | undefined {
  const { Deno: deno } = globalThis as { readonly Deno?: typeof Deno };
  // Deno guards this folder by the permission for every file there is.
  if (deno?.permissions.querySync({ name: "read" }).state === "granted" || deno === undefined) {
    try {
      return readFileSync(path, "latin1");
    } catch {
      return undefined;
    }
  }
  return undefined;
}

/** Where programs are looked for: as the environment says, where it may be read without asking. */
function searchPath(): string {
  const { Deno: deno, process } = globalThis as {
    readonly Deno?: typeof Deno;
    readonly process?: { readonly env: Readonly<Record<string, string | undefined>> };
  };
  const usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  if (deno === undefined) return process?.env.PATH ?? usual;
  const { state } = deno.permissions.querySync({ name: "env", variable: "PATH" });
  return (state === "granted" ? deno.env.get("PATH") : undefined) ?? usual;
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
