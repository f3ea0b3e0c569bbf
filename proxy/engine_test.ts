import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { resolveDriver } from "../ffi/mod.ts";
import { seededRandom } from "../internal/random.ts";
import { runContract } from "../internal/testing/contract.ts";
import { fetchVia } from "./fetch.ts";
import {
  bytesOf,
  configOf,
  Datagrams,
  Origin,
  pattern,
  Peer,
  socks5Request,
  socks5Words,
  TestProxy,
  textOf,
  until,
} from "./testdata/engine.ts";

type Driver = "fast" | "portable";

const KEY22 = "AAECAwQFBgcICQoLDA0ODw==";
const SS17 = { type: "shadowsocks", method: "aes-256-gcm", password: "secret" };
const SS22 = { type: "shadowsocks", method: "2022-blake3-aes-128-gcm", password: KEY22 };

runContract<Driver>("Proxy", [
  [
    "takes a SOCKS5 handshake byte by byte",
    async (driver) => {
      await using origin = await Origin.echo();
      await using proxy = await TestProxy.open(driver, [{ type: "mixed" }]);
      await using client = await Peer.connect(proxy.port("mixed"));
      await client.dribble(Uint8Array.of(5, 1, 0));
      deepEqual(await client.read(2), Uint8Array.of(5, 0));
      await client.dribble(socks5Request(origin.port));
      deepEqual((await client.read(10)).slice(0, 4), Uint8Array.of(5, 0, 0, 1));
      client.write("hello");
      equal(textOf(await client.read(5)), "hello");
    },
  ],
  [
    "loses nothing that a client sends in one piece with its handshake",
    async (driver) => {
      await using origin = await Origin.echo();
      await using proxy = await TestProxy.open(driver, [{ type: "mixed" }]);
      const payload = pattern(100_000);
      await using client = await Peer.connect(proxy.port("mixed"));
      client.write(new Uint8Array([...socks5Words(origin.port), ...payload]));
      client.end();
      await client.read(12);
      deepEqual(await client.rest(), new Uint8Array(payload));
      await using tunnel = await Peer.connect(proxy.port("mixed"));
      tunnel.write(`CONNECT 127.0.0.1:${origin.port} HTTP/1.1\r\nHost: x\r\n\r\nfirst words`);
      tunnel.end();
      match(textOf(await tunnel.rest()), /^HTTP\/1\.1 200 [^\r]*\r\n\r\nfirst words$/);
      const name = bytesOf("localhost\0");
      await using old = await Peer.connect(proxy.port("mixed"));
      const { port } = origin;
      old.write(
        new Uint8Array([4, 1, port >> 8, port & 255, 0, 0, 0, 1, 0, ...name, ...bytesOf("4a")]),
      );
      old.end();
      const answer = await old.rest();
      deepEqual([answer[0], answer[1]], [0, 0x5a]);
      equal(textOf(answer.slice(8)), "4a");
    },
  ],
  [
    "carries the end of each direction by itself",
    async (driver) => {
      await using origin = await Origin.open();
      await using proxy = await TestProxy.open(driver, [{ type: "socks" }]);
      await using client = await Peer.connect(proxy.port("socks"));
      client.write(socks5Words(origin.port));
      await client.read(12);
      const server = await origin.accept();
      client.write("question");
      client.end();
      equal(textOf(await server.rest()), "question");
      const answer = pattern(300_000, 7);
      server.write(answer);
      server.end();
      deepEqual(await client.rest(), new Uint8Array(answer));
      await until(() => proxy.server.connections.active === 0, "the connection was let go of");
      const { upload, download } = proxy.server.connections.totals;
      equal(upload, 8);
      ok(download >= 300_000, `${download} bytes to the client`);
    },
  ],
  [
    "tells a SOCKS5 client why a destination was not reached",
    async (driver) => {
      await using origin = await Origin.open();
      const { port } = origin;
      const route = { rules: [{ port, action: "reject" }] };
      await using proxy = await TestProxy.open(driver, [{ type: "socks" }], { route });
      const codeFor = async (request: Uint8Array): Promise<number> => {
        await using client = await Peer.connect(proxy.port("socks"));
        client.write(new Uint8Array([5, 1, 0, ...request]));
        return (await client.rest())[3]!;
      };
      equal(await codeFor(socks5Request(port)), 2);
      const closed = await Origin.open();
      const free = closed.port;
      await closed[Symbol.asyncDispose]();
      equal(await codeFor(socks5Request(free)), 5);
      equal(await codeFor(socks5Request(port, 2)), 7);
      const name = bytesOf("no-such-name.invalid");
      equal(await codeFor(new Uint8Array([5, 1, 0, 3, name.length, ...name, 0, 80])), 4);
      equal(origin.connections, 0);
    },
  ],
  [
    "takes the 300 bytes of a name that SOCKS4a allows no client as a mistake, and goes on",
    async (driver) => {
      await using proxy = await TestProxy.open(driver, [{ type: "socks" }]);
      await using client = await Peer.connect(proxy.port("socks"));
      client.write(new Uint8Array([4, 1, 0, 80, 0, 0, 0, 1, 0, ...bytesOf("a".repeat(300)), 0]));
      equal((await client.rest()).length, 0);
      await using next = await Peer.connect(proxy.port("socks"));
      next.write(Uint8Array.of(5, 1, 0));
      deepEqual(await next.read(2), Uint8Array.of(5, 0));
    },
  ],
  [
    "lets nobody in without the right password",
    async (driver) => {
      await using origin = await Origin.echo();
      const users = [{ username: "user", password: "right" }];
      await using proxy = await TestProxy.open(driver, [{ type: "mixed", users }]);
      const login = (password: string): Uint8Array =>
        new Uint8Array([5, 1, 2, 1, 4, ...bytesOf("user"), password.length, ...bytesOf(password)]);
      await using wrong = await Peer.connect(proxy.port("mixed"));
      wrong.write(login("wrong"));
      deepEqual(await wrong.rest(), Uint8Array.of(5, 2, 1, 1));
      await using right = await Peer.connect(proxy.port("mixed"));
      right.write(new Uint8Array([...login("right"), ...socks5Request(origin.port)]));
      deepEqual((await right.read(14)).slice(0, 6), Uint8Array.of(5, 2, 1, 0, 5, 0));
      const connect = `CONNECT 127.0.0.1:${origin.port} HTTP/1.1\r\n`;
      await using asked = await Peer.connect(proxy.port("mixed"));
      asked.write(`${connect}\r\n`);
      match(textOf(await asked.read(20)), /^HTTP\/1\.1 407/);
      asked.write(`${connect}Proxy-Authorization: Basic ${btoa("user:right")}\r\n\r\n`);
      await until(() => proxy.server.connections.opened === 2, "the second request was let in");
    },
  ],
  [
    "forwards requests one after the other, each to the server it names, on one connection",
    async (driver) => {
      await using one = await Origin.open();
      await using two = await Origin.open();
      await using proxy = await TestProxy.open(driver, [{ type: "http" }]);
      await using client = await Peer.connect(proxy.port("http"));
      const serve = async (server: Peer, body: string): Promise<string> => {
        let head = "";
        while (!head.endsWith("\r\n\r\n")) head += textOf(await server.read(1));
        server.write(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
        return head;
      };
      const ask = async (port: number, path: string): Promise<string> => {
        client.write(`GET http://127.0.0.1:${port}${path} HTTP/1.1\r\nProxy-Connection: x\r\n\r\n`);
        let answer = "";
        while (!answer.endsWith("!")) answer += textOf(await client.read(1));
        return answer.slice(answer.indexOf("\r\n\r\n") + 4);
      };
      const first = ask(one.port, "/a");
      const server = await one.accept();
      match(await serve(server, "one!"), /^GET \/a HTTP\/1\.1\r\nHost: 127\.0\.0\.1:\d+\r\n\r\n$/);
      equal(await first, "one!");
      const second = ask(two.port, "/b");
      await serve(await two.accept(), "two!");
      equal(await second, "two!");
      const third = ask(one.port, "/c");
      match(await serve(server, "three!"), /^GET \/c /);
      equal(await third, "three!");
      equal(one.connections, 1);
    },
  ],
  [
    "relays datagrams of the client alone, whole ones, and tells where answers come from",
    async (driver) => {
      await using echo = await Datagrams.echo();
      await using proxy = await TestProxy.open(driver, [{ type: "socks" }]);
      await using control = await Peer.connect(proxy.port("socks"));
      control.write(Uint8Array.of(5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0));
      const answer = await control.read(12);
      deepEqual(answer.slice(2, 10), Uint8Array.of(5, 0, 0, 1, 127, 0, 0, 1));
      const relay = answer[10]! << 8 | answer[11]!;
      await using client = await Datagrams.open();
      await using stranger = await Datagrams.open();
      const header = (fragment: number): number[] => [
        ...[0, 0, fragment, 1, 127, 0, 0, 1, echo.port >> 8, echo.port & 255],
      ];
      client.send(new Uint8Array([...header(1), 9]), relay);
      client.send(new Uint8Array([...header(0), 1, 2, 3]), relay);
      deepEqual((await client.receive()).bytes, new Uint8Array([...header(0), 1, 2, 3]));
      stranger.send(new Uint8Array([...header(0), 6]), relay);
      const large = pattern(30_000);
      client.send(new Uint8Array([...header(0), ...large]), relay);
      deepEqual((await client.receive()).bytes, new Uint8Array([...header(0), ...large]));
      equal(echo.held, 2, "neither the fragment nor the stranger's datagram was passed on");
      equal(stranger.held, 0);
      await control[Symbol.asyncDispose]();
      await until(() => proxy.server.snapshot().associations === 0, "the association was ended");
    },
  ],
  [
    "chains outbounds to any depth, for streams and datagrams",
    async (driver) => {
      await using echo = await Origin.echo();
      await using datagrams = await Datagrams.echo();
      const users = [{ username: "u", password: "p" }];
      await using far = await TestProxy.open(driver, [
        { ...SS17, tag: "s17" },
        { ...SS22, tag: "s22" },
        { type: "socks", users },
        { type: "http", users },
      ]);
      const at = (tag: string): object => ({ server: "127.0.0.1", server_port: far.port(tag) });
      await using near = await TestProxy.open(driver, [
        { type: "socks" },
        { type: "socks", tag: "streams" },
      ], {
        outbounds: [
          { ...SS17, tag: "a", ...at("s17"), detour: "b" },
          { type: "socks", tag: "b", ...at("socks"), ...users[0], detour: "c" },
          { ...SS22, tag: "c", ...at("s22") },
          { type: "http", tag: "d", ...at("http"), ...users[0], detour: "a" },
        ],
        route: { rules: [{ inbound: "streams", outbound: "d" }], final: "a" },
      });
      const payload = pattern(400_000, 3);
      for (const tag of ["socks", "streams"]) {
        await using client = await Peer.connect(near.port(tag));
        client.write(new Uint8Array([...socks5Words(echo.port), ...payload]));
        client.end();
        await client.read(12);
        deepEqual(await client.rest(), new Uint8Array(payload), tag);
      }
      await using control = await Peer.connect(near.port("socks"));
      control.write(Uint8Array.of(5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0));
      const answer = await control.read(12);
      await using client = await Datagrams.open();
      const { port } = datagrams;
      const sent = new Uint8Array([0, 0, 0, 1, 127, 0, 0, 1, port >> 8, port & 255, ...pattern(9)]);
      client.send(sent, answer[10]! << 8 | answer[11]!);
      deepEqual((await client.receive()).bytes, sent);
      const [running] = near.server.connections.list();
      deepEqual(running?.chain, ["a", "b", "c"]);
    },
  ],
  [
    "sends the header of Shadowsocks in one piece with the first bytes",
    async (driver) => {
      await using server = await Origin.open();
      await using proxy = await TestProxy.open(driver, [{ type: "direct", override_port: 80 }], {
        outbounds: [{ ...SS17, tag: "out", server: "127.0.0.1", server_port: server.port }],
      });
      await using client = await Peer.connect(proxy.port("direct"));
      const peer = await server.accept();
      equal(peer.held, 0);
      client.write("0123456789");
      // Salt, sealed length, and the sealed address and payload: 32 + 18 + 7 + 10 + 16.
      await until(() => peer.held > 0, "something was sent");
      equal(peer.held, 83);
    },
  ],
  [
    "answers a stranger's bytes, and a repeated session, with silence",
    async (driver) => {
      await using echo = await Origin.echo();
      for (const kind of [SS17, SS22]) {
        await using server = await TestProxy.open(driver, [kind]);
        // Between client and server somebody writes down what was said.
        await using between = await Origin.open();
        await using near = await TestProxy.open(driver, [{ type: "socks" }], {
          outbounds: [{ ...kind, tag: "out", server: "127.0.0.1", server_port: between.port }],
        });
        await using client = await Peer.connect(near.port("socks"));
        client.write(new Uint8Array([...socks5Words(echo.port), ...bytesOf("once")]));
        const heard = await between.accept();
        await until(() => heard.held > 0, "the client spoke");
        const session = await heard.read(heard.held);
        await using genuine = await Peer.connect(server.port("shadowsocks"));
        genuine.write(session);
        await until(() => genuine.held > 0, "the server answered");
        const probes: Peer[] = [];
        const random = seededRandom(kind === SS17 ? 17 : 22);
        const strangers = Array.from({ length: 200 }, (_, index) => random.bytes(index + 1));
        for (const probe of [session, ...strangers]) {
          const peer = await Peer.connect(server.port("shadowsocks"));
          peer.write(probe);
          probes.push(peer);
        }
        await until(() => server.server.snapshot().handshakes === 201, "all were read");
        genuine.write(bytesOf("x"));
        deepEqual(probes.map((peer) => [peer.held, peer.ended]), probes.map(() => [0, false]));
        equal(echo.connections, kind === SS17 ? 1 : 2);
        for (const peer of probes) await peer[Symbol.asyncDispose]();
        await until(() => server.server.snapshot().handshakes === 0, "all of them were let go");
      }
    },
  ],
  [
    "sniffs a name and routes by it",
    async (driver) => {
      await using origin = await Origin.open();
      await using proxy = await TestProxy.open(driver, [{ type: "socks" }], {
        outbounds: [{ type: "direct", tag: "out" }, { type: "block", tag: "no" }],
        route: {
          rules: [{ action: "sniff" }, { domain: "blocked.example", outbound: "no" }],
          final: "out",
        },
      });
      const ask = async (host: string): Promise<Peer> => {
        const client = await Peer.connect(proxy.port("socks"));
        client.write(socks5Words(origin.port));
        await client.read(12);
        client.write(`GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
        return client;
      };
      await using allowed = await ask("allowed.example");
      const server = await origin.accept();
      match(textOf(await server.read(20)), /^GET \/ HTTP\/1\.1/);
      await using blocked = await ask("blocked.example");
      await blocked.rest();
      equal(origin.connections, 1);
      equal(proxy.server.connections.list()[0]?.metadata.sniffedHost, "allowed.example");
      ok(!allowed.ended);
    },
  ],
  [
    "takes another configuration without dropping a connection, and keeps the old one when it is broken",
    async (driver) => {
      await using origin = await Origin.echo();
      const inbounds = [{ type: "socks" }, { type: "http" }];
      await using proxy = await TestProxy.open(driver, inbounds);
      const port = proxy.port("socks");
      await using client = await Peer.connect(port);
      client.write(socks5Words(origin.port));
      await client.read(12);
      await rejects(proxy.server.reload({ inbounds: [{ type: "sock" }] }), /"sock"|socks/);
      const taken = configOf([{ type: "mixed", listen_port: origin.port }]);
      await rejects(proxy.server.reload(taken), { code: "system.address-in-use" });
      deepEqual(proxy.server.inbounds.map(({ tag }) => tag), ["socks", "http"]);
      const block = { outbounds: [{ type: "block", tag: "no" }] };
      await proxy.server.reload(configOf([{ type: "socks" }, { type: "mixed" }], block));
      equal(proxy.port("socks"), port);
      deepEqual(proxy.server.inbounds.map(({ tag }) => tag), ["socks", "mixed"]);
      client.write("still there");
      equal(textOf(await client.read(11)), "still there");
      await using next = await Peer.connect(port);
      next.write(socks5Words(origin.port));
      equal((await next.rest())[3], 2);
    },
  ],
  [
    "waits for connections when it stops, and cuts what is left",
    async (driver) => {
      await using origin = await Origin.echo();
      const open = async (proxy: TestProxy): Promise<Peer> => {
        const client = await Peer.connect(proxy.port("socks"));
        client.write(socks5Words(origin.port));
        await client.read(12);
        return client;
      };
      const patient = await TestProxy.open(driver, [{ type: "socks" }]);
      await using client = await open(patient);
      const closing = patient.server.close({ graceMs: 60_000 });
      client.write("last words");
      equal(textOf(await client.read(10)), "last words");
      client.end();
      await client.rest();
      await closing;
      const hasty = await TestProxy.open(driver, [{ type: "socks" }]);
      await using cut = await open(hasty);
      await hasty.server.close();
      await cut.rest();
      ok(cut.ended);
    },
  ],
  [
    "ends the client when the server is gone in the middle",
    async (driver) => {
      await using origin = await Origin.open();
      await using proxy = await TestProxy.open(driver, [{ type: "socks" }]);
      await using client = await Peer.connect(proxy.port("socks"));
      client.write(socks5Words(origin.port));
      await client.read(12);
      const server = await origin.accept();
      server.write(pattern(1000));
      await client.read(1000);
      server.socket.resetAndDestroy();
      await client.rest();
      await until(() => proxy.server.connections.active === 0, "the connection was let go of");
    },
  ],
  [
    "closes a connection that is cut from outside",
    async (driver) => {
      await using origin = await Origin.open();
      await using proxy = await TestProxy.open(driver, [{ type: "socks" }]);
      await using client = await Peer.connect(proxy.port("socks"));
      client.write(socks5Words(origin.port));
      await client.read(12);
      const [connection] = proxy.server.connections.list();
      equal(connection?.metadata.destination.port, origin.port);
      equal(proxy.server.connections.closeAll(({ id }) => id === connection!.id), 1);
      await client.rest();
      const { connections } = proxy.server;
      await until(() => connections.get(connection!.id) === undefined, "it was let go of");
    },
  ],
  [
    "keeps to the interface it is told, and resets who connects to a redirect by himself",
    async (driver) => {
      // The portable driver cannot choose, and says so for redirect.
      if (driver === "portable") {
        await rejects(TestProxy.open(driver, [{ type: "redirect" }]), {
          code: "proxy.no-redirect",
        });
        return;
      }
      await using origin = await Origin.echo();
      await using proxy = await TestProxy.open(driver, [{ type: "redirect" }, { type: "socks" }], {
        outbounds: [
          { type: "direct", tag: "here", bind_interface: "lo" },
          { type: "direct", tag: "nowhere", bind_interface: "no-such" },
        ],
      });
      const at = { host: "127.0.0.1", port: origin.port };
      await (await proxy.server.outbound("here").dial(at)).close();
      await rejects(proxy.server.outbound("nowhere").dial(at), { errnoName: "ENODEV" });
      // The reset may come before the client knows that it is connected.
      const wasReset = await Peer.connect(proxy.port("redirect")).then(async (client) => {
        await client.rest();
        return client.failed;
      }, () => true);
      ok(wasReset);
      equal(proxy.server.connections.opened, 0);
    },
  ],
  [
    "fetches through an outbound",
    async (driver) => {
      await using origin = await Origin.open();
      await using proxy = await TestProxy.open(driver, []);
      const fetching = fetchVia(proxy.server.outbound(), `http://127.0.0.1:${origin.port}/x?y=1`);
      const server = await origin.accept();
      match(textOf(await server.read(20)), /^GET \/x\?y=1 HTTP\/1\.1/);
      server.write("HTTP/1.1 201 Made\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n");
      server.write("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
      const response = await fetching;
      deepEqual([response.status, response.statusText], [201, "Made"]);
      equal(response.headers.get("a"), "b");
      equal(await response.text(), "abcde");
    },
  ],
], {
  fast: {
    missing: () => resolveDriver("auto", ["ffi", "splice", "epoll", "eventfd"]).reason,
    open: () => "fast",
  },
  portable: { missing: () => "", open: () => "portable" },
});
