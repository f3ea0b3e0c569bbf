import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { SYMBOLS } from "../ffi/libc_symbols_linux.ts";
import { libc, libcRefusal } from "../ffi/libc_linux.ts";
import {
  type ContractCase,
  type ContractDriver,
  runContract,
} from "../internal/testing/contract.ts";
import { NAME_QUIRKS, type ResolvedName, resolveName } from "./path_policy.ts";
import {
  DirectoryStore,
  type FileStore,
  type ReadSource,
  refusalOf,
  type WriteSink,
} from "./store.ts";
import { MemoryStore } from "./store_memory.ts";
import type { WritePolicy } from "./write_policy.ts";

interface Subject {
  /** Makes the store; once per case. */
  open(write?: Partial<WritePolicy>): Promise<FileStore>;
  /** Puts a file there behind the store's back. */
  put(name: string, content: string): void;
  /** What a file holds, behind the store's back. */
  look(name: string): string | undefined;
  /** Every file there is, hidden ones included, in order. */
  names(): string[];
}

const ANY = { enabled: true, allowedPatterns: ["**"], allowAny: true, sync: "never" } as const;

const SUITE: readonly ContractCase<Subject>[] = [
  ["reads a file by position, in pieces", async ({ open, put }) => {
    put("sub/file", "abcdefghij");
    const source = await read(await open(), "sub/file");
    equal(source.sizeBytes, 10);
    const into = new Uint8Array(new ArrayBuffer(12));
    equal(source.readPieces(into, 1, 3, 5, 6, 2), 6);
    equal(latin1(into), "\0cde\0\0fgh\0\0\0");
    equal(source.readPieces(into, 0, 4, 4, 8, 8), 2);
    equal(latin1(into.subarray(0, 2)), "ij");
    equal(source.readPieces(into, 0, 4, 4, 8, 10), 0);
    source.close();
    source.close();
  }],
  ["reads an empty file", async ({ open, put }) => {
    put("empty", "");
    const source = await read(await open(), "empty");
    equal(source.sizeBytes, 0);
    equal(source.readPieces(new Uint8Array(new ArrayBuffer(4)), 0, 4, 4, 4, 0), 0);
    source.close();
  }],
  ["answers a missing file with code 1 and no path", async ({ open }) => {
    equal(await refused(() => open().then((store) => read(store, "missing"))), "1 File not found");
  }],
  ["accepts no uploads unless told to", async ({ open, names }) => {
    const store = await open();
    equal(await refused(() => write(store, "new")), "2 Access violation");
    deepEqual(names(), []);
  }],
  ["shows an upload when it is committed, and not before", async ({ open, look, names }) => {
    const store = await open(ANY);
    const sink = await write(store, "new");
    equal(sink.name, "new");
    sink.writePieces(bytes(".abc..def..g"), 1, 3, 5, 7, 0);
    sink.write(bytes("hi"), 0, 2, 7);
    equal(look("new"), undefined);
    equal(await refused(() => read(store, "new")), "1 File not found");
    await sink.commit();
    equal(look("new"), "abcdefghi");
    deepEqual(names(), ["new"]);
    (await read(store, "new")).close();
  }],
  ["commits an upload of nothing", async ({ open, look }) => {
    const sink = await write(await open(ANY), "new");
    await sink.commit();
    equal(look("new"), "");
  }],
  ["takes the bytes when they are handed over", async ({ open, look }) => {
    const sink = await write(await open(ANY), "new");
    const slab = bytes("abc");
    sink.write(slab, 0, 3, 0);
    slab.fill(0);
    await sink.commit();
    equal(look("new"), "abc");
  }],
  ["leaves nothing of an upload that is given up", async ({ open, names }) => {
    const store = await open(ANY);
    const sink = await write(store, "new");
    sink.write(bytes("abc"), 0, 3, 0);
    sink.discard();
    sink.discard();
    deepEqual(names(), []);
    const again = await write(store, "new");
    await again.commit();
    again.discard();
    deepEqual(names(), ["new"]);
  }],
  ["accepts only names that are allowed and not denied", async ({ open, names }) => {
    const store = await open({
      ...ANY,
      allowedPatterns: ["up/**", "*.cfg"],
      deniedPatterns: ["**/secret*"],
      makeDirectories: true,
    });
    for (const name of ["other", "a/b.cfg", "up/secret", "up/x/secret.cfg", "secret.cfg"]) {
      equal(await refused(() => write(store, name)), "2 Access violation", name);
    }
    for (const name of ["up/x/file", "a.cfg"]) await (await write(store, name)).commit();
    deepEqual(names(), ["a.cfg", "up/x/file"]);
  }],
  ["gives nobody the name of an unfinished upload", async ({ open, put }) => {
    const store = await open(ANY);
    const name = ".new.0123456789abcdef.part";
    put(name, "half");
    equal(await refused(() => write(store, name)), "2 Access violation");
    equal(await refused(() => read(store, name)), "1 File not found");
  }],
  ["does not replace a file unless told to", async ({ open, put, look }) => {
    put("old", "old");
    const store = await open(ANY);
    equal(await refused(() => write(store, "old")), "6 File already exists");
    equal(look("old"), "old");
  }],
  ["replaces a file at once when told to, and readers keep the old one", async (subject) => {
    const { open, put, look } = subject;
    put("old", "old content");
    const store = await open({ ...ANY, allowOverwrite: true });
    const reader = await read(store, "old");
    const sink = await write(store, "old");
    sink.write(bytes("new"), 0, 3, 0);
    equal(look("old"), "old content");
    await sink.commit();
    equal(look("old"), "new");
    const into = new Uint8Array(new ArrayBuffer(11));
    equal(reader.readPieces(into, 0, 11, 11, 11, 0), 11);
    equal(latin1(into), "old content");
    reader.close();
  }],
  ["refuses a name that appeared during the upload", async ({ open, put, look, names }) => {
    const sink = await write(await open(ANY), "new");
    sink.write(bytes("upload"), 0, 6, 0);
    put("new", "quicker");
    equal(await refused(async () => await sink.commit()), "6 File already exists");
    sink.discard();
    equal(look("new"), "quicker");
    deepEqual(names(), ["new"]);
  }],
  ["makes no new names when it must not", async ({ open, put, look }) => {
    put("old", "old");
    const store = await open({ ...ANY, allowCreate: false, allowOverwrite: true });
    equal(await refused(() => write(store, "new")), "1 File not found");
    await (await write(store, "old")).commit();
    equal(look("old"), "");
  }],
  ["refuses a second upload of a name while the first one runs", async ({ open }) => {
    const store = await open({ ...ANY, allowOverwrite: true });
    const first = await write(store, "new");
    equal(await refused(() => write(store, "new")), "6 File is being uploaded");
    first.discard();
    const second = await write(store, "new");
    await second.commit();
    (await write(store, "new")).discard();
  }],
  ["numbers names that are taken when told to", async ({ open, put, names, look }) => {
    put("log", "old");
    const store = await open({ ...ANY, uniqueNames: true });
    const first = await write(store, "log");
    const second = await write(store, "log");
    deepEqual([first.name, second.name], ["log.1", "log.2"]);
    second.write(bytes("2"), 0, 1, 0);
    await second.commit();
    await first.commit();
    deepEqual(names(), ["log", "log.1", "log.2"]);
    equal(look("log"), "old");
    equal(look("log.2"), "2");
  }],
  ["refuses a file that is announced too large before any data", async ({ open, names }) => {
    const store = await open({ ...ANY, maxFileBytes: 10 });
    equal(await refused(() => write(store, "new", 11)), "3 File too large");
    deepEqual(names(), []);
    const sink = await write(store, "new", 10);
    equal(await refused(() => sink.expect(11)), "3 File too large");
    sink.discard();
  }],
  ["stops a file that grows too large, and leaves nothing", async ({ open, names }) => {
    const store = await open({ ...ANY, maxFileBytes: 10 });
    const sink = await write(store, "new");
    sink.write(bytes("0123456789"), 0, 10, 0);
    equal(await refused(() => sink.write(bytes("x"), 0, 1, 10)), "3 File too large");
    sink.discard();
    deepEqual(names(), []);
  }],
  ["bounds all uploads together, and forgets what was given up", async ({ open }) => {
    const store = await open({ ...ANY, maxTotalBytes: 10 });
    const first = await write(store, "a", 6);
    equal(await refused(() => write(store, "b", 5)), "3 Disk full or allocation exceeded");
    const second = await write(store, "b", 4);
    equal(
      await refused(() => second.write(bytes("12345"), 0, 5, 0)),
      "3 Disk full or allocation exceeded",
    );
    second.discard();
    // Announced six, sent two: the other four are free again.
    first.write(bytes("12"), 0, 2, 0);
    await first.commit();
    const third = await write(store, "c", 8);
    third.discard();
    equal(await refused(() => write(store, "c", 9)), "3 Disk full or allocation exceeded");
  }],
  ["puts uploads in their own directory, with patterns on the name asked for", async (subject) => {
    const { open, names } = subject;
    const store = await open({
      ...ANY,
      allowedPatterns: ["*.cfg"],
      directory: "/in/coming/",
      makeDirectories: true,
      uniqueNames: true,
    });
    await (await write(store, "a.cfg")).commit();
    await (await write(store, "a.cfg")).commit();
    deepEqual(names(), ["in/coming/a.cfg", "in/coming/a.cfg.1"]);
  }],
  ["keeps apart names that are not UTF-8", async ({ open }) => {
    const store = await open(ANY);
    const name = resolved(new Uint8Array([0x61, 0xe9]));
    let sink: WriteSink;
    try {
      sink = await store.openWrite(name);
    } catch (error) {
      // A runtime that cannot spell such names says that there is none.
      ok(store instanceof DirectoryStore && !store.root.traits.rawNames, `${error}`);
      equal(refusalOf(error).tftpCode, 1);
      return;
    }
    sink.write(bytes("x"), 0, 1, 0);
    await sink.commit();
    const source = await store.openRead(name);
    equal(source.sizeBytes, 1);
    source.close();
  }],
  ["refuses policies that cannot be meant", async ({ open }) => {
    for (
      const [policy, kind] of [
        [{ enabled: true }, RangeError],
        [{ enabled: true, allowedPatterns: ["a", "**"] }, RangeError],
        [{ enabled: true, allowedPatterns: ["[a"] }, SyntaxError],
        [{ ...ANY, directory: "../up" }, RangeError],
      ] as const
    ) {
      const error = await open(policy).catch((error) => error);
      ok(error instanceof kind, `${JSON.stringify(policy)}: ${error}`);
    }
  }],
];

