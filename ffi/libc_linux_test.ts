import { deepEqual, equal, match, ok, throws } from "node:assert/strict";
import { EAGAIN, EBADF, ECONNREFUSED, EINVAL, EMSGSIZE, errnoName } from "./errno.ts";
import { bindAll, libcCandidates } from "./libc_linux.ts";
import { SYMBOLS } from "./libc_symbols_linux.ts";
import { HEADERS } from "./testdata/generate_structs.ts";

const library = bindAll();
const ignore = library === undefined;
if (ignore) console.warn("the C library is not tested: it cannot be called here");

/** What a C type is called in a symbol table. Pointers are `buffer` or `usize`; both are right. */
const WIDTHS: Readonly<Record<string, string>> = {
  "int": "i32",
  "unsigned int": "u32",
  "size_t": "usize",
  "off_t": "i64",
  "socklen_t": "u32",
  "mode_t": "u32",
  "pid_t": "i32",
  "clockid_t": "i32",
  "nfds_t": "u64",
  "long": "i64",
};

interface Prototype {
  readonly symbol: string;
  readonly text: string;
  readonly result: string;
  readonly name: string;
  readonly parameters: readonly string[];
}

/** The prototypes in the comments of the symbol tables, in order. */
function prototypes(): readonly Prototype[] {
  const source = Deno.readTextFileSync(new URL("./libc_symbols_linux.ts", import.meta.url));
  return [...source.matchAll(/^ {2}\/\/ (.+)\n {2}(\w+): \{/gm)].map(([, text, symbol]) => {
    const [, result, name, list] = /^(.*?[ *])(\w+)\((.*)\)$/.exec(text!)!;
    const parameters = list === "void" ? [] : list!.split(", ").map((parameter) => {
      if (/[*[]/.test(parameter)) return "pointer";
      return parameter.replace(/ \w+$/, "");
    });
    return { symbol: symbol!, text: text!, result: result!.trim(), name: name!, parameters };
  });
}

Deno.test("every symbol stands under a prototype that gives its widths", () => {
  const found = prototypes();
  deepEqual(found.map(({ symbol }) => symbol), Object.keys(SYMBOLS));
  for (const { symbol, name, result, parameters } of found) {
    const entry = SYMBOLS[symbol as keyof typeof SYMBOLS];
    equal("name" in entry ? entry.name : symbol, name);
    equal(entry.optional, true, symbol);
    equal(entry.parameters.length, parameters.length, symbol);
    parameters.forEach((type, i) => {
      const width: string = entry.parameters[i]!;
      if (type === "pointer") ok(width === "buffer" || width === "usize", `${symbol} ${i}`);
      else equal(width, WIDTHS[type], `${symbol} parameter ${i}: ${type}`);
    });
    // Counts of bytes below 2³¹ may be read as 32 bits; pointers are addresses.
    const wanted = result.endsWith("*")
      ? "usize"
      : result === "ssize_t"
      ? "i32"
      : WIDTHS[result.trim()];
    equal(entry.result, wanted, `${symbol} result: ${result}`);
  }
});

Deno.test("every prototype is the one in this machine's headers", async () => {
  // Redeclaring a function is legal in C only with the same type. Variadic ones cannot be redeclared with the fixed
  // parameters they are called with, and renames give a function twice, which is legal.
  const variadic = new Set(["fcntl", "openat", "syscall"]);
  const lines = prototypes().filter(({ name }) => !variadic.has(name)).map(({ text }) =>
    `${text};`
  );
  const folder = await Deno.makeTempDir();
  try {
    const check = async (declarations: readonly string[]): Promise<string> => {
      await Deno.writeTextFile(`${folder}/p.c`, `${HEADERS}${declarations.join("\n")}\n`);
      const { stderr } = await new Deno.Command("cc", {
        args: ["-fsyntax-only", "-w", "-fno-builtin", `${folder}/p.c`],
      }).output();
      return new TextDecoder().decode(stderr);
    };
    equal(await check(lines), "");
    match(
      await check(["int bind(int sockfd, const struct sockaddr *addr, size_t addrlen);"]),
      /bind/,
    );
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    console.warn("not compared with the headers: there is no cc");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("libcCandidates() tries absolute paths first and the process itself last", () => {
  const names = libcCandidates("x86_64");
  ok(names[0]!.startsWith("/"));
  equal(names.at(-1), "");
  ok(names.every((name) => !name.includes("aarch64")));
});

Deno.test({
  name: "arguments of every width arrive, and results come back",
  ignore,
  fn: () => {
    const { pipe2, write, readAt, close, lseek, memfd_create, ftruncate, addressOf } = library!;
    equal(library!.getpid(), Deno.pid);
    const ends = new Int32Array(2);
    equal(pipe2(ends, 0), 0);
    equal(write(ends[1]!, new Uint8Array([1, 2, 3]), 3n), 3);
    const into = new Uint8Array(new ArrayBuffer(8));
    equal(readAt(ends[0]!, addressOf(into) + 2n, 3n), 3);
    deepEqual([...into], [0, 0, 1, 2, 3, 0, 0, 0]);
    close(ends[0]!);
    close(ends[1]!);
    // A 64-bit argument and a 64-bit result: an offset beyond 2³², and a negative one that must not become positive.
    const file = memfd_create!(new TextEncoder().encode("width\0"), 0);
    equal(ftruncate(file, 0x1_2345_6789n), 0);
    equal(lseek(file, 0n, 2), 0x1_2345_6789n);
    equal(lseek(file, -0x1_0000_0000n, 2), 0x2345_6789n);
    equal(lseek(file, -1n, 0), -1n);
    equal(library!.errno(), EINVAL);
    close(file);
  },
});

Deno.test({
  name: "addressOf() answers the place of a view, and 0 for an empty one",
  ignore,
  fn: () => {
    const buffer = new ArrayBuffer(64);
    const base = library!.addressOf(buffer);
    equal(library!.addressOf(new Uint8Array(buffer, 16)), base + 16n);
    equal(library!.addressOf(new DataView(buffer, 8)), base + 8n);
    equal(library!.addressOf(new Uint8Array(0)), 0n);
    new Uint8Array(buffer).set([7, 8, 9], 30);
    const copy = new Uint8Array(new ArrayBuffer(3));
    library!.copyFrom(base + 30n, 3, copy);
    deepEqual([...copy], [7, 8, 9]);
    throws(() => library!.copyFrom(base, 4, copy), RangeError);
  },
});

Deno.test({
  name: "errno() is the error of the call that has just failed",
  ignore,
  fn: () => {
    const { socket, bind, connect, getsockname, sendto, recvfrom, setsockopt, close } = library!;
    const errno = (result: number): string => {
      equal(result, -1);
      return errnoName(library!.errno());
    };
    const loopback = (): Uint8Array<ArrayBuffer> =>
      new Uint8Array([2, 0, 0, 0, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    const bytes = new Uint8Array(70_000);
    const length = new Uint32Array([16]);

    equal(errno(close(-1)), errnoName(EBADF));
    equal(errno(close(1_000_000)), errnoName(EBADF));

    const NONBLOCK = 0o4000;
    const receiver = socket(2, 2 | NONBLOCK, 0);
    const address = loopback();
    equal(bind(receiver, address, 16), 0);
    equal(getsockname(receiver, address, length), 0);
    equal(errno(recvfrom(receiver, bytes, 64n, 0, null, null)), errnoName(EAGAIN));
    equal(errno(sendto(receiver, bytes, 70_000n, 0, address, 16)), errnoName(EMSGSIZE));
    equal(errno(setsockopt(receiver, 1, 7, bytes, 1)), errnoName(EINVAL));

    // Nobody listens on a port that was just given back: the answer of the kernel comes with the next call.
    const sender = socket(2, 2 | NONBLOCK, 0);
    close(receiver);
    equal(connect(sender, address, 16), 0);
    equal(sendto(sender, bytes, 4n, 0, null, 0), 4);
    equal(errno(sendto(sender, bytes, 4n, 0, null, 0)), errnoName(ECONNREFUSED));
    close(sender);
  },
});

Deno.test({
  // Right behind the call, that is. An allocation in between may collect garbage, and the collector's own calls set errno
  // too: seen once in some 100,000 rounds.
  name: "errno() is right behind a failed call while the collector is kept busy",
  ignore,
  fn: () => {
    const { close, read } = library!;
    const kept: unknown[] = [];
    for (let i = 0; i < 20_000; i++) {
      const bytes = new Uint8Array(16);
      const failed = i % 2 === 0 ? close(-1) : read(-1, bytes, 16n);
      const errno = failed < 0 ? library!.errno() : 0;
      kept.push({ bytes, text: `${i}` });
      if (errno !== EBADF) throw new Error(`errno ${errno} in round ${i}`);
      if (kept.length > 1000) kept.length = 0;
    }
  },
});
