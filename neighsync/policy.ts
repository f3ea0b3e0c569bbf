/**
 * The facts of the switch's configuration that decide about neighbors, kept current without asking per event: dual-ToR,
 * EVPN, and which interfaces publish IPv6 link-local neighbors.
 *
 * @module
 */

import { isRedisError } from "../internal/redis_errors.ts";
import { type Clock, systemClock } from "../internal/time/clock.ts";
import type { ConfigDatabase } from "./config_database.ts";
import { LinkLocalPolicy } from "./link_local_policy.ts";
import { type FilterFacts, linkLocalTable } from "./protocol/filter.ts";

/** A fact that is different from now on. */
export type PolicyChange =
  /** The whole view is to be judged again. */
  | { readonly fact: "dual-tor" | "evpn"; readonly value: boolean }
  /** The link-local entries of this interface are. */
  | { readonly fact: "link-local"; readonly ifname: string; readonly value: boolean };

/** Options of {@linkcode ConfigPolicy}. */
export interface ConfigPolicyOptions {
  /** Called for each change, the first reading included when it differs from false. Must not throw. */
  readonly onChange?: (change: PolicyChange) => void;
  /** `auto`, the default, looks for `PEER_SWITCH`. */
  readonly dualTor?: "auto" | "on" | "off";
  /** `auto`, the default, looks for `VXLAN_EVPN_NVO`. */
  readonly evpn?: "auto" | "on" | "off";
  /** How long a reading counts, in milliseconds, where changes are not told: 60,000 by default. */
  readonly ttlMs?: number;
  /** Whose time counts. */
  readonly clock?: Clock;
}

/** How the facts are kept now, and what that cost. */
export interface PolicySnapshot {
  /** Dual-ToR. */
  readonly dualTor: boolean;
  /** EVPN. */
  readonly evpn: boolean;
  /** Whether changes are told; otherwise readings expire. */
  readonly notified: boolean;
  /** Interfaces remembered. */
  readonly interfaces: number;
  /** Questions asked of the database. */
  readonly reads: number;
  /** Changes told. */
  readonly notifications: number;
}

const DUAL_TOR_TABLE = "PEER_SWITCH";
const EVPN_TABLE = "VXLAN_EVPN_NVO";
const LINK_LOCAL_TABLES = ["VLAN_INTERFACE", "PORTCHANNEL_INTERFACE", "INTERFACE"];
const LINK_LOCAL_FIELD = "ipv6_use_link_local_only";

/** Facts for the filter, followed. Every question is answered at once from memory. */
export class ConfigPolicy implements FilterFacts {
  readonly #database: ConfigDatabase;
  readonly #options: ConfigPolicyOptions;
  readonly #ttlMs: number;
  readonly #clock: Clock;
  readonly #linkLocal = new LinkLocalPolicy();
  #dualTor: boolean;
  #evpn: boolean;
  #tablesWanted = true;
  #notified = false;
  #checkAt = Infinity;
  #reading: Promise<void> | undefined;
  #reads = 0;
  #notifications = 0;

  /** Reads nothing yet. */
  constructor(database: ConfigDatabase, options: ConfigPolicyOptions = {}) {
    this.#database = database;
    this.#options = options;
    this.#ttlMs = options.ttlMs ?? 60_000;
    this.#clock = options.clock ?? systemClock;
    this.#dualTor = options.dualTor === "on";
    this.#evpn = options.evpn === "on";
  }

  /** Some `PEER_SWITCH|*` is configured. */
  get dualTor(): boolean {
    return this.#dualTor;
  }

  /** Some `VXLAN_EVPN_NVO|*` is configured. */
  get evpn(): boolean {
    return this.#evpn;
  }

  /** Monotonic milliseconds at which {@linkcode ConfigPolicy.expire} wants to run; `Infinity` before the first load. */
  get deadline(): number {
    return this.#checkAt;
  }

