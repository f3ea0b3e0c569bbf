/**
 * Users and passwords of inbounds.
 *
 * @module
 */

import { integerIn } from "../../internal/check.ts";
import { bytesOfLatin1, equalSecret, latin1Of } from "./octets.ts";

/** One user. */
export interface Credential {
  /** Any text; compared as UTF-8. */
  readonly username: string;
  /** Any text; compared as UTF-8. */
  readonly password: string;
}

/**
 * Who may come in. Looking up takes as long for a name that exists as for one that does not, and comparing a password
 * takes as long as the given one is long.
 */
export class UserTable {
  /** How many users there are. */
  readonly size: number;
  readonly #users = new Map<string, { readonly name: string; readonly password: Uint8Array }>();

  /**
   * Takes the users over.
   *
   * @param users The users; a name that comes twice has its last password.
   * @throws {RangeError} When a name is empty.
   */
  constructor(users: readonly Credential[]) {
    for (const { username, password } of users) {
      integerIn(username.length, 1, 0xffff, "the length of a user name");
      const name = textEncoder.encode(username);
      this.#users.set(latin1Of(name, 0, name.length), {
        name: username,
        password: textEncoder.encode(password),
      });
    }
    this.size = this.#users.size;
  }

  /**
   * Checks credentials.
   *
   * @param name Bytes of the name as the peer sent them.
   * @param password Bytes of the password as the peer sent them.
   * @returns The user's name, or `undefined` when one of them is wrong.
   */
  check(name: Uint8Array, password: Uint8Array): string | undefined {
    const user = this.#users.get(latin1Of(name, 0, name.length));
    const equal = equalSecret((user ?? NOBODY).password, password);
    return equal && user !== undefined ? user.name : undefined;
  }
}

const textEncoder = new TextEncoder();
const NOBODY = { password: bytesOfLatin1("0123456789abcdef") };
