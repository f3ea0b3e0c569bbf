import { deepEqual, equal, ok, throws } from "node:assert/strict";
import fc from "fast-check";
import { REJECT_FILENAME_TOO_LONG, REJECT_NO_ROOM, REJECT_TOO_LONG } from "./packet.ts";
import { decodeOptionsAck, decodeRequest, encodeRequest, type TftpRequest } from "./request.ts";

function request(text: string, opcode = 1): TftpRequest {
  const decoded = decode(text, opcode);
  if (typeof decoded === "number") throw new Error(`rejected: ${decoded}`);
  return decoded;
}

/** Latin-1 text behind an opcode. */
function decode(text: string, opcode = 1): TftpRequest | number {
  const bytes = new Uint8Array([0, opcode, ...[...text].map((char) => char.charCodeAt(0))]);
  return decodeRequest(bytes, 0, bytes.length);
}

Deno.test("decodeRequest() compares modes without case and keeps them as written", () => {
  equal(request("a\0OcTeT\0").mode, "octet");
  equal(request("a\0OcTeT\0").modeText, "OcTeT");
  equal(request("a\0NETASCII\0").mode, "netascii");
  equal(request("a\0mail\0").mode, "mail");
  equal(request("a\0binary\0").mode, "unknown");
  equal(request("a\0\0").mode, "unknown");
  equal(request("a\0" + "octet".repeat(20) + "\0").modeText.length, 32);
});

Deno.test("decodeRequest() does not decode an address in the filename (iPXE)", () => {
  equal(request("my%20file name\0octet\0").filename, "my%20file name");
});

Deno.test("decodeRequest() keeps backslashes and case as they are (Windows boot manager)", () => {
  equal(request("Boot\\X64\\WdsNbp.com\0octet\0").filename, "Boot\\X64\\WdsNbp.com");
});

Deno.test("decodeRequest() keeps the garbage that some firmware appends to the name", () => {
  const decoded = request("pxelinux.0\xff\xff\0octet\0");
  deepEqual([...decoded.filenameBytes.subarray(-2)], [0xff, 0xff]);
  equal(decoded.filename, "pxelinux.0\\xff\\xff");
});

Deno.test("decodeRequest() reads UTF-8 names, and shows control characters as text", () => {
  equal(request("\xc3\xa9\0octet\0").filename, "é");
  equal(request("a\x1b[2Jb\0octet\0").filename, "a\\x1b[2Jb");
});

Deno.test("decodeRequest() takes names up to 1,024 bytes with components up to 255", () => {
  const component = "c".repeat(255);
  equal(request(component + "\0octet\0").filenameBytes.length, 255);
  equal(decode("c".repeat(256) + "\0octet\0"), REJECT_FILENAME_TOO_LONG);
  const long = [component, component, component, component].join("/");
  equal(request(long + "\0octet\0").filenameBytes.length, 1023);
  equal(decode(long + "/c\0octet\0"), REJECT_FILENAME_TOO_LONG);
});

Deno.test("decodeRequest() takes 1,500 bytes and not one more", () => {
  const padded = "a\0octet\0" + "\0".repeat(1490);
  equal(request(padded).filename, "a");
  equal(decode(padded + "\0"), REJECT_TOO_LONG);
});

Deno.test("decodeRequest() copies the filename out of the buffer", () => {
  const bytes = new Uint8Array([0, 1, 97, 0, 111, 99, 116, 101, 116, 0]);
  const decoded = decodeRequest(bytes, 0, bytes.length);
  bytes.fill(0xdd);
  ok(typeof decoded !== "number");
  deepEqual([...decoded.filenameBytes], [97]);
});

Deno.test("decodeOptionsAck() stops quietly at trailing garbage", () => {
  const bytes = new TextEncoder().encode("\0\x06blksize\x00512\0garb");
  deepEqual(decodeOptionsAck(bytes, 0, bytes.length), [["blksize", "512"]]);
});

Deno.test("encodeRequest() keeps to 512 bytes and refuses what is no name", () => {
  const bytes = new Uint8Array(1000);
  const fields = { operation: "read", mode: "octet", options: [] } as const;
  equal(encodeRequest(bytes, 0, { ...fields, filename: "f".repeat(503) }), 512);
  equal(encodeRequest(bytes, 0, { ...fields, filename: "f".repeat(504) }), REJECT_NO_ROOM);
  equal(
    encodeRequest(bytes, 0, { ...fields, filename: "f".repeat(500), options: [["a", "1"]] }),
    REJECT_NO_ROOM,
  );
  throws(() => encodeRequest(bytes, 0, { ...fields, filename: "" }), RangeError);
  throws(() => encodeRequest(bytes, 0, { ...fields, filename: "a\0b" }), RangeError);
});

Deno.test("requests come back as they were written, at every offset", () => {
  const ascii = fc.string({ minLength: 1, maxLength: 20 }).map((each) =>
    each.replace(/[^\u0020-\u007e]/g, "_")
  );
  const options = fc.uniqueArray(fc.tuple(ascii.map((each) => each.toLowerCase()), ascii), {
    maxLength: 5,
    selector: (pair) => pair[0],
  });
  const operation = fc.constantFrom("read" as const, "write" as const);
  const mode = fc.constantFrom("octet" as const, "netascii" as const);
  fc.assert(fc.property(ascii, options, operation, mode, fc.nat(99), (...fields) => {
    const [filename, pairs, way, as, start] = fields;
    const bytes = new Uint8Array(700);
    const end = encodeRequest(bytes, start, { operation: way, filename, mode: as, options: pairs });
    const decoded = decodeRequest(bytes, start, end);
    ok(typeof decoded !== "number");
    deepEqual([decoded.operation, decoded.filename, decoded.mode], [way, filename, as]);
    deepEqual(decoded.options, pairs);
  }));
});
