/** The command line's contract: ready line, files, exit codes, signals. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { recordedTerminal } from "../internal/testing/terminal.ts";
import { runTool } from "../internal/cli/run.ts";
import { tool } from "./cli.ts";
import { serve, type TftpServer } from "./server.ts";
import { data, oack, RawPeer, request } from "./testdata/raw_peer.ts";
import { pattern, sum, until } from "./testdata/server_bench.ts";

const MAIN = new URL("./mod.ts", import.meta.url).pathname;
const ANY = { enabled: true, allowAny: true, allowedPatterns: ["**"], allowOverwrite: true };

/** A folder that goes with the test. */
class Folder implements Disposable {
  readonly path = Deno.makeTempDirSync({ prefix: "fastwire-cli-" });

  file(name: string, content: string | Uint8Array = "content"): string {
    const path = `${this.path}/${name}`;
    Deno.writeFileSync(
      path,
      typeof content === "string" ? new TextEncoder().encode(content) : content,
    );
    return path;
  }

  get names(): string[] {
    return [...Deno.readDirSync(this.path)].map(({ name }) => name).sort();
  }

  [Symbol.dispose](): void {
    Deno.removeSync(this.path, { recursive: true });
  }
}

/** The tool in this process. */
async function run(
  words: readonly string[],
): Promise<{ readonly code: number; readonly out: string; readonly err: string }> {
  const terminal = recordedTerminal();
  const code = await runTool(tool, words, terminal);
  return { code, out: terminal.out, err: terminal.err };
}

