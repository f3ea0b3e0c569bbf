/** Our server and our client with a cable between them: what it carries, and what happens when it is pulled. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { startCapture } from "../internal/testing/capture.ts";
import { type Link, NetworkNamespace } from "../internal/testing/netns.ts";
import { type OwnTool, ownWords, startOwnTool } from "../internal/testing/own_tool.ts";
import { peerTest, runProgram } from "../internal/testing/peers.ts";

const UDP = 17;
const THERE = { 4: "10.78.0.1", 6: "fd78::1" } as const;

/** A server's and a client's network with a cable between. */
class TwoNetworks implements AsyncDisposable {
  private constructor(
    readonly there: NetworkNamespace,
    readonly here: NetworkNamespace,
    readonly link: Link,
  ) {}

  static async create(): Promise<TwoNetworks> {
    await using made = new AsyncDisposableStack();
    const there = made.use(await NetworkNamespace.create());
    const here = made.use(await NetworkNamespace.create());
    const options = { first: "10.78.0.1/24", second: "10.78.0.2/24", mtu: 1500, cut: true };
    const link = await there.connect(here, options);
    await there.addAddress(link.first, "fd78::1/64");
    await here.addAddress(link.second, "fd78::2/64");
    made.move();
    return new TwoNetworks(there, here, link);
  }

  serve(words: readonly string[] = []): Promise<OwnTool> {
    return startOwnTool("btest/mod.ts", ["server", "--json", ...words], {
      namespace: this.there,
      ready: /"type":"listening"/,
    });
  }

  /** Our client's last object. */
  async test(host: string, words: readonly string[]): Promise<Record<string, unknown>> {
    const line = ["client", host, "--json", ...words];
    const ran = await runProgram(ownWords("btest/mod.ts", line), { namespace: this.here });
    equal(ran.code, 0, ran.stderr);
    return JSON.parse(ran.stdout.trimEnd().split("\n").at(-1)!);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.here[Symbol.asyncDispose]();
    await this.there[Symbol.asyncDispose]();
  }
}

for (const version of [4, 6] as const) {
  peerTest(
    `a cable of 1500 bytes carries UDP tests over IPv${version} in packets of the asked size, whole`,
    ["namespaces", "tcpdump"],
    async (t) => {
      await using two = await TwoNetworks.create();
      const host = version === 4 ? THERE[4] : `[${THERE[6]}]`;
      for (const [size, driver] of [[1500, "fast"], [517, "fast"], [1500, "portable"]] as const) {
        for (const segmentation of driver === "fast" ? [true, false] : [false]) {
          for (const direction of ["receive", "transmit"] as const) {
            const how = segmentation ? "in runs" : "one by one";
            await t.step(`${size} bytes, ${direction}, ${driver}, ${how}`, async () => {
              const flags = ["--driver", driver, `--${segmentation ? "" : "no-"}segmentation`];
              await using server = await two.serve(flags);
              // What a device receives: the data crosses towards whoever receives it.
              const [network, device] = direction === "receive"
                ? [two.here, two.link.second]
                : [two.there, two.link.first];
              await using capture = await startCapture(network, device);
              const end = await two.test(host, [
                ...["--protocol", "udp", "--direction", direction, "--duration", "300ms"],
                ...["--tx-size", String(size), "--local-rate", "40M", "--remote-rate", "40M"],
                ...flags,
              ]);
              const moved = Number(end[direction === "receive" ? "rx_packets" : "tx_packets"]);
              ok(moved > 300, `${moved} packets`);
              const seen = await capture.stop(moved);
              const data = seen.filter(({ protocol, length }) =>
                protocol === UDP && length !== probe
              );
              // Every packet is of that size; nothing was cut on the way.
              deepEqual([...new Set(data.map(({ length }) => length))], [size]);
              deepEqual(seen.filter(({ fragment }) => fragment), []);
              ok(data.length >= moved, `${data.length} seen of ${moved}`);
              equal(await server.stop(), 0);
            });
          }
        }
      }
      const counts = await two.there.counts("Ip");
      equal(counts["FragCreates"], 0);
    },
  );
  /** The empty datagrams that open a way through a NAT. */
  const probe = version === 4 ? 28 : 48;
}

peerTest(
  "a client that vanishes without a word stops its server within half a minute",
  ["namespaces"],
  // At once, because it takes half a minute.
  async () => void await Promise.all([pullTheCable("fast"), pullTheCable("portable")]),
);

