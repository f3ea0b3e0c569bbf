/**
 * Options: what a server answers to a request, and what a client may accept. RFC 2347, 2348, 2349, 7440, and the
 * unwritten `blksize2`, `utimeout` and `rollover`.
 *
 * @module
 */

import {
  DEFAULT_BLOCK_BYTES,
  MAX_AGREED_WINDOW_BLOCKS,
  MAX_BLOCK_BYTES,
  MAX_WINDOW_BLOCKS,
  MIN_BLOCK_BYTES,
} from "./opcodes.ts";
import type { OptionPair } from "./request.ts";

/** The server's bounds. They only ever shrink what a client asked for; nothing is used that was not asked. */
export interface NegotiationPolicy {
  /** Largest block size, bytes, 8 to 65464. */
  readonly maxBlockSize: number;
  /** Keep a block in one packet of the path, when its MTU is known. */
  readonly clampToMtu: boolean;
  /** Largest window, blocks, at least 1. Never more than 32768 is agreed to. */
  readonly maxWindowSize: number;
  /** Largest window, bytes of payload; a window of one block is always allowed. */
  readonly maxWindowBytes: number;
  /** Options that are left out of the answer, by their lower-case names: some firmware asks and then crashes. */
  readonly refuseOptions: readonly string[];
}

/** What the answer depends on besides the request's options. */
export interface NegotiationContext {
  /** What the client asked for. */
  readonly operation: "read" | "write";
  /** How the file travels. */
  readonly mode: "octet" | "netascii";
  /** Size of the file on the wire, bytes, when it is known: with `netascii` the encoded size or nothing. */
  readonly sizeBytes: number | undefined;
  /** Largest IP packet of the path, bytes, when it is known. */
  readonly pathMtu?: number | undefined;
  /** Whether the path is IPv6, whose header is 20 bytes longer. */
  readonly ipv6: boolean;
}

/** What both sides use from now on. */
export interface Negotiated {
  /** The options acknowledgement, in the order of the request; when empty none is sent. */
  readonly accepted: readonly OptionPair[];
  /** Bytes of payload in every block but the last. */
  readonly blockSize: number;
  /** Blocks in a window, 1 to 32768. */
  readonly windowSize: number;
  /** Retransmission interval both sides promised, milliseconds; adaptive when undefined. */
  readonly timeoutMs: number | undefined;
  /** What follows block number 65535. */
  readonly rollover: 0 | 1;
  /** The peer's word for the size, bytes: of the client's file with a write, of the server's with a read. */
  readonly transferSize: number | undefined;
}

/** What a client may ask for. A value that is the default of RFC 1350 is not sent. */
export interface WantedOptions {
  /** Bytes, 8 to 65464. Default 512. */
  readonly blockSize?: number | undefined;
  /** Blocks, 1 to 32768. Default 1. */
  readonly windowSize?: number | undefined;
  /** Milliseconds: whole seconds from 1 to 255 become `timeout`, anything from 10 to 255,000 `utimeout`. */
  readonly timeoutMs?: number | undefined;
  /** `tsize`: 0 to ask for the size of a read, the size in bytes to announce a write. */
  readonly transferSize?: number | undefined;
  /** Asks for what follows block 65535. */
  readonly rollover?: 0 | 1 | undefined;
}

/** What holds when no option was agreed on. RFC 1350 §2. */
export const NO_OPTIONS: Negotiated = Object.freeze({
  accepted: Object.freeze([]),
  blockSize: DEFAULT_BLOCK_BYTES,
  windowSize: 1,
  timeoutMs: undefined,
  rollover: 0,
  transferSize: undefined,
});

/**
 * Answers a request's options.
 *
 * A value that is not a plain decimal number within the option's range is left out of the answer, as are unknown
 * names. An option acknowledgement is due exactly when `accepted` is not empty.
 *
 * @param requested The pairs of the request, names in lower case.
 *
 * @example
 * ```ts
 * import { negotiate } from "@fastwire/net/tftp/protocol";
 * import { deepEqual } from "node:assert/strict";
 *
 * const answer = negotiate(
 *   [["tsize", "0"], ["blksize", "65464"]],
 *   {
 *     maxBlockSize: 65464,
 *     clampToMtu: true,
 *     maxWindowSize: 1024,
 *     maxWindowBytes: 4 << 20,
 *     refuseOptions: [],
 *   },
 *   { operation: "read", mode: "octet", sizeBytes: 119, pathMtu: 1500, ipv6: false },
 * );
 * deepEqual(answer.accepted, [["tsize", "119"], ["blksize", "1468"]]);
 * ```
 */
