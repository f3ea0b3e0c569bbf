import { equal, ok, rejects } from "node:assert/strict";
import { openDatagramHost } from "./datagram.ts";
import { bindAll, libcRefusal } from "./libc_linux.ts";
import { openSharedLoop, type SharedLoop } from "./shared_loop.ts";
import { openStreamHost, type StreamConnection, type StreamHost } from "./stream.ts";

bindAll();
const reason = libcRefusal()?.why;
if (reason !== undefined) console.warn(`the shared loop is not tested: ${reason}`);

const LOOPBACK = { family: "ipv4", address: "127.0.0.1", port: 0 } as const;

function test(name: string, body: (loop: SharedLoop) => Promise<void>): void {
  Deno.test({
    name: `SharedLoop ${name}`,
    ignore: reason !== undefined,
    fn: async () => {
      await using loop = await openSharedLoop();
      await body(loop);
    },
  });
}

/** Two connections that throw one byte to and fro until told to stop, which keeps the loop from ever being idle. */
class Traffic {
  throws = 0;
  #stopped = false;

  private constructor(readonly ends: readonly [StreamConnection, StreamConnection]) {
    for (const end of ends) end.watch(() => this.#back(end));
    ends[0].sendNow(BYTE, 0, 1);
  }

  static async between(host: StreamHost): Promise<Traffic> {
    const listener = await host.listen({ bind: LOOPBACK });
    const connecting = host.connect({ remote: listener.local });
    const server = await listener.accept();
    return new Traffic([await connecting, server!]);
  }

  stop(): void {
    this.#stopped = true;
  }

  #back(end: StreamConnection): void {
    if (end.receiveNow(INTO, 0, 1) !== 1 || this.#stopped) return;
    this.throws++;
    end.sendNow(BYTE, 0, 1);
  }
}

const BYTE = new Uint8Array([1]);
const INTO = new Uint8Array(1);

test("serves streams and datagrams, and sleeps when nothing is left", async (loop) => {
  await using streams = await openStreamHost({ reactor: loop });
  await using datagrams = await openDatagramHost({ reactor: loop });
  const traffic = await Traffic.between(streams);
  const socket = await datagrams.open({ bind: LOOPBACK });
  const batch = datagrams.createBatch(1, 64);
  let heard = 0;
  socket.watch(() => heard += socket.receiveNow(batch));
  const sent = datagrams.createBatch(1, 64);
  sent.count = 1;
  sent.starts[0] = 0;
  sent.lengths[0] = 5;
  const { writeAddress } = await import("./address.ts");
  writeAddress(sent.peers, 0, socket.local);
  socket.send(sent);
  while (heard < 1 || traffic.throws < 1000) await turn();
  traffic.stop();
  const { parks } = loop;
  while (loop.parks === parks) await new Promise((resolve) => setTimeout(resolve, 1));
  const slept = loop.parks;
  await new Promise((resolve) => setTimeout(resolve, 50));
  equal(loop.parks, slept, "a loop with nothing to do must not wake up");
});

test("lets the runtime's timers run while there is traffic", async (loop) => {
  await using host = await openStreamHost({ reactor: loop });
  const traffic = await Traffic.between(host);
  let ticks = 0;
  const timer = setInterval(() => ticks++, 5);
  const before = traffic.throws;
  while (ticks < 20) await turn();
  clearInterval(timer);
  ok(traffic.throws > before + 20, `${traffic.throws - before} throws`);
  traffic.stop();
});

test("lets the runtime's own sockets move while there is traffic", async (loop) => {
  await using host = await openStreamHost({ reactor: loop });
  const traffic = await Traffic.between(host);
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const serving = (async () => {
    const connection = await listener.accept();
    await connection.readable.pipeTo(connection.writable);
  })();
  const client = await Deno.connect({
    hostname: "127.0.0.1",
    port: (listener.addr as Deno.NetAddr).port,
  });
  const into = new Uint8Array(4);
  for (let round = 0; round < 50; round++) {
    await client.write(new Uint8Array([round, 2, 3, 4]));
    equal(await client.read(into), 4);
    equal(into[0], round);
  }
  client.close();
  await serving;
  listener.close();
  traffic.stop();
});

Deno.test({
  name: "SharedLoop leaves the thread to the runtime when its own sockets are ready",
  ignore: reason !== undefined,
  fn: async () => {
    // On the process's main thread, where the runtime's set can be found; tests have threads of their own.
    const program = new URL("./testdata/shared_loop_runtime.ts", import.meta.url).pathname;
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--allow-ffi", "--allow-net", "--no-prompt", "--no-check", program],
    }).output();
    equal(code, 0, new TextDecoder().decode(stderr));
    const parks = Number(new TextDecoder().decode(stdout));
    ok(parks >= 50, `left to it ${parks} times for fifty answers`);
  },
});

test("settles promises that callbacks made before it sleeps", async (loop) => {
  await using host = await openStreamHost({ reactor: loop });
  const listener = await host.listen({ bind: LOOPBACK });
  const client = await host.connect({ remote: listener.local });
  const server = await listener.accept();
  let steps = 0;
  const done = new Promise<void>((resolve) => {
    server!.watch(async () => {
      server!.receiveNow(INTO, 0, 1);
      server!.watch(undefined);
      for (; steps < 1000; steps++) await Promise.resolve();
      resolve();
    });
  });
  client.sendNow(BYTE, 0, 1);
  await done;
  equal(steps, 1000);
});

test("calls back for limits of time while it is parked", async (loop) => {
  const { LinuxSharedLoop } = await import("./shared_loop_linux.ts");
  ok(loop instanceof LinuxSharedLoop);
  await using host = await openStreamHost({ reactor: loop });
  const traffic = await Traffic.between(host);
  let ticks = 0;
  const tick = loop.thread.every(20, () => ticks++);
  while (traffic.throws < 10) await turn();
  traffic.stop();
  while (ticks < 5) await new Promise((resolve) => setTimeout(resolve, 5));
  tick.cancel();
});

test("throws what a callback throws, and goes on with the others", async (loop) => {
  await using host = await openStreamHost({ reactor: loop });
  const listener = await host.listen({ bind: LOOPBACK });
  const client = await host.connect({ remote: listener.local });
  const server = await listener.accept();
  const caught = new Promise<unknown>((resolve) => {
    globalThis.addEventListener("error", (event) => {
      event.preventDefault();
      resolve(event.error);
    }, { once: true });
  });
  server!.watch(() => {
    server!.watch(undefined);
    throw new Error("a slip");
  });
  client.sendNow(BYTE, 0, 1);
  equal((await caught as Error).message, "a slip");
  server!.receiveNow(INTO, 0, 1);
  const traffic = await Traffic.between(host);
  while (traffic.throws < 10) await turn();
  traffic.stop();
});

test("is left open by the hosts that close", async (loop) => {
  const first = await openStreamHost({ reactor: loop });
  await first.close();
  await using second = await openStreamHost({ reactor: loop });
  const traffic = await Traffic.between(second);
  while (traffic.throws < 10) await turn();
  traffic.stop();
});

test("is taken from openSharedLoop only, and not with a thread of one's own", async (loop) => {
  const foreign = { ...loop, kind: "thread" } as unknown as SharedLoop;
  await rejects(openStreamHost({ driver: "fast", reactor: foreign }), TypeError);
  await using host = await openStreamHost({ reactor: loop });
  let error: unknown;
  try {
    host.turn(0);
  } catch (thrown) {
    error = thrown;
  }
  ok(error instanceof TypeError);
});

function turn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}
