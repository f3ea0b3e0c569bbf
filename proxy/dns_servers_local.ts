/**
 * DNS servers that ask nobody on the network themselves: the system's resolver, tables of names, fixed answers.
 *
 * @module
 */

import { lookup } from "node:dns/promises";
import { readFile, stat } from "node:fs/promises";
import { isIP } from "node:net";
import type { Clock } from "../internal/time/clock.ts";
import {
  addressOfReverseName,
  CLASS_IN,
  type DnsAsk,
  RCODE,
  TYPE_A,
  TYPE_AAAA,
  TYPE_PTR,
  writeDnsName,
} from "./dns_message.ts";
import { addressReply } from "./dns_fakeip.ts";
import { type DnsReply, makeReply } from "./dns_reply.ts";
import type { DnsServer } from "./dns_server.ts";

/** Looks addresses of a name up; `node:dns/promises` unless a test says otherwise. */
export type SystemLookup = (
  name: string,
) => Promise<readonly { readonly address: string; readonly family: number }[]>;

/** Asks the system, as other programs do; it knows addresses only, other questions go to its name server. */
export class LocalDnsServer implements DnsServer {
  readonly type = "local";
  readonly tag: string;
  readonly #others: DnsServer | undefined;
  readonly #lookup: SystemLookup;

  /** @param others Is asked for everything but addresses; `undefined` answers "not implemented". */
  constructor(tag: string, others: DnsServer | undefined, systemLookup: SystemLookup = lookUpAll) {
    this.tag = tag;
    this.#others = others;
    this.#lookup = systemLookup;
  }

