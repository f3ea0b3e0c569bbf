import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { type Random, seededRandom } from "../../internal/random.ts";
import { forSeeds } from "../../internal/testing/simulation.ts";
import { formatMac } from "./address.ts";
import { AF_INET, AF_INET6 } from "./constants.ts";
import { Coalescer, type PublishBatch, type PublishOperation } from "./coalesce.ts";

const FILE = "neighsync/protocol/coalesce_test.ts";
const LONG = Deno.env.get("FASTWIRE_LONG") === "1";

/** What a database holds between producer and consumer: staged hashes, the two sets, and the final hashes. */
class ProducerTable {
  readonly final = new Map<string, string>();
  readonly routes: string[] = [];
  readonly #staged = new Map<string, string>();
  readonly #keys = new Set<string>();
  readonly #deletes = new Set<string>();

  apply(operations: readonly PublishOperation[]): void {
    for (const { op, key, mac, family, route } of operations) {
      this.#keys.add(key);
      if (op === "set") {
        if (route !== undefined) this.routes.push(route);
        this.#staged.set(key, `${mac} ${family}`);
      } else {
        this.#deletes.add(key);
        this.#staged.delete(key);
      }
    }
  }

  /** The consumer takes some of the keys, in any order. */
  pop(count: number, random: Random): void {
    const keys = [...this.#keys];
    for (; count > 0 && keys.length > 0; count--) {
      const key = keys.splice(random.u32() % keys.length, 1)[0]!;
      this.#keys.delete(key);
      if (this.#deletes.delete(key)) this.final.delete(key);
      const value = this.#staged.get(key);
      this.#staged.delete(key);
      if (value === undefined) this.final.delete(key);
      else this.final.set(key, value);
    }
  }

  popAll(random: Random): void {
    this.pop(this.#keys.size, random);
  }
}

function simulate(seed: number, events: number): void {
  const random = seededRandom(seed);
  const below = (limit: number): number => random.u32() % limit;
  const coalescer = new Coalescer({
    batchSize: 1 + below(60),
    maxBatch: 1 + below(80),
    window: 1 + below(4),
    dedupe: below(4) > 0,
  });
  const table = new ProducerTable();
  const model = new Map<string, string>();
  const flying: PublishBatch[] = [];
  // Some of it was there before, and known.
  for (let i = below(20); i > 0; i--) {
    const value = `${formatMac(below(3))} ${below(9) === 0 ? "IPv6" : "IPv4"}`;
    const key = `Ethernet0:${below(50)}`;
    table.final.set(key, value);
    model.set(key, value);
  }
  const entries = (): [string, { mac: string; family: string }][] =>
    [...table.final].map(([key, value]) => {
      const [mac, family] = value.split(" ");
      return [key, { mac: mac!, family: family! }];
    });
  coalescer.beginShadow();
  coalescer.replaceShadow(entries());
  let now = 0, written = 0;
  const land = (batch: PublishBatch, fails: boolean): void => {
    if (fails) {
      // Nobody knows whether it was carried out.
      if (below(2) === 0) table.apply(batch.operations);
      coalescer.fail(batch, now + below(20));
    } else {
      table.apply(batch.operations);
      written += batch.operations.length;
      coalescer.acknowledge(batch);
    }
  };
  for (let i = 0; i < events; i++) {
    const key = `Ethernet0:${below(50)}`;
    if (below(3) === 0) {
      coalescer.delete(key, now);
      model.delete(key);
    } else {
      const mac = below(3), family = below(9) === 0 ? AF_INET6 : AF_INET;
      coalescer.set(key, mac, family, now, below(30) === 0 ? `Vrf1:${key}` : undefined);
      model.set(key, `${formatMac(mac)} ${family === AF_INET ? "IPv4" : "IPv6"}`);
    }
    if (below(8) === 0) now += below(15);
    const batch = coalescer.take(now);
    if (batch !== undefined) {
      const keys = new Set(batch.operations.map((operation) => operation.key));
      equal(keys.size, batch.operations.length);
      for (const other of flying) {
        ok(!other.operations.some((operation) => keys.has(operation.key)), "a key flies twice");
      }
      flying.push(batch);
    }
    // Answers come in any order.
    if (flying.length > 0 && below(3) === 0) {
      land(flying.splice(below(flying.length), 1)[0]!, below(5) === 0);
    }
    if (below(4) === 0) table.pop(below(10), random);
  }
  for (let rounds = 0; !coalescer.idle; rounds++) {
    if (rounds > 10_000) throw new Error("it does not become idle");
    while (flying.length > 0) land(flying.pop()!, below(5) === 0);
    now = Math.max(now, Math.min(coalescer.deadline, now + 1_000));
    const batch = coalescer.take(now);
    if (batch !== undefined) flying.push(batch);
  }
  table.popAll(random);
  deepEqual([...table.final].sort(), [...model].sort());
  ok(written > 0 || events < 100);
}

Deno.test("Coalescer leaves the consumer with the last of 10,000 events of each key, whatever fails", () => {
  forSeeds(FILE, 1, LONG ? 200 : 8, (seed) => simulate(seed, 10_000));
});

Deno.test("Coalescer does so for a thousand short histories, too", () => {
  forSeeds(FILE, 1_000, LONG ? 50_000 : 1_000, (seed) => simulate(seed, 20 + seed % 150));
});

Deno.test("Coalescer flushes at once when nothing is on its way, else by number, room or time", () => {
  const coalescer = new Coalescer({ batchSize: 3, window: 2, batchTimeoutMs: 10 });
  coalescer.set("a", 1, AF_INET, 0);
  equal(coalescer.deadline, 0);
  const first = coalescer.take(0)!;
  equal(first.operations.length, 1);
  coalescer.set("b", 1, AF_INET, 1);
  equal(coalescer.deadline, 11);
  equal(coalescer.take(10), undefined);
  coalescer.set("c", 1, AF_INET, 2);
  coalescer.set("d", 1, AF_INET, 3);
  // Three wait: enough company.
  const second = coalescer.take(3)!;
  deepEqual(second.operations.map(({ key }) => key), ["b", "c", "d"]);
  equal(second.oldestAt, 1);
  coalescer.set("e", 1, AF_INET, 4);
  // No room.
  equal(coalescer.deadline, Infinity);
  equal(coalescer.flush(1e9), undefined);
  coalescer.acknowledge(second);
  equal(coalescer.deadline, 14);
  coalescer.acknowledge(first);
  deepEqual(coalescer.take(5)!.operations.map(({ key }) => key), ["e"]);
});

Deno.test("Coalescer keeps a key back while it is on its way", () => {
  const coalescer = new Coalescer();
  coalescer.set("a", 1, AF_INET, 0);
  const batch = coalescer.take(0)!;
  coalescer.delete("a", 1);
  equal(coalescer.pending, 1);
  equal(coalescer.deadline, Infinity);
  coalescer.acknowledge(batch);
  deepEqual(coalescer.take(2)!.operations, [{ op: "del", key: "a", mac: "", family: "IPv4" }]);
});

Deno.test("Coalescer writes nothing that is written, and takes back what became needless", () => {
  const coalescer = new Coalescer();
  coalescer.beginShadow();
  coalescer.replaceShadow([["a", { mac: "00:00:00:00:00:01", family: "IPv4" }]]);
  equal(coalescer.set("a", 1, AF_INET, 0), false);
  equal(coalescer.delete("unknown", 0), false);
  equal(coalescer.set("a", 1, AF_INET6, 0), true);
  equal(coalescer.set("a", 1, AF_INET, 0), false);
  equal(coalescer.idle, true);
  equal(coalescer.suppressed, 3);
  // A second failure and deletion of one neighbor is one del.
  equal(coalescer.delete("a", 1), true);
  equal(coalescer.delete("a", 1), true);
  equal(coalescer.coalesced, 1);
  coalescer.acknowledge(coalescer.take(1)!);
  equal(coalescer.delete("a", 2), false);
  coalescer.discardShadow();
  equal(coalescer.delete("a", 3), true);
});

Deno.test("Coalescer writes what is stored in another spelling or with a field missing", () => {
  const coalescer = new Coalescer();
  coalescer.beginShadow();
  coalescer.replaceShadow([
    ["a", { mac: "0A:00:00:00:00:01", family: "IPv4" }],
    ["b", { mac: "0a:00:00:00:00:01", family: "" }],
  ]);
  equal(coalescer.set("a", 0x0a00_0000_0001, AF_INET, 0), true);
  equal(coalescer.set("b", 0x0a00_0000_0001, AF_INET, 0), true);
  equal(coalescer.delete("b", 0), true);
});

Deno.test("Coalescer repeats a set that has a host route to clear", () => {
  const coalescer = new Coalescer();
  const route = "VrfRed:10.0.0.1";
  for (let i = 0; i < 2; i++) {
    equal(coalescer.set("Vlan1:10.0.0.1", 1, AF_INET, 0, route), true);
    const batch = coalescer.take(0)!;
    equal(batch.operations[0]!.route, route);
    coalescer.acknowledge(batch);
  }
  // Put back, it still has the route to clear, newer ones or not.
  coalescer.set("Vlan1:10.0.0.1", 1, AF_INET, 0, route);
  coalescer.fail(coalescer.take(0)!, 0);
  equal(coalescer.take(0)!.operations[0]!.route, route);
});

Deno.test("Coalescer assumes nothing of keys that were on their way while the table was read", () => {
  const coalescer = new Coalescer();
  coalescer.set("a", 2, AF_INET, 0);
  const batch = coalescer.take(0)!;
  coalescer.beginShadow();
  // Read before the batch took effect.
  const read: [string, { mac: string; family: string }][] = [
    ["a", { mac: "00:00:00:00:00:01", family: "IPv4" }],
  ];
  coalescer.acknowledge(batch);
  coalescer.replaceShadow(read);
  equal(coalescer.set("a", 1, AF_INET, 1), true);
});

Deno.test("Coalescer holds back after a failure, until its time or for ever", () => {
  const coalescer = new Coalescer();
  coalescer.set("a", 1, AF_INET, 0);
  coalescer.fail(coalescer.take(0)!, 100);
  equal(coalescer.deadline, 100);
  equal(coalescer.take(99), undefined);
  const batch = coalescer.take(100)!;
  coalescer.fail(batch, Infinity);
  coalescer.fail(batch, 0);
  equal(coalescer.take(1e9), undefined);
  coalescer.resume();
  equal(coalescer.take(101)!.operations.length, 1);
  coalescer.set("b", 1, AF_INET, 0);
  coalescer.clear();
  equal(coalescer.pending, 0);
});

Deno.test("Coalescer refuses sizes that make no sense", () => {
  throws(() => new Coalescer({ batchSize: 0 }), RangeError);
  throws(() => new Coalescer({ window: 0 }), RangeError);
  throws(() => new Coalescer({ maxBatch: 1.5 }), TypeError);
});
