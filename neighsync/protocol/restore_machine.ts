/**
 * Puts a published table back into the kernel: waits for each interface by itself, writes its neighbors when it has a
 * carrier and an address, and asks each neighbor to show itself.
 *
 * ```
 *   per interface and family:  Waiting ──ready──► Writing ──acknowledged──► Done
 *                                 ▲                  │ down or gone: that one only
 *                                 └──────────────────┘
 * ```
 *
 * @module
 */

import { MAC_ABSENT, parseAddress, parseMac } from "./address.ts";
import {
  AF_INET,
  EEXIST,
  NLM_F_MULTI,
  NLMSG_DONE,
  NLMSG_ERROR,
  NUD_STALE,
  RTM_DELLINK,
  RTM_NEWLINK,
} from "./constants.ts";
import {
  decodeInterfaceAddress,
  type InterfaceAddress,
  isInNetwork,
  RTM_DELADDR,
  RTM_NEWADDR,
  writeAddressDump,
} from "./interface_address.ts";
import { decodeLink, type LinkMessage } from "./link.ts";
import {
  type NetlinkSink,
  parseNetlink,
  readErrorNumber,
  readFlags,
  readSequence,
  writeLinkDump,
  writeNewNeighbor,
} from "./netlink.ts";
import {
  ARP_REQUEST_BYTES,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV6,
  solicitationMac,
  writeArpRequest,
  writeSolicitation,
} from "./probe.ts";

/** How to restore. */
export interface RestorePlanOptions {
  /** Milliseconds after which interfaces that are not ready are given up. Default 110,000. */
  readonly timeoutMs?: number;
  /** Milliseconds to wait, once, after the first VLAN or port channel is ready. Default 15,000. */
  readonly settleMs?: number;
}

/** An entry of the published table. */
export interface RestoreEntry {
  /** `<interface>:<address>`. */
  readonly key: string;
  /** Lower-case colon form. */
  readonly mac: string;
}

/** How it went. */
export interface RestoreCounts {
  /** Entries that were to be restored. */
  readonly entries: number;
  /** Entries the kernel took. */
  readonly written: number;
  /** Entries the kernel had already. */
  readonly existing: number;
  /** Entries the kernel refused for good. */
  readonly failed: number;
  /** Error number of the last such refusal; 0 when there was none. */
  readonly lastErrno: number;
  /** Entries that could not be restored as they are: no address, no MAC, the loopback interface. */
  readonly skipped: number;
  /** Questions sent to neighbors. */
  readonly probes: number;
  /** Interfaces with entries. */
  readonly interfaces: number;
  /** Names of the interfaces that were never ready, sorted. */
  readonly waiting: readonly string[];
  /** Milliseconds from the start. */
  readonly elapsedMs: number;
}

/** What the machine asks of its driver. Called synchronously, must not call back. */
export interface RestoreActions {
  /** Send these requests on the netlink socket; valid until this returns. The answers are to be read soon after. */
  request(bytes: Uint8Array<ArrayBuffer>): void;
  /** Send this packet on an interface; valid until this returns. */
  probe(
    bytes: Uint8Array<ArrayBuffer>,
    ifindex: number,
    etherType: number,
    destination: Uint8Array,
  ): void;
  /** Find out which of these VLANs and port channels have members, then call `members`. */
  askMembers(names: readonly string[]): void;
  /** Last call. */
  finish(timedOut: boolean, counts: RestoreCounts): void;
}

const WAITING = 0, WRITING = 1, DONE = 2;

interface Target {
  readonly words: readonly number[];
  readonly mac: number;
}

/** The entries of one interface and family. */
interface Group {
  readonly id: number;
  readonly ifname: string;
  readonly family: number;
  readonly targets: Target[];
  state: number;
  /** How many of the targets were sent. */
  sent: number;
  ifindex: number;
  existing: number;
  failed: number;
  /** Must be written again: the interface went away under it. */
  again: boolean;
  retryAt: number;
  retryMs: number;
}

