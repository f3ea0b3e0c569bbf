/**
 * What `fastwire demo` shows of TFTP: a server on a real directory, files fetched from it and stored on it by our client
 * and by curl, on each driver, compared by SHA-256.
 *
 * @module
 */
import { spawn } from "node:child_process";
import { createHash, randomFillSync } from "node:crypto";
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DemoInput, DemoRow } from "./demo.ts";
import { resolveDriver } from "./ffi/mod.ts";
import { download, serve, type TftpServer, upload } from "./tftp/mod.ts";

const WINDOWS = [1, 16, 64] as const;
/** Empty, one byte, a multiple of every block size in use, and one that is no multiple. */
const SMALL_SIZES = [0, 1, 512 * 1024, 5_000_000] as const;
/** What part of the large file's size the portable driver moves: the tour is to stay below 20 seconds. */
const PORTABLE_PART = 10;
const CHUNK_BYTES = 1_048_576;
/** The largest block curl asks for. */
const CURL_BLOCK_BYTES = 65_464;

/** A file that is served. */
interface Sample {
  readonly name: string;
  readonly path: string;
  readonly sha256: string;
}

/** Starts a server on each driver and moves files both ways; leaves no file, socket or process. */
export async function* tftpDemo(
  { largestBytes, signal }: DemoInput,
): AsyncGenerator<DemoRow, void> {
  const folder = mkdtempSync(join(tmpdir(), "fastwire-demo-"));
  try {
    const root = join(folder, "served");
    for (const place of [root, folder]) mkdirSync(join(place, "uploads"), { recursive: true });
    // Half a megabyte stays in the shortest tour, too.
    const sizes = SMALL_SIZES.filter((bytes) => bytes <= Math.max(largestBytes, SMALL_SIZES[2]));
    const range = `0 B to ${megabytes(sizes.at(-1)!)}`;
    const small = sizes.map((bytes) => sample(root, `${bytes}.bin`, bytes));
    const curl = await curlMissing();
    const choice = resolveDriver("auto", ["batchedDatagrams"]);
    for (const driver of ["fast", "portable"] as const) {
      if (driver === "fast" && choice.use !== "fast") {
        yield { what: "everything on the kernel driver", skipped: choice.reason };
        continue;
      }
      const largeBytes = driver === "fast" ? largestBytes : Math.ceil(largestBytes / PORTABLE_PART);
      const large = sample(root, "large.bin", largeBytes);
      const size = megabytes(largeBytes);
      const server = await serve({
        root,
        driver,
        listen: ["127.0.0.1:0"],
        write: {
          enabled: true,
          allowedPatterns: ["uploads/*"],
          maxFileBytes: 0,
          // The table shows the network, not how fast the disk forgets its cache.
          sync: "never",
        },
      });
      try {
        const place: Place = { folder, root, server, driver, signal };
        for (const windowSize of WINDOWS) {
          const window = `window ${windowSize}`;
          yield await fetched(place, `get ${range}, ${window}`, small, windowSize);
          yield await fetched(place, `get ${size}, ${window}`, [large], windowSize);
          yield await stored(place, `put ${range}, ${window}`, small, windowSize);
          yield await stored(place, `put ${size}, ${window}`, [large], windowSize);
        }
        if (curl !== "") yield { what: `get and put with curl, ${driver} server`, skipped: curl };
        else {
          yield await curled(place, "get", range, small);
          yield await curled(place, "put", range, small);
        }
      } finally {
        await server.close();
      }
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

interface Place {
  readonly folder: string;
  readonly root: string;
  readonly server: TftpServer;
  readonly driver: "fast" | "portable";
  readonly signal: AbortSignal;
}

/** Fetches files with our client. */
function fetched(
  place: Place,
  what: string,
  samples: readonly Sample[],
  windowSize: number,
): Promise<DemoRow> {
  return moved(place, what, place.server.driver, samples, (sample) => {
    const copy = join(place.folder, "uploads", sample.name);
    return {
      copy,
      move: () => download(url(place.server, sample.name), copy, clientOptions(place, windowSize)),
    };
  });
}

/** Stores files with our client. */
function stored(
  place: Place,
  what: string,
  samples: readonly Sample[],
  windowSize: number,
): Promise<DemoRow> {
  return moved(place, what, place.server.driver, samples, (sample) => {
    const name = `uploads/${sample.name}`;
    return {
      copy: join(place.root, name),
      move: () => upload(sample.path, url(place.server, name), clientOptions(place, windowSize)),
    };
  });
}

/** Fetches or stores files with curl. */
function curled(
  place: Place,
  operation: "get" | "put",
  range: string,
  samples: readonly Sample[],
): Promise<DemoRow> {
  const what = `${operation} ${range} with curl`;
  return moved(place, what, place.server.driver, samples, (sample) => {
    // curl takes a confirmed size of 0 for a mistake and gives up, whoever serves: an empty file goes without options.
    const options = statSync(sample.path).size === 0
      ? ["--tftp-no-options"]
      : ["--tftp-blksize", String(CURL_BLOCK_BYTES)];
    const words = ["--silent", "--show-error", ...options];
    const name = `uploads/${sample.name}`;
    const copy = join(operation === "get" ? place.folder : place.root, name);
    return {
      copy,
      move: () =>
        operation === "get"
          ? runCurl([...words, "-o", copy, url(place.server, sample.name)], place.signal)
          : runCurl([...words, "-T", sample.path, url(place.server, name)], place.signal),
    };
  });
}

/** Moves each file, compares what arrived, and removes it. */
async function moved(
  place: Place,
  what: string,
  driver: string,
  samples: readonly Sample[],
  plan: (sample: Sample) => { readonly copy: string; readonly move: () => Promise<unknown> },
): Promise<DemoRow> {
  let bytes = 0;
  let durationMs = 0;
  let verified = true;
  for (const sample of samples) {
    place.signal.throwIfAborted();
    const { copy, move } = plan(sample);
    const startedAt = performance.now();
    await move();
    durationMs += performance.now() - startedAt;
    bytes += statSync(sample.path).size;
    verified = verified && sha256(copy) === sample.sha256;
    rmSync(copy);
  }
  return { what, driver, bytes, durationMs, verified };
}

function clientOptions(place: Place, windowSize: number): Parameters<typeof download>[2] {
  return {
    windowSize,
    driver: place.driver,
    // The kernel driver's server has a thread of its own, so this one may block.
    wait: place.driver === "fast" ? "thread" : "events",
    signal: place.signal,
  };
}

function url(server: TftpServer, name: string): string {
  return `tftp://127.0.0.1:${server.addresses[0]!.port}/${name}`;
}

/** Writes a file of random bytes. */
function sample(root: string, name: string, bytes: number): Sample {
  const path = join(root, name);
  const file = openSync(path, "w");
  const hash = createHash("sha256");
  const chunk = new Uint8Array(Math.min(bytes, CHUNK_BYTES));
  try {
    for (let left = bytes; left > 0; left -= chunk.length) {
      const part = randomFillSync(chunk).subarray(0, left);
      hash.update(part);
      for (let at = 0; at < part.length;) at += writeSync(file, part, at);
    }
  } finally {
    closeSync(file);
  }
  return { name, path, sha256: hash.digest("hex") };
}

function sha256(path: string): string {
  const file = openSync(path, "r");
  const hash = createHash("sha256");
  const chunk = new Uint8Array(CHUNK_BYTES);
  try {
    for (let read: number; (read = readSync(file, chunk)) > 0;) {
      hash.update(chunk.subarray(0, read));
    }
  } finally {
    closeSync(file);
  }
  return hash.digest("hex");
}

function megabytes(bytes: number): string {
  return `${Number((bytes / 1e6).toFixed(1))} MB`;
}

/** Why curl cannot be used here, one sentence; empty when it can. */
async function curlMissing(): Promise<string> {
  try {
    const version = await runCurl(["--version"]);
    return /^Protocols:.* tftp\b/m.test(version) ? "" : "this curl was built without TFTP";
  } catch (error) {
    const { code } = error as { readonly code?: unknown };
    if (code === "ENOENT") return "curl was not found";
    return `curl cannot be started (${error instanceof Error ? error.message : String(error)})`;
  }
}

function runCurl(words: readonly string[], signal?: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn("curl", words, {
      stdio: ["ignore", "pipe", "pipe"],
      ...(signal === undefined ? {} : { signal }),
    });
    let output = "";
    let complaint = "";
    child.stdout.on("data", (piece: Uint8Array) => output += new TextDecoder().decode(piece));
    child.stderr.on("data", (piece: Uint8Array) => complaint += new TextDecoder().decode(piece));
    child.on("error", (error) => reject(signal?.aborted === true ? signal.reason : error));
    child.on("close", (code) => {
      if (code === 0) resolve(output);
      else {reject(
          new Error(`Cannot transfer with curl: it ended with ${code}, ${complaint.trim()}`),
        );}
    });
  });
}
