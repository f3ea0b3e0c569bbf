/**
 * A bad network as a value: packets go in with a time and come out later, twice, changed, or not at all. Everything is
 * decided by a seed; nothing waits.
 *
 * @module
 */

import type { Random } from "../random.ts";

/** What a link does to packets. Rates are probabilities, 0 to 1; times are milliseconds. */
export interface LinkProfile {
  /** One-way delay. */
  readonly delayMs: number;
  /** Added to the delay, evenly from 0 to this; packets overtake each other when it exceeds their spacing. */
  readonly jitterMs?: number;
  /** Whether jitter keeps the order of packets. */
  readonly ordered?: boolean;
  /** Packets lost at random. */
  readonly lossRate?: number;
  /** Losses in bursts (Gilbert and Elliott): chance to fall into the bad state, to leave it, and of loss in it. */
  readonly burst?: { readonly enter: number; readonly leave: number; readonly lossRate: number };
  /** Packets that come twice. */
  readonly duplicateRate?: number;
  /** How much later the second copy may come, evenly from 0. Default: the delay. */
  readonly duplicateDelayMs?: number;
  /** Packets that are held back. */
  readonly reorderRate?: number;
  /** For how long those are held back, evenly from 0. Default: the delay. */
  readonly reorderDelayMs?: number;
  /** Packets one byte of which changes. */
  readonly corruptRate?: number;
  /** Packets larger than this disappear. */
  readonly mtuBytes?: number;
  /** Serialisation: bytes a millisecond; packets queue behind each other. */
  readonly bytesPerMs?: number;
  /** The packet of this number, counted from 1, disappears. */
  readonly dropPacket?: number;
  /** The packet of this number, counted from 1, comes twice. */
  readonly duplicatePacket?: number;
  /** Every packet after this many disappears: the other side has died. */
  readonly dieAfter?: number;
}

/** One direction of a network. */
export class VirtualLink<Packet> {
  /** Packets that were put in. */
  sent = 0;
  /** Bytes that were put in. */
  sentBytes = 0;
  /** Packets that came out, copies included. */
  delivered = 0;
  /** Packets that came twice or were held back. */
  disturbed = 0;
  /** Packets that disappeared. */
  lost = 0;

  readonly #profile: LinkProfile;
  readonly #random: Random;
  readonly #corrupt: ((packet: Packet, random: Random) => Packet | undefined) | undefined;
  // A heap as three arrays: time, tie-breaking order, packet.
  readonly #times: number[] = [];
  readonly #orders: number[] = [];
  readonly #packets: Packet[] = [];
  #order = 0;
  #bad = false;
  #freeAt = 0;
  #lastOut = 0;

  /**
   * @param corrupt Makes the changed packet; undefined when a checksum would have caught it. Without it changed packets
   * are lost.
   */
  constructor(
    profile: LinkProfile,
    random: Random,
    corrupt?: (packet: Packet, random: Random) => Packet | undefined,
  ) {
    this.#profile = profile;
    this.#random = random;
    this.#corrupt = corrupt;
  }

  /** When the next packet comes out; `Infinity` when none is on its way. */
  get nextAt(): number {
    return this.#times.length === 0 ? Infinity : this.#times[0]!;
  }

  /** Puts a packet in. */
  send(now: number, packet: Packet, bytes: number): void {
    const profile = this.#profile;
    const random = this.#random;
    this.sent++;
    this.sentBytes += bytes;
    let out = now;
    if (profile.bytesPerMs !== undefined) {
      this.#freeAt = Math.max(this.#freeAt, now) + bytes / profile.bytesPerMs;
      out = this.#freeAt;
    }
    const arriving = this.#survivor(packet, bytes);
    if (arriving === undefined) {
      this.lost++;
      return;
    }
    out += profile.delayMs;
    if (profile.jitterMs !== undefined) out += random.float() * profile.jitterMs;
    if (profile.ordered === true && out < this.#lastOut) out = this.#lastOut;
    this.#lastOut = out;
    if (profile.reorderRate !== undefined && random.float() < profile.reorderRate) {
      out += random.float() * (profile.reorderDelayMs ?? profile.delayMs);
      this.disturbed++;
    }
    this.#push(out, arriving);
    const twice = profile.duplicateRate !== undefined && random.float() < profile.duplicateRate;
    if (twice || profile.duplicatePacket === this.sent) {
      this.disturbed++;
      this.#push(out + random.float() * (profile.duplicateDelayMs ?? profile.delayMs), arriving);
    }
  }

  /** Takes out the next packet, when it is due. */
  receive(now: number): Packet | undefined {
    if (this.#times.length === 0 || this.#times[0]! > now) return undefined;
    const packet = this.#packets[0]!;
    const time = this.#times.pop()!;
    const order = this.#orders.pop()!;
    const last = this.#packets.pop()!;
    if (this.#times.length > 0) this.#down(time, order, last);
    this.delivered++;
    return packet;
  }

  /** The packet as it arrives, if it does. */
  #survivor(packet: Packet, bytes: number): Packet | undefined {
    const profile = this.#profile;
    const random = this.#random;
    if (profile.dropPacket === this.sent) return undefined;
    if (profile.dieAfter !== undefined && this.sent > profile.dieAfter) return undefined;
    if (profile.mtuBytes !== undefined && bytes > profile.mtuBytes) return undefined;
    if (profile.lossRate !== undefined && random.float() < profile.lossRate) return undefined;
    const burst = profile.burst;
    if (burst !== undefined) {
      this.#bad = random.float() < (this.#bad ? 1 - burst.leave : burst.enter);
      if (this.#bad && random.float() < burst.lossRate) return undefined;
    }
    if (profile.corruptRate !== undefined && random.float() < profile.corruptRate) {
      return this.#corrupt?.(packet, random);
    }
    return packet;
  }

  #push(time: number, packet: Packet): void {
    const order = this.#order++;
    let place = this.#times.length;
    while (place > 0) {
      const above = (place - 1) >> 1;
      // Equal times keep their order, and a new packet is always the latest.
      if (this.#times[above]! <= time) break;
      this.#place(place, this.#times[above]!, this.#orders[above]!, this.#packets[above]!);
      place = above;
    }
    this.#place(place, time, order, packet);
  }

  #down(time: number, order: number, packet: Packet): void {
    const times = this.#times;
    const orders = this.#orders;
    const size = times.length;
    let place = 0;
    for (;;) {
      let child = 2 * place + 1;
      if (child >= size) break;
      if (child + 1 < size && this.#isBefore(child + 1, times[child]!, orders[child]!)) child++;
      if (!this.#isBefore(child, time, order)) break;
      this.#place(place, times[child]!, orders[child]!, this.#packets[child]!);
      place = child;
    }
    this.#place(place, time, order, packet);
  }

  #isBefore(place: number, time: number, order: number): boolean {
    const other = this.#times[place]!;
    return other < time || (other === time && this.#orders[place]! < order);
  }

  #place(place: number, time: number, order: number, packet: Packet): void {
    this.#times[place] = time;
    this.#orders[place] = order;
    this.#packets[place] = packet;
  }
}
