import { deepEqual, equal, ok } from "node:assert/strict";
import { openDatagramHost, type SocketAddress } from "../../ffi/mod.ts";
import { ManualClock } from "../../internal/time/clock.ts";
import type { Handler, InboundPackets } from "../inbound.ts";
import { LoopGuard } from "../loop_guard.ts";
import { PACKET_HEADROOM, PACKET_TAILROOM } from "../packets.ts";
import type { Endpoint } from "../protocol/mod.ts";
import { until } from "../testdata/engine.ts";
import { PacketSocket } from "../udp_socket.ts";
import { TransparentPackets } from "./transparent_packets.ts";

const LOOPBACK: SocketAddress = { family: "ipv4", address: "127.0.0.1", port: 0 };

/** An inbound on the portable driver, whose datagrams netfilter would have brought, and what it handed on. */
class Subject implements AsyncDisposable {
  readonly begun: InboundPackets[] = [];
  readonly sent: { readonly to: Endpoint; readonly bytes: Uint8Array }[] = [];
  readonly loops = new LoopGuard(new ManualClock());
  readonly packets: TransparentPackets;
  readonly #socket: PacketSocket;
  readonly #host: Awaited<ReturnType<typeof openDatagramHost>>;

  private constructor(
    host: Awaited<ReturnType<typeof openDatagramHost>>,
    socket: PacketSocket,
    mostSockets: number,
  ) {
    this.#host = host;
    this.#socket = socket;
    const handler: Pick<Handler, "packets"> = {
      packets: (packets) => {
        this.begun.push(packets);
        return {
          closed: false,
          send: (bytes, start, end, to) => this.sent.push({ to, bytes: bytes.slice(start, end) }),
          close: () => {},
        };
      },
    };
    this.packets = new TransparentPackets({
      tag: "in",
      type: "tproxy",
      socket,
      context: {
        datagrams: () => Promise.resolve(host),
        handler: handler as Handler,
        loops: this.loops,
        clock: new ManualClock(),
      },
      options: {},
      mostSockets,
    });
  }

  static async open(mostSockets = 1024): Promise<Subject> {
    const host = await openDatagramHost({ driver: "portable" });
    return new Subject(host, await PacketSocket.open(host, LOOPBACK), mostSockets);
  }

  /** Another socket of the same host, for a client. */
  client(): Promise<PacketSocket> {
    return PacketSocket.open(this.#host, LOOPBACK);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.packets.close();
    this.#socket.close();
    await this.#host.close();
  }
}

function room(...bytes: readonly number[]): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(PACKET_HEADROOM + bytes.length + PACKET_TAILROOM);
  all.set(bytes, PACKET_HEADROOM);
  return all;
}

function send(socket: PacketSocket, to: Endpoint, ...bytes: readonly number[]): void {
  socket.send(room(...bytes), PACKET_HEADROOM, PACKET_HEADROOM + bytes.length, to);
}

Deno.test("TransparentPackets drops what was sent to its own port, and what does not say where it was going", async () => {
  await using subject = await Subject.open();
  const client = await subject.client();
  const { address: host, port } = subject.packets.local;
  // The portable driver does not know where datagrams were going, as netfilter's do.
  for (let i = 0; i < 3; i++) send(client, { host, port }, i);
  let arrived = 0;
  client.watch(() => arrived++);
  send(client, { host, port: client.local.port }, 9);
  await until(() => arrived === 1, "the client's own datagram came");
  equal(subject.begun.length, 0);
  client.close();
});

Deno.test("TransparentPackets bounds the sockets that answer, and closes those of the past", async () => {
  await using subject = await Subject.open(3);
  const client = await subject.client();
  const { address: host, port } = client.local;
  const came: string[] = [];
  client.watch((bytes, start, end, from) => {
    came.push(`${from.host} ${bytes.subarray(start, end).join()}`);
  });
  // A first association, as a datagram from netfilter would begin it.
  subject.packets.take(room(1), PACKET_HEADROOM, PACKET_HEADROOM + 1, { host, port }, {
    host: "127.0.0.9",
    port: 53,
  });
  deepEqual(subject.sent.map(({ to, bytes }) => [to.host, to.port, bytes[0]]), [
    ["127.0.0.9", 53, 1],
  ]);
  const [flow] = subject.begun;
  equal(flow!.metadata.destination.host, "127.0.0.9");
  const answer = (from: Endpoint, byte: number): void =>
    flow!.reply(room(byte), PACKET_HEADROOM, PACKET_HEADROOM + 1, from);
  for (let i = 1; i <= 6; i++) answer({ host: `127.0.0.${10 + i}`, port: 40_000 }, i);
  ok(subject.packets.sockets <= 3);
  // Those that were evicted before they were open sent nothing; the last three did.
  await until(() => came.length === 3, "three answers came");
  deepEqual(came.toSorted(), ["127.0.0.14 4", "127.0.0.15 5", "127.0.0.16 6"]);
  // Names are no addresses to answer from.
  answer({ host: "example.com", port: 53 }, 7);
  equal(subject.packets.sockets, 3);
  // What the kernel brings to such a socket is the client's, too.
  send(client, { host: "127.0.0.16", port: 40_000 }, 8);
  await until(() => subject.sent.length === 2, "the datagram was taken");
  deepEqual(subject.sent[1]!.to, { host: "127.0.0.16", port: 40_000 });
  equal(subject.begun.length, 1);
  client.close();
});

Deno.test("TransparentPackets does not take its own proxy's datagrams back", async () => {
  await using subject = await Subject.open();
  const { leave } = subject.loops.sends(50_001, undefined);
  const from = { host: "127.0.0.1", port: 50_001 };
  const to = { host: "127.0.0.9", port: 53 };
  subject.packets.take(room(1), PACKET_HEADROOM, PACKET_HEADROOM + 1, from, to);
  equal(subject.begun.length, 0);
  leave();
  subject.packets.take(room(1), PACKET_HEADROOM, PACKET_HEADROOM + 1, from, to);
  equal(subject.begun.length, 1);
});
