/**
 * Content that no file holds: what a program may answer to a request.
 *
 * @module
 */
import type { SocketAddress } from "../ffi/mod.ts";

/** A request as a handler sees it. */
export interface RequestInfo {
  /** What is asked for. */
  readonly operation: "read" | "write";
  /** The requested name, as text; bytes that are not UTF-8 are shown as escapes. */
  readonly filename: string;
  /** The transfer mode. */
  readonly mode: "octet" | "netascii";
  /** The options the client asked for: lower-case name to value. */
  readonly options: Readonly<Record<string, string>>;
  /** Who asks. IPv4 addresses are shown as such on dual-stack sockets. */
  readonly remote: SocketAddress;
  /** The address that was asked, when the socket knows it. */
  readonly local: SocketAddress | undefined;
  /** Aborted when the handler took too long or the server closes. */
  readonly signal: AbortSignal;
}

/**
 * What a read is answered with: text (UTF-8) or bytes; a stream, with its size when known; another file of the root;
 * or `undefined` for the file that was asked for.
 */
export type ReadAnswer =
  | string
  | Uint8Array
  | {
    readonly stream: AsyncIterable<Uint8Array>;
    /** Bytes in all: lets the client know the size beforehand. A stream that differs fails the transfer. */
    readonly size?: number;
  }
  | { readonly file: string }
  | undefined;

/**
 * Where a write goes: a function that is given the content piece by piece (the last call has no bytes), another file
 * of the root, or `undefined` for the file that was asked for. Pieces are the callee's to keep.
 */
export type WriteAnswer =
  | ((piece: Uint8Array | undefined) => void | Promise<void>)
  | { readonly file: string }
  | undefined;

/** Answers a read request; throw a `TftpRefusal` to refuse it. */
export type ReadHandler = (request: RequestInfo) => ReadAnswer | Promise<ReadAnswer>;
/** Answers a write request; throw a `TftpRefusal` to refuse it. */
export type WriteHandler = (request: RequestInfo) => WriteAnswer | Promise<WriteAnswer>;

/** The handlers of a server. */
export interface Handlers {
  /** Answers read requests. */
  readonly onRead?: ReadHandler | undefined;
  /** Answers write requests. */
  readonly onWrite?: WriteHandler | undefined;
}
