// A thread for stream_life_contract_test.ts: adopts the descriptor it is sent, echoes bytes until it has echoed as many
// as it was told, and sends the descriptor back.
import { openStreamHost, WOULD_BLOCK } from "../stream.ts";
import { threadPort } from "../worker.ts";

const port = threadPort();

async function run(): Promise<void> {
  const host = await openStreamHost({ driver: "fast", wait: "thread" });
  let idle = true;
  port.onMessage((message) => {
    if (message === undefined) return;
    const { descriptor, bytes } = message as { descriptor: number; bytes: number };
    const connection = host.adopt(descriptor);
    const slab = new Uint8Array(new ArrayBuffer(4096));
    let left = bytes;
    idle = false;
    connection.watch(() => {
      while (left > 0) {
        const count = connection.receiveNow(slab, 0, Math.min(slab.length, left));
        if (count === WOULD_BLOCK) return;
        if (count <= 0) throw new Error(`the stream ended with ${left} bytes to go`);
        if (connection.sendNow(slab, 0, count) !== count) throw new Error("there was no room");
        left -= count;
      }
      port.post({ descriptor: connection.detach() });
      idle = true;
    });
  });
  port.ready(host.wakeDescriptor);
  while (!port.closing) {
    host.turn(idle ? Infinity : 1000);
    if (port.pending()) await port.drain();
  }
  await port.drain();
  await host.close();
  port.done();
}
run();
