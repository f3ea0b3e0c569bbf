import { equal, ok } from "node:assert/strict";
import { seededRandom } from "../internal/random.ts";
import type { LinkProfile } from "../internal/testing/link.ts";
import { forSeeds } from "../internal/testing/simulation.ts";
import { assertComplete, CLEAN, run, type Scenario } from "./testdata/transfer_simulation.ts";

const FILE = "tftp/simulation_test.ts";
const LONG = Deno.env.get("FASTWIRE_LONG") === "1";

const WINDOWS = [1, 2, 4, 16, 64, 1000];
const LOSSES = [0, 0.01, 0.05, 0.2];

/** One cell of the grid: the seed names the cell, and everything within it. */
function gridScenario(seed: number): { scenario: Scenario; loss: number; disturbed: boolean } {
  const random = seededRandom(seed ^ 0x5eed);
  const pick = <T>(list: readonly T[]): T => list[random.u32() % list.length]!;
  let options = random.float() < 0.8;
  const windowSize = options ? WINDOWS[seed % 6]! : 1;
  const loss = LOSSES[(seed / 6 | 0) % 4]!;
  const duplicateRate = (seed / 24 | 0) % 2 * 0.1;
  const reorderRate = (seed / 48 | 0) % 2 * 0.1;
  const sender = (seed / 96 | 0) % 2 === 0 ? "server" : "client";
  options ||= windowSize > 1;
  const blockSize = options ? pick([8, 100, 1428]) : 512;
  const k = windowSize >= 1000 ? 1 : windowSize >= 64 ? pick([1, 2]) : pick([1, 2, 3, 7]);
  const edge = k * windowSize * blockSize;
  const size = pick([0, 1, blockSize - 1, blockSize, blockSize + 1, edge, edge - 1, edge + 1]);
  const delayMs = pick([0.1, 1, 10, 80]);
  const profile: LinkProfile = {
    delayMs,
    lossRate: loss,
    duplicateRate,
    reorderRate,
    jitterMs: delayMs / 10,
    ordered: true,
  };
  return {
    loss,
    disturbed: duplicateRate + reorderRate > 0,
    scenario: {
      ...CLEAN,
      seed,
      sender,
      options,
      blockSize,
      windowSize,
      sizeBytes: size,
      reorder: random.float() < 0.7,
      pacing: random.float() < 0.3,
      timeoutMs: options && random.float() < 0.15 ? 1000 : undefined,
      commitMs: random.float() < 0.2 ? 300 : 0,
      streamed: random.float() < 0.2,
      jitter: [random.float(), random.float()],
      data: profile,
      acks: profile,
    },
  };
}

Deno.test("machines carry the file in every cell of the grid, with bounded traffic", () => {
  let unanswered = 0;
  // By loss and window: packets sent, and the most that may be.
  const sums = new Map<string, [sent: number, most: number]>();
  const seeds = forSeeds(FILE, 1, LONG ? 12_000 : 6000, (seed) => {
    const { scenario, loss, disturbed } = gridScenario(seed);
    const outcome = run(scenario);
    if (loss >= 0.2 && outcome.received?.outcome !== "done") {
      unanswered++;
      return;
    }
    assertComplete(outcome, scenario);
    const { windowSize, commitMs } = scenario;
    if (loss === 0 && !disturbed && commitMs === 0) {
      equal(outcome.sent?.outcome, "done");
      equal(outcome.dataPackets, outcome.blocks, "every block once");
      equal(outcome.received?.retransmits, 0);
      return;
    }
    // Each packet that the network touched may cost some windows; nothing costs more by itself. While a commit takes
    // 300 ms the last window is asked for again: a doubling timer does that six times.
    const events = outcome.lost + outcome.disturbed + 1 + (commitMs > 0 ? 3 : 0);
    ok(outcome.dataPackets <= outcome.blocks + 3 * windowSize * events, `${outcome.dataPackets}`);
    if (!disturbed && commitMs === 0 && loss > 0) {
      const key = `loss ${loss}, window ${windowSize}`;
      const sum = sums.get(key) ?? [0, 0];
      sums.set(key, sum);
      sum[0] += outcome.dataPackets;
      sum[1] += outcome.blocks * (1 + 3 * loss * windowSize);
    }
  });
  ok(unanswered <= Math.max(1, seeds / 1000), `${unanswered} of ${seeds} transfers gave up`);
  if (seeds > 1) {
    equal(sums.size, 18);
    for (const [key, [sent, most]] of sums) ok(sent <= most, `${key}: ${sent} of at most ${most}`);
  }
});

