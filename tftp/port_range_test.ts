import { deepEqual, equal, rejects, throws } from "node:assert/strict";
import type { DatagramSocket } from "../ffi/mod.ts";
import { PortRange } from "./port_range.ts";
import { TftpRefusal } from "./refusal.ts";

/** Stands for a socket of a port. */
function socketOf(port: number): DatagramSocket {
  return { port } as unknown as DatagramSocket;
}

Deno.test("PortRange goes round and passes over ports that are taken", () => {
  const range = new PortRange();
  const seen: number[] = [];
  for (let i = 0; i < 5; i++) {
    range.open(10, 13, (port) => {
      if (port === 12) throw new Error("taken");
      seen.push(port);
      return socketOf(port);
    });
  }
  deepEqual(seen, [10, 11, 13, 10, 11]);
});

Deno.test("PortRange is busy when every port is taken, whichever way a driver says so", async () => {
  const range = new PortRange();
  let tries = 0;
  throws(() =>
    range.open(10, 13, () => {
      tries++;
      throw new Error("taken");
    }), TftpRefusal);
  equal(tries, 4);
  await rejects(
    Promise.resolve(range.open(10, 13, () => {
      tries++;
      return Promise.reject(new Error("taken"));
    })),
    (error: unknown) => error instanceof TftpRefusal && error.message === "server busy",
  );
  equal(tries, 8);
});
