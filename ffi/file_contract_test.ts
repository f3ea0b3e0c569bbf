// What is tested is synchronous, and so is what prepares it.
// deno-lint-ignore-file no-sync-fn-in-async-fn
import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { SystemError } from "../internal/errors.ts";
import { seededRandom } from "../internal/random.ts";
import {
  type ContractCase,
  type ContractDriver,
  runContract,
} from "../internal/testing/contract.ts";
import type { OpenFile, RootDirectory, Symlinks } from "./file.ts";
import { openRoot } from "./file.ts";
import { libc, libcRefusal } from "./libc_linux.ts";
import { SYMBOLS } from "./libc_symbols_linux.ts";
import type { FlipOrder } from "./testdata/flip_worker.ts";

interface Subject {
  readonly root: RootDirectory;
  /** The root as a path. */
  readonly path: string;
  /** A directory beside the root, which nothing may be read from or written to. */
  readonly outside: string;
}

const INSIDE = { symlinks: "inside" } as const;
const LONG = Deno.env.get("FASTWIRE_LONG") === "1";
const NEW = { symlinks: "inside", mode: 0o640, makeDirectories: false } as const;

const SUITE: readonly ContractCase<Subject>[] = [
  ["reads files of every awkward size", ({ root, path }) => {
    for (const size of [0, 1, 511, 512, 513, 4095, 4096, 4097, 70_001]) {
      const content = pattern(size);
      Deno.writeFileSync(`${path}/file`, content);
      const file = root.openRead("file", INSIDE);
      equal(file.sizeBytes, size);
      const into = new Uint8Array(new ArrayBuffer(size + 10));
      equal(file.read(into, 5, size + 5, 0), size);
      deepEqual(into.subarray(5, 5 + size), content);
      deepEqual([...into.subarray(0, 5), ...into.subarray(5 + size)], new Array(10).fill(0));
      equal(file.read(into, 0, 10, size), 0);
      equal(file.read(into, 0, 10, size + 4096), 0);
      file.close();
    }
  }],
  ["tells size, time and permission bits of what it opened", ({ root, path }) => {
    Deno.writeTextFileSync(`${path}/file`, "12345");
    Deno.chmodSync(`${path}/file`, 0o604);
    Deno.utimeSync(`${path}/file`, 1_000_000_000, 1_000_000_000.5);
    const file = root.openRead("file", INSIDE);
    equal(file.sizeBytes, 5);
    equal(file.modifiedMs, 1_000_000_000_500);
    equal(file.mode, 0o604);
    file.close();
  }],
  ["reads at positions beyond 4 GiB", ({ root, path }) => {
    const position = 0x1_0000_0000 + 12_345;
    using file = Deno.openSync(`${path}/sparse`, { write: true, create: true });
    file.truncateSync(position);
    file.seekSync(position, Deno.SeekMode.Start);
    file.writeSync(new TextEncoder().encode("far"));
    const opened = root.openRead("sparse", INSIDE);
    equal(opened.sizeBytes, position + 3);
    const into = new Uint8Array(new ArrayBuffer(16));
    equal(opened.readPieces(into, 0, 2, 8, 4, position), 3);
    deepEqual([...into], [102, 97, 0, 0, 0, 0, 0, 0, 114, 0, 0, 0, 0, 0, 0, 0]);
    opened.close();
  }],
  ["scatters a read over pieces and leaves alone what lies between", ({ root, path }) => {
    const seed = crypto.getRandomValues(new Uint32Array(1))[0]!;
    const random = seededRandom(seed);
    const content = pattern(300_000);
    Deno.writeFileSync(`${path}/file`, content);
    const file = root.openRead("file", INSIDE);
    const slab = new Uint8Array(new ArrayBuffer(110_000));
    for (let round = 0; round < 300; round++) {
      // Mostly the windows of a few transfers, at the same place again and again: what was prepared for one must fit the
      // next, shorter or longer.
      const often = random.u32() % 4 > 0;
      const piece = often ? [7, 512, 1428][random.u32() % 3]! : 1 + random.u32() % 1500;
      const stride = often ? piece + 4 : piece + random.u32() % 70;
      const pieces = 1 + random.u32() % 64;
      const length = Math.max(1, pieces * piece - random.u32() % piece);
      const position = random.u32() % 310_000;
      const start = random.u32() % 2 === 0 ? 4 : random.u32() % 1000;
      slab.fill(0xee);
      const expected = slab.slice();
      const there = Math.max(0, Math.min(length, content.length - position));
      for (let i = 0; i < there; i++) {
        expected[start + Math.floor(i / piece) * stride + i % piece] = content[position + i]!;
      }
      const note = `seed ${seed}, round ${round}: ${length} bytes in ${piece} of ${stride}`;
      equal(file.readPieces(slab, start, piece, stride, length, position), there, note);
      ok(isEqual(slab, expected), note);
    }
    file.close();
  }],
  ["reads more pieces than one call takes", ({ root, path }) => {
    const content = pattern(5000 * 3 + 1);
    Deno.writeFileSync(`${path}/file`, content);
    const file = root.openRead("file", INSIDE);
    const slab = new Uint8Array(new ArrayBuffer(5001 * 7));
    equal(file.readPieces(slab, 4, 3, 7, content.length, 0), content.length);
    for (let i = 0; i < content.length; i++) {
      if (slab[4 + Math.floor(i / 3) * 7 + i % 3] !== content[i]) throw new Error(`byte ${i}`);
    }
    file.close();
  }],
  ["reads into a part of a buffer", ({ root, path }) => {
    Deno.writeTextFileSync(`${path}/file`, "abcdef");
    const file = root.openRead("file", INSIDE);
    const buffer = new ArrayBuffer(32);
    file.readPieces(new Uint8Array(buffer, 8, 16), 1, 2, 4, 6, 0);
    equal(String.fromCharCode(...new Uint8Array(buffer, 8, 16).filter((byte) => byte)), "abcdef");
    deepEqual(new Uint8Array(buffer, 9, 2), new Uint8Array([97, 98]));
    file.close();
  }],
  ["writes what it was given and nothing that lies between pieces", ({ root, path }) => {
    const seed = crypto.getRandomValues(new Uint32Array(1))[0]!;
    const random = seededRandom(seed);
    const slab = pattern(400_000);
    for (let round = 0; round < 30; round++) {
      const file = root.create(`file${round}`, NEW);
      const expected: number[] = [];
      for (let window = 0; window < 5; window++) {
        const piece = 1 + random.u32() % 1500;
        const stride = piece + random.u32() % 70;
        const length = Math.max(1, (1 + random.u32() % 64) * piece - random.u32() % piece);
        const start = random.u32() % 1000;
        file.writePieces(slab, start, piece, stride, length, expected.length);
        for (let i = 0; i < length; i++) {
          expected.push(slab[start + Math.floor(i / piece) * stride + i % piece]!);
        }
        equal(file.writtenBytes, expected.length);
      }
      file.commit({ replace: false, sync: false });
      const written = Deno.readFileSync(`${path}/file${round}`);
      ok(isEqual(written, Uint8Array.from(expected)), `seed ${seed}, round ${round}`);
    }
  }],
  ["writes more pieces than one call takes", ({ root, path }) => {
    const slab = pattern(3000 * 7);
    const file = root.create("file", NEW);
    file.writePieces(slab, 1, 3, 7, 2999 * 3 + 2, 0);
    file.commit({ replace: false, sync: false });
    const expected = Uint8Array.from(
      { length: 2999 * 3 + 2 },
      (_, i) => slab[1 + Math.floor(i / 3) * 7 + i % 3]!,
    );
    ok(isEqual(Deno.readFileSync(`${path}/file`), expected));
  }],
  ["reads back what an unfinished file holds", ({ root }) => {
    const file = root.create("file", NEW);
    file.write(pattern(100), 0, 100, 0);
    const into = new Uint8Array(new ArrayBuffer(50));
    equal(file.read(into, 0, 50, 25), 50);
    deepEqual(into, pattern(100).slice(25, 75));
    file.discard();
  }],
  ["shows a new file under its name only when it is committed", ({ root, path }) => {
    const file = root.create("file", NEW);
    file.write(pattern(10), 0, 10, 0);
    equal(root.exists("file"), false);
    throws(() => root.openRead("file", INSIDE), systemError("ENOENT"));
    const hidden = root.list("");
    equal(hidden.length, 1);
    ok(/^\.file\.[0-9a-f]{16}\.part$/.test(hidden[0]!), hidden[0]);
    equal(Deno.statSync(`${path}/${hidden[0]}`).mode! & 0o777, 0o600);
    file.commit({ replace: false, sync: true });
    equal(root.exists("file"), true);
    deepEqual(root.list(""), ["file"]);
    equal(Deno.statSync(`${path}/file`).mode! & 0o777, 0o640);
  }],
  ["commits an empty file", ({ root, path }) => {
    root.create("file", NEW).commit({ replace: false, sync: false });
    equal(Deno.statSync(`${path}/file`).size, 0);
  }],
  ["hides the file of a name that is as long as a name can be", ({ root }) => {
    for (const name of ["n".repeat(255), "é".repeat(127), "\u{1f600}".repeat(63)]) {
      root.create(name, NEW).commit({ replace: false, sync: false });
      equal(root.exists(name), true);
    }
  }],
  ["lets exactly one of two creators of a name win", ({ root, path }) => {
    const first = root.create("file", NEW);
    const second = root.create("file", NEW);
    first.write(new Uint8Array([1]), 0, 1, 0);
    second.write(new Uint8Array([2]), 0, 1, 0);
    second.commit({ replace: false, sync: false });
    throws(() => first.commit({ replace: false, sync: false }), systemError("EEXIST"));
    deepEqual(Deno.readFileSync(`${path}/file`), new Uint8Array([2]));
    deepEqual(root.list(""), ["file"]);
  }],
  ["replaces a file when told to", ({ root, path }) => {
    Deno.writeTextFileSync(`${path}/file`, "old");
    const reader = root.openRead("file", INSIDE);
    const file = root.create("file", NEW);
    file.write(new Uint8Array([1, 2, 3, 4]), 0, 4, 0);
    file.commit({ replace: true, sync: false });
    equal(Deno.statSync(`${path}/file`).size, 4);
    // Who reads the old file goes on reading the old file.
    const into = new Uint8Array(new ArrayBuffer(3));
    reader.read(into, 0, 3, 0);
    equal(new TextDecoder().decode(into), "old");
    reader.close();
  }],
  ["leaves nothing behind when a commit fails", ({ root, path }) => {
    Deno.mkdirSync(`${path}/taken`);
    const file = root.create("taken", NEW);
    throws(() => file.commit({ replace: true, sync: false }), SystemError);
    deepEqual(root.list(""), ["taken"]);
    file.discard();
  }],
  ["leaves nothing behind when a file is discarded or closed", ({ root }) => {
    const discarded = root.create("a", NEW);
    discarded.write(pattern(10), 0, 10, 0);
    discarded.discard();
    discarded.discard();
    root.create("b", NEW).close();
    deepEqual(root.list(""), []);
    throws(() => discarded.write(pattern(1), 0, 1, 0), systemError("EBADF"));
    throws(() => discarded.commit({ replace: true, sync: false }), systemError("EBADF"));
  }],
  ["keeps an unfinished file when asked to", ({ root, path }) => {
    const file = root.create("a", NEW);
    file.write(pattern(10), 0, 10, 0);
    file.discard({ keep: true });
    const [name] = root.list("");
    ok(name!.endsWith(".part"), name);
    deepEqual(Deno.readFileSync(`${path}/${name}`), pattern(10));
  }],
  ["does not touch a committed file when it is discarded afterwards", ({ root }) => {
    const file = root.create("a", NEW);
    file.commit({ replace: false, sync: false });
    file.discard();
    file.close();
    deepEqual(root.list(""), ["a"]);
  }],
  ["reserves space without changing the size", ({ root, path }) => {
    const file = root.create("a", NEW);
    file.reserve(1_000_000);
    file.write(pattern(10), 0, 10, 0);
    file.commit({ replace: false, sync: false });
    const stat = Deno.statSync(`${path}/a`);
    equal(stat.size, 10);
    ok(stat.blocks! * 512 < 500_000, `${stat.blocks} blocks are still allocated`);
  }],
  ["refuses to reserve more than there is", ({ root }) => {
    const file = root.create("a", NEW);
    // Asked for a little more than there is, a file system hands out its last block before it refuses: that takes a second,
    // and meanwhile nobody else can write. What no file may have is refused at once.
    const wanted = LONG ? root.freeBytes() + 2 ** 40 : 2 ** 52;
    throws(
      () => file.reserve(wanted),
      (error) => systemError("ENOSPC")(error) || systemError("EFBIG")(error),
    );
    file.discard();
    deepEqual(root.list(""), []);
  }],
  ["knows how much space is left", ({ root }) => {
    const free = root.freeBytes();
    ok(Number.isSafeInteger(free) && free > 0, `${free}`);
  }],
  ["makes directories only when told to", ({ root, path }) => {
    throws(() => root.create("x/y/file", NEW), systemError("ENOENT"));
    deepEqual(root.list(""), []);
    root.create("x/y/file", { ...NEW, makeDirectories: true })
      .commit({ replace: false, sync: true });
    equal(Deno.statSync(`${path}/x/y/file`).isFile, true);
    equal(Deno.statSync(`${path}/x`).mode! & 0o777, 0o750);
    root.create("x/y/more", NEW).commit({ replace: false, sync: false });
    deepEqual([...root.list("x/y")].sort(), ["file", "more"]);
  }],
  ["refuses a path that could mean something else, before it is looked at", ({ root }) => {
    const bad = ["", ".", "..", "/", "/a", "a/", "a//b", "../a", "a/..", "a/../b", "./a", "a\0b"];
    for (const path of [...bad, new Uint8Array([0x2e, 0x2e, 0x2f, 0xff])]) {
      throws(() => root.openRead(path, INSIDE), TypeError, `read ${path}`);
      throws(() => root.create(path, NEW), TypeError, `create ${path}`);
      throws(() => root.exists(path), TypeError, `exists ${path}`);
      if (path !== "" && typeof path === "string") throws(() => root.list(path), TypeError);
    }
  }],
  ["takes names that merely look odd", ({ root }) => {
    for (const name of ["a..b", "...", "..a", "-", " ", "a\nb", "\\", "ünï", "\ufeffbom"]) {
      root.create(name, NEW).commit({ replace: false, sync: false });
      root.openRead(name, INSIDE).close();
      ok(root.list("").includes(name), JSON.stringify(name));
    }
  }],
  ["opens names that are not UTF-8 where the system has them", ({ root }) => {
    const name = new Uint8Array([0x61, 0xe9, 0xff]);
    if (!root.traits.rawNames) {
      throws(() => root.openRead(name, INSIDE), systemError("ENOENT"));
      throws(() => root.create(name, NEW), SystemError);
      return;
    }
    const file = root.create(name, NEW);
    file.write(new Uint8Array([7]), 0, 1, 0);
    file.commit({ replace: false, sync: false });
    equal(root.exists(name), true);
    const opened = root.openRead(name, INSIDE);
    equal(opened.sizeBytes, 1);
    opened.close();
    deepEqual(root.list(""), []);
    equal(root.exists("a\ufffd\ufffd"), false);
  }],
  ["says why a file cannot be opened", ({ root, path }) => {
    Deno.mkdirSync(`${path}/directory`);
    Deno.writeTextFileSync(`${path}/file`, "x");
    throws(() => root.openRead("missing", INSIDE), systemError("ENOENT"));
    throws(() => root.openRead("missing/file", INSIDE), systemError("ENOENT"));
    throws(() => root.openRead("file/beneath", INSIDE), systemError("ENOTDIR"));
    throws(() => root.openRead("directory", INSIDE), systemError("EISDIR"));
    throws(() => root.openRead("n".repeat(256), INSIDE), systemError("ENAMETOOLONG"));
    throws(() => root.openRead("ab/".repeat(2000) + "c", INSIDE), SystemError);
    throws(() => root.create("file/beneath", NEW), systemError("ENOTDIR"));
    throws(() => root.list("file"), systemError("ENOTDIR"));
    throws(() => root.list("missing"), systemError("ENOENT"));
  }],
  ["opens nothing but regular files, and does not wait for a pipe", ({ root, path }) => {
    const made = new Deno.Command("mkfifo", { args: [`${path}/pipe`] }).outputSync();
    equal(made.success, true);
    using _listener = Deno.listen({ transport: "unix", path: `${path}/socket` });
    Deno.symlinkSync("/dev/zero", `${path}/device`);
    throws(() => root.openRead("pipe", INSIDE), systemError("EACCES"));
    throws(() => root.openRead("socket", INSIDE), systemError("EACCES"));
    throws(() => root.openRead("device", { symlinks: "follow" }), systemError("EACCES"));
    equal(root.exists("pipe"), true);
  }],
  ["treats links as it is told", (subject) => {
    const { root, path, outside } = subject;
    Deno.mkdirSync(`${path}/sub`);
    Deno.writeTextFileSync(`${path}/sub/file`, "inside");
    Deno.symlinkSync("sub/file", `${path}/to-file`);
    Deno.symlinkSync("sub", `${path}/to-directory`);
    Deno.symlinkSync("to-file", `${path}/chain`);
    Deno.symlinkSync("../to-file", `${path}/sub/up`);
    Deno.symlinkSync("../outside/secret", `${path}/escape`);
    Deno.symlinkSync("../outside", `${path}/escape-directory`);
    Deno.symlinkSync("../root/sub/file", `${path}/out-and-in`);
    Deno.symlinkSync(`${path}/sub/file`, `${path}/absolute`);
    Deno.symlinkSync(`${outside}/secret`, `${path}/absolute-escape`);
    Deno.symlinkSync("loop", `${path}/loop`);
    Deno.symlinkSync("nowhere", `${path}/dangling`);
    const inside = root.traits.beneath ? "inside" : "ELOOP";
    const table:
      readonly (readonly [name: string, deny: string, inside: string, follow: string])[] = [
        ["sub/file", "inside", "inside", "inside"],
        ["to-file", "ELOOP", inside, "inside"],
        ["to-directory/file", "ELOOP", inside, "inside"],
        ["chain", "ELOOP", inside, "inside"],
        ["sub/up", "ELOOP", inside, "inside"],
        ["escape", "ELOOP", "refused", "secret"],
        ["escape-directory/secret", "ELOOP", "refused", "secret"],
        ["out-and-in", "ELOOP", "refused", "inside"],
        ["absolute", "ELOOP", "refused", "inside"],
        ["absolute-escape", "ELOOP", "refused", "secret"],
        ["loop", "ELOOP", "ELOOP", "ELOOP"],
        ["dangling", "ELOOP", root.traits.beneath ? "ENOENT" : "ELOOP", "ENOENT"],
      ];
    for (const [name, deny, inside, follow] of table) {
      equal(outcome(root, name, "deny"), deny, `${name} with deny`);
      const within = outcome(root, name, "inside");
      const refused = root.traits.beneath ? "EXDEV" : "ELOOP";
      equal(within, inside === "refused" ? refused : inside, `${name} with inside`);
      equal(outcome(root, name, "follow"), follow, `${name} with follow`);
    }
  }],
  ["refuses the magic links of the process file system", ({ root, path, outside }) => {
    using file = Deno.openSync(`${outside}/secret`);
    Deno.symlinkSync("/proc/self/fd", `${path}/magic`);
    // Kept open so that there is a magic link to it among them.
    equal(file.statSync().isFile, true);
    for (let descriptor = 3; descriptor < 30; descriptor++) {
      for (const symlinks of ["deny", "inside"] as const) {
        throws(() => root.openRead(`magic/${descriptor}`, { symlinks }), SystemError);
      }
    }
  }],
  ["creates nothing outside through a link, and never writes through one", (subject) => {
    const { root, path, outside } = subject;
    Deno.symlinkSync("../outside", `${path}/out`);
    for (const symlinks of ["deny", "inside"] as const) {
      throws(() => root.create("out/new", { ...NEW, symlinks }), SystemError);
      throws(
        () => root.create("out/deep/new", { ...NEW, symlinks, makeDirectories: true }),
        SystemError,
      );
    }
    Deno.symlinkSync("../outside/secret", `${path}/alias`);
    const refused = root.create("alias", NEW);
    throws(() => refused.commit({ replace: false, sync: false }), systemError("EEXIST"));
    const file = root.create("alias", NEW);
    file.write(new Uint8Array([1]), 0, 1, 0);
    file.commit({ replace: true, sync: false });
    equal(Deno.lstatSync(`${path}/alias`).isFile, true);
    equal(Deno.readTextFileSync(`${outside}/secret`), "secret");
    deepEqual([...Deno.readDirSync(outside)].map((entry) => entry.name), ["secret"]);
  }],
  ["sees what is there without following the last link", ({ root, path }) => {
    Deno.symlinkSync("nowhere", `${path}/dangling`);
    Deno.symlinkSync("../outside", `${path}/out`);
    Deno.mkdirSync(`${path}/directory`);
    equal(root.exists("dangling"), true);
    equal(root.exists("directory"), true);
    equal(root.exists("missing"), false);
    equal(root.exists("missing/file"), false);
    equal(root.exists("out/secret"), false);
    equal(root.exists("out/secret", { symlinks: "follow" }), true);
  }],
  ["lists directories of any size and knows when they changed", ({ root, path }) => {
    Deno.mkdirSync(`${path}/many`);
    const names = Array.from({ length: 600 }, (_, i) => `${"n".repeat(i % 200)}${i}`);
    for (const name of names) Deno.writeTextFileSync(`${path}/many/${name}`, "");
    deepEqual([...root.list("many")].sort(), [...names].sort());
    Deno.utimeSync(`${path}/many`, 1000, 1000.25);
    equal(root.listModifiedMs("many"), 1_000_250);
    Deno.removeSync(`${path}/many/0`);
    ok(root.listModifiedMs("many") > 1_000_250);
    ok(root.listModifiedMs("") > 1_000_250);
  }],
  ["checks that pieces lie in the buffer", ({ root, path }) => {
    Deno.writeFileSync(`${path}/file`, pattern(100));
    const file = root.openRead("file", INSIDE);
    const into = new Uint8Array(new ArrayBuffer(100));
    throws(() => file.readPieces(into, 0, 10, 20, 100, 0), RangeError);
    throws(() => file.readPieces(into, -1, 10, 10, 20, 0), RangeError);
    throws(() => file.readPieces(into, 0, 10, 9, 20, 0), RangeError);
    throws(() => file.readPieces(into, 0, 0, 10, 20, 0), RangeError);
    throws(() => file.read(into, 1, 100, 0), RangeError);
    equal(file.readPieces(into, 0, 10, 20, 50, 0), 50);
    file.close();
  }],
  ["takes advice in silence", ({ root, path }) => {
    Deno.writeFileSync(`${path}/file`, pattern(100));
    const file = root.openRead("file", INSIDE);
    file.advise("sequential", 0, 0);
    file.advise("will-need", 0, 100);
    file.advise("dont-need", 0, 100);
    equal(file.read(new Uint8Array(new ArrayBuffer(100)), 0, 100, 0), 100);
    file.close();
  }],
  ["refuses to use what was closed", ({ root, path }) => {
    Deno.writeFileSync(`${path}/file`, pattern(100));
    const file = root.openRead("file", INSIDE);
    file.close();
    file.close();
    throws(() => file.read(new Uint8Array(new ArrayBuffer(1)), 0, 1, 0), systemError("EBADF"));
    root.close();
    root.close();
    throws(() => root.openRead("file", INSIDE), TypeError);
    throws(() => root.freeBytes(), TypeError);
  }],
  ["leaves the number of descriptors where it was after thousands of cycles", ({ root, path }) => {
    Deno.writeFileSync(`${path}/file`, pattern(100));
    const cycle = (times: number): void => {
      for (let i = 0; i < times; i++) {
        root.openRead("file", INSIDE).close();
        outcome(root, "missing", "inside");
        if (i % 10 === 0) root.create("new", NEW).discard();
        if (i % 100 === 0) root.exists("file");
        if (i % 100 === 0) root.list("");
      }
    };
    cycle(10);
    const before = descriptors(path);
    cycle(LONG && root.traits.driver === "linux" ? 10_000 : 2000);
    equal(descriptors(path), before);
  }],
];

