/** The command line's contract: ready line, both families of flags, forms of output, exit codes, signals. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { capabilities } from "../ffi/mod.ts";
import { runTool } from "../internal/cli/run.ts";
import { recordedTerminal } from "../internal/testing/terminal.ts";
import { MemoryAccounts } from "./accounts_memory.ts";
import { tool } from "./cli.ts";
import { familiarWords } from "./cli_words.ts";
import { type BtestServer, serve, type ServerOptions } from "./server.ts";

const MAIN = new URL("./mod.ts", import.meta.url).pathname;
/** The C library is opened once and stays open; inside a test that would be a leak. */
const PORTABLE = ["--driver", "portable", "--workers", "0"] as const;

/** A folder that goes with the test. */
class Folder implements Disposable {
  readonly path = Deno.makeTempDirSync({ prefix: "fastwire-btest-" });

  file(name: string, content: string): string {
    Deno.writeTextFileSync(`${this.path}/${name}`, content);
    return `${this.path}/${name}`;
  }

  text(name: string): string {
    return Deno.readTextFileSync(`${this.path}/${name}`);
  }

  [Symbol.dispose](): void {
    Deno.removeSync(this.path, { recursive: true });
  }
}

/** The tool in this process. */
async function run(
  line: readonly string[],
  watched = false,
  environment: Readonly<Record<string, string>> = {},
): Promise<{ readonly code: number; readonly out: string; readonly err: string }> {
  const terminal = recordedTerminal(environment, watched);
  const code = await runTool(tool, familiarWords(line), terminal);
  return { code, out: terminal.out, err: terminal.err };
}

/** A server in this process, and how it is written. */
async function served(
  options: ServerOptions = {},
): Promise<{ readonly server: BtestServer; readonly target: string; readonly port: number }> {
  const server = await serve({
    listen: ["127.0.0.1:0"],
    driver: "portable",
    workers: 0,
    udpPortStart: 23_000,
    ...options,
  });
  const { port } = server.addresses[0]!;
  return { server, port, target: `127.0.0.1:${port}` };
}

function accounts(): MemoryAccounts {
  const store = new MemoryAccounts();
  store.set("admin", "secret");
  return store;
}

function objects(text: string): Record<string, unknown>[] {
  return text.trimEnd().split("\n").map((line) => JSON.parse(line));
}

