/**
 * What the kernel was asked and has not answered: at most one dump, and questions about single neighbors and links, at
 * most 64 at a time. An answer is known by its sequence number; one that nobody waits for any more has none.
 *
 * @module
 */

import type { KernelView } from "./kernel_view.ts";
import { ENTRY_CANDIDATE } from "./neighbor_table.ts";
import { writeLinkDump, writeLinkGet, writeNeighborDump, writeNeighborGet } from "./netlink.ts";
import type { ResyncActions } from "./resync_actions.ts";

/** Questions that may be unanswered at a time: their answers fit the smallest receive buffer. */
export const MAX_OUTSTANDING = 64;
/** Bytes a question needs at most. */
const REQUEST_BYTES = 64;

/** Requests on their way. */
export class KernelQuestions {
  /** Requests sent. */
  sent = 0;
  /** When the kernel should have said something, monotonic milliseconds; `Infinity` when nothing is asked. */
  answerBy: number = Infinity;

  readonly #kernel: KernelView;
  readonly #timeoutMs: number;
  readonly #bytes: Uint8Array<ArrayBuffer> = new Uint8Array(REQUEST_BYTES * MAX_OUTSTANDING);
  readonly #view = new DataView(this.#bytes.buffer);
  #sequence = 0;
  #dump = 0;
  /** Next slot to look at for candidates. */
  #cursor = 0;
  /** Questions about neighbors: sequence number to slot. */
  readonly #slots = new Map<number, number>();
  /** Questions about links, both ways. */
  readonly #links = new Map<number, number>();
  readonly #asked = new Map<number, number>();

  /**
   * Nothing is asked yet.
   *
   * @param kernel Knows what is to be asked: candidates, and links that are wanted.
   * @param timeoutMs Silence after which an answer is believed to be lost.
   */
  constructor(kernel: KernelView, timeoutMs: number) {
    this.#kernel = kernel;
    this.#timeoutMs = timeoutMs;
  }

  /** A dump runs. */
  get dumping(): boolean {
    return this.#dump !== 0;
  }

  /** Nothing about links is asked or wanted. */
  get linksKnown(): boolean {
    return this.#links.size === 0 && this.#kernel.wantedLinks.size === 0;
  }

  /** Asks for all links. */
  dumpLinks(now: number, actions: ResyncActions): void {
    this.#dump = this.#next();
    this.#send(writeLinkDump(this.#view, 0, this.#dump), 1, now, actions);
  }

  /** Asks for all neighbors. @param family `AF_INET`, `AF_INET6` or 0 for both. */
  dumpNeighbors(family: number, now: number, actions: ResyncActions): void {
    this.#dump = this.#next();
    const end = writeNeighborDump(this.#view, 0, { sequence: this.#dump, family });
    this.#send(end, 1, now, actions);
  }

  /** Whether this number is the dump's, which then is not silent. */
  isDump(sequence: number, now: number): boolean {
    if (sequence === 0 || sequence !== this.#dump) return false;
    this.answerBy = now + this.#timeoutMs;
    return true;
  }

  /** The dump has ended. */
  dumpEnded(): void {
    this.#dump = 0;
    this.#rest();
  }

  /** Candidates are to be looked for from this slot on, if they were not before. */
  rewind(slot: number): void {
    if (slot < this.#cursor) this.#cursor = slot;
  }

  /** Asks as much as there is to ask and room for. @param verifying About candidates, too. */
  ask(verifying: boolean, now: number, actions: ResyncActions): void {
    const { table, wantedLinks } = this.#kernel;
    let end = 0, requests = 0;
    for (const ifindex of wantedLinks) {
      if (this.#slots.size + this.#links.size >= MAX_OUTSTANDING) break;
      wantedLinks.delete(ifindex);
      if (this.#asked.has(ifindex)) continue;
      const sequence = this.#next();
      end = writeLinkGet(this.#view, end, sequence, ifindex);
      this.#links.set(sequence, ifindex);
      this.#asked.set(ifindex, sequence);
      requests++;
    }
    while (verifying && this.#cursor < table.end) {
      if (this.#slots.size + this.#links.size >= MAX_OUTSTANDING) break;
      const slot = this.#cursor++;
      if (!table.isLive(slot) || (table.marks[slot]! & ENTRY_CANDIDATE) === 0) continue;
      const { words, ifindex, family } = table;
      const base = slot << 2;
      const sequence = this.#next();
      end = writeNeighborGet(
        this.#view,
        end,
        sequence,
        ifindex[slot]!,
        family[slot]!,
        words[base]!,
        words[base + 1]!,
        words[base + 2]!,
        words[base + 3]!,
      );
      this.#slots.set(sequence, slot);
      requests++;
    }
    if (requests > 0) this.#send(end, requests, now, actions);
  }

  /** The slot a number was asked about, which is answered by that; -1 for another number. */
  takeSlot(sequence: number, now: number): number {
    const slot = this.#slots.get(sequence);
    if (slot === undefined) return -1;
    this.#slots.delete(sequence);
    this.answerBy = now + this.#timeoutMs;
    this.#rest();
    return slot;
  }

  /** The interface index a number was asked about, which is answered by that; 0 for another number. */
  takeLink(sequence: number, now: number): number {
    const ifindex = this.#links.get(sequence);
    if (ifindex === undefined) return 0;
    this.answerBy = now + this.#timeoutMs;
    this.cancelLink(ifindex);
    return ifindex;
  }

  /** Nobody wants to know about this link any more: an answer that is on its way may be old. */
  cancelLink(ifindex: number): void {
    this.#kernel.wantedLinks.delete(ifindex);
    const sequence = this.#asked.get(ifindex);
    if (sequence === undefined) return;
    this.#asked.delete(ifindex);
    this.#links.delete(sequence);
    this.#rest();
  }

  /** No answer about a neighbor is waited for any more. */
  cancelNeighbors(): void {
    this.#slots.clear();
    this.#cursor = 0;
    this.#rest();
  }

  /** Every answer is believed to be lost; what was asked is wanted again. @returns Whether a dump was among it. */
  restart(): boolean {
    const dumping = this.dumping;
    for (const ifindex of this.#links.values()) this.#kernel.wantedLinks.add(ifindex);
    this.#links.clear();
    this.#asked.clear();
    this.#dump = 0;
    this.cancelNeighbors();
    return dumping;
  }

  #next(): number {
    this.#sequence = this.#sequence % 0xffff_ffff + 1;
    return this.#sequence;
  }

  #send(end: number, requests: number, now: number, actions: ResyncActions): void {
    this.sent += requests;
    this.answerBy = now + this.#timeoutMs;
    actions.query(this.#bytes, 0, end);
  }

  #rest(): void {
    if (this.#dump === 0 && this.#slots.size + this.#links.size === 0) this.answerBy = Infinity;
  }
}
