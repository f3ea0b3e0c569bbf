/**
 * The C library of this thread: the one place that opens it.
 *
 * Importing this file opens nothing. {@linkcode libc} opens it at the first call, without ever asking for a permission.
 * Each function is bound when it is first named (0.2 ms; binding all of them at once costs 15 ms), so a program pays for
 * what it calls. On a hot path keep the function in a field or constant: `const { recvmmsg } = library`.
 *
 * @module
 */
import { CapabilityError } from "../internal/errors.ts";
import { type NewerSymbol, SYMBOLS, type Symbols } from "./libc_symbols_linux.ts";

type Bound = Deno.DynamicLibrary<Symbols>["symbols"];

/** The functions of the tables; those of {@linkcode NewerSymbol} may be `null`. */
export type LibcFunctions =
  & { readonly [K in Exclude<keyof Bound, NewerSymbol>]: NonNullable<Bound[K]> }
  & { readonly [K in NewerSymbol]: Bound[K] | null };

/** The C library, as one thread sees it. Not to be handed to another thread: `errno` belongs to this one. */
export type Libc = LibcFunctions & {
  /** What it was opened as; `""` is the process itself. */
  readonly path: string;
  /**
   * True when `Deno.UnsafePointer` and its views may be used, which needs the permission without a path. Without it
   * everything works but mapped memory (io_uring, `mmap`).
   */
  readonly pointers: boolean;
  /** The error number of the call that has just answered −1. Read it before anything else happens. */
  errno(): number;
  /**
   * Where the bytes of a buffer are; 0 for an empty one. Costs about 100 ns: take it once, and keep the buffer in a field
   * beside it, because an address alone keeps nothing alive.
   */
  addressOf(buffer: BufferSource): bigint;
  /** Copies `length` bytes of foreign memory to the start of `into`. */
  copyFrom(address: bigint, length: number, into: Uint8Array<ArrayBuffer>): void;
  /** Whether a function exists here. Binds it. */
  has(symbol: keyof Symbols): boolean;
};

/** Why there is no C library to call. */
export interface LibcRefusal {
  /** The kind of obstacle, one of those of `Capability.reason`. */
  readonly reason:
    | "unsupported-runtime"
    | "unsupported-platform"
    | "permission"
    | "missing-symbol";
  /** One plain sentence. */
  readonly why: string;
}

// Caches of pure results, one per thread because each thread loads its own copy of this module.
let opened: Libc | undefined;
let refusal: LibcRefusal | undefined;

/**
 * The C library of this thread, or `undefined` with {@linkcode libcRefusal} saying why. A refusal is not remembered: a
 * permission that is granted later is noticed.
 */
export function libc(): Libc | undefined {
  if (opened === undefined) opened = open();
  return opened;
}

/** Why the last {@linkcode libc} answered `undefined`. */
export function libcRefusal(): LibcRefusal | undefined {
  return opened === undefined ? refusal : undefined;
}

/**
 * The C library, for drivers that were chosen because it is there.
 *
 * @throws {CapabilityError} `ffi.no-libc` when it is not.
 */
export function requireLibc(): Libc {
  const library = libc();
  if (library !== undefined) return library;
  const why = refusal!.why;
  throw new CapabilityError("ffi.no-libc", `Cannot use the kernel driver: ${why}`, {
    capability: "libc",
    why,
    remedy: refusal!.reason === "permission"
      ? "run with --allow-ffi"
      : 'use driver "portable", which needs no C library',
  });
}

/**
 * Binds every function there is. For test files, at their top level: the test runner counts what is bound inside a test
 * as a leak.
 *
 * @returns As {@linkcode libc}.
 */
export function bindAll(): Libc | undefined {
  const library = libc();
  if (library !== undefined) {
    for (const symbol of Object.keys(SYMBOLS) as (keyof Symbols)[]) library.has(symbol);
  }
  return library;
}

/**
 * Names under which the C library may be found, best first: absolute paths, because a permission may be limited to one;
 * then the name the loader knows; then the process itself, in which the C library's functions are visible.
 */
export function libcCandidates(arch: "x86_64" | "aarch64"): readonly string[] {
  const triplet = `${arch}-linux-gnu`;
  return [
    `/lib/${triplet}/libc.so.6`,
    `/usr/lib/${triplet}/libc.so.6`,
    "/lib64/libc.so.6",
    "/usr/lib64/libc.so.6",
    "/lib/libc.so.6",
    "/usr/lib/libc.so.6",
    "libc.so.6",
    `/lib/libc.musl-${arch}.so.1`,
    `libc.musl-${arch}.so.1`,
    "",
  ];
}