export function negotiate(
  requested: readonly OptionPair[],
  policy: NegotiationPolicy,
  context: NegotiationContext,
): Negotiated {
  const asked = new Map<string, string>();
  for (const [name, value] of requested) {
    if (!asked.has(name) && !policy.refuseOptions.includes(name)) asked.set(name, value);
  }
  const answers = new Map<string, number>();

  const cap = blockCap(policy, context);
  const blksize = numberOf(asked.get("blksize"));
  const blksize2 = numberOf(asked.get("blksize2"));
  let blockSize = DEFAULT_BLOCK_BYTES;
  if (blksize >= MIN_BLOCK_BYTES) {
    blockSize = Math.min(blksize, cap);
    answers.set("blksize", blockSize);
  } else if (blksize2 >= MIN_BLOCK_BYTES) {
    // `blksize2` comes from hosts that want powers of two; 32768 is the largest that fits.
    blockSize = powerOfTwoWithin(Math.min(blksize2, cap, 32768));
    answers.set("blksize2", blockSize);
  }

  const timeout = numberOf(asked.get("timeout"));
  const utimeout = numberOf(asked.get("utimeout"));
  let timeoutMs: number | undefined;
  if (utimeout >= 10_000 && utimeout <= 255_000_000) {
    timeoutMs = utimeout / 1000;
    answers.set("utimeout", utimeout);
  } else if (timeout >= 1 && timeout <= 255) {
    timeoutMs = timeout * 1000;
    answers.set("timeout", timeout);
  }

  const tsize = numberOf(asked.get("tsize"), 20);
  let transferSize: number | undefined;
  if (tsize >= 0) {
    if (context.operation === "write") {
      transferSize = tsize;
      answers.set("tsize", tsize);
    } else if (context.sizeBytes !== undefined) {
      answers.set("tsize", context.sizeBytes);
    }
  }

  const windowsize = numberOf(asked.get("windowsize"));
  let windowSize = 1;
  if (windowsize >= 1 && windowsize <= MAX_WINDOW_BLOCKS) {
    windowSize = Math.max(
      1,
      Math.min(
        windowsize,
        policy.maxWindowSize,
        Math.floor(policy.maxWindowBytes / blockSize),
        MAX_AGREED_WINDOW_BLOCKS,
      ),
    );
    answers.set("windowsize", windowSize);
  }

  const rolled = asked.get("rollover");
  const rollover = rolled === "1" ? 1 : 0;
  if (rolled === "0" || rolled === "1") answers.set("rollover", rollover);

  const accepted: OptionPair[] = [];
  for (const name of asked.keys()) {
    const answer = answers.get(name);
    // BigInt-free: sizes stay below 2⁵³, so the text never has an exponent.
    if (answer !== undefined) accepted.push(Object.freeze([name, String(answer)] as const));
  }
  return Object.freeze({
    accepted: Object.freeze(accepted),
    blockSize,
    windowSize,
    timeoutMs,
    rollover,
    transferSize,
  });
}

/**
 * The options a client sends to get what it wants, in the order the firmware of this world sends them.
 *
 * @throws {RangeError} When a value is outside its range.
 *
 * @example
 * ```ts
 * import { requestOptions } from "@fastwire/net/tftp/protocol";
 * import { deepEqual } from "node:assert/strict";
 *
 * deepEqual(requestOptions({ blockSize: 1428, windowSize: 1, transferSize: 0 }), [
 *   ["tsize", "0"],
 *   ["blksize", "1428"],
 * ]);
 * ```
 */
export function requestOptions(wanted: WantedOptions): readonly OptionPair[] {
  const pairs: OptionPair[] = [];
  const { blockSize, windowSize, timeoutMs, transferSize, rollover } = wanted;
  if (transferSize !== undefined) {
    checkRange("a transfer size", transferSize, 0, Number.MAX_SAFE_INTEGER, "bytes");
    pairs.push(["tsize", String(transferSize)]);
  }
  if (blockSize !== undefined) {
    checkRange("a block size", blockSize, MIN_BLOCK_BYTES, MAX_BLOCK_BYTES, "bytes");
    if (blockSize !== DEFAULT_BLOCK_BYTES) pairs.push(["blksize", String(blockSize)]);
  }
  if (timeoutMs !== undefined) {
    if (!(timeoutMs >= 10 && timeoutMs <= 255_000)) {
      throw new RangeError(
        `Cannot ask for a timeout of ${timeoutMs} ms: expected 10 to 255000 ms`,
      );
    }
    if (timeoutMs % 1000 === 0) pairs.push(["timeout", String(timeoutMs / 1000)]);
    else pairs.push(["utimeout", String(Math.round(timeoutMs * 1000))]);
  }
  if (windowSize !== undefined) {
    checkRange("a window", windowSize, 1, MAX_AGREED_WINDOW_BLOCKS, "blocks");
    if (windowSize !== 1) pairs.push(["windowsize", String(windowSize)]);
  }
  if (rollover !== undefined) pairs.push(["rollover", String(rollover)]);
  return pairs;
}