async function pullTheCable(driver: "fast" | "portable"): Promise<void> {
  await using two = await TwoNetworks.create();
  await using server = await two.serve(["--driver", driver]);
  const kinds = [["tcp", "receive"], ["tcp", "transmit"], ["udp", "receive"]] as const;
  const clients = kinds.map(([protocol, direction]) => {
    const words = ["client", THERE[4], "--protocol", protocol, "--direction", direction];
    const rates = ["--local-rate", "20M", "--remote-rate", "20M", "--duration", "0"];
    const own = ownWords("btest/mod.ts", [...words, ...rates, "--quiet"]);
    const [program, ...args] = two.here.wrap(own);
    return new Deno.Command(program!, { args, stdout: "null", stderr: "null" }).spawn();
  });
  try {
    // A second in which all of them move data.
    await eventually(() => new Set(told(server, "interval").map((o) => o["session"])).size === 3);
    const pull = ["ip", "-n", two.here.name, "link", "set", two.link.second, "down"];
    equal((await runProgram(pull)).code, 0);
    const pulledAt = performance.now();
    await eventually(() => told(server, "end").length === 3, 34_000);
    const tookMs = performance.now() - pulledAt;
    ok(tookMs < 31_000, `${driver}: ${Math.round(tookMs)} ms`);
    for (const end of told(server, "end")) {
      match(String(end["reason"]), /^(?:idle|control-timeout|peer-closed)$/);
      // Not before its time: a path may have a bad moment.
      ok(Number(end["duration_ms"]) > 15_000, `${driver}: ${JSON.stringify(end)}`);
    }
  } finally {
    for (const client of clients) kill(client);
    for (const client of clients) await client.status;
  }
}

function kill(client: Deno.ChildProcess): void {
  try {
    client.kill("SIGKILL");
  } catch {
    // It has noticed by itself.
  }
}

peerTest("a client that is killed stops its server at once", ["namespaces"], async () => {
  await using two = await TwoNetworks.create();
  await using server = await two.serve();
  for (const protocol of ["tcp", "udp"] as const) {
    const before = told(server, "end").length;
    const words = ["client", THERE[4], "--protocol", protocol, "--remote-rate", "50M", "-d", "0"];
    const [program, ...args] = two.here.wrap(ownWords("btest/mod.ts", words));
    const client = new Deno.Command(program!, { args, stdout: "null", stderr: "null" }).spawn();
    await eventually(() => told(server, "start").length > before);
    await eventually(() => told(server, "interval").length > 0);
    client.kill("SIGKILL");
    const killedAt = performance.now();
    await client.status;
    await eventually(() => told(server, "end").length > before, 5000);
    // The pipe that tells us is part of it, and so is the runtime's end.
    ok(performance.now() - killedAt < 500, `${performance.now() - killedAt} ms`);
    equal(told(server, "end").at(-1)!["reason"], "peer-closed");
  }
});

/** A terminal of its own for a program, from util-linux. */
const SCRIPT = "/usr/bin/script";

Deno.test({
  name: "a person at a terminal is asked for the password, and nothing of it shows",
  ignore: !exists(SCRIPT),
  fn: async () => {
    const words = ["server", "--listen", "127.0.0.1:0", "--user", "admin", "--password-env", "PW"];
    await using server = await startOwnTool("btest/mod.ts", words, {
      ready: /^listening tcp 127\.0\.0\.1:(\d+)$/,
      environment: { PW: "secret" },
    });
    const client = ["client", `127.0.0.1:${server.matches[0]![1]}`, "--user", "admin", "-d", "0.2"];
    const line = ownWords("btest/mod.ts", client).join(" ");
    const child = new Deno.Command(SCRIPT, {
      args: ["-qec", line, "/dev/null"],
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const keyboard = child.stdin.getWriter();
    let shown = "";
    for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
      const asked = shown.includes("password of");
      shown += text;
      if (!asked && shown.includes("password of")) {
        // A mistake, corrected.
        await keyboard.write(new TextEncoder().encode("secreX\x7ft\r"));
      }
    }
    await keyboard.close().catch(() => {});
    equal((await child.status).code, 0, shown);
    match(shown, /^password of "admin": \r\n/);
    match(shown, /login by ecsrp5/);
    ok(!shown.includes("secre"), shown);
  },
});

function exists(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

/** What a server has told so far of one kind. */
function told(server: OwnTool, type: string): Record<string, unknown>[] {
  return server.output().split("\n")
    .filter((line) => line.startsWith(`{"type":"${type}"`) && line.endsWith("}"))
    .map((line) => JSON.parse(line));
}

async function eventually(condition: () => boolean, patienceMs = 10_000): Promise<void> {
  const deadline = performance.now() + patienceMs;
  while (!condition()) {
    ok(performance.now() < deadline, "it took too long");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