function subjectOf(
  open: (path: string) => RootDirectory | Promise<RootDirectory>,
  missing: () => string,
): ContractDriver<Subject> {
  return {
    missing,
    open: async () => {
      const base = Deno.makeTempDirSync({ prefix: "fastwire_file_" });
      Deno.mkdirSync(`${base}/root`);
      Deno.mkdirSync(`${base}/outside`);
      Deno.writeTextFileSync(`${base}/outside/secret`, "secret");
      const root = await open(`${base}/root`);
      return { root, path: root.path, outside: root.path.replace(/root$/, "outside") };
    },
    close: ({ root, path }) => {
      root.close();
      Deno.removeSync(path.replace(/\/root$/, ""), { recursive: true });
    },
  };
}

// Every function that is bound counts as an open library; bind them before a test can be blamed for it.
for (const symbol of Object.keys(SYMBOLS) as (keyof typeof SYMBOLS)[]) libc()?.has(symbol);

const DRIVERS: Readonly<Record<string, ContractDriver<Subject>>> = {
  "linux": subjectOf(async (path) => (await import("./file_linux.ts")).openLinuxRoot(path), noLibc),
  "linux of older kernels": subjectOf(
    async (path) => (await import("./file_linux.ts")).openLinuxRoot(path, { older: true }),
    noLibc,
  ),
  "node": subjectOf(async (path) => (await import("./file_node.ts")).openNodeRoot(path), () => ""),
};