  /**
   * Whether the interface publishes link-local neighbors. False for one that was never asked for, which is then read: a
   * change follows if that was wrong.
   */
  linkLocalEnabled(ifname: string): boolean {
    const enabled = this.#linkLocal.enabled(ifname);
    if (this.#linkLocal.wanted && this.#checkAt !== Infinity) this.#readSoon();
    return enabled;
  }

  /** Asks for interfaces before there is an event of them; read by the next {@linkcode ConfigPolicy.load}. */
  want(ifnames: Iterable<string>): void {
    for (const ifname of ifnames) this.#linkLocal.want(ifname);
  }

  /** Forgets an interface that is gone. */
  forget(ifname: string): void {
    this.#linkLocal.forget(ifname);
  }

  /**
   * Reads everything anew and begins to follow changes; for every new connection, and whenever certainty is wanted.
   *
   * @throws {FastwireError} When the database cannot be asked.
   */
  async load(): Promise<void> {
    await this.#reading;
    // First follow, then read: what changes in between is told.
    this.#notified = await this.#follow();
    this.#tablesWanted = true;
    this.#linkLocal.invalidateAll();
    await this.#read();
    this.#checkAt = this.#clock.now() + this.#ttlMs;
  }

  /**
   * Time has passed. Once per lifetime of a reading it looks whether changes are told, and where they are not reads anew.
   * A database that cannot be asked is left to the next {@linkcode ConfigPolicy.load}.
   */
  async expire(now: number): Promise<void> {
    if (now < this.#checkAt) return;
    this.#checkAt = now + this.#ttlMs;
    try {
      const before = this.#notified;
      this.#notified = await this.#follow();
      if (before && this.#notified) return;
      this.#tablesWanted = true;
      this.#linkLocal.invalidateAll();
      await this.#read();
    } catch (error) {
      if (!isRedisError(error)) throw error;
    }
  }

  /** Facts and costs now. */
  snapshot(): PolicySnapshot {
    return Object.freeze({
      dualTor: this.#dualTor,
      evpn: this.#evpn,
      notified: this.#notified,
      interfaces: this.#linkLocal.size,
      reads: this.#reads,
      notifications: this.#notifications,
    });
  }

  #follow(): Promise<boolean> {
    const tables = [DUAL_TOR_TABLE, EVPN_TABLE, ...LINK_LOCAL_TABLES];
    return this.#database.follow(tables, (table, name) => {
      this.#notifications++;
      if (table === DUAL_TOR_TABLE || table === EVPN_TABLE) this.#tablesWanted = true;
      // Entries of addresses, `INTERFACE|Ethernet0|10.0.0.0/31`, are of no interface's name and invalidate nothing.
      else this.#linkLocal.invalidate(name);
      this.#readSoon();
    });
  }

  /** Reads what is wanted, once what is on its way now has arrived; failures are left to the next connection. */
  #readSoon(): void {
    if (this.#reading !== undefined) return;
    // A burst of changes is read in one go.
    this.#reading = Promise.resolve().then(() => this.#read()).catch((error) => {
      if (!isRedisError(error)) throw error;
    }).finally(() => this.#reading = undefined);
  }

  /** Goes on until nothing is wanted: a change during a reading asks for another. */
  async #read(): Promise<void> {
    while (this.#tablesWanted || this.#linkLocal.wanted) {
      if (this.#tablesWanted) {
        this.#tablesWanted = false;
        await this.#readTables().catch((error) => {
          this.#tablesWanted = true;
          throw error;
        });
      }
      const names = this.#linkLocal.takeWanted();
      if (names.length > 0) {
        await this.#readInterfaces(names).catch((error) => {
          this.#linkLocal.giveBack(names);
          throw error;
        });
      }
    }
  }

  async #readTables(): Promise<void> {
    const { dualTor: wantedDualTor = "auto", evpn: wantedEvpn = "auto" } = this.#options;
    const tables = [
      ...(wantedDualTor === "auto" ? [DUAL_TOR_TABLE] : []),
      ...(wantedEvpn === "auto" ? [EVPN_TABLE] : []),
    ];
    if (tables.length === 0) return;
    this.#reads++;
    const present = await this.#database.present(tables);
    const value = (table: string, fallback: boolean): boolean =>
      tables.includes(table) ? present[tables.indexOf(table)] === true : fallback;
    const dualTor = value(DUAL_TOR_TABLE, this.#dualTor);
    const evpn = value(EVPN_TABLE, this.#evpn);
    const changes: PolicyChange[] = [];
    if (dualTor !== this.#dualTor) changes.push({ fact: "dual-tor", value: dualTor });
    if (evpn !== this.#evpn) changes.push({ fact: "evpn", value: evpn });
    this.#dualTor = dualTor;
    this.#evpn = evpn;
    for (const change of changes) this.#options.onChange?.(change);
  }

  async #readInterfaces(names: readonly string[]): Promise<void> {
    this.#reads++;
    const entries = names.map((name) => [linkLocalTable(name)!, name] as const);
    const values = await this.#database.fields(entries, LINK_LOCAL_FIELD);
    names.forEach((ifname, index) => {
      const value = values[index] === "enable";
      if (this.#linkLocal.put(ifname, value)) {
        this.#options.onChange?.({ fact: "link-local", ifname, value });
      }
    });
  }
}
