/**
 * Listening sockets of the kernel's driver.
 *
 * @module
 */
import { setImmediate } from "node:timers";
import {
  ADDRESS_BYTES,
  formatAddress,
  readAddress,
  type SocketAddress,
  writeAddress,
} from "./address.ts";
import { EFD_CLOEXEC, SOCK_CLOEXEC, SOCK_NONBLOCK } from "./constants_linux.ts";
import { EAGAIN, EMFILE, ENFILE, systemError } from "./errno.ts";
import type { Libc } from "./libc_linux.ts";
import type { Watch } from "./reactor.ts";
import { SocketOptions } from "./sockopt_linux.ts";
import type { ListenOptions, StreamConnection, StreamListener } from "./stream.ts";
import { LinuxStreamConnection, type StreamContext } from "./stream_connection_linux.ts";
import {
  allowTransparent,
  configureSocket,
  NEW_SOCKET,
  offerFastOpen,
  openStreamSocket,
} from "./stream_options_linux.ts";
import { Waiting } from "./stream_pending.ts";

/** Reads the addresses of sockets. One serves a thread: memory made for each call costs more than the calls. */
export class SocketNames {
  readonly #library: Libc;
  readonly #view = new DataView(new ArrayBuffer(ADDRESS_BYTES));
  readonly #length = new Uint32Array(new ArrayBuffer(4));

  /** @param library The C library of this thread. */
  constructor(library: Libc) {
    this.#library = library;
  }

