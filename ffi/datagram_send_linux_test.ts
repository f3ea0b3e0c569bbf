import { deepEqual, equal, ok } from "node:assert/strict";
import { ADDRESS_BYTES, copyAddress, writeAddress } from "./address.ts";
import {
  AF_INET6,
  AF_UNIX,
  IPPROTO_IPV6,
  IPV6_MTU,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
} from "./constants_linux.ts";
import { LinuxDatagramBatch } from "./datagram_batch_linux.ts";
import { SendState, SendVector } from "./datagram_send_linux.ts";
import { EIO } from "./errno.ts";
import { bindAll, type Libc } from "./libc_linux.ts";

const library = bindAll();
const ignore = library === undefined;

interface Pair {
  readonly from: number;
  readonly batch: LinuxDatagramBatch;
  /** Lengths of what is there; and the first byte of each, in `first`. */
  readonly receive: (() => number[]) & { first: number[] };
  close(): void;
}

/**
 * Two sockets on the loopback.
 *
 * @param mtu The largest packet the sender makes: a short path without a network to build.
 */
function pair(mtu: number): Pair {
  const libc = library!;
  const fds = [0, 0].map(() => libc.socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK, 0));
  const [from, to] = fds as [number, number];
  equal(libc.setsockopt(from, IPPROTO_IPV6, IPV6_MTU, new Int32Array([mtu]), 4), 0);
  const name = new DataView(new ArrayBuffer(ADDRESS_BYTES));
  equal(libc.bind(to, name, writeAddress(name, 0, { family: "ipv6", address: "::1", port: 0 })), 0);
  equal(libc.getsockname(to, name, new Uint32Array([ADDRESS_BYTES])), 0);
  const batch = new LinuxDatagramBatch(libc, 3, 40_000, false);
  for (let i = 0; i < 3; i++) {
    for (let at = 0; at < ADDRESS_BYTES; at++) {
      batch.peers.setUint8(i * ADDRESS_BYTES + at, name.getUint8(at));
    }
  }
  const into = new Uint8Array(new ArrayBuffer(65_536));
  const first: number[] = [];
  const receive = (): number[] => {
    const lengths: number[] = [];
    first.length = 0;
    for (;;) {
      const length = libc.read(to, into, 65_536n);
      if (length < 0) return lengths;
      lengths.push(length);
      first.push(into[0]!);
    }
  };
  return {
    from,
    batch,
    receive: Object.assign(receive, { first }),
    close: () => fds.forEach((fd) => libc.close(fd)),
  };
}

function run(batch: LinuxDatagramBatch, entry: number, bytes: number, segment: number): void {
  batch.lengths[entry] = bytes;
  batch.segments[entry] = segment;
  batch.count = entry + 1;
}

Deno.test({
  name: "SendVector sends a run whose segments exceed the path in plain datagrams, and remembers",
  ignore,
  fn: () => {
    const vector = new SendVector(library!);
    const state = new SendState(true, false, () => {});
    const { from, batch, receive, close } = pair(1280);
    run(batch, 0, 600, 0);
    run(batch, 1, 8000, 3000);
    run(batch, 2, 900, 400);
    vector.send(from, batch, 0, state);
    deepEqual(receive(), [600, 3000, 3000, 2000, 400, 400, 100]);
    equal(state.sent, 7);
    equal(state.drops, 0);
    equal(state.refused, 1);
    equal(state.segmentLimit, 2999);
    const calls = state.calls;
    vector.send(from, batch, 0, state);
    deepEqual(receive(), [600, 3000, 3000, 2000, 400, 400, 100]);
    equal(state.calls, calls + 1, "what was refused once is not tried again");
    equal(state.refused, 1);
    close();
  },
});

Deno.test({
  name: "SendVector goes on with segmentation when it was the destination that was wrong",
  ignore,
  fn: () => {
    const vector = new SendVector(library!);
    const state = new SendState(true, false, () => {});
    const { from, batch, receive, close } = pair(65_535);
    run(batch, 0, 1000, 300);
    batch.peers.setUint16(2, 0); // port 0
    run(batch, 1, 1000, 300);
    vector.send(from, batch, 0, state);
    deepEqual(receive(), [300, 300, 300, 100]);
    equal(state.drops, 4);
    equal(state.sent, 4);
    equal(state.refused, 0);
    equal(state.segmentLimit, 65_507);
    const calls = state.calls;
    vector.send(from, batch, 1, state);
    equal(state.calls, calls + 1);
    deepEqual(receive(), [300, 300, 300, 100]);
    close();
  },
});

