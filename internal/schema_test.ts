import { deepEqual, equal, ok, throws } from "node:assert/strict";
import fc from "fast-check";
import {
  boolean,
  choice,
  cidr,
  duration,
  endpoint,
  integer,
  kebabCase,
  list,
  nearest,
  option,
  options,
  type OptionsSchema,
  path,
  port,
  rate,
  readWord,
  resolve,
  secret,
  size,
  text,
} from "./schema.ts";

interface ResolvedExample {
  readonly blockSize: number;
  readonly timeoutMs: number;
  readonly driver: "auto" | "fast" | "portable";
  readonly verify: boolean;
  readonly output: string | undefined;
  readonly allow: readonly string[];
  readonly socket: { readonly receiveBufferBytes: number };
}

const EXAMPLE: OptionsSchema<ResolvedExample> = options({
  blockSize: option(integer(8, 65464), 1468, {
    help: "Block size to request",
    flag: "b",
    aliases: ["blksize"],
  }),
  timeoutMs: option(duration(10, 255_000), 1000, { help: "Patience" }),
  driver: option(choice(["auto", "fast", "portable"]), "auto", { help: "Driver" }),
  verify: option(boolean(), false, { help: "Read back" }),
  output: option(path(), undefined, { help: "File" }),
  allow: option(list(text(100), 3), [], { help: "Patterns" }),
  socket: {
    receiveBufferBytes: option(size(4096, 2 ** 30), 2 ** 20, { help: "Socket buffer" }),
  },
});

Deno.test("resolve() answers every default and freezes all of it", () => {
  const resolved = resolve(EXAMPLE, {}, "example options");
  deepEqual(resolved, {
    blockSize: 1468,
    timeoutMs: 1000,
    driver: "auto",
    verify: false,
    output: undefined,
    allow: [],
    socket: { receiveBufferBytes: 2 ** 20 },
  });
  ok(Object.isFrozen(resolved) && Object.isFrozen(resolved.socket));
});

Deno.test("resolve() keeps what was given and reads units", () => {
  const resolved = resolve(
    EXAMPLE,
    { blockSize: 8, timeoutMs: "2s", allow: ["a"], socket: { receiveBufferBytes: "64K" } },
    "example options",
  );
  equal(resolved.blockSize, 8);
  equal(resolved.timeoutMs, 2000);
  equal(resolved.socket.receiveBufferBytes, 65536);
  deepEqual(resolved.allow, ["a"]);
  ok(Object.isFrozen(resolved.allow));
});

for (
  const [name, input, error, message] of [
    [
      "an unknown key, naming the nearest",
      { blokSize: 1 },
      "TypeError",
      'unknown option "blokSize", expected "blockSize"',
    ],
    [
      "an unknown key in a group",
      { socket: { receiveBufferByte: 1 } },
      "TypeError",
      'unknown option "socket.receiveBufferByte", expected "receiveBufferBytes"',
    ],
    [
      "an unknown key that resembles none",
      { socket: { colour: 1 } },
      "TypeError",
      'unknown option "socket.colour", expected one of "receiveBufferBytes"',
    ],
    [
      "a number below its range",
      { blockSize: 7 },
      "RangeError",
      '"blockSize" is 7, expected an integer, 8 to 65464',
    ],
    [
      "a number above its range",
      { blockSize: 65465 },
      "RangeError",
      '"blockSize" is 65465, expected an integer, 8 to 65464',
    ],
    [
      "a fraction",
      { blockSize: 8.5 },
      "TypeError",
      '"blockSize" is 8.5, expected an integer, 8 to 65464',
    ],
    [
      "text without meaning",
      { timeoutMs: "soon" },
      "SyntaxError",
      '"timeoutMs" is "soon", expected a duration, 10ms to 255s',
    ],
    [
      "a word outside the choice",
      { driver: "turbo" },
      "TypeError",
      '"driver" is "turbo", expected one of "auto", "fast", "portable"',
    ],
    ["a list that is too long", { allow: ["a", "b", "c", "d"] }, "RangeError", '"allow" is a list'],
    ["null", { blockSize: null }, "TypeError", '"blockSize" is null'],
    ["a group that is no object", { socket: 5 }, "TypeError", '"socket" is 5, expected an object'],
  ] as const
) {
  Deno.test(`resolve() refuses ${name}`, () => {
    throws(() => resolve(EXAMPLE, input, "example options"), (thrown: Error) => {
      equal(thrown.name, error);
      ok(thrown.message.startsWith(`Cannot resolve example options: ${message}`), thrown.message);
      return true;
    });
  });
}

Deno.test("resolve() never prints a secret", () => {
  const schema = options({ password: option(secret(), undefined, { help: "Password" }) });
  throws(() => resolve(schema, { password: 12345 }, "options"), (thrown: Error) => {
    ok(!thrown.message.includes("12345"), thrown.message);
    return true;
  });
});

Deno.test("resolve() throws only the three promised classes for any input", () => {
  fc.assert(
    fc.property(fc.object({ key: fc.constantFrom("blockSize", "socket", "x") }), (input) => {
      try {
        resolve(EXAMPLE, input, "example options");
      } catch (error) {
        ok(
          error instanceof TypeError || error instanceof RangeError || error instanceof SyntaxError,
          String(error),
        );
      }
    }),
  );
});

Deno.test("readWord() reads one word of every kind", () => {
  const word = <T>(value: Parameters<typeof option<T>>[0], input: string): unknown =>
    readWord(option(value, undefined, { help: "" }), input, "--x");
  equal(word(integer(0, 10), "7"), 7);
  equal(word(boolean(), "yes"), true);
  equal(word(boolean(), "0"), false);
  equal(word(duration(0, 1e6), "1.5s"), 1500);
  equal(word(size(0, 2 ** 40), "8MiB"), 8 * 2 ** 20);
  equal(word(rate(0, 1e12), "100M"), 1e8);
  equal(word(port(), "69"), 69);
  equal(word(text(), "69"), "69");
  deepEqual(word(endpoint(), "[::1]:69"), { host: "::1", port: 69 });
  deepEqual(word(cidr(), "10.0.0.0/8"), { address: "10.0.0.0", prefixBits: 8 });
  equal(word(list(integer(0, 10)), "7"), 7);
});

Deno.test("readWord() calls the option by the name it was given", () => {
  throws(() => readWord(option(integer(8, 9), 8, { help: "" }), "1", "--block-size"), {
    name: "RangeError",
    message: 'Cannot use --block-size: it is "1", expected an integer, 8 to 9',
  });
});

Deno.test("options() flattens groups into flag names", () => {
  deepEqual(EXAMPLE.flat.map((entry) => entry.flagName), [
    "block-size",
    "timeout-ms",
    "driver",
    "verify",
    "output",
    "allow",
    "socket-receive-buffer-bytes",
  ]);
});

Deno.test("kebabCase() is mechanical", () => {
  equal(kebabCase("receiveBufferBytes"), "receive-buffer-bytes");
});

Deno.test("nearest() forgives two edits and a swap, not more", () => {
  equal(nearest("blokSize", ["windowSize", "blockSize"]), "blockSize");
  equal(nearest("drievr", ["driver"]), "driver");
  equal(nearest("zzz", ["driver"]), undefined);
  equal(nearest("x", ["ab"]), undefined);
});