/** The tool as a process of its own. */
class Process implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly status: Promise<Deno.CommandStatus>;
  /** What it has said on standard error. */
  err = "";
  readonly out: Promise<Uint8Array>;
  readonly #said: Promise<void>;

  constructor(words: readonly string[], permissions: readonly string[] = ["-A"]) {
    this.#child = new Deno.Command(Deno.execPath(), {
      args: ["run", "--no-check", "--quiet", "--no-prompt", ...permissions, MAIN, ...words],
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.status = this.#child.status;
    this.out = new Response(this.#child.stdout).bytes();
    this.#said = this.#listen();
  }

  /** Sends a signal. */
  kill(signal: Deno.Signal): void {
    this.#child.kill(signal);
  }

  /** Waits for its end. */
  async ended(): Promise<number> {
    const { code } = await this.status;
    await this.#said;
    return code;
  }

  /** Waits for the line that says where it listens. */
  async listening(): Promise<{ family: "ipv4"; address: string; port: number }> {
    await until(() => /listening udp .*\n/.test(this.err), "the server to listen", 15_000);
    const port = Number(/^listening udp 127\.0\.0\.1:(\d+)$/m.exec(this.err)![1]);
    return { family: "ipv4", address: "127.0.0.1", port };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // It has ended already.
    }
    await Promise.all([this.status, this.out, this.#said]);
  }

  async #listen(): Promise<void> {
    const decoder = new TextDecoder();
    for await (const part of this.#child.stderr) this.err += decoder.decode(part, { stream: true });
  }
}

/** A server in this process. */
async function served(
  root: string,
): Promise<{ server: TftpServer; url: (name: string) => string; port: number }> {
  const server = await serve({ root, listen: ["127.0.0.1:0"], workers: 0, write: ANY });
  const { port } = server.addresses[0]!;
  return { server, port, url: (name) => `tftp://127.0.0.1:${port}/${name}` };
}

Deno.test("tftp serve says where it listens, serves, and stops on SIGTERM with 0", async () => {
  using folder = new Folder();
  const content = pattern(100_000);
  folder.file("boot.img", content);
  await using server = new Process([
    "serve",
    folder.path,
    "--listen",
    "127.0.0.1:0",
    "--write",
    "*",
  ]);
  const { port } = await server.listening();
  match(server.err, /^listening udp 127\.0\.0\.1:\d+\n/);
  using here = new Folder();
  const got = await run(["get", `tftp://127.0.0.1:${port}/boot.img`, "-o", `${here.path}/got`]);
  equal(got.code, 0, got.err);
  equal(sum(await Deno.readFile(`${here.path}/got`)), sum(content));
  const put = await run([
    "put",
    `${here.path}/got`,
    `tftp://127.0.0.1:${port}/up`,
    "-b",
    "1000",
    "-w",
    "4",
  ]);
  equal(put.code, 0, put.err);
  equal(sum(await Deno.readFile(`${folder.path}/up`)), sum(content));
  server.kill("SIGTERM");
  equal(await server.ended(), 0);
  deepEqual(folder.names, ["boot.img", "up"]);
});

Deno.test("tftp serve lets running transfers end on SIGTERM and refuses new ones", async () => {
  using folder = new Folder();
  folder.file("file", pattern(1000));
  await using server = new Process(["serve", folder.path, "--listen", "127.0.0.1:0"]);
  const to = await server.listening();
  await using peer = await RawPeer.open(to);
  peer.send(request("read", "file"));
  equal(await peer.hear(), "DATA 1 512");
  server.kill("SIGTERM");
  await using late = await RawPeer.open(to);
  let words = "";
  while (words !== "ERROR 0 server shutting down") {
    late.send(request("read", "missing"), to);
    words = (await late.receive()).words;
  }
  peer.send(Uint8Array.of(0, 4, 0, 1));
  equal(await peer.hear(), "DATA 2 488");
  peer.send(Uint8Array.of(0, 4, 0, 2));
  equal(await server.ended(), 0);
});

Deno.test("tftp serve stops at once on the second signal", async () => {
  using folder = new Folder();
  folder.file("file", pattern(1000));
  await using server = new Process(["serve", folder.path, "--listen", "127.0.0.1:0"]);
  const to = await server.listening();
  await using peer = await RawPeer.open(to);
  peer.send(request("read", "file"));
  equal(await peer.hear(), "DATA 1 512");
  server.kill("SIGTERM");
  // From another port: this one's transfer has to go on, or there is nothing to wait for.
  await using other = await RawPeer.open(to);
  let words = "";
  while (words !== "ERROR 0 server shutting down") {
    other.send(request("read", "another"), to);
    words = (await other.receive()).words;
  }
  server.kill("SIGTERM");
  equal(await server.ended(), 143);
});

Deno.test("tftp serve runs without the permission for foreign functions and says so with -v", async () => {
  using folder = new Folder();
  folder.file("file", "portable");
  const permissions = ["--allow-net", "--allow-read", "--allow-write"];
  await using server = new Process(
    ["serve", folder.path, "--listen", "127.0.0.1:0", "-v"],
    permissions,
  );
  const to = await server.listening();
  await until(() => /driver node \(.*\(ffi\).*\)/.test(server.err), "the driver line");
  await using peer = await RawPeer.open(to);
  peer.send(request("read", "file"));
  equal(await peer.hear(), "DATA 1 8");
  peer.send(Uint8Array.of(0, 4, 0, 1));
  server.kill("SIGTERM");
  equal(await server.ended(), 0);
});

Deno.test("tftp serve names the permission that is missing", async () => {
  using folder = new Folder();
  const words = ["serve", folder.path, "--listen", "127.0.0.1:0", "--driver", "portable"];
  await using blind = new Process(words, ["--allow-net"]);
  equal(await blind.ended(), 8);
  match(blind.err, /hint: .*--allow-read/);
  await using mute = new Process(words, ["--allow-read"]);
  equal(await mute.ended(), 8);
  match(mute.err, /--allow-net/);
  await using slow = new Process(
    ["serve", folder.path, "--listen", "127.0.0.1:0", "--driver", "fast"],
    ["--allow-net", "--allow-read"],
  );
  equal(await slow.ended(), 8);
  match(slow.err, /--allow-ffi/);
});

Deno.test("tftp serve ends with 4 and a remedy when the port is taken", async () => {
  using folder = new Folder();
  const { server, port } = await served(folder.path);
  try {
    for (const driver of ["auto", "portable"]) {
      const { code, err } = await run([
        "serve",
        folder.path,
        "--listen",
        `127.0.0.1:${port}`,
        "--driver",
        driver,
      ]);
      equal(code, 4, err);
      match(err, /^error: .*127\.0\.0\.1:\d+/);
      match(err, /\nhint: /);
    }
  } finally {
    await server.close();
  }
});

Deno.test("tftp serve ends with an error when the root is missing", async () => {
  const { code, err } = await run(["serve", "/nonexistent/root", "--listen", "127.0.0.1:0"]);
  equal(code, 1, err);
  match(err, /^error: .*\/nonexistent\/root/);
});

Deno.test("tftp get writes the file by its name, replaces one, and leaves no part", async () => {
  using root = new Folder();
  using here = new Folder();
  const content = pattern(70_000);
  root.file("name", content);
  const { server, url } = await served(root.path);
  try {
    const target = here.file("target", "old");
    const { code, out, err } = await run([
      "get",
      url("name"),
      "-o",
      target,
      "-b",
      "1024",
      "-w",
      "8",
    ]);
    equal(code, 0, err);
    equal(out, "");
    match(err, /^name: 68\.4 KiB in .* \(.*\)\n$/);
    equal(sum(await Deno.readFile(target)), sum(content));
    deepEqual(here.names, ["target"]);
    const missing = await run(["get", url("missing"), "-o", `${here.path}/missing`]);
    equal(missing.code, 1);
    match(
      missing.err,
      /^error: Cannot get "missing" from 127\.0\.0\.1:\d+: the file was not found/,
    );
    deepEqual(here.names, ["target"]);
    const quiet = await run(["get", url("name"), "-o", target, "-q"]);
    deepEqual([quiet.code, quiet.out, quiet.err], [0, "", ""]);
  } finally {
    await server.close();
  }
});

Deno.test("tftp get and put speak netascii and JSON", async () => {
  using root = new Folder();
  using here = new Folder();
  root.file("text", "one\ntwo\n");
  const { server, url, port } = await served(root.path);
  try {
    const got = await run([
      "get",
      url("text"),
      "-o",
      `${here.path}/text`,
      "--mode",
      "netascii",
      "--json",
    ]);
    equal(got.code, 0, got.err);
    equal(await Deno.readTextFile(`${here.path}/text`), "one\ntwo\n");
    const report = JSON.parse(got.out);
    deepEqual([report.type, report.name, report.bytes, report.server], [
      "get",
      "text",
      10,
      `127.0.0.1:${port}`,
    ]);
    const suffix = await run(["get", `${url("text")};mode=netascii`, "-o", "-"]);
    deepEqual([suffix.code, suffix.out], [0, "one\ntwo\n"]);
    const put = await run(["put", `${here.path}/text`, url("up"), "--json"]);
    equal(JSON.parse(put.out).bytes, 8);
    const missing = await run(["get", url("missing"), "-o", "-", "--json"]);
    equal(missing.code, 1);
    equal(JSON.parse(missing.err).error.code, "tftp.file-not-found");
  } finally {
    await server.close();
  }
});

Deno.test("tftp get writes to standard output and to devices", async () => {
  using root = new Folder();
  root.file("text", "to everybody\n");
  root.file("large", pattern(300_000));
  const { server, url } = await served(root.path);
  try {
    for (const driver of ["auto", "portable"]) {
      const out = await run(["get", url("text"), "-o", "-", "--driver", driver]);
      deepEqual([out.code, out.out], [0, "to everybody\n"]);
    }
    const hole = await run(["get", url("large"), "-o", "/dev/null"]);
    equal(hole.code, 0, hole.err);
    const full = await run(["get", url("large"), "-o", "/dev/full"]);
    equal(full.code, 1, full.err);
    match(full.err, /^error: .*\/dev\/full/);
    equal((await Deno.stat("/dev/full")).isCharDevice, true);
  } finally {
    await server.close();
  }
});

Deno.test("tftp get says that a directory is missing before it asks", async () => {
  using root = new Folder();
  root.file("file");
  const { server, url } = await served(root.path);
  try {
    const { code, err } = await run(["get", url("file"), "-o", `${root.path}/no/such/file`]);
    equal(code, 1, err);
    match(err, /^error: .*no\/such/);
    equal(server.snapshot().requestsRead, 0);
  } finally {
    await server.close();
  }
});

Deno.test("tftp put says that a file is missing before it asks", async () => {
  using root = new Folder();
  const { server, url } = await served(root.path);
  try {
    const { code, err } = await run(["put", `${root.path}/missing`, url("up")]);
    equal(code, 1, err);
    match(err, /^error: .*missing/);
    equal(server.snapshot().requestsWrite, 0);
  } finally {
    await server.close();
  }
});

Deno.test("tftp get leaves no part behind when it is interrupted", async () => {
  using here = new Folder();
  await using fake = await RawPeer.open({ family: "ipv4", address: "127.0.0.1", port: 9 });
  await using client = new Process(
    [
      "get",
      `tftp://127.0.0.1:${fake.address.port}/big`,
      "-o",
      `${here.path}/big`,
      "-b",
      "512",
      "-w",
      "1",
    ],
  );
  match(await fake.hear(15_000), /^RRQ big octet/);
  fake.send(oack("blksize=512"));
  equal(await fake.hear(), "ACK 0");
  fake.send(data(1, 512));
  equal(await fake.hear(), "ACK 1");
  equal(here.names.length, 1);
  match(here.names[0]!, /\.part$/);
  client.kill("SIGINT");
  equal(await fake.hear(), "ERROR 0 aborted");
  equal(await client.ended(), 130);
  deepEqual(here.names, []);
});

Deno.test("tftp get says that nobody answers with 6", async () => {
  await using fake = await RawPeer.open({ family: "ipv4", address: "127.0.0.1", port: 9 });
  const { port } = fake.address;
  await fake[Symbol.asyncDispose]();
  const { code, err } = await run([
    "get",
    `tftp://127.0.0.1:${port}/file`,
    "-o",
    "-",
    "--initial-timeout-ms",
    "20",
  ]);
  // Without the kernel's driver nobody learns that the port is closed, and it takes longer.
  equal(code, 6, err);
  match(err, /^error: Cannot get "file" from 127\.0\.0\.1:\d+: no answer/);
});

Deno.test("tftp says 7 when the server breaks the protocol", async () => {
  await using fake = await RawPeer.open({ family: "ipv4", address: "127.0.0.1", port: 9 });
  const got = run(["get", `tftp://127.0.0.1:${fake.address.port}/file`, "-o", "-"]);
  await fake.hear();
  fake.send(data(1, 512));
  equal(await fake.hear(), "ACK 1");
  fake.send(data(2, 600));
  equal((await got).code, 7);
});

Deno.test("tftp knows what was meant", async () => {
  const wrong: readonly (readonly [string[], RegExp])[] = [
    [["get", "tftp://h/x", "--blocksize", "5"], /--block-?size/],
    [["get", "tftp://h/x", "-b", "7000000"], /65464/],
    [["serve", "/tmp", "--lisen", "x"], /--listen/],
    [["gett", "tftp://h/x"], /get/],
    [["get", "http://h/x"], /tftp:\/\//],
    [["get"], /url/i],
    [["put", "file"], /url/i],
  ];
  for (const [words, hint] of wrong) {
    const { code, err } = await run(words);
    equal(code, 2, `${words.join(" ")}: ${err}`);
    match(err, hint);
  }
});

Deno.test("tftp prints the help it is known for", async () => {
  const path = new URL("./testdata/help.txt", import.meta.url);
  const parts: string[] = [];
  for (const words of [["--help"], ["serve", "-h"], ["get", "-h"], ["put", "-h"]]) {
    const { code, out } = await run(words);
    equal(code, 0);
    parts.push(`$ tftp ${words.join(" ")}\n${out}`);
  }
  const help = parts.join("\n");
  if (Deno.env.get("FASTWIRE_UPDATE") === "1") await Deno.writeTextFile(path, help);
  equal(help, await Deno.readTextFile(path), "FASTWIRE_UPDATE=1 takes the new help over");
  ok(help.split("\n").every((line) => line.length <= 80));
});
