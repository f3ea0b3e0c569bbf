import { deepEqual, equal, ok } from "node:assert/strict";
import { seededRandom } from "../internal/random.ts";
import { runContract } from "../internal/testing/contract.ts";
import { joinBytes } from "./protocol/octets.ts";
import { PROXY_DRIVERS, type ProxyDriver } from "./testdata/drivers.ts";
import { bytesOf, Datagrams, TestProxy, textOf, until } from "./testdata/engine.ts";
import { clientHello, cryptoFrame, extension, initialPacket } from "./testdata/hello_feed.ts";

/** The datagrams that begin a connection of QUIC, as a browser cuts and shuffles them. */
function browserDatagrams(host: string, count: number, seed = 5): readonly Uint8Array[] {
  const random = seededRandom(seed);
  const message = clientHello(host, ["h3"], [extension(21, new Uint8Array(700 * count))]);
  const step = Math.ceil(message.length / (3 * count));
  const pieces = Array.from({ length: 3 * count }, (_, at) => {
    return cryptoFrame(message, at * step, Math.min((at + 1) * step, message.length));
  });
  for (let at = pieces.length - 1; at > 0; at--) {
    const other = random.u32() % (at + 1);
    [pieces[at], pieces[other]] = [pieces[other]!, pieces[at]!];
  }
  const destination = random.bytes(8);
  return Array.from({ length: count }, (_, number) => {
    const frames = joinBytes(...pieces.slice(3 * number, 3 * number + 3));
    const padding = new Uint8Array(Math.max(0, 1160 - frames.length));
    return initialPacket(destination, Uint8Array.of(number), joinBytes(frames, padding));
  });
}

/** Sends one after the other: the runtime turns round what is given to it at once. */
async function sendAll(
  client: Datagrams,
  datagrams: readonly Uint8Array[],
  port: number,
): Promise<void> {
  for (const datagram of datagrams) {
    await new Promise((resolve) => client.socket.send(datagram, port, "127.0.0.1", resolve));
  }
}

/** An Initial packet that says nothing. */
function ping(number: number): Uint8Array {
  const payload = joinBytes([1], new Uint8Array(1160));
  return initialPacket(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8), Uint8Array.of(number), payload);
}

/** Everything goes to one place, and what is for `moved.example` to another. */
async function openProxy(
  driver: ProxyDriver,
  plain: Datagrams,
  moved: Datagrams,
  sniff: object,
): Promise<TestProxy> {
  const inbound = { type: "direct", override_address: "127.0.0.1", override_port: plain.port };
  const proxy = await TestProxy.open(driver, [{ ...inbound, network: "udp" }], {
    route: {
      rules: [
        { action: "sniff", ...sniff },
        {
          protocol: "quic",
          domain: "moved.example",
          outbound: "direct",
          override_port: moved.port,
        },
        { domain: "refused.example", action: "reject" },
      ],
    },
  });
  return proxy;
}

runContract<ProxyDriver>("WaitingPackets", [
  [
    "route a QUIC connection by the name that one, two or three datagrams hold, and lose none",
    async (driver) => {
      await using plain = await Datagrams.open();
      await using moved = await Datagrams.open();
      await using proxy = await openProxy(driver, plain, moved, { timeout: "1h" });
      for (const count of [1, 2, 3]) {
        await using client = await Datagrams.open();
        const sent = browserDatagrams("moved.example", count, count);
        // Nothing goes on before it is known where: until then the order cannot be lost either.
        await sendAll(client, sent, proxy.port("direct"));
        const got: Uint8Array[] = [];
        let from = 0;
        while (got.length < count) {
          const { bytes, port } = await moved.receive();
          got.push(bytes);
          from = port;
        }
        deepEqual(got, sent);
        client.send(bytesOf("later"), proxy.port("direct"));
        equal(textOf((await moved.receive()).bytes), "later");
        moved.send(bytesOf("answer"), from);
        equal(textOf((await client.receive()).bytes), "answer");
        const entry = proxy.server.connections.list().at(-1)!;
        deepEqual([entry.metadata.protocol, entry.metadata.sniffedHost], ["quic", "moved.example"]);
      }
      equal(plain.held, 0);
    },
  ],
  [
    "go on after the time for it, in order, when the rest does not come",
    async (driver) => {
      await using plain = await Datagrams.open();
      await using moved = await Datagrams.open();
      await using proxy = await openProxy(driver, plain, moved, { timeout: "50ms" });
      await using client = await Datagrams.open();
      const sent = browserDatagrams("moved.example", 3).slice(0, 2);
      await sendAll(client, sent, proxy.port("direct"));
      deepEqual([(await plain.receive()).bytes, (await plain.receive()).bytes], sent);
      equal(moved.held, 0);
    },
  ],
  [
    "go on at once when they are nothing that has more to come",
    async (driver) => {
      await using plain = await Datagrams.open();
      await using moved = await Datagrams.open();
      const [whole] = browserDatagrams("moved.example", 1);
      const bent = whole!.slice();
      bent[600]! ^= 1;
      await using proxy = await openProxy(driver, plain, moved, { timeout: "1h" });
      for (const datagram of [bytesOf("hello"), bent, Uint8Array.of(0xc0), new Uint8Array(0)]) {
        await using client = await Datagrams.open();
        client.send(datagram, proxy.port("direct"));
        deepEqual((await plain.receive()).bytes, datagram);
      }
      // Somebody asked for other protocols only.
      await using other = await openProxy(driver, plain, moved, { timeout: "1h", sniffer: "dns" });
      await using client = await Datagrams.open();
      client.send(ping(0), other.port("direct"));
      deepEqual((await plain.receive()).bytes, ping(0));
    },
  ],
  [
    "are not waited for without end, and let go with the proxy",
    async (driver) => {
      await using plain = await Datagrams.open();
      await using moved = await Datagrams.open();
      await using proxy = await openProxy(driver, plain, moved, { timeout: "1h" });
      await using client = await Datagrams.open();
      const pings = Array.from({ length: 12 }, (_, number) => ping(number));
      await sendAll(client, pings.slice(0, 7), proxy.port("direct"));
      await using another = await Datagrams.open();
      another.send(bytesOf("through"), proxy.port("direct"));
      equal(textOf((await plain.receive()).bytes), "through");
      equal(plain.held, 0, "what may still become a name waits");
      await sendAll(client, pings.slice(7), proxy.port("direct"));
      for (const sent of pings) deepEqual((await plain.receive()).bytes, sent);
      await using last = await Datagrams.open();
      last.send(ping(0), proxy.port("direct"));
      await until(() => proxy.server.snapshot().associations === 3, "it waits");
    },
  ],
  [
    "are refused by a rule about their name",
    async (driver) => {
      await using plain = await Datagrams.open();
      await using moved = await Datagrams.open();
      await using proxy = await openProxy(driver, plain, moved, { timeout: "1h" });
      await using client = await Datagrams.open();
      await sendAll(client, browserDatagrams("refused.example", 2), proxy.port("direct"));
      await until(() => proxy.server.snapshot().failed === 1, "it was refused");
      ok(plain.held === 0 && moved.held === 0);
      equal(proxy.server.snapshot().associations, 0);
    },
  ],
], PROXY_DRIVERS);
