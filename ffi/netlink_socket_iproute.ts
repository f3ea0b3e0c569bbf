/**
 * One "netlink socket" of the portable driver: the watched program for its groups, a program per request.
 *
 * @module
 */
import { setImmediate } from "node:timers";
import { integerIn } from "../internal/check.ts";
import { CapabilityError, type SystemError } from "../internal/errors.ts";
import { EIO, ENODEV, ENOENT, EOPNOTSUPP, EPERM, systemError } from "./errno.ts";
import {
  EVENT_TRUESIZE_BYTES,
  type NetlinkConsumer,
  type NetlinkCounters,
  type NetlinkLoss,
  type NetlinkMemory,
  type NetlinkOptions,
  type NetlinkSocket,
  type NetlinkTraits,
  RTNLGRP_LINK,
  RTNLGRP_NEIGH,
} from "./netlink.ts";
import { Monitor } from "./netlink_monitor_iproute.ts";
import { Programs, readProc } from "./netlink_programs_iproute.ts";
import {
  LINK_WORDS,
  neighborWords,
  type Question,
  readQuestions,
} from "./netlink_questions_iproute.ts";
import {
  indexInName,
  type LinkRow,
  type NeighborRow,
  parseLine,
  parseLinks,
  parseNeighbors,
} from "./netlink_text_iproute.ts";
import { type Answer, EVENT, MessageWriter } from "./netlink_writer_iproute.ts";

/** What the contract calls a socket. */
export class IprouteNetlinkSocket implements NetlinkSocket {
  readonly portId: number = 0x8000_0000 + ++ports;
  readonly receiveBufferBytes: number;

  readonly #programs: Programs;
  readonly #namespace: readonly string[];
  readonly #consumer: NetlinkConsumer | undefined;
  readonly #monitor: Monitor | undefined;
  readonly #turnRows: number;
  readonly #gone: (socket: IprouteNetlinkSocket) => void;
  readonly #events: MessageWriter;
  readonly #answers: MessageWriter;
  // Name of an interface → its index, and back. A name stays known when the interface is gone or has another one: `ip
  // monitor` (iproute2 6.1) goes on using the name under which it met an interface first.
  readonly #names = new Map<string, number>();
  readonly #namesOf = new Map<number, string>();
  readonly #renamed = new Set<number>();
  #traits: NetlinkTraits | undefined;
  #asked: Promise<void> = Promise.resolve();
  #lines: string[] = [];
  #pumping = false;
  #paused = false;
  #resumed: (() => void)[] = [];
  #closed = false;
  #datagramsReceived = 0;
  #bytesReceived = 0;
  #dropped = 0;
  #overruns = 0;
  #unreadable = 0;
  #unreadableReported = 0;
  #sendCalls = 0;
  #turnsCut = 0;

  /** @throws {CapabilityError} For a group or a namespace the program cannot be pointed at. */
  constructor(
    program: string,
    options: NetlinkOptions,
    gone: (socket: IprouteNetlinkSocket) => void,
  ) {
    const { groups = [], receiveBufferBytes = 0 } = options;
    integerIn(receiveBufferBytes, 0, 0x3fff_ffff, "receive buffer bytes");
    this.#turnRows = integerIn(options.turnDatagrams ?? 4096, 1, 1 << 30, "datagrams in a turn");
    const objects = groups.map((group) => {
      integerIn(group, 1, 0xffff, "netlink group");
      const object = OBJECTS.get(group);
      if (object === undefined) throw beyond(`join netlink group ${group}`);
      return object;
    });
    this.#namespace = namespaceWords(options.namespace);
    this.#consumer = options.consumer;
    this.#gone = gone;
    this.#programs = new Programs(program);
    const deliver = (view: DataView<ArrayBuffer>, start: number, end: number): void => {
      this.#datagramsReceived++;
      this.#bytesReceived += end - start;
      this.#guarded(() => this.#consumer?.datagram(view, start, end));
    };
    this.#events = new MessageWriter(deliver);
    this.#answers = new MessageWriter(deliver);
    this.receiveBufferBytes = objects.length === 0 ? 0 : grantedBytes(receiveBufferBytes);
    if (objects.length > 0) {
      const buffer = receiveBufferBytes > 0 ? ["-rcvbuf", String(receiveBufferBytes)] : [];
      const words = [...this.#namespace, ...buffer, "-oneline", "-details", "monitor", ...objects];
      this.#monitor = new Monitor(this.#programs, words, groups, {
        lines: (lines) => {
          this.#lines.push(...lines);
          this.#pump();
        },
        overrun: () => {
          this.#overruns++;
          // Where the kernel's count may not be read, this is all there is.
          if (this.#monitor!.countsDrops) this.#lookForDrops();
          else this.#report({ reason: "overrun", datagrams: 0 });
        },
        restarted: () => {
          // It knows the names of today again.
          this.#names.clear();
          this.#namesOf.clear();
          this.#renamed.clear();
          this.#report({ reason: "restarted", datagrams: 0 });
        },
      });
    }
  }

