import { deepEqual, equal, ok } from "node:assert/strict";
import { type Random, seededRandom } from "../../internal/random.ts";
import { forSeeds } from "../../internal/testing/simulation.ts";
import { formatAddress, formatMac } from "./address.ts";
import { AF_INET, AF_INET6, NUD_PERMANENT, NUD_REACHABLE, NUD_STALE } from "./constants.ts";
import type {
  NeighborChange,
  ResyncActions,
  ResyncOptions,
  ResyncReason,
  ResyncResult,
} from "./resync_actions.ts";
import { ResyncMachine } from "./resync_machine.ts";
import {
  type VirtualDatagram,
  VirtualKernel,
  type VirtualKernelOptions,
  type VirtualNeighbor,
} from "./testing/virtual_kernel.ts";

const FILE = "neighsync/protocol/resync_machine_test.ts";
const LONG = Deno.env.get("FASTWIRE_LONG") === "1";

/** A driver in virtual time: what a monitor does with two sockets, a test does step by step. */
class Rig implements ResyncActions {
  readonly kernel: VirtualKernel;
  readonly machine: ResyncMachine;
  /** What a consumer that believes every change would hold: key to "mac state". */
  readonly told = new Map<string, string>();
  readonly log: string[] = [];
  readonly results: ResyncResult[] = [];
  readonly reasons: ResyncReason[] = [];
  readonly grown: number[] = [];
  now = 0;
  removals = 0;
  #droppedSeen = 0;
  readonly #fetched: VirtualDatagram[] = [];

  constructor(kernel: VirtualKernelOptions = {}, options: Partial<ResyncOptions> = {}) {
    this.kernel = new VirtualKernel(kernel);
    this.machine = new ResyncMachine({ seed: 7, receiveBufferBytes: 4096, ...options });
  }

  query(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): void {
    this.kernel.query(bytes, start, end);
  }

  changed(change: NeighborChange): void {
    const { kind, neighbor, link, source } = change;
    const key = link.prefix + neighbor.ip;
    const value = `${neighbor.mac < 0 ? "-" : formatMac(neighbor.mac)} ${neighbor.state}`;
    this.log.push(`${kind} ${key} ${source}`);
    if (kind === "add") equal(this.told.has(key), false, `${key} was added twice`);
    else equal(this.told.has(key), true, `${key} was not there to ${kind}`);
    if (kind === "delete") {
      this.removals++;
      this.told.delete(key);
    } else this.told.set(key, value);
  }

  linkChanged(): void {}
  resyncStarted(reason: ResyncReason): void {
    this.reasons.push(reason);
  }
  resyncEnded(result: ResyncResult): void {
    this.results.push(result);
  }
  growReceiveBuffer(bytes: number): void {
    this.grown.push(bytes);
  }
  refused(): void {}

  start(): void {
    // What happened before the socket was there is not told.
    this.kernel.events.length = 0;
    this.kernel.dropped = 0;
    this.machine.start(this.now, this);
  }

  event(): boolean {
    const datagram = this.kernel.events.shift();
    if (datagram === undefined) return false;
    this.machine.receiveEvents(datagram.view, 0, datagram.length, this.now, this);
    return true;
  }

  /** Reads the event socket until it is empty, looks at the drop counter, says so: the turn of a driver. */
  drain(): void {
    while (this.event());
    this.checkLoss();
    // What the loss is older than was read above; nothing came meanwhile.
    this.machine.drained(this.now, this);
  }

  checkLoss(): void {
    const lost = this.kernel.dropped - this.#droppedSeen;
    this.#droppedSeen = this.kernel.dropped;
    if (lost > 0) this.machine.lost(lost, this.now, this);
  }

  /** The kernel writes its next answer, which is read later. */
  fetch(): void {
    const datagram = this.kernel.answer();
    if (datagram !== undefined) this.#fetched.push(datagram);
  }

  reply(): boolean {
    const datagram: VirtualDatagram | undefined = this.#fetched.shift() ?? this.kernel.answer();
    if (datagram === undefined) return false;
    this.machine.receiveReplies(datagram.view, 0, datagram.length, this.now, this);
    return true;
  }

