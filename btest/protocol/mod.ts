/**
 * The MikroTik bandwidth test as values: messages, authentication, the two machines, and what counts and paces the data
 * between them. Nothing here opens, waits or reads a clock; bring your own sockets and your own randomness.
 *
 * A test is one {@linkcode ClientMachine} against one {@linkcode ServerMachine}. Whoever drives them reports what
 * arrived and what time it is, carries out what they ask through the actions object, and calls `expire` at `deadline`.
 *
 * ```ts
 * import { ClientMachine } from "@fastwire/net/btest/protocol";
 * import { deepEqual, equal } from "node:assert/strict";
 *
 * const log: string[] = [];
 * const actions = {
 *   write: (bytes: Uint8Array) => log.push(`${bytes.length} bytes`),
 *   join: () => {},
 *   dataPort: () => {},
 *   run: (connections: number) => log.push(`run over ${connections}`),
 *   probe: () => {},
 *   second: () => {},
 *   status: () => {},
 *   finish: ({ outcome }: { outcome: string }) => log.push(outcome),
 * };
 * const machine = new ClientMachine({
 *   command: {
 *     protocol: "tcp",
 *     direction: "receive",
 *     randomData: false,
 *     connections: 1,
 *     txSize: 32768,
 *     clientBufferSize: 0,
 *     remoteTxSpeed: 0,
 *     localTxSpeed: 0,
 *   },
 *   secret: new Uint8Array(32),
 *   durationMs: 5000,
 * });
 * machine.start(0, actions);
 * // The hello; then the accepted word and five bytes of data, which are not the machine's.
 * machine.receive(Uint8Array.of(1, 0, 0, 0), 0, 4, 1, actions);
 * equal(machine.receive(Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0, 0), 0, 9, 2, actions), 4);
 * machine.expire(5002, actions);
 * deepEqual(log, ["16 bytes", "run over 1", "duration"]);
 * ```
 *
 * @module
 */

export {
  type AuthOutcome,
  type AuthStep,
  createVerifier,
  Decoy,
  EcSrp5Client,
  EcSrp5Server,
  hashPassword,
  MAX_USER_BYTES,
  SALT_BYTES,
  SECRET_BYTES,
  type Verifier,
} from "./auth_ecsrp5.ts";
export * from "./auth_md5.ts";
export * from "./client_machine.ts";
export * from "./command.ts";
export * from "./pending_sessions.ts";
export * from "./rate.ts";
export { type RunningActions } from "./running.ts";
export * from "./server_machine.ts";
export * from "./status_scan.ts";
export * from "./udp_header.ts";
