import { equal, throws } from "node:assert/strict";
import { countDescriptors, openPipe, OwnedFd } from "./fd_linux.ts";
import { bindAll } from "./libc_linux.ts";

const library = bindAll();
const ignore = library === undefined;
if (ignore) console.warn("descriptors are not tested: no C library");

Deno.test({
  name: "OwnedFd closes once, and its number cannot be had afterwards",
  ignore,
  fn: () => {
    const before = countDescriptors();
    const owned = new OwnedFd(library!.eventfd(0, 0));
    equal(countDescriptors(), before + 1);
    const number = owned.fd;
    owned.close();
    // Somebody else gets the number; a second close must not take it away.
    const other = library!.eventfd(0, 0);
    equal(other, number);
    owned.close();
    equal(countDescriptors(), before + 1);
    equal(owned.closed, true);
    throws(() => owned.fd, TypeError);
    throws(() => owned.release(), TypeError);
    library!.close(other);
    equal(countDescriptors(), before);
  },
});

Deno.test({
  name: "OwnedFd that was released leaves the descriptor open",
  ignore,
  fn: () => {
    const before = countDescriptors();
    const owned = new OwnedFd(library!.eventfd(0, 0));
    const number = owned.release();
    owned.close();
    equal(countDescriptors(), before + 1);
    library!.close(number);
  },
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