/** A small transfer in each of the ways one can begin. */
function eachOpening(windowSizes: readonly number[]): Scenario[] {
  const scenarios: Scenario[] = [];
  for (const sender of ["server", "client"] as const) {
    scenarios.push({ ...CLEAN, sender, options: false, windowSize: 1, sizeBytes: 3 * 512 + 7 });
    for (const windowSize of windowSizes) {
      scenarios.push({ ...CLEAN, sender, windowSize, sizeBytes: (2 * windowSize + 1) * 512 });
    }
  }
  return scenarios;
}

Deno.test("machines finish on both sides whichever single packet disappears", () => {
  let holes = 0;
  for (const scenario of eachOpening([1, 2, 4, 16])) {
    for (const reorder of [true, false]) {
      const clean = run(scenario);
      for (const side of ["data", "acks"] as const) {
        const packets = side === "data" ? clean.dataPackets + 1 : clean.ackPackets;
        for (let packet = 1; packet <= packets; packet++) {
          const outcome = run({
            ...scenario,
            reorder,
            [side]: { ...scenario[side], dropPacket: packet },
          });
          const where = `${scenario.sender}, window ${scenario.windowSize}, ${side} ${packet}`;
          equal(outcome.sent?.outcome, "done", where);
          assertComplete(outcome, scenario);
          ok(outcome.dataPackets <= clean.dataPackets + 2 * scenario.windowSize + 1, where);
          holes++;
        }
      }
    }
  }
  ok(holes > 300, `${holes} holes`);
});

Deno.test("one duplicated packet never costs more than one window", () => {
  for (const scenario of eachOpening([1, 2, 4, 16, 64])) {
    const long = { ...scenario, sizeBytes: 20 * scenario.windowSize * scenario.blockSize + 1 };
    const clean = run(long);
    for (const side of ["data", "acks"] as const) {
      for (let packet = 1; packet <= 24; packet++) {
        for (const duplicateDelayMs of [0, 4, 7.9, 9.9, 15, 40]) {
          const link = { ...long[side], duplicatePacket: packet, duplicateDelayMs };
          const outcome = run({ ...long, seed: packet, [side]: link });
          assertComplete(outcome, long);
          const where = `${long.sender}, window ${long.windowSize}, ${side} ${packet}`;
          ok(outcome.dataPackets <= clean.dataPackets + long.windowSize, where);
          ok(outcome.ackPackets <= clean.ackPackets + 3, where);
        }
      }
    }
  }
});

Deno.test("a network that doubles every packet does not make the machines double theirs", () => {
  for (const scenario of eachOpening([1, 4, 64])) {
    const long = { ...scenario, sizeBytes: 50 * scenario.windowSize * scenario.blockSize };
    for (const duplicateDelayMs of [0, 1, 8, 30]) {
      const link = { delayMs: 5, duplicateRate: 1, duplicateDelayMs };
      const outcome = run({ ...long, data: link, acks: link });
      assertComplete(outcome, long);
      equal(outcome.sent?.outcome, "done");
      ok(
        outcome.dataPackets <= 1.2 * outcome.blocks + long.windowSize,
        `${outcome.dataPackets} of ${outcome.blocks}, window ${long.windowSize}, ${duplicateDelayMs} ms`,
      );
    }
  }
});

const PROFILES: Readonly<Record<string, LinkProfile>> = {
  "bursts of loss": { delayMs: 3, burst: { enter: 0.02, leave: 0.5, lossRate: 0.8 } },
  "reordering within a window": { delayMs: 2, reorderRate: 0.3, reorderDelayMs: 1 },
  "reordering over round trips": { delayMs: 2, reorderRate: 0.2, reorderDelayMs: 20 },
  "jitter larger than the timeout": { delayMs: 1, jitterMs: 120 },
  "corruption that a checksum sees": { delayMs: 3, corruptRate: 0.05 },
  "a slow line with a queue": { delayMs: 20, bytesPerMs: 50, lossRate: 0.01 },
};

