/**
 * Sockets on the ports of a range, one after the other.
 *
 * @module
 */
import type { DatagramSocket } from "../ffi/mod.ts";
import { ERROR_NOT_DEFINED } from "./protocol/mod.ts";
import { TftpRefusal } from "./refusal.ts";

/** See the module. */
export class PortRange {
  #next = 0;

  /**
   * Opens a socket on the next port of a range that is free: the one just left may still see its peer's last packets.
   *
   * @param open Tries one port. @throws {TftpRefusal} When none is free, or none may be used.
   */
  open(
    first: number,
    last: number,
    open: (port: number) => DatagramSocket | Promise<DatagramSocket>,
  ): DatagramSocket | Promise<DatagramSocket> {
    const count = last - first + 1;
    const attempt = (tries: number): DatagramSocket | Promise<DatagramSocket> => {
      for (let left = tries; left > 0; left--) {
        const port = first + this.#next++ % count;
        try {
          const opened = open(port);
          if (!(opened instanceof Promise)) return opened;
          return opened.catch((error) => {
            if (left > 1) return attempt(left - 1);
            throw busy(error);
          });
        } catch (error) {
          if (left === 1) throw busy(error);
        }
      }
      throw busy(undefined);
    };
    return attempt(count);
  }
}

function busy(cause: unknown): TftpRefusal {
  return new TftpRefusal(ERROR_NOT_DEFINED, "server busy", { cause });
}
