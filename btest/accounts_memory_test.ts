import { deepEqual, equal, notDeepEqual, ok, throws } from "node:assert/strict";
import { type Random, seededRandom } from "../internal/random.ts";
import { createFlowCounts, Flow } from "./flow.ts";
import { Spending } from "./spending.ts";
import { MemoryAccounts } from "./accounts_memory.ts";
import type { SessionInfo, TestResult } from "./api_types.ts";
import {
  type AuthOutcome,
  createVerifier,
  Decoy,
  EcSrp5Client,
  EcSrp5Server,
} from "./protocol/mod.ts";

const NOTHING = new Uint8Array(0);
const START = { address: "192.0.2.1", protocol: "tcp", direction: "both" } as const;

/** How many salts a store has drawn. */
function counted(random: Random): Random & { readonly draws: number[] } {
  const draws: number[] = [];
  return {
    ...random,
    draws,
    bytes: (n) => {
      draws.push(n);
      return random.bytes(n);
    },
  };
}

function session(user: string): SessionInfo {
  return {
    id: 1,
    peer: { family: "ipv4", address: "192.0.2.1", port: 40_000 },
    user,
    auth: "ecsrp5",
    protocol: "tcp",
    direction: "both",
    connections: 1,
  };
}

function result(rxBytes: number, txBytes: number): TestResult {
  return { rxBytes, txBytes } as TestResult;
}

/** One login over the pure machines, with what the store says. Answers what the server said, and its challenge. */
async function login(
  accounts: MemoryAccounts,
  user: string,
  password: string,
  random: Random,
): Promise<{ readonly outcome: AuthOutcome; readonly salt: Uint8Array }> {
  const client = new EcSrp5Client(user, password, random.bytes(32));
  const server = new EcSrp5Server(random.bytes(32), new Decoy(accounts.decoySecret));
  const opening = client.step(NOTHING, 0, 0);
  ok(opening.kind === "write");
  const asked = server.step(opening.bytes, 0, opening.bytes.length);
  ok(asked.kind === "user");
  equal(asked.user, user);
  server.verify(await accounts.verifier(asked.user));
  const challenge = server.step(NOTHING, 0, 0);
  ok(challenge.kind === "write");
  const proof = client.step(challenge.bytes, 0, challenge.bytes.length);
  ok(proof.kind === "write");
  const answer = server.step(proof.bytes, 0, proof.bytes.length);
  const salt = challenge.bytes.slice(-16);
  if (answer.kind === "done") return { outcome: answer.outcome, salt };
  const done = server.step(NOTHING, 0, 0);
  ok(done.kind === "done");
  return { outcome: done.outcome, salt };
}

Deno.test("MemoryAccounts makes a verifier once, when the password is set", async () => {
  const random = counted(seededRandom(1));
  const accounts = new MemoryAccounts(random);
  accounts.set("admin", "secret");
  deepEqual(random.draws, [32, 16]);
  const first = await accounts.verifier("admin");
  equal(await accounts.verifier("admin"), first, "the same object at every login");
  deepEqual(random.draws, [32, 16]);
  deepEqual(first, createVerifier("admin", "secret", first!.salt));
});

Deno.test("MemoryAccounts draws a fresh salt for every password", async () => {
  const accounts = new MemoryAccounts();
  accounts.set("admin", "secret");
  const first = await accounts.verifier("admin");
  accounts.set("admin", "secret");
  notDeepEqual((await accounts.verifier("admin"))!.salt, first!.salt);
});

Deno.test("MemoryAccounts lets the right password in and nothing else", async () => {
  const random = seededRandom(2);
  const accounts = new MemoryAccounts(random);
  accounts.set("käyttäjä", "pässwörd€");
  accounts.set("empty", "");
  accounts.set("away", "secret", { enabled: false });
  const outcome = async (user: string, password: string) =>
    (await login(accounts, user, password, random)).outcome;
  equal(await outcome("käyttäjä", "pässwörd€"), "proved");
  equal(await outcome("empty", ""), "proved");
  equal(await outcome("käyttäjä", "passwörd€"), "failed");
  equal(await outcome("nobody", ""), "failed");
  equal(await outcome("away", "secret"), "failed");
  equal(await outcome("__proto__", ""), "failed");
});

Deno.test("MemoryAccounts shows an unknown user one salt, and another one to the next", async () => {
  const random = seededRandom(3);
  const accounts = new MemoryAccounts(random);
  const salt = async (user: string) => (await login(accounts, user, "x", random)).salt;
  const first = await salt("nobody");
  deepEqual(await salt("nobody"), first);
  notDeepEqual(await salt("nobody2"), first);
  notDeepEqual((await login(new MemoryAccounts(random), "nobody", "x", random)).salt, first);
});

Deno.test("MemoryAccounts keeps a password for MD5 only where it is told to", async () => {
  const accounts = new MemoryAccounts();
  accounts.set("old", "secret", { md5: true });
  accounts.set("new", "secret");
  accounts.set("away", "secret", { md5: true, enabled: false });
  deepEqual(await accounts.md5Password("old"), new TextEncoder().encode("secret"));
  equal(await accounts.md5Password("new"), undefined);
  equal(await accounts.md5Password("away"), undefined);
  equal(await accounts.md5Password("nobody"), undefined);
  throws(() => accounts.set("ä".repeat(17), "x", { md5: true }), RangeError);
  accounts.set("ä".repeat(16), "x", { md5: true });
});

