/**
 * The proxy: inbounds, rules and outbounds of one configuration at a time, and what runs between them.
 *
 * @module
 */

import {
  type AeadProvider,
  type DatagramHost,
  type Driver,
  openAeads,
  openDatagramHost,
  openStreamHost,
  type Relay,
  type StreamHost,
} from "../ffi/mod.ts";
import { FastwireError } from "../internal/errors.ts";
import { logger } from "../internal/log.ts";
import { secureRandom } from "../internal/random.ts";
import { type Clock, systemClock } from "../internal/time/clock.ts";
import { keepState } from "./cache_file_keeper.ts";
import { closeAll } from "./closing.ts";
import { resolveProxyConfig } from "./config.ts";
import type { ProxyConfig } from "./config_types.ts";
import { type ConnectionEntry, ConnectionTracker } from "./connections.ts";
import { DescriptorRoom } from "./descriptors.ts";
import { ExpiringSet } from "./handshakes.ts";
import type {
  Handler,
  InboundContext,
  InboundPackets,
  InboundStream,
  OpenedStream,
  PacketFlow,
} from "./inbound.ts";
import type { Dns } from "./dns.ts";
import {
  foundOutbound,
  type Generation,
  type GenerationNeeds,
  prepareGeneration,
} from "./generation.ts";
import { keepSelections } from "./groups.ts";
import { InboundSet } from "./inbound_set.ts";
import { LoopGuard } from "./loop_guard.ts";
import type { Metadata, Outbound } from "./outbound.ts";
import { Relays } from "./relay.ts";
import { dialFailure, RejectedError } from "./replies.ts";
import { RejectCounter, routeConnection, type Routed } from "./routing.ts";
import { findAddress, findName } from "./lookups.ts";
import type { RejectAction } from "./rule_types.ts";
import type { ListeningInbound, ProxyOptions, ProxyServer, ProxySnapshot } from "./server.ts";
import { WaitingClient } from "./serving.ts";
import { FlowTable, type FlowTarget, udpTimeoutFor } from "./udp_flow.ts";
import type { WaitingPackets } from "./waiting_packets.ts";

/**
 * Starts a proxy.
 *
 * @param config In the schema of the files, as JSON would give it.
 * @throws {TypeError} Naming everything that is wrong with the configuration, one problem a line.
 * @throws {SystemError} When a port cannot be had. @throws {CapabilityError} When a demanded driver cannot be.
 *
 * @example
 * ```ts
 * import { createProxy } from "@fastwire/net/proxy";
 * import { equal } from "node:assert/strict";
 *
 * await using proxy = await createProxy({
 *   inbounds: [{ type: "mixed", tag: "in", listen: "127.0.0.1", listen_port: 0 }],
 *   outbounds: [{ type: "direct", tag: "out" }],
 * });
 * equal(proxy.inbounds[0]!.addresses[0]!.address, "127.0.0.1");
 * ```
 */
export async function createProxy(
  config: unknown,
  options: ProxyOptions = {},
): Promise<ProxyServer> {
  return await startProxy(resolveProxyConfig(config), options);
}

/** Starts a proxy of a configuration that was read and checked; see {@linkcode createProxy}. */
export async function startProxy(
  config: ProxyConfig,
  options: ProxyOptions = {},
): Promise<ProxyServer> {
  const { driver = "auto", loop } = options;
  const streams = await openStreamHost({
    driver,
    ...(loop === undefined ? {} : { reactor: loop }),
  });
  const engine = new Engine(streams, options);
  try {
    await engine.use(config);
  } catch (error) {
    await engine.close();
    throw error;
  }
  return engine;
}

class Engine implements ProxyServer, Handler {
  readonly connections: ConnectionTracker = new ConnectionTracker();
  #clashMode: string | undefined;
  readonly #streams: StreamHost;
  readonly #options: ProxyOptions;
  readonly #driver: Driver;
  readonly #clock: Clock = systemClock;
  readonly #relays: Relays;
  readonly #flows: FlowTable;
  readonly #leaving: ExpiringSet;
  readonly #rejects: RejectCounter;
  readonly #loops: LoopGuard = new LoopGuard(this.#clock);
  readonly #room: DescriptorRoom = new DescriptorRoom(this.#clock);
  #generation: Generation | undefined;
  readonly #inbounds: InboundSet = new InboundSet();
  #datagrams: Promise<DatagramHost> | undefined;
  #aeads: Promise<AeadProvider> | undefined;
  #failed = 0;
  #busy: Promise<void> = Promise.resolve();
  #closing: Promise<void> | undefined;