  /** Asks; see {@linkcode DnsServer.exchange}. */
  async exchange(ask: DnsAsk, signal: AbortSignal): Promise<DnsReply> {
    signal.throwIfAborted();
    if (ask.type !== TYPE_A && ask.type !== TYPE_AAAA || ask.class !== CLASS_IN) {
      if (this.#others === undefined) return makeReply(ask, RCODE.notImplemented);
      return await this.#others.exchange(ask, signal);
    }
    try {
      const family = ask.type === TYPE_A ? 4 : 6;
      const found = (await this.#lookup(ask.name)).filter((each) => each.family === family);
      const reply = addressReply(
        ask,
        [...new Set(found.map(({ address }) => address))],
        TTL_SECONDS,
      );
      // The system keeps no time to live; a short one spares it a storm of the same question.
      return found.length === 0 ? reply : { ...reply, ttlSeconds: TTL_SECONDS };
    } catch (error) {
      const code = error instanceof Error && "code" in error ? error.code : "";
      return makeReply(ask, code === "ENOTFOUND" ? RCODE.nameError : RCODE.serverFailure);
    } finally {
      signal.throwIfAborted();
    }
  }

  /** Closes the server that other questions went to. */
  async close(): Promise<void> {
    await this.#others?.close();
  }
}

function lookUpAll(
  name: string,
): Promise<readonly { readonly address: string; readonly family: number }[]> {
  return lookup(name, { all: true, verbatim: true });
}

interface HostTable {
  readonly addresses: Map<string, string[]>;
  readonly names: Map<string, string>;
}

interface HostsFile {
  readonly path: string;
  changedAt: number;
  table: HostTable;
}

/** Answers from tables. Files are read again when they change. */
export class HostsDnsServer implements DnsServer {
  readonly type = "hosts";
  readonly tag: string;
  readonly #clock: Clock;
  readonly #fixed: HostTable = emptyTable();
  readonly #files: readonly HostsFile[];
  #checkedAt = -Infinity;

  /**
   * @param paths Files in the format of `/etc/hosts`, which is read when this is empty. One that is not there is empty.
   * @param predefined Lower-case name, then addresses; comes before files.
   */
  constructor(
    tag: string,
    paths: readonly string[],
    predefined: Readonly<Record<string, readonly string[]>>,
    clock: Clock,
  ) {
    this.tag = tag;
    this.#clock = clock;
    for (const [name, addresses] of Object.entries(predefined)) {
      for (const address of addresses) addHost(this.#fixed, name, address);
    }
    this.#files = (paths.length === 0 ? ["/etc/hosts"] : paths)
      .map((path) => ({ path, changedAt: -1, table: emptyTable() }));
  }

  /** Answers; see {@linkcode DnsServer.exchange}. */
  async exchange(ask: DnsAsk, signal: AbortSignal): Promise<DnsReply> {
    signal.throwIfAborted();
    await this.#refresh();
    if (ask.class !== CLASS_IN) return makeReply(ask, RCODE.nameError);
    const tables = [this.#fixed, ...this.#files.map(({ table }) => table)];
    if (ask.type === TYPE_PTR) {
      const address = addressOfReverseName(ask.name);
      const name = address === undefined
        ? undefined
        : tables.map(({ names }) => names.get(address)).find((found) => found !== undefined);
      if (name !== undefined) return pointerReply(ask, name);
    }
    const found = tables.map(({ addresses }) => addresses.get(ask.name))
      .find((addresses) => addresses !== undefined);
    if (found === undefined) return makeReply(ask, RCODE.nameError);
    return addressReply(ask, found, TTL_SECONDS);
  }

  /** Nothing to let go of. */
  close(): Promise<void> {
    return Promise.resolve();
  }

  async #refresh(): Promise<void> {
    const now = this.#clock.now();
    if (now - this.#checkedAt < CHECK_MS) return;
    this.#checkedAt = now;
    for (const file of this.#files) {
      try {
        const { mtimeMs } = await stat(file.path);
        if (mtimeMs === file.changedAt) continue;
        file.table = readHosts(await readFile(file.path, "utf8"));
        file.changedAt = mtimeMs;
      } catch {
        file.table = emptyTable();
        file.changedAt = -1;
      }
    }
  }
}

/** Reads lines of an address and its names. What is none is passed over, as the system does. */
function readHosts(text: string): HostTable {
  const table = emptyTable();
  for (const line of text.split("\n")) {
    const [address = "", ...names] = line.replace(/#.*/, "").trim().split(/\s+/);
    if (isIP(address) === 0) continue;
    for (const name of names) addHost(table, name.toLowerCase().replace(/\.$/, ""), address);
  }
  return table;
}

function emptyTable(): HostTable {
  return { addresses: new Map(), names: new Map() };
}

function addHost(table: HostTable, name: string, address: string): void {
  const addresses = table.addresses.get(name);
  if (addresses === undefined) table.addresses.set(name, [address]);
  else addresses.push(address);
  if (!table.names.has(address)) table.names.set(address, name);
}

function pointerReply(ask: DnsAsk, name: string): DnsReply {
  const bytes = new Uint8Array(256);
  const end = writeDnsName(bytes, 0, name);
  const answer = end < 0
    ? []
    : [{ type: TYPE_PTR, ttl: TTL_SECONDS, data: bytes.subarray(0, end) }];
  return { ...makeReply(ask, RCODE.noError, { answer }), ttlSeconds: 0 };
}

/** Gives one answer to everything. */
export class RcodeDnsServer implements DnsServer {
  readonly type = "rcode";
  readonly tag: string;
  readonly #rcode: number;

  /** @param rcode Response code, 0 to 15. */
  constructor(tag: string, rcode: number) {
    this.tag = tag;
    this.#rcode = rcode;
  }

  /** Answers; see {@linkcode DnsServer.exchange}. */
  exchange(ask: DnsAsk): Promise<DnsReply> {
    return Promise.resolve(makeReply(ask, this.#rcode));
  }

  /** Nothing to let go of. */
  close(): Promise<void> {
    return Promise.resolve();
  }
}

const TTL_SECONDS = 10;
const CHECK_MS = 5000;