runContract("RootDirectory", SUITE, DRIVERS);

for (const name of ["linux", "linux of older kernels"]) {
  const driver = DRIVERS[name]!;
  const reason = driver.missing();
  for (const symlinks of ["deny", "inside"] as const) {
    Deno.test({
      name: `RootDirectory on ${name} reads nothing outside while links are swapped (${symlinks})`,
      ignore: reason !== "",
      fn: async () => {
        const subject = await driver.open();
        try {
          // The walk that serves kernels of today gets the long run in the mode that follows links.
          const flips = name === "linux" && symlinks === "inside" && LONG ? 100_000 : 20_000;
          await swapWhileReading(subject, symlinks, flips);
        } finally {
          await driver.close!(subject);
        }
      },
    });
  }
}

// Somebody exchanges a directory for a link that leads out, again and again, while its file is read: not one byte of the
// outside file may be seen.
async function swapWhileReading(
  { root, path }: Subject,
  symlinks: Symlinks,
  times: number,
): Promise<void> {
  Deno.mkdirSync(`${path}/flip`);
  Deno.writeTextFileSync(`${path}/flip/secret`, "harmless");
  Deno.symlinkSync("../outside", `${path}/other`);
  const worker = new Worker(new URL("./testdata/flip_worker.ts", import.meta.url), {
    type: "module",
  });
  let flips = -1;
  const finished = new Promise<void>((resolve) => {
    worker.onmessage = (event) => {
      flips = event.data as number;
      resolve();
    };
  });
  const order: FlipOrder = { one: `${path}/flip`, other: `${path}/other`, flips: times };
  worker.postMessage(order);
  const seen = new Map<string, number>();
  try {
    while (flips < 0) {
      for (let i = 0; i < 200; i++) {
        for (const name of ["flip/secret", "other/secret"]) {
          const got = outcome(root, name, symlinks);
          seen.set(got, (seen.get(got) ?? 0) + 1);
        }
      }
      // The worker's message needs a turn of the event loop to arrive.
      await new Promise<void>((resolve) => setTimeout(resolve, 0));
    }
    await finished;
  } finally {
    worker.terminate();
  }
  const report = JSON.stringify([...seen]);
  equal(flips, times);
  equal(seen.has("secret"), false, report);
  // Both sides of the race were met, so that it was one.
  ok((seen.get("harmless") ?? 0) > 0, report);
  ok([...seen.keys()].some((key) => /^(ELOOP|EXDEV|EAGAIN)$/.test(key)), report);
}