  constructor(streams: StreamHost, options: ProxyOptions) {
    this.#streams = streams;
    this.#options = options;
    this.#driver = options.driver ?? "auto";
    this.#relays = new Relays(streams, this.#driver);
    this.#flows = new FlowTable(this.#clock, this.connections);
    this.#leaving = new ExpiringSet(FAREWELL_MS, this.#clock);
    this.#rejects = new RejectCounter(this.#clock);
  }

  get inbounds(): readonly ListeningInbound[] {
    return this.#inbounds.listening;
  }

  get config(): ProxyConfig {
    return this.#current.config;
  }

  get outbounds(): ReadonlyMap<string, Outbound> {
    return this.#current.outbounds;
  }

  get dns(): Dns {
    return this.#current.dns;
  }

  get #current(): Generation {
    if (this.#generation === undefined) throw new TypeError("Cannot serve: no configuration yet");
    return this.#generation;
  }

  get clashMode(): string | undefined {
    return this.#clashMode;
  }

  set clashMode(mode: string | undefined) {
    // The first one is the configuration's, not somebody's choice.
    const isChosen = this.#clashMode !== undefined && mode !== undefined;
    this.#clashMode = mode;
    if (isChosen) this.#generation?.cache?.saveMode(mode);
  }

  outbound(tag?: string): Outbound {
    const { outbounds, config } = this.#current;
    return foundOutbound(outbounds, tag ?? config.route.final);
  }

  async reload(config: unknown): Promise<void> {
    const resolved = resolveProxyConfig(config);
    await this.use(resolved);
  }

  snapshot(): ProxySnapshot {
    const { connections } = this;
    return Object.freeze({
      driver: this.#streams.traits.driver,
      fallbackReason: this.#streams.fallbackReason,
      active: connections.active,
      opened: connections.opened,
      failed: this.#failed,
      handshakes: this.#inbounds.handshakes,
      associations: this.#flows.size,
      relays: this.#relays.active,
      kernelRelays: this.#relays.activeInKernel,
      traffic: connections.totals,
    });
  }

  use(config: ProxyConfig): Promise<void> {
    const done = this.#busy.then(() => this.#use(config));
    this.#busy = done.catch(() => {});
    return done;
  }

