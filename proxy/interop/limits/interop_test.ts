import { deepEqual, equal, match, ok } from "node:assert/strict";
import { peerTest } from "../../../internal/testing/peers.ts";
import { until } from "../../../internal/testing/proxy_peers.ts";
import {
  close,
  Origin,
  originRequest,
  readExactly,
  sendPattern,
  writeAll,
} from "../../testdata/interop_origin.ts";
import {
  download,
  DRIVERS,
  inbound,
  residentBytes,
  socksConnect,
  startOwnProxy,
  upload,
} from "../../testdata/interop.ts";

const SECRET = { method: "aes-256-gcm", password: "correct horse" };
const PLAIN = { inbounds: [inbound("socks")] };
const MB = 1e6;
const GET = new TextEncoder().encode("GET http://a/ HTTP/1.1\r\nX: ");
const SPACE = new TextEncoder().encode("y");

/** Our proxy, plain or as a Shadowsocks pair: where it listens, and the processes. */
async function startRelay(
  kind: "plain" | "shadowsocks",
  driver: "fast" | "portable",
  options: { readonly descriptors?: number } = {},
) {
  if (kind === "plain") {
    const one = await startOwnProxy(PLAIN, driver, options);
    return { port: one.port("socks"), all: [one], [Symbol.asyncDispose]: one[Symbol.asyncDispose] };
  }
  const far = await startOwnProxy(
    { inbounds: [inbound("shadowsocks", SECRET)] },
    driver,
    options,
  );
  const server = { server: "127.0.0.1", server_port: far.port("shadowsocks") };
  const near = await startOwnProxy(
    {
      ...PLAIN,
      outbounds: [{ type: "shadowsocks", tag: "far", ...server, ...SECRET }],
    },
    driver,
    options,
  );
  return {
    port: near.port("socks"),
    all: [near, far],
    async [Symbol.asyncDispose](): Promise<void> {
      await near[Symbol.asyncDispose]();
      await far[Symbol.asyncDispose]();
    },
  };
}

/** Reads until the end, of whichever kind. */
async function untilEnd(stream: Deno.TcpConn): Promise<void> {
  const buffer = new Uint8Array(65_536);
  try {
    while (await stream.read(buffer) !== null);
  } catch {
    // A reset is an end too.
  }
}

/** Waits until a number has not changed for a while. */
async function untilStill(of: () => number): Promise<void> {
  let last = of();
  let since = performance.now();
  await until(
    () => {
      const now = of();
      if (now !== last) since = performance.now();
      last = now;
      return now > 0 && performance.now() - since > 250;
    },
    20_000,
    () => `it never stood still, ${last}`,
  );
}

