/**
 * Refills the kernel's neighbor tables from the published one after the whole switch was restarted warm.
 *
 * @module
 */

import {
  type NetlinkHost,
  type NetlinkSocket,
  openNetlinkHost,
  openPacketSender,
  type PacketSender,
  RTNLGRP_LINK,
} from "../ffi/mod.ts";
import { CapabilityError, SystemError } from "../internal/errors.ts";
import { logger } from "../internal/log.ts";
import { type Clock, systemClock } from "../internal/time/clock.ts";
import { RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR } from "./protocol/interface_address.ts";
import {
  type RestoreActions,
  type RestoreCounts,
  type RestoreEntry,
  RestoreMachine,
  type RestorePlanOptions,
} from "./protocol/restore_machine.ts";
import { effectiveTable, type Sink } from "./sink.ts";
import type { WarmRestartStore } from "./warm_restart_store.ts";

export type { RestoreCounts } from "./protocol/restore_machine.ts";

const log = logger("neighsync", "restore");

/** What is asked of the warm-restart tables. */
export type RestoreStore = Pick<WarmRestartStore, "readScope" | "readMembers" | "markRestored">;

/** How to restore. */
export interface RestoreOptions extends RestorePlanOptions {
  /** Where the published table is; connected, or about to be. */
  readonly sink: Pick<Sink, "readAll">;
  /** The warm-restart tables; connected, or about to be. */
  readonly store: RestoreStore;
  /** Say what would be restored, and touch nothing. Default false. */
  readonly dryRun?: boolean;
  /** Restore whatever the warm-restart tables say, and leave them alone. Default false. */
  readonly always?: boolean;
  /** Ask the restored neighbors to show themselves, where CAP_NET_RAW allows it. Default true. */
  readonly probe?: boolean;
  /** File of the network namespace; default that of the process. */
  readonly namespace?: string;
  /** Gives up: rejects with `signal.reason`. What is written stays. */
  readonly signal?: AbortSignal;
  /** Whose time counts. */
  readonly clock?: Clock;
}

/** What became of it. */
export interface RestoreResult extends RestoreCounts {
  /**
   * `nothing-to-do`: no warm restart. `flagged`: only the container restarted, the kernel kept its table. `planned`: a dry
   * run. `restored`: every interface was ready. `timed-out`: some never were; the daemon goes on without them.
   */
  readonly outcome: "nothing-to-do" | "flagged" | "planned" | "restored" | "timed-out";
  /** Why no questions were sent, one sentence; empty when they could be. */
  readonly probeRefusal: string;
}

const NOTHING: RestoreCounts = Object.freeze({
  entries: 0,
  written: 0,
  existing: 0,
  failed: 0,
  lastErrno: 0,
  skipped: 0,
  probes: 0,
  interfaces: 0,
  waiting: Object.freeze([]),
  elapsedMs: 0,
});

/**
 * Writes the published neighbors into the kernel as STALE, each interface as soon as it has a carrier and an address, asks
 * them to show themselves, and sets the flag the daemon waits for; the flag also when the time is over.
 *
 * @throws {CapabilityError} Without native calls.
 * @throws {SystemError} Without CAP_NET_ADMIN (`EPERM`); the flag is not set then either.
 * @throws {FastwireError} With a `redis.…` code when the table cannot be read; the flag is not set then.
 */
export async function restoreNeighbors(options: RestoreOptions): Promise<RestoreResult> {
  const { sink, store, signal } = options;
  signal?.throwIfAborted();
  const { system, docker } = options.always === true
    ? { system: true, docker: false }
    : await store.readScope();
  if (!system && !docker) return result("nothing-to-do", NOTHING);
  if (!system) {
    if (options.dryRun !== true) await store.markRestored();
    return result("flagged", NOTHING);
  }
  const entries: RestoreEntry[] = [];
  for (const [key, { mac }] of effectiveTable(await sink.readAll())) entries.push({ key, mac });
  signal?.throwIfAborted();
  if (options.dryRun === true) {
    const interfaces = new Set(entries.map(({ key }) => key.slice(0, key.indexOf(":")))).size;
    return result("planned", { ...NOTHING, entries: entries.length, interfaces });
  }
  const restored = await new Restoration(options).run(entries);
  if (restored.lastErrno === EPERM && restored.written + restored.existing === 0) {
    throw new SystemError(
      "system.not-permitted",
      "Cannot write neighbors: operation not permitted (EPERM), expected CAP_NET_ADMIN",
      { syscall: "sendto", errno: EPERM, errnoName: "EPERM" },
    );
  }
  if (options.always !== true) await store.markRestored();
  const { outcome, written, existing, failed, waiting, elapsedMs } = restored;
  log.info(
    "restored {written} neighbors in {elapsedMs} ms, {existing} were there, {failed} refused",
    {
      event: "neighsync.neighbors-restored",
      outcome,
      written,
      existing,
      failed,
      elapsedMs,
      waiting,
    },
  );
  return restored;
}

