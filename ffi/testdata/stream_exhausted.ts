// Takes every descriptor the process may have, lets connections come, and sees what the listener makes of them. A process
// of its own, because descriptors belong to the process.
import { equal, ok } from "node:assert/strict";
import { requireLibc } from "../libc_linux.ts";
import { openStreamHost, STREAM_END, STREAM_FAILED, WOULD_BLOCK } from "../stream.ts";

async function main(): Promise<void> {
  const library = requireLibc();
  const host = await openStreamHost({ driver: "fast", wait: "thread" });
  const until = async (done: () => boolean): Promise<void> => {
    const deadline = performance.now() + 5000;
    while (!done()) {
      ok(performance.now() < deadline, "five seconds have passed");
      host.turn(10);
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
  };
  const listener = await host.listen({ bind: { family: "ipv4", address: "127.0.0.1", port: 0 } });
  const connect = async () => {
    const connecting = host.connect({ remote: listener.local });
    let over = false;
    connecting.finally(() => void (over = true));
    await until(() => over);
    return await connecting;
  };
  const clients = [await connect(), await connect()];
  const taken: number[] = [];
  for (;;) {
    const fd = library.eventfd(0, 0);
    if (fd < 0) break;
    taken.push(fd);
  }
  ok(taken.length > 0);
  let calls = 0;
  let accepted = 0;
  listener.watch(() => {
    calls++;
    while (listener.acceptNow() !== undefined) accepted++;
  });
  await until(() => listener.refused === 2);
  let turn = 0;
  await until(() => ++turn > 20);
  ok(calls <= 4, `${calls} calls`);
  equal(accepted, 0);
  for (const fd of taken) library.close(fd);
  const into = new Uint8Array(new ArrayBuffer(8));
  for (const client of clients) {
    let count: number = WOULD_BLOCK;
    await until(() => (count = client.receiveNow(into, 0, 8)) !== WOULD_BLOCK);
    ok(count === STREAM_END || count === STREAM_FAILED);
  }
  await connect();
  await until(() => accepted === 1);
  await host.close();
  console.log("ok");
}
main();
