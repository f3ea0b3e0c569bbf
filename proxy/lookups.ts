/**
 * Names to addresses and back, for clients that only ask.
 *
 * @module
 */

import { NameError } from "./resolver.ts";
import { addressData, decodeDns, readDnsName, TYPE_PTR } from "./dns_message.ts";
import type { Metadata, Resolver } from "./outbound.ts";
import type { ProxyDns } from "./proxy_dns.ts";
import { ipFamilyOf } from "./protocol/mod.ts";

/**
 * The address of a name.
 *
 * @param metadata Who asks, and for which name as the destination; an address is its own.
 * @throws {FastwireError} `proxy.name-not-found` when there is none; why nobody told.
 */
export async function findAddress(resolver: Resolver, metadata: Metadata): Promise<string> {
  const { host } = metadata.destination;
  if (ipFamilyOf(host) !== 0) return host;
  return (await resolver.resolve(host, { metadata }))[0]!;
}

/**
 * The name of an address: what it was invented for, or what its PTR record says.
 *
 * @param metadata Who asks, and for which address as the destination.
 * @throws {FastwireError} `proxy.name-not-found` when there is none; why nobody told.
 */
export async function findName(dns: ProxyDns, metadata: Metadata): Promise<string> {
  const { host } = metadata.destination;
  const invented = dns.fakeNameOf(host);
  if (invented !== undefined) return invented;
  const reverse = reverseNameOf(host);
  if (reverse === undefined) {
    throw new NameError("proxy.name-not-found", notFound(host, "it is no address"));
  }
  const { bytes } = await dns.query(reverse, TYPE_PTR, { metadata });
  const message = decodeDns(bytes, 0, bytes.length);
  if (typeof message !== "string") {
    for (const { section, type, dataStart } of message.records) {
      if (section !== "answer" || type !== TYPE_PTR) continue;
      const name = readDnsName(bytes, 0, dataStart, bytes.length);
      if (name !== undefined && name !== ".") return name;
    }
  }
  throw new NameError("proxy.name-not-found", notFound(host, "it has none"));
}

/** The name below `in-addr.arpa` or `ip6.arpa` that stands for an address; `undefined` for other texts. */
export function reverseNameOf(address: string): string | undefined {
  const bytes = addressData(address);
  if (bytes.length === 4) return `${[...bytes].reverse().join(".")}.in-addr.arpa`;
  if (bytes.length !== 16) return undefined;
  const digits = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${[...digits].reverse().join(".")}.ip6.arpa`;
}

function notFound(host: string, why: string): string {
  return `Cannot find the name of "${host.slice(0, 300)}": ${why}`;
}
