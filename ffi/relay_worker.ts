/**
 * Entry of a relay thread: it sleeps in the kernel, moves bytes between sockets, and takes orders from shared memory.
 *
 * @module
 */
import { requireLibc } from "./libc_linux.ts";
import { type LinuxPair, RelayLoop } from "./relay_loop_linux.ts";
import { ABORT, RelayTable, type RelayThreadData, type RestMessage } from "./relay_table_linux.ts";
import { ABORTED } from "./relay_pending.ts";
import { ThreadLoop } from "./thread_loop_linux.ts";
import { type ThreadPort, threadPort } from "./worker.ts";

class RelayThread {
  readonly #port: ThreadPort;
  readonly #library = requireLibc();
  readonly #loop = new ThreadLoop();
  readonly #relays = new RelayLoop(this.#library, this.#loop);
  readonly #table: RelayTable;
  readonly #bell: number;
  readonly #doneBell: number;
  readonly #pairs: (LinuxPair | undefined)[] = [];
  readonly #counter = new BigUint64Array(new ArrayBuffer(8));
  /** Relays ended in this turn. */
  #ended = false;

  constructor(port: ThreadPort) {
    this.#port = port;
    const { shared, bell, doneBell } = port.data as RelayThreadData;
    this.#table = new RelayTable(shared);
    this.#bell = bell;
    this.#doneBell = doneBell;
  }

  async run(): Promise<void> {
    const port = this.#port;
    const watch = this.#loop.watch(this.#bell, "read", () => {
      this.#library.read(this.#bell, this.#counter, 8n);
      this.#takeOrders();
      watch.arm();
    });
    port.onMessage((message) => {
      if (message !== undefined) this.#receive(message as RestMessage);
    });
    port.ready(this.#loop.wakeDescriptor);
    while (!port.closing) {
      this.#loop.turn(Infinity);
      if (port.pending()) await port.drain();
      // Once for everything that ended in this turn.
      if (this.#ended) {
        this.#ended = false;
        this.#library.write(this.#doneBell, ONE, 8n);
      }
    }
    await port.drain();
    // Their descriptors are this thread's to close from the order on.
    this.#takeOrders();
    this.#relays.close();
    await this.#loop.close();
    port.done();
  }

  #takeOrders(): void {
    const { orders } = this.#table;
    for (let order = orders.take(); order >= 0; order = orders.take()) {
      const slot = order >> 1;
      // One that is over already is not there any more.
      if ((order & 1) === ABORT) this.#pairs[slot]?.abort();
      else this.#start(slot, undefined, undefined);
    }
  }

  #receive(message: RestMessage): void {
    if (message.kind === "abort") this.#pairs[message.slot]?.abort();
    else this.#start(message.slot, message.forward, message.backward);
  }

  #start(slot: number, forward: Uint8Array | undefined, backward: Uint8Array | undefined): void {
    const table = this.#table;
    const [first, second] = table.descriptors(slot);
    const done = ({ forwardEnd, backwardEnd }: LinuxPair): void => {
      this.#pairs[slot] = undefined;
      table.end(slot, forwardEnd, backwardEnd);
      table.results.push(slot);
      this.#ended = true;
    };
    try {
      let over = false;
      const pair = this.#relays.start({
        first,
        second,
        forwardPrefix: forward,
        backwardPrefix: backward,
        limits: table.limits(slot),
        counts: table.counts,
        at: table.countAt(slot),
        done: (pair) => {
          over = true;
          done(pair);
        },
      });
      // Sending what comes first may have ended it already.
      if (!over) this.#pairs[slot] = pair;
    } catch {
      // The kernel would not watch them: out of memory, or of what a user may watch.
      this.#library.close(first);
      this.#library.close(second);
      done({ forwardEnd: ABORTED, backwardEnd: ABORTED, abort: () => {} });
    }
  }
}

const ONE: BigUint64Array<ArrayBuffer> = new BigUint64Array([1n]);

new RelayThread(threadPort()).run();
