/**
 * A request that is refused: what the peer is told, and how failures of the system become that.
 *
 * @module
 */
import { FastwireError, SystemError } from "../internal/errors.ts";
import {
  ERROR_ACCESS_VIOLATION,
  ERROR_DISK_FULL,
  ERROR_FILE_EXISTS,
  ERROR_NOT_DEFINED,
  ERROR_NOT_FOUND,
} from "./protocol/opcodes.ts";

/**
 * A refusal, as stores and handlers throw it. Its message goes to the peer as it is: it must not name paths of this
 * machine.
 */
export class TftpRefusal extends FastwireError {
  /** The code of the ERROR packet, 0 to 8. */
  readonly tftpCode: number;

  /**
   * A refusal with its code and text.
   *
   * @param tftpCode The code of the ERROR packet.
   * @param message The text of the ERROR packet.
   * @param options `cause`: what lies behind it, for the log only.
   */
  constructor(tftpCode: number, message: string, options?: { readonly cause?: unknown }) {
    super("tftp.refused", message, options);
    this.tftpCode = tftpCode;
  }
}

/**
 * What a peer is told about a failure: a refusal as it is, an error of the system by its number, anything else as an
 * internal error. The original is the cause.
 */
export function refusalOf(error: unknown): TftpRefusal {
  if (error instanceof TftpRefusal) return error;
  const [code, text] = (error instanceof SystemError ? TOLD[error.errnoName] : undefined) ??
    INTERNAL;
  return new TftpRefusal(code, text, { cause: error });
}

/** No such file, or none that may be known of. */
export function notFound(): TftpRefusal {
  return new TftpRefusal(...NOT_FOUND);
}

/** Not allowed. */
export function accessViolation(): TftpRefusal {
  return new TftpRefusal(...DENIED);
}

/** No room, or more than is allowed. */
export function diskFull(text: string = FULL[1]): TftpRefusal {
  return new TftpRefusal(ERROR_DISK_FULL, text);
}

/** The name is taken. */
export function fileExists(text: string = EXISTS[1]): TftpRefusal {
  return new TftpRefusal(ERROR_FILE_EXISTS, text);
}

type Told = readonly [code: number, text: string];

const NOT_FOUND: Told = [ERROR_NOT_FOUND, "File not found"];
const DENIED: Told = [ERROR_ACCESS_VIOLATION, "Access violation"];
const FULL: Told = [ERROR_DISK_FULL, "Disk full or allocation exceeded"];
const EXISTS: Told = [ERROR_FILE_EXISTS, "File already exists"];
const BUSY: Told = [ERROR_NOT_DEFINED, "server busy"];
const INTERNAL: Told = [ERROR_NOT_DEFINED, "internal error"];

const TOLD: Readonly<Record<string, Told>> = {
  ENOENT: NOT_FOUND,
  ENOTDIR: NOT_FOUND,
  EACCES: DENIED,
  EPERM: DENIED,
  ELOOP: DENIED,
  EXDEV: DENIED,
  EISDIR: DENIED,
  EROFS: DENIED,
  ENAMETOOLONG: DENIED,
  ENOSPC: FULL,
  EDQUOT: FULL,
  EFBIG: FULL,
  EEXIST: EXISTS,
  EMFILE: BUSY,
  ENFILE: BUSY,
  EAGAIN: BUSY,
};