function result(
  outcome: RestoreResult["outcome"],
  counts: RestoreCounts,
  probeRefusal = "",
): RestoreResult {
  return Object.freeze({ outcome, ...counts, probeRefusal });
}

/** Drives the machine: one netlink socket for events, questions and writes, one packet socket. */
class Restoration implements RestoreActions {
  readonly #options: RestoreOptions;
  readonly #clock: Clock;
  readonly #machine: RestoreMachine;
  #socket: NetlinkSocket | undefined;
  #packets: PacketSender | undefined;
  #probeRefusal = "";
  #timer: ReturnType<typeof setTimeout> | undefined;
  #working = false;
  #settle: { resolve(result: RestoreResult): void; reject(error: unknown): void } | undefined;

  constructor(options: RestoreOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#machine = new RestoreMachine(options);
  }

  async run(entries: readonly RestoreEntry[]): Promise<RestoreResult> {
    const { signal } = this.#options;
    const host = await openNetlinkHost({ driver: "fast" });
    const aborted = (): void => this.#settle?.reject(signal!.reason);
    try {
      await this.#openProbes();
      this.#socket = await this.#open(host);
      const finished = new Promise<RestoreResult>((resolve, reject) => {
        this.#settle = { resolve, reject };
      });
      signal?.addEventListener("abort", aborted);
      signal?.throwIfAborted();
      this.#machine.start(entries, this.#clock.now(), this);
      this.#work();
      return await finished;
    } finally {
      signal?.removeEventListener("abort", aborted);
      clearTimeout(this.#timer);
      this.#settle = undefined;
      this.#packets?.close();
      await host.close();
    }
  }

  request(bytes: Uint8Array<ArrayBuffer>): void {
    this.#socket!.send(bytes);
  }

  probe(
    bytes: Uint8Array<ArrayBuffer>,
    ifindex: number,
    etherType: number,
    destination: Uint8Array,
  ): void {
    this.#packets?.send(bytes, ifindex, etherType, destination);
  }

  askMembers(names: readonly string[]): void {
    this.#options.store.readMembers(names).catch((error) => {
      log.warning("cannot read members of VLANs and port channels: {error}", {
        event: "neighsync.members-unread",
        error: String(error),
      });
      return new Set<string>();
    }).then((members) => {
      this.#machine.members(members, this.#clock.now());
      this.#work();
    });
  }

  finish(timedOut: boolean, counts: RestoreCounts): void {
    const probes = this.#packets === undefined ? 0 : counts.probes - this.#packets.refused;
    const outcome = timedOut ? "timed-out" : "restored";
    this.#settle?.resolve(result(outcome, { ...counts, probes }, this.#probeRefusal));
  }

  #open(host: NetlinkHost): Promise<NetlinkSocket> {
    const { namespace } = this.#options;
    const machine = this.#machine;
    return host.open({
      groups: [RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR],
      receiveBufferBytes: RECEIVE_BUFFER_BYTES,
      // A part of a dump has up to 32 KiB.
      slotBytes: 65_536,
      slots: 16,
      ...(namespace === undefined ? {} : { namespace }),
      consumer: {
        datagram: (view, start, end) => machine.receive(view, start, end, this.#clock.now()),
        lost: () => machine.lost(this.#clock.now()),
        // Not from here: what it sends is answered at once, and the answers are read by another turn.
        turned: () => queueMicrotask(() => this.#work()),
        failed: (error) => this.#settle?.reject(error),
      },
    });
  }

  async #openProbes(): Promise<void> {
    if (this.#options.probe === false) return;
    const { namespace } = this.#options;
    try {
      this.#packets = await openPacketSender(namespace === undefined ? {} : { namespace });
    } catch (error) {
      if (!(error instanceof SystemError || error instanceof CapabilityError)) throw error;
      // They turn REACHABLE when they are first used instead of now.
      this.#probeRefusal = error.message;
      log.warning("neighbors are restored without asking for them: {reason}", {
        event: "neighsync.probes-refused",
        reason: error.message,
      });
    }
  }

  /** Lets the machine do what it can; the answers to each request are read before the next. */
  #work(): void {
    const machine = this.#machine;
    // Reading takes a turn, whose end comes here again.
    if (this.#working || machine.finished || this.#settle === undefined) return;
    this.#working = true;
    clearTimeout(this.#timer);
    try {
      while (machine.work(this.#clock.now(), this)) this.#socket!.drain();
    } catch (error) {
      this.#settle.reject(error);
      return;
    } finally {
      this.#working = false;
    }
    if (machine.finished) return;
    const waitMs = Math.max(0, machine.deadline - this.#clock.now());
    this.#timer = setTimeout(() => this.#work(), Math.min(waitMs, 60_000));
  }
}

const EPERM = 1;
/** About 2,000 answers or link events; more is asked again. */
const RECEIVE_BUFFER_BYTES = 4 << 20;
