/**
 * Tests that wait for their further connections, by token.
 *
 * @module
 */

import { isToken, tokenOf } from "./command.ts";

/** Token and address → test. A join counts only from the address that the test came from. */
export class PendingSessions<Session> {
  readonly #byToken: Map<number, { readonly address: string; readonly session: Session }> =
    new Map();

  /** How many wait. */
  get size(): number {
    return this.#byToken.size;
  }

  /**
   * Adds a test under a token that nobody has.
   *
   * @param random An integer, 0 to 2³² − 1: where the search for a free token begins.
   * @param address Of the first connection, as text, without the port.
   * @returns The token, or 0 when all 64,770 are taken.
   */
  add(random: number, address: string, session: Session): number {
    let token = tokenOf(random);
    for (let i = 0; i <= 0xffff; i++) {
      if (isToken(token) && !this.#byToken.has(token)) {
        this.#byToken.set(token, { address, session });
        return token;
      }
      token = (token + 1) & 0xffff;
    }
    return 0;
  }

  /** The test that a join from an address belongs to. */
  find(token: number, address: string): Session | undefined {
    const pending = this.#byToken.get(token);
    return pending?.address === address ? pending.session : undefined;
  }

  /** Forgets a test: it runs or is over. */
  remove(token: number): void {
    this.#byToken.delete(token);
  }
}
