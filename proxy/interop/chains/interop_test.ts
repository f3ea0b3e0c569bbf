import { deepEqual, equal } from "node:assert/strict";
import { peer, peerTest, runProgram } from "../../../internal/testing/peers.ts";
import { proxychainsConfig, startMicrosocks } from "../../../internal/testing/proxy_peers.ts";
import { Origin, patternHash } from "../../testdata/interop_origin.ts";
import {
  download,
  DRIVERS,
  inbound,
  socksConnect,
  startOwnProxy,
  upload,
  uploadUntilEnd,
} from "../../testdata/interop.ts";
import { hashOf } from "../../testdata/interop_files.ts";

const SIZE = 5_000_003;
const PLAIN = ["socks", "http", "mixed"] as const;

for (const driver of DRIVERS) {
  peerTest(`three of our inbounds in a chain change no byte, driver ${driver}`, [], async () => {
    await using origin = await Origin.start();
    await using last = await startOwnProxy({
      inbounds: [inbound("http", { users: [{ username: "ann", password: "right" }] })],
    }, driver);
    await using middle = await startOwnProxy({
      inbounds: [inbound("mixed")],
      outbounds: [{
        type: "http",
        tag: "last",
        server: "127.0.0.1",
        server_port: last.port("http"),
        username: "ann",
        password: "right",
      }],
    }, driver);
    await using first = await startOwnProxy({
      inbounds: [inbound("socks")],
      outbounds: [{
        type: "socks",
        tag: "middle",
        server: "127.0.0.1",
        server_port: middle.port("mixed"),
      }],
    }, driver);
    const connect = () => socksConnect(first.port("socks"), "127.0.0.1", origin.port);
    equal(await download(await connect(), SIZE), "");
    equal(await upload(await connect(), SIZE), "");
    equal(await uploadUntilEnd(await connect(), SIZE), "");
    const many = Array.from(
      { length: 50 },
      async (_, i) => await download(await connect(), 1000 * i + 1),
    );
    deepEqual((await Promise.all(many)).filter((wrong) => wrong !== ""), []);
  });
}

peerTest("our socks outbound goes through microsocks with a password", ["microsocks"], async () => {
  await using origin = await Origin.start();
  await using far = await startMicrosocks({ name: "ann", password: "right" });
  const through = (password: string) => ({
    inbounds: [inbound("socks")],
    outbounds: [{
      type: "socks",
      tag: "far",
      server: "127.0.0.1",
      server_port: far.port,
      username: "ann",
      password,
    }],
  });
  await using right = await startOwnProxy(through("right"));
  equal(
    await download(await socksConnect(right.port("socks"), "localhost", origin.port), 9999),
    "",
  );
  await using wrong = await startOwnProxy(through("wrong"));
  const refused = await socksConnect(wrong.port("socks"), "localhost", origin.port).then(
    () => "connected",
    String,
  );
  equal(/reply [1-8]$/.test(refused), true, refused);
});

for (const driver of DRIVERS) {
  peerTest(`proxychains leads curl through our inbounds, driver ${driver}`, [
    "proxychains4",
    "curl",
  ], async () => {
    await using origin = await Origin.start();
    await using proxy = await startOwnProxy({
      inbounds: PLAIN.map((type) => inbound(type)),
    }, driver);
    const folder = await Deno.makeTempDir();
    try {
      const [socks, http, mixed] = PLAIN.map((tag) => proxy.port(tag));
      const chains = {
        "socks4": [{ type: "socks4", port: socks! }],
        "socks5": [{ type: "socks5", port: socks! }],
        "http": [{ type: "http", port: http! }],
        "all three": [
          { type: "socks5", port: mixed! },
          { type: "http", port: http! },
          { type: "socks4", port: socks! },
        ],
      } as const;
      for (const [name, chain] of Object.entries(chains)) {
        await Deno.writeTextFile(`${folder}/chains.conf`, proxychainsConfig(chain));
        const { code, stderr } = await runProgram([
          peer("proxychains4")!.path,
          "-q",
          "-f",
          `${folder}/chains.conf`,
          peer("curl")!.path,
          "-sS",
          "-o",
          `${folder}/got`,
          `http://127.0.0.1:${origin.webPort}/bytes/${SIZE}`,
        ]);
        equal(code, 0, `${name}: ${stderr}`);
        equal(await hashOf(`${folder}/got`), patternHash(SIZE), name);
      }
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
}
