/**
 * Keeps a proxy from talking to itself without end, a connection more each time, until there are no descriptors left.
 *
 * What goes from one inbound to another of the same proxy is allowed, a few times: chains are made so. What netfilter
 * brings back of what the proxy itself has sent is not.
 *
 * @module
 */

import { networkInterfaces } from "node:os";
import { formatAddress, literalAddress, type SocketAddress, unmapAddress } from "../ffi/mod.ts";
import { logger, onceThenSummarise } from "../internal/log.ts";
import type { Clock } from "../internal/time/clock.ts";
import type { Network } from "./config_types.ts";
import type { Endpoint } from "./protocol/mod.ts";
import { RejectedError } from "./replies.ts";

/** What a proxy listens on, and what it has sent out. */
export class LoopGuard {
  readonly #clock: Clock;
  readonly #listeners = { tcp: new Map<number, string[]>(), udp: new Map<number, string[]>() };
  /** Both addresses of streams that were dialled lately, while anybody wants to know. */
  readonly #dialled = new Map<string, { readonly at: number }>();
  /** Streams from this proxy to itself, and the how maniest of its client each is. */
  readonly #hops = new Map<string, { readonly at: number; readonly depth: number }>();
  /** Sockets that datagrams go out from, by port, and how often theirs have gone through this proxy. */
  readonly #ports = new Map<number, { count: number; readonly depth: number }>();
  readonly #cutBack: () => void;
  #watchers = 0;
  #locals: ReadonlySet<string> = new Set();
  #localsAt = -Infinity;

