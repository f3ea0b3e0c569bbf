// A thread for worker_test.ts. Data: { wait: "thread" | "events", behaviour: "echo" | "throw" | "deaf" | "leave" }.
import { ThreadLoop } from "../thread_loop_linux.ts";
import { threadPort } from "../worker.ts";

const port = threadPort();
const { wait, behaviour } = port.data as { wait: string; behaviour: string };
const loop = wait === "thread" ? new ThreadLoop() : undefined;
let sum = 0;
port.onMessage((message) => {
  if (message === undefined) {
    if (loop === undefined) port.done();
    return;
  }
  if (behaviour === "throw") throw new RangeError("thrown in the thread");
  if (behaviour === "leave") Deno.exit();
  sum += message as number;
  port.post({ sum, behaviour });
});
port.ready(loop?.wakeDescriptor);

async function run(loop: ThreadLoop): Promise<void> {
  while (!port.closing || behaviour === "deaf") {
    loop.turn(Infinity);
    if (port.pending()) await port.drain();
  }
  await port.drain();
  await loop.close();
  port.done();
}
if (loop !== undefined) run(loop);