/**
 * Checks a server's options acknowledgement against the request.
 *
 * @param requested What was asked for, as {@linkcode requestOptions} answered it.
 * @param answered What {@linkcode decodeOptionsAck} read.
 * @param options `lenient`: names that were not asked for are ignored instead of refused.
 * @returns What holds now, or why it is to be refused with ERROR 8.
 *
 * @example
 * ```ts
 * import { verifyOptionsAck } from "@fastwire/net/tftp/protocol";
 * import { deepEqual } from "node:assert/strict";
 *
 * deepEqual(verifyOptionsAck([["blksize", "512"]], [["blksize", "1024"]], { lenient: true }), {
 *   refused: 'option "blksize" answered "1024", expected 8 to 512',
 * });
 * ```
 */
export function verifyOptionsAck(
  requested: readonly OptionPair[],
  answered: readonly OptionPair[],
  options: { readonly lenient: boolean },
): Negotiated | { readonly refused: string } {
  let blockSize = DEFAULT_BLOCK_BYTES;
  let windowSize = 1;
  let timeoutMs: number | undefined;
  let rollover: 0 | 1 = 0;
  let transferSize: number | undefined;
  const accepted: OptionPair[] = [];
  for (const [name, value] of answered) {
    if (accepted.some((pair) => pair[0] === name)) continue;
    const asked = requested.find((pair) => pair[0] === name)?.[1];
    if (asked === undefined) {
      if (options.lenient) continue;
      return { refused: `option "${name}" was not asked for` };
    }
    const number = numberOf(value, name === "tsize" ? 20 : 10);
    const limit = Number(asked);
    switch (name) {
      case "blksize":
      case "blksize2":
        if (!(number >= MIN_BLOCK_BYTES && number <= limit)) {
          return refusal(name, value, `${MIN_BLOCK_BYTES} to ${asked}`);
        }
        blockSize = number;
        break;
      case "windowsize":
        if (!(number >= 1 && number <= limit)) return refusal(name, value, `1 to ${asked}`);
        windowSize = number;
        break;
      case "timeout":
      case "utimeout":
        if (number !== limit) return refusal(name, value, asked);
        timeoutMs = name === "timeout" ? number * 1000 : number / 1000;
        break;
      case "rollover":
        if (value !== asked) return refusal(name, value, asked);
        rollover = value === "1" ? 1 : 0;
        break;
      case "tsize":
        if (number >= 0) transferSize = number;
        else if (!options.lenient) return refusal(name, value, "a number of bytes");
        break;
      default:
        break;
    }
    accepted.push([name, value]);
  }
  return { accepted, blockSize, windowSize, timeoutMs, rollover, transferSize };
}

function refusal(name: string, value: string, expected: string): { readonly refused: string } {
  return { refused: `option "${name}" answered "${value.slice(0, 24)}", expected ${expected}` };
}

/** A plain decimal number: no sign, no space, at most `digits` digits, exact. NaN otherwise. */
function numberOf(text: string | undefined, digits = 10): number {
  if (text === undefined || text.length > digits || !/^[0-9]+$/.test(text)) return NaN;
  const number = Number(text);
  // Twenty digits of `tsize` may name more bytes than a number holds exactly; nobody has such a file.
  return Number.isSafeInteger(number) ? number : NaN;
}

function blockCap(policy: NegotiationPolicy, context: NegotiationContext): number {
  let cap = Math.min(policy.maxBlockSize, MAX_BLOCK_BYTES);
  if (policy.clampToMtu && context.pathMtu !== undefined) {
    // IP header, UDP header (8), TFTP header (4): a block in fragments is lost when any of them is.
    cap = Math.min(cap, context.pathMtu - (context.ipv6 ? 52 : 32));
  }
  return Math.max(cap, MIN_BLOCK_BYTES);
}

function powerOfTwoWithin(limit: number): number {
  return 2 ** Math.floor(Math.log2(limit));
}

function checkRange(what: string, value: number, least: number, most: number, unit: string): void {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new RangeError(
      `Cannot ask for ${what} of ${value} ${unit}: expected an integer from ${least} to ${most}`,
    );
  }
}
