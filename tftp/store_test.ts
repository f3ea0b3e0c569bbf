// What is tested is synchronous, and so is what prepares it.
// deno-lint-ignore-file no-sync-fn-in-async-fn
import { deepEqual, equal, ok } from "node:assert/strict";
import { openRoot, type RootDirectory } from "../ffi/mod.ts";
import { libc } from "../ffi/libc_linux.ts";
import { SYMBOLS } from "../ffi/libc_symbols_linux.ts";
import { CaselessNames } from "./caseless.ts";
import { NAME_QUIRKS, type ResolvedName, resolveName } from "./path_policy.ts";
import { DirectoryStore, type DirectoryStoreOptions, refusalOf } from "./store.ts";

// Every function that is bound counts as an open library; bind them before a test can be blamed for it.
for (const symbol of Object.keys(SYMBOLS) as (keyof typeof SYMBOLS)[]) libc()?.has(symbol);

const ANY = { enabled: true, allowedPatterns: ["**"], allowAny: true, sync: "never" } as const;

async function inDirectory(body: (path: string) => void | Promise<void>): Promise<void> {
  const path = Deno.realPathSync(Deno.makeTempDirSync({ prefix: "fastwire_store_" }));
  try {
    await body(path);
  } finally {
    Deno.removeSync(path, { recursive: true });
  }
}

function name(text: string): ResolvedName {
  const resolved = resolveName(text, undefined, NAME_QUIRKS);
  if ("refused" in resolved) throw new Error(resolved.refused);
  return resolved;
}

function contentOf(store: DirectoryStore, requested: string): string {
  try {
    const source = store.openRead(name(requested));
    const into = new Uint8Array(new ArrayBuffer(64));
    const length = source.readPieces(into, 0, 64, 64, 64, 0);
    source.close();
    return new TextDecoder().decode(into.subarray(0, length));
  } catch (error) {
    const { tftpCode, message } = refusalOf(error);
    return `${tftpCode} ${message}`;
  }
}

async function withStore(
  path: string,
  options: DirectoryStoreOptions,
  body: (store: DirectoryStore) => void | Promise<void>,
): Promise<void> {
  const store = await DirectoryStore.open(path, options);
  try {
    await body(store);
  } finally {
    store.close();
  }
}

Deno.test("DirectoryStore serves links as its option says", () =>
  inDirectory(async (path) => {
    Deno.mkdirSync(`${path}/root`);
    Deno.writeTextFileSync(`${path}/root/file`, "inside");
    Deno.writeTextFileSync(`${path}/secret`, "secret");
    Deno.symlinkSync("file", `${path}/root/in`);
    Deno.symlinkSync("../secret", `${path}/root/out`);
    const denied = "2 Access violation";
    await withStore(`${path}/root`, {}, (store) => {
      equal(contentOf(store, "in"), store.root.traits.beneath ? "inside" : denied);
      equal(contentOf(store, "out"), denied);
    });
    await withStore(`${path}/root`, { symlinks: "deny" }, (store) => {
      equal(contentOf(store, "in"), denied);
      equal(contentOf(store, "out"), denied);
    });
    await withStore(`${path}/root`, { symlinks: "follow" }, (store) => {
      equal(contentOf(store, "out"), "secret");
    });
  }));

Deno.test("DirectoryStore serves no directory, pipe or device", () =>
  inDirectory(async (path) => {
    Deno.mkdirSync(`${path}/directory`);
    await withStore(path, {}, (store) => {
      equal(contentOf(store, "directory"), "2 Access violation");
      equal(contentOf(store, "directory/file"), "1 File not found");
    });
  }));

