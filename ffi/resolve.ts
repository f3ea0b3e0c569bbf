/**
 * Names of hosts.
 *
 * @module
 */
import { lookup } from "node:dns/promises";
import { parseIpv4, parseIpv6, type SocketAddress } from "./address.ts";
import { fromRuntimeError } from "./errno.ts";
import { scopeOf } from "./zones.ts";

/**
 * Reads `host`, `host:port`, `[v6]:port` or `v6`, with an optional zone (`fe80::1%3`, `fe80::1%eth0`), looking names up.
 *
 * @param defaultPort The port when none is given.
 * @throws {TypeError} When the text is not of that form. @throws {SystemError} When the name is not known.
 */
export async function resolveHost(text: string, defaultPort: number): Promise<SocketAddress> {
  const { host, port } = splitHost(text, defaultPort);
  const literal = literalAddress(host, port);
  if (literal !== undefined) return literal;
  try {
    const { address, family } = await lookup(host);
    return Object.freeze({ family: family === 6 ? "ipv6" : "ipv4", address, port });
  } catch (error) {
    throw fromRuntimeError(error, "getaddrinfo", `look up "${host}"`);
  }
}

/** The address that a literal host is, or `undefined` for a name. */
export function literalAddress(host: string, port: number): SocketAddress | undefined {
  if (parseIpv4(host) >= 0) return Object.freeze({ family: "ipv4", address: host, port });
  const [bare = "", zone] = host.split("%");
  if (parseIpv6(bare) === undefined) return undefined;
  const scope = zone === undefined ? 0 : scopeOf(zone);
  if (scope === 0 && zone !== undefined && zone !== "0") {
    throw new TypeError(
      `Cannot use zone "${zone}": expected the number of an interface, or the name of one with IPv6`,
    );
  }
  return Object.freeze(
    scope === 0
      ? { family: "ipv6", address: bare, port }
      : { family: "ipv6", address: bare, port, scope },
  );
}

/** Host and port of `host[:port]` or `[v6][:port]`. @throws {TypeError} */
export function splitHost(
  text: string,
  defaultPort: number,
): { readonly host: string; readonly port: number } {
  const match = /^\[([^\]]+)\](?::(\d{1,5}))?$/.exec(text) ??
    (text.split(":").length > 2 ? /^(.+)$/.exec(text) : /^([^:]+)(?::(\d{1,5}))?$/.exec(text));
  const port = match?.[2] === undefined ? defaultPort : Number(match[2]);
  if (match === null || port > 65535) {
    throw new TypeError(`Cannot use "${text}": expected "host", "host:port" or "[v6]:port"`);
  }
  return { host: match[1]!, port };
}
