import { equal, ok } from "node:assert/strict";
import { ManualClock } from "../internal/time/clock.ts";
import { DescriptorRoom } from "./descriptors.ts";

/** A process with a limit and so many descriptors. */
function process(limit: number | undefined, open: number) {
  const source = {
    open,
    asked: 0,
    limit: () => limit,
    count: () => {
      source.asked++;
      return source.open;
    },
  };
  return source;
}

Deno.test("DescriptorRoom keeps a descriptor for each destination that is not dialled yet", () => {
  const clock = new ManualClock();
  const source = process(256, 200);
  const room = new DescriptorRoom(clock, source);
  // 56 are left, 16 of them are kept, and each client takes two.
  let clients = 0;
  while (room.has(80 + clients, 10)) clients++;
  equal(clients, 16);
  // What was counted holds for a moment only.
  equal(source.asked, 1);
  clock.advance(5);
  ok(room.has(80, 0));
  source.open = 240;
  clock.advance(5);
  ok(room.has(80, 0));
  source.open = 241;
  clock.advance(5);
  equal(room.has(80, 0), false);
});

Deno.test("DescriptorRoom looks at nothing while there are few clients, or no limit that is known", () => {
  const source = process(1024, 1023);
  const room = new DescriptorRoom(new ManualClock(), source);
  ok(room.has(149, 149));
  equal(source.asked, 0);
  equal(room.has(150, 0), false);
  ok(new DescriptorRoom(new ManualClock(), process(undefined, 0)).has(1e6, 1e6));
});

Deno.test({
  name: "DescriptorRoom knows the limit of this process",
  ignore: Deno.build.os !== "linux",
  fn: () => {
    const room = new DescriptorRoom(new ManualClock());
    ok(room.has(0, 0));
    // More than any process may have.
    equal(room.has(2 ** 31, 2 ** 31), false);
  },
});
