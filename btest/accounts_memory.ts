/**
 * Accounts in memory: for one server, for as long as the process runs.
 *
 * @module
 */
import { integerIn } from "../internal/check.ts";
import { type Random, secureRandom } from "../internal/random.ts";
import type { Accounts, AccountSession, StartDecision, StartRequest, Way } from "./accounts.ts";
import type { SessionInfo, TestResult } from "./api_types.ts";
import {
  createVerifier,
  MD5_USER_BYTES,
  SALT_BYTES,
  SECRET_BYTES,
  type Verifier,
} from "./protocol/mod.ts";

/** What a user may do. */
export interface MemoryUserOptions {
  /** Keep the password itself, as MD5 needs it. Default false: only the verifier of EC-SRP5 is kept. */
  readonly md5?: boolean | undefined;
  /** May log in. Default true. */
  readonly enabled?: boolean | undefined;
  /** Bytes the user may move in all tests together, both ways; 0 is unlimited. 0 to 2^53 − 1, default 0. */
  readonly limitBytes?: number | undefined;
  /** Most the server sends in one test of the user, bit/s; 0 is unlimited. 0 to 2^53 − 1, default 0. */
  readonly maxTxBps?: number | undefined;
}

/** What a user has moved. */
export interface MemoryUsage {
  /** Tests that ended. */
  readonly tests: number;
  /** Bytes the server received in them. */
  readonly inboundBytes: number;
  /** Bytes the server sent in them. */
  readonly outboundBytes: number;
}

interface User {
  readonly verifier: Verifier;
  readonly password: Uint8Array | undefined;
  readonly enabled: boolean;
  readonly limitBytes: number;
  readonly maxTxBps: number;
  readonly spent: Spent;
}

/** Kept when a password changes: a new one is no new allowance. */
interface Spent {
  tests: number;
  inboundBytes: number;
  outboundBytes: number;
  /** Reserved by running tests, moved or not, and moved by ended ones. */
  takenBytes: number;
}

/**
 * Users by name, each with a verifier made once, when the password is set.
 *
 * @example
 * ```ts
 * import { MemoryAccounts } from "@fastwire/net/btest";
 * import { equal } from "node:assert/strict";
 *
 * const accounts = new MemoryAccounts();
 * accounts.set("admin", "secret");
 * equal((await accounts.verifier("admin"))?.salt.length, 16);
 * equal(await accounts.verifier("nobody"), undefined);
 * ```
 */
export class MemoryAccounts implements Accounts {
  /** See {@linkcode Accounts.decoySecret}; made anew with the object. */
  readonly decoySecret: Uint8Array;
  readonly #random: Random;
  readonly #users = new Map<string, User>();

  /**
   * Begins without users.
   *
   * @param random Where salts and the decoy's secret come from; the platform's cryptographic source by default.
   */
  constructor(random: Random = secureRandom) {
    this.#random = random;
    this.decoySecret = random.bytes(SECRET_BYTES);
  }

  /** How many users there are. */
  get size(): number {
    return this.#users.size;
  }