  /** The address on this side. */
  local(fd: number): SocketAddress {
    this.#length[0] = ADDRESS_BYTES;
    this.#library.getsockname(fd, this.#view, this.#length);
    return readAddress(this.#view, 0);
  }

  /** The address on the other side; of a socket that is gone already, an empty one. */
  remote(fd: number): SocketAddress {
    this.#length[0] = ADDRESS_BYTES;
    if (this.#library.getpeername(fd, this.#view, this.#length) < 0) {
      new Uint8Array(this.#view.buffer).fill(0);
    }
    return readAddress(this.#view, 0);
  }
}

/** A bound and listening TCP socket made through the C library. */
export class LinuxStreamListener implements StreamListener {
  readonly local: SocketAddress;

  readonly #context: StreamContext;
  readonly #library: Libc;
  readonly #gone: (listener: LinuxStreamListener) => void;
  readonly #waiting = new Waiting<StreamConnection | undefined>();
  // The kernel writes the peer's address, and how long it is, here.
  readonly #sockaddr = new DataView(new ArrayBuffer(ADDRESS_BYTES));
  readonly #sockaddrBytes = new Uint32Array(new ArrayBuffer(4));
  /** Whether connections can have a local address that is not the listener's. */
  readonly #wildcard: boolean;
  #fd: number;
  /** Kept for the day the process has no descriptors left; see {@linkcode #refuse}. */
  #spare: number;
  #watch: Watch | undefined;
  #ready: (() => void) | undefined;
  #inside = false;
  #again = false;
  #scheduled = false;
  #refused = 0;

  /** @throws {SystemError} @throws {TypeError} @throws {RangeError} For an address or option that is none. */
  constructor(
    context: StreamContext,
    options: ListenOptions,
    gone: (listener: LinuxStreamListener) => void,
  ) {
    const { library } = context;
    const { bind, backlog = DEFAULT_BACKLOG } = options;
    if (!Number.isInteger(backlog) || backlog < 1) {
      throw new RangeError(`Cannot listen with backlog ${backlog}: expected a positive integer`);
    }
    const what = `listen on ${formatAddress(bind)}`;
    const sockaddrBytes = writeAddress(this.#sockaddr, 0, bind);
    const ipv6 = bind.family === "ipv6";
    const fd = openStreamSocket(library, bind.family, options.multipath === true);
    if (fd < 0) throw systemError("socket", library.errno(), what);
    this.#context = context;
    this.#library = library;
    this.#gone = gone;
    this.#fd = fd;
    this.#spare = -1;
    try {
      const socket = new SocketOptions(library, fd);
      // A restarted server must not wait for the connections of the last one to be forgotten (TIME_WAIT).
      socket.set("reuseAddress", true);
      if (ipv6) socket.set("only6", options.dualStack !== true);
      if (options.reusePort === true) socket.set("reusePort", true);
      if (options.transparent === true) {
        allowTransparent(library, fd, ipv6, `${what} for other hosts`);
      }
      // Before it listens: the window a connection announces follows from the receive buffer it starts with.
      configureSocket(library, fd, { ...NEW_SOCKET, ...options });
      if (library.bind(fd, this.#sockaddr, sockaddrBytes) < 0) {
        throw systemError("bind", library.errno(), what);
      }
      if (library.listen(fd, backlog) < 0) throw systemError("listen", library.errno(), what);
      if (options.fastOpen === true) offerFastOpen(library, fd);
    } catch (error) {
      library.close(fd);
      throw error;
    }
    this.#spare = library.eventfd(0, EFD_CLOEXEC);
    this.local = context.names.local(fd);
    this.#wildcard = this.local.address === "0.0.0.0" || this.local.address === "::";
  }

  get closed(): boolean {
    return this.#fd < 0;
  }

  get refused(): number {
    return this.#refused;
  }

  acceptNow(): StreamConnection | undefined {
    return this.#fd < 0 || !this.#waiting.idle ? undefined : this.#accept();
  }

  accept(signal?: AbortSignal): StreamConnection | Promise<StreamConnection | undefined> {
    this.#waiting.mustBeIdle("accept");
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.#fd < 0) return Promise.resolve(undefined);
    const connection = this.#accept();
    if (connection !== undefined) return connection;
    const waiting = this.#waiting.wait(() => this.#accept(), signal);
    this.#rearm();
    return waiting;
  }

  watch(ready: (() => void) | undefined): void {
    if (this.#fd < 0) return;
    this.#ready = ready;
    this.#rearm();
  }

  again(): void {
    if (this.#inside) this.#again = true;
  }

  close(): Promise<void> {
    if (this.#fd >= 0) {
      this.#ready = undefined;
      // Before the descriptor: its number may be somebody else's a moment later.
      this.#watch?.cancel();
      this.#library.close(this.#fd);
      if (this.#spare >= 0) this.#library.close(this.#spare);
      this.#fd = this.#spare = -1;
      this.#waiting.settle(undefined);
      this.#gone(this);
    }
    return Promise.resolve();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #accept(): StreamConnection | undefined {
    const library = this.#library;
    for (let troubles = 0; troubles < MAX_TROUBLES; troubles++) {
      this.#sockaddrBytes[0] = ADDRESS_BYTES;
      const fd = library.accept4(
        this.#fd,
        this.#sockaddr,
        this.#sockaddrBytes,
        SOCK_NONBLOCK | SOCK_CLOEXEC,
      );
      if (fd >= 0) {
        // The options were copied from the listener.
        const remote = readAddress(this.#sockaddr, 0);
        const local = this.#wildcard ? this.#context.names.local(fd) : this.local;
        return new LinuxStreamConnection(this.#context, fd, local, remote);
      }
      const errno = library.errno();
      if (errno === EAGAIN) return undefined;
      if (errno === EMFILE || errno === ENFILE) this.#refuse();
      // The rest is the fate of one connection, told instead of it (accept(2)): the next may be well.
    }
    return undefined;
  }

  /**
   * The process has no descriptors left. What waits would stay, keep the listener ready and its owner spinning: the
   * spare descriptor is given up for a moment, to take the connection and close it.
   */
  #refuse(): void {
    const library = this.#library;
    if (this.#spare >= 0) library.close(this.#spare);
    this.#sockaddrBytes[0] = ADDRESS_BYTES;
    const fd = library.accept4(this.#fd, this.#sockaddr, this.#sockaddrBytes, SOCK_CLOEXEC);
    if (fd >= 0) {
      this.#refused++;
      library.close(fd);
    }
    this.#spare = library.eventfd(0, EFD_CLOEXEC);
  }

  readonly #deliver = (): void => {
    this.#scheduled = false;
    if (this.#fd < 0) return;
    this.#again = false;
    try {
      this.#waiting.serve();
      if (this.#ready !== undefined) {
        this.#inside = true;
        this.#ready();
      }
    } finally {
      this.#inside = false;
      if (this.#again && this.#fd >= 0 && this.#context.reactor.kind !== "thread") {
        this.#scheduled = true;
        setImmediate(this.#deliver);
      } else this.#rearm();
    }
  };

  #rearm(): void {
    if (this.#fd < 0 || this.#scheduled) return;
    if (this.#ready === undefined && this.#waiting.idle) return;
    if (this.#watch === undefined) {
      this.#watch = this.#context.reactor.watch(this.#fd, "read", this.#deliver);
    } else this.#watch.arm();
  }
}

/** Connections that may wait; the system cuts it to `net.core.somaxconn`. */
const DEFAULT_BACKLOG = 1024;
/** Failed connections one accept puts up with. */
const MAX_TROUBLES = 64;
