// Runs tests, one after the other and some at once, and fails when descriptors stay open. A process of its own, because
// descriptors belong to the process. Arguments: driver, workers, tests.
import { run } from "../client.ts";
import { serve } from "../server.ts";

async function main(): Promise<void> {
  const driver = Deno.args[0] as "fast" | "portable";
  const [workers, tests] = [Number(Deno.args[1]), Number(Deno.args[2])];
  const server = await serve({
    listen: ["127.0.0.1:0"],
    driver,
    workers,
    maxSessionsPerAddress: 0,
  });
  const target = `127.0.0.1:${server.addresses[0]!.port}`;
  const once = async (i: number): Promise<void> => {
    const protocol = i % 4 === 3 ? "udp" : "tcp";
    const connections = i % 5 === 4 ? 4 : 1;
    const direction = (["receive", "transmit", "both"] as const)[i % 3]!;
    const options = { driver, workers, protocol, connections, direction } as const;
    const abort = new AbortController();
    await run(target, { ...options, signal: abort.signal, onStart: () => abort.abort() });
  };
  const tenAtOnce = async (first: number): Promise<void> => {
    await Promise.all(Array.from({ length: 10 }, (_, i) => once(first + i)));
  };
  for (let i = 0; i < 12; i++) await once(i);
  await tenAtOnce(0);
  const before = await settled(Infinity);
  for (let i = 0; i < tests; i++) await once(i);
  await tenAtOnce(0);
  const after = await settled(before);
  const { testsRunning, testsStarted, testsEnded } = server.snapshot();
  await server.close();
  // The runtime makes a pair of its own at some moment; a test that leaks would leave hundreds.
  if (after > before + 2) throw new Error(`${after - before} descriptors stayed open`);
  if (testsRunning !== 0 || testsStarted !== testsEnded || testsStarted < tests / 2) {
    throw new Error(`${testsStarted} tests began, ${testsEnded} ended`);
  }
  console.log("ok");
}

/** Open sockets and the like, once they are no more than `wanted` or five seconds have passed: a thread ends a little later. */
async function settled(wanted: number): Promise<number> {
  // Not files: the runtime opens caches of its own whenever it likes.
  const ours = ({ name }: Deno.DirEntry): boolean => {
    try {
      return !Deno.readLinkSync(`/proc/self/fd/${name}`).startsWith("/");
    } catch {
      return false; // the directory itself, which is closed by now
    }
  };
  const count = (): number => [...Deno.readDirSync("/proc/self/fd")].filter(ours).length;
  for (let tries = 0; tries < 500 && (wanted === Infinity || count() > wanted); tries++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
    if (wanted === Infinity && tries > 20) break;
  }
  return count();
}

main();
