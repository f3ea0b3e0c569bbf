import { deepEqual, equal, ok, rejects, throws } from "node:assert/strict";
import { bindAll } from "./libc_linux.ts";
import { startThread, type Thread, threadPort } from "./worker.ts";

const library = bindAll();
const ECHO = new URL("./testdata/thread_echo.ts", import.meta.url);

for (const wait of ["events", "thread"] as const) {
  const ignore = wait === "thread" && library === undefined;
  if (ignore) console.warn("threads that sleep in the kernel are not tested: no C library");

  Deno.test({
    name: `a thread (${wait}) handles every message, in order`,
    ignore,
    fn: async () => {
      const sums: number[] = [];
      let all = (): void => {};
      const arrived = new Promise<void>((resolve) => all = resolve);
      const thread = await startThread(ECHO, { wait, behaviour: "echo" }, {
        onMessage: (message) => {
          sums.push((message as { sum: number }).sum);
          if (sums.length === 200) all();
        },
      });
      for (let i = 0; i < 200; i++) {
        thread.post(1);
        // Let it fall asleep in between, now and then.
        if (i % 50 === 0) await new Promise((resolve) => setTimeout(resolve, 0));
      }
      await arrived;
      deepEqual(sums, Array.from({ length: 200 }, (_, i) => i + 1));
      equal(await thread.close(), true, "ended by itself");
      equal(await thread.close(), true);
      throws(() => thread.post(1), TypeError);
    },
  });

  Deno.test({
    name: `a thread (${wait}) that has never heard anything closes at once`,
    ignore,
    fn: async () => {
      const thread = await startThread(ECHO, { wait, behaviour: "echo" });
      const start = performance.now();
      equal(await thread.close(), true);
      ok(performance.now() - start < 300, `${performance.now() - start} ms`);
    },
  });

  Deno.test({
    name: `an error in a thread (${wait}) arrives as a rejection`,
    ignore,
    fn: async () => {
      const thread = await startThread(ECHO, { wait, behaviour: "throw" });
      thread.post(1);
      await rejects(thread.failed, /thrown in the thread/);
      equal(await thread.close(), false);
    },
  });
}

Deno.test({
  name: "a thread that does not end is terminated after the bound",
  ignore: library === undefined,
  fn: async () => {
    const thread: Thread = await startThread(ECHO, { wait: "thread", behaviour: "deaf" }, {
      stopMs: 50,
    });
    const start = performance.now();
    equal(await thread.close(), false);
    ok(performance.now() - start < 1000, `${performance.now() - start} ms`);
  },
});

Deno.test("a thread whose module does not exist is refused", async () => {
  await rejects(startThread(new URL("./testdata/no_such_module.ts", import.meta.url), {}));
});

Deno.test("threadPort() refuses outside a thread", () => {
  throws(() => threadPort(), TypeError);
});