  /** Everything that can happen without the kernel doing anything new. @returns Steps it took. */
  settle(bound = 100_000): number {
    for (let steps = 0; steps < bound; steps++) {
      if (this.event() || this.reply()) continue;
      this.checkLoss();
      if (this.machine.wantsDrain) {
        this.machine.drained(this.now, this);
        continue;
      }
      const { deadline } = this.machine;
      // The names of gone links are all that is left to expire.
      if (deadline === Infinity || !this.machine.resyncing && deadline > this.now + 40_000) {
        return steps;
      }
      if (deadline > this.now) this.now = deadline;
      this.machine.expire(this.now, this);
      ok(this.machine.deadline > this.now || this.kernel.answering || this.machine.wantsDrain);
    }
    throw new Error(`not settled after ${bound} steps`);
  }

  /** The kernel's tables as a consumer should hold them. */
  truth(): Map<string, string> {
    const truth = new Map<string, string>();
    for (const { ifindex, family, words, mac, state } of this.kernel.neighbors()) {
      const [a, b, c, d] = words;
      const key = `${this.kernel.links.get(ifindex)!.name}:${
        formatAddress(family, a!, b!, c!, d!)
      }`;
      truth.set(key, `${mac < 0 ? "-" : formatMac(mac)} ${state}`);
    }
    return truth;
  }

  check(): void {
    deepEqual(sorted(this.told), sorted(this.truth()));
    equal(this.machine.liveEntries, this.kernel.neighbors().length);
  }
}

function sorted(map: ReadonlyMap<string, string>): string[] {
  return [...map].map(([key, value]) => `${key} ${value}`).sort();
}

function host(number: number, ifindex = 4): VirtualNeighbor {
  const words = [(0x0a00_0000 + number) >>> 0, 0, 0, 0];
  const mac = 0x0200_0000_0000 + number;
  return { ifindex, family: AF_INET, words, mac, state: NUD_REACHABLE, flags: 0 };
}

function filled(count: number, rig: Rig): Rig {
  rig.kernel.setLink(4, "Ethernet0");
  for (let i = 1; i <= count; i++) rig.kernel.setNeighbor(host(i));
  rig.start();
  rig.settle();
  return rig;
}

Deno.test("ResyncMachine reads links, then neighbors, and is synced when the events are drained", () => {
  const rig = new Rig();
  rig.kernel.setLink(4, "Ethernet0");
  for (let i = 1; i <= 50; i++) rig.kernel.setNeighbor(host(i));
  rig.start();
  while (rig.reply());
  equal(rig.machine.synced, false);
  equal(rig.machine.wantsDrain, true);
  rig.drain();
  equal(rig.machine.synced, true);
  rig.check();
  deepEqual(rig.results, [
    {
      reason: "start",
      added: 50,
      changed: 0,
      removed: 0,
      lost: 0,
      kept: 0,
      dumps: 1,
      disturbed: false,
    },
  ]);
  equal(rig.machine.counts().queries, 2);
});

Deno.test("ResyncMachine tells a user's deletion as one change and one delete", () => {
  const rig = filled(2, new Rig());
  rig.log.length = 0;
  rig.kernel.removeNeighbor(host(1));
  rig.settle();
  deepEqual(rig.log, ["change Ethernet0:10.0.0.1 event", "delete Ethernet0:10.0.0.1 event"]);
  rig.check();
});

Deno.test("ResyncMachine lets an event win over a row of a dump that is older", () => {
  const rig = new Rig({ rowsPerPart: 100 });
  rig.kernel.setLink(4, "Ethernet0");
  for (let i = 1; i <= 3; i++) rig.kernel.setNeighbor(host(i));
  rig.start();
  rig.reply();
  rig.reply();
  // The rows are made here, and read after what happens next.
  const rows = rig.kernel.answer()!;
  rig.kernel.removeNeighbor(host(1));
  rig.kernel.setNeighbor({ ...host(2), mac: 5 });
  while (rig.event());
  rig.machine.receiveReplies(rows.view, 0, rows.length, rig.now, rig);
  rig.settle();
  rig.check();
  deepEqual(rig.log.filter((line) => line.endsWith("dump")), ["add Ethernet0:10.0.0.3 dump"]);
});