Deno.test("DirectoryStore can demand that everyone may read a file, and hide the others", () =>
  inDirectory(async (path) => {
    Deno.writeTextFileSync(`${path}/open`, "open");
    Deno.writeTextFileSync(`${path}/closed`, "closed");
    Deno.chmodSync(`${path}/open`, 0o644);
    Deno.chmodSync(`${path}/closed`, 0o640);
    await withStore(path, { requireWorldReadable: true }, (store) => {
      equal(contentOf(store, "open"), "open");
      equal(contentOf(store, "closed"), "1 File not found");
    });
    await withStore(path, { requireWorldReadable: true, hideExistence: false }, (store) => {
      equal(contentOf(store, "closed"), "2 Access violation");
    });
    await withStore(path, {}, (store) => equal(contentOf(store, "closed"), "closed"));
  }));

Deno.test("DirectoryStore finds names without regard to case, the exact one first", () =>
  inDirectory(async (path) => {
    Deno.mkdirSync(`${path}/Boot/Fonts`, { recursive: true });
    Deno.writeTextFileSync(`${path}/Boot/Fonts/wgl4.ttf`, "font");
    Deno.writeTextFileSync(`${path}/BCD`, "upper");
    Deno.writeTextFileSync(`${path}/bcd`, "lower");
    await withStore(path, { caseInsensitive: true }, (store) => {
      equal(contentOf(store, "boot/FONTS/WGL4.TTF"), "font");
      equal(contentOf(store, "bcd"), "lower");
      equal(contentOf(store, "BCD"), "upper");
      equal(contentOf(store, "Bcd"), "upper");
      equal(contentOf(store, "boot/fonts/missing"), "1 File not found");
      equal(contentOf(store, "bcd/wgl4.ttf"), "1 File not found");
      // What appears while listings are remembered is found all the same.
      Deno.writeTextFileSync(`${path}/Boot/Fonts/New.ttf`, "new");
      equal(contentOf(store, "boot/fonts/new.TTF"), "new");
    });
    await withStore(path, {}, (store) => equal(contentOf(store, "Bcd"), "1 File not found"));
  }));

Deno.test("DirectoryStore does not follow a link out while it looks without regard to case", () =>
  inDirectory(async (path) => {
    Deno.mkdirSync(`${path}/root`);
    Deno.mkdirSync(`${path}/outside`);
    Deno.writeTextFileSync(`${path}/outside/secret`, "secret");
    Deno.symlinkSync("../outside", `${path}/root/Out`);
    await withStore(`${path}/root`, { caseInsensitive: true }, (store) => {
      ok(/^[12] /.test(contentOf(store, "out/SECRET")), contentOf(store, "out/SECRET"));
    });
  }));

Deno.test("DirectoryStore folds requested names when told to", () =>
  inDirectory(async (path) => {
    Deno.writeTextFileSync(`${path}/file`, "lower");
    Deno.writeTextFileSync(`${path}/FILE`, "upper");
    await withStore(path, { lowercase: true, write: ANY }, (store) => {
      equal(contentOf(store, "FILE"), "lower");
      const sink = store.openWrite(name("NEW"));
      equal(sink.name, "new");
      sink.discard();
    });
  }));

Deno.test("DirectoryStore leaves the free space it is told to leave", () =>
  inDirectory(async (path) => {
    const root = await openRoot(path);
    const free = root.freeBytes();
    root.close();
    const told = (store: DirectoryStore, announced?: number): string => {
      try {
        store.openWrite(name("new"), announced).discard();
        return "accepted";
      } catch (error) {
        return `${refusalOf(error).tftpCode}`;
      }
    };
    const write = { ...ANY, maxFileBytes: 0 };
    await withStore(path, { write: { ...write, minFreeBytes: 2 * free } }, (store) => {
      equal(told(store), "3");
    });
    await withStore(path, { write: { ...write, minFreeBytes: free / 2 } }, (store) => {
      equal(told(store), "accepted");
      equal(told(store, free), "3");
    });
    deepEqual([...Deno.readDirSync(path)], []);
  }));

Deno.test("DirectoryStore refuses an announced size that the disk does not have", () =>
  inDirectory(async (path) => {
    await withStore(path, { write: { ...ANY, maxFileBytes: 0 } }, (store) => {
      try {
        store.openWrite(name("new"), 2 ** 50).discard();
        throw new Error("accepted");
      } catch (error) {
        equal(refusalOf(error).tftpCode, 3, `${error}`);
      }
      // The refused upload is off the books.
      store.openWrite(name("new")).discard();
    });
    deepEqual([...Deno.readDirSync(path)], []);
  }));