for (const driver of DRIVERS) {
  for (const kind of ["plain", "shadowsocks"] as const) {
    peerTest(
      `a destination that is cut ends its client, ${kind}, driver ${driver}`,
      [],
      async () => {
        await using origin = await Origin.start();
        await using relay = await startRelay(kind, driver);
        const stream = await socksConnect(relay.port, "127.0.0.1", origin.port);
        await writeAll(stream, originRequest("s"));
        await readExactly(stream, 5 * MB);
        const ended = untilEnd(stream);
        const cutAt = performance.now();
        origin.cut();
        await ended;
        ok(performance.now() - cutAt < 1000, `${performance.now() - cutAt} ms`);
        close(stream);
        equal(await download(await socksConnect(relay.port, "127.0.0.1", origin.port), 1000), "");
      },
    );

    peerTest(`a reader that stalls costs no memory, ${kind}, driver ${driver}`, [], async () => {
      await using origin = await Origin.start();
      await using relay = await startRelay(kind, driver);
      const connect = () => socksConnect(relay.port, "127.0.0.1", origin.port);
      // What the first transfers load is not what a stalled one costs.
      for (let i = 0; i < 2; i++) {
        equal(await download(await connect(), 10 * MB), "");
        equal(await upload(await connect(), 10 * MB), "");
      }
      const before = relay.all.map(({ tool }) => residentBytes(tool.pid));
      const reader = await connect();
      await writeAll(reader, originRequest("s"));
      const sentBefore = origin.sentBytes;
      await untilStill(() => origin.sentBytes - sentBefore);
      const writer = await connect();
      await writeAll(writer, originRequest("w"));
      let written = 0;
      const writing = sendPattern(writer, 1e9, (bytes) => written += bytes).catch(() => {});
      await untilStill(() => written);
      ok(written < 1e9);
      for (const [at, { tool }] of relay.all.entries()) {
        const grown = (residentBytes(tool.pid) - before[at]!) / MB;
        ok(grown < 32, `process ${at} grew by ${grown.toFixed(1)} MB`);
      }
      close(reader);
      close(writer);
      await writing;
    });
  }

  peerTest(`256 descriptors are refused politely beyond, driver ${driver}`, [], async () => {
    await using origin = await Origin.start();
    await using proxy = await startOwnProxy(PLAIN, driver, { descriptors: 256 });
    const begin = async (): Promise<Deno.TcpConn | undefined> => {
      try {
        const stream = await socksConnect(proxy.port("socks"), "127.0.0.1", origin.port);
        await writeAll(stream, originRequest("e"));
        return stream;
      } catch {
        return undefined;
      }
    };
    // A driver that cannot accept for want of descriptors leaves a client waiting until there are some.
    const late: Promise<void>[] = [];
    const attempt = (): Promise<Deno.TcpConn | undefined> => {
      const beginning = begin();
      return new Promise((resolve) => {
        const timer = setTimeout(() => {
          late.push(beginning.then((stream) => stream?.close()));
          resolve(undefined);
        }, 1000);
        beginning.then((stream) => {
          clearTimeout(timer);
          resolve(stream);
        });
      });
    };
    const streams: Deno.TcpConn[] = [];
    for (let one = await attempt(); one !== undefined && streams.length < 200;) {
      streams.push(one);
      one = await attempt();
    }
    ok(streams.length > 60 && streams.length < 200, `${streams.length} got through`);
    // A crowd beyond that does no harm.
    const crowd = await Promise.all(Array.from({ length: 200 }, attempt));
    streams.push(...crowd.filter((stream) => stream !== undefined));
    ok(streams.length < 200);
    // Those that got through work on.
    const [first] = streams as [Deno.TcpConn];
    await writeAll(first, new Uint8Array([7]));
    equal((await readExactly(first, 1))[0], 7);
    for (const stream of streams) close(stream);
    await Promise.all(late);
    await until(
      async () => {
        const stream = await attempt();
        if (stream !== undefined) close(stream);
        return stream !== undefined;
      },
      5000,
      () => "nobody gets through any more",
    );
    equal(
      await download(await socksConnect(proxy.port("socks"), "127.0.0.1", origin.port), MB),
      "",
    );
  });
}

for (const driver of DRIVERS) {
  for (const kind of ["plain", "shadowsocks"] as const) {
    peerTest(
      `400 clients at once get through 256 descriptors, ${kind}, driver ${driver}`,
      [],
      async () => {
        await using origin = await Origin.start();
        await using relay = await startRelay(kind, driver, { descriptors: 256 });
        const connect = () => socksConnect(relay.port, "127.0.0.1", origin.port);
        const began = performance.now();
        const outcomes = await Promise.all(
          Array.from({ length: 400 }, async (_, at) => {
            try {
              const transfer = at % 2 === 0 ? download : upload;
              return await transfer(await connect(), kind === "plain" ? 500_000 : 100_000);
            } catch (error) {
              return String(error);
            }
          }),
        );
        const took = performance.now() - began;
        deepEqual(outcomes.filter((wrong) => wrong !== ""), []);
        ok(took < 60_000, `${took} ms`);
        for (const { tool } of relay.all) {
          const told = tool.output().match(/lets clients wait/g)?.length ?? 0;
          ok(told <= 1, tool.output());
        }
        match(relay.all[0]!.tool.output(), /lets clients wait, .* times: .*ulimit -n/);
        equal(await download(await connect(), MB), "");
      },
    );
  }
}