Deno.test("MemoryAccounts refuses names and bounds that cannot be kept", () => {
  const accounts = new MemoryAccounts();
  throws(() => accounts.set("", "x"), RangeError);
  throws(() => accounts.set("a\0b", "x"), RangeError);
  throws(() => accounts.set("a".repeat(222), "x"), RangeError);
  throws(() => accounts.set("a", "x", { limitBytes: -1 }), RangeError);
  throws(() => accounts.set("a", "x", { maxTxBps: 1.5 }), TypeError);
  equal(accounts.size, 0);
});

Deno.test("MemoryAccounts allows a test by user, and any test without one", async () => {
  const accounts = new MemoryAccounts();
  accounts.set("slow", "x", { maxTxBps: 1_000_000 });
  deepEqual(await accounts.checkStart({ ...START, user: "slow" }), {
    allowed: true,
    maxTxBps: 1_000_000,
  });
  deepEqual(await accounts.checkStart({ ...START, user: "" }), { allowed: true, maxTxBps: 0 });
  equal(accounts.delete("slow"), true);
  equal(accounts.delete("slow"), false);
  const refusal = await accounts.checkStart({ ...START, user: "slow" });
  ok(!refusal.allowed);
  equal(refusal.code, "btest.not-allowed");
});

Deno.test("Tests of one user share what it may move and never pass it", async () => {
  const accounts = new MemoryAccounts();
  accounts.set("user", "x", { limitBytes: 1000 });
  const [one, two] = [accounts.begin(session("user")), accounts.begin(session("user"))];
  equal(one.unlimited, false);
  equal(one.reserve("inbound", 600), 600);
  equal(two.reserve("outbound", 600), 400);
  equal(one.reserve("inbound", 1), 0);
  two.giveBack("outbound", 100);
  equal(one.reserve("outbound", 600), 100);
  await one.end(result(600, 100));
  await two.end(result(0, 300));
  deepEqual(accounts.usage("user"), { tests: 2, inboundBytes: 600, outboundBytes: 400 });
  const refusal = await accounts.checkStart({ ...START, user: "user" });
  deepEqual(refusal, {
    allowed: false,
    code: "btest.quota",
    scope: "user",
    window: "ever",
    usedBytes: 1000,
    limitBytes: 1000,
  });
});

Deno.test("A new password is no new allowance", async () => {
  const accounts = new MemoryAccounts();
  accounts.set("user", "x", { limitBytes: 10 });
  equal(accounts.begin(session("user")).reserve("inbound", 10), 10);
  accounts.set("user", "y", { limitBytes: 10 });
  equal((await accounts.checkStart({ ...START, user: "user" })).allowed, false);
});

Deno.test("A session without a bound need not reserve", async () => {
  const accounts = new MemoryAccounts();
  accounts.set("user", "x");
  const running = accounts.begin(session("user"));
  equal(running.unlimited, true);
  equal(running.reserve("inbound", 5e12), 5e12);
  await running.end(result(1, 2));
  equal(accounts.usage("user")!.tests, 1);
  equal(accounts.usage("nobody"), undefined);
  equal(accounts.begin(session("")).unlimited, true);
});

Deno.test("Spending takes little ahead of a slow test, stops at the bound and leaves what was not moved", () => {
  const accounts = new MemoryAccounts();
  accounts.set("user", "x", { limitBytes: 100_000 });
  const counts = createFlowCounts();
  const spending = new Spending(accounts.begin(session("user")), counts, 0);
  let now = 0;
  let over = -1;
  for (; now < 200 && over < 0; now++) {
    // A kilobyte a millisecond.
    counts[Flow.rxBytes]! += 1000;
    if (now < spending.nextAt) continue;
    if (!spending.look(now)) over = now;
  }
  // At the bound, give or take what moves from one look to the next.
  ok(over >= 98 && over <= 103, `over after ${over} ms`);
  spending.settle();
  equal(spending.nextAt, Infinity);

  // Another user's test ends early: what was taken ahead goes back.
  accounts.set("other", "x", { limitBytes: 100_000 });
  const early = new Spending(accounts.begin(session("other")), counts, 0);
  counts.fill(0);
  counts[Flow.txBytes] = 30_000;
  ok(early.look(10));
  // All that is left for somebody else, while 30,000 are moved and some are taken ahead.
  const rest = accounts.begin(session("other"));
  const granted = rest.reserve("outbound", 100_000);
  ok(granted < 70_000, `${granted} were left`);
  early.settle();
  equal(rest.reserve("outbound", 100_000), 70_000 - granted);
});

Deno.test("Spending of an account without a bound asks for nothing", () => {
  const accounts = new MemoryAccounts();
  accounts.set("user", "x");
  const counts = createFlowCounts();
  const spending = new Spending(accounts.begin(session("user")), counts, 0);
  counts[Flow.txBytes] = 1e15;
  equal(spending.nextAt, Infinity);
  equal(spending.look(5), true);
});