Deno.test("DirectoryStore gives uploads the mode it is told to", () =>
  inDirectory(async (path) => {
    for (const fileMode of [0o640, 0o666, 0o600]) {
      await withStore(path, { write: { ...ANY, fileMode } }, async (store) => {
        await store.openWrite(name(`file${fileMode}`)).commit();
        equal(Deno.statSync(`${path}/file${fileMode}`).mode! & 0o777, fileMode);
      });
    }
  }));

Deno.test("DirectoryStore keeps what came of a broken upload when told to", () =>
  inDirectory(async (path) => {
    await withStore(path, { write: { ...ANY, keepPartial: true } }, (store) => {
      const sink = store.openWrite(name("new"), 1000);
      sink.write(new Uint8Array([1, 2, 3]), 0, 3, 0);
      sink.discard();
      store.openWrite(name("nothing")).discard();
    });
    const names = [...Deno.readDirSync(path)].map((entry) => entry.name);
    equal(names.length, 1);
    ok(/^\.new\.[0-9a-f]{16}\.part$/.test(names[0]!), names[0]);
    deepEqual(Deno.readFileSync(`${path}/${names[0]}`), new Uint8Array([1, 2, 3]));
  }));

Deno.test("DirectoryStore reads a file that is larger than its read-ahead", () =>
  inDirectory(async (path) => {
    using file = Deno.openSync(`${path}/big`, { write: true, create: true });
    file.truncateSync(20_000_000);
    file.seekSync(19_999_999, Deno.SeekMode.Start);
    file.writeSync(new Uint8Array([7]));
    await withStore(path, {}, (store) => {
      const source = store.openRead(name("big"));
      const into = new Uint8Array(new ArrayBuffer(1_000_000));
      let sum = 0, read = 0;
      for (let at = 0; at < 20_000_000; at += into.length) {
        read += source.readPieces(into, 0, 1000, 1000, into.length, at);
        sum += into.reduce((total, byte) => total + byte, 0);
      }
      deepEqual([read, sum], [20_000_000, 7]);
      source.close();
    });
  }));

Deno.test("DirectoryStore closes its root when its policy cannot be meant", () =>
  inDirectory(async (path) => {
    const error = await DirectoryStore.open(path, { write: { enabled: true } }).catch((e) => e);
    ok(error instanceof RangeError);
    // Other tests run in the same process: only what leads to this folder counts.
    const open = [...Deno.readDirSync("/proc/self/fd")].map(({ name }) => {
      try {
        return Deno.readLinkSync(`/proc/self/fd/${name}`);
      } catch {
        return "";
      }
    });
    equal(open.some((target) => target.startsWith(path)), false);
  }));

Deno.test("CaselessNames asks for a listing again only when it may have changed", () => {
  let lists = 0, modifiedMs = 1000, wall = 100_000, names = ["Alpha"];
  const root = {
    listModifiedMs: () => modifiedMs,
    list: () => {
      lists++;
      return names;
    },
  } as unknown as RootDirectory;
  const lookup = new CaselessNames(root, "inside", () => wall);
  equal(lookup.find("ALPHA"), "Alpha");
  equal(lookup.find("beta"), undefined);
  equal(lists, 1);
  // Changed a moment ago: a further change may not show in the time stamp, so the listing is good for one look-up.
  modifiedMs = wall;
  names = ["Alpha", "Beta"];
  equal(lookup.find("beta"), "Beta");
  names = ["Alpha", "Beta", "Gamma"];
  equal(lookup.find("gamma"), "Gamma");
  equal(lists, 3);
  wall += 10_000;
  equal(lookup.find("gamma"), "Gamma");
  equal(lookup.find("gamma"), "Gamma");
  equal(lists, 4);
});