  get traits(): NetlinkTraits {
    return this.#traits ??= Object.freeze({
      driver: "iproute",
      batch: 1,
      lossCounted: this.#monitor?.countsDrops ?? true,
      writes: false,
      kernelFilter: false,
      receiveBuffer: false,
      receiveBufferForced: false,
      strict: false,
      extendedAck: true,
    });
  }

  get eventCapacity(): number {
    return Math.floor(2 * this.receiveBufferBytes / EVENT_TRUESIZE_BYTES);
  }

  /** Learns the names, and answers once the watched program has joined the groups. @throws {SystemError} */
  async start(): Promise<void> {
    await this.#monitor?.start();
    const failure = await this.#learnLinks();
    if (failure !== "") throw refusedBy("look at the kernel's network tables", failure);
  }

  send(bytes: Uint8Array<ArrayBuffer>): void {
    if (this.#closed) throw new TypeError("Cannot send: the netlink socket is closed");
    this.#sendCalls++;
    if (this.#consumer === undefined) return;
    const request = new DataView(bytes.slice().buffer);
    for (const question of readQuestions(request)) {
      this.#asked = this.#asked.then(() => this.#answer(question, request));
    }
  }

  drain(): number {
    // What has arrived is handed over when it arrives.
    return 0;
  }

  checkLoss(): number {
    this.#lookForDrops();
    return this.#dropped;
  }

  pause(): void {
    this.#paused = true;
    this.#monitor?.pause();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#monitor?.resume();
    for (const resumed of this.#resumed.splice(0)) resumed();
    // Not from inside this call.
    setImmediate(() => this.#pump());
  }

  growReceiveBuffer(bytes: number): number {
    if (this.#closed) {
      throw new TypeError("Cannot change the receive buffer: the netlink socket is closed");
    }
    integerIn(bytes, 1, 0x3fff_ffff, "receive buffer bytes");
    return this.receiveBufferBytes;
  }

  filter(_program: Uint8Array<ArrayBuffer> | undefined): void {
    throw beyond("attach a filter to a netlink socket");
  }

  memory(): NetlinkMemory {
    return { usedBytes: 0, limitBytes: 2 * this.receiveBufferBytes };
  }

  counters(): NetlinkCounters {
    return Object.freeze({
      receiveCalls: 0,
      datagramsReceived: this.#datagramsReceived,
      bytesReceived: this.#bytesReceived,
      datagramsLost: this.#dropped,
      overruns: this.#overruns,
      datagramsTruncated: 0,
      datagramsForeign: 0,
      linesUnreadable: this.#unreadable,
      restarts: this.#monitor?.restarts ?? 0,
      sendCalls: this.#sendCalls,
      turnsCut: this.#turnsCut,
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#lines = [];
    this.#monitor?.close();
    for (const resumed of this.#resumed.splice(0)) resumed();
    await this.#programs.close();
    await this.#asked;
    this.#gone(this);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Hands over the lines that have come, until none is left or somebody says stop. */
  async #pump(): Promise<void> {
    if (this.#pumping) return;
    this.#pumping = true;
    while (this.#lines.length > 0 && !this.#closed && !this.#paused) {
      const lines = this.#lines.splice(0, this.#turnRows);
      for (const line of lines) {
        const row = parseLine(line);
        if (row === undefined) {
          this.#unreadable++;
          continue;
        }
        if (!this.#isKnown(row)) {
          // What came before goes first, and what comes now waits in the queue.
          this.#events.flush();
          await this.#learnLinks();
        }
        this.#write(row, 0, EVENT, this.#events);
      }
      this.#events.flush();
      this.#lookForDrops();
      this.#reportUnreadable();
      const drained = this.#lines.length === 0;
      this.#turned(drained);
      if (!drained) {
        this.#turnsCut++;
        await new Promise<void>((resolve) => setImmediate(resolve));
      }
    }
    this.#pumping = false;
  }

  async #answer(question: Question, request: DataView<ArrayBuffer>): Promise<void> {
    if (this.#closed) return;
    const to = { sequence: question.sequence, port: this.portId, flags: 0 };
    const refuse = (errno: number, sentence: string): void => {
      this.#answers.refusal(errno, sentence, request, question.at, to);
    };
    const { about } = question;
    if (about === "nothing") {
      await this.#unpaused();
      refuse(EOPNOTSUPP, "the iproute driver only reads neighbours and links");
    } else {
      const links = about === "links" || about === "link";
      const words = links ? LINK_WORDS : neighborWords(question);
      const { code, stdout, stderr } = await this.#programs.run([...this.#namespace, ...words]);
      // Neighbours come with names; links teach them on the way.
      if (about === "neighbors" && question.index === 0) await this.#learnLinks();
      await this.#unpaused();
      if (this.#closed) return;
      const failed = code !== 0;
      // To the kernel a device that does not exist is a filter that nothing passes.
      if (failed && !(about === "neighbors" && errnoIn(stderr) === ENODEV)) {
        refuse(errnoIn(stderr), stderr.trim());
      } else {
        try {
          await this.#writeAnswer(question, failed ? "[]" : stdout, to, refuse);
        } catch (error) {
          if (!(error instanceof SyntaxError)) throw error;
          this.#unreadable++;
          refuse(EIO, "the answer of the ip program cannot be understood");
        }
      }
    }
    if (this.#closed) return;
    this.#answers.flush();
    this.#reportUnreadable();
    this.#turned(true);
  }

  async #writeAnswer(
    question: Question,
    text: string,
    to: Answer,
    refuse: (errno: number, sentence: string) => void,
  ): Promise<void> {
    const { about, index, master, name } = question;
    if (about === "neighbor") {
      // Iproute2 6.1 prints text here, whatever it is asked for.
      const row = text.trimStart().startsWith("[")
        ? parseNeighbors(text).rows[0]
        : parseLine(text.trim());
      if (row === undefined) refuse(ENOENT, "the neighbour was not found");
      else this.#write(row, index, to, this.#answers);
      return;
    }
    if (about === "link") {
      const row = this.#readLinks(text).find((link) =>
        index > 0 ? link.index === index : link.name === name
      );
      if (row === undefined) refuse(ENODEV, "the link was not found");
      else this.#write(row, 0, to, this.#answers);
      return;
    }
    const part = { ...to, flags: NLM_F_MULTI };
    const filtered = { ...to, flags: NLM_F_MULTI | NLM_F_DUMP_FILTERED };
    const isFiltered = master !== 0 || (about === "neighbors" && index !== 0);
    let rows: readonly (NeighborRow | LinkRow)[];
    if (about === "links") {
      rows = this.#readLinks(text)
        .filter((row) => master === 0 || this.#indexOf(row.master) === master);
    } else {
      const read = parseNeighbors(text);
      this.#unreadable += read.unreadable;
      rows = read.rows;
    }
    for (let i = 0; i < rows.length; i++) {
      this.#write(rows[i]!, index, isFiltered ? filtered : part, this.#answers);
      if (i % this.#turnRows !== this.#turnRows - 1) continue;
      this.#answers.flush();
      this.#turnsCut++;
      this.#turned(false);
      await new Promise<void>((resolve) => setImmediate(resolve));
      await this.#unpaused();
      if (this.#closed) return;
    }
    this.#answers.done(part);
  }

  /** @param index Of the interface, where the question had named it; else 0. */
  #write(row: NeighborRow | LinkRow, index: number, to: Answer, writer: MessageWriter): void {
    if (row.kind === "link") {
      this.#learn(row);
      writer.link(row, this.#indexOf(row.master), this.#indexOf(row.lower), to);
      return;
    }
    const found = row.device === "" ? index : this.#indexOf(row.device);
    if (found > 0) writer.neighbor(row, found, to);
    else this.#unreadable++;
  }

  #isKnown(row: NeighborRow | LinkRow): boolean {
    const name = row.kind === "link" ? row.master : row.device;
    return name === undefined || this.#indexOf(name) > 0;
  }

  #indexOf(name: string | undefined): number {
    return name === undefined ? 0 : this.#names.get(name) ?? indexInName(name);
  }

  #learn({ name, index, deleted }: LinkRow): void {
    if (deleted) {
      this.#renamed.delete(index);
      return;
    }
    const holder = this.#names.get(name);
    if (holder === index) return;
    // Two that live share a name now in the eyes of the watched program, and what it says about one could be the other's.
    if (holder !== undefined && this.#renamed.has(holder)) this.#monitor?.restart();
    if (this.#namesOf.has(index)) this.#renamed.add(index);
    this.#names.set(name, index);
    this.#namesOf.set(index, name);
  }

  /** @returns What the program complained about; empty when it did not. */
  async #learnLinks(): Promise<string> {
    const { code, stdout, stderr } = await this.#programs.run([...this.#namespace, ...LINK_WORDS]);
    if (code !== 0) return stderr.trim() || `it ended with ${code}`;
    try {
      for (const row of this.#readLinks(stdout)) this.#learn(row);
      return "";
    } catch {
      return "what it printed is not JSON";
    }
  }

  #readLinks(text: string): readonly LinkRow[] {
    const { rows, unreadable } = parseLinks(text);
    this.#unreadable += unreadable;
    for (const row of rows) this.#learn(row);
    return rows;
  }

  #lookForDrops(): void {
    const lost = this.#closed ? 0 : this.#monitor?.newDrops() ?? 0;
    if (lost === 0) return;
    this.#dropped += lost;
    this.#report({ reason: "overrun", datagrams: lost });
  }

  #reportUnreadable(): void {
    const lost = this.#unreadable - this.#unreadableReported;
    this.#unreadableReported = this.#unreadable;
    if (lost > 0) this.#report({ reason: "unreadable", datagrams: lost });
  }

  #report(loss: NetlinkLoss): void {
    this.#guarded(() => this.#consumer?.lost(Object.freeze(loss)));
  }

  #turned(drained: boolean): void {
    this.#guarded(() => this.#consumer?.turned?.(drained));
  }

  #guarded(call: () => void): void {
    if (this.#closed) return;
    try {
      call();
    } catch (error) {
      queueMicrotask(() => {
        throw error;
      });
    }
  }

  #unpaused(): Promise<void> {
    if (!this.#paused || this.#closed) return Promise.resolve();
    return new Promise((resolve) => this.#resumed.push(resolve));
  }
}

/** How the program is pointed at a namespace: by the name of a file in its own folder. */
function namespaceWords(path: string | undefined): readonly string[] {
  if (path === undefined) return [];
  const found = /^(?:\/var)?\/run\/netns\/([^/]+)$/.exec(path);
  if (found === null) throw beyond(`look into network namespace "${path}"`);
  return ["-netns", found[1]!];
}

function beyond(what: string): CapabilityError {
  return new CapabilityError("ffi.driver-unavailable", `Cannot ${what}: the ip program cannot`, {
    capability: "netlink",
    why: "the ip program cannot",
    remedy: "run with --allow-ffi on Linux",
  });
}

/** What the program was refused, as far as its words tell. */
function errnoIn(stderr: string): number {
  return COMPLAINTS.find(([words]) => words.test(stderr))?.[1] ?? EIO;
}

/** The exception for a complaint of the program. */
function refusedBy(what: string, stderr: string): SystemError {
  // deno-lint-ignore no-control-regex
  const said = stderr.replace(/[\x00-\x1f\x7f]+/g, " ").slice(0, 200);
  return systemError("ip", errnoIn(stderr), `${what} (the ip program says "${said}")`);
}

/** What a receive buffer becomes that may not be forced; 0 where the limit cannot be read. */
function grantedBytes(wanted: number): number {
  const limit = Number(readProc("/proc/sys/net/core/rmem_max") ?? 0);
  // Unasked, the program takes a megabyte (iproute2, lib/libnetlink.c).
  return Math.min(limit, wanted > 0 ? wanted : 1024 * 1024);
}

const OBJECTS: ReadonlyMap<number, string> = new Map([
  [RTNLGRP_LINK, "link"],
  [RTNLGRP_NEIGH, "neigh"],
]);

const COMPLAINTS: readonly (readonly [RegExp, number])[] = [
  [/No such device|Cannot find device|does not exist/, ENODEV],
  [/entry not found|No such file/, ENOENT],
  [/not permitted|Permission denied/, EPERM],
];

// <linux/netlink.h>
const NLM_F_MULTI = 0x2;
const NLM_F_DUMP_FILTERED = 0x20;

/** Addresses are unique in the process, and unlike those of the kernel, which begin with process ids. */
let ports = 0;
