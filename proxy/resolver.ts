/**
 * The system's resolver: what names become when nothing else is configured.
 *
 * @module
 */

import { lookup } from "node:dns/promises";
import type { DomainStrategy } from "./config_types.ts";
import type { ResolveOptions, Resolver } from "./outbound.ts";
import { FastwireError } from "../internal/errors.ts";

/** A name has no addresses, or nobody says which. */
export class NameError extends FastwireError {}

/** Asks the system, as other programs do. */
export class SystemResolver implements Resolver {
  readonly #strategy: DomainStrategy | undefined;

  /** @param strategy Address families, unless the question says. */
  constructor(strategy?: DomainStrategy) {
    this.#strategy = strategy;
  }

  /** The addresses of a name; see {@linkcode Resolver}. */
  async resolve(host: string, options: ResolveOptions = {}): Promise<readonly string[]> {
    options.signal?.throwIfAborted();
    let found: readonly { readonly address: string; readonly family: number }[];
    try {
      found = await lookup(host, { all: true, verbatim: true });
    } catch (cause) {
      throw new NameError(
        "proxy.name-not-found",
        `Cannot resolve "${host}": the system knows no address`,
        { cause },
      );
    }
    options.signal?.throwIfAborted();
    const addresses = orderByStrategy(found, options.strategy ?? this.#strategy);
    if (addresses.length > 0) return addresses;
    throw new NameError(
      "proxy.name-not-found",
      `Cannot resolve "${host}": it has no address of the wanted family`,
    );
  }
}

/** Addresses in the order of a strategy, without those it leaves out. */
export function orderByStrategy(
  found: readonly { readonly address: string; readonly family: number }[],
  strategy: DomainStrategy | undefined,
): readonly string[] {
  const only = strategy === "ipv4_only" ? 4 : strategy === "ipv6_only" ? 6 : 0;
  const first = strategy === "prefer_ipv4" ? 4 : strategy === "prefer_ipv6" ? 6 : 0;
  const kept = found.filter(({ family }) => only === 0 || family === only);
  const ordered = first === 0 ? kept : [
    ...kept.filter(({ family }) => family === first),
    ...kept.filter(({ family }) => family !== first),
  ];
  return ordered.map(({ address }) => address);
}
