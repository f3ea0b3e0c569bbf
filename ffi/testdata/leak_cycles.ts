// Opens and closes what its argument names, again and again, and fails when descriptors stay open. A process of its own,
// because descriptors belong to the process. Arguments: subject; cycles.
import { capabilities } from "../capabilities.ts";
import { requireLibc } from "../libc_linux.ts";
import { openNetlinkHost } from "../netlink.ts";
import { openReactor } from "../reactor_linux.ts";
import { ThreadLoop } from "../thread_loop_linux.ts";
import { startThread } from "../worker.ts";

const [subject, cycles] = [Deno.args[0]!, Number(Deno.args[1])];
const library = requireLibc();

async function cycle(): Promise<void> {
  if (subject === "capabilities") return void capabilities({ refresh: true });
  if (subject === "startThread") {
    const url = new URL("./thread_echo.ts", import.meta.url);
    await (await startThread(url, { wait: "thread", behaviour: "echo" })).close();
    return;
  }
  if (subject === "netlink") return await cycleNetlink();
  const reactor = subject === "thread"
    ? new ThreadLoop()
    : await openReactor(subject as "uring" | "worker");
  for (let i = 0; i < 20; i++) {
    const event = library.eventfd(i % 2, 0);
    const watch = reactor.watch(event, "read", () => {});
    const second = reactor.watch(event, "write", () => {});
    if (reactor instanceof ThreadLoop) reactor.turn(0);
    if (i % 3 !== 0) watch.cancel();
    if (i % 4 !== 0) second.cancel();
    library.close(event);
  }
  await reactor.close();
}

/** Half of the sockets are closed with answers unread, half by their host. */
async function cycleNetlink(): Promise<void> {
  const host = await openNetlinkHost({ driver: "fast" });
  // RTM_GETLINK, REQUEST | DUMP.
  const dump = Uint8Array.of(32, 0, 0, 0, 18, 0, 1, 3, ...new Array(24).fill(0));
  for (let i = 0; i < 20; i++) {
    const socket = await host.open({ groups: [1, 3], consumer: { datagram() {}, lost() {} } });
    if (i % 3 === 0) socket.send(dump);
    if (i % 2 === 0) await socket.close();
  }
  await host.close();
}

async function main(): Promise<void> {
  // The first time the runtime opens things of its own.
  await cycle();
  await settled(0);
  const before = count(), first = kinds();
  for (let i = 0; i < cycles; i++) await cycle();
  const after = await settled(before + SLACK);
  if (after > before + SLACK) {
    throw new Error(`after ${cycles} cycles ${kinds().join(", ")}; before ${first.join(", ")}`);
  }
  console.log("ok");
}

/** What the runtime may open for itself meanwhile; a leak of ours grows with the cycles, which are at least twice that. */
const SLACK = 4;

/** Open sockets, pipes, event descriptors and rings; not files, which the runtime opens for its caches when it likes. */
function count(): number {
  return kinds().length;
}

function kinds(): readonly string[] {
  const open: string[] = [];
  for (const { name } of Deno.readDirSync("/proc/self/fd")) {
    try {
      const target = Deno.readLinkSync(`/proc/self/fd/${name}`);
      if (!target.startsWith("/")) open.push(`${name} ${target}`);
    } catch {
      // Closed since: the directory's own descriptor.
    }
  }
  return open;
}

/** The runtime closes what a finished thread had a moment after the thread has finished: waits for that, bounded. */
async function settled(wanted: number): Promise<number> {
  const start = performance.now();
  let last = -1, same = 0;
  for (;;) {
    const now = count();
    if (wanted > 0 && now <= wanted) return now;
    same = now === last ? same + 1 : 0;
    last = now;
    if (wanted === 0 && same > 50 || performance.now() - start > 2000) return now;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}
main();
