import { deepEqual, equal, match, notDeepEqual } from "node:assert/strict";
import { runContract } from "../internal/testing/contract.ts";
import { PROXY_DRIVERS, type ProxyDriver } from "./testdata/drivers.ts";
import {
  bytesOf,
  configOf,
  Datagrams,
  Origin,
  pattern,
  Peer,
  socks5Words,
  TestProxy,
  until,
} from "./testdata/engine.ts";
import { readProxyConfig } from "./config.ts";

const METHOD = { type: "shadowsocks", method: "2022-blake3-aes-128-gcm" };
const [FIRST, SECOND, USER, OTHER] = [1, 2, 3, 4].map((fill) =>
  btoa(String.fromCharCode(fill).repeat(16))
) as [string, string, string, string];

/** A server with users, a relay in front of it, one more in front of that, and a client that knows all their keys. */
async function openChain(driver: ProxyDriver): Promise<AsyncDisposable & { proxies: TestProxy[] }> {
  const server = await TestProxy.open(driver, [{
    ...METHOD,
    password: SECOND,
    users: [{ name: "other", password: OTHER }, { name: "user", password: USER }],
  }]);
  const place = (proxy: TestProxy): object => ({
    server: "127.0.0.1",
    server_port: proxy.port("shadowsocks"),
  });
  const inner = await TestProxy.open(driver, [{
    ...METHOD,
    password: FIRST,
    destinations: [
      { name: "nowhere", password: OTHER, server: "127.0.0.1", server_port: 1 },
      { name: "server", password: SECOND, ...place(server) },
    ],
  }]);
  const outer = await TestProxy.open(driver, [{
    ...METHOD,
    password: OTHER,
    destinations: [{ name: "inner", password: FIRST, ...place(inner) }],
  }]);
  const near = await TestProxy.open(driver, [{ type: "socks" }], {
    outbounds: [{
      ...METHOD,
      tag: "out",
      password: [OTHER, FIRST, SECOND, USER].join(":"),
      ...place(outer),
    }],
  });
  const proxies = [near, outer, inner, server];
  return {
    proxies,
    [Symbol.asyncDispose]: async () => {
      for (const proxy of proxies) await proxy[Symbol.asyncDispose]();
    },
  };
}

