import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { EFD_NONBLOCK, EPOLLIN, EPOLLOUT } from "./constants_linux.ts";
import { bindAll } from "./libc_linux.ts";
import { ThreadLoop } from "./thread_loop_linux.ts";

const library = bindAll();
const ignore = library === undefined;
if (ignore) console.warn("the thread's loop is not tested: no C library");
const ONE = new BigUint64Array([1n]);

function test(name: string, body: (loop: ThreadLoop) => void): void {
  Deno.test({
    name,
    ignore,
    fn: async () => {
      const loop = new ThreadLoop();
      try {
        body(loop);
      } finally {
        await loop.close();
      }
    },
  });
}

test("turn() answers how many callbacks ran", (loop) => {
  const fds = [0, 1, 2].map(() => library!.eventfd(1, 0));
  for (const fd of fds) loop.watch(fd, "read", () => {});
  equal(loop.turn(1000), 3);
  equal(loop.turn(0), 0, "nobody armed again");
  for (const fd of fds) library!.close(fd);
});

test("turn() waits as long as it may, fractions included, and not longer than it must", (loop) => {
  for (const waitMs of [0, 0.2, 5, 30]) {
    const start = performance.now();
    equal(loop.turn(waitMs), 0);
    const tookMs = performance.now() - start;
    ok(tookMs >= waitMs, `${tookMs} ms of ${waitMs}`);
    ok(tookMs < waitMs + 500, `${tookMs} ms of ${waitMs}`);
  }
});

test("a wake-up ends the next turn, once", (loop) => {
  loop.wake();
  loop.wake();
  const start = performance.now();
  equal(loop.turn(Infinity), 0);
  equal(loop.turn(20), 0);
  ok(performance.now() - start >= 20, "the second turn slept");
});

test("the wake descriptor ends a turn like wake() does", (loop) => {
  equal(library!.write(loop.wakeDescriptor, ONE, 8n), 8);
  equal(loop.turn(Infinity), 0);
});

test("a watch that is not armed again does not keep the loop awake", (loop) => {
  const fd = library!.eventfd(1, 0); // stays readable
  let calls = 0;
  const watch = loop.watch(fd, "read", () => calls++);
  equal(loop.turn(1000), 1);
  const start = performance.now();
  loop.turn(20);
  ok(performance.now() - start >= 20, "slept although the descriptor is readable");
  equal(calls, 1);
  watch.arm();
  equal(loop.turn(1000), 1, "armed again it counts at once");
  library!.close(fd);
});

test("more descriptors than fit one wait are all served", (loop) => {
  const fds = Array.from({ length: 600 }, () => library!.eventfd(1, 0));
  const seen = new Set<number>();
  for (const fd of fds) loop.watch(fd, "read", () => seen.add(fd));
  let total = 0;
  for (let turns = 0; turns < 10 && total < 600; turns++) total += loop.turn(0);
  equal(total, 600);
  equal(seen.size, 600);
  for (const fd of fds) library!.close(fd);
});

test("an error in a callback comes out of turn(), and the others are served next", (loop) => {
  const fds = [library!.eventfd(1, 0), library!.eventfd(1, 0)];
  const called: number[] = [];
  fds.forEach((fd, i) =>
    loop.watch(fd, "read", () => {
      called.push(i);
      if (called.length === 1) throw new RangeError("first");
    })
  );
  throws(() => loop.turn(1000), RangeError);
  equal(loop.turn(1000), 1);
  deepEqual(called.toSorted(), [0, 1]);
  for (const fd of fds) library!.close(fd);
});

test("an event of a cancelled watch is not taken for one of the watch that got its slot", (loop) => {
  const ready = [library!.eventfd(1, 0), library!.eventfd(1, 0)];
  const silent = library!.eventfd(0, 0);
  const called: string[] = [];
  const watches = ready.map((fd, i) =>
    loop.watch(fd, "read", () => {
      called.push("ready");
      // Both events are in hand. The other's watch goes, and a new one takes over its slot.
      watches[1 - i]!.cancel();
      loop.watch(silent, "read", () => called.push("silent"));
    })
  );
  equal(loop.turn(1000), 1);
  deepEqual(called, ["ready"]);
  for (const fd of [...ready, silent]) library!.close(fd);
});

test("a callback may close the loop", (loop) => {
  const fd = library!.eventfd(1, 0);
  loop.watch(fd, "read", () => loop.close());
  equal(loop.turn(1000), 1);
  equal(loop.turn(1000), 0);
  library!.close(fd);
});

test("an edge is told once, with what is true then, and again when asked for", (loop) => {
  const fd = library!.eventfd(1, EFD_NONBLOCK);
  const told: number[] = [];
  const watch = loop.watchEdges(fd, { edge: (events) => told.push(events) });
  equal(loop.turn(1000), 1);
  equal(loop.turn(0), 0, "still readable, but no edge");
  watch.again();
  equal(loop.turn(1000), 1);
  // Reading makes room, which is an edge of its own.
  library!.read(fd, new Uint8Array(8), 8n);
  equal(loop.turn(1000), 1);
  deepEqual(told, [EPOLLIN | EPOLLOUT, EPOLLIN | EPOLLOUT, EPOLLOUT]);
  watch.cancel();
  watch.cancel();
  watch.again();
  library!.write(fd, new BigUint64Array([1n]), 8n);
  equal(loop.turn(0), 0);
  throws(() => loop.watchEdges(-1, { edge: () => {} }), /Cannot watch descriptor -1/);
  library!.close(fd);
});

test("an edge behind an error in a callback is not lost", (loop) => {
  const fds = [1, 1, 1].map((count) => library!.eventfd(count, EFD_NONBLOCK));
  const told: number[] = [];
  fds.forEach((fd, i) =>
    loop.watchEdges(fd, {
      edge: () => {
        told.push(i);
        if (told.length === 1) throw new RangeError("first");
      },
    })
  );
  throws(() => loop.turn(1000), RangeError);
  equal(loop.turn(1000), 2);
  deepEqual(told.toSorted(), [0, 1, 2]);
  for (const fd of fds) library!.close(fd);
});

test("a tick ends sleeps in time, for as long as it is wanted", (loop) => {
  let slow = 0, fast = 0;
  const start = performance.now();
  const one = loop.every(5, () => fast++);
  loop.every(60_000, () => slow++).cancel();
  while (fast < 4) {
    loop.turn(Infinity);
    ok(performance.now() - start < 5000);
  }
  ok(performance.now() - start >= 20);
  one.cancel();
  const before = fast;
  loop.turn(15);
  equal(fast, before);
  equal(slow, 0);
});