  /**
   * Adds a user, or gives one a new password and new bounds. Costs about 0.2 ms: the verifier is made here, once.
   *
   * @param user 1 to 221 bytes of UTF-8 without zeros; with `md5` at most 32.
   * @param password Any text, the empty one too.
   * @throws {RangeError} When the name cannot be carried, or a bound is out of range.
   * @throws {TypeError} When a bound is no integer.
   */
  set(user: string, password: string, options: MemoryUserOptions = {}): void {
    const { md5 = false, enabled = true, limitBytes = 0, maxTxBps = 0 } = options;
    const bytes = encoder.encode(user).length;
    // A longer name arrives cut, and a cut name could be somebody else's.
    if (md5 && bytes > MD5_USER_BYTES) {
      throw new RangeError(
        `Cannot use a user name of ${bytes} bytes with MD5: expected at most ${MD5_USER_BYTES}`,
      );
    }
    this.#users.set(user, {
      verifier: createVerifier(user, password, this.#random.bytes(SALT_BYTES)),
      password: md5 ? encoder.encode(password) : undefined,
      enabled,
      limitBytes: integerIn(limitBytes, 0, Number.MAX_SAFE_INTEGER, "limit of a user in bytes"),
      maxTxBps: integerIn(maxTxBps, 0, Number.MAX_SAFE_INTEGER, "rate of a user in bit/s"),
      spent: this.#users.get(user)?.spent ??
        { tests: 0, inboundBytes: 0, outboundBytes: 0, takenBytes: 0 },
    });
  }

  /** Removes a user; running tests go on. @returns Whether there was one. */
  delete(user: string): boolean {
    return this.#users.delete(user);
  }

  /** What a user has moved in tests that ended; `undefined` when there is no such user. */
  usage(user: string): MemoryUsage | undefined {
    const spent = this.#users.get(user)?.spent;
    if (spent === undefined) return undefined;
    const { tests, inboundBytes, outboundBytes } = spent;
    return Object.freeze({ tests, inboundBytes, outboundBytes });
  }

  /** See {@linkcode Accounts.verifier}. */
  verifier(user: string): Promise<Verifier | undefined> {
    return Promise.resolve(this.#entering(user)?.verifier);
  }

  /** See {@linkcode Accounts.md5Password}. */
  md5Password(user: string): Promise<Uint8Array | undefined> {
    return Promise.resolve(this.#entering(user)?.password);
  }

  /** See {@linkcode Accounts.checkStart}. Without authentication there is no user, and everything is allowed. */
  checkStart({ user: name }: StartRequest): Promise<StartDecision> {
    if (name === "") return Promise.resolve(ALLOWED);
    const user = this.#entering(name);
    if (user === undefined) return Promise.resolve(NOT_ALLOWED);
    const { limitBytes, maxTxBps, spent } = user;
    if (limitBytes === 0 || spent.takenBytes < limitBytes) {
      return Promise.resolve({ allowed: true, maxTxBps });
    }
    return Promise.resolve({
      allowed: false,
      code: "btest.quota",
      scope: "user",
      window: "ever",
      usedBytes: spent.takenBytes,
      limitBytes,
    });
  }

  /** See {@linkcode Accounts.begin}. */
  begin({ user: name }: SessionInfo): AccountSession {
    const user = this.#users.get(name);
    return new MemorySession(user?.spent, user?.limitBytes ?? 0);
  }

  #entering(name: string): User | undefined {
    const user = this.#users.get(name);
    return user?.enabled === true ? user : undefined;
  }
}

class MemorySession implements AccountSession {
  readonly unlimited: boolean;
  readonly #spent: Spent | undefined;
  readonly #limitBytes: number;

  constructor(spent: Spent | undefined, limitBytes: number) {
    this.#spent = spent;
    this.#limitBytes = limitBytes;
    this.unlimited = spent === undefined || limitBytes === 0;
  }

  reserve(_way: Way, bytes: number): number {
    if (this.#spent === undefined || this.unlimited) return bytes;
    const granted = Math.max(0, Math.min(bytes, this.#limitBytes - this.#spent.takenBytes));
    this.#spent.takenBytes += granted;
    return granted;
  }

  giveBack(_way: Way, bytes: number): void {
    if (this.#spent !== undefined && !this.unlimited) this.#spent.takenBytes -= bytes;
  }

  interval(): void {
    // Only sums are kept, and the end brings them.
  }

  end({ rxBytes, txBytes }: TestResult): Promise<void> {
    const spent = this.#spent;
    if (spent !== undefined) {
      spent.tests++;
      spent.inboundBytes += rxBytes;
      spent.outboundBytes += txBytes;
    }
    return Promise.resolve();
  }
}

const encoder = new TextEncoder();

const ALLOWED: StartDecision = Object.freeze({ allowed: true, maxTxBps: 0 });
const NOT_ALLOWED: StartDecision = Object.freeze({
  allowed: false,
  code: "btest.not-allowed",
  scope: undefined,
  window: undefined,
  usedBytes: 0,
  limitBytes: 0,
});
