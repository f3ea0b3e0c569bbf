import { equal, ok } from "node:assert/strict";
import { countDescriptors } from "./fd_linux.ts";
import { bindAll } from "./libc_linux.ts";
import { type Pipe, PipePool } from "./pipe_pool_linux.ts";

const library = bindAll();
const ignore = library === undefined;
if (ignore) console.warn("pipes are not tested: no C library");

Deno.test({
  name: "PipePool takes no more than half of the descriptors, and gives all of them back",
  ignore,
  fn: () => {
    const before = countDescriptors(4096);
    // The lowest number that is free tells how many there are.
    const lowest = library!.eventfd(0, 0);
    library!.close(lowest);
    const pool = new PipePool(library!, 2 * (lowest + 20));
    const pipes: Pipe[] = [];
    for (let pipe = pool.take(); pipe !== undefined; pipe = pool.take()) pipes.push(pipe);
    ok(pipes.length >= 5 && pipes.length <= 10, `${pipes.length} pipes`);
    equal(pool.lent, pipes.length);
    for (const { readEnd, writeEnd } of pipes) ok(Math.max(readEnd, writeEnd) <= lowest + 20);
    for (const pipe of pipes) pool.give(pipe, true);
    const again = pool.take();
    ok(again !== undefined, "what was given back is lent again");
    pool.give(again, false);
    pool.close();
    equal(countDescriptors(4096), before);
  },
});
