import { deepEqual, equal } from "node:assert/strict";
import { runContract } from "../internal/testing/contract.ts";
import { reverseNameOf } from "./lookups.ts";
import { listenSocks } from "./socks.ts";
import { PROXY_DRIVERS, type ProxyDriver } from "./testdata/drivers.ts";
import { bytesOf, Peer, TestProxy, textOf } from "./testdata/engine.ts";

const RESOLVE = 0xf0;
const RESOLVE_PTR = 0xf1;
const CONFIG = {
  dns: {
    servers: [
      {
        type: "hosts",
        tag: "table",
        path: [],
        predefined: { "four.test": "192.0.2.4", "six.test": "2001:db8::6" },
      },
      { type: "fakeip", tag: "fake", inet4_range: "198.18.0.0/15" },
    ],
    rules: [
      { inbound: "closed", action: "reject" },
      { domain_suffix: "invented.test", query_type: "A", server: "fake" },
      {
        domain: "9.2.0.192.in-addr.arpa",
        action: "predefined",
        answer: ["9.2.0.192.in-addr.arpa. IN PTR nine.test."],
      },
      {
        domain: "8.2.0.192.in-addr.arpa",
        action: "predefined",
        answer: ["8.2.0.192.in-addr.arpa. IN PTR ."],
      },
    ],
    final: "table",
  },
};

function nameWords(command: number, name: string): Uint8Array {
  return Uint8Array.of(5, 1, 0, 5, command, 0, 3, name.length, ...bytesOf(name), 0, 0);
}

function addressWords(command: number, bytes: readonly number[]): Uint8Array {
  return Uint8Array.of(5, 1, 0, 5, command, 0, bytes.length === 4 ? 1 : 4, ...bytes, 0, 0);
}

/** Everything behind the choice of a method, to the end. */
async function asked(port: number, words: Uint8Array): Promise<readonly number[]> {
  await using client = await Peer.connect(port);
  client.write(words);
  deepEqual(await client.read(2), Uint8Array.of(5, 0));
  return [...await client.rest()];
}

runContract<ProxyDriver>("Lookups", [
  [
    "answers RESOLVE with an address of the configured DNS, and closes",
    async (driver) => {
      await using proxy = await TestProxy.open(
        driver,
        [{ type: "socks" }, { type: "mixed" }],
        CONFIG,
      );
      for (const tag of ["socks", "mixed"]) {
        const port = proxy.port(tag);
        const four = await asked(port, nameWords(RESOLVE, "four.test"));
        deepEqual(four, [5, 0, 0, 1, 192, 0, 2, 4, 0, 0]);
        const six = await asked(port, nameWords(RESOLVE, "SIX.test"));
        deepEqual(six.slice(0, 8), [5, 0, 0, 4, 0x20, 1, 0x0d, 0xb8]);
        equal(six.length, 22);
        const itself = await asked(port, addressWords(RESOLVE, [192, 0, 2, 7]));
        deepEqual(itself, [5, 0, 0, 1, 192, 0, 2, 7, 0, 0]);
        const missing = await asked(port, nameWords(RESOLVE, "missing.test"));
        deepEqual(missing, [5, 4, 0, 1, 0, 0, 0, 0, 0, 0]);
      }
    },
  ],
  [
    "answers RESOLVE_PTR with the name of an address, of an invented one too",
    async (driver) => {
      await using proxy = await TestProxy.open(driver, [{ type: "socks" }], CONFIG);
      const port = proxy.port("socks");
      const named = await asked(port, addressWords(RESOLVE_PTR, [192, 0, 2, 9]));
      deepEqual(named, [5, 0, 0, 3, 9, ...bytesOf("nine.test"), 0, 0]);
      await proxy.server.dns.query("a.invented.test", 1);
      const invented = await asked(port, addressWords(RESOLVE_PTR, [198, 18, 0, 2]));
      equal(textOf(Uint8Array.from(invented.slice(5, -2))), "a.invented.test");
      const nobody = [5, 4, 0, 1, 0, 0, 0, 0, 0, 0];
      deepEqual(await asked(port, addressWords(RESOLVE_PTR, [192, 0, 2, 200])), nobody);
      // The root is no name of an address.
      deepEqual(await asked(port, addressWords(RESOLVE_PTR, [192, 0, 2, 8])), nobody);
      equal((await asked(port, nameWords(RESOLVE_PTR, "four.test")))[1], 8);
    },
  ],
  [
    "asks as rules say for who asks",
    async (driver) => {
      const inbounds = [{ type: "socks" }, { type: "socks", tag: "closed" }];
      await using proxy = await TestProxy.open(driver, inbounds, CONFIG);
      equal((await asked(proxy.port("socks"), nameWords(RESOLVE, "four.test")))[1], 0);
      equal((await asked(proxy.port("closed"), nameWords(RESOLVE, "four.test")))[1], 4);
      const words = addressWords(RESOLVE_PTR, [192, 0, 2, 9]);
      equal((await asked(proxy.port("closed"), words))[1], 4);
    },
  ],
  [
    "answers BIND, and commands that nobody knows, with 7 and an end",
    async (driver) => {
      await using proxy = await TestProxy.open(
        driver,
        [{ type: "socks" }, { type: "mixed" }],
        CONFIG,
      );
      for (const tag of ["socks", "mixed"]) {
        for (const command of [2, 4, 0xf2, 0]) {
          const answer = await asked(proxy.port(tag), addressWords(command, [127, 0, 0, 1]));
          deepEqual(answer, [5, 7, 0, 1, 0, 0, 0, 0, 0, 0], `command ${command}`);
        }
      }
      equal(proxy.server.snapshot().handshakes, 0);
    },
  ],
], PROXY_DRIVERS);

Deno.test("listenSocks() answers RESOLVE with 7: it has no DNS of its own", async () => {
  const server = await listenSocks(() => {}, {
    port: 0,
    driver: "portable",
  });
  try {
    equal((await asked(server.address.port, nameWords(RESOLVE, "four.test")))[1], 7);
  } finally {
    await server.close();
  }
});

Deno.test("reverseNameOf() makes the names of both zones", () => {
  equal(reverseNameOf("192.0.2.9"), "9.2.0.192.in-addr.arpa");
  equal(reverseNameOf("2001:db8::1"), `1.${"0.".repeat(23)}8.b.d.0.1.0.0.2.ip6.arpa`);
  equal(reverseNameOf("a.test"), undefined);
});