for (const driver of DRIVERS) {
  peerTest(
    `200 clients that dribble are let go, and keep nobody else, driver ${driver}`,
    [],
    async () => {
      await using proxy = await startOwnProxy({ inbounds: [inbound("mixed")] }, driver);
      await using origin = await Origin.start();
      const connect = () => socksConnect(proxy.port("mixed"), "127.0.0.1", origin.port);
      equal(await download(await connect(), MB), "");
      const before = residentBytes(proxy.tool.pid);
      const begun = performance.now();
      const slow = await Promise.all(Array.from({ length: 200 }, async (_, index) => {
        const stream = await Deno.connect({ hostname: "127.0.0.1", port: proxy.port("mixed") });
        // Three ways to begin; what follows never ends anything.
        await stream.write([new Uint8Array([5]), new Uint8Array([4]), GET][index % 3]!);
        return stream;
      }));
      const ends = slow.map(untilEnd);
      let left = slow.length;
      for (const end of ends) end.then(() => left--);
      const dribbling = setInterval(() => {
        for (const [index, stream] of slow.entries()) {
          stream.write([new Uint8Array([200]), new Uint8Array([1]), SPACE][index % 3]!).catch(
            () => {},
          );
        }
      }, 3000);
      try {
        while (performance.now() - begun < 12_000) {
          equal(await download(await connect(), MB), "");
          await new Promise((resolve) => setTimeout(resolve, 500));
        }
        equal(left, 200, "none is let go before its time");
        await until(() => left === 0, 8000, () => `${left} are still there`);
      } finally {
        clearInterval(dribbling);
        for (const stream of slow) close(stream);
      }
      const grown = (residentBytes(proxy.tool.pid) - before) / MB;
      ok(grown < 32, `the process grew by ${grown.toFixed(1)} MB`);
      equal(await download(await connect(), MB), "");
    },
  );
}

peerTest("SIGHUP keeps the old configuration when the file is broken", [], async () => {
  await using origin = await Origin.start();
  await using proxy = await startOwnProxy(PLAIN);
  const stream = await socksConnect(proxy.port("socks"), "127.0.0.1", origin.port);
  await writeAll(stream, originRequest("e"));
  const good = await Deno.readTextFile(proxy.file);
  for (const [times, broken] of ["{ not json", '{ "inbounds": [{ "type": "sox" }] }'].entries()) {
    await Deno.writeTextFile(proxy.file, broken);
    Deno.kill(proxy.tool.pid, "SIGHUP");
    await until(
      () => proxy.tool.output().split("kept the old configuration").length > times + 1,
      5000,
      () => `it says nothing: ${proxy.tool.output()}`,
    );
    equal(
      await download(await socksConnect(proxy.port("socks"), "localhost", origin.port), MB),
      "",
    );
  }
  // A good one is taken, and what runs goes on.
  const next = JSON.parse(good);
  next.inbounds.push(inbound("http"));
  await Deno.writeTextFile(proxy.file, JSON.stringify(next));
  Deno.kill(proxy.tool.pid, "SIGHUP");
  await until(
    () => proxy.tool.output().includes("http/http"),
    5000,
    () => `the new inbound never came: ${proxy.tool.output()}`,
  );
  await writeAll(stream, new Uint8Array([9]));
  equal((await readExactly(stream, 1))[0], 9);
  close(stream);
});

peerTest("SIGTERM lets a transfer end, takes nothing new, and exits with 0", [], async () => {
  await using origin = await Origin.start();
  await using proxy = await startOwnProxy(PLAIN);
  const port = proxy.port("socks");
  const stream = await socksConnect(port, "127.0.0.1", origin.port);
  await writeAll(stream, originRequest("e"));
  const stopping = proxy.tool.stop();
  await until(
    () =>
      Deno.connect({ hostname: "127.0.0.1", port }).then((one) => {
        close(one);
        return false;
      }, () => true),
    3000,
    () => "it still listens",
  );
  await writeAll(stream, new Uint8Array([3]));
  equal((await readExactly(stream, 1))[0], 3);
  close(stream);
  equal(await stopping, 0);
  match(proxy.tool.output(), /^listening tcp /);
});
