/**
 * The DNS part of a running proxy, as programs around it see it.
 *
 * @module
 */

import type { DnsCacheSnapshot } from "./dns_cache.ts";
import type { DnsReply } from "./dns_reply.ts";
import type { Metadata, Resolver } from "./outbound.ts";

/** Counts of the DNS part. */
export interface DnsSnapshot {
  /** Questions: of clients whose DNS was taken over, and of ourselves. */
  readonly questions: number;
  /** Questions that were put to a server. */
  readonly exchanges: number;
  /** Of those, how many brought no answer. */
  readonly failures: number;
  /** Questions that found the same one under way. */
  readonly joined: number;
  /** Questions that a rule refused. */
  readonly rejected: number;
  /** The cache. */
  readonly cache: DnsCacheSnapshot;
}

/** Asks as the configuration says. */
export interface ProxyDns extends Resolver {
  /**
   * Asks a question as a client of this proxy would.
   *
   * @param type Record type by number. @param options `metadata`: for whom; rules may look at it.
   * @throws {FastwireError} `proxy.name-rejected` when a rule refuses to answer; why there is no answer.
   */
  query(
    name: string,
    type: number,
    options?: {
      readonly disableCache?: boolean;
      readonly signal?: AbortSignal;
      readonly metadata?: Metadata;
    },
  ): Promise<DnsReply>;
  /** The name an invented address leads back to: whoever connects there means the name. */
  fakeNameOf(address: string): string | undefined;
  /** The name in whose answer an address was seen last, with `reverse_mapping`. */
  reverseNameOf(address: string): string | undefined;
  /** Forgets all answers. */
  flushCache(): void;
  /** Forgets all invented addresses. */
  flushFakeip(): void;
  /** A frozen copy of the counts. */
  snapshot(): DnsSnapshot;
}
