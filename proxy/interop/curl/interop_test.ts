import { deepEqual, equal, match } from "node:assert/strict";
import { peer, peerTest, runProgram } from "../../../internal/testing/peers.ts";
import { Origin, patternHash } from "../../testdata/interop_origin.ts";
import { DRIVERS, inbound, startOwnProxy } from "../../testdata/interop.ts";
import { hashOf } from "../../testdata/interop_files.ts";

const SIZE = 3_000_001;
const USERS = [{ username: "ann", password: "right" }];
const OPEN = { inbounds: ["socks", "http", "mixed"].map((type) => inbound(type)) };
const GUARDED = {
  inbounds: ["socks", "http", "mixed"].map((type) => inbound(type, { users: USERS })),
};

/** Every way curl goes through a proxy, and the inbounds that take it. */
const WAYS: Readonly<Record<string, { readonly words: readonly string[]; on: readonly string[] }>> =
  {
    "--socks4": { words: ["--socks4"], on: ["socks", "mixed"] },
    "--socks4a": { words: ["--socks4a"], on: ["socks", "mixed"] },
    "--socks5": { words: ["--socks5"], on: ["socks", "mixed"] },
    "--socks5-hostname": { words: ["--socks5-hostname"], on: ["socks", "mixed"] },
    "--proxy": { words: ["--proxy"], on: ["http", "mixed"] },
    "--proxytunnel": { words: ["--proxytunnel", "--proxy"], on: ["http", "mixed"] },
  };

async function curl(...words: readonly string[]): Promise<{ code: number; text: string }> {
  const { code, stdout, stderr } = await runProgram([
    peer("curl")!.path,
    "-sS",
    "-4",
    "--noproxy",
    "",
    ...words,
  ]);
  return { code, text: stdout + stderr };
}

for (const driver of DRIVERS) {
  peerTest(`curl fetches and sends by every way, driver ${driver}`, ["curl"], async () => {
    await using origin = await Origin.start();
    await using proxy = await startOwnProxy(OPEN, driver);
    const folder = await Deno.makeTempDir();
    const mistakes: string[] = [];
    try {
      for (const [way, { words, on }] of Object.entries(WAYS)) {
        for (const tag of on) {
          const through = [...words, `127.0.0.1:${proxy.port(tag)}`];
          const file = `${folder}/got`;
          const url = `http://localhost:${origin.webPort}`;
          const got = await curl(...through, "-o", file, `${url}/bytes/${SIZE}`);
          if (got.code !== 0 || await hashOf(file) !== patternHash(SIZE)) {
            mistakes.push(`${way} on ${tag}, fetching: ${got.code} ${got.text}`);
          }
          const sent = await curl(...through, "--data-binary", `@${file}`, `${url}/hash`);
          if (sent.text !== patternHash(SIZE)) {
            mistakes.push(`${way} on ${tag}, sending: ${sent.code} ${sent.text}`);
          }
        }
      }
      deepEqual(mistakes, []);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
}

peerTest("curl keeps one connection to the proxy for several answers", ["curl"], async () => {
  await using origin = await Origin.start();
  await using proxy = await startOwnProxy(OPEN);
  const urls = [1, 2, 3].map((n) => `http://127.0.0.1:${origin.webPort}/${n}`);
  const through = ["--proxy", `127.0.0.1:${proxy.port("http")}`];
  const { text } = await curl(...through, "-w", "%{num_connects}", ...urls);
  equal(text, "you asked for /1\n1you asked for /2\n0you asked for /3\n0");
});

peerTest("curl gets in with the right password only", ["curl"], async () => {
  await using origin = await Origin.start();
  await using proxy = await startOwnProxy(GUARDED);
  const url = `http://127.0.0.1:${origin.webPort}/door`;
  for (const way of ["--socks5", "--socks5-hostname", "--proxy", "--proxytunnel"]) {
    const { words, on } = WAYS[way]!;
    for (const tag of on) {
      const through = [...words, `127.0.0.1:${proxy.port(tag)}`];
      const what = `${way} on ${tag}`;
      equal((await curl(...through, "-U", "ann:right", url)).text, "you asked for /door\n", what);
      for (const wrong of [["-U", "ann:wrong"], ["-U", "bob:right"], []]) {
        const { code, text } = await curl(...through, "-w", "%{http_code}", ...wrong, url);
        if (way === "--proxy") match(text, /407$/, what);
        else equal(code, way === "--proxytunnel" ? 56 : 97, `${what}: ${text}`);
      }
    }
  }
  deepEqual(new Set(origin.seen), new Set([`GET /door 127.0.0.1:${origin.webPort}`]));
  equal(origin.seen.length, 8);
});

peerTest("curl is told what kept a destination from being reached", ["curl"], async () => {
  await using proxy = await startOwnProxy(OPEN);
  const nobody = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const url = `http://127.0.0.1:${(nobody.addr as Deno.NetAddr).port}/`;
  nobody.close();
  const socks = `127.0.0.1:${proxy.port("mixed")}`;
  // Reply 5 of RFC 1928 is a refused connection, 91 the only refusal SOCKS4 has.
  match((await curl("--socks5", socks, url)).text, /\(5\)/);
  match((await curl("--socks4", socks, url)).text, /\(91\)/);
  equal((await curl("--proxy", socks, "-o", "/dev/null", "-w", "%{http_code}", url)).text, "502");
});