  /** @param clock Monotonic. */
  constructor(clock: Clock) {
    this.#clock = clock;
    this.#cutBack = onceThenSummarise(
      clock,
      (times) =>
        logger("proxy", "loop").warning(
          "cut {times} connections of this proxy that netfilter brought back to it: " +
            "give its outbounds a routing_mark, and let the rules pass what has it",
          { times },
        ),
    );
  }

  /** Somebody listens here. @returns Says that he does not any more; idempotent. */
  listens(network: Network, address: SocketAddress): () => void {
    const { address: host, port } = unmapAddress(address);
    const ports = this.#listeners[network];
    const hosts = ports.get(port) ?? [];
    hosts.push(host);
    ports.set(port, hosts);
    let over = false;
    return () => {
      if (over) return;
      over = true;
      hosts.splice(hosts.indexOf(host), 1);
      if (hosts.length === 0 && ports.get(port) === hosts) ports.delete(port);
    };
  }

  /** Whether this proxy itself listens at an address. */
  isOwn(network: Network, to: Endpoint): boolean {
    const hosts = this.#listeners[network].get(to.port);
    return hosts !== undefined && hosts.some((host) => this.#isAt(host, to));
  }

  /** Whether a destination is where one of them listens. */
  isAt(listener: SocketAddress, to: Endpoint): boolean {
    const { address, port } = unmapAddress(listener);
    return port === to.port && this.#isAt(address, to);
  }

  #isAt(own: string, { host, port }: Endpoint): boolean {
    const given = literalAddress(host, port);
    if (given === undefined) return false;
    const { address } = unmapAddress(given);
    // Connecting to the wildcard is connecting to loopback.
    if (own === address || address === "0.0.0.0" || address === "::") return true;
    const isWildcard = own === "::" || own === "0.0.0.0" && !address.includes(":");
    return isWildcard && this.isLocal(address);
  }

  /**
   * How often a client's stream has gone through this proxy, before it goes to one of its listeners once more.
   *
   * @param source Where the client comes from.
   * @throws {RejectedError} When it was too often: it would never end.
   */
  async depthOf(source: SocketAddress | undefined): Promise<number> {
    if (source === undefined) return 0;
    // Whoever dialled may hear of it later than we hear of the client.
    await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
    const depth = this.#hops.get(formatAddress(source))?.depth ?? 0;
    if (depth < MOST_HOPS) return depth;
    throw new RejectedError(
      `Cannot connect: the proxy has come back to itself ${depth} times, expected a way out`,
    );
  }

  /** A stream went to one of the proxy's own listeners, the how maniest of its client. */
  returned(local: SocketAddress | undefined, depth: number): void {
    if (local === undefined) return;
    this.#forget(this.#hops, HOP_MS);
    this.#hops.set(formatAddress(local), { depth, at: this.#clock.now() });
  }

  /** Whether an address is one of this host's; where its interfaces may not be looked at, whether it is loopback. */
  isLocal(address: string): boolean {
    if (address.startsWith("127.") || address === "::1") return true;
    const now = this.#clock.now();
    if (now - this.#localsAt > LOCALS_MS) {
      this.#localsAt = now;
      this.#locals = localAddresses();
    }
    return this.#locals.has(address);
  }

  /** Begins to keep what {@linkcode dialled} is told. @returns Ends it; idempotent. */
  watch(): () => void {
    this.#watchers++;
    let over = false;
    return () => {
      if (over) return;
      over = true;
      if (--this.#watchers > 0) return;
      this.#dialled.clear();
    };
  }

  /** A stream was dialled. */
  dialled(local: SocketAddress | undefined, remote: SocketAddress | undefined): void {
    if (this.#watchers === 0 || local === undefined || remote === undefined) return;
    this.#forget(this.#dialled, RETURN_MS);
    this.#dialled.set(keyOf(local, remote), { at: this.#clock.now() });
  }

  /**
   * Calls `go` for a stream that netfilter has brought, or `cut` when it is one that was dialled here. At once for
   * clients of other hosts; with one of this host it takes a moment, for whoever dialled may hear of it after us.
   */
  bring(source: SocketAddress, original: SocketAddress, go: () => void, cut: () => void): void {
    if (!this.isLocal(unmapAddress(source).address)) return go();
    setTimeout(() => {
      const known = this.#dialled.get(keyOf(source, original));
      if (known === undefined || this.#clock.now() - known.at > RETURN_MS) return go();
      this.#cutBack();
      cut();
    }, SETTLE_MS);
  }

  /**
   * Datagrams go out from a port.
   *
   * @param source Where the client comes from that they are for.
   * @returns Whether they may go to the proxy's own listeners, and what says that they do not go out any more;
   * idempotent.
   */
  sends(
    port: number,
    source: SocketAddress | undefined,
  ): { readonly mayReturn: boolean; readonly leave: () => void } {
    const before = source !== undefined && this.isLocal(unmapAddress(source).address)
      ? this.#ports.get(source.port)?.depth ?? 0
      : 0;
    const entry = this.#ports.get(port) ?? { count: 0, depth: before + 1 };
    entry.count++;
    this.#ports.set(port, entry);
    let over = false;
    const leave = (): void => {
      if (over) return;
      over = true;
      if (--entry.count === 0) this.#ports.delete(port);
    };
    return { mayReturn: before < MOST_HOPS, leave };
  }

  /** Whether a datagram that netfilter has brought is one of ours. */
  datagramCameBack(source: Endpoint): boolean {
    if (!this.#ports.has(source.port) || !this.isLocal(source.host)) return false;
    this.#cutBack();
    return true;
  }

  /** Lets go of what is older than that, and of the oldest where it is too many. */
  #forget(entries: Map<string, { readonly at: number }>, ageMs: number): void {
    const since = this.#clock.now() - ageMs;
    for (const [key, { at }] of entries) {
      if (at >= since && entries.size < MOST_KEPT) return;
      entries.delete(key);
    }
  }
}

function keyOf(source: SocketAddress, destination: SocketAddress): string {
  return `${formatAddress(source)} ${formatAddress(destination)}`;
}

function localAddresses(): ReadonlySet<string> {
  const found = new Set<string>();
  try {
    for (const addresses of Object.values(networkInterfaces())) {
      for (const { address } of addresses ?? []) found.add(address.split("%")[0]!);
    }
  } catch {
    // Not permitted: loopback is known without.
  }
  return found;
}

/** What comes back does so at once; a port may be somebody else's a while later. */
const RETURN_MS = 2000;
/** A client's handshake, and whoever it waits for. */
const HOP_MS = 60_000;
/** Both ends of a connection to oneself are ready at the same time, and told one after the other. */
const SETTLE_MS = 2;
/** More than any chain of outbounds that somebody has thought of. */
const MOST_HOPS = 8;
const LOCALS_MS = 5000;
const MOST_KEPT = 4096;
