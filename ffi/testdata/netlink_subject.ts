/**
 * What the tests of netlink sockets stand on: the drivers, requests, and how to see messages arrive.
 *
 * @module
 */
import type { ContractDriver } from "../../internal/testing/contract.ts";
import { openRing } from "../io_uring_linux.ts";
import { bindAll, libc, libcRefusal } from "../libc_linux.ts";
import {
  type NetlinkConsumer,
  type NetlinkHost,
  type NetlinkHostOptions,
  type NetlinkLoss,
  type NetlinkOptions,
  type NetlinkSocket,
  openNetlinkHost,
} from "../netlink.ts";

// Functions bind when they are first named, which the leak check would put down to the test that happened to name them.
bindAll();

export const NLMSG_ERROR = 2;
export const NLMSG_DONE = 3;
export const RTM_NEWLINK = 16;
export const RTM_GETLINK = 18;
export const RTM_NEWNEIGH = 28;
export const RTM_DELNEIGH = 29;
export const RTM_GETNEIGH = 30;
export const REQUEST = 0x1;
export const DUMP = 0x300;

/** One message, copied. */
export interface Message {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  readonly port: number;
  /** What follows the header. */
  readonly body: DataView<ArrayBuffer>;
}

/** A socket, and everything that came. */
export class Listener {
  readonly messages: Message[] = [];
  readonly losses: NetlinkLoss[] = [];
  turns = 0;
  datagrams = 0;
  socket!: NetlinkSocket;

  readonly consumer: NetlinkConsumer = {
    datagram: (view, start, end) => {
      this.datagrams++;
      for (let at = start; at + 16 <= end; at += (view.getUint32(at, true) + 3) & ~3) {
        const length = view.getUint32(at, true);
        this.messages.push({
          type: view.getUint16(at + 4, true),
          flags: view.getUint16(at + 6, true),
          sequence: view.getUint32(at + 8, true),
          port: view.getUint32(at + 12, true),
          body: new DataView(view.buffer.slice(at + 16, at + length)),
        });
      }
    },
    lost: (loss) => this.losses.push(loss),
    turned: () => this.turns++,
  };

  count(...types: readonly number[]): number {
    return this.messages.filter(({ type }) => types.includes(type)).length;
  }

  /** Sends a request and waits for the end of the answer: a DONE, an ERROR, or for a single get any message. */
  async ask(bytes: Uint8Array<ArrayBuffer>): Promise<readonly Message[]> {
    const sequence = new DataView(bytes.buffer).getUint32(8, true);
    const dump = (new DataView(bytes.buffer).getUint16(6, true) & DUMP) !== 0;
    this.socket.send(bytes);
    const answers = () => this.messages.filter((message) => message.sequence === sequence);
    await until(
      () => answers().some(({ type }) => !dump || type === NLMSG_DONE || type === NLMSG_ERROR),
      "the answer",
    );
    return answers();
  }
}

/** What each behaviour is shown with. */
export interface Subject {
  readonly host: NetlinkHost;
}

export async function listen(
  { host }: Subject,
  options: Partial<NetlinkOptions> = {},
): Promise<Listener> {
  const listener = new Listener();
  listener.socket = await host.open({ consumer: listener.consumer, ...options });
  return listener;
}

/** Lets the event loop run until `done`; fails after five seconds. */
export async function until(done: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + 5000;
  while (!done()) {
    if (performance.now() > deadline) throw new Error(`Cannot see ${what}: 5 s have passed`);
    await new Promise<void>((resolve) => setTimeout(resolve, 1));
  }
}

/** A request: header, body, attributes. */
export function request(
  type: number,
  flags: number,
  sequence: number,
  body: readonly number[],
  ...attributes: readonly (readonly [type: number, bytes: readonly number[]])[]
): Uint8Array<ArrayBuffer> {
  const bytes: number[] = [...new Array(16).fill(0), ...body];
  for (const [kind, value] of attributes) {
    bytes.push(4 + value.length, 0, kind, 0, ...value);
    while (bytes.length % 4 !== 0) bytes.push(0);
  }
  const view = new DataView(Uint8Array.from(bytes).buffer);
  view.setUint32(0, bytes.length, true);
  view.setUint16(4, type, true);
  view.setUint16(6, REQUEST | flags, true);
  view.setUint32(8, sequence, true);
  return new Uint8Array(view.buffer);
}

/** `struct ndmsg`. */
export function ndmsg(family = 0, index = 0, state = 0): readonly number[] {
  return [family, 0, 0, 0, ...word(index), state, 0, 0, 0];
}

/** `struct ifinfomsg`. */
export function ifinfomsg(index = 0): readonly number[] {
  return [0, 0, 0, 0, ...word(index), 0, 0, 0, 0, 0, 0, 0, 0];
}

export function word(value: number): readonly number[] {
  return [value & 255, value >> 8 & 255, value >> 16 & 255, value >>> 24];
}

/** The bytes of an attribute of a message; `offset` is the length of the struct before the attributes. */
export function attribute({ body }: Message, offset: number, type: number): number[] | undefined {
  for (let at = offset; at + 4 <= body.byteLength;) {
    const length = body.getUint16(at, true);
    if (length < 4) return undefined;
    if ((body.getUint16(at + 2, true) & 0x3fff) === type) {
      return [...new Uint8Array(body.buffer, at + 4, length - 4)];
    }
    at += (length + 3) & ~3;
  }
  return undefined;
}

export function text(bytes: readonly number[] | undefined): string {
  return new TextDecoder().decode(Uint8Array.from(bytes ?? [])).replace(/\0$/, "");
}

function row(options: NetlinkHostOptions, missing: () => string): ContractDriver<Subject> {
  return {
    missing,
    open: async () => ({ host: await openNetlinkHost(options) }),
    close: ({ host }) => host.close(),
  };
}

function noLibc(): string {
  return libc() === undefined ? libcRefusal()!.why : "";
}

function noRing(): string {
  const library = libc();
  if (library === undefined) return libcRefusal()!.why;
  const ring = openRing(library);
  if (typeof ring === "string") return ring;
  ring.close();
  return "";
}

function noProgram(): string {
  try {
    const { stdout } = new Deno.Command("ip", { args: ["-V"] }).outputSync();
    return new TextDecoder().decode(stdout).includes("iproute2") ? "" : "ip is not iproute2's";
  } catch {
    return "the ip program was not found";
  }
}

/** Every way there is to a netlink message. */
export const DRIVERS: Readonly<Record<string, ContractDriver<Subject>>> = {
  "linux uring": row({ driver: "fast", reactor: "uring" }, noRing),
  // Another way of waiting for the same driver, and a thread to start for each case.
  ...(Deno.env.get("FASTWIRE_LONG") === "1"
    ? { "linux worker": row({ driver: "fast", reactor: "worker" }, noLibc) }
    : {}),
  "iproute": row({ driver: "portable" }, noProgram),
};
