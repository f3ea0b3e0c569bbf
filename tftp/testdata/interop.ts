/**
 * What the interoperability tests share: content of every interesting size, our server in every shape it has, and the
 * comparison of what arrived.
 *
 * @module
 */

import { createHash } from "node:crypto";
import type { NetworkNamespace } from "../../internal/testing/netns.ts";
import { type OwnTool, ownWords, startOwnTool } from "../../internal/testing/own_tool.ts";
import {
  type ClientJob,
  type ClientName,
  clientWords,
  runProgram,
} from "../../internal/testing/peers.ts";
import type { TransferList, TransferReport } from "./transfers.ts";

/** One more than the block number can count: the first size that needs it to start again. */
export const ROLLOVER_BLOCKS = 65_537;

/** Sizes that find mistakes with the given block size: nothing, one byte, around a block, whole windows, a long tail. */
export function sizesAround(blockSize: number): readonly number[] {
  const sizes = [0, 1, 511, 512, 513, blockSize, 2 * blockSize, 16 * blockSize, 100_003];
  return [...new Set(sizes)];
}

/** Bytes that repeat late, so that a block in the wrong place shows. */
export function content(sizeBytes: number): Uint8Array {
  const bytes = new Uint8Array(sizeBytes);
  let state = 0x2545f491 ^ sizeBytes;
  for (let i = 0; i < sizeBytes; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[i] = state;
  }
  return bytes;
}

/** Text with every line end there is, at odd distances, so that pairs fall on block edges too. */
export function text(sizeBytes: number): Uint8Array {
  const bytes = content(sizeBytes);
  const ends = [10, 13, 10, 32];
  for (let i = 0; i < sizeBytes; i++) {
    bytes[i] = bytes[i]! < 40 ? ends[bytes[i]! & 3]! : 32 + (bytes[i]! % 95);
  }
  return bytes;
}

/** SHA-256 of a file; the reason when there is none. */
export async function fileHash(path: string): Promise<string> {
  try {
    return hashOf(await Deno.readFile(path));
  } catch (error) {
    return error instanceof Deno.errors.NotFound ? "there is no such file" : String(error);
  }
}

/** SHA-256 of bytes. */
export function hashOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** A folder for one test, readable for servers that drop their rights; gone when disposed. */
export class Workspace implements AsyncDisposable {
  /** What a server serves. */
  readonly root: string;
  /** Where clients keep their files. */
  readonly local: string;
  readonly #folder: string;
  readonly #hashes = new Map<string, string>();

  private constructor(folder: string) {
    this.#folder = folder;
    this.root = `${folder}/root`;
    this.local = `${folder}/local`;
  }