Deno.test("ResyncMachine does not take up what went before its row was read", () => {
  const rig = new Rig({ rowsPerPart: 100 });
  rig.kernel.setLink(4, "Ethernet0");
  rig.kernel.setNeighbor(host(1));
  rig.start();
  rig.reply();
  rig.reply();
  const rows = rig.kernel.answer()!;
  // Nobody had heard of it, and now it goes without a change before.
  rig.kernel.collectNeighbor(host(1));
  rig.event();
  rig.machine.receiveReplies(rows.view, 0, rows.length, rig.now, rig);
  deepEqual(rig.log, []);
  rig.settle();
  rig.check();
});

Deno.test("ResyncMachine asks before it deletes, and keeps what a dump has skipped", () => {
  const rig = filled(40, new Rig({ buckets: 1, rowsPerPart: 8 }));
  rig.machine.resync(rig.now, rig);
  rig.reply();
  rig.reply();
  rig.reply();
  // Three of the rows already shown go: the dump goes on at the 9th of what is left, and skips three.
  const shown = rig.kernel.neighbors().slice(0, 8);
  for (const neighbor of shown.slice(0, 3)) rig.kernel.removeNeighbor(neighbor);
  while (rig.reply());
  rig.settle();
  equal(rig.results[1]!.kept, 3);
  equal(rig.results[1]!.removed, 0);
  equal(rig.results[1]!.disturbed, true);
  equal(rig.reasons.at(-1), "confirm");
  rig.check();
});

Deno.test("ResyncMachine keeps all 20,000 untouched rows while others churn under every dump", () => {
  const rig = new Rig({ buckets: 1_024, rowsPerPart: 400, eventCapacity: 1e6 });
  rig.kernel.setLink(4, "Ethernet0");
  for (let i = 1; i <= 20_000; i++) rig.kernel.setNeighbor(host(i));
  for (let i = 1; i <= 3_000; i++) rig.kernel.setNeighbor(host(100_000 + i));
  rig.start();
  rig.settle();
  rig.removals = 0;
  const random = seededRandom(20_000);
  let churned = 0, kept = 0;
  const untouched = (line: string): boolean => line.includes(":10.0.");
  const before = [...rig.told.keys()].filter(untouched).length;
  for (let round = 0; round < 3; round++) {
    rig.machine.resync(rig.now, rig);
    while (rig.kernel.answering) {
      for (let i = 0; i < 40; i++) {
        const neighbor = host(100_001 + random.u32() % 3_000);
        if (random.u32() % 2 === 0) rig.kernel.removeNeighbor(neighbor);
        else rig.kernel.setNeighbor(neighbor);
        churned++;
      }
      rig.reply();
      if (random.u32() % 4 === 0) { while (rig.event()); }
    }
    rig.settle();
    kept += rig.results.reduce((sum, result) => sum + result.kept, 0);
  }
  ok(churned > 3_000, `${churned} changes`);
  ok(kept > 0, "no dump has skipped a row: this shows nothing");
  const gone = rig.log.filter((line) => line.startsWith("delete") && untouched(line));
  deepEqual(gone, []);
  equal([...rig.told.keys()].filter(untouched).length, before);
  rig.check();
});

Deno.test("ResyncMachine reads once more when a fifth of the view is missing", () => {
  const rig = filled(2_000, new Rig({ eventCapacity: 0 }));
  for (let i = 1; i <= 1_100; i++) rig.kernel.removeNeighbor(host(i));
  rig.settle();
  equal(rig.results[1]!.dumps, 2);
  equal(rig.results[1]!.removed, 1_100);
  rig.check();
});

Deno.test("ResyncMachine has at most 64 questions unanswered", () => {
  let most = 0, asked = 0;
  class Counting extends Rig {
    override query(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): void {
      asked += (end - start) / 36 | 0;
      most = Math.max(most, asked);
      super.query(bytes, start, end);
    }
    override reply(): boolean {
      asked = Math.max(0, asked - 1);
      return super.reply();
    }
  }
  const rig = filled(900, new Counting({ eventCapacity: 0 }));
  for (let i = 1; i <= 500; i++) rig.kernel.removeNeighbor(host(i));
  rig.settle();
  equal(rig.results[1]!.removed, 500);
  ok(most <= 66, `${most} at a time`);
  ok(most >= 60, `${most} at a time`);
});

