/**
 * Who may test and how much: the contract between a server and whatever keeps its users. `accounts_memory.ts` keeps them
 * in memory; other stores answer the same calls.
 *
 * The server asks in this order: the secret of whoever logs in, `checkStart()` once the command and the user are known,
 * `begin()` when data is about to flow, then `reserve()` ahead of the data, `interval()` each second, and `end()`
 * exactly once, whichever way the test ends. Nothing is asked per packet.
 *
 * @module
 */
import type { SessionInfo, TestInterval, TestResult } from "./api_types.ts";
import type { Direction, TestProtocol, Verifier } from "./protocol/mod.ts";

/** A store of accounts. */
export interface Accounts {
  /**
   * 32 random bytes from which users that do not exist get the salt they are shown. A store that outlives the process
   * keeps them: a salt that changes between two logins tells that there is no such user.
   */
  readonly decoySecret: Uint8Array;
  /**
   * What is kept of a user's password for EC-SRP5.
   *
   * @param user As the peer sent it: up to 221 bytes of UTF-8, anything in it.
   * @returns `undefined` when there is no such user, or none who may enter. A rejection counts as that, and is logged.
   */
  verifier(user: string): Promise<Verifier | undefined>;
  /**
   * The password itself, which MD5 needs.
   *
   * @param user As the peer sent it: up to 32 bytes of UTF-8, anything in it.
   * @returns UTF-8; `undefined` when there is no such user, none who may enter, or none whose password is kept.
   */
  md5Password(user: string): Promise<Uint8Array | undefined>;
  /** Whether a test may begin. A rejection counts as a refusal: a store in trouble lets nobody test without bounds. */
  checkStart(request: StartRequest): Promise<StartDecision>;
  /** A test that was allowed begins. Synchronous: data is about to flow. */
  begin(session: SessionInfo): AccountSession;
}

/** A test that somebody wants to begin. */
export interface StartRequest {
  /** Who logged in; empty without authentication. */
  readonly user: string;
  /** The peer's address, unmapped, without a port. */
  readonly address: string;
  /** What is to carry the data. */
  readonly protocol: TestProtocol;
  /** Which way, seen from the client. */
  readonly direction: Direction;
}

/** Whether a test may begin. */
export type StartDecision =
  | {
    /** It may. */
    readonly allowed: true;
    /** Most the server may send in it, bit/s; 0 is unlimited. The lower of this and the client's own cap counts. */
    readonly maxTxBps: number;
  }
  | StartRefusal;

/** Why a test may not begin; for logs and events. The client sees the same refusal whatever stands here. */
export interface StartRefusal {
  /** It may not. */
  readonly allowed: false;
  /** Stable name. */
  readonly code: "btest.quota" | "btest.not-allowed";
  /** Whose bytes are used up; `undefined` for other reasons. */
  readonly scope: "user" | "address" | undefined;
  /** In which span of time; `undefined` for other reasons. */
  readonly window: "day" | "week" | "month" | "ever" | undefined;
  /** Bytes moved in it, and the bound; 0 for other reasons. */
  readonly usedBytes: number;
  /** Bytes that may be moved in it; 0 for other reasons. */
  readonly limitBytes: number;
}

/** Which way bytes move, seen from the server: inbound is what it receives. */
export type Way = "inbound" | "outbound";

/** A running test as its account sees it. */
export interface AccountSession {
  /** No bound applies: {@linkcode AccountSession.reserve} need not be called. */
  readonly unlimited: boolean;
  /**
   * Takes bytes out of what the account has left, before they are moved. Tests of one account share what is left, so
   * together they never pass the bound. Synchronous, never throws; meant for every 16 MiB or so, not for every packet.
   *
   * @param bytes Wanted, above 0.
   * @returns How many may be moved, up to `bytes`; 0 when the bound is reached: end the test with the reason `quota`.
   */
  reserve(way: Way, bytes: number): number;
  /** Gives back what was reserved and not moved. */
  giveBack(way: Way, bytes: number): void;
  /** A second is over. Must return at once; what it stores is stored later. */
  interval(interval: TestInterval): void;
  /**
   * The test is over; everything reserved and not moved was given back. Called once.
   *
   * @returns When the figures are stored. A rejection is logged.
   */
  end(result: TestResult): Promise<void>;
}
