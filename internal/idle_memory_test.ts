import { equal } from "node:assert/strict";
import { IdleMemory } from "./idle_memory.ts";

Deno.test("IdleMemory gives back once when work has come to rest, and only what is worth it", async () => {
  let work = 0, resident = 50 << 20, released = 0;
  const idle = new IdleMemory({
    work: () => work,
    resident: () => resident,
    release: () => {
      released++;
      resident = 40 << 20;
      return Promise.resolve();
    },
  }, 1_000_000);
  idle.look();
  await Promise.resolve();
  equal(released, 1, "after the start");
  idle.look();
  equal(released, 1, "once");
  work++;
  resident = 70 << 20;
  idle.look();
  equal(released, 1, "not while something is done");
  idle.look();
  await Promise.resolve();
  equal(released, 2);
  work++;
  resident += 1 << 20;
  idle.look();
  idle.look();
  equal(released, 2, "too little to stop for");
  idle.close();
});
