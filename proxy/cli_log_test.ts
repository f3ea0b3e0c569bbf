import { doesNotMatch, equal, match } from "node:assert/strict";
import { type OwnTool, startOwnTool } from "../internal/testing/own_tool.ts";
import { until } from "./testdata/engine.ts";

/** A proxy of a process of its own, in a folder that is gone afterwards. */
async function running(
  log: object,
  words: readonly string[],
  test: (tool: OwnTool, folder: string, take: (log: object) => Promise<void>) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  const write = (log: object, more: object = {}): Promise<void> =>
    Deno.writeTextFile(
      `${folder}/config.json`,
      JSON.stringify({ log, inbounds: [{ type: "mixed", listen_port: 0 }], ...more }),
    );
  await write(log);
  const args = ["run", "-c", `${folder}/config.json`, "-D", folder, ...words];
  const tool = await startOwnTool("proxy/mod.ts", args, { ready: /^listening tcp \S+ mixed/ });
  const take = async (log: object): Promise<void> => {
    const before = lines(tool, "listening tcp");
    await write(log);
    Deno.kill(tool.pid, "SIGHUP");
    await until(() => lines(tool, "listening tcp") > before, "the configuration was taken");
    // What is logged about it follows at once; a second one goes behind it.
    const after = lines(tool, "listening tcp");
    Deno.kill(tool.pid, "SIGHUP");
    await until(() => lines(tool, "listening tcp") > after, "it was taken once more");
  };
  try {
    await test(tool, folder, take);
  } finally {
    equal(await tool.stop(), 0);
    await Deno.remove(folder, { recursive: true });
  }
}

function lines(tool: OwnTool, words: string): number {
  return tool.output().split(words).length - 1;
}

Deno.test("`log` of the configuration says from which level on and where to, at the start and on SIGHUP", async () => {
  const first = { level: "info", output: "proxy.log", timestamp: false };
  await running(first, [], async (tool, folder, take) => {
    await take(first);
    const logged = (): Promise<string> => Deno.readTextFile(`${folder}/proxy.log`);
    match(await logged(), /^info proxy: took the configuration again$/m);
    doesNotMatch(tool.output(), /took the configuration/);
    await Deno.rename(`${folder}/proxy.log`, `${folder}/moved.log`);
    await take(first);
    match(await logged(), /took/, "the file was opened anew");
    await take({ level: "warn" });
    doesNotMatch(tool.output(), /took the configuration/);
    await take({ level: "info" });
    match(tool.output(), /^\d\d:\d\d:\d\d\.\d{3} info proxy: took the configuration again$/m);
  });
});

Deno.test("`log.disabled` logs nothing, and the command line goes before the file", async () => {
  await running({ disabled: true }, [], async (tool, _folder, take) => {
    await take({ disabled: true });
    doesNotMatch(tool.output(), /took/);
  });
  await running({ level: "error" }, ["--log-level", "info"], async (tool, _folder, take) => {
    await take({ disabled: true });
    match(tool.output(), /info proxy: took the configuration again/);
  });
});

Deno.test("a log that cannot be written keeps a proxy from starting, and says so", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(
      `${folder}/config.json`,
      JSON.stringify({ log: { output: "missing/proxy.log" } }),
    );
    const { ownWords } = await import("../internal/testing/own_tool.ts");
    const [command, ...args] = ownWords("proxy/mod.ts", [
      "run",
      "-D",
      folder,
      "-c",
      `${folder}/config.json`,
    ]);
    const { code, stderr } = await new Deno.Command(command!, { args }).output();
    match(
      new TextDecoder().decode(stderr),
      /Cannot write the log to ".*missing\/proxy\.log": ENOENT/,
    );
    equal(code !== 0, true);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
