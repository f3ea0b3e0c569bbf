/**
 * Outcomes of a handshake that came to nothing, as the exceptions a caller catches.
 *
 * @module
 */
import {
  AuthError,
  DeadlineError,
  type FastwireError,
  formatAddress,
  PeerError,
  ProtocolError,
  type SocketAddress,
} from "../ffi/mod.ts";
import type { ClientResult } from "./protocol/mod.ts";

/** Codes of the errors that a client throws, besides those of the system. */
export type BtestErrorCode =
  | "btest.refused"
  | "btest.unsupported"
  | "btest.auth-required"
  | "btest.auth-failed"
  | "btest.server-proof"
  | "btest.protocol"
  | "btest.no-answer"
  | "btest.peer-closed"
  | "btest.stopped";

/** The exception for a test that never began. */
export function clientError(
  { outcome, phase }: ClientResult,
  remote: SocketAddress,
  elapsedMs: number,
): FastwireError {
  const what = `Cannot test with ${formatAddress(remote)}`;
  const code = (name: string): BtestErrorCode => `btest.${name}` as BtestErrorCode;
  switch (outcome) {
    case "auth-required":
      return new AuthError(code(outcome), `${what}: it asks for a login, and no user is given`);
    case "auth-failed":
      return new AuthError(code(outcome), `${what}: it does not accept the user or the password`);
    case "server-proof":
      return new AuthError(
        code(outcome),
        `${what}: it does not know the password that it asks for, which an impostor would not`,
      );
    case "protocol-error":
      return new ProtocolError(
        code("protocol"),
        `${what}: what it says in phase "${phase}" is not the bandwidth test's protocol`,
        { rule: phase },
      );
    case "no-answer":
      return new DeadlineError(
        code(outcome),
        `${what}: no answer in phase "${phase}" after ${Math.round(elapsedMs)} ms`,
        { phase, elapsedMs, attempts: 1 },
      );
    case "unsupported":
      return peerError(code(outcome), `${what}: it takes one connection only`);
    case "refused":
      return peerError(code(outcome), `${what}: it refuses`);
    case "stopped":
      return peerError(code(outcome), `${what}: it was stopped before data flowed`);
    default:
      return peerError(code("peer-closed"), `${what}: it closed the connection in "${phase}"`);
  }
}

function peerError(code: BtestErrorCode, message: string): FastwireError {
  return new PeerError(code, message, { peerCode: 0, peerMessage: "" });
}
