/**
 * Datagram sockets through the C library: `recvmmsg`, `sendmmsg`, segmentation offload both ways, packet info, error
 * queue, drop counter.
 *
 * @module
 */
import {
  AF_INET,
  IP_PKTINFO,
  IP_RECVERR,
  IPPROTO_IP,
  SO_MEMINFO,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOL_SOCKET,
  SOL_UDP,
  UDP_GRO,
  UDP_SEGMENT,
} from "./constants_linux.ts";
import type {
  DatagramBatch,
  DatagramHost,
  DatagramOptions,
  DatagramSocket,
  DatagramTraits,
} from "./datagram.ts";
import { LinuxDatagramBatch } from "./datagram_batch_linux.ts";
import { SendVector } from "./datagram_send_linux.ts";
import { LinuxDatagramSocket, type SocketContext } from "./datagram_socket_linux.ts";
import { systemError } from "./errno.ts";
import { ErrorQueueReader } from "./error_queue_linux.ts";
import { type Libc, requireLibc } from "./libc_linux.ts";
import { readPathMtu } from "./path_mtu_linux.ts";
import type { Reactor } from "./reactor.ts";
import type { ReactorChoice } from "./shared_loop.ts";
import { chooseReactor } from "./shared_loop_linux.ts";
import { ThreadLoop } from "./thread_loop_linux.ts";

/**
 * Opens a host of the kernel's driver.
 *
 * @param wait How its sockets wait.
 * @param reactor Which readiness bridge `events` uses.
 * @throws {CapabilityError} Without a C library, or without io_uring where it was demanded.
 * @throws {SystemError} When the process has no descriptors left.
 */
export async function openLinuxHost(
  wait: "events" | "thread",
  reactor: ReactorChoice,
): Promise<DatagramHost> {
  const library = requireLibc();
  const traits = probe(library);
  if (wait === "events") {
    const chosen = await chooseReactor(reactor);
    const shared = chosen.shared !== undefined;
    return new LinuxDatagramHost(library, traits, chosen.reactor, undefined, shared);
  }
  const loop = new ThreadLoop();
  return new LinuxDatagramHost(library, traits, loop, loop, false);
}

class LinuxDatagramHost implements DatagramHost {
  readonly traits: DatagramTraits;
  readonly fallbackReason = "";
  readonly #context: SocketContext;
  readonly #sockets = new Set<LinuxDatagramSocket>();
  readonly #loop: ThreadLoop | undefined;
  /** The reactor is somebody else's to close. */
  readonly #shared: boolean;
  #closed = false;

  constructor(
    library: Libc,
    traits: DatagramTraits,
    reactor: Reactor,
    loop: ThreadLoop | undefined,
    shared: boolean,
  ) {
    this.traits = traits;
    this.#loop = loop;
    this.#shared = shared;
    this.#context = {
      library,
      reactor,
      traits,
      vector: new SendVector(library),
      errorQueue: new ErrorQueueReader(library),
      gone: (socket) => this.#sockets.delete(socket),
    };
  }

  get wakeDescriptor(): number {
    return this.#ownLoop().wakeDescriptor;
  }

  open(options: DatagramOptions): DatagramSocket {
    if (this.#closed) throw new TypeError("Cannot open a datagram socket: the host is closed");
    const socket = new LinuxDatagramSocket(this.#context, options);
    this.#sockets.add(socket);
    return socket;
  }

  createBatch(capacity: number, slotBytes: number, heads = false): DatagramBatch {
    return new LinuxDatagramBatch(this.#context.library, capacity, slotBytes, heads);
  }

  pathMtu(view: DataView, start: number): number | undefined {
    return readPathMtu(this.#context.library, view, start);
  }

  turn(maxWaitMs: number): number {
    return this.#ownLoop().turn(maxWaitMs);
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const socket of [...this.#sockets]) await socket.close();
    if (!this.#shared) await this.#context.reactor.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #ownLoop(): ThreadLoop {
    if (this.#loop === undefined) {
      throw new TypeError('Cannot take a turn: the host was not opened with wait "thread"');
    }
    return this.#loop;
  }
}

/** Asks a socket what it knows, by setting each option once. */
function probe(library: Libc): DatagramTraits {
  const fd = library.socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) throw systemError("socket", library.errno(), "open a datagram socket");
  const takes = (level: number, name: number, value: number): boolean =>
    library.setsockopt(fd, level, name, new Int32Array([value]), 4) === 0;
  const memory = new Uint32Array(new ArrayBuffer(64));
  const traits: DatagramTraits = Object.freeze({
    driver: "linux",
    batch: BATCH,
    segmentation: takes(SOL_UDP, UDP_SEGMENT, 0),
    coalescing: takes(SOL_UDP, UDP_GRO, 1),
    packetInfo: takes(IPPROTO_IP, IP_PKTINFO, 1),
    errorQueue: takes(IPPROTO_IP, IP_RECVERR, 1),
    dropCounter:
      library.getsockopt(fd, SOL_SOCKET, SO_MEMINFO, memory, new Uint32Array([64])) === 0,
    options: true,
  });
  library.close(fd);
  return traits;
}

/** UIO_MAXIOV: what one `recvmmsg` or `sendmmsg` takes at most. */
const BATCH = 1024;
