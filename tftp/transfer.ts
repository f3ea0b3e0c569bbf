/**
 * One-call transfers: an address, an answer.
 *
 * @module
 */
import { openRoot } from "../ffi/mod.ts";
import { connect, type TftpClient } from "./client.ts";
import type { SendContent, TransferOptions, TransferSummary } from "./client_attempt.ts";
import { FileSink } from "./file_sink.ts";
import { parseTftpUrl } from "./url.ts";

/**
 * Fetches a file into memory.
 *
 * @param url `tftp://host[:port]/name`.
 * @throws {PeerError} `tftp.file-not-found` and the like, when the server refuses.
 * @throws {DeadlineError} `tftp.no-answer`. @throws {ProtocolError} `tftp.unexpected-answer`.
 * @throws {SyntaxError} For an address that is none.
 */
export function get(url: string | URL, options: TransferOptions = {}): Promise<Uint8Array> {
  return once(url, options, (client, name, own) => client.get(name, own));
}

/**
 * Fetches a file onto the disk. It appears under its name when it is whole; until then it is a hidden `.part` file
 * beside, which a failed transfer removes.
 *
 * @param path Where to; an existing file is replaced.
 * @throws {SystemError} When it cannot be written. Otherwise as {@linkcode get}.
 */
export function download(
  url: string | URL,
  path: string,
  options: TransferOptions = {},
): Promise<TransferSummary> {
  return once(url, options, async (client, name, own) => {
    const { directory, file } = splitPath(path);
    const root = await openRoot(directory, { driver: own.driver ?? "auto" });
    try {
      const netascii = own.mode === "netascii";
      return await client.receive(name, () => new FileSink(root, file, netascii), own);
    } finally {
      root.close();
    }
  });
}

/**
 * Stores bytes, or what a stream yields, on a server.
 *
 * @throws {PeerError} `tftp.access-violation`, `tftp.file-exists`, `tftp.disk-full` and the like. Otherwise as
 * {@linkcode get}.
 */
export function put(
  url: string | URL,
  content: Uint8Array | SendContent,
  options: TransferOptions = {},
): Promise<TransferSummary> {
  return once(url, options, (client, name, own) => client.put(name, content, own));
}

/** Stores a file of the disk on a server. @throws {SystemError} When it cannot be read. Otherwise as {@linkcode put}. */
export function upload(
  path: string,
  url: string | URL,
  options: TransferOptions = {},
): Promise<TransferSummary> {
  return once(url, options, async (client, name, own) => {
    const { directory, file } = splitPath(path);
    const root = await openRoot(directory, { driver: own.driver ?? "auto" });
    try {
      const source = root.openRead(file, { symlinks: "follow" });
      try {
        source.advise("sequential", 0, 0);
        return await client.put(name, { source }, own);
      } finally {
        source.close();
      }
    } finally {
      root.close();
    }
  });
}

/**
 * The size of a file on a server.
 *
 * @returns Bytes, or `undefined` when the server does not tell.
 */
export function stat(
  url: string | URL,
  options: TransferOptions = {},
): Promise<number | undefined> {
  return once(url, options, (client, name, own) => client.stat(name, own));
}

async function once<T>(
  url: string | URL,
  options: TransferOptions,
  run: (client: TftpClient, name: string, options: TransferOptions) => Promise<T>,
): Promise<T> {
  const { server, name, mode } = parseTftpUrl(String(url));
  const own = mode === undefined ? options : { ...options, mode };
  const { signal: _signal, onProgress: _onProgress, ...client } = own;
  const connected = await connect(server, client);
  try {
    return await run(connected, name, own);
  } finally {
    await connected.close();
  }
}

/** A path as the folder it is in and its name there. @throws {TypeError} When it names no file. */
export function splitPath(path: string): { readonly directory: string; readonly file: string } {
  const slash = path.lastIndexOf("/");
  const file = path.slice(slash + 1);
  if (file === "" || file === "." || file === "..") {
    throw new TypeError(`Cannot use "${path}": expected the path of a file`);
  }
  return { directory: slash < 0 ? "." : slash === 0 ? "/" : path.slice(0, slash), file };
}