/** Messages in one request: their refusals, 768 bytes each, fit the smallest receive buffer. */
const MESSAGES_PER_REQUEST = 128;
const MESSAGE_BYTES = 64;
const MIN_RETRY_MS = 10, MAX_RETRY_MS = 1_000;
const MEMBERS_POLL_MS = 1_000;
/** An answer that takes longer was lost. */
const ANSWER_MS = 2_000;
const IFF_UP = 0x1, IFF_RUNNING = 0x40;
const FIRST_WRITE_SEQUENCE = 16;
const LINK_DUMP = 1, ADDRESS_DUMP = 2;
const ETHERNET_BROADCAST = new Uint8Array(6).fill(0xff);

/** The course of a restoration, as a value. Time comes in, intents go out. */
export class RestoreMachine {
  readonly #timeoutMs: number;
  readonly #settleMs: number;
  readonly #groups: Group[] = [];
  readonly #byName = new Map<string, Group[]>();
  readonly #links = new Map<number, LinkMessage>();
  readonly #indexes = new Map<string, number>();
  readonly #addresses = new Map<number, InterfaceAddress[]>();
  /** Interfaces events told of since the dump began: its rows about them are older. */
  readonly #toldLinks = new Set<number>();
  readonly #toldAddresses = new Set<number>();
  readonly #withMembers = new Set<string>();
  /** Groups something has changed for. */
  readonly #dirty = new Set<Group>();
  readonly #request = new DataView(new ArrayBuffer(MESSAGES_PER_REQUEST * MESSAGE_BYTES));
  readonly #requestBytes = new Uint8Array(this.#request.buffer);
  readonly #packet = new DataView(new ArrayBuffer(72));
  readonly #packetBytes = new Uint8Array(this.#packet.buffer);
  readonly #sink: NetlinkSink = {
    message: (type, start, end) => this.#message(type, start, end),
    malformed: () => {},
  };

  #begunAt = 0;
  #giveUpAt = Infinity;
  #settledAt = Infinity;
  #membersAt = Infinity;
  #askingMembers = false;
  #answerBy = Infinity;
  #dump = 0;
  #dumpAgain = false;
  #left = 0;
  #entries = 0;
  #skipped = 0;
  #written = 0;
  #existing = 0;
  #failed = 0;
  #lastErrno = 0;
  #probes = 0;
  #finished = false;
  #view: DataView = new DataView(new ArrayBuffer(0));
  #bytes: Uint8Array = new Uint8Array(0);
  #now = 0;

  /** Makes a machine that has not begun. */
  constructor(options: RestorePlanOptions = {}) {
    this.#timeoutMs = options.timeoutMs ?? 110_000;
    this.#settleMs = options.settleMs ?? 15_000;
  }

  /** When {@linkcode work} wants to be called at the latest, monotonic milliseconds. */
  get deadline(): number {
    if (this.#finished) return Infinity;
    if (this.#dirty.size > 0) return this.#now;
    let at = Math.min(this.#giveUpAt, this.#membersAt, this.#answerBy);
    if (this.#settledAt > this.#now) at = Math.min(at, this.#settledAt);
    for (const group of this.#groups) {
      if (group.state === WAITING && group.retryAt < at) at = group.retryAt;
    }
    return at;
  }

  /** True once `finish` was called; every later call does nothing. */
  get finished(): boolean {
    return this.#finished;
  }

  /** Begin, when the socket has joined the groups of links and addresses. Called once. */
  start(entries: Iterable<RestoreEntry>, now: number, actions: RestoreActions): void {
    this.#now = this.#begunAt = now;
    this.#giveUpAt = now + this.#timeoutMs;
    for (const entry of entries) this.#plan(entry);
    this.#left = this.#groups.length;
    if (this.#left === 0) return this.#finish(false, actions);
    const names = [...this.#byName.keys()].filter(hasMembers);
    if (names.length > 0) {
      this.#askingMembers = true;
      actions.askMembers(names);
    }
    this.#ask(LINK_DUMP, actions);
  }

  /** Takes one datagram of the netlink socket. Call {@linkcode work} afterwards, outside of the socket's turn. */
  receive(view: DataView, start: number, end: number, now: number): void {
    if (this.#finished) return;
    if (view !== this.#view) {
      this.#view = view;
      this.#bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    }
    this.#now = now;
    parseNetlink(view, start, end, this.#sink);
  }

  /** Something was lost on the socket: everything is asked again, and what was not acknowledged is written again. */
  lost(now: number): void {
    this.#now = now;
    this.#dumpAgain = true;
    for (const group of this.#groups) if (group.state === WRITING) this.#wait(group, false);
  }

  /** These have members. */
  members(names: Iterable<string>, now: number): void {
    this.#now = now;
    this.#askingMembers = false;
    for (const name of names) {
      this.#withMembers.add(name);
      this.#touch(name);
    }
    const missing = [...this.#byName.keys()].some((name) =>
      hasMembers(name) && !this.#withMembers.has(name)
    );
    this.#membersAt = missing ? now + MEMBERS_POLL_MS : Infinity;
  }

  /**
   * Does what there is to do: one request at most. To be called after what was received, after {@linkcode members}, at the
   * {@linkcode deadline}, and again as long as it answers true, reading the socket in between.
   *
   * @returns Whether a request was sent.
   */
  work(now: number, actions: RestoreActions): boolean {
    if (this.#finished) return false;
    this.#now = now;
    if (now >= this.#giveUpAt) {
      this.#finish(true, actions);
      return false;
    }
    if (now >= this.#answerBy) {
      this.#answerBy = Infinity;
      this.lost(now);
    }
    if (now >= this.#membersAt && !this.#askingMembers) {
      this.#membersAt = Infinity;
      this.#askingMembers = true;
      actions.askMembers(
        [...this.#byName.keys()].filter((name) => hasMembers(name) && !this.#withMembers.has(name)),
      );
    }
    if (this.#dump === 0 && this.#dumpAgain) {
      this.#dumpAgain = false;
      this.#ask(LINK_DUMP, actions);
      return true;
    }
    if (this.#dump === -LINK_DUMP) {
      this.#ask(ADDRESS_DUMP, actions);
      return true;
    }
    for (const group of this.#groups) {
      if (group.state === WAITING && now >= group.retryAt) {
        group.retryAt = Infinity;
        this.#dirty.add(group);
      }
    }
    if (this.#settledAt <= now) {
      this.#settledAt = -Infinity;
    }
    const sent = this.#write(actions);
    this.#probeDone(actions);
    if (this.#left === 0) this.#finish(false, actions);
    return sent;
  }

  #plan({ key, mac }: RestoreEntry): void {
    this.#entries++;
    const colon = key.indexOf(":");
    const ifname = key.slice(0, colon);
    const address = parseAddress(key.slice(colon + 1));
    const number = parseMac(mac);
    // All zeros stand for an unresolved neighbor of a dual-ToR pair, which is nothing a kernel can use.
    if (
      colon < 1 || ifname === "lo" || address === undefined || number === MAC_ABSENT || number === 0
    ) {
      this.#skipped++;
      return;
    }
    const groups = this.#byName.get(ifname) ?? [];
    this.#byName.set(ifname, groups);
    let group = groups.find(({ family }) => family === address.family);
    if (group === undefined) {
      group = {
        id: this.#groups.length,
        ifname,
        family: address.family,
        targets: [],
        state: WAITING,
        sent: 0,
        ifindex: 0,
        existing: 0,
        failed: 0,
        again: false,
        retryAt: Infinity,
        retryMs: MIN_RETRY_MS,
      };
      groups.push(group);
      this.#groups.push(group);
    }
    group.targets.push({ words: address.words, mac: number });
  }

  #ask(dump: number, actions: RestoreActions): void {
    if (dump === LINK_DUMP) {
      this.#toldLinks.clear();
      this.#toldAddresses.clear();
    }
    this.#dump = dump;
    const write = dump === LINK_DUMP ? writeLinkDump : writeAddressDump;
    const end = write(this.#request, 0, dump);
    this.#answerBy = this.#now + ANSWER_MS;
    actions.request(this.#requestBytes.subarray(0, end));
  }

  #message(type: number, start: number, end: number): void {
    const view = this.#view;
    const isRow = (readFlags(view, start) & NLM_F_MULTI) !== 0;
    if (type === RTM_NEWLINK || type === RTM_DELLINK) this.#link(type, isRow, start, end);
    else if (type === RTM_NEWADDR || type === RTM_DELADDR) this.#address(type, isRow, start, end);
    else if (type === NLMSG_DONE || type === NLMSG_ERROR) {
      const sequence = readSequence(view, start);
      const errorNumber = readErrorNumber(view, start, end);
      if (sequence >= FIRST_WRITE_SEQUENCE) this.#answer(sequence, errorNumber);
      else if (sequence === this.#dump) {
        // Negative: this one is over, and what follows it is to be asked.
        this.#dump = sequence === LINK_DUMP ? -LINK_DUMP : 0;
        this.#answerBy = Infinity;
        if (errorNumber !== 0) this.#dumpAgain = true;
      }
    }
  }

  #link(type: number, isRow: boolean, start: number, end: number): void {
    const link = decodeLink(this.#bytes, this.#view, start, end);
    // A bridge port's message lacks most of what counts.
    if (typeof link === "number" || link.family !== 0) return;
    const { ifindex, name } = link;
    if (isRow && this.#toldLinks.has(ifindex)) return;
    if (!isRow) this.#toldLinks.add(ifindex);
    const before = this.#links.get(ifindex);
    if (before !== undefined && this.#indexes.get(before.name) === ifindex) {
      this.#indexes.delete(before.name);
    }
    if (type === RTM_DELLINK) {
      this.#links.delete(ifindex);
      this.#addresses.delete(ifindex);
      return;
    }
    this.#links.set(ifindex, link);
    this.#indexes.set(name, ifindex);
    this.#touch(name);
  }

  #address(type: number, isRow: boolean, start: number, end: number): void {
    const address = decodeInterfaceAddress(this.#view, start, end);
    if (typeof address === "number") return;
    const { ifindex } = address;
    if (isRow && this.#toldAddresses.has(ifindex)) return;
    if (!isRow) this.#toldAddresses.add(ifindex);
    const others = (this.#addresses.get(ifindex) ?? []).filter((other) =>
      other.family !== address.family || other.words.some((word, i) => word !== address.words[i])
    );
    if (type === RTM_NEWADDR && address.usable) others.push(address);
    this.#addresses.set(ifindex, others);
    const name = this.#links.get(ifindex)?.name;
    if (name !== undefined) this.#touch(name);
  }

  #touch(name: string): void {
    for (const group of this.#byName.get(name) ?? []) {
      if (group.state === WAITING) this.#dirty.add(group);
    }
  }

  /** An answer to a written neighbor; odd sequence numbers are those of the last of a group. */
  #answer(sequence: number, errorNumber: number): void {
    const group = this.#groups[(sequence - FIRST_WRITE_SEQUENCE) >> 1];
    if (group === undefined || group.state !== WRITING) return;
    if (errorNumber === EEXIST) group.existing++;
    else if (PASSING.has(errorNumber)) group.again = true;
    else if (errorNumber !== 0) {
      group.failed++;
      this.#lastErrno = errorNumber;
    }
    if ((sequence & 1) === 0) return;
    if (group.again) this.#wait(group, true);
    else this.#dirty.add(group);
  }

  /** Back to waiting, for this interface only: for an event, or for a while. */
  #wait(group: Group, patient: boolean): void {
    group.state = WAITING;
    group.again = false;
    group.retryAt = this.#now + (patient ? group.retryMs : 0);
    if (patient) group.retryMs = Math.min(2 * group.retryMs, MAX_RETRY_MS);
  }

  #isReady(group: Group): boolean {
    const ifindex = this.#indexes.get(group.ifname);
    const link = ifindex === undefined ? undefined : this.#links.get(ifindex);
    if (link === undefined || (link.flags & IFF_UP) === 0) return false;
    if (!(link.carrier ?? (link.flags & IFF_RUNNING) !== 0)) return false;
    const addresses = this.#addresses.get(ifindex!) ?? [];
    if (!addresses.some(({ family }) => family === group.family)) return false;
    if (hasMembers(group.ifname)) {
      if (!this.#withMembers.has(group.ifname)) return false;
      if (this.#settledAt === Infinity) this.#settledAt = this.#now + this.#settleMs;
      if (this.#settledAt > this.#now) {
        group.retryAt = this.#settledAt;
        return false;
      }
    }
    group.ifindex = ifindex!;
    return true;
  }

  /** Fills one request with neighbors of groups that are ready, and sends it. */
  #write(actions: RestoreActions): boolean {
    // Before the addresses are known nothing is ready.
    if (this.#dump !== 0) return false;
    let at = 0, messages = 0;
    for (const group of this.#dirty) {
      if (messages === MESSAGES_PER_REQUEST) break;
      if (group.state === WRITING && group.sent === group.targets.length) continue;
      if (group.state === WAITING) {
        if (!this.#isReady(group)) {
          this.#dirty.delete(group);
          continue;
        }
        group.state = WRITING;
        group.sent = group.existing = group.failed = 0;
      }
      while (group.sent < group.targets.length && messages < MESSAGES_PER_REQUEST) {
        const { words, mac } = group.targets[group.sent++]!;
        const isLast = group.sent === group.targets.length;
        at = writeNewNeighbor(this.#request, at, {
          sequence: FIRST_WRITE_SEQUENCE + 2 * group.id + Number(isLast),
          acknowledge: isLast,
          ifindex: group.ifindex,
          family: group.family,
          words,
          mac,
          state: NUD_STALE,
        });
        messages++;
      }
      // The rest of it goes with the next request; a whole one waits for its answer.
      if (group.sent === group.targets.length) this.#dirty.delete(group);
    }
    if (messages === 0) return false;
    this.#answerBy = Math.min(this.#answerBy, this.#now + ANSWER_MS);
    actions.request(this.#requestBytes.subarray(0, at));
    return true;
  }

  /** Groups that were acknowledged: each of their neighbors is asked to show itself. */
  #probeDone(actions: RestoreActions): void {
    let outstanding = false;
    for (const group of this.#dirty) {
      if (group.state !== WRITING || group.sent < group.targets.length) continue;
      this.#dirty.delete(group);
      group.state = DONE;
      this.#left--;
      this.#existing += group.existing;
      this.#failed += group.failed;
      this.#written += group.targets.length - group.existing - group.failed;
      for (const target of group.targets) this.#probe(group, target, actions);
    }
    for (const { state } of this.#groups) outstanding ||= state === WRITING;
    if (!outstanding && this.#dump === 0) this.#answerBy = Infinity;
  }

  #probe({ ifindex, family }: Group, { words }: Target, actions: RestoreActions): void {
    const mac = this.#links.get(ifindex)?.mac ?? MAC_ABSENT;
    // Not Ethernet: there is nothing to ask in this way.
    if (mac < 0) return;
    const own = (this.#addresses.get(ifindex) ?? []).filter((one) => one.family === family);
    const near = own.find((one) => isInNetwork(words, one));
    const source = near ?? own[0];
    if (source === undefined) return;
    this.#probes++;
    if (family === AF_INET) {
      // Whoever is asked by an address of another network may not answer; by nobody's, it does.
      const from = near === undefined ? 0 : near.words[0]!;
      writeArpRequest(this.#packet, 0, mac, from, words[0]!);
      const bytes = this.#packetBytes.subarray(0, ARP_REQUEST_BYTES);
      actions.probe(bytes, ifindex, ETHERTYPE_ARP, ETHERNET_BROADCAST);
    } else {
      writeSolicitation(this.#packet, 0, mac, source.words, words);
      actions.probe(this.#packetBytes, ifindex, ETHERTYPE_IPV6, solicitationMac(words));
    }
  }

  #finish(timedOut: boolean, actions: RestoreActions): void {
    this.#finished = true;
    const waiting = new Set(
      this.#groups.filter(({ state }) => state !== DONE).map(({ ifname }) => ifname),
    );
    actions.finish(timedOut, {
      entries: this.#entries,
      written: this.#written,
      existing: this.#existing,
      failed: this.#failed,
      lastErrno: this.#lastErrno,
      skipped: this.#skipped,
      probes: this.#probes,
      interfaces: this.#byName.size,
      waiting: [...waiting].sort(),
      elapsedMs: this.#now - this.#begunAt,
    });
  }
}

function hasMembers(ifname: string): boolean {
  return ifname.startsWith("Vlan") || ifname.startsWith("PortChannel");
}

/** ENXIO, ENOMEM, EBUSY, ENODEV, ENETDOWN, ENOBUFS: the interface, or the moment, was wrong; not the entry. */
const PASSING: ReadonlySet<number> = new Set([6, 12, 16, 19, 100, 105]);