Deno.test("ResyncMachine waits until the socket is empty before it reads again after a loss", () => {
  const rig = filled(10, new Rig());
  rig.now += 1_000;
  rig.kernel.eventCapacity = 1;
  rig.kernel.setNeighbor({ ...host(1), mac: 1 });
  rig.kernel.setNeighbor({ ...host(1), mac: 2 });
  rig.checkLoss();
  equal(rig.machine.wantsDrain, true);
  equal(rig.machine.counts().resyncs, 1);
  // Were the table read now, the old event that waits would be taken for newer than it.
  rig.drain();
  equal(rig.machine.counts().resyncs, 2);
  rig.settle();
  rig.check();
  equal(rig.results[1]!.lost, 1);
});

Deno.test("ResyncMachine spaces readings out and asks for a larger buffer while losses go on", () => {
  const rig = filled(1, new Rig());
  const begun: number[] = [];
  for (let i = 0; i < 8; i++) {
    rig.machine.lost(1, rig.now, rig);
    rig.machine.drained(rig.now, rig);
    const { deadline } = rig.machine;
    if (rig.machine.counts().resyncs === i + 1) rig.now = deadline;
    rig.machine.expire(rig.now, rig);
    begun.push(rig.now);
    while (rig.reply());
    rig.machine.drained(rig.now, rig);
  }
  deepEqual(begun.slice(1).map((at, i) => at - begun[i]!), [200, 400, 800, 1000, 1000, 1000, 1000]);
  deepEqual(rig.grown.slice(0, 3), [8192, 16384, 32768]);
  equal(rig.machine.counts().overflows, 8);
  rig.now += 30_001;
  const before = rig.grown.length;
  rig.machine.lost(1, rig.now, rig);
  rig.machine.drained(rig.now, rig);
  equal(rig.machine.counts().resyncs, 10);
  equal(rig.grown.length, before);
});

Deno.test("ResyncMachine moves neighbors to the new name of their link", () => {
  const rig = filled(2, new Rig());
  rig.log.length = 0;
  rig.kernel.setLink(4, "Ethernet8");
  rig.settle();
  rig.check();
  deepEqual(rig.log.sort(), [
    "add Ethernet8:10.0.0.1 link",
    "add Ethernet8:10.0.0.2 link",
    "delete Ethernet0:10.0.0.1 link",
    "delete Ethernet0:10.0.0.2 link",
  ]);
});

Deno.test("ResyncMachine is not misled by a port that leaves its bridge", () => {
  const rig = filled(2, new Rig());
  rig.kernel.leaveBridge(4);
  rig.settle();
  rig.check();
  equal(rig.removals, 0);
  equal(rig.machine.counts().ignored, 1);
});

Deno.test("ResyncMachine asks for a link it does not know, and tells its neighbors then", () => {
  const rig = filled(1, new Rig());
  rig.kernel.eventCapacity = 0;
  rig.kernel.setLink(9, "Vlan9");
  rig.kernel.eventCapacity = 10;
  rig.kernel.setNeighbor(host(5, 9));
  // The loss is not noticed yet: the event of a link nobody told of comes first.
  rig.event();
  while (rig.reply());
  equal(rig.told.get("Vlan9:10.0.0.5"), "02:00:00:00:00:05 2");
  rig.settle();
  rig.check();
});

Deno.test("ResyncMachine drops neighbors of an index the kernel does not know", () => {
  const rig = filled(1, new Rig());
  rig.kernel.setLink(9, "Vlan9");
  rig.kernel.events.length = 0;
  rig.kernel.setNeighbor(host(5, 9));
  rig.kernel.links.delete(9);
  rig.event();
  while (rig.reply());
  equal(rig.machine.counts().unknownIfindex, 1);
  equal(rig.machine.liveEntries, 1);
  equal(rig.told.size, 1);
});

Deno.test("ResyncMachine asks again when the kernel is silent, and waits while an old dump runs", () => {
  const rig = filled(30, new Rig({ rowsPerPart: 4 }));
  rig.machine.resync(rig.now, rig);
  for (let i = 0; i < 4; i++) rig.reply();
  rig.machine.queryLost(rig.now, rig);
  equal(rig.settle() > 0, true);
  equal(rig.machine.resyncing, false);
  rig.check();
  // And with nothing but silence.
  rig.machine.resync(rig.now, rig);
  const { deadline } = rig.machine;
  equal(deadline, rig.now + 2_000);
  rig.now = deadline;
  rig.machine.expire(rig.now, rig);
  rig.now = rig.machine.deadline;
  rig.machine.expire(rig.now, rig);
  rig.settle();
  rig.check();
  ok(rig.machine.counts().refusals >= 1);
});

