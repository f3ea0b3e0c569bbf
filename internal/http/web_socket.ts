/**
 * The server's side of a WebSocket (RFC 6455) that tells and does not listen: text goes out, what comes in is read only to
 * answer pings and the close.
 *
 * @module
 */
import { createHash } from "node:crypto";
import type { Duplex } from "node:stream";

/** A client that is told things. */
export interface TextSocket {
  /** Whether it is gone. */
  readonly closed: boolean;
  /** Bytes that wait to leave; who tells a lot leaves something out when there are many. */
  readonly waitingBytes: number;
  /** Tells. Nothing when it is gone. */
  send(text: string): void;
  /** Calls back once when it is gone; at once when it is already. */
  whenClosed(call: () => void): void;
  /** Says goodbye and closes. Idempotent. */
  close(): void;
}

/**
 * The answer to a client that wants a WebSocket.
 *
 * @param key Its `Sec-WebSocket-Key`; sixteen bytes in base64.
 * @returns The head of the answer; `undefined` when the key is none.
 */
export function webSocketAnswer(key: string): string | undefined {
  if (!/^[A-Za-z0-9+/]{22}==$/.test(key)) return undefined;
  const accept = createHash("sha1").update(key + GUID).digest("base64");
  return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
    `Sec-WebSocket-Accept: ${accept}\r\n\r\n`;
}

/**
 * Takes a stream over behind the handshake.
 *
 * @param head What was read of it already.
 */
export function openTextSocket(stream: Duplex, head: Uint8Array): TextSocket {
  let closed = false;
  const waiting: (() => void)[] = [];
  let held: Uint8Array = new Uint8Array(0);
  const end = (): void => {
    if (closed) return;
    closed = true;
    for (const call of waiting.splice(0)) call();
  };
  const write = (opcode: number, payload: Uint8Array): void => {
    if (!stream.destroyed && !stream.writableEnded) stream.write(frameOf(opcode, payload));
  };
  const close = (payload: Uint8Array): void => {
    if (closed) return;
    write(OPCODE_CLOSE, payload);
    end();
    stream.end();
  };
  const receive = (chunk: Uint8Array): void => {
    if (closed) return;
    const all = new Uint8Array(held.length + chunk.length);
    all.set(held);
    all.set(chunk, held.length);
    held = all;
    for (;;) {
      const frame = readFrame(held);
      if (frame === "short") return;
      // Nobody has anything to say here: what is not a small, masked frame ends it. 1009 is "too big".
      if (frame === "bad") return close(Uint8Array.of(1009 >> 8, 1009 & 255));
      held = held.slice(frame.end);
      if (frame.opcode === OPCODE_CLOSE) return close(frame.payload.subarray(0, 2));
      if (frame.opcode === OPCODE_PING) write(OPCODE_PONG, frame.payload);
    }
  };
  stream.on("error", () => stream.destroy());
  stream.on("close", end);
  stream.on("end", () => stream.end());
  stream.on("data", receive);
  receive(head);
  return {
    get closed() {
      return closed;
    },
    get waitingBytes() {
      return stream.writableLength;
    },
    send: (text) => closed ? undefined : write(OPCODE_TEXT, new TextEncoder().encode(text)),
    whenClosed: (call) => closed ? call() : void waiting.push(call),
    close: () => close(Uint8Array.of(1001 >> 8, 1001 & 255)),
  };
}

//  0        1               2 or 4 or 10     4
//  +--------+---------------+-------------+------+---------+
//  | 1 op   | mask, length  | length …    | mask | payload |      RFC 6455 §5.2
//  +--------+---------------+-------------+------+---------+

function frameOf(opcode: number, payload: Uint8Array): Uint8Array {
  const { length } = payload;
  const headBytes = length < 126 ? 2 : length < 65_536 ? 4 : 10;
  const frame = new Uint8Array(headBytes + length);
  const view = new DataView(frame.buffer);
  frame[0] = 0x80 | opcode;
  frame[1] = length < 126 ? length : length < 65_536 ? 126 : 127;
  if (headBytes === 4) view.setUint16(2, length);
  if (headBytes === 10) view.setUint32(6, length);
  frame.set(payload, headBytes);
  return frame;
}

interface Frame {
  readonly opcode: number;
  readonly payload: Uint8Array;
  readonly end: number;
}

function readFrame(bytes: Uint8Array): Frame | "short" | "bad" {
  if (bytes.length < 2) return "short";
  const isMasked = (bytes[1]! & 0x80) !== 0;
  let length = bytes[1]! & 0x7f;
  let at = 2;
  if (!isMasked || length === 127) return "bad";
  if (length === 126) {
    if (bytes.length < 4) return "short";
    length = bytes[2]! << 8 | bytes[3]!;
    at = 4;
  }
  if (length > MAX_FRAME_BYTES) return "bad";
  const end = at + 4 + length;
  if (bytes.length < end) return "short";
  const payload = bytes.slice(at + 4, end);
  for (let i = 0; i < length; i++) payload[i] = payload[i]! ^ bytes[at + i % 4]!;
  return { opcode: bytes[0]! & 0x0f, payload, end };
}

const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const OPCODE_TEXT = 1;
const OPCODE_CLOSE = 8;
const OPCODE_PING = 9;
const OPCODE_PONG = 10;
const MAX_FRAME_BYTES = 4096;