function inDirectory(driver: "fast" | "portable", missing: () => string): ContractDriver<Held> {
  return {
    missing,
    open: () => {
      const base = Deno.makeTempDirSync({ prefix: "fastwire_store_" });
      let store: DirectoryStore | undefined;
      const list = (directory: string): string[] =>
        [...Deno.readDirSync(`${base}/${directory}`)].flatMap((entry) =>
          entry.isDirectory ? list(`${directory}${entry.name}/`) : `${directory}${entry.name}`
        );
      return {
        open: async (write = {}) => store = await DirectoryStore.open(base, { driver, write }),
        put: (name, content) => {
          Deno.mkdirSync(`${base}/${name}`.replace(/\/[^/]*$/, ""), { recursive: true });
          Deno.writeTextFileSync(`${base}/${name}`, content);
        },
        look: (name) => {
          try {
            return Deno.readTextFileSync(`${base}/${name}`);
          } catch {
            return undefined;
          }
        },
        names: () => list("").sort(),
        end: () => {
          store?.close();
          Deno.removeSync(base, { recursive: true });
        },
      };
    },
    close: (subject) => subject.end(),
  };
}

interface Held extends Subject {
  end(): void;
}

const IN_MEMORY: ContractDriver<Held> = {
  missing: () => "",
  open: () => {
    const before = new Map<string, string>();
    let store: MemoryStore | undefined;
    return {
      open: (write = {}) => {
        try {
          store = new MemoryStore({ files: Object.fromEntries(before), write });
          return Promise.resolve(store);
        } catch (error) {
          return Promise.reject(error);
        }
      },
      put: (name, content) => {
        if (store === undefined) before.set(name, content);
        else store.set(name, content);
      },
      look: (name) => {
        const content = store === undefined ? undefined : store.get(name);
        return content === undefined ? undefined : new TextDecoder().decode(content);
      },
      names: () => [...store!.names].sort(),
      end: () => store?.close(),
    };
  },
  close: (subject) => subject.end(),
};

