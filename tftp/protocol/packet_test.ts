import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { seededRandom } from "../../internal/random.ts";
import { HostilePackets } from "../../internal/testing/hostile.ts";
import { bytesOfHex, forVectors, hexOf, type VectorFile } from "../../internal/testing/vectors.ts";
import packets from "../testdata/packets.json" with { type: "json" };
import { ACK, DATA, ERROR, OACK, RRQ, WRQ } from "./opcodes.ts";
import {
  classify,
  decodeErrorMessage,
  encodeError,
  encodeOptionsAck,
  readBlockNumber,
  readErrorCode,
  REJECT_NAMES,
  REJECT_NO_ROOM,
  wireBlock,
  writeAck,
  writeDataHeader,
} from "./packet.ts";
import { decodeOptionsAck, decodeRequest, encodeRequest, type OptionPair } from "./request.ts";

interface Meaning {
  readonly kind: string;
  readonly block?: number;
  readonly code?: number;
  readonly message?: string;
  readonly payload?: string;
  readonly filename?: string;
  readonly mode?: string;
  readonly options?: readonly OptionPair[];
}

// A JSON module's tuples are arrays to the compiler.
const file = packets as unknown as VectorFile<Meaning>;

function decode(bytes: Uint8Array<ArrayBuffer>): Meaning | string {
  const view = new DataView(bytes.buffer);
  const end = bytes.length;
  const kind = classify(view, 0, end);
  if (kind < 0) return REJECT_NAMES[-kind]!;
  if (kind === RRQ || kind === WRQ) {
    const request = decodeRequest(bytes, 0, end);
    if (typeof request === "number") return REJECT_NAMES[-request]!;
    const { operation, filename, mode, options } = request;
    return { kind: operation, filename, mode, options };
  }
  if (kind === ACK) return { kind: "ack", block: readBlockNumber(view, 0) };
  if (kind === OACK) return { kind: "options", options: decodeOptionsAck(bytes, 0, end) };
  if (kind === ERROR) {
    const message = decodeErrorMessage(bytes, 0, end);
    return { kind: "error", code: readErrorCode(view, 0), message };
  }
  equal(kind, DATA);
  return { kind: "data", block: readBlockNumber(view, 0), payload: hexOf(bytes.subarray(4)) };
}

function encode(meaning: Meaning): Uint8Array {
  const bytes = new Uint8Array(600);
  const view = new DataView(bytes.buffer);
  let end = 0;
  switch (meaning.kind) {
    case "ack":
      end = writeAck(view, 0, meaning.block!);
      break;
    case "data": {
      const payload = bytesOfHex(meaning.payload!);
      writeDataHeader(view, 0, meaning.block!);
      bytes.set(payload, 4);
      end = 4 + payload.length;
      break;
    }
    case "error":
      end = encodeError(bytes, 0, meaning.code!, meaning.message!);
      break;
    case "options":
      end = encodeOptionsAck(bytes, 0, meaning.options!);
      break;
    default:
      end = encodeRequest(bytes, 0, {
        operation: meaning.kind as "read" | "write",
        filename: meaning.filename!,
        mode: meaning.mode as "octet" | "netascii",
        options: meaning.options!,
      });
  }
  return bytes.subarray(0, end);
}

Deno.test("the codecs read every vector", () => {
  forVectors(file, (vector, bytes) => deepEqual(decode(bytes), vector.decoded ?? vector.rejected));
});

Deno.test("the codecs write every vector byte for byte", () => {
  forVectors(file, (vector, bytes) => {
    if (vector.decoded === undefined || vector.decodeOnly) return;
    equal(hexOf(encode(vector.decoded)), hexOf(bytes));
  });
});

Deno.test("wireBlock() counts 65535, 0 or 65535, 1", () => {
  deepEqual([0, 1, 65535, 65536, 65537].map((index) => wireBlock(index, 0)), [0, 1, 65535, 0, 1]);
  deepEqual([0, 1, 65535, 65536, 65537].map((index) => wireBlock(index, 1)), [0, 1, 65535, 1, 2]);
  equal(wireBlock(2 ** 40 + 3, 0), 3);
  equal(wireBlock(65535 * 2 ** 30 + 3, 1), 3);
});

