import { deepEqual, equal, match, ok } from "node:assert/strict";
import { runContract } from "../internal/testing/contract.ts";
import { freeTcpPort } from "../internal/testing/proxy_peers.ts";
import {
  configOf,
  Datagrams,
  Origin,
  Peer,
  socks5Words,
  TestProxy,
  textOf,
  until,
} from "./testdata/engine.ts";
import { PROXY_DRIVERS } from "./testdata/drivers.ts";
import { createProxy } from "./engine.ts";

runContract("A proxy that could talk to itself", [
  [
    "ends a stream that would go round for ever, and serves the next client",
    async (driver) => {
      const port = freeTcpPort();
      await using server = await createProxy(
        configOf([
          {
            type: "direct",
            listen_port: port,
            network: "tcp",
            override_address: "127.0.0.1",
            override_port: port,
          },
          { type: "socks" },
        ]),
        { driver },
      );
      for (let i = 0; i < 2; i++) {
        await using client = await Peer.connect(port);
        client.write("anybody?");
        equal((await client.rest()).length, 0);
      }
      // The client, eight rounds, and no more.
      ok(server.snapshot().opened <= 20, `${server.snapshot().opened} connections`);
      await until(() => server.snapshot().active === 0, "nothing was left of it");
      await using origin = await Origin.echo();
      const socks = server.inbounds.find(({ tag }) => tag === "socks")!.addresses[0]!.port;
      await using client = await Peer.connect(socks);
      client.write(new Uint8Array([...socks5Words(origin.port), 104, 105]));
      await client.read(12);
      equal(textOf(await client.read(2)), "hi");
    },
  ],
  [
    "ends datagrams that would go round for ever",
    async (driver) => {
      const port = freeTcpPort();
      await using server = await createProxy(
        configOf([{
          type: "direct",
          listen_port: port,
          network: "udp",
          override_address: "127.0.0.1",
          override_port: port,
        }]),
        { driver },
      );
      await using client = await Datagrams.open();
      for (let i = 0; i < 3; i++) client.send(Uint8Array.of(i), port);
      await until(() => server.snapshot().associations > 0, "it came");
      await until(() => server.snapshot().associations >= 9, "it went round");
      // Time for more.
      await new Promise((resolve) => setTimeout(resolve, 50));
      ok(server.snapshot().associations <= 12, `${server.snapshot().associations}`);
    },
  ],
  [
    "listens to the destination alone where a rule connects datagrams",
    async (driver) => {
      await using echo = await Datagrams.echo();
      await using stranger = await Datagrams.open();
      for (const connected of [false, true]) {
        await using proxy = await TestProxy.open(driver, [{
          type: "direct",
          network: "udp",
          override_address: "127.0.0.1",
          override_port: echo.port,
        }], {
          route: {
            rules: [{ action: "route-options", udp_connect: connected, udp_timeout: "1m" }],
          },
        });
        await using client = await Datagrams.open();
        const seen = new Promise<number>((resolve) =>
          echo.socket.once("message", (_bytes, { port }) => resolve(port))
        );
        client.send(Uint8Array.of(1), proxy.port("direct"));
        const outside = await seen;
        equal((await client.receive()).bytes[0], 1);
        stranger.send(Uint8Array.of(66), outside);
        client.send(Uint8Array.of(2), proxy.port("direct"));
        const next = [(await client.receive()).bytes[0]];
        if (!connected) next.push((await client.receive()).bytes[0]);
        deepEqual(next.toSorted(), connected ? [2] : [2, 66]);
      }
    },
  ],
  [
    "tells whom datagrams come from by the name that was asked, or the address where a rule says so",
    async (driver) => {
      await using echo = await Datagrams.echo();
      for (const keep of [false, true]) {
        await using proxy = await TestProxy.open(driver, [{ type: "socks" }], {
          dns: {
            servers: [{ type: "hosts", tag: "h", predefined: { "there.test": "127.0.0.1" } }],
          },
          route: {
            default_domain_resolver: "h",
            rules: [{
              action: "route-options",
              udp_disable_domain_unmapping: keep,
              udp_timeout: "1m",
            }],
          },
        });
        await using control = await Peer.connect(proxy.port("socks"));
        control.write(Uint8Array.of(5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0));
        const reply = await control.read(12);
        const port = reply[10]! << 8 | reply[11]!;
        await using client = await Datagrams.open();
        const name = new TextEncoder().encode("there.test");
        const head = [0, 0, 0, 3, name.length, ...name, echo.port >> 8, echo.port & 255];
        client.send(Uint8Array.of(...head, 7), port);
        const { bytes } = await client.receive();
        const address = [0, 0, 0, 1, 127, 0, 0, 1, echo.port >> 8, echo.port & 255];
        deepEqual([...bytes], [...(keep ? address : head), 7]);
      }
    },
  ],
  [
    "follows the detour of a direct outbound",
    async (driver) => {
      await using origin = await Origin.echo();
      await using far = await TestProxy.open(driver, [{ type: "socks" }]);
      await using near = await TestProxy.open(driver, [{ type: "socks" }], {
        outbounds: [
          { type: "direct", tag: "out", detour: "far" },
          { type: "socks", tag: "far", server: "127.0.0.1", server_port: far.port("socks") },
        ],
      });
      await using client = await Peer.connect(near.port("socks"));
      client.write(new Uint8Array([...socks5Words(origin.port), 33]));
      await client.read(12);
      match(textOf(await client.read(1)), /!/);
      equal(far.server.snapshot().opened, 1);
    },
  ],
], PROXY_DRIVERS);