  /** Makes one. */
  static async create(): Promise<Workspace> {
    const space = new Workspace(await Deno.makeTempDir({ prefix: "fastwire-interop-" }));
    await Deno.chmod(space.#folder, 0o755);
    await Deno.mkdir(space.root);
    await Deno.chmod(space.root, 0o777);
    await Deno.mkdir(space.local);
    return space;
  }

  /** Puts a file into the served folder and beside the clients, once; answers its name. */
  async offer(sizeBytes: number, kind: "binary" | "text" = "binary"): Promise<string> {
    const name = kind === "binary" ? `${sizeBytes}.bin` : `${sizeBytes}.txt`;
    if (!this.#hashes.has(name)) {
      const bytes = kind === "binary" ? content(sizeBytes) : text(sizeBytes);
      await Deno.writeFile(`${this.root}/${name}`, bytes, { mode: 0o644 });
      await Deno.writeFile(`${this.local}/${name}`, bytes, { mode: 0o644 });
      this.#hashes.set(name, hashOf(bytes));
    }
    return name;
  }

  /** What an offered file must hash to. */
  hash(name: string): string {
    return this.#hashes.get(name)!;
  }

  /** Compares a file with an offered one and removes it; empty when they are equal. */
  async difference(path: string, name: string): Promise<string> {
    const hash = await fileHash(path);
    if (hash === this.hash(name)) {
      await Deno.remove(path);
      return "";
    }
    const { size } = await Deno.stat(path).catch(() => ({ size: -1 }));
    return size < 0 ? hash : `differs, ${size} bytes`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.#folder, { recursive: true });
  }
}

/** The shapes our server has. */
export const SERVER_SHAPES: Readonly<Record<string, readonly string[]>> = {
  "fast": ["--driver", "fast"],
  "fast, two threads": ["--driver", "fast", "--workers", "2"],
  "fast, one port": ["--driver", "fast", "--single-port"],
  "portable": ["--driver", "portable"],
  "portable, two threads": ["--driver", "portable", "--workers", "2"],
  "portable, one port": ["--driver", "portable", "--single-port"],
};

/** Our server as a process. */
export interface OwnServer extends AsyncDisposable {
  readonly tool: OwnTool;
  /** The port of its first address. */
  readonly port: number;
}

/** Starts `tftp serve` on the workspace's folder, uploads allowed. */
export async function startOwnServer(
  space: Workspace,
  words: readonly string[],
  listen: readonly string[] = ["127.0.0.1:0"],
  namespace?: NetworkNamespace,
): Promise<OwnServer> {
  const listens = listen.flatMap((address) => ["--listen", address]);
  const tool = await startOwnTool(
    "tftp/mod.ts",
    ["serve", space.root, ...listens, "--write", "**", "--log-level", "warning", ...words],
    {
      ready: /^listening udp (\S+):(\d+)$/,
      times: listen.length,
      ...(namespace === undefined ? {} : { namespace }),
    },
  );
  return {
    tool,
    port: Number(tool.matches[0]![2]),
    [Symbol.asyncDispose]: () => tool[Symbol.asyncDispose](),
  };
}

/** How a real client is used. */
export type ClientUse = Pick<ClientJob, "blockSize" | "windowSize" | "mode" | "noOptions">;

let uploads = 0;

/**
 * Fetches and stores files with a real client and compares.
 *
 * @returns One line per mistake.
 */
export async function exchange(
  client: ClientName,
  use: ClientUse,
  space: Workspace,
  server: { readonly host: string; readonly port: number },
  sizes: readonly number[],
  actions: readonly ("get" | "put")[] = ["get", "put"],
  namespace?: NetworkNamespace,
): Promise<string[]> {
  const mistakes: string[] = [];
  for (const size of sizes) {
    const name = await space.offer(size, use.mode === "netascii" ? "text" : "binary");
    for (const action of actions) {
      const stored = `up-${++uploads}`;
      const job = {
        ...use,
        ...server,
        action,
        remote: action === "get" ? name : stored,
        local: `${space.local}/${action === "get" ? stored : name}`,
      };
      const result = await runProgram(clientWords(client, job), {
        timeoutMs: 60_000,
        ...(namespace === undefined ? {} : { namespace }),
      });
      const path = action === "get" ? job.local : `${space.root}/${stored}`;
      const difference = await space.difference(path, name);
      if (difference === "" && result.code === 0 && !result.timedOut) continue;
      const said = `${result.stdout} ${result.stderr}`.replace(/\s+/g, " ").trim().slice(0, 200);
      const ending = result.timedOut ? "killed" : `exit ${result.code}`;
      mistakes.push(
        `${client} ${JSON.stringify(use)} ${action} ${name}: ${ending}, ${
          difference === "" ? "content equal" : difference
        }: ${said}`,
      );
    }
  }
  return mistakes;
}

/** Runs transfers with our own client in a process of its own; answers in the order of the list. */
export async function runTransfers(
  list: TransferList,
  namespace?: NetworkNamespace,
  timeoutMs = 60_000,
): Promise<readonly TransferReport[]> {
  const { stdout, stderr, code, timedOut } = await runProgram(
    ownWords("tftp/testdata/transfers.ts", [JSON.stringify(list)]),
    { timeoutMs, ...(namespace === undefined ? {} : { namespace }) },
  );
  const reports = stdout.split("\n").filter((line) => line !== "")
    .map((line) => JSON.parse(line) as TransferReport);
  if (code !== 0 || timedOut || reports.length !== list.jobs.length) {
    const said = stderr.slice(0, 1000);
    throw new Error(
      `Cannot run ${list.jobs.length} transfers: ${reports.length} ended, exit ${code}, ${said}`,
    );
  }
  return reports.sort((a, b) => a.index - b.index);
}
