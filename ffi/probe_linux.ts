/**
 * What the kernel allows this process, found by doing it once: make the descriptor, set the option, close it. Nothing is
 * bound, sent, or left behind.
 *
 * @module
 */
import type { Capability, CapabilityReason, Feature } from "./capabilities.ts";
import {
  AF_INET,
  AF_INET6,
  AF_NETLINK,
  AT_FDCWD,
  EFD_CLOEXEC,
  EFD_NONBLOCK,
  EPOLL_CLOEXEC,
  MAP_ANONYMOUS,
  MAP_HUGETLB,
  MAP_PRIVATE,
  MFD_CLOEXEC,
  MSG_DONTWAIT,
  NETLINK_ROUTE,
  O_CLOEXEC,
  O_DIRECTORY,
  O_NONBLOCK,
  O_PATH,
  PROT_READ,
  PROT_WRITE,
  RESOLVE_BENEATH,
  SO_ATTACH_FILTER,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_RAW,
  SOL_SOCKET,
  SYS_openat2,
} from "./constants_linux.ts";
import { EACCES, EAGAIN, EINVAL, EPERM, errnoEntry } from "./errno.ts";
import { type Libc, libc, libcRefusal } from "./libc_linux.ts";
import { openRing } from "./io_uring_linux.ts";
import { type SocketOption, SocketOptions } from "./sockopt_linux.ts";
import { OPEN_HOW, SOCK_FILTER, SOCK_FPROG, STATX } from "./structs_linux.ts";

/** Probes everything. Never throws, never prompts. */
export function probeKernel(features: readonly Feature[]): Readonly<Record<Feature, Capability>> {
  const found = {} as Record<Feature, Capability>;
  const library = libc();
  if (library === undefined) {
    const { reason, why } = libcRefusal()!;
    for (const feature of features) found[feature] = no(reason, why);
    return found;
  }
  const probes = new Probes(library);
  try {
    for (const feature of features) {
      try {
        found[feature] = probes.probe(feature);
      } catch (error) {
        found[feature] = no("kernel", error instanceof Error ? error.message : String(error));
      }
    }
  } finally {
    probes.close();
  }
  return found;
}

/** One run, with the two sockets that most probes share. */
class Probes {
  readonly #library: Libc;
  readonly #ipv4: number;
  readonly #ipv6: number;

  constructor(library: Libc) {
    this.#library = library;
    const type = SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
    this.#ipv4 = library.socket(AF_INET, type, 0);
    this.#ipv6 = library.socket(AF_INET6, type, 0);
  }

  close(): void {
    if (this.#ipv4 >= 0) this.#library.close(this.#ipv4);
    if (this.#ipv6 >= 0) this.#library.close(this.#ipv6);
  }

  probe(feature: Feature): Capability {
    const library = this.#library;
    switch (feature) {
      case "libc":
        return { ok: true, detail: library.path === "" ? "this process" : library.path };
      case "errno":
        library.close(-1);
        return library.errno() === 9 ? YES : no("kernel", "the error number is not where it was");
      case "mmsg":
        return this.#mmsg();
      case "gso":
        return this.#option("segmentBytes", 1400, "segmentation offload");
      case "gro":
        return this.#option("coalesce", 1, "receive coalescing");
      case "rxqOvfl":
        return this.#option("dropCounter", 1, "the drop counter");
      case "packetInfo":
        return this.#option("packetInfo4", 1, "packet info");
      case "errorQueue":
        return this.#option("errorQueue4", 1, "the error queue");
      case "reuseport":
        return this.#option("reusePort", 1, "shared ports");
      case "rcvbufForce":
        return this.#option("receiveBufferForce", 262_144, "a receive buffer beyond rmem_max");
      case "zerocopy":
        return this.#option("zeroCopy", 1, "zero-copy sending");
      case "busyPoll":
        return this.#option("busyPoll", 0, "busy polling");
      case "ipv6":
        return this.#ipv6 >= 0 ? YES : no("kernel", "there is no IPv6 in this kernel or namespace");
      case "epoll":
        return this.#opens(library.epoll_create1(EPOLL_CLOEXEC), "an epoll set");
      case "eventfd":
        return this.#opens(library.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "an eventfd");
      case "iouring": {
        const ring = openRing(library);
        if (typeof ring === "string") {
          return no(library.pointers ? "kernel" : "permission", ring);
        }
        ring.close();
        return YES;
      }
      case "bridge":
        // The thread that polls needs nothing but these two; it is started only when a reactor is opened.
        return this.#opens(library.epoll_create1(EPOLL_CLOEXEC), "an epoll set");
      case "openat2":
        return this.#openat2();
      case "statx":
        return this.#statx();
      case "splice":
        return this.#splice();
      case "memfd":
        return library.memfd_create === null
          ? no("missing-symbol", "the C library has no memfd_create")
          : this.#opens(library.memfd_create(PROBE_NAME, MFD_CLOEXEC), "a memory file");
      case "netlink":
        return this.#opens(
          library.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE),
          "a netlink socket",
        );
      case "bpfClassic":
        return this.#filter();
      case "affinity":
        return this.#affinity();
      case "mlock":
        return this.#mlock();
      case "hugepages":
        return this.#hugePages();
    }
  }

  #option(option: SocketOption, value: number, what: string): Capability {
    if (this.#ipv4 < 0) return no("kernel", "no UDP socket can be made");
    return this.#answer(new SocketOptions(this.#library, this.#ipv4).trySet(option, value), what);
  }

