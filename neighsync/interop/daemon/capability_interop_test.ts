// The daemon as a process with as few rights as it can have. Needs root to take them away, setpriv and redis-server.

import { equal, match, ok } from "node:assert/strict";
import { bindAll } from "../../../ffi/libc_linux.ts";
import { missingNamespaces } from "../../../internal/testing/netns.ts";
import { ownWords } from "../../../internal/testing/own_tool.ts";
import { redisTest } from "../../../internal/testing/redis_server.ts";
import { Scene, until } from "../../testdata/scene.ts";

bindAll();

const NEEDS = ["setpriv", ...(missingNamespaces() === "" ? [] : ["a right to make namespaces"])];

/** Runs the daemon with these capabilities and no others until `body` is done; answers what it said. */
async function withRights(
  scene: Scene,
  rights: string,
  body: (said: () => string) => Promise<void>,
): Promise<string> {
  const own = ownWords("neighsync/mod.ts", ["run", "--redis", scene.url, "--metrics", "off"]);
  const [program, ...args] = scene.network.wrap([
    ...["setpriv", "--inh-caps", rights, "--bounding-set", rights, "--ambient-caps", rights],
    ...own,
  ]);
  const child = new Deno.Command(program!, {
    args,
    stdin: "null",
    stdout: "null",
    stderr: "piped",
    env: { NO_COLOR: "1" },
  }).spawn();
  let said = "";
  const reading = (async () => {
    for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) said += text;
  })();
  try {
    await until(() => /^ready /m.test(said), `the daemon, which said ${said}`);
    const status = await Deno.readTextFile(`/proc/${child.pid}/status`);
    const effective = /^CapEff:\s*(\w+)$/m.exec(status)![1]!;
    equal(parseInt(effective, 16), rights === "-all" ? 0 : 1 << 12);
    await body(() => said);
  } finally {
    child.kill("SIGTERM");
  }
  equal((await child.status).code, 0);
  await reading;
  return said;
}

redisTest("without any capability the daemon works, and says what it lacks", async () => {
  await using scene = await Scene.create();
  await scene.consume();
  scene.generator.put(0, 3000);
  const said = await withRights(scene, "-all", async () => {
    await scene.settled();
    scene.generator.remove(0, 100);
    scene.generator.put(3000, 200);
    await scene.settled();
    // More than the system's limit holds: losses are repaired as ever.
    scene.generator.flip(0, 3000, 100_000);
    await scene.settled();
  });
  match(said, /holds \d+ events only: .*CAP_NET_ADMIN/);
}, NEEDS);

redisTest("with CAP_NET_ADMIN alone the daemon lacks nothing", async () => {
  await using scene = await Scene.create();
  await scene.consume();
  const said = await withRights(scene, "-all,+net_admin", async () => {
    scene.generator.put(0, 20_000);
    await scene.settled(6000);
  });
  ok(!said.includes("CAP_"), said);
}, NEEDS);
