// Opens a reactor, watches something that never happens, lets go of it as told, and reports how long the process took to
// end. Arguments: mechanism; "closed" or "unref".
import { requireLibc } from "../libc_linux.ts";
import { openReactor } from "../reactor_linux.ts";
import { openSharedLoop } from "../shared_loop.ts";

const [kind, how] = Deno.args as ["shared" | "uring" | "worker", "closed" | "unref"];
const library = requireLibc();

(kind === "shared" ? openSharedLoop() : openReactor(kind)).then(async (reactor) => {
  const watch = reactor.watch(library.eventfd(0, 0), "read", () => {});
  let lastStatement = performance.now();
  globalThis.addEventListener("unload", () => {
    console.log(performance.now() - lastStatement);
  });
  if (how === "closed") {
    watch.cancel();
    await reactor.close();
  } else reactor.unref();
  lastStatement = Math.min(lastStatement, performance.now());
});
