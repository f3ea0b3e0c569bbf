/**
 * TFTP as values: codecs, option negotiation, netascii, and the two machines that carry a file over a bad network.
 * Nothing here opens, waits or reads a clock; bring your own sockets.
 *
 * A transfer is one {@linkcode SendMachine} against one {@linkcode ReceiveMachine}. Whoever drives them reports what
 * arrived and what time it is, carries out what they ask through the actions object, and calls `expire` at `deadline`.
 *
 * ```ts
 * import { SendMachine } from "@fastwire/net/tftp/protocol";
 * import { deepEqual } from "node:assert/strict";
 *
 * const log: string[] = [];
 * const actions = {
 *   sendOpening: () => {},
 *   sendBlocks: (first: number, count: number) => log.push(`blocks ${first}+${count}`),
 *   sendError: () => {},
 *   finish: (result: { outcome: string; bytes: number }) =>
 *     log.push(`${result.outcome}, ${result.bytes} bytes`),
 * };
 *
 * // A server that answers a read without options: 600 bytes in two blocks, one at a time.
 * const machine = new SendMachine({
 *   role: "server",
 *   opening: false,
 *   blockSize: 512,
 *   windowSize: 1,
 *   rollover: 0,
 *   sizeBytes: 600,
 * });
 * machine.start(0, actions);
 * machine.receiveAck(1, 10, actions);
 * machine.receiveAck(2, 20, actions);
 * deepEqual(log, ["blocks 1+1", "blocks 2+1", "done, 600 bytes"]);
 * ```
 *
 * RFC 1350, 1123 §4.2.3, 2347, 2348, 2349, 7440.
 *
 * @module
 */

export * from "./actions.ts";
export * from "./netascii.ts";
export * from "./negotiate.ts";
export * from "./opcodes.ts";
export {
  classify,
  decodeErrorMessage,
  encodeError,
  encodeOptionsAck,
  readBlockNumber,
  readErrorCode,
  REJECT_BAD_LENGTH,
  REJECT_BAD_OPCODE,
  REJECT_EMPTY_FILENAME,
  REJECT_FILENAME_TOO_LONG,
  REJECT_NAMES,
  REJECT_NO_ROOM,
  REJECT_TOO_LONG,
  REJECT_TOO_SHORT,
  REJECT_UNTERMINATED,
  wireBlock,
  writeAck,
  writeDataHeader,
} from "./packet.ts";
export * from "./receive_machine.ts";
export * from "./request.ts";
export { RetryTimer } from "./retry.ts";
export type { RetryOptions } from "./retry.ts";
export * from "./send_machine.ts";
