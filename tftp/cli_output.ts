/**
 * Where the command line's content comes from and goes to, beyond files: standard streams and devices.
 *
 * @module
 */
import { closeSync, createReadStream, openSync, statSync, writeSync } from "node:fs";
import { fromRuntimeError } from "../ffi/mod.ts";
import type { Terminal } from "../internal/cli/terminal.ts";
import { connect } from "./client.ts";
import type { TransferOptions, TransferSummary } from "./client_attempt.ts";
import { FunctionSink } from "./sinks.ts";
import { download, put, upload } from "./transfer.ts";
import { parseTftpUrl } from "./url.ts";

/** Standard input's descriptor. */
const STDIN = 0;

/** Fetches into a file, a device, or standard output (`-`). */
export function receiveTo(
  output: string,
  url: string,
  terminal: Terminal,
  options: TransferOptions,
): Promise<TransferSummary> {
  if (output === "-") return receiveInto(url, options, (piece) => terminal.stdout.write(piece));
  if (!isSpecial(output)) return download(url, output, options);
  return receiveIntoDevice(output, url, options);
}

/** Stores a file, or standard input (`-`). */
export function sendFrom(
  file: string,
  url: string,
  options: TransferOptions,
): Promise<TransferSummary> {
  if (file !== "-") return upload(file, url, options);
  const stream = createReadStream("", { fd: STDIN, autoClose: false });
  return put(url, { stream }, options);
}

/** A pipe or a device is written to as it is: there is no name to swap in when the transfer is whole. */
function isSpecial(path: string): boolean {
  const found = statSync(path, { throwIfNoEntry: false });
  return found !== undefined && !found.isFile() && !found.isDirectory();
}

async function receiveIntoDevice(
  path: string,
  url: string,
  options: TransferOptions,
): Promise<TransferSummary> {
  const what = `write to "${path}"`;
  let descriptor: number;
  try {
    descriptor = openSync(path, "w");
  } catch (error) {
    throw fromRuntimeError(error, "open", what);
  }
  try {
    return await receiveInto(url, options, (piece) => {
      try {
        for (let at = 0; at < piece.length;) at += writeSync(descriptor, piece, at);
      } catch (error) {
        throw fromRuntimeError(error, "write", what);
      }
    });
  } finally {
    closeSync(descriptor);
  }
}

async function receiveInto(
  url: string,
  options: TransferOptions,
  write: (piece: Uint8Array) => void,
): Promise<TransferSummary> {
  const { server, name, mode } = parseTftpUrl(url);
  const { signal: _signal, onProgress: _onProgress, ...client } = options;
  const own = mode === undefined ? options : { ...options, mode };
  const connected = await connect(server, { ...client, mode: own.mode });
  try {
    const open = (): FunctionSink =>
      new FunctionSink((piece) => {
        if (piece !== undefined) write(piece);
      }, own.mode === "netascii");
    return await connected.receive(name, open, own);
  } finally {
    await connected.close();
  }
}
