import { deepEqual, equal, throws } from "node:assert/strict";
import {
  AccessRules,
  isInNetwork,
  parseNetwork,
  RequestLimiter,
  TransferGate,
  type TransferSlot,
} from "./access.ts";

Deno.test("AccessRules let everything in when there are none", () => {
  equal(new AccessRules([]).decide("192.0.2.1", "get", "a").allowed, true);
});

Deno.test("AccessRules obey the first rule that matches", () => {
  const rules = new AccessRules([
    { from: ["10.1.0.0/16"], patterns: ["secret/**"], action: "deny" },
    { from: ["10.0.0.0/8"], methods: ["get"], action: "allow" },
    { action: "deny" },
  ]);
  equal(rules.decide("10.1.2.3", "get", "secret/key").allowed, false);
  equal(rules.decide("10.2.2.3", "get", "secret/key").allowed, true);
  equal(rules.decide("10.1.2.3", "get", "boot").allowed, true);
  equal(rules.decide("10.1.2.3", "put", "boot").allowed, false);
  equal(rules.decide("192.0.2.1", "get", "boot").allowed, false);
});

Deno.test("AccessRules hand out the overrides of the rule that decided", () => {
  const rules = new AccessRules([
    { from: ["10.0.0.7"], action: "limit", maxWindowSize: 4, refuseOptions: ["blksize"] },
  ]);
  deepEqual(rules.decide("10.0.0.7", "get", "a"), {
    allowed: true,
    overrides: { maxWindowSize: 4, refuseOptions: ["blksize"] },
  });
  deepEqual(rules.decide("10.0.0.8", "get", "a"), { allowed: true, overrides: {} });
});

Deno.test("AccessRules refuse rules that cannot be meant", () => {
  throws(() => new AccessRules([{ from: ["10.0.0.0/33"], action: "allow" }]), TypeError);
  throws(() => new AccessRules([{ patterns: ["[a"], action: "allow" }]), SyntaxError);
});

Deno.test("AccessRules never match a network with text that is no address", () => {
  const rules = new AccessRules([{ from: ["0.0.0.0/0", "::/0"], action: "deny" }]);
  equal(rules.decide("nonsense", "get", "a").allowed, true);
  equal(rules.decide("127.0.0.1", "get", "a").allowed, false);
});

const INSIDE: readonly (readonly [network: string, inside: string, outside: string])[] = [
  ["10.0.0.0/8", "10.255.255.255", "11.0.0.0"],
  ["192.168.3.128/25", "192.168.3.200", "192.168.3.127"],
  ["192.0.2.1", "192.0.2.1", "192.0.2.2"],
  ["0.0.0.0/0", "203.0.113.9", "::1"],
  ["10.9.8.7/8", "10.1.1.1", "9.1.1.1"],
  ["2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"],
  ["fe80::/10", "febf::1", "fec0::1"],
  ["::1", "::1", "::2"],
  ["::/0", "2001:db8::1", "192.0.2.1"],
];

for (const [network, inside, outside] of INSIDE) {
  Deno.test(`isInNetwork() knows where ${network} ends`, () => {
    equal(isInNetwork(parseNetwork(network), inside), true);
    equal(isInNetwork(parseNetwork(network), outside), false);
  });
}

Deno.test("isInNetwork() reads a mapped address as the IPv4 address it is", () => {
  equal(isInNetwork(parseNetwork("10.0.0.0/8"), "::ffff:10.1.2.3"), true);
  equal(isInNetwork(parseNetwork("::ffff:10.0.0.0"), "10.0.0.0"), true);
  equal(isInNetwork(parseNetwork("fe80::/10"), "fe80::1%eth0"), true);
});

Deno.test("parseNetwork() refuses what is no network", () => {
  for (const text of ["", "10.0.0", "10.0.0.0/", "10.0.0.0/x", "::/129", "1.2.3.4/8/8", "a.b"]) {
    throws(() => parseNetwork(text), TypeError, text);
  }
});

const LIMITS = {
  perClientPerSecond: 10,
  perClientBurst: 5,
  totalPerSecond: 0,
  totalBurst: 0,
  maxClients: 3,
};

function takes(limiter: RequestLimiter, client: string, times: number, now: number): number {
  let passed = 0;
  for (let i = 0; i < times; i++) if (limiter.take(client, now)) passed++;
  return passed;
}

