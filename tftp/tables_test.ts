/** The small tables of the server: peers, rates, round trips, counts. */
import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { writeAddress } from "../ffi/mod.ts";
import { seededRandom } from "../internal/random.ts";
import { Counter, COUNTER_NAMES, counterRow, createCounters, sumCounters } from "./counters.ts";
import { addressCell } from "./endpoint.ts";
import { type PeerEntry, PeerTable } from "./peer_table.ts";
import { bothRates, RateGate } from "./rate_gate.ts";
import { RttCache } from "./rtt_cache.ts";

class Entry implements PeerEntry<Entry> {
  readonly key = addressCell();
  next: Entry | undefined;
  readonly number: number;

  constructor(number: number) {
    this.number = number;
    const address = `10.${number >> 16 & 255}.${number >> 8 & 255}.${number & 255}`;
    writeAddress(this.key, 0, { family: "ipv4", address, port: 1000 + number % 7 });
  }
}

Deno.test("PeerTable finds what is in it and nothing else, like a map", () => {
  const seed = Date.now() % 1_000_007;
  const random = seededRandom(seed);
  const table = new PeerTable<Entry>();
  const model = new Map<number, Entry>();
  for (let i = 0; i < 20_000; i++) {
    const number = random.u32() % 3000;
    const there = model.get(number);
    if (there === undefined) {
      const entry = new Entry(number);
      table.add(entry);
      model.set(number, entry);
    } else {
      table.remove(there);
      table.remove(there);
      model.delete(number);
    }
    equal(table.size, model.size, `seed ${seed}`);
  }
  for (let number = 0; number < 3000; number++) {
    equal(table.find(new Entry(number).key, 0), model.get(number), `seed ${seed}`);
  }
  deepEqual(
    table.entries().map((entry) => entry.number).sort((a, b) => a - b),
    [...model.keys()].sort((a, b) => a - b),
  );
});

Deno.test("RateGate lets nobody wait without a rate", () => {
  equal(new RateGate(0, 0).of("a"), undefined);
});

Deno.test("RateGate pays debts off at the rate, and makes up for at most 20 ms of silence", () => {
  const rate = new RateGate(8000, 0).of("a")!;
  equal(rate.waitMs(1000), 0);
  rate.spend(100);
  // A byte a millisecond: 100 ms, of which 20 were saved up.
  equal(rate.waitMs(1000), 80);
  equal(rate.waitMs(1050), 30);
  equal(rate.waitMs(1080), 0);
  equal(rate.waitMs(100_000), 0);
  rate.spend(100);
  equal(rate.waitMs(100_000), 80);
});

Deno.test("RateGate gives each client its own rate and all of them the common one", () => {
  const gate = new RateGate(16_000, 8000);
  const [a, b] = [gate.of("a")!, gate.of("b")!];
  equal(a.waitMs(1000), 0);
  a.spend(60);
  equal(a.waitMs(1000), 40);
  equal(b.waitMs(1000), 10, "the common debt");
  b.spend(60);
  equal(b.waitMs(1000), 40);
  equal(gate.of("a")!.waitMs(1000), 40, "a client's debt is remembered");
});

Deno.test("bothRates() is the one that there is", () => {
  const rate = new RateGate(8000, 0).of("a")!;
  equal(bothRates(undefined, rate), rate);
  equal(bothRates(rate, undefined), rate);
  equal(bothRates(undefined, undefined), undefined);
});

Deno.test("RttCache forgets after ten minutes and keeps the newest", () => {
  const cache = new RttCache();
  cache.put("a", 5, 0);
  equal(cache.get("a", 600_000), 5);
  equal(cache.get("a", 600_001), undefined);
  equal(cache.get("b", 0), undefined);
  for (let i = 0; i < 4096; i++) cache.put(`c${i}`, i, 0);
  equal(cache.get("a", 0), undefined);
  equal(cache.get("c0", 0), 0);
  cache.put("c0", 7, 1);
  cache.put("new", 1, 1);
  equal(cache.get("c0", 1), 7, "measured again, so not the oldest");
  equal(cache.get("c1", 1), undefined);
});

Deno.test("counters of several threads add up", () => {
  const memory = createCounters(3);
  for (let thread = 0; thread < 3; thread++) {
    const row = counterRow(memory, thread);
    row[Counter.bytesSent]! += 10 ** thread;
    row[Counter.segmentationRefused]! += 1;
  }
  const sums = sumCounters(memory);
  deepEqual([sums.bytesSent, sums.segmentationRefused, sums.requestsRead], [111, 3, 0]);
  equal(Object.keys(sums).length, COUNTER_NAMES.length);
  ok(Object.isFrozen(sums));
  throws(() => counterRow(memory, 3), RangeError);
});
