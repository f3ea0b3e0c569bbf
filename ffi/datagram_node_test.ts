import { deepEqual, equal, ok } from "node:assert/strict";
import { ADDRESS_BYTES, readAddress, type SocketAddress, writeAddress } from "./address.ts";
import { openDatagramHost } from "./datagram.ts";
import { HostTexts } from "./datagram_hosts_node.ts";
import { Outbox } from "./datagram_outbox_node.ts";

const LOOPBACK: SocketAddress = { family: "ipv4", address: "127.0.0.1", port: 0 };

Deno.test("the portable driver holds 4,096 datagrams for a slow receiver and counts the rest", async () => {
  const host = await openDatagramHost({ driver: "portable" });
  const [a, b] = [await host.open({ bind: LOOPBACK }), await host.open({ bind: LOOPBACK })];
  const batch = host.createBatch(100, 64);
  for (let i = 0; i < 100; i++) {
    batch.lengths[i] = 4;
    writeAddress(batch.peers, i * ADDRESS_BYTES, b.local);
  }
  batch.count = 100;
  let number = 0;
  const numbers: number[] = [];
  for (let round = 1; round <= 42; round++) {
    for (let i = 0; i < 100; i++) batch.slab.view.setUint32(batch.starts[i]!, number++);
    a.send(batch);
    // As many as the kernel's buffer holds at once, so that nothing is lost there.
    const arrived = () => b.counters().receiveCalls === 100 * round;
    while (!arrived()) await new Promise<void>((resolve) => setImmediate(resolve));
  }
  equal(b.counters().receiveDrops, 4200 - 4096);
  while (b.receiveNow(batch) > 0) {
    for (let i = 0; i < batch.count; i++) {
      numbers.push(batch.slab.view.getUint32(batch.starts[i]!));
    }
  }
  deepEqual(numbers, Array.from({ length: 4096 }, (_, i) => i), "the oldest are kept, in order");
  await host.close();
});

Deno.test("the portable driver finishes sending before it closes", async () => {
  const host = await openDatagramHost({ driver: "portable" });
  const [a, b] = [await host.open({ bind: LOOPBACK }), await host.open({ bind: LOOPBACK })];
  const batch = host.createBatch(50, 64);
  for (let i = 0; i < 50; i++) writeAddress(batch.peers, i * ADDRESS_BYTES, b.local);
  batch.lengths.fill(3);
  batch.count = 50;
  a.send(batch);
  await a.close();
  equal(a.counters().datagramsSent, 50);
  const into = host.createBatch(50, 64);
  for (let received = 0; received < 50;) {
    const entries = b.receive(into);
    received += typeof entries === "number" ? entries : await entries;
  }
  await host.close();
});

Deno.test("Outbox drops what exceeds its bound, and lets go of buffers that are sent", () => {
  const sent: number[] = [];
  const left: ((error: Error | null) => void)[] = [];
  const socket = {
    send: (
      bytes: Uint8Array,
      _offset: number,
      _length: number,
      _port: number,
      _host: string,
      done: (error: Error | null) => void,
    ) => {
      sent.push(bytes[0]!);
      left.push(done);
    },
  };
  const outbox = new Outbox(socket as unknown as ConstructorParameters<typeof Outbox>[0]);
  const bytes = new Uint8Array(8);
  for (let i = 0; i < 4100; i++) {
    bytes[0] = i;
    outbox.send(bytes, 0, 8, 69, "127.0.0.1");
  }
  equal(outbox.drops, 4, "4,096 may wait");
  equal(sent.length, 1, "one at a time");
  for (let answered = 0; left.length > 0; answered++) {
    left.shift()!(answered === 6 ? new Error("unreachable") : null);
  }
  deepEqual(sent, Array.from({ length: 4096 }, (_, i) => i & 255));
  equal(outbox.sent, 4095);
  equal(outbox.drops, 5);
});

Deno.test("HostTexts forgets senders rather than growing", () => {
  const [four, six] = [new HostTexts(false), new HostTexts(true)];
  const into = new DataView(new ArrayBuffer(ADDRESS_BYTES));
  for (let i = 0; i < 3000; i++) {
    const text = `10.0.${i >> 8}.${i & 255}`;
    (i % 2 === 1 ? six : four).write(text, i, into, 0);
    const address = i % 2 === 1 ? `::ffff:${text}` : text;
    deepEqual(readAddress(into, 0), {
      family: i % 2 === 1 ? "ipv6" : "ipv4",
      address,
      port: i,
    });
  }
});

Deno.test("HostTexts keeps the interface of a link-local address", () => {
  const texts = new HostTexts(true);
  const into = new DataView(new ArrayBuffer(ADDRESS_BYTES));
  texts.write("fe80::1%7", 69, into, 0);
  deepEqual(readAddress(into, 0), { family: "ipv6", address: "fe80::1", port: 69, scope: 7 });
  const text = texts.read(into, 0);
  ok(text.startsWith("fe80::1%"), text);
  equal(new HostTexts(false).read(into, 0), "", "an IPv4 socket cannot reach it");
});

Deno.test("HostTexts knows a link-local sender without a zone by the zone it was sent to", () => {
  const texts = new HostTexts(true);
  const [sent, received] = [
    new DataView(new ArrayBuffer(ADDRESS_BYTES)),
    new DataView(new ArrayBuffer(ADDRESS_BYTES)),
  ];
  texts.write("fe80::9", 69, received, 0);
  equal(readAddress(received, 0).scope, undefined);
  writeAddress(sent, 0, { family: "ipv6", address: "fe80::9", port: 69, scope: 7 });
  texts.read(sent, 0);
  texts.write("fe80::9", 69, received, 0);
  equal(readAddress(received, 0).scope, 7);
});