Deno.test({
  name: "SendVector cuts the rest of a run anew when the offload is refused in the middle",
  ignore,
  fn: () => {
    // A device that cannot, on a route that changes between two messages: the first call takes one message, the second
    // is refused.
    const answers = [1, -1];
    const scripted: Libc = Object.create(library!, {
      sendmmsg: {
        value: (fd: number, address: bigint, count: number, flags: number): number => {
          const answer = answers.shift();
          if (answer === 1) return library!.sendmsg(fd, address, flags) < 0 ? -1 : 1;
          return answer ?? library!.sendmmsg(fd, address, count, flags);
        },
      },
      errno: { value: () => EIO },
    });
    const vector = new SendVector(scripted);
    const state = new SendState(true, false, () => {});
    const { from, batch, receive, close } = pair(65_535);
    batch.slab.bytes.forEach((_, i, bytes) => bytes[i] = i / 100);
    run(batch, 0, 64 * 100 + 64 * 100 + 50, 100);
    vector.send(from, batch, 0, state);
    deepEqual(receive(), [...new Array(128).fill(100), 50]);
    deepEqual(receive.first, Array.from({ length: 129 }, (_, i) => i));
    equal(state.sent, 129);
    equal(state.refused, 1);
    equal(state.segmentLimit, 0, "without checksum offload no segment will do");
    close();
  },
});

Deno.test({
  name: "SendVector empties the error queue once for a call that fails, then drops the message",
  ignore,
  fn: () => {
    const vector = new SendVector(library!);
    let drained = 0;
    const state = new SendState(true, false, () => drained++);
    const { batch, from, receive, close } = pair(65_535);
    run(batch, 0, 10, 0);
    run(batch, 1, 20, 0);
    run(batch, 2, 30, 0);
    // A descriptor that is no socket fails every time: the bound on trying is what is shown.
    const ends = new Int32Array(2);
    equal(library!.pipe2(ends, 0), 0);
    vector.send(ends[1]!, batch, 0, state);
    equal(drained, 3);
    equal(state.drops, 3);
    equal(state.calls, 6);
    vector.send(from, batch, 0, state);
    deepEqual(receive(), [10, 20, 30]);
    ends.forEach((fd) => library!.close(fd));
    close();
  },
});

Deno.test({
  name: "SendVector waits a bounded time for a full buffer, then drops and counts",
  ignore,
  fn: () => {
    const vector = new SendVector(library!);
    const state = new SendState(true, false, () => {});
    const libc = library!;
    const [from, to] = [0, 0].map(() => libc.socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0));
    // Unix datagrams are not lost: a receiver that does not read fills the sender up. An abstract name of 16 bytes passes
    // for a sockaddr_in.
    const name = new DataView(new ArrayBuffer(ADDRESS_BYTES));
    name.setUint16(0, AF_UNIX, true);
    new Uint8Array(name.buffer).set(crypto.getRandomValues(new Uint8Array(13)), 3);
    equal(libc.bind(to!, name, 16), 0);
    // Connected, so that its readiness tells of the receiver.
    equal(libc.connect(from!, name, 16), 0);
    const batch = new LinuxDatagramBatch(libc, 3, 1000, false);
    for (let i = 0; i < 3; i++) {
      copyAddress(name, 0, batch.peers, i * ADDRESS_BYTES);
      run(batch, i, 1000, 0);
    }
    for (let rounds = 0; state.drops === 0; rounds++) {
      ok(rounds < 1000, "the buffer never fills");
      vector.send(from!, batch, 0, state);
    }
    ok(state.sent > 0);
    const { sent, drops, calls } = state;
    const before = performance.now();
    vector.send(from!, batch, 0, state);
    const waited = performance.now() - before;
    equal(state.sent, sent);
    equal(state.drops, drops + 3);
    equal(state.calls, calls + 4 + 3, "four waits in all, then one call for each message");
    // Four times 2 ms; above, only a bound for what a busy machine adds.
    ok(waited >= 7 && waited < 1000, `${waited} ms`);
    libc.close(from!);
    libc.close(to!);
  },
});