Deno.test("RequestLimiter lets a burst through, then the sustained rate", () => {
  const limiter = new RequestLimiter(LIMITS);
  equal(takes(limiter, "a", 8, 1000), 5);
  equal(takes(limiter, "a", 8, 1300), 3);
  equal(takes(limiter, "a", 8, 60_000), 5);
  equal(limiter.refused, 11);
});

Deno.test("RequestLimiter keeps clients apart", () => {
  const limiter = new RequestLimiter(LIMITS);
  equal(takes(limiter, "a", 9, 0), 5);
  equal(takes(limiter, "b", 9, 0), 5);
});

Deno.test("RequestLimiter forgets the client heard longest ago", () => {
  const limiter = new RequestLimiter(LIMITS);
  for (const client of ["a", "b", "c"]) takes(limiter, client, 9, 0);
  takes(limiter, "a", 1, 0);
  takes(limiter, "d", 1, 0);
  equal(limiter.clients, 3);
  equal(takes(limiter, "a", 9, 0), 0);
  equal(takes(limiter, "b", 9, 0), 5);
});

Deno.test("RequestLimiter holds all clients to a common rate without charging the refused", () => {
  const limiter = new RequestLimiter({ ...LIMITS, totalPerSecond: 10, totalBurst: 2 });
  equal(takes(limiter, "a", 1, 0) + takes(limiter, "b", 1, 0) + takes(limiter, "c", 1, 0), 2);
  // "c" was turned away by the common bucket and still owns its whole burst.
  equal(takes(limiter, "c", 9, 200), 2);
  equal(takes(limiter, "c", 9, 400), 2);
});

Deno.test("RequestLimiter without a rate refuses nobody and remembers nobody", () => {
  const limiter = new RequestLimiter({ ...LIMITS, perClientPerSecond: 0 });
  equal(takes(limiter, "a", 1000, 0), 1000);
  equal(limiter.clients, 0);
});

Deno.test("RequestLimiter never meets a boot ROM that asks for thirty missing names in a row", () => {
  const limiter = new RequestLimiter();
  equal(takes(limiter, "a", 30, 0), 30);
});

Deno.test("RequestLimiter does not fill up when the clock stands still or is read out of order", () => {
  const limiter = new RequestLimiter(LIMITS);
  equal(takes(limiter, "a", 9, 5000), 5);
  equal(takes(limiter, "a", 9, 4000), 0);
  equal(takes(limiter, "a", 9, 5000), 0);
});

Deno.test("RequestLimiter refuses limits below zero", () => {
  throws(() => new RequestLimiter({ ...LIMITS, perClientBurst: -1 }), RangeError);
  throws(() => new RequestLimiter({ ...LIMITS, perClientPerSecond: NaN }), RangeError);
});

function begin(gate: TransferGate, client: string): TransferSlot {
  const slot = gate.begin(client);
  if (typeof slot === "string") throw new Error(slot);
  return slot;
}

Deno.test("TransferGate bounds transfers in total, per client and unconfirmed", () => {
  const gate = new TransferGate({ maxTransfers: 4, maxTransfersPerClient: 2, maxPending: 3 });
  begin(gate, "a");
  begin(gate, "a").confirm();
  equal(gate.begin("a"), "transfers-per-client");
  begin(gate, "b");
  const last = begin(gate, "c");
  equal(gate.begin("d"), "transfers");
  last.end();
  equal(gate.active, 3);
  begin(gate, "d");
  equal(gate.pending, 3);
});

Deno.test("TransferGate refuses more strangers than it may keep waiting", () => {
  const gate = new TransferGate({ maxTransfers: 9, maxTransfersPerClient: 9, maxPending: 1 });
  const first = begin(gate, "a");
  equal(gate.begin("b"), "pending");
  first.confirm();
  begin(gate, "b").end();
  equal(gate.active, 1);
  equal(gate.pending, 0);
});

Deno.test("TransferGate counts a transfer once however often it is confirmed and ended", () => {
  const gate = new TransferGate();
  const slot = begin(gate, "a");
  slot.confirm();
  slot.confirm();
  slot.end();
  slot.end();
  slot.confirm();
  deepEqual([gate.active, gate.pending], [0, 0]);
  begin(gate, "a").end();
  deepEqual([gate.active, gate.pending], [0, 0]);
});

Deno.test("TransferGate takes a rule's own limit for a client", () => {
  const gate = new TransferGate();
  begin(gate, "a");
  equal(gate.begin("a", 1), "transfers-per-client");
  equal(typeof gate.begin("a", 2), "object");
});