  close(options: { readonly graceMs?: number } = {}): Promise<void> {
    return this.#closing ??= this.#close(options.graceMs ?? 0);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  stream(stream: InboundStream): void {
    const entry = this.connections.add(stream.metadata);
    const client = new WaitingClient(stream, this.#leaving);
    this.#serve(entry, client).catch((error) => {
      this.connections.remove(entry);
      this.#refused(entry, error);
      if (error instanceof RejectedError && error.drop) client.drop();
      else client.refuse(dialFailure(error));
    });
  }

  async open(metadata: Metadata, cut: () => void): Promise<OpenedStream> {
    const entry = this.connections.add(metadata);
    entry.cut = cut;
    try {
      this.#name(entry);
      const routed = await routeConnection(this.#routing, entry.metadata, undefined);
      // A request follows at once.
      const upstream = await this.#dial(entry, routed, true);
      return {
        upstream,
        count: (up, down) => entry.count(up, down),
        finish: () => this.connections.remove(entry),
      };
    } catch (error) {
      this.connections.remove(entry);
      this.#refused(entry, error);
      throw error;
    }
  }

  lookUp(metadata: Metadata, what: "address" | "name"): Promise<string> {
    const { dns, resolver } = this.#current;
    return what === "address" ? findAddress(resolver, metadata) : findName(dns, metadata);
  }

  packets(packets: InboundPackets): PacketFlow {
    return this.#flows.begin(packets, async (entry, waiting) => {
      try {
        return await this.#openPackets(entry, waiting);
      } catch (error) {
        this.#refused(entry, error);
        return undefined;
      }
    });
  }

  async #serve(entry: ConnectionEntry, client: WaitingClient): Promise<void> {
    entry.cut = () => void client.stream.close({ reset: true });
    this.#name(entry);
    const routing = routeConnection(this.#routing, entry.metadata, (action) => client.peek(action));
    const routed = routing instanceof Promise ? await routing : routing;
    const upstream = await this.#dial(entry, routed, client.ahead.length > 0);
    if (client.stream.closed) {
      this.connections.remove(entry);
      return void upstream.close({ reset: true });
    }
    try {
      const words = client.opened(upstream.local);
      const starting = this.#relays.start(client.stream, upstream, {
        forwardPrefix: client.ahead,
        ...(words === undefined ? {} : { backwardPrefix: words }),
        onFinish: this.#whenOver(entry),
      });
      relayed(entry, starting instanceof Promise ? await starting : starting);
    } catch (error) {
      upstream.close({ reset: true }).catch(() => {});
      throw error;
    }
  }

  /** Made apart from where a client is served: a callback there would keep the client for as long as the relay runs. */
  #whenOver(entry: ConnectionEntry): () => void {
    return () => this.connections.remove(entry);
  }

  async #dial(entry: ConnectionEntry, routed: Routed, early: boolean) {
    const { decision, metadata, rule } = routed;
    entry.metadata = metadata;
    entry.rule = rule;
    if (decision.action === "reject") throw this.#rejected(decision, rule);
    const outbound = decision.action === "hijack-dns"
      ? this.#current.dnsOutbound
      : foundOutbound(this.#current.outbounds, decision.outbound);
    if (!outbound.networks.includes("tcp")) {
      throw new RejectedError(`Cannot connect: outbound "${outbound.tag}" takes no TCP`);
    }
    return await outbound.dial(metadata.destination, { metadata, chain: entry.chain, early });
  }

  async #openPackets(
    entry: ConnectionEntry,
    waiting: WaitingPackets,
  ): Promise<FlowTarget | undefined> {
    // Its datagram is lost, as datagrams are; the client sends another.
    if (!this.#hasRoom()) throw new RejectedError("Cannot send datagrams: no descriptors are left");
    const before = entry.metadata.destination;
    this.#name(entry);
    const routing = routeConnection(
      this.#routing,
      entry.metadata,
      (action) => waiting.sniff(action, () => this.#openAeads()),
    );
    const { decision, metadata, options, rule } = routing instanceof Promise
      ? await routing
      : routing;
    entry.metadata = metadata;
    entry.rule = rule;
    if (decision.action === "reject") throw this.#rejected(decision, rule);
    const outbound = decision.action === "hijack-dns"
      ? this.#current.dnsOutbound
      : foundOutbound(this.#current.outbounds, decision.outbound);
    if (!outbound.networks.includes("udp") || outbound.openPackets === undefined) {
      throw new RejectedError(`Cannot send datagrams: outbound "${outbound.tag}" takes none`);
    }
    const packets = await outbound.openPackets({
      metadata,
      chain: entry.chain,
      udpConnect: options.udpConnect,
      keepAddresses: options.udpDisableDomainUnmapping,
    });
    const configured = options.udpTimeoutMs ?? this.#udpTimeoutOf(metadata.inbound);
    return {
      packets,
      timeoutMs: udpTimeoutFor(metadata.protocol, metadata.destination.port, configured),
      moved: metadata.destination === before ? undefined : metadata.destination,
    };
  }

  /** Addresses that our own DNS has given out stand for names. */
  #name(entry: ConnectionEntry): void {
    const { metadata } = entry;
    const { host, port } = metadata.destination;
    const { dns } = this.#current;
    const invented = dns.fakeNameOf(host);
    if (invented !== undefined) {
      entry.metadata = { ...metadata, destination: Object.freeze({ host: invented, port }) };
      return;
    }
    const known = dns.reverseNameOf(host);
    if (known !== undefined) entry.metadata = { ...metadata, sniffedHost: known };
  }

  #udpTimeoutOf(tag: string): number {
    const inbound = this.#current.config.inbounds.find((each) => each.tag === tag);
    return inbound?.listen.udpTimeoutMs ?? UDP_TIMEOUT_MS;
  }

  get #routing() {
    const { plan, resolver } = this.#current;
    return { plan, resolver, clashMode: this.clashMode };
  }

  #rejected(action: RejectAction, rule: string): RejectedError {
    return new RejectedError(
      `Cannot connect: ${rule} rejects it`,
      this.#rejects.isSilent(action),
    );
  }

  #refused({ metadata, chain }: ConnectionEntry, error: unknown): void {
    this.#failed++;
    const { host, port } = metadata.destination;
    const known = error instanceof FastwireError;
    log[known ? "debug" : "warning"](
      "{inbound}: no way to {host}:{port} through {chain}: {error}",
      { inbound: metadata.inbound, host, port, chain: chain.join(" > ") || "nobody", error },
    );
  }

  async #use(config: ProxyConfig): Promise<void> {
    if (this.#closing !== undefined) throw new TypeError("Cannot reload: the proxy is closed");
    const old = this.#generation;
    const next = await prepareGeneration(config, this.#needs);
    if (old !== undefined) {
      next.dns.takeOver(old.dns);
      keepSelections(old.outbounds, next.outbounds);
    }
    this.#clashMode ??= keepState(next.cache, next, old);
    try {
      // Inbounds hand over from the first moment they listen.
      this.#generation = next;
      await this.#inbounds.use(config.inbounds, this.#context);
      if (config.inbounds.some(({ type }) => PLAIN_TYPES.has(type))) this.#relays.prepare();
    } catch (error) {
      this.#generation = old;
      await closeAll([...next.outbounds.values(), next.dns]);
      if (next.cache !== old?.cache) next.cache?.close();
      throw error;
    }
    if (old === undefined) return;
    if (old.cache !== next.cache) old.cache?.close();
    await closeAll([...old.outbounds.values(), old.dns]);
  }

  get #needs(): GenerationNeeds {
    return {
      streams: this.#streams,
      datagrams: () => this.#openDatagrams(),
      aeads: () => this.#openAeads(),
      connections: this.connections,
      clock: this.#clock,
      loops: this.#loops,
      clashMode: () => this.clashMode,
      folder: this.#options.folder,
      resolver: this.#options.resolver,
      cache: this.#generation?.cache,
    };
  }

  get #context(): InboundContext {
    return {
      streams: this.#streams,
      datagrams: () => this.#openDatagrams(),
      aeads: () => this.#openAeads(),
      handler: this,
      loops: this.#loops,
      hasRoom: () => this.#hasRoom(),
      clock: this.#clock,
      unixSeconds: () => Math.floor(Date.now() / 1000),
      random: secureRandom,
    };
  }

  /** Whether another client can be let in; see {@linkcode DescriptorRoom}. */
  #hasRoom(): boolean {
    const { handshakes } = this.#inbounds;
    const { active } = this.connections;
    const settled = this.#relays.active + this.#flows.size;
    return this.#room.has(active + handshakes, handshakes + Math.max(0, active - settled));
  }

  #openDatagrams(): Promise<DatagramHost> {
    const { loop } = this.#options;
    const reactor = loop === undefined ? {} : { reactor: loop };
    return this.#datagrams ??= openDatagramHost({ driver: this.#driver, ...reactor });
  }

  #openAeads(): Promise<AeadProvider> {
    const driver = this.#driver === "portable" ? "portable" : "auto";
    return this.#aeads ??= openAeads({ driver });
  }

  async #close(graceMs: number): Promise<void> {
    await this.#busy;
    await this.#inbounds.close();
    const until = this.#clock.now() + graceMs;
    while (this.connections.active > 0 && this.#clock.now() < until) {
      await new Promise((resolve) => setTimeout(resolve, Math.min(GRACE_STEP_MS, graceMs)));
    }
    this.connections.closeAll();
    this.#flows.close();
    this.#leaving.close();
    await this.#relays.close();
    const last = this.#generation;
    if (last !== undefined) await closeAll([...last.outbounds.values(), last.dns]);
    last?.cache?.close();
    await this.#streams.close();
    await (await this.#datagrams?.catch(() => undefined))?.close();
  }
}

/** A connection is relayed from now on. */
function relayed(entry: ConnectionEntry, relay: Relay): void {
  entry.relay = relay;
  entry.cut = () => relay.abort();
  if (entry.wasClosed) relay.abort();
}

const log = logger("proxy");
/** What comes in by these usually goes out as it is. */
const PLAIN_TYPES: ReadonlySet<string> = new Set(["socks", "http", "mixed", "direct", "redirect"]);
const FAREWELL_MS = 2000;
const UDP_TIMEOUT_MS = 300_000;
const GRACE_STEP_MS = 20;
