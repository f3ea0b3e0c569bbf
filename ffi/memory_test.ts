import { equal, ok } from "node:assert/strict";
import { bindAll } from "./libc_linux.ts";
import { releaseMemory } from "./memory.ts";

bindAll();

Deno.test("releaseMemory collects what nobody holds, and keeps what somebody does", async () => {
  const held = { bytes: new Uint8Array(1000).fill(7) };
  let gone = false;
  const registry = new FinalizationRegistry(() => gone = true);
  (() => registry.register({ big: new Array(100_000).fill(0) }, "x"))();
  for (let turns = 0; !gone; turns++) {
    ok(turns < 50, "nothing was collected");
    await releaseMemory();
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
  equal(held.bytes[999], 7);
});
