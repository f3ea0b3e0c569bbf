/**
 * Exchanges a directory with a link that leads out of the root, again and again, while somebody reads through it.
 *
 * @module
 */
import { AT_FDCWD, RENAME_EXCHANGE } from "../constants_linux.ts";
import { requireLibc } from "../libc_linux.ts";

/** What the worker is told: two paths to exchange, and how often. */
export interface FlipOrder {
  readonly one: string;
  readonly other: string;
  readonly flips: number;
}

const scope = globalThis as unknown as {
  onmessage: (event: MessageEvent<FlipOrder>) => void;
  postMessage(flips: number): void;
};

scope.onmessage = ({ data }) => {
  const libc = requireLibc();
  const one = new TextEncoder().encode(`${data.one}\0`);
  const other = new TextEncoder().encode(`${data.other}\0`);
  let done = 0;
  while (done < data.flips) {
    if (libc.renameat2!(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE) !== 0) break;
    done++;
  }
  scope.postMessage(done);
};
