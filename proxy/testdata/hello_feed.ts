/**
 * What clients of TLS and QUIC say first, put together in straight lines.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { createCipheriv, createHmac } from "node:crypto";
import { seededRandom } from "../../internal/random.ts";
import { bytesOfHex } from "../../internal/testing/vectors.ts";
import { bytesOfLatin1, joinBytes } from "../protocol/octets.ts";
import { aesBlock } from "./ciphers.ts";

const random = seededRandom(71);

/** Two bytes. */
export function u16(value: number): number[] {
  return [value >> 8, value & 255];
}

/** With the length of it all in front. */
export function withLength16(...parts: readonly ArrayLike<number>[]): Uint8Array<ArrayBuffer> {
  const body = joinBytes(...parts);
  return joinBytes(u16(body.length), body);
}

/** An extension of TLS. */
export function extension(type: number, ...parts: readonly ArrayLike<number>[]): Uint8Array {
  return joinBytes(u16(type), withLength16(...parts));
}

/** A ClientHello with the four bytes before it. */
export function clientHello(
  host: string | undefined,
  alpn: readonly string[] = [],
  more: readonly Uint8Array[] = [],
  suites: readonly number[] = [0x1301, 0x1302],
): Uint8Array<ArrayBuffer> {
  const extensions = [...more];
  if (host !== undefined) {
    const name = joinBytes([0], withLength16(bytesOfLatin1(host)));
    extensions.push(extension(0, withLength16(name)));
  }
  if (alpn.length > 0) {
    const names = alpn.map((name) => joinBytes([name.length], bytesOfLatin1(name)));
    extensions.push(extension(16, withLength16(...names)));
  }
  const body = joinBytes(
    [3, 3],
    random.bytes(32),
    [32],
    random.bytes(32),
    withLength16(...suites.map(u16)),
    [1, 0],
    withLength16(...extensions),
  );
  return joinBytes([1, 0, ...u16(body.length)], body);
}

/** An Initial packet, put together in a straight line. */
export function initialPacket(
  destination: Uint8Array,
  number: Uint8Array,
  payload: Uint8Array,
  draft: "1" | "2" | "29" = "1",
): Uint8Array<ArrayBuffer> {
  const salt = {
    "1": "38762cf7f55934b34d179ae6a4c80cadccbb7f0a",
    "2": "0dede3def700a6db819381be6e269dcbf9bd2ed9",
    "29": "afbfec289993d24c9e9786f19c6111e04390a899",
  }[draft];
  const code = { "1": "00000001", "2": "6b3343cf", "29": "ff00001d" }[draft];
  const label = (secret: Uint8Array, name: string, length: number) => {
    const text = `tls13 ${name}`;
    const info = Buffer.concat([
      Buffer.from([0, length, text.length]),
      Buffer.from(text),
      Buffer.from([0]),
    ]);
    return hmac(secret, joinBytes(info, [1])).subarray(0, length);
  };
  const extracted = hmac(bytesOfHex(salt), destination);
  const secret = label(extracted, "client in", 32);
  const prefix = draft === "2" ? "quicv2" : "quic";
  const key = label(secret, `${prefix} key`, 16);
  const iv = label(secret, `${prefix} iv`, 12);
  const headerKey = label(secret, `${prefix} hp`, 16);
  const length = number.length + payload.length + 16;
  const first = (draft === "2" ? 0xd0 : 0xc0) | (number.length - 1);
  const header = joinBytes(
    [first],
    bytesOfHex(code),
    [destination.length],
    destination,
    [0, 0, 0x40 | length >> 8, length & 255],
    number,
  );
  const nonce = Uint8Array.from(iv);
  number.forEach((byte, i) => nonce[12 - number.length + i]! ^= byte);
  const cipher = createCipheriv("aes-128-gcm", key, nonce);
  cipher.setAAD(header);
  const packet = joinBytes(header, cipher.update(payload), cipher.final(), cipher.getAuthTag());
  const at = header.length - number.length;
  const mask = aesBlock("encrypt", headerKey, packet.slice(at + 4, at + 20));
  packet[0]! ^= mask[0]! & 15;
  for (let i = 0; i < number.length; i++) packet[at + i]! ^= mask[1 + i]!;
  return packet;
}

/** HMAC is all there is to HKDF when one block is enough. RFC 5869. */
function hmac(key: Uint8Array, text: Uint8Array): Uint8Array {
  return createHmac("sha256", key).update(text).digest();
}

/** A piece of a handshake message. */
export function cryptoFrame(message: Uint8Array, start: number, end: number): Uint8Array {
  const varint = (value: number) => [0x40 | value >> 8, value & 255];
  return joinBytes(
    [6, ...varint(start), ...varint(end - start)],
    message.subarray(start, end),
  );
}
