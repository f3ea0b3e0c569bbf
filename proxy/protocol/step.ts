/**
 * What a handshake answers to bytes, and the words for why a destination was not reached.
 *
 * Whoever drives a handshake keeps what arrived in one buffer and calls the machine with all of it, again and again:
 *
 * - `need`: nothing more to do before `need` bytes are there. Drop `consumed`, read more, call again.
 * - `write`: drop `consumed`, send `bytes`, call again with what is left, even if that is nothing.
 * - `done`: drop `consumed`; what is left belongs to whatever comes next, and no byte of it was looked at.
 * - `refused`: send `bytes` if there are any, and close.
 *
 * A machine keeps no reference to the buffer and takes whole messages only, so it does not matter how the bytes were cut.
 *
 * @module
 */

/** One answer of a handshake machine; `Outcome` is what it was for, `Reason` why it can fail. */
export type Step<Outcome, Reason extends string> =
  | NeedStep
  | WriteStep
  | DoneStep<Outcome>
  | RefusedStep<Reason>;

/** More bytes are needed. */
export interface NeedStep {
  /** Which answer this is. */
  readonly kind: "need";
  /** Bytes from `start` on that are done with. */
  readonly consumed: number;
  /** How many bytes there must be behind the consumed ones; a lower bound. */
  readonly need: number;
}

/** Something has to be sent, then the machine wants to be called again. */
export interface WriteStep {
  /** Which answer this is. */
  readonly kind: "write";
  /** Bytes from `start` on that are done with. */
  readonly consumed: number;
  /** What to send; the caller's to keep. */
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** The machine has ended well. */
export interface DoneStep<Outcome> {
  /** Which answer this is. */
  readonly kind: "done";
  /** Bytes from `start` on that are done with. */
  readonly consumed: number;
  /** What was agreed on. */
  readonly outcome: Outcome;
}

/** The machine has ended badly. */
export interface RefusedStep<Reason extends string> {
  /** Which answer this is. */
  readonly kind: "refused";
  /** Bytes from `start` on that are done with. */
  readonly consumed: number;
  /** What to send before closing; may be empty. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Why, for logs and counters. */
  readonly reason: Reason;
  /** The peer's own number for it: a SOCKS reply code, an HTTP status; 0 when there is none. */
  readonly code: number;
  /** The peer's own words, control characters taken out, at most 200 characters; `""` when there are none. */
  readonly text: string;
}

/** Why a destination could not be reached, in the words that every protocol's answer is made from. */
export type DialFailure =
  | "general"
  | "rule"
  | "network-unreachable"
  | "host-unreachable"
  | "name"
  | "refused"
  | "timed-out";

/**
 * The failure behind an error number's name, as `SystemError.errnoName` has it. Failed look-ups of names are no error
 * numbers: say `"name"` for them.
 */
export function dialFailureOf(errnoName: string): DialFailure {
  switch (errnoName) {
    case "ECONNREFUSED":
      return "refused";
    case "ENETUNREACH":
    case "ENETDOWN":
      return "network-unreachable";
    case "EHOSTUNREACH":
    case "EHOSTDOWN":
      return "host-unreachable";
    case "ETIMEDOUT":
      return "timed-out";
    default:
      return "general";
  }
}

/** The answer that more bytes are needed. */
export function needStep(consumed: number, need: number): NeedStep {
  return { kind: "need", consumed, need };
}

/** The answer that something is to be sent. */
export function writeStep(consumed: number, bytes: Uint8Array<ArrayBuffer>): WriteStep {
  return { kind: "write", consumed, bytes };
}

/** The answer that all is agreed. */
export function doneStep<Outcome>(consumed: number, outcome: Outcome): DoneStep<Outcome> {
  return { kind: "done", consumed, outcome };
}

/** The answer that it is over. */
export function refusedStep<Reason extends string>(
  consumed: number,
  reason: Reason,
  bytes: Uint8Array<ArrayBuffer>,
  code = 0,
  text = "",
): RefusedStep<Reason> {
  return { kind: "refused", consumed, bytes, reason, code, text };
}
