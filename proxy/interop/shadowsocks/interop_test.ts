import { equal } from "node:assert/strict";
import { peerTest } from "../../../internal/testing/peers.ts";
import {
  type ProxyPeer,
  startSsLocal,
  startSsServer,
} from "../../../internal/testing/proxy_peers.ts";
import { Origin } from "../../testdata/interop_origin.ts";
import {
  download,
  DRIVERS,
  inbound,
  type OwnProxy,
  socksConnect,
  SocksDatagrams,
  startOwnProxy,
  upload,
  uploadUntilEnd,
} from "../../testdata/interop.ts";

/** Every AEAD method shadowsocks-libev has. */
const METHODS = [
  "aes-128-gcm",
  "aes-192-gcm",
  "aes-256-gcm",
  "chacha20-ietf-poly1305",
  "xchacha20-ietf-poly1305",
];
const PASSWORD = "correct horse";
/** Around what a chunk holds (0x3fff bytes), around nothing, and several buffers. */
const SIZES = [1, 0x3fff - 9, 0x3fff, 0x4000, 300_007];
const LARGE = 100_000_000;
/** shadowsocks-libev takes larger ones for attacks. */
const DATAGRAMS = [1, 512, 1400, 1500];

function server(method: string): object {
  return inbound("shadowsocks", { method, password: PASSWORD });
}

function client(method: string, port: number): { inbounds: object[]; outbounds: object[] } {
  return {
    inbounds: [inbound("socks")],
    outbounds: [{
      type: "shadowsocks",
      tag: "far",
      server: "127.0.0.1",
      server_port: port,
      method,
      password: PASSWORD,
    }],
  };
}

/** Everything that goes through a SOCKS5 server, in every size. @returns What is wrong, one line each. */
async function mistakes(
  title: string,
  socksPort: number,
  origin: Origin,
  sizes: readonly number[],
  datagramSizes: readonly number[] = DATAGRAMS,
): Promise<string[]> {
  const wrong: string[] = [];
  const note = (what: string, found: string): void => {
    if (found !== "") wrong.push(`${title}, ${what}: ${found}`);
  };
  for (const size of sizes) {
    // By address and by name: both forms of an address go over the wire.
    for (const host of size > 1_000_000 ? ["127.0.0.1"] : ["127.0.0.1", "localhost"]) {
      const connect = () => socksConnect(socksPort, host, origin.port);
      note(`${host} down ${size}`, await download(await connect(), size));
      note(`${host} up ${size}`, await upload(await connect(), size));
    }
  }
  if (datagramSizes.length === 0) return wrong;
  await using datagrams = await SocksDatagrams.open(socksPort);
  for (const size of datagramSizes) {
    note(`datagram ${size}`, await datagrams.exchange("127.0.0.1", origin.udpPort, size));
  }
  return wrong;
}

async function together<T extends AsyncDisposable>(
  open: (method: string) => Promise<T>,
): Promise<{ all: T[] } & AsyncDisposable> {
  const all: T[] = [];
  const close = async (): Promise<void> => {
    for (const one of all) await one[Symbol.asyncDispose]();
  };
  try {
    for (const method of METHODS) all.push(await open(method));
  } catch (error) {
    await close();
    throw error;
  }
  return { all, [Symbol.asyncDispose]: close };
}

for (const driver of DRIVERS) {
  peerTest(`ss-local reaches our server by every method, driver ${driver}`, [
    "ss-local",
  ], async () => {
    await using origin = await Origin.start();
    await using ours = await together<OwnProxy>((method) =>
      startOwnProxy({ inbounds: [server(method)] }, driver)
    );
    const wrong: string[] = [];
    for (const [at, method] of METHODS.entries()) {
      const serverPort = ours.all[at]!.port("shadowsocks");
      await using local = await startSsLocal({
        method,
        password: PASSWORD,
        serverPort,
        udp: true,
      });
      wrong.push(...await mistakes(method, local.port, origin, SIZES));
    }
    equal(wrong.join("\n"), "");
  });

  peerTest(`our client reaches ss-server by every method, driver ${driver}`, [
    "ss-server",
  ], async () => {
    await using origin = await Origin.start();
    await using theirs = await together<ProxyPeer>((method) =>
      startSsServer({ method, password: PASSWORD, udp: true })
    );
    const wrong: string[] = [];
    for (const [at, method] of METHODS.entries()) {
      await using ours = await startOwnProxy(client(method, theirs.all[at]!.port), driver);
      wrong.push(...await mistakes(method, ours.port("socks"), origin, SIZES));
    }
    equal(wrong.join("\n"), "");
  });
}

peerTest("100 MB go each way between ours and shadowsocks-libev in both roles", [
  "ss-local",
  "ss-server",
], async () => {
  await using origin = await Origin.start();
  const method = "aes-256-gcm";
  await using ours = await startOwnProxy({ inbounds: [server(method)] });
  await using local = await startSsLocal({
    method,
    password: PASSWORD,
    serverPort: ours.port("shadowsocks"),
  });
  await using theirs = await startSsServer({ method, password: PASSWORD });
  await using near = await startOwnProxy(client(method, theirs.port));
  const wrong = [
    ...await mistakes("ss-local and our server", local.port, origin, [LARGE], []),
    ...await mistakes("our client and ss-server", near.port("socks"), origin, [LARGE], []),
  ];
  equal(wrong.join("\n"), "");
});

for (const driver of DRIVERS) {
  // shadowsocks-libev ends both directions when one ends, so this can be asked of our own pair only.
  peerTest(`half closing crosses our Shadowsocks pair, driver ${driver}`, [], async () => {
    await using origin = await Origin.start();
    await using far = await startOwnProxy({ inbounds: [server("aes-256-gcm")] }, driver);
    await using near = await startOwnProxy(client("aes-256-gcm", far.port("shadowsocks")), driver);
    for (const size of SIZES) {
      const stream = await socksConnect(near.port("socks"), "localhost", origin.port);
      equal(await uploadUntilEnd(stream, size), "");
    }
    const datagrams = [...DATAGRAMS, 8000, 60_000];
    const wrong = await mistakes("our pair", near.port("socks"), origin, SIZES, datagrams);
    equal(wrong.join("\n"), "");
  });
}