runContract<ProxyDriver>("ShadowsocksRelay", [
  [
    "relays streams through two relays to the server, which knows the user",
    async (driver) => {
      await using echo = await Origin.echo();
      await using chain = await openChain(driver);
      const [near, outer, inner, server] = chain.proxies;
      await using client = await Peer.connect(near!.port("socks"));
      const payload = pattern(700_000, 5);
      client.write(new Uint8Array([...socks5Words(echo.port), ...payload.subarray(0, 1000)]));
      await client.read(12);
      deepEqual(await client.read(1000), new Uint8Array(payload.subarray(0, 1000)));
      const seen = [outer, inner, server].map((proxy) => {
        const [entry] = proxy!.server.connections.list();
        return [entry?.metadata.user, entry?.metadata.destination.port];
      });
      deepEqual(seen, [
        ["inner", inner!.port("shadowsocks")],
        ["server", server!.port("shadowsocks")],
        ["user", echo.port],
      ]);
      client.write(payload.subarray(1000));
      client.end();
      deepEqual(await client.rest(), new Uint8Array(payload.subarray(1000)));
    },
  ],
  [
    "relays datagrams the same way, and their answers back",
    async (driver) => {
      await using echo = await Datagrams.echo();
      await using chain = await openChain(driver);
      await using control = await Peer.connect(chain.proxies[0]!.port("socks"));
      control.write(Uint8Array.of(5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0));
      const answer = await control.read(12);
      await using client = await Datagrams.open();
      for (const length of [0, 1, 1200]) {
        const head = [0, 0, 0, 1, 127, 0, 0, 1, echo.port >> 8, echo.port & 255];
        const sent = Uint8Array.from([...head, ...pattern(length)]);
        client.send(sent, answer[10]! << 8 | answer[11]!);
        deepEqual((await client.receive()).bytes, sent, `${length}`);
      }
      deepEqual(chain.proxies.map(({ server }) => server.snapshot().associations), [1, 1, 1, 1]);
    },
  ],
  [
    "shows strangers, and whoever repeats a session, the same silence as a server",
    async (driver) => {
      await using echo = await Origin.echo();
      await using chain = await openChain(driver);
      const [near, , inner, server] = chain.proxies;
      // Between client and relay somebody writes down what was said.
      await using between = await Origin.open();
      await using spied = await TestProxy.open(driver, [{ type: "socks" }], {
        outbounds: [{
          ...METHOD,
          tag: "out",
          password: [FIRST, SECOND, USER].join(":"),
          server: "127.0.0.1",
          server_port: between.port,
        }],
      });
      await using client = await Peer.connect(spied.port("socks"));
      client.write(new Uint8Array([...socks5Words(echo.port), ...bytesOf("once")]));
      const heard = await between.accept();
      await until(() => heard.held > 0, "the client spoke");
      const session = await heard.read(heard.held);
      await using genuine = await Peer.connect(inner!.port("shadowsocks"));
      genuine.write(session);
      await until(() => genuine.held > 0, "the server answered");
      const probes: Peer[] = [];
      const lengths = [1, 15, 16, 31, 32, 33, 48, 59, 60, 75, 100, 200];
      for (const port of [inner!.port("shadowsocks"), server!.port("shadowsocks")]) {
        for (const probe of [session, ...lengths.map((n) => pattern(n, n))]) {
          const peer = await Peer.connect(port);
          peer.write(probe);
          probes.push(peer);
        }
      }
      const waiting = (): number[] =>
        [inner, server].map((proxy) => proxy!.server.snapshot().handshakes);
      await until(() => waiting().join() === "13,13", "all of them were read");
      deepEqual(probes.map((peer) => [peer.held, peer.ended]), probes.map(() => [0, false]));
      equal(inner!.server.snapshot().opened, 1, "nothing of them went on");
      // Who closes is let go, by both in the same way.
      for (const peer of probes) peer.end();
      await until(() => waiting().join() === "0,0", "all of them were let go");
      await until(() => probes.every((peer) => peer.ended), "and were told");
      // How a driver ends a client that has ended is its own affair, but it is one way for all.
      equal(new Set(probes.map((peer) => `${peer.held} ${peer.failed}`)).size, 1);
      for (const peer of probes) await peer[Symbol.asyncDispose]();
      equal(near!.server.snapshot().opened, 0);
    },
  ],
  [
    "drops datagrams of strangers and repeated ones, and keeps answers where they belong",
    async (driver) => {
      await using server = await Datagrams.open();
      await using relay = await TestProxy.open(driver, [{
        ...METHOD,
        password: FIRST,
        destinations: [{
          name: "server",
          password: SECOND,
          server: "127.0.0.1",
          server_port: server.port,
        }],
      }]);
      await using spy = await Datagrams.open();
      await using near = await TestProxy.open(driver, [{ type: "direct", override_port: 7 }], {
        outbounds: [{
          ...METHOD,
          tag: "out",
          password: [FIRST, SECOND].join(":"),
          server: "127.0.0.1",
          server_port: spy.port,
        }],
      });
      await using client = await Datagrams.open();
      client.send(bytesOf("hello"), near.port("direct"));
      const { bytes: packet } = await spy.receive();
      const port = relay.port("shadowsocks");
      spy.send(packet, port);
      const first = await server.receive();
      equal(first.bytes.length, packet.length - 16);
      await using stranger = await Datagrams.open();
      stranger.send(packet, port);
      for (const length of [1, 58, 59, 100]) stranger.send(pattern(length, length), port);
      // When another client's datagram has passed, so has what came before it.
      await using another = await Datagrams.open();
      another.send(bytesOf("another"), near.port("direct"));
      another.send((await spy.receive()).bytes, port);
      notDeepEqual((await server.receive()).bytes, first.bytes, "a repeated one was passed on");
      // What comes back goes to whom it belongs, not to who repeated the datagram.
      server.send(bytesOf("answer"), first.port);
      equal(new TextDecoder().decode((await spy.receive()).bytes), "answer");
      deepEqual([server.held, stranger.held], [0, 0]);
      equal(relay.server.snapshot().associations, 2);
    },
  ],
], PROXY_DRIVERS);

Deno.test("`check` refuses destinations that a relay could not tell apart or reach", async () => {
  const problems = async (inbound: object): Promise<string> => {
    const config = configOf([{ ...METHOD, password: FIRST, ...inbound }]);
    const result = await readProxyConfig([{ name: "a.json", text: JSON.stringify(config) }]);
    return result.problems.map(({ path, message }) => `${path} ${message}`).join("\n");
  };
  const server = { server: "127.0.0.1", server_port: 1 };
  const one = { name: "a", password: SECOND, ...server };
  equal(await problems({ destinations: [one, { ...one, name: "b", password: USER }] }), "");
  match(
    await problems({ destinations: [one, { ...one, name: "b" }] }),
    /destinations\[1\]\.password is the key of number 1/,
  );
  match(
    await problems({
      users: [{ name: "a", password: SECOND }, { name: "b", password: SECOND }],
    }),
    /users\[1\]\.password is the key of number 1/,
  );
  match(await problems({ destinations: [{ ...one, password: `${SECOND}:${USER}` }] }), /password/);
});