Deno.test("encodeError() cuts a long message between characters and keeps the zero", () => {
  const bytes = new Uint8Array(700);
  const end = encodeError(bytes, 0, 0, "é".repeat(400));
  equal(end, 4 + 512 + 1);
  equal(bytes[end - 1], 0);
  equal(decodeErrorMessage(bytes, 0, end), "é".repeat(256));
});

Deno.test("encodeError() fits a small buffer or says that it cannot", () => {
  const bytes = new Uint8Array(8);
  equal(encodeError(bytes, 0, 1, "message"), 8);
  equal(decodeErrorMessage(bytes, 0, 8), "mes");
  equal(encodeError(bytes, 4, 1, "message"), REJECT_NO_ROOM);
  throws(() => encodeError(bytes, 0, 65536, ""), RangeError);
});

Deno.test("decodeErrorMessage() takes at most 512 bytes and survives what is not UTF-8", () => {
  const bytes = new Uint8Array(2000).fill(0x41);
  bytes.set([0, 5, 0, 1, 0xff]);
  const message = decodeErrorMessage(bytes, 0, bytes.length);
  equal(message.length, 512);
  equal(message[0], "\ufffd");
});

Deno.test("encodeOptionsAck() refuses what ASCII cannot carry and reports a full buffer", () => {
  const bytes = new Uint8Array(12);
  throws(() => encodeOptionsAck(bytes, 0, [["a\0b", "1"]]), RangeError);
  throws(() => encodeOptionsAck(bytes, 0, [["", "1"]]), RangeError);
  throws(() => encodeOptionsAck(bytes, 0, [["é", "1"]]), RangeError);
  equal(encodeOptionsAck(bytes, 0, [["blksize", "512"]]), REJECT_NO_ROOM);
  equal(encodeOptionsAck(bytes, 0, [["blksize", "9"]]), 12);
});

/** `FASTWIRE_LONG=1` tries a million. */
const LONG = Deno.env.get("FASTWIRE_LONG") === "1";

Deno.test("the codecs survive hostile datagrams without reading beyond their end", () => {
  const seed = 20_260;
  const good: Uint8Array[] = [];
  forVectors(file, (_, bytes) => void good.push(bytes));
  const hostile = new HostilePackets(seededRandom(seed), good, 1600);
  const seen = new Map<string, number>();
  for (let i = 0; i < (LONG ? 1_000_000 : 250_000); i++) {
    hostile.next();
    const { bytes, view, start, end } = hostile;
    let kind = classify(view, start, end);
    if (kind === RRQ || kind === WRQ) {
      const request = decodeRequest(bytes, start, end);
      if (typeof request === "number") kind = request;
      else {
        const size = request.filenameBytes.length;
        if (size === 0 || size >= end - start) throw new Error(`seed ${seed}, packet ${i}: name`);
        if (request.filenameBytes.includes(0)) throw new Error(`seed ${seed}, packet ${i}: zero`);
      }
    } else if (kind === OACK) {
      let size = 2;
      for (const [name, value] of decodeOptionsAck(bytes, start, end)) {
        size += name.length + value.length + 2;
      }
      if (size > end - start) throw new Error(`seed ${seed}, packet ${i}: options`);
    } else if (kind === ERROR) {
      if (decodeErrorMessage(bytes, start, end).length > end - start - 4) {
        throw new Error(`seed ${seed}, packet ${i}: message`);
      }
    } else if (kind > 0 && end - start < 4) throw new Error(`seed ${seed}, packet ${i}: length`);
    const name = kind > 0 ? String(kind) : REJECT_NAMES[-kind]!;
    seen.set(name, (seen.get(name) ?? 0) + 1);
  }
  // Every kind and every refusal that a short packet can meet was met.
  for (const name of ["1", "2", "3", "4", "5", "6", ...REJECT_NAMES.slice(1, 6)]) {
    ok((seen.get(name) ?? 0) > 100, `${name}: ${seen.get(name)}`);
  }
});
