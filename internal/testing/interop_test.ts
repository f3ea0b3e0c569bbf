import { deepEqual, equal, match, notEqual, ok } from "node:assert/strict";
import { NetworkNamespace } from "./netns.ts";
import {
  type ClientName,
  clientWords,
  peerTest,
  runProgram,
  type ServerName,
  startServer,
} from "./peers.ts";

const CLIENTS: readonly ClientName[] = ["tftp", "atftp", "curl", "busybox"];
const SERVERS: readonly ServerName[] = ["in.tftpd", "atftpd", "dnsmasq"];

for (const name of SERVERS) {
  peerTest(`${name} starts, serves every real client and leaves nothing behind`, [
    name,
    ...CLIENTS,
  ], async () => {
    const root = await Deno.makeTempDir();
    const content = new Uint8Array(5000).map((_, index) => index * 7);
    await Deno.writeFile(`${root}/a.bin`, content);
    try {
      await using namespace = name === "dnsmasq" ? await NetworkNamespace.create() : undefined;
      const inside = namespace === undefined ? {} : { namespace };
      const server = await startServer(name, { root, ...inside });
      for (const client of CLIENTS) {
        const local = `${root}/${client}.got`;
        const job = {
          action: "get",
          host: server.host,
          port: server.port,
          remote: "a.bin",
          local,
        } as const;
        const { stderr, timedOut } = await runProgram(clientWords(client, job), inside);
        equal(timedOut, false, stderr);
        deepEqual(await Deno.readFile(local), content);
      }
      await server.stop();
      await server.stop();
      ok(!isAlive(server.pid));
    } finally {
      await Deno.remove(root, { recursive: true });
    }
  });
}

peerTest(
  "startServer() reports a server that ends at once with what it printed",
  ["atftpd"],
  async () => {
    const root = await Deno.makeTempDir();
    try {
      const failure = await startServer("atftpd", { root, extra: ["--no-such-option"] })
        .then(() => "", String);
      match(failure, /Cannot start atftpd: it ended/);
    } finally {
      await Deno.remove(root, { recursive: true });
    }
  },
);

peerTest(
  "NetworkNamespace joins two networks by a cable and removes everything",
  ["namespaces"],
  async () => {
    const names: string[] = [];
    {
      await using first = await NetworkNamespace.create();
      await using second = await NetworkNamespace.create();
      names.push(first.name, second.name);
      notEqual(first.name, second.name);
      await first.connect(second, { first: "10.77.0.1/24", second: "10.77.0.2/24", mtu: 1400 });
      const { stdout } = await runProgram(["ip", "-brief", "address"], { namespace: second });
      match(stdout, /10\.77\.0\.2\/24/);
      const links = await runProgram(["ip", "link"], { namespace: first });
      match(links.stdout, /mtu 1400/);
    }
    const { stdout } = await runProgram(["ip", "netns"]);
    for (const name of names) ok(!stdout.includes(name));
  },
);

Deno.test("runProgram() kills what takes too long", async () => {
  const { timedOut } = await runProgram(["sleep", "60"], { timeoutMs: 50 });
  equal(timedOut, true);
});

function isAlive(pid: number): boolean {
  try {
    Deno.statSync(`/proc/${pid}`);
    return true;
  } catch {
    return false;
  }
}