const noMount = mayMount() ? "" : "mounting a small file system needs CAP_SYS_ADMIN";
if (noMount !== "") console.error(`RootDirectory on a full disk is not tested: ${noMount}`);
for (const [name, driver] of Object.entries(DRIVERS)) {
  Deno.test({
    name: `RootDirectory on ${name} leaves no file when the disk is full`,
    ignore: noMount !== "" || driver.missing() !== "",
    fn: async () => {
      const subject = await driver.open();
      const path = `${subject.path}/small`;
      try {
        Deno.mkdirSync(path);
        run("mount", "-t", "tmpfs", "-o", "size=256k", "none", path);
        const root = name === "node"
          ? (await import("./file_node.ts")).openNodeRoot(path)
          : (await import("./file_linux.ts")).openLinuxRoot(path, { older: name !== "linux" });
        ok(root.freeBytes() <= 256 * 1024);
        const slab = pattern(100_000);
        const file = root.create("big", NEW);
        throws(() => {
          for (let at = 0; at < 2 ** 20; at += 96_000) {
            file.writePieces(slab, 4, 1500, 1504, 96_000, at);
          }
        }, systemError("ENOSPC"));
        file.discard();
        const reserving = root.create("big", NEW);
        throws(() => reserving.reserve(2 ** 20), systemError("ENOSPC"));
        reserving.discard();
        deepEqual(root.list(""), []);
        root.close();
      } finally {
        run("umount", path);
        await driver.close!(subject);
      }
    },
  });
}