// Every function that is bound counts as an open library; bind them before a test can be blamed for it.
for (const symbol of Object.keys(SYMBOLS) as (keyof typeof SYMBOLS)[]) libc()?.has(symbol);

runContract<Held>("FileStore", SUITE, {
  "linux directory": inDirectory("fast", () => libc() === undefined ? libcRefusal()!.why : ""),
  "node directory": inDirectory("portable", () => ""),
  "memory": IN_MEMORY,
});

async function read(store: FileStore, name: string): Promise<ReadSource> {
  return await store.openRead(resolved(name));
}

async function write(store: FileStore, name: string, announced?: number): Promise<WriteSink> {
  return await store.openWrite(resolved(name), announced);
}

function resolved(name: string | Uint8Array): ResolvedName {
  const raw = typeof name === "string" ? new TextEncoder().encode(name) : name;
  const result = resolveName("", raw, NAME_QUIRKS);
  if ("refused" in result) throw new Error(`Cannot use "${name}": ${result.refused}`);
  return result;
}

/** What a peer would be told: code and text. */
async function refused(action: () => unknown): Promise<string> {
  let answer: unknown;
  try {
    answer = await action();
  } catch (error) {
    const { tftpCode, message } = refusalOf(error);
    return `${tftpCode} ${message}`;
  }
  throw new Error(`nothing was refused: ${answer}`);
}

function bytes(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new TextEncoder().encode(text));
}

function latin1(content: Uint8Array): string {
  return String.fromCharCode(...content);
}

Deno.test("MemoryStore copies what it is given", () => {
  const content = bytes("abc");
  const store = new MemoryStore({ files: { a: content } });
  content.fill(0);
  equal(latin1(store.get("a")!), "abc");
  equal(store.delete("a"), true);
  throws(() => store.openRead(resolved("a")));
});