  #opens(fd: number, what: string): Capability {
    if (fd < 0) return this.#answer(this.#library.errno(), what);
    this.#library.close(fd);
    return YES;
  }

  #mmsg(): Capability {
    // Nothing is bound, so nothing can be there: "would block" is the answer of a working call.
    const result = this.#library.recvmmsg(this.#ipv4, 0n, 0, MSG_DONTWAIT, 0n);
    if (result === 0) return YES;
    const errno = this.#library.errno();
    return errno === EAGAIN ? YES : this.#answer(errno, "batched datagrams");
  }

  #openat2(): Capability {
    const how = new DataView(new ArrayBuffer(OPEN_HOW.size));
    how.setBigUint64(OPEN_HOW.flags, BigInt(O_PATH | O_CLOEXEC | O_DIRECTORY), true);
    how.setBigUint64(OPEN_HOW.resolve, BigInt(RESOLVE_BENEATH), true);
    const fd = this.#library.syscall(
      SYS_openat2,
      BigInt(AT_FDCWD),
      this.#library.addressOf(DOT),
      this.#library.addressOf(how),
      BigInt(OPEN_HOW.size),
      0n,
      0n,
    );
    return this.#opens(Number(fd), "opening beneath a directory");
  }

  #statx(): Capability {
    const { statx } = this.#library;
    if (statx === null) return no("missing-symbol", "the C library has no statx");
    const result = statx(AT_FDCWD, DOT, 0, 0, new Uint8Array(STATX.size));
    return result === 0 ? YES : this.#answer(this.#library.errno(), "statx");
  }

  #splice(): Capability {
    const library = this.#library;
    const a = new Int32Array(2), b = new Int32Array(2);
    if (library.pipe2(a, O_CLOEXEC | O_NONBLOCK) < 0) {
      return this.#answer(library.errno(), "a pipe");
    }
    if (library.pipe2(b, O_CLOEXEC | O_NONBLOCK) < 0) {
      const errno = library.errno();
      library.close(a[0]!);
      library.close(a[1]!);
      return this.#answer(errno, "a pipe");
    }
    library.write(a[1]!, DOT, 1n);
    const moved = library.splice(a[0]!, 0n, b[1]!, 0n, 1n, 0);
    const errno = library.errno();
    for (const fd of [...a, ...b]) library.close(fd);
    return moved === 1 ? YES : this.#answer(errno, "splice");
  }

  #filter(): Capability {
    // One instruction: accept everything (BPF_RET | BPF_K).
    const code = new DataView(new ArrayBuffer(SOCK_FILTER.size));
    code.setUint16(SOCK_FILTER.code, 0x06, true);
    code.setUint32(SOCK_FILTER.k, 0xffff_ffff, true);
    const filter = new DataView(new ArrayBuffer(SOCK_FPROG.size));
    filter.setUint16(SOCK_FPROG.len, 1, true);
    filter.setBigUint64(SOCK_FPROG.filter, this.#library.addressOf(code), true);
    const result = this.#library.setsockopt(
      this.#ipv4,
      SOL_SOCKET,
      SO_ATTACH_FILTER,
      filter,
      SOCK_FPROG.size,
    );
    return result === 0 ? YES : this.#answer(this.#library.errno(), "socket filters");
  }

  #affinity(): Capability {
    const mask = new Uint8Array(128);
    const library = this.#library;
    // Setting what is set changes nothing.
    if (library.sched_getaffinity(0, 128n, mask) >= 0) {
      if (library.sched_setaffinity(0, 128n, mask) === 0) return YES;
    }
    return this.#answer(library.errno(), "choosing processors");
  }

  #mlock(): Capability {
    const library = this.#library;
    const bytes = 4096n;
    const page = library.mmap(
      0n,
      bytes,
      PROT_READ | PROT_WRITE,
      MAP_PRIVATE | MAP_ANONYMOUS,
      -1,
      0n,
    );
    if (page === MAP_FAILED) return this.#answer(library.errno(), "mapped memory");
    const result = library.mlock(page, bytes);
    const errno = library.errno();
    library.munmap(page, bytes);
    return result === 0 ? YES : this.#answer(errno, "locked memory");
  }

  #hugePages(): Capability {
    const library = this.#library;
    const bytes = 2_097_152n;
    const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB;
    const page = library.mmap(0n, bytes, PROT_READ | PROT_WRITE, flags, -1, 0n);
    if (page === MAP_FAILED) return no("kernel", "no huge pages are reserved (vm.nr_hugepages)");
    library.munmap(page, bytes);
    return YES;
  }

  #answer(errno: number, what: string): Capability {
    if (errno === 0) return YES;
    const { name, text } = errnoEntry(errno);
    if (errno === EPERM || errno === EACCES) {
      return { ...no("privilege", `this user may not use ${what} (${name})`), errno };
    }
    const why = errno === EINVAL ? "the kernel does not know it" : text;
    return { ...no("kernel", `${what} cannot be used: ${why} (${name})`), errno };
  }
}

function no(reason: CapabilityReason, detail: string): Capability {
  return { ok: false, reason, detail };
}

const YES: Capability = Object.freeze({ ok: true });
const DOT = new Uint8Array([0x2e, 0]);
const PROBE_NAME: Uint8Array<ArrayBuffer> = new TextEncoder().encode("fastwire-probe\0");
const MAP_FAILED = 0xffffffffffffffffn;
