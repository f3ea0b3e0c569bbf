import { deepEqual, equal } from "node:assert/strict";
import fc from "fast-check";
import { bytesOfHex, hexOf } from "../../internal/testing/vectors.ts";
import { NetasciiDecoder, NetasciiEncoder, netasciiLength } from "./netascii.ts";

/** The plain version that judges the streaming one. */
function oracle(host: Uint8Array): number[] {
  return [...host].flatMap((byte) => byte === 10 ? [13, 10] : byte === 13 ? [13, 0] : [byte]);
}

/** Encodes with the source cut at `cuts` and the output in pieces of `room`. */
function encodeInPieces(host: Uint8Array, cut: number, room: number): Uint8Array {
  const encoder = new NetasciiEncoder();
  const wire = new Uint8Array(2 * host.length + 1);
  let at = 0;
  for (const [start, end] of [[0, cut], [cut, host.length]] as const) {
    let from = start;
    for (;;) {
      const next = encoder.encode(host, from, end, wire, at, Math.min(at + room, wire.length));
      from += encoder.consumed;
      if (next === at && from === end) break;
      at = next;
    }
  }
  equal(encoder.hasPending, false);
  return wire.subarray(0, at);
}

function decodeInPieces(wire: Uint8Array, cut: number): Uint8Array {
  const decoder = new NetasciiDecoder();
  const host = new Uint8Array(wire.length + 1);
  let at = decoder.decode(wire, 0, cut, host, 0);
  at = decoder.decode(wire, cut, wire.length, host, at);
  return host.subarray(0, decoder.finish(host, at));
}

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

Deno.test("NetasciiEncoder writes the vector of the specification", () => {
  equal(hexOf(encodeInPieces(text("a\nb\rc"), 2, 99)), "61 0d 0a 62 0d 00 63");
});

Deno.test("NetasciiEncoder writes a host's CR LF as CR NUL CR LF", () => {
  equal(hexOf(encodeInPieces(text("\r\n"), 1, 99)), "0d 00 0d 0a");
});

Deno.test("NetasciiEncoder splits a pair over the edge of a block", () => {
  const encoder = new NetasciiEncoder();
  const host = text("x".repeat(511) + "\nrest");
  const block = new Uint8Array(512);
  equal(encoder.encode(host, 0, host.length, block, 0, 512), 512);
  equal(encoder.consumed, 512);
  equal(encoder.hasPending, true);
  equal(block[511], 0x0d);
  equal(encoder.encode(host, 512, host.length, block, 0, 512), 5);
  equal(block[0], 0x0a);
});

Deno.test("netascii is the same at every split point and in every piece size", () => {
  const host = text("\r\n\n\r\ra\rb\r\n\0\n\r");
  const wire = new Uint8Array(oracle(host));
  for (let cut = 0; cut <= host.length; cut++) {
    for (const room of [1, 2, 3, 7, 99]) {
      deepEqual([...encodeInPieces(host, cut, room)], [...wire], `cut ${cut}, room ${room}`);
    }
  }
  for (let cut = 0; cut <= wire.length; cut++) {
    deepEqual([...decodeInPieces(wire, cut)], [...host], `cut ${cut}`);
  }
});

Deno.test("NetasciiDecoder is lenient about what no encoder writes", () => {
  const cases = [
    ["0d 41", "0d 41"],
    ["0a", "0a"],
    ["00", "00"],
    ["41 0d", "41 0d"],
    ["0d 0d 0a", "0d 0a"],
    ["0d 0d 00", "0d 0d"],
    ["0d 0d", "0d 0d"],
  ];
  for (const [wire, host] of cases) {
    for (let cut = 0; cut <= bytesOfHex(wire!).length; cut++) {
      equal(hexOf(decodeInPieces(bytesOfHex(wire!), cut)), host, `${wire} cut at ${cut}`);
    }
  }
});

Deno.test("netascii comes back unchanged for every text and agrees with the plain version", () => {
  const bytes = fc.array(fc.constantFrom(0, 10, 13, 65), { maxLength: 60 });
  fc.assert(fc.property(bytes, fc.nat(60), fc.integer({ min: 1, max: 9 }), (list, cut, room) => {
    const host = new Uint8Array(list);
    const wire = encodeInPieces(host, Math.min(cut, host.length), room);
    deepEqual([...wire], oracle(host));
    equal(netasciiLength(host), wire.length);
    deepEqual([...decodeInPieces(wire, Math.min(cut, wire.length))], list);
  }));
});
