/**
 * One thread of a server. With the kernel's driver it sleeps in the kernel and wakes for packets, deadlines and messages;
 * with the portable one it is an ordinary event loop.
 *
 * @module
 */
import {
  ADDRESS_BYTES,
  type DatagramBatch,
  hashAddress,
  openDatagramHost,
  type ThreadPort,
  threadPort,
} from "../ffi/mod.ts";
import { secureRandom } from "../internal/random.ts";
import { systemClock } from "../internal/time/clock.ts";
import { nextTurn } from "../internal/time/turn.ts";
import { counterRow } from "./counters.ts";
import { Endpoint } from "./endpoint.ts";
import { LoopTimer } from "./loop_timer.ts";
import { Opening } from "./opening.ts";
import { ServerLoop } from "./server_loop.ts";
import {
  describeRefusal,
  type FromWorker,
  type ToWorker,
  type WorkerSetup,
} from "./server_messages.ts";
import type { TransferRecord } from "./session.ts";
import { DirectoryStore, storeOptions } from "./store.ts";

/** Longest sleep, milliseconds: how stale the counts of an idle thread can be. */
const MAX_SLEEP_MS = 250;
/** Longest sleep while the event loop has something to tell. */
const AWAITED_SLEEP_MS = 1;
/** Transfer records are posted together: after this long, or this many. */
const RECORDS_WAIT_MS = 50;
const MAX_RECORDS = 64;

/** Transfer records on their way out. */
class Records {
  readonly #port: ThreadPort;
  #waiting: TransferRecord[] = [];
  #since = 0;

  constructor(port: ThreadPort) {
    this.#port = port;
  }

  add(record: TransferRecord): void {
    if (this.#waiting.length === 0) this.#since = systemClock.now();
    this.#waiting.push(record);
    if (this.#waiting.length >= MAX_RECORDS) this.flush();
  }

  /** Milliseconds until they should leave. */
  waitMs(now: number): number {
    return this.#waiting.length === 0 ? Infinity : this.#since + RECORDS_WAIT_MS - now;
  }

  flush(): void {
    if (this.#waiting.length === 0) return;
    post(this.#port, { kind: "records", records: this.#waiting });
    this.#waiting = [];
  }
}

async function run(): Promise<void> {
  const port = threadPort();
  const setup = port.data as WorkerSetup;
  const records = new Records(port);
  let loop: ServerLoop;
  try {
    loop = await open(port, setup, records);
  } catch (error) {
    post(port, { kind: "refused", refusal: describeRefusal(error) });
    port.onMessage(() => {});
    port.ready();
    while (!port.closing) await port.drain();
    port.done();
    return;
  }
  const { host } = loop.endpoint;
  if (setup.threads > 1 && !setup.reusePort && setup.listens) {
    loop.deal = (batch, index, listener) => deal(port, setup.threads, batch, index, listener);
  }
  port.onMessage((message) => receive(port, loop, records, message as ToWorker));
  if (setup.driver === "fast") {
    port.ready(host.wakeDescriptor);
    await sleepAndServe(port, loop, records);
  } else {
    await serveOnEvents(port, loop, records);
  }
  await loop.close();
  records.flush();
  port.done();
}

async function open(
  port: ThreadPort,
  setup: WorkerSetup,
  records: Records,
): Promise<ServerLoop> {
  const { settings, driver } = setup;
  const host = await openDatagramHost({ driver, wait: driver === "fast" ? "thread" : "events" });
  const endpoint = new Endpoint(host, systemClock, secureRandom, settings.spinMs);
  const store = await DirectoryStore.open(setup.root, storeOptions(settings));
  const loop = new ServerLoop(
    endpoint,
    settings,
    setup.access,
    (own) => new Opening(own, store, {}),
    counterRow(setup.counters, setup.thread),
    { transfer: (record) => records.add(record) },
  );
  try {
    const addresses = [];
    for (const { address, dualStack } of setup.binds) {
      // A thread that is dealt its requests still needs a socket to refuse them from.
      const bind = setup.listens ? address : { ...address, port: 0 };
      addresses.push(await loop.listen(bind, dualStack, setup.reusePort));
    }
    post(port, { kind: "ready", addresses, traits: host.traits });
    return loop;
  } catch (error) {
    await loop.close();
    throw error;
  }
}

/** The kernel's driver: one thread, one wait for everything. */
async function sleepAndServe(port: ThreadPort, loop: ServerLoop, records: Records): Promise<void> {
  const { endpoint } = loop;
  const { clock, deadlines } = endpoint;
  let publishAt = 0;
  while (!port.closing) {
    const now = clock.now();
    const awaited = endpoint.awaited > 0;
    const most = awaited ? AWAITED_SLEEP_MS : MAX_SLEEP_MS;
    endpoint.sleep(Math.max(0, Math.min(deadlines.next - now, records.waitMs(now), most)));
    endpoint.runDeadlines();
    // What a disk on another thread has finished is told by the event loop; anything else only needs a moment.
    if (awaited) await nextTurn();
    else await undefined;
    const after = clock.now();
    if (records.waitMs(after) <= 0) records.flush();
    if (after >= publishAt) {
      publishAt = after + MAX_SLEEP_MS;
      loop.publishSocketCounts();
    }
    if (port.pending()) await port.drain();
  }
}

/** The portable driver: sockets, timers and messages come through the event loop by themselves. */
async function serveOnEvents(port: ThreadPort, loop: ServerLoop, records: Records): Promise<void> {
  const timer = new LoopTimer(loop.endpoint);
  const ended = new Promise<void>((resolve) => {
    const beat = setInterval(() => {
      loop.publishSocketCounts();
      records.flush();
    }, RECORDS_WAIT_MS);
    closing = (): void => {
      clearInterval(beat);
      resolve();
    };
  });
  port.ready();
  await ended;
  timer.stop();
}

/** Set while {@linkcode serveOnEvents} runs. */
let closing: () => void = () => {};

function receive(
  port: ThreadPort,
  loop: ServerLoop,
  records: Records,
  message: ToWorker | undefined,
): void {
  switch (message?.kind) {
    case undefined:
      closing();
      break;
    case "drain":
      loop.drain().then(() => {
        records.flush();
        post(port, { kind: "drained" });
      });
      break;
    case "sessions":
      loop.publishSocketCounts();
      post(port, { kind: "sessions", sessions: loop.sessions() });
      break;
    case "dealt":
      loop.dealt(
        message.request,
        new DataView(message.peer.buffer, message.peer.byteOffset, message.peer.byteLength),
        message.listener,
      );
      break;
  }
}

/** Sends a request to the thread that serves its sender; false when that is this one. */
function deal(
  port: ThreadPort,
  threads: number,
  batch: DatagramBatch,
  index: number,
  listener: number,
): boolean {
  const thread = hashAddress(batch.peers, index * ADDRESS_BYTES) % threads;
  if (thread === 0) return false;
  const start = batch.starts[index]!;
  const peer = new Uint8Array(
    batch.peers.buffer,
    batch.peers.byteOffset + index * ADDRESS_BYTES,
    ADDRESS_BYTES,
  ).slice();
  const request = batch.slab.bytes.slice(start, start + batch.lengths[index]!);
  post(port, { kind: "deal", thread, request, peer, listener });
  return true;
}

function post(port: ThreadPort, message: FromWorker): void {
  port.post(message);
}

void run();
