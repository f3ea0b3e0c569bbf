/**
 * The processors' clocks of FreeBSD (`kern.cp_time`, sysctl(3)) and macOS (`host_statistics`, `<mach/mach_host.h>`),
 * through their C libraries.
 *
 * @module
 */
import type { CpuSource } from "./cpu.ts";

/** The call of FreeBSD's C library. */
export interface FreeBsdClock {
  // int sysctlbyname(const char *name, void *oldp, size_t *oldlenp, const void *newp, size_t newlen)
  /** Answers 0 and writes the value, and its length over the room there was. */
  readonly sysctlbyname: (
    name: Uint8Array<ArrayBuffer>,
    value: BigInt64Array<ArrayBuffer>,
    length: BigUint64Array<ArrayBuffer>,
    newValue: null,
    newLength: bigint,
  ) => number;
}

/** The two calls of macOS's C library. */
export interface MacClock {
  // mach_port_t mach_host_self(void)
  /** The host's port. */
  readonly mach_host_self: () => number;
  // kern_return_t host_statistics(host_t host, host_flavor_t flavor, host_info_t info, mach_msg_type_number_t *count)
  /** Answers 0 and writes `count` 32-bit numbers. */
  readonly host_statistics: (
    host: number,
    flavor: number,
    info: Uint32Array<ArrayBuffer>,
    count: Uint32Array<ArrayBuffer>,
  ) => number;
}

/** Opens the clock of this system. @returns A sentence that says why not. Never asks for a permission. */
export function openKernelClock(): CpuSource | string {
  const { Deno: deno } = globalThis as { readonly Deno?: typeof Deno };
  if (deno === undefined) return "this runtime cannot call C functions";
  const { os } = deno.build;
  if (os !== "freebsd" && os !== "darwin") return `there is no such clock on ${os}`;
  if (deno.permissions.querySync({ name: "ffi" }).state !== "granted") {
    return "the permission to call C functions (ffi) is not granted";
  }
  try {
    if (os === "freebsd") {
      const library = deno.dlopen("libc.so.7", FREEBSD);
      return freeBsdSource(library.symbols, () => library.close());
    }
    const library = deno.dlopen("libSystem.B.dylib", MAC);
    return macSource(library.symbols, () => library.close());
  } catch (error) {
    return `the C library cannot be used (${
      error instanceof Error ? error.message : String(error)
    })`;
  }
}

/** `kern.cp_time`: five `long`s, user, nice, system, interrupt, idle (`<sys/resource.h>`, CPUSTATES). */
export function freeBsdSource(library: FreeBsdClock, close: () => void): CpuSource {
  // Written during the call only.
  const values = new BigInt64Array(new ArrayBuffer(8 * FREEBSD_KINDS));
  const length = new BigUint64Array(new ArrayBuffer(8));
  return {
    name: "bsd",
    kinds: FREEBSD_KINDS,
    idle: [4],
    wrap: Infinity,
    read: (times) => {
      length[0] = BigInt(values.byteLength);
      if (library.sysctlbyname(CP_TIME, values, length, null, 0n) !== 0) return false;
      if (length[0] !== BigInt(values.byteLength)) return false;
      for (let kind = 0; kind < FREEBSD_KINDS; kind++) times[kind] = Number(values[kind]!);
      return true;
    },
    close,
  };
}

/** `HOST_CPU_LOAD_INFO`: four 32-bit clocks that wrap, user, system, idle, nice (`<mach/machine.h>`, CPU_STATE_…). */
export function macSource(library: MacClock, close: () => void): CpuSource {
  const values = new Uint32Array(new ArrayBuffer(4 * MAC_KINDS));
  const count = new Uint32Array(new ArrayBuffer(4));
  const host = library.mach_host_self();
  return {
    name: "bsd",
    kinds: MAC_KINDS,
    idle: [2],
    wrap: 2 ** 32,
    read: (times) => {
      count[0] = MAC_KINDS;
      if (library.host_statistics(host, HOST_CPU_LOAD_INFO, values, count) !== 0) return false;
      if (count[0] !== MAC_KINDS) return false;
      for (let kind = 0; kind < MAC_KINDS; kind++) times[kind] = values[kind]!;
      return true;
    },
    close,
  };
}

const FREEBSD_KINDS = 5;
const MAC_KINDS = 4;
/** `<mach/host_info.h>`. */
const HOST_CPU_LOAD_INFO = 3;
const CP_TIME: Uint8Array<ArrayBuffer> = new TextEncoder().encode("kern.cp_time\0");

const FREEBSD = {
  sysctlbyname: {
    parameters: ["buffer", "buffer", "buffer", "buffer", "usize"],
    result: "i32",
  },
} as const;

const MAC = {
  mach_host_self: { parameters: [], result: "u32" },
  host_statistics: { parameters: ["u32", "i32", "buffer", "buffer"], result: "i32" },
} as const;