function open(): Libc | undefined {
  if (typeof Deno === "undefined" || typeof Deno.dlopen !== "function") {
    refusal = { reason: "unsupported-runtime", why: "this runtime cannot call C functions" };
    return undefined;
  }
  const { os, arch } = Deno.build;
  if (os !== "linux" || (arch !== "x86_64" && arch !== "aarch64")) {
    refusal = { reason: "unsupported-platform", why: `there are no tables for ${os} on ${arch}` };
    return undefined;
  }
  const full = Deno.permissions.querySync({ name: "ffi" }).state === "granted";
  let allowed = false;
  for (const path of libcCandidates(arch)) {
    if (!full) {
      // A name without a slash would be resolved against the working directory: never right.
      if (!path.startsWith("/")) continue;
      if (Deno.permissions.querySync({ name: "ffi", path }).state !== "granted") continue;
    }
    allowed = true;
    const library = bind(path, full);
    if (library !== undefined) return library;
  }
  refusal = allowed
    ? { reason: "missing-symbol", why: "the C library was not found under any known name" }
    : { reason: "permission", why: "the permission to call C functions (ffi) is not granted" };
  return undefined;
}

/** Opens one candidate; `undefined` when it is not there or is not a C library. */
function bind(path: string, pointers: boolean): Libc | undefined {
  const one = <K extends keyof Symbols>(symbol: K): Bound[K] | null => {
    // The cast is the price of a computed key; the table says what the function is.
    const table = { [symbol]: SYMBOLS[symbol] } as Pick<Symbols, K>;
    return Deno.dlopen(path, table).symbols[symbol as never] as Bound[K] | null;
  };
  let memcpy: Bound["memcpy"] | null, memcpyFrom: Bound["memcpyFrom"] | null;
  let location: Bound["__errno_location"] | null;
  try {
    memcpy = one("memcpy");
    memcpyFrom = one("memcpyFrom");
    location = one("__errno_location");
  } catch {
    return undefined;
  }
  if (memcpy === null || memcpyFrom === null || location === null) return undefined;

  // The address of this thread's cell does not change while the thread lives.
  const cellAddress = location();
  const copy = memcpyFrom;
  const address = memcpy;
  let errno: () => number;
  if (pointers) {
    const pointer = Deno.UnsafePointer.create(cellAddress);
    const cell = new Int32Array(Deno.UnsafePointerView.getArrayBuffer(pointer!, 4));
    errno = () => cell[0]!;
  } else {
    const cell = new Int32Array(new ArrayBuffer(4));
    errno = () => {
      copy(cell, cellAddress, 4n);
      return cell[0]!;
    };
  }

  const library = {
    path,
    pointers,
    errno,
    // memcpy answers its first argument; copying nothing turns it into "address of".
    addressOf: (buffer: BufferSource) => buffer.byteLength === 0 ? 0n : address(buffer, buffer, 0n),
    copyFrom: (from: bigint, length: number, into: Uint8Array<ArrayBuffer>) => {
      if (length > into.byteLength) {
        throw new RangeError(`Cannot copy ${length} bytes: the target has ${into.byteLength}`);
      }
      copy(into, from, BigInt(length));
    },
    has: (symbol: keyof Symbols): boolean => lookUp(symbol) !== null,
  };
  const known = new Map<string, unknown>([["memcpy", memcpy], ["memcpyFrom", memcpyFrom], [
    "__errno_location",
    location,
  ]]);
  const lookUp = (symbol: keyof Symbols): unknown => {
    let found = known.get(symbol);
    if (found === undefined) known.set(symbol, found = one(symbol));
    return found;
  };
  for (const symbol of Object.keys(SYMBOLS) as (keyof Symbols)[]) {
    Object.defineProperty(library, symbol, {
      configurable: true,
      enumerable: true,
      get: () => {
        const value = lookUp(symbol);
        if (value === null && !NEWER.has(symbol)) {
          throw new CapabilityError(
            "ffi.missing-symbol",
            `Cannot call ${symbol}: this C library does not have it`,
            {
              capability: symbol,
              why: `the C library has no function ${symbol}`,
              remedy: 'use driver "portable"',
            },
          );
        }
        // From now on a plain property.
        Object.defineProperty(library, symbol, { value, enumerable: true });
        return value;
      },
    });
  }
  return library as Libc;
}

const NEWER: ReadonlySet<string> = new Set<NewerSymbol>([
  "memfd_create",
  "statx",
  "renameat2",
  "epoll_pwait2",
]);