Deno.test("openRoot() says why a root cannot be opened", async () => {
  const base = Deno.makeTempDirSync();
  try {
    Deno.writeTextFileSync(`${base}/file`, "");
    for (const driver of ["auto", "portable"] as const) {
      const missing = await openRoot(`${base}/missing`, { driver }).catch((error) => error);
      ok(systemError("ENOENT")(missing), `${driver}: ${missing}`);
      const file = await openRoot(`${base}/file`, { driver }).catch((error) => error);
      ok(systemError("ENOTDIR")(file), `${driver}: ${file}`);
    }
  } finally {
    Deno.removeSync(base, { recursive: true });
  }
});

Deno.test("openRoot() takes the portable driver when told to", async () => {
  const root = await openRoot(Deno.cwd(), { driver: "portable" });
  equal(root.traits.driver, "node");
  root.close();
});

Deno.test("openRoot() takes the portable driver, without a question, where C may not be called", () => {
  const { code, stdout, stderr } = runProgram(
    ["--no-prompt", "--allow-read"],
    `const root = await openRoot(".");
     const fast = await openRoot(".", { driver: "fast" }).catch((error) => error.name);
     console.log(root.traits.driver, fast);`,
  );
  deepEqual([code, stdout], [0, "node CapabilityError\n"], stderr);
});

