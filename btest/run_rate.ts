/**
 * How fast one side of a running test may send: its cap, and what the peer's reports make of it.
 *
 * @module
 */
import { Flow, type FlowCounts } from "./flow.ts";
import { FairShare, RateController, type TestPlan, type TestProtocol } from "./protocol/mod.ts";

/** The rate of one sender. */
export class RunRate {
  readonly #capBps: number;
  readonly #counts: FlowCounts;
  readonly #controller: RateController | undefined;
  readonly #fair: FairShare | undefined;
  #sentAtReport = 0;
  #receivedAtSecond = 0;

  /**
   * @param capBps Cap on what this side sends, bit/s; 0 for none.
   * @param fairBoth Leave room in a TCP test in both directions.
   * @param startBps Where an unlimited UDP sender begins, bit/s.
   */
  constructor(
    protocol: TestProtocol,
    plan: TestPlan,
    capBps: number,
    fairBoth: boolean,
    startBps: number,
    counts: FlowCounts,
  ) {
    this.#capBps = capBps > 0 ? capBps : Infinity;
    this.#counts = counts;
    if (protocol === "udp" && capBps === 0) this.#controller = new RateController(startBps);
    const both = plan.clientSends && plan.serverSends;
    if (protocol === "tcp" && both && fairBoth) this.#fair = new FairShare();
  }

  /** What to send now, bit/s; `Infinity` for no limit. */
  get bps(): number {
    const wanted = this.#controller?.targetBps ?? this.#fair?.limitBps ?? Infinity;
    return Math.min(this.#capBps, wanted);
  }

  /** The peer said what it received in its last second. */
  report(receivedBytes: number): void {
    const sent = this.#counts[Flow.txBytes]!;
    this.#controller?.report(receivedBytes, sent - this.#sentAtReport);
    this.#sentAtReport = sent;
    this.#fair?.report(receivedBytes);
  }

  /** A second of ours is over. */
  second(): void {
    const received = this.#counts[Flow.rxBytes]!;
    this.#fair?.second(received - this.#receivedAtSecond);
    this.#receivedAtSecond = received;
  }
}
