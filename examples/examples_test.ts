import { deepEqual, equal, match, ok } from "node:assert/strict";

/** What each example prints last. */
const LAST_LINES: Readonly<Record<string, RegExp>> = {
  "btest_measure.ts": /^clean up to (?:1|10|50)\.0 Mbit\/s$/,
  "btest_server.ts": /^1 test ended, 1 login failed$/,
  "proxy_chain.ts": /^1 connection through the far end$/,
  "proxy_socks_handler.ts": /the server answered 2 \(not allowed by rule\)$/,
  "tftp_boot_configs.ts": /^01-00-00-00-00-00-00: tftp\.file-not-found$/,
  "tftp_drop_box.ts": /^kept configs\/router1\.cfg$/,
  "tftp_fetch.ts": /^on the disk: firmware\.bin$/,
  "tftp_protocol.ts": /^done: 98 blocks delivered, [1-9]\d* sent again$/,
  "tftp_relay.ts": /^bad: tftp\.access-violation$/,
  "tftp_serve.ts": /^1 transfers done$/,
};

const HERE = new URL(".", import.meta.url);

/** Starts the command that the head of an example shows; `words` replace those behind the file's name. */
async function started(name: string, words: readonly string[]): Promise<Deno.ChildProcess> {
  const text = await Deno.readTextFile(new URL(name, HERE));
  const shown = /^ \* {5}deno run (.*)examples\/\w+\.ts/m.exec(text);
  ok(shown !== null, `${name} shows no command`);
  const flags = shown[1]!.split(" ").filter((word) => word !== "");
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", "--no-check", ...flags, `examples/${name}`, ...words],
    cwd: new URL("..", HERE),
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

Deno.test("every example is listed here and is shorter than 80 lines", async () => {
  const names: string[] = [];
  for await (const { name } of Deno.readDir(HERE)) {
    if (!name.endsWith(".ts") || name.endsWith("_test.ts")) continue;
    names.push(name);
    const lines = (await Deno.readTextFile(new URL(name, HERE))).split("\n").length - 1;
    ok(lines < 80, `${name} has ${lines} lines`);
  }
  deepEqual(names.sort(), Object.keys(LAST_LINES));
});

for (const [name, last] of Object.entries(LAST_LINES)) {
  Deno.test(`examples/${name} runs to its last line with the permissions it names`, async () => {
    await using child = await started(name, []);
    const { code, stdout, stderr } = await child.output();
    equal(code, 0, new TextDecoder().decode(stderr));
    match(new TextDecoder().decode(stdout).trimEnd().split("\n").at(-1)!, last);
  });
}

Deno.test("examples/tftp_serve.ts serves a given folder until it is interrupted", async () => {
  const root = await Deno.makeTempDir();
  try {
    await using child = await started("tftp_serve.ts", [root, "127.0.0.1:0"]);
    let printed = "";
    for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
      if (printed === "") child.kill("SIGINT");
      printed += text;
    }
    equal((await child.status).code, 0);
    match(printed, /^serving .* on port \d+ with the (?:linux|node) driver\n0 transfers done\n$/);
    await child.stderr.cancel();
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});
