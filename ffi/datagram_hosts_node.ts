/**
 * Address bytes ↔ the text `node:dgram` speaks, remembered, because parsing and formatting cost more than the datagram.
 *
 * @module
 */
import {
  ADDRESS_BYTES,
  AF_INET6,
  copyAddress,
  equalHost,
  parseIpv4,
  readAddress,
  type SocketAddress,
  writeAddress,
} from "./address.ts";
import { scopeOf, zoneOf } from "./zones.ts";

/** Translations of one socket. */
export class HostTexts {
  readonly #bytesOf = new Map<string, DataView<ArrayBuffer>>();
  /** Interfaces of the link-local addresses that were sent to. */
  readonly #scopes = new Map<string, number>();
  readonly #lastHost = new DataView(new ArrayBuffer(ADDRESS_BYTES));
  readonly #ipv6: boolean;
  #lastText = "";

  /** @param ipv6 The socket is an IPv6 one: IPv4 addresses are mapped. */
  constructor(ipv6: boolean) {
    this.#ipv6 = ipv6;
  }

  /** Writes the address of a received datagram. */
  write(text: string, port: number, into: DataView, at: number): void {
    let bytes = this.#bytesOf.get(text);
    if (bytes === undefined) {
      bytes = new DataView(new ArrayBuffer(ADDRESS_BYTES));
      const [host, zone] = text.split("%") as [string, string?];
      const mapped = this.#ipv6 && parseIpv4(host) >= 0 ? `::ffff:${host}` : host;
      // Deno 2.9 leaves the zone of a sender out: then it is where we know that host to be.
      const scope = zone === undefined ? this.#scopes.get(host) ?? 0 : scopeOf(zone);
      writeAddress(bytes, 0, {
        family: this.#ipv6 ? "ipv6" : "ipv4",
        address: mapped,
        port: 0,
        ...(scope > 0 ? { scope } : {}),
      });
      // A flood of forged senders must not fill the memory.
      if (this.#bytesOf.size >= REMEMBERED) this.#bytesOf.clear();
      this.#bytesOf.set(text, bytes);
    }
    copyAddress(bytes, 0, into, at);
    into.setUint16(at + 2, port, false);
  }

  /** The text of an address to send to, in the socket's family; empty when it has none there. */
  read(view: DataView, at: number): string {
    if (this.#lastText !== "" && equalHost(view, at, this.#lastHost, 0)) return this.#lastText;
    const { family, address, scope } = readAddress(view, at);
    if (family === "ipv6" && !this.#ipv6) return "";
    let text = family === "ipv4" && this.#ipv6 ? `::ffff:${address}` : address;
    if (scope !== undefined && view.getUint16(at, true) === AF_INET6) {
      if (this.#scopes.get(address) !== scope) {
        if (this.#scopes.size >= REMEMBERED) this.#scopes.clear();
        this.#scopes.set(address, scope);
        this.#bytesOf.delete(address);
      }
      text += `%${zoneOf(scope)}`;
    }
    copyAddress(view, at, this.#lastHost, 0);
    this.#lastText = text;
    return text;
  }

  /** Writes an address of the caller. @throws {TypeError} @throws {RangeError} As {@linkcode writeAddress} does. */
  check(address: SocketAddress, into: DataView): void {
    writeAddress(into, 0, address);
  }
}

/** Senders whose address text is remembered. */
const REMEMBERED = 1024;
