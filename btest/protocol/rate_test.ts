import { equal, ok, throws } from "node:assert/strict";
import { seededRandom } from "../../internal/random.ts";
import { FairShare, pacedWriteBytes, RateController, SendPacer, UDP_FIRST_GROWTH } from "./rate.ts";

/** Packets that a paced sender sends, woken when it asks for it, up to `lateMs` late. */
function sent(pacer: SendPacer, durationMs: number, lateMs: number, seed = 1): number {
  const random = seededRandom(seed);
  let packets = 0;
  for (let now = 0; now < durationMs;) {
    packets += pacer.take(now, 44);
    now = Math.max(now, pacer.readyAt) + random.float() * lateMs;
  }
  return packets;
}

Deno.test("SendPacer keeps every rate within one percent over five seconds, with late timers", () => {
  for (const bps of [64_000, 1e6, 1e7, 1e8, 1e9, 5e9]) {
    for (const lateMs of [0, 0.01, 2]) {
      const pacer = new SendPacer(bps, 1500);
      // What a late timer finds due must fit the calls it can make.
      if (bps * lateMs / 1000 > 44 * 12_000) continue;
      const rate = (sent(pacer, 5000, lateMs) - 1) * 12_000 / 5;
      ok(Math.abs(rate / bps - 1) < 0.01 + 12_000 / (5 * bps), `${bps} bit/s: ${rate}`);
    }
  }
});

Deno.test("SendPacer forgives what is more than 10 ms behind", () => {
  const pacer = new SendPacer(12_000_000, 1500);
  pacer.take(0, 1);
  equal(pacer.take(1000, 1000), 12);
  equal(pacer.take(1000.5, 1000), 0);
});

Deno.test("SendPacer sends at most what the caller can, and what it could not again", () => {
  const pacer = new SendPacer(12_000_000, 1500);
  equal(pacer.take(0, 1), 1);
  equal(pacer.take(8, 4), 4);
  equal(pacer.take(8, 44), 5);
  pacer.giveBack(3);
  equal(pacer.take(8, 44), 3);
});

Deno.test("SendPacer sends one packet a second when UDP asks for less than two", () => {
  const pacer = new SendPacer(300, 1000, true);
  equal(pacer.intervalMs, 1000);
  equal(sent(pacer, 10_000, 0), 10);
  equal(new SendPacer(16_001, 1000, true).intervalMs < 500, true);
  // A block of TCP waits as long as it takes.
  equal(new SendPacer(300, 1000).intervalMs, 1000 * 8000 / 300);
});

Deno.test("SendPacer without a limit lets everything go", () => {
  const pacer = new SendPacer(Infinity, 1500);
  equal(pacer.take(0, 44), 44);
  equal(pacer.readyAt, -Infinity);
  pacer.setRate(12_000_000);
  equal(pacer.take(5, 1), 1);
  ok(pacer.readyAt > 5);
});

Deno.test("SendPacer takes a raise at once", () => {
  const pacer = new SendPacer(1, 1500);
  pacer.take(0, 1);
  pacer.setRate(12_000_000);
  ok(pacer.readyAt <= 1.001, `${pacer.readyAt}`);
  throws(() => pacer.setRate(0), RangeError);
  throws(() => new SendPacer(1, 0), RangeError);
});

Deno.test("pacedWriteBytes() writes the asked size, or 20 ms worth of a slow rate", () => {
  equal(pacedWriteBytes(32768, Infinity), 32768);
  equal(pacedWriteBytes(32768, 1e9), 32768);
  equal(pacedWriteBytes(32768, 1e6), 2500);
  equal(pacedWriteBytes(32768, 1), 1);
});

/** Seconds of an unlimited sender over a path: what arrived in each, bit/s. */
function climb(pathBps: number, seconds: number, sender = Infinity, silent = -1): number[] {
  const rate = new RateController();
  const arrived: number[] = [];
  for (let second = 0; second < seconds; second++) {
    const sentBps = Math.min(rate.targetBps, sender);
    const received = Math.min(sentBps, pathBps);
    arrived.push(received);
    const report = second === silent ? 0 : Math.min(0xffff_ffff, received / 8);
    rate.report(report, sentBps / 8);
  }
  return arrived;
}

Deno.test("RateController reaches 90 % of any plateau within four seconds and stays above half of it", () => {
  for (const path of [3e7, 1e8, 1e9, 2.5e9, 1e10, 2e10, 2.5e10]) {
    for (const silent of [-1, 6, 9]) {
      const arrived = climb(path, 30, Infinity, silent);
      for (let second = 3; second < arrived.length; second++) {
        const least = second === 3 ? 0.9 : 0.5;
        ok(arrived[second]! >= path * least, `${path} bit/s, second ${second}: ${arrived[second]}`);
      }
    }
  }
});

Deno.test("RateController overshoots a path it knows by a quarter only", () => {
  const rate = new RateController();
  rate.report(6_250_000, 6_250_000);
  rate.report(12_500_000, 50_000_000);
  for (let i = 0; i < 5; i++) {
    equal(rate.targetBps, 125_000_000);
    rate.report(12_500_000, 15_625_000);
  }
});

Deno.test("RateController doubles when a path that lost something has room again", () => {
  const rate = new RateController();
  rate.report(6_250_000, 12_500_000);
  equal(rate.targetBps, 62_500_000);
  rate.report(7_800_000, 7_812_500);
  equal(rate.targetBps, 125_000_000);
});

Deno.test("RateController does not lower for one report of nothing, and falls to its start after three", () => {
  const rate = new RateController();
  rate.report(6_250_000, 6_250_000);
  rate.report(25_000_000, 50_000_000);
  equal(rate.targetBps, 250_000_000);
  rate.report(0, 31_250_000);
  equal(rate.targetBps, 250_000_000);
  rate.report(0, 31_250_000);
  rate.report(0, 31_250_000);
  equal(rate.targetBps, 50_000_000);
  // Nor does one end the climb.
  const climbing = new RateController();
  climbing.report(6_250_000, 6_250_000);
  climbing.report(0, 50_000_000);
  equal(climbing.targetBps, 600_000_000);
});

Deno.test("RateController does not run away from a sender that is the limit, and reads saturation as enough", () => {
  const rate = new RateController();
  for (let i = 0; i < 60; i++) {
    const sentBytes = Math.min(rate.targetBps, 4e9) / 8;
    rate.report(sentBytes, sentBytes);
  }
  ok(rate.targetBps <= 4e9 * 2 * UDP_FIRST_GROWTH, `${rate.targetBps}`);
  const wide = new RateController(5e10);
  wide.report(0xffff_ffff, 6.25e9);
  equal(wide.targetBps, 5e10 * UDP_FIRST_GROWTH);
});

Deno.test("FairShare holds back only while the peer's data starves, and by what it reported", () => {
  const fair = new FairShare();
  fair.second(1000);
  fair.report(5000);
  fair.second(100);
  equal(fair.limitBps, Infinity);
  fair.report(4000);
  fair.second(100);
  equal(fair.limitBps, 4000 * 8 * 1.5);
  fair.second(500);
  equal(fair.limitBps, Infinity);
  fair.report(0xffff_ffff);
  fair.second(100);
  equal(fair.limitBps, Infinity);
});
