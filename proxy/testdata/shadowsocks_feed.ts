/**
 * Seals and opens streams and datagrams of Shadowsocks in tests, with guards around every buffer.
 *
 * @module
 */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { Random } from "../../internal/random.ts";
import { decodeAddress, type Endpoint } from "../protocol/address.ts";
import type { StreamOpener, StreamSealer } from "../protocol/aead_chunk.ts";
import { joinBytes } from "../protocol/octets.ts";
import { SHADOWSOCKS_METHODS, type ShadowsocksMethod } from "../protocol/shadowsocks_method.ts";
import {
  PACKET_REJECT_NAMES,
  type ShadowsocksPacketClient,
  type ShadowsocksPacketOpener,
  type ShadowsocksPacketServer,
} from "../protocol/shadowsocks_packet.ts";

/** The time of the vectors, Unix seconds. */
export const TIME = 1_700_000_000;
export const EXAMPLE: Endpoint = { host: "example.com", port: 443 };
export const IPV4: Endpoint = { host: "192.0.2.1", port: 80 };
export const METHODS = Object.keys(SHADOWSOCKS_METHODS) as readonly ShadowsocksMethod[];
/** How many times over the random rounds are run. */
export const ROUNDS: number = Deno.env.get("FASTWIRE_LONG") === "1" ? 20 : 1;
export const text: TextEncoder = new TextEncoder();

/** A password that fits the method. */
export function passwordOf(method: ShadowsocksMethod, fill = 7): string {
  const { edition, keyBytes } = SHADOWSOCKS_METHODS[method];
  return edition === 2022 ? btoa(String.fromCharCode(fill).repeat(keyBytes)) : `secret ${fill}`;
}

/** A few payloads. */
export function payloadsOf(random: Random, small: boolean): Uint8Array[] {
  const count = 1 + random.u32() % 4;
  return Array.from({ length: count }, () => random.bytes(1 + random.u32() % (small ? 60 : 4000)));
}

/** What goes over the wire for payloads, each sealed between fresh room. */
export function sealAll(
  sealer: StreamSealer,
  payloads: readonly Uint8Array[],
  seconds: number = TIME,
): Uint8Array<ArrayBuffer> {
  const pieces = payloads.map((payload) => {
    const start = sealer.headroom + 3;
    const buffer = new Uint8Array(start + payload.length + sealer.tailroom + 3).fill(0xdd);
    buffer.set(payload, start);
    const end = start + payload.length;
    const head = sealer.seal(buffer, start, end, seconds);
    ok(head >= 3, "wrote before the headroom");
    deepEqual([...buffer.subarray(end + sealer.tailroom)], [0xdd, 0xdd, 0xdd]);
    return buffer.slice(head, end + sealer.tailroom);
  });
  return joinBytes(...pieces);
}

/** All payloads of what came over the wire, cut as said; the opener sees what it left unconsumed again, untouched. */
export function openAll(
  opener: StreamOpener,
  wire: Uint8Array,
  cut: () => number,
  seconds: number = TIME,
): Uint8Array {
  let payload: Uint8Array = new Uint8Array(0);
  const buffer = new Uint8Array(wire.length + 2).fill(0xdd);
  let start = 2, end = 2;
  while (end - 2 < wire.length) {
    const piece = Math.min(cut(), wire.length + 2 - end);
    buffer.set(wire.subarray(end - 2, end - 2 + piece), end);
    end += piece;
    while (end - start >= opener.need) {
      const consumed = opener.open(buffer, start, end, seconds);
      ok(consumed >= 0 && start + consumed <= end);
      for (let i = 0; i < opener.count; i++) {
        const [from, to] = [opener.starts[i]!, opener.ends[i]!];
        ok(from >= start && to <= start + consumed && from < to);
        payload = joinBytes(payload, buffer.subarray(from, to));
      }
      start += consumed;
      if (consumed === 0) {
        ok(end - start < opener.need, "no progress with as many bytes as it asked for");
      }
      if (end === start) break;
    }
  }
  return payload;
}

/** A datagram of a client. */
export function sealPacket(
  client: ShadowsocksPacketClient,
  data: Uint8Array,
  to: Endpoint,
  seconds: number = TIME,
): Uint8Array<ArrayBuffer> {
  return sealBetween(
    client,
    data,
    (buffer, start, end) => client.seal(buffer, start, end, to, seconds),
  );
}

/** The answer to the datagram that was opened last. */
export function answerPacket(
  server: ShadowsocksPacketServer,
  data: Uint8Array,
  from: Endpoint,
  seconds: number = TIME,
): Uint8Array<ArrayBuffer> {
  return sealBetween(
    server,
    data,
    (buffer, start, end) => server.seal(server.session!, buffer, start, end, from, seconds),
  );
}

export function sealBetween(
  { headroom, tailroom }: ShadowsocksPacketOpener,
  data: Uint8Array,
  seal: (buffer: Uint8Array, start: number, end: number) => number,
): Uint8Array<ArrayBuffer> {
  const buffer = new Uint8Array(headroom + data.length + tailroom + 1).fill(0xdd);
  buffer.set(data, headroom);
  const end = headroom + data.length;
  const head = seal(buffer, headroom, end);
  ok(head >= 0);
  equal(buffer[end + tailroom], 0xdd);
  return buffer.slice(head, end + tailroom);
}

/** Data and address of a datagram, or the name of the reason against it. */
export function openPacket(
  opener: ShadowsocksPacketOpener,
  packet: Uint8Array,
  seconds: number = TIME,
): readonly [string, unknown] | string {
  const buffer = joinBytes([0xdd, 0xdd], packet, [0xdd]);
  const found = opener.open(buffer, 2, 2 + packet.length, seconds);
  if (found < 0) return PACKET_REJECT_NAMES[-found]!;
  equal(found, opener.dataStart);
  const { addressStart, dataStart, dataEnd } = opener;
  return [
    new TextDecoder().decode(buffer.subarray(dataStart, dataEnd)),
    decodeAddress(buffer, addressStart, dataStart),
  ];
}