Deno.test("machines carry the file through every profile of trouble", () => {
  const names = Object.keys(PROFILES);
  let unanswered = 0;
  const seeds = forSeeds(FILE, 100_000, 1800, (seed) => {
    const profile = PROFILES[names[seed % names.length]!]!;
    const random = seededRandom(seed);
    const windowSize = WINDOWS[random.u32() % 5]!;
    const scenario: Scenario = {
      ...CLEAN,
      seed,
      sender: random.u32() % 2 === 0 ? "server" : "client",
      windowSize,
      sizeBytes: random.u32() % 40_000,
      reorder: random.u32() % 2 === 0,
      pacing: random.u32() % 2 === 0,
      streamed: random.u32() % 3 === 0,
      jitter: [random.float(), random.float()],
      data: profile,
      acks: profile,
    };
    const outcome = run(scenario);
    // A burst that swallows every repetition of one packet is a network that is not there.
    if (profile.burst !== undefined && outcome.received?.outcome !== "done") {
      unanswered++;
      return;
    }
    assertComplete(outcome, scenario);
    ok(
      outcome.dataPackets <= (6 + windowSize) * (outcome.blocks + 2),
      `${outcome.dataPackets} of ${outcome.blocks}`,
    );
  });
  ok(unanswered <= Math.max(1, seeds / 100), `${unanswered} of ${seeds} transfers gave up`);
});

Deno.test("machines stop by themselves when the other side dies after any packet", () => {
  for (const scenario of eachOpening([1, 4])) {
    const clean = run(scenario);
    for (let packets = 0; packets <= clean.dataPackets; packets++) {
      const dead = { delayMs: 5, dieAfter: packets };
      for (const acks of [dead, CLEAN.acks]) {
        const outcome = run({ ...scenario, data: dead, acks });
        ok(outcome.nowMs < 130_000, `${outcome.nowMs} ms`);
        if (outcome.received?.outcome === "done") equal(outcome.delivered, outcome.blocks);
        if (outcome.sent?.outcome === "done") equal(outcome.delivered, outcome.blocks);
        ok(outcome.dataPackets <= clean.dataPackets + 25 * scenario.windowSize);
      }
    }
  }
});

Deno.test("machines give up when no block fits the path", () => {
  const outcome = run({ ...CLEAN, data: { delayMs: 5, mtuBytes: 500 } });
  equal(outcome.sent?.outcome, "no-answer");
  equal(outcome.delivered, 0);
  ok(outcome.dataPackets <= 20 * CLEAN.windowSize);
});

Deno.test("machines carry more than 65,535 blocks, whatever follows that number", () => {
  forSeeds(FILE, 200_000, 16, (seed) => {
    const windowSize = [1, 16, 64, 1000][seed % 4]!;
    const rollover = (seed >> 2) % 2 as 0 | 1;
    const client = (seed >> 3) % 2 === 1;
    const profile = { delayMs: 1, lossRate: seed % 3 === 0 ? 0.002 : 0 };
    const scenario: Scenario = {
      ...CLEAN,
      seed,
      sender: client ? "client" : "server",
      blockSize: 8,
      windowSize,
      rollover,
      // A server that rolls to 1 without having been asked is found out.
      believedRollover: client ? rollover : "auto",
      sizeBytes: 8 * (65_535 + 1 + seed % 5 + 2 * windowSize) + 3,
      data: profile,
      acks: profile,
    };
    const outcome = run(scenario);
    assertComplete(outcome, scenario);
    equal(outcome.sent?.outcome, "done");
    // Finding out costs a window or two, once.
    const most = outcome.blocks + 3 * windowSize * (outcome.lost + 2);
    ok(outcome.dataPackets <= most, `${outcome.dataPackets} of at most ${most}`);
  });
});