Deno.test("ResyncMachine replays what it has told, for one interface or all", () => {
  const rig = filled(3, new Rig());
  rig.log.length = 0;
  rig.machine.replay(4, rig);
  rig.machine.replay(5, rig);
  equal(rig.log.length, 3);
  ok(rig.log.every((line) => /^change .* replay$/.test(line)));
});

Deno.test("ResyncMachine does nothing once it is stopped", () => {
  const rig = filled(3, new Rig());
  rig.machine.stop();
  rig.log.length = 0;
  rig.kernel.removeNeighbor(host(1));
  rig.drain();
  rig.machine.resync(rig.now, rig);
  rig.machine.lost(1, rig.now, rig);
  rig.machine.expire(1e9, rig);
  equal(rig.machine.deadline, Infinity);
  deepEqual(rig.log, []);
});

/** A kernel in motion, a reader that is late, buffers that are small. */
function simulate(seed: number): void {
  const random = seededRandom(seed);
  const below = (limit: number): number => random.u32() % limit;
  const rig = new Rig(
    {
      eventCapacity: [3, 10, 40, 1_000][below(4)]!,
      buckets: 1 + below(6),
      rowsPerPart: 1 + below(8),
    },
    { answerTimeoutMs: 500, repeats: below(2) === 0 },
  );
  const { kernel } = rig;
  for (let ifindex = 1; ifindex <= 4; ifindex++) kernel.setLink(ifindex, `eth${ifindex}`);
  const addresses = 1 + below(30);
  const act = (): void => churn(kernel, random, addresses);
  for (let i = below(40); i > 0; i--) act();
  rig.start();
  const steps = 50 + below(150);
  for (let step = 0; step < steps; step++) {
    const kind = below(12);
    if (kind < 5) act();
    else if (kind < 8) rig.event();
    else if (kind < 9) rig.reply();
    else if (kind === 9) rig.fetch();
    else if (kind === 10) rig.checkLoss();
    else if (below(4) === 0) rig.machine.queryLost(rig.now, rig);
    else if (below(8) === 0) rig.machine.resync(rig.now, rig);
    if (kernel.events.length === 0) {
      // The counter is read after the socket was seen empty, and both before it is said.
      rig.checkLoss();
      rig.machine.drained(rig.now, rig);
    }
    rig.now += below(50);
    if (rig.machine.deadline <= rig.now) rig.machine.expire(rig.now, rig);
  }
  rig.settle();
  rig.check();
  const { queries, resyncs } = rig.machine.counts();
  // Each reading asks for links and neighbors a few times, and for no entry twice but after a loss of answers.
  ok(queries < 20 * (resyncs + steps), `${queries} requests for ${resyncs} readings`);
}

function churn(kernel: VirtualKernel, random: Random, addresses: number): void {
  const below = (limit: number): number => random.u32() % limit;
  const ifindex = 1 + below(4);
  const kind = below(40);
  if (kind === 0) kernel.setLink(ifindex, `name${below(1_000_000)}`);
  else if (kind === 1) kernel.removeLink(ifindex);
  else if (kind === 2) kernel.setLink(ifindex, `eth${ifindex}`, below(3));
  else if (kind === 3) kernel.leaveBridge(ifindex);
  else {
    const address = below(addresses);
    const v6 = below(3) === 0;
    const neighbor: VirtualNeighbor = {
      ifindex,
      family: v6 ? AF_INET6 : AF_INET,
      words: v6 ? [0x2001_0db8, 0, 0, address] : [0x0a00_0000 + address, 0, 0, 0],
      mac: 0x0200_0000_0000 + below(3),
      state: [NUD_REACHABLE, NUD_STALE, NUD_PERMANENT][below(3)]!,
      flags: 0,
    };
    const end = below(10);
    if (end < 3) kernel.removeNeighbor(neighbor);
    else if (end < 5) kernel.collectNeighbor(neighbor);
    else kernel.setNeighbor(neighbor);
  }
}

Deno.test("ResyncMachine ends with the kernel's tables, whatever is lost, skipped, renamed or used again", () => {
  const seeds = LONG ? 100_000 : 3_000;
  forSeeds(FILE, 1, seeds, simulate);
});