Deno.test({
  name: "openRoot() honours the permission to read although the kernel would not ask",
  ignore: noLibc() !== "",
  fn: () => {
    const { code, stdout, stderr } = runProgram(
      ["--no-prompt", "--allow-ffi"],
      `console.log((await openRoot("/etc").catch((error) => error)).errnoName);`,
    );
    deepEqual([code, stdout], [0, "EACCES\n"], stderr);
  },
});

Deno.test({
  name: "RootDirectory on linux keeps its memory in place while everything else is collected",
  ignore: noLibc() !== "",
  fn: () => {
    const { code, stdout, stderr } = runProgram(
      ["-A", "--v8-flags=--expose-gc,--stress-scavenge=100"],
      `const directory = Deno.makeTempDirSync();
       const content = new Uint8Array(200_000).map((_, i) => i * 7 + (i >> 8));
       Deno.writeFileSync(directory + "/file", content);
       const root = await openRoot(directory, { driver: "fast" });
       const slab = new Uint8Array(new ArrayBuffer(64 * 1432));
       let wrong = 0;
       for (let round = 0; round < 400; round++) {
         const file = root.openRead("file", { symlinks: "inside" });
         const garbage = Array.from({ length: 100 }, () => new Uint8Array(50));
         if (round % 10 === 0) globalThis.gc();
         file.readPieces(slab, 4, 1428, 1432, 64 * 1428, round);
         for (let i = 0; i < 64 * 1428; i += 97) {
           if (slab[4 + Math.floor(i / 1428) * 1432 + i % 1428] !== content[round + i]) wrong++;
         }
         file.close();
         if (garbage.length !== 100) wrong++;
       }
       root.close();
       Deno.removeSync(directory, { recursive: true });
       console.log(wrong);`,
    );
    deepEqual([code, stdout], [0, "0\n"], stderr);
  },
});

