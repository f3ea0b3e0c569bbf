/** A disk without room: ERROR 3, and nothing left behind. Needs the right to mount a small file system. */
import { deepEqual, equal, match } from "node:assert/strict";
import { runContract } from "../internal/testing/contract.ts";
import { data, request } from "./testdata/raw_peer.ts";
import { type Bench, BOTH_DRIVERS, namesOf, pattern } from "./testdata/server_bench.ts";

const ANY = { enabled: true, allowAny: true, allowedPatterns: ["**"] };

async function command(...words: string[]): Promise<string> {
  const [program, ...args] = words;
  const { success, stderr } = await new Deno.Command(program!, { args, stdin: "null" }).output();
  return success ? "" : new TextDecoder().decode(stderr).trim() || "it failed";
}

/** Why no file system can be mounted here; empty when it can. */
function missingMount(): string {
  if (Deno.build.os !== "linux") return "small file systems are mounted on Linux only";
  if (Deno.uid() !== 0) return "mounting a small file system needs root";
  const path = Deno.makeTempDirSync();
  try {
    const run = (program: string, ...args: string[]): Deno.CommandOutput =>
      new Deno.Command(program, { args, stdin: "null" }).outputSync();
    const mounted = run("mount", "-t", "tmpfs", "-o", "size=64k", "fastwire", path);
    if (!mounted.success) return new TextDecoder().decode(mounted.stderr).trim();
    run("umount", path);
    return "";
  } catch (error) {
    return String(error);
  } finally {
    Deno.removeSync(path);
  }
}

const unmountable = missingMount();

/** Serves a disk of 64 KiB. */
async function onSmallDisk(bench: Bench, body: (root: string) => Promise<void>): Promise<void> {
  const root = `${bench.root}/small`;
  await Deno.mkdir(root);
  equal(await command("mount", "-t", "tmpfs", "-o", "size=64k", "fastwire", root), "");
  try {
    await body(root);
  } finally {
    equal(await command("umount", root), "");
  }
}

runContract<Bench>(
  "TFTP server",
  [
    [
      "answers ERROR 3 when the disk fills up, and leaves no file",
      (bench) =>
        onSmallDisk(bench, async (root) => {
          const { to, ended, server } = await bench.serve({ root, write: ANY });
          const peer = await bench.peer(to);
          peer.send(request("write", "large", ["blksize=8192"]));
          equal(await peer.hear(), "OACK blksize=8192");
          let words = "";
          for (let block = 1; block <= 20 && !words.startsWith("ERROR"); block++) {
            peer.send(data(block, pattern(8192)));
            do words = await peer.hear(); while (words === `ACK ${block - 1}`);
          }
          match(words, /^ERROR 3 /);
          equal((await ended(1)).outcome, "aborted");
          deepEqual(namesOf(root), []);
          await server.close();
        }),
    ],

    [
      "answers ERROR 3 before any data when the announced size does not fit",
      (bench) =>
        onSmallDisk(bench, async (root) => {
          const { to, server } = await bench.serve({ root, write: ANY });
          const peer = await bench.peer(to);
          peer.send(request("write", "large", ["tsize=1000000"]));
          match(await peer.hear(), /^ERROR 3 /);
          deepEqual(namesOf(root), []);
          await server.close();
        }),
    ],
  ],
  Object.fromEntries(
    Object.entries(BOTH_DRIVERS).map(([name, driver]) => [
      `${name} on a small disk`,
      {
        ...driver,
        missing: () => unmountable || driver.missing(),
      },
    ]),
  ),
);
