/**
 * Netlink sockets through the C library.
 *
 * @module
 */
import {
  AF_NETLINK,
  AT_FDCWD,
  CLONE_NEWNET,
  NETLINK_ROUTE,
  O_CLOEXEC,
  O_RDONLY,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_RAW,
} from "./constants_linux.ts";
import { systemError } from "./errno.ts";
import { type Libc, requireLibc } from "./libc_linux.ts";
import type { NetlinkHost, NetlinkOptions, NetlinkSocket } from "./netlink.ts";
import { LinuxNetlinkSocket } from "./netlink_socket_linux.ts";
import type { Reactor } from "./reactor.ts";
import type { ReactorChoice } from "./shared_loop.ts";
import { chooseReactor } from "./shared_loop_linux.ts";

/**
 * Opens a host of the kernel's driver.
 *
 * @param reactor Which readiness bridge it uses.
 * @throws {CapabilityError} Without a C library, or without io_uring where it was demanded.
 * @throws {SystemError} When the process has no descriptors left.
 */
export async function openLinuxNetlinkHost(
  reactor: ReactorChoice,
): Promise<NetlinkHost> {
  const chosen = await chooseReactor(reactor);
  return new LinuxNetlinkHost(requireLibc(), chosen.reactor, chosen.shared !== undefined);
}

class LinuxNetlinkHost implements NetlinkHost {
  readonly driver = "linux";
  readonly fallbackReason = "";
  readonly #library: Libc;
  readonly #reactor: Reactor;
  /** The reactor is somebody else's to close. */
  readonly #shared: boolean;
  readonly #sockets = new Set<LinuxNetlinkSocket>();
  #closed = false;

  constructor(library: Libc, reactor: Reactor, shared: boolean) {
    this.#library = library;
    this.#reactor = reactor;
    this.#shared = shared;
  }

  // deno-lint-ignore require-await -- the contract's refusals are rejections
  async open(options: NetlinkOptions = {}): Promise<NetlinkSocket> {
    options.signal?.throwIfAborted();
    if (this.#closed) throw new TypeError("Cannot open a netlink socket: the host is closed");
    const library = this.#library;
    const make = (): number => {
      const fd = library.socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);
      if (fd < 0) throw systemError("socket", library.errno(), "open a netlink socket");
      return fd;
    };
    const socket = new LinuxNetlinkSocket(
      library,
      this.#reactor,
      () =>
        options.namespace === undefined ? make() : inNamespace(library, options.namespace, make),
      options,
      (gone) => this.#sockets.delete(gone),
    );
    this.#sockets.add(socket);
    return socket;
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const socket of [...this.#sockets]) await socket.close();
    if (!this.#shared) await this.#reactor.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/**
 * Makes a socket in another network namespace, where it then stays. A namespace is a property of a thread (setns(2)), and
 * nothing else runs on this one between entering and leaving: `make` must not wait.
 */
export function inNamespace(library: Libc, path: string, make: () => number): number {
  const what = `enter network namespace "${path}"`;
  const own = openPath(library, "/proc/thread-self/ns/net", what);
  try {
    // A rehearsal of the way back: where it is refused, the thread would be stranded.
    if (library.setns(own, CLONE_NEWNET) < 0) throw systemError("setns", library.errno(), what);
    const other = openPath(library, path, what);
    const entered = library.setns(other, CLONE_NEWNET);
    const errno = entered < 0 ? library.errno() : 0;
    library.close(other);
    if (entered < 0) throw systemError("setns", errno, what);
    try {
      return make();
    } finally {
      library.setns(own, CLONE_NEWNET);
    }
  } finally {
    library.close(own);
  }
}

function openPath(library: Libc, path: string, what: string): number {
  const name = new TextEncoder().encode(`${path}\0`);
  const fd = library.openat(AT_FDCWD, name, O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) throw systemError("openat", library.errno(), what);
  return fd;
}
