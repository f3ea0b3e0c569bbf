/**
 * What a client's caller is told when a transfer fails.
 *
 * @module
 */
import { DeadlineError, type FastwireError, PeerError, ProtocolError } from "../internal/errors.ts";
import type { TransferOutcome, TransferResult } from "./protocol/mod.ts";

/** Words of the ERROR that an aborted transfer sends. */
export const abortedMessage = "aborted";

/** Every error code of the TFTP client. */
export type TftpErrorCode =
  | "tftp.not-defined"
  | "tftp.file-not-found"
  | "tftp.access-violation"
  | "tftp.disk-full"
  | "tftp.illegal-operation"
  | "tftp.unknown-transfer"
  | "tftp.file-exists"
  | "tftp.no-such-user"
  | "tftp.options-refused"
  | "tftp.unknown-error"
  | "tftp.no-answer"
  | "tftp.unexpected-answer"
  | "tftp.size-mismatch";

/** Codes of ERROR packets, by their number (RFC 1350 appendix, RFC 2347). */
const PEER_CODES: readonly TftpErrorCode[] = [
  "tftp.not-defined",
  "tftp.file-not-found",
  "tftp.access-violation",
  "tftp.disk-full",
  "tftp.illegal-operation",
  "tftp.unknown-transfer",
  "tftp.file-exists",
  "tftp.no-such-user",
  "tftp.options-refused",
];

const PEER_WORDS: readonly string[] = [
  "the server reports an error",
  "the file was not found",
  "access is not allowed",
  "the disk is full",
  "the operation is not supported",
  "the transfer is not known",
  "the file exists already",
  "the user is not known",
  "the options were refused",
];

/** A failed attempt: what to tell the caller, and what decides whether another attempt makes sense. */
export class TransferError extends Error {
  readonly error: FastwireError;
  readonly outcome: TransferOutcome;
  readonly bytes: number;
  readonly optionsAgreed: boolean;

  constructor(
    error: FastwireError,
    outcome: TransferOutcome,
    bytes: number,
    optionsAgreed: boolean,
  ) {
    super(error.message);
    this.error = error;
    this.outcome = outcome;
    this.bytes = bytes;
    this.optionsAgreed = optionsAgreed;
  }
}

/** Whether an error is the peer's ERROR packet with one of these numbers. */
export function isPeerError(error: unknown, codes: readonly number[]): boolean {
  return error instanceof PeerError && codes.includes(error.peerCode);
}

/**
 * The error of a transfer that did not end well.
 *
 * @param what The job in words: `get "file" from 192.0.2.1:69`.
 */
export function transferError(
  result: TransferResult,
  what: string,
  elapsedMs: number,
): FastwireError {
  const cannot = `Cannot ${what}`;
  switch (result.outcome) {
    case "peer-error":
    case "size-probe": {
      const peerCode = result.errorCode ?? 0;
      const peerMessage = result.message ?? "";
      const words = PEER_WORDS[peerCode] ?? `the server reports error ${peerCode}`;
      const quoted = peerMessage === "" ? "" : ` ("${peerMessage}")`;
      return new PeerError(
        PEER_CODES[peerCode] ?? "tftp.unknown-error",
        `${cannot}: ${words}${quoted}`,
        { peerCode, peerMessage },
      );
    }
    case "no-answer": {
      const phase = result.blocks === 0 ? "first answer" : "data";
      const refused = result.message === "refused" ? ", its port is closed" : "";
      return new DeadlineError(
        "tftp.no-answer",
        `${cannot}: no answer after ${
          Math.round(elapsedMs)
        } ms and ${result.timeouts} timeouts${refused}`,
        { phase, elapsedMs, attempts: result.timeouts + 1 },
      );
    }
    default:
      return new ProtocolError(
        "tftp.unexpected-answer",
        `${cannot}: ${result.message ?? "the server broke the protocol"}`,
        { rule: "RFC 1350 §5" },
      );
  }
}
