// Opens and closes connections, again and again, and fails when descriptors stay open. A process of its own, because
// descriptors belong to the process. Arguments: driver row (uring, worker, thread, deno, node); cycles.
import { openStreamHost, type StreamHostOptions } from "../stream.ts";

const OPTIONS: Readonly<Record<string, StreamHostOptions>> = {
  uring: { driver: "fast", reactor: "uring" },
  worker: { driver: "fast", reactor: "worker" },
  thread: { driver: "fast", wait: "thread" },
  deno: { driver: "portable", portable: "deno" },
  node: { driver: "portable", portable: "node" },
};

async function main(): Promise<void> {
  const [row, cycles] = [Deno.args[0]!, Number(Deno.args[1])];
  const options = OPTIONS[row]!;
  const host = await openStreamHost(options);
  const listener = await host.listen({ bind: { family: "ipv4", address: "127.0.0.1", port: 0 } });
  const bytes = new Uint8Array(new ArrayBuffer(16));
  const settle = async <T>(promise: T | Promise<T>): Promise<T> => {
    let over = false;
    const end = (): void => void (over = true);
    Promise.resolve(promise).then(end, end);
    while (!over) {
      if (options.wait === "thread") host.turn(0);
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
    return await promise;
  };
  const once = async (i: number): Promise<void> => {
    const connecting = host.connect({ remote: listener.local });
    const accepting = Promise.resolve(listener.accept());
    const client = await settle(connecting);
    const server = (await settle(accepting))!;
    server.watch(() => {}, () => {});
    if (i % 3 === 0) {
      await settle(client.send(bytes, 0, 16));
      await settle(client.close());
      await settle(server.close());
    } else if (i % 3 === 1) {
      const waiting = client.receive(bytes, 0, 16);
      await settle(server.close({ reset: true }));
      await settle(waiting);
      await settle(client.close());
    } else {
      await Promise.all([settle(client.close()), settle(server.close())]);
    }
  };
  for (let i = 0; i < 12; i++) await once(i);
  const before = await settled(Infinity);
  for (let i = 0; i < cycles; i++) await once(i);
  const after = await settled(before + SLACK);
  if (after > before + SLACK) throw new Error(`${after} descriptors, ${before} before`);
  await settle(host.close());
  console.log("ok");
}

/** What the runtime may open for itself meanwhile. */
const SLACK = 4;

function count(): number {
  let open = 0;
  for (const { name } of Deno.readDirSync("/proc/self/fd")) {
    try {
      if (Deno.readLinkSync(`/proc/self/fd/${name}`).startsWith("socket:")) open++;
    } catch {
      // Closed since.
    }
  }
  return open;
}

/** The runtime closes sockets a moment after it was asked to: waits for that, bounded. */
async function settled(wanted: number): Promise<number> {
  const start = performance.now();
  for (;;) {
    const now = count();
    if (now <= wanted || performance.now() - start > 2000) return now;
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
}
main();
