/**
 * Turns the counts of one test into its seconds and its end.
 *
 * @module
 */
import { type CpuSampler, cpuSampler } from "../ffi/mod.ts";
import type { EndReason, TestInterval, TestResult } from "./api_types.ts";
import { Flow, FLOW_COUNTERS, type FlowCounts } from "./flow.ts";
import type { AuthMethod } from "./protocol/mod.ts";

/** The load of this machine, looked at about once a second however many ask. */
export class CpuLoad {
  readonly #sampler: CpuSampler;
  #percent: number | undefined;
  #at: number;

  private constructor(sampler: CpuSampler, now: number) {
    this.#sampler = sampler;
    this.#at = now;
  }

  /** Begins to count. Never asks for a permission. @param now Monotonic milliseconds. */
  static async open(now: number): Promise<CpuLoad> {
    return new CpuLoad(await cpuSampler(), now);
  }

  /** Percent of all processors, 0 to 100, over the last half second or more; `undefined` when it cannot be known. */
  percent(now: number): number | undefined {
    // Tests that run at once end their seconds at different moments: one look serves all that come soon after it.
    if (this.#percent === undefined || now - this.#at >= LOOK_AFTER_MS) {
      this.#percent = this.#sampler.sample().busyPercent;
      this.#at = now;
    }
    return this.#percent;
  }

  /** Stops. */
  close(): void {
    this.#sampler.close();
  }
}

/** What a result has besides the counts. */
export interface ResultFacts {
  readonly auth: AuthMethod;
  readonly connections: number;
  readonly driver: "linux" | "deno" | "node";
  readonly workers: number;
  readonly reason: EndReason;
  readonly warnings: readonly string[];
}

/** The seconds of one test. */
export class Meter {
  readonly #counts: FlowCounts;
  readonly #cpu: CpuLoad;
  readonly #last: Float64Array = new Float64Array(FLOW_COUNTERS.length);
  #startedAt = 0;
  #lastAt = 0;
  #second = 0;
  #remoteCpu: number | undefined;
  #peerReceived: number | undefined;
  #peerTotal = 0;
  #localSum = 0;
  #localSeconds = 0;
  #remoteSum = 0;
  #remoteSeconds = 0;

  constructor(counts: FlowCounts, cpu: CpuLoad) {
    this.#counts = counts;
    this.#cpu = cpu;
  }

  /** Data flows from now on. */
  start(now: number): void {
    this.#startedAt = this.#lastAt = now;
  }

  /** Whether anything was measured since the last interval. */
  get open(): boolean {
    return FLOW_COUNTERS.some((name) => this.#counts[Flow[name]] !== this.#last[Flow[name]]);
  }

  /** The peer said something. */
  status(cpuPercent: number, receivedBytes: number): void {
    this.#remoteCpu = cpuPercent;
    this.#peerReceived = receivedBytes;
    this.#peerTotal += receivedBytes;
    this.#remoteSum += cpuPercent;
    this.#remoteSeconds++;
  }

  /** A second, or what is left of one at the end, is over. */
  interval(now: number): TestInterval {
    const counts = this.#counts;
    const last = this.#last;
    const localCpu = this.#cpu.percent(now);
    if (localCpu !== undefined) {
      this.#localSum += localCpu;
      this.#localSeconds++;
    }
    const since = (index: number): number => counts[index]! - last[index]!;
    const interval: TestInterval = Object.freeze({
      second: ++this.#second,
      elapsedMs: now - this.#startedAt,
      intervalMs: now - this.#lastAt,
      txBytes: since(Flow.txBytes),
      rxBytes: since(Flow.rxBytes),
      lost: since(Flow.lost),
      reordered: since(Flow.reordered),
      duplicates: since(Flow.duplicates),
      localDrops: since(Flow.localDrops),
      localCpu,
      remoteCpu: this.#remoteCpu,
      peerReceivedBytes: this.#peerReceived,
    });
    // By difference from what was told, so that seconds always add up to the total, whatever the data thread writes
    // meanwhile.
    last[Flow.txBytes]! += interval.txBytes;
    last[Flow.rxBytes]! += interval.rxBytes;
    last[Flow.lost]! += interval.lost;
    last[Flow.reordered]! += interval.reordered;
    last[Flow.duplicates]! += interval.duplicates;
    last[Flow.localDrops]! += interval.localDrops;
    last[Flow.txDatagrams] = counts[Flow.txDatagrams]!;
    last[Flow.rxDatagrams] = counts[Flow.rxDatagrams]!;
    this.#lastAt = now;
    return interval;
  }

  /** The test is over, and nothing is counted any more. */
  result(now: number, facts: ResultFacts): TestResult {
    const counts = this.#counts;
    const elapsedMs = Math.max(0, now - this.#startedAt);
    const rate = (bytes: number): number => elapsedMs > 0 ? bytes * 8000 / elapsedMs : 0;
    const txBytes = counts[Flow.txBytes]!;
    const rxBytes = counts[Flow.rxBytes]!;
    return Object.freeze({
      txBytes,
      rxBytes,
      txBps: rate(txBytes),
      rxBps: rate(rxBytes),
      peerReceivedBytes: this.#peerTotal,
      lost: counts[Flow.lost]!,
      reordered: counts[Flow.reordered]!,
      duplicates: counts[Flow.duplicates]!,
      localDrops: counts[Flow.localDrops]!,
      datagramsReceived: counts[Flow.rxDatagrams]!,
      datagramsSent: counts[Flow.txDatagrams]!,
      elapsedMs,
      localCpu: this.#localSeconds > 0 ? this.#localSum / this.#localSeconds : undefined,
      remoteCpu: this.#remoteSeconds > 0 ? this.#remoteSum / this.#remoteSeconds : undefined,
      ...facts,
      warnings: Object.freeze([...facts.warnings]),
    });
  }
}

/** What is told of connections that did not last as long as their test. */
export function closedEarly(connections: number): string {
  return connections === 1
    ? "A connection of the test was closed early"
    : `${connections} connections of the test were closed early`;
}

/** A look at the processors' clocks serves for this long, milliseconds. */
const LOOK_AFTER_MS = 500;