Deno.test("openRoot() follows links on the way to the root and says where it is", async () => {
  const base = Deno.realPathSync(Deno.makeTempDirSync());
  try {
    Deno.mkdirSync(`${base}/real`);
    Deno.symlinkSync("real", `${base}/link`);
    for (const driver of ["auto", "portable"] as const) {
      const root = await openRoot(`${base}/link`, { driver });
      equal(root.path, `${base}/real`);
      root.close();
    }
  } finally {
    Deno.removeSync(base, { recursive: true });
  }
});

function noLibc(): string {
  return libc() === undefined ? libcRefusal()!.why : "";
}

function runProgram(
  flags: readonly string[],
  program: string,
): { code: number; stdout: string; stderr: string } {
  const from = new URL("./file.ts", import.meta.url).href;
  const script = Deno.makeTempFileSync({ suffix: ".ts" });
  try {
    Deno.writeTextFileSync(script, `import { openRoot } from "${from}";\n${program}\n`);
    const config = new URL("../deno.json", import.meta.url).pathname;
    const { code, stdout, stderr } = new Deno.Command(Deno.execPath(), {
      args: ["run", "--no-check", "--no-lock", "--config", config, ...flags, script],
      cwd: new URL("..", import.meta.url).pathname,
      env: { NO_COLOR: "1" },
    }).outputSync();
    const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
    return { code, stdout: text(stdout), stderr: text(stderr) };
  } finally {
    Deno.removeSync(script);
  }
}