/** The server command as a process of its own. */
class ServerProcess implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #err: ReadableStreamDefaultReader<string>;
  readonly out: Promise<string>;
  err = "";

  constructor(words: readonly string[]) {
    this.#child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", "--quiet", "--no-prompt", MAIN, ...words],
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.#err = this.#child.stderr.pipeThrough(new TextDecoderStream()).getReader();
    this.out = new Response(this.#child.stdout).text();
  }

  /** Reads standard error until it holds a line that matches. */
  async said(pattern: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const found = pattern.exec(this.err);
      if (found !== null) return found;
      const { value, done } = await this.#err.read();
      ok(!done, `ended without ${pattern}: ${this.err}`);
      this.err += value;
    }
  }

  kill(signal: Deno.Signal): void {
    this.#child.kill(signal);
  }

  async stop(signal: Deno.Signal): Promise<number> {
    this.kill(signal);
    return (await this.#child.status).code;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // It has ended already.
    }
    await this.#err.cancel();
    await Promise.all([this.#child.status, this.out]);
  }
}

Deno.test("btest server says where it listens, tells of a test, and stops on SIGTERM with 0", async () => {
  using folder = new Folder();
  const password = folder.file("password", "secret\n");
  await using server = new ServerProcess([
    "server",
    "--listen",
    "127.0.0.1:0",
    "--user",
    "admin",
    "--password-file",
    password,
    "--csv",
    `${folder.path}/results.csv`,
    "--json",
  ]);
  const [, address] = await server.said(
    /^\{"type":"listening","protocol":"tcp","address":"(127\.0\.0\.1:\d+)"\}$/m,
  );
  const options = ["--duration", "200ms", "--user", "admin", "--password-file", password];
  const { code, out, err } = await run(["client", address!, ...options, "--json", ...PORTABLE]);
  equal(code, 0, err);
  const end = objects(out).at(-1)!;
  equal(end["type"], "end");
  equal(end["auth"], "ecsrp5");
  // A log rotation: the file goes, the server is told, a new one appears under the name.
  const results = `${folder.path}/results.csv`;
  using watcher = Deno.watchFs(folder.path);
  await Deno.rename(results, `${results}.1`);
  server.kill("SIGHUP");
  const limit = setTimeout(() => watcher.close(), 10_000);
  for await (const { kind, paths } of watcher) {
    if (kind === "create" && paths.includes(results)) break;
  }
  clearTimeout(limit);
  equal(await server.stop("SIGTERM"), 0);
  match(folder.text("results.csv"), /^timestamp,[^\n]*\r\n$/);
  const told = objects(await server.out);
  deepEqual([told[0]!["type"], told[0]!["user"]], ["start", "admin"]);
  const last = told.at(-1)!;
  equal(last["type"], "end");
  ok(Number(last["tx_bytes"]) >= Number(end["rx_bytes"]));
  const rows = folder.text("results.csv.1").trimEnd().split("\r\n");
  equal(rows.length, 2);
  match(rows[1]!, /^\d+,127\.0\.0\.1,\d+,tcp,TX,\d\.\d\d,\d+\.\d\d,0\.00,\d+,0,0,\d*,,ecsrp5$/);
});

Deno.test("btest -s --listen none --listen6 leaves IPv4 out", async () => {
  // Only the kernel's driver can keep an IPv6 wildcard from taking IPv4.
  const driver = capabilities().ffi ? ["--driver=fast"] : [];
  await using server = new ServerProcess(
    ["-s", "--listen", "none", "--listen6", "-P", "0", "--no-auth", "--workers=0", ...driver],
  );
  const [, address, port] = await server.said(/^listening tcp (\S+):(\d+)$/m);
  equal(address, "[::]");
  const words = ["-d", "0.05", "--remote-rate", "10M", ...PORTABLE];
  equal((await run(["-c", `[::1]:${port}`, ...words])).code, 0);
  if (driver.length > 0) equal((await run(["-c", `127.0.0.1:${port}`, ...words])).code, 4);
  equal(await server.stop("SIGTERM"), 0);
});

Deno.test("btest server listens on IPv4 and IPv6 apart at one port", async () => {
  await using first = new ServerProcess(
    ["server", "--listen", "127.0.0.1:0", "--listen6", "[::1]:0", "--workers=0"],
  );
  await first.said(/^listening tcp 127\.0\.0\.1:\d+\nlistening tcp \[::1\]:\d+$/m);
  equal(await first.stop("SIGTERM"), 0);
});

Deno.test("btest -s with short flags is the same server", async () => {
  await using server = new ServerProcess(["-s", "-P", "0", "--no-auth", "-v", "--driver=portable"]);
  const [, port] = await server.said(/^listening tcp \S+:(\d+)$/m);
  await server.said(/^driver \w+.*login none$/m);
  const { code, out } = await run(["-c", "127.0.0.1", "-P", port!, "-t", "-d", "0.2", ...PORTABLE]);
  equal(code, 0);
  match(out, /^tcp, 1 connection, no login, 0\.\d s, ended by duration$/m);
  equal(await server.stop("SIGINT"), 0);
  match(await server.out, /^127\.0\.0\.1:\d+ tcp transmit: TX 0\.00 Mbps, RX \d+\.\d\d Mbps/);
});

for (const protocol of ["tcp", "udp"] as const) {
  for (const direction of ["receive", "transmit", "both"] as const) {
    Deno.test(`btest client --protocol ${protocol} --direction ${direction} ends with the JSON of the contract`, async () => {
      const { server, target } = await served();
      await using _ = server;
      const { code, out, err } = await run([
        "client",
        target,
        ...["--protocol", protocol, "--direction", direction, "--duration", "250ms", "--json"],
        ...(protocol === "udp" ? ["--local-rate", "20M", "--remote-rate", "20M"] : []),
        ...PORTABLE,
      ]);
      equal(code, 0, err);
      const lines = objects(out);
      const { type, protocol: carried, direction: way } = lines[0]!;
      deepEqual([type, carried, way], ["start", protocol, direction]);
      const end = lines.at(-1)!;
      equal(end["type"], "end");
      const numbers = [
        "rx_bytes",
        "tx_bytes",
        "rx_bps",
        "tx_bps",
        "lost_packets",
        "duration_ms",
      ];
      for (const name of numbers) ok(Number.isInteger(end[name]), name);
      ok("local_cpu_pct" in end && "remote_cpu_pct" in end);
      equal(Number(end["rx_bytes"]) > 0, direction !== "transmit");
      equal(Number(end["tx_bytes"]) > 0, direction !== "receive");
      ok(Number(end["duration_ms"]) >= 250 && Number(end["duration_ms"]) < 5000);
      const intervals = lines.slice(1, -1);
      ok(intervals.every((line) => line["type"] === "interval"));
      const sum = (name: string) => intervals.reduce((sum, line) => sum + Number(line[name]), 0);
      equal(sum("rx_bytes"), end["rx_bytes"]);
      equal(sum("tx_bytes"), end["tx_bytes"]);
    });
  }
}

Deno.test("btest client prints lines into a pipe and a table on a terminal", async () => {
  const { server, target } = await served();
  await using _ = server;
  const words = ["client", target, "--duration", "200ms", ...PORTABLE];
  match((await run(words)).out, /^\[ {3}1\] {2}RX +\d+\.\d\d Mbps \(\d+ bytes\).* in \d+ ms/);
  match((await run(words, true)).out, /^second +received +cpu here +there\n +1 +\d+\.\d\d Mbps/);
  match((await run([...words, "--quiet"])).out, /^RX {2}average/);
});

Deno.test("btest client appends a row for each test and for each second", async () => {
  using folder = new Folder();
  const { server, port, target } = await served();
  await using _ = server;
  const files = ["--csv", `${folder.path}/t.csv`, "--csv-intervals", `${folder.path}/s.csv`];
  for (let i = 0; i < 2; i++) {
    const { code } = await run(["client", target, "--duration", "150ms", ...files, ...PORTABLE]);
    equal(code, 0);
  }
  const rows = folder.text("t.csv").trimEnd().split("\r\n");
  equal(rows.length, 3);
  match(rows[0]!, /^timestamp,host,port,protocol,direction,duration_s,/);
  const row = new RegExp(
    `^\\d+,127\\.0\\.0\\.1,${port},tcp,receive,0\\.\\d\\d,0\\.00,\\d+\\.\\d\\d,0,`,
  );
  for (const line of rows.slice(1)) match(line, row);
  ok(folder.text("s.csv").trimEnd().split("\r\n").length >= 3);
});

Deno.test("btest client takes its password from a file, a variable and its own variable", async () => {
  using folder = new Folder();
  const { server, target } = await served({ accounts: accounts() });
  await using _ = server;
  const words = ["client", target, "-a", "admin", "-d", "0.1", "-q", ...PORTABLE];
  const file = folder.file("password", "secret\n");
  const login = /login by ecsrp5/;
  match((await run([...words, "--password-file", file])).out, login);
  match((await run([...words, "--password-env", "PW"], false, { PW: "secret" })).out, login);
  const own = await run(words, false, { FASTWIRE_BTEST_PASSWORD: "secret" });
  match(own.out, login);
  equal(own.err, "");
});

Deno.test("btest client ends with 5 when the login fails, and names no half of it", async () => {
  const { server, target } = await served({ accounts: accounts() });
  await using _ = server;
  const words = ["client", target, "-d", "0.1", "--json", ...PORTABLE];
  const attempt = async (user: string, password: string) => {
    const { code, err } = await run([...words, "-a", user, "--password-env", "PW"], false, {
      PW: password,
    });
    equal(code, 5);
    return JSON.parse(err).error as { code: string; message: string };
  };
  const wrongPassword = await attempt("admin", "nonsense");
  equal(wrongPassword.code, "btest.auth-failed");
  deepEqual(await attempt("nobody", "nonsense"), wrongPassword);
  ok(!wrongPassword.message.includes("nonsense"));
  const nobody = await run(words);
  equal(nobody.code, 5);
  equal(JSON.parse(nobody.err).error.code, "btest.auth-required");
});

Deno.test("btest client ends with 4 when nobody listens and with 6 when nobody answers", async () => {
  const silent = createServer((socket) => socket.on("error", () => {})).listen(0, "127.0.0.1");
  await once(silent, "listening");
  const { port } = silent.address() as { port: number };
  const client = ["client", `127.0.0.1:${port}`, "--answer-timeout-ms", "100", ...PORTABLE];
  equal((await run(client)).code, 6);
  silent.close();
  await once(silent, "close");
  equal((await run(client)).code, 4);
});

Deno.test("btest ends with 2 for words that mean nothing", async () => {
  for (
    const words of [
      ["client"],
      ["-c"],
      ["client", ":2000"],
      ["client", "127.0.0.1", "--direction", "sideways"],
      ["client", "127.0.0.1", "-t", "--direction", "receive"],
      ["client", "127.0.0.1", "--connections", "0"],
      ["client", "127.0.0.1:1", "-P", "2"],
      ["server", "--auth", "md5"],
      ["server", "--user", "admin"],
      ["server", "-P", "1", "--listen", "127.0.0.1:1"],
      ["server", "--listen", "none"],
      ["-s", "--listen", "none", "-P", "1"],
      ["serve"],
    ]
  ) {
    const { code, err } = await run(words);
    equal(code, 2, `${words.join(" ")}: ${err}`);
    match(err, /hint: /);
  }
});

Deno.test("btest --help shows both commands without starting anything", async () => {
  const { code, out } = await run(["--help"]);
  equal(code, 0);
  match(out, /server/);
  match(out, /client/);
  const help = await run(["client", "--help"]);
  for (const flag of ["--local-tx-speed-bps", "--password-file", "-b", "--csv"]) {
    ok(help.out.includes(flag), flag);
  }
  ok(
    !/(?:-p|--password) \w/.test(
      help.out.split("\n").filter((line) => /fastwire/.test(line)).join(),
    ),
  );
});
