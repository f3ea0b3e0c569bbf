import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { countDescriptors, openPipe, OwnedFd } from "./fd_linux.ts";
import { bindAll, type Libc } from "./libc_linux.ts";

const library = bindAll();
const ignore = library === undefined;
if (ignore) console.warn("descriptors are not tested: no C library");

Deno.test({
  name: "OwnedFd closes the descriptor, and its number cannot be had afterwards",
  ignore,
  fn: () => {
    const [readEnd, writeEnd] = openPipe(library!);
    const bytes = new Uint8Array(8);
    const owned = new OwnedFd(writeEnd);
    equal(owned.fd, writeEnd);
    equal(library!.read(readEnd, bytes, 8n), -1, "open, and nothing was written");
    owned.close();
    equal(library!.read(readEnd, bytes, 8n), 0, "the end of the pipe: nobody can write any more");
    equal(owned.closed, true);
    throws(() => owned.fd, TypeError);
    throws(() => owned.release(), TypeError);
    library!.close(readEnd);
  },
});

Deno.test("OwnedFd closes once: the number may belong to somebody else by then", () => {
  const closed: number[] = [];
  const recorder = { close: (fd: number) => closed.push(fd) } as unknown as Libc;
  const owned = new OwnedFd(7, recorder);
  owned.close();
  owned.close();
  owned[Symbol.dispose]();
  deepEqual(closed, [7]);
  const released = new OwnedFd(8, recorder);
  equal(released.release(), 8);
  released.close();
  deepEqual(closed, [7]);
});

Deno.test({
  name: "OwnedFd refuses what is not a descriptor",
  ignore,
  fn: () => {
    for (const wrong of [-1, 1.5, NaN]) throws(() => new OwnedFd(wrong), RangeError);
  },
});

Deno.test({
  name: "openPipe() reads without blocking",
  ignore,
  fn: () => {
    const [readEnd, writeEnd] = openPipe(library!);
    const bytes = new Uint8Array(8);
    equal(library!.read(readEnd, bytes, 8n), -1);
    equal(library!.errno(), 11);
    equal(library!.write(writeEnd, bytes, 3n), 3);
    equal(library!.read(readEnd, bytes, 8n), 3);
    library!.close(readEnd);
    library!.close(writeEnd);
  },
});

Deno.test({
  name: "countDescriptors() counts what is open",
  ignore,
  // Descriptors belong to the process, and other tests may run in it at the same time: many are easier to see.
  fn: () => {
    const before = countDescriptors();
    const events = Array.from({ length: 2000 }, () => library!.eventfd(0, 0));
    ok(countDescriptors() > before + 500);
    for (const event of events) library!.close(event);
  },
});