function outcome(root: RootDirectory, path: string, symlinks: Symlinks): string {
  let file: OpenFile;
  try {
    file = root.openRead(path, { symlinks });
  } catch (error) {
    if (error instanceof SystemError) return error.errnoName;
    throw error;
  }
  const into = new Uint8Array(new ArrayBuffer(16));
  const length = file.read(into, 0, 16, 0);
  file.close();
  return new TextDecoder().decode(into.subarray(0, length));
}

function systemError(name: string): (error: unknown) => boolean {
  return (error) => error instanceof SystemError && error.errnoName === name;
}

function pattern(length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(new ArrayBuffer(length));
  for (let i = 0; i < length; i++) bytes[i] = (i * 2654435761) >>> 13;
  return bytes;
}

// deepEqual over a million bytes takes seconds.
function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Descriptors of the process that lead into a test's own folder: others run in the same process. */
function descriptors(path: string): number {
  let count = 0;
  for (const { name } of Deno.readDirSync("/proc/self/fd")) {
    try {
      if (Deno.readLinkSync(`/proc/self/fd/${name}`).startsWith(path)) count++;
    } catch {
      // Closed since the folder was read.
    }
  }
  return count;
}

function mayMount(): boolean {
  if (Deno.build.os !== "linux") return false;
  const line = /^CapEff:\s*([0-9a-f]+)/m.exec(Deno.readTextFileSync("/proc/self/status"));
  // CAP_SYS_ADMIN is 21, `<linux/capability.h>`.
  return line !== null && (BigInt(`0x${line[1]}`) >> 21n & 1n) === 1n;
}

function run(command: string, ...args: string[]): void {
  const { success, stderr } = new Deno.Command(command, { args }).outputSync();
  if (!success) throw new Error(`${command}: ${new TextDecoder().decode(stderr)}`);
}