Deno.test("a block lost where numbers roll over is not mistaken for another rollover", () => {
  for (const windowSize of [1, 3, 5, 64]) {
    for (const rollover of [0, 1] as const) {
      for (const packet of [65_536, 65_537, 65_538]) {
        // Behind the options acknowledgement: the 65,535th block, and the two after it.
        const scenario: Scenario = {
          ...CLEAN,
          blockSize: 8,
          windowSize,
          rollover,
          believedRollover: "auto",
          sizeBytes: 8 * (65_535 + 3 * windowSize) + 1,
          data: { delayMs: 1, dropPacket: packet },
          acks: { delayMs: 1 },
        };
        const outcome = run(scenario);
        assertComplete(outcome, scenario);
        equal(outcome.sent?.outcome, "done");
      }
    }
  }
});

Deno.test("machines carry more than 131,070 blocks at one block a window", () => {
  for (const rollover of [0, 1] as const) {
    const scenario: Scenario = {
      ...CLEAN,
      blockSize: 8,
      windowSize: 1,
      rollover,
      believedRollover: "auto",
      sizeBytes: 8 * 131_080,
    };
    const outcome = run(scenario);
    assertComplete(outcome, scenario);
    equal(outcome.dataPackets, outcome.blocks);
  }
});

Deno.test("a window of a hundred round trips keeps the line busy", () => {
  // 50 ms of round trip, window 64, no loss: a window a round trip, and nothing in between.
  const link = { delayMs: 25 };
  const scenario = {
    ...CLEAN,
    windowSize: 64,
    sizeBytes: 100 * 64 * 512 - 1,
    data: link,
    acks: link,
  };
  const outcome = run(scenario);
  assertComplete(outcome, scenario);
  ok(outcome.nowMs - 1000 - 102 * 50 < 200, `${outcome.nowMs} ms with the dally of a second`);
});

Deno.test("a first answer that was lost does not set the pace of what follows", () => {
  // The answer that comes is the second one, just before the request would have been repeated: it looks like a round
  // trip of a second.
  for (const sender of ["server", "client"] as const) {
    for (const windowSize of [1, 16, 64]) {
      for (const pacing of [true, false]) {
        const scenario: Scenario = {
          ...CLEAN,
          sender,
          windowSize,
          pacing,
          blockSize: 1428,
          sizeBytes: windowSize === 1 ? 30_000 : 1_000_003,
          jitter: sender === "server" ? [0, 0.999] : [0.999, 0],
          data: { delayMs: 10, lossRate: 0.05, reorderRate: 0.05, reorderDelayMs: 5 },
          acks: { delayMs: 10 },
        };
        const times: number[] = [];
        for (let seed = 1; seed <= 20; seed++) {
          const first = sender === "server" ? "data" : "acks";
          const outcome = run({
            ...scenario,
            seed,
            [first]: { ...scenario[first], dropPacket: 1 },
          });
          assertComplete(outcome, scenario);
          times.push(outcome.receivedMs);
        }
        const where = `${sender}, window ${windowSize}, ${pacing ? "paced" : "at once"}`;
        times.sort((a, b) => a - b);
        // One second for the answer that was lost, and what the transfer takes without that.
        ok(times[10]! < 1000 + (windowSize === 16 ? 2600 : 1100), `${where}: ${times[10]} ms`);
        ok(times[19]! < 1000 + (windowSize === 16 ? 4000 : 2500), `${where}: ${times[19]} ms`);
      }
    }
  }
});

Deno.test("one percent of loss costs less than half of the rate at window 16", () => {
  const link = { delayMs: 5, lossRate: 0.01, bytesPerMs: 12_500 };
  let lossy = 0;
  let clean = 0;
  for (let seed = 1; seed <= 20; seed++) {
    const scenario = { ...CLEAN, seed, windowSize: 16, sizeBytes: 3_000_000 };
    const lossless = { ...link, lossRate: 0 };
    lossy += run({ ...scenario, data: link, acks: link }).nowMs - 1000;
    clean += run({ ...scenario, data: lossless, acks: lossless }).nowMs - 1000;
  }
  ok(clean / lossy >= 0.5, `${(100 * clean / lossy).toFixed(0)} % of the rate`);
});
