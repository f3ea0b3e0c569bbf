// Netlink sockets in a network of their own, where neighbours can be made and destroyed: changes in order, floods, large
// tables, renamed links. Needs root.

import { deepEqual, equal, ok } from "node:assert/strict";
import { NeighborGenerator } from "../../../internal/testing/neighbor_generator.ts";
import { NetworkNamespace } from "../../../internal/testing/netns.ts";
import { peerTest } from "../../../internal/testing/peers.ts";
import { bindAll, libc } from "../../libc_linux.ts";
import {
  type NetlinkHost,
  type NetlinkHostOptions,
  openNetlinkHost,
  RTNLGRP_LINK,
  RTNLGRP_NEIGH,
} from "../../netlink.ts";
import {
  attribute,
  DUMP,
  ifinfomsg,
  listen,
  type Listener,
  ndmsg,
  request,
  RTM_DELNEIGH,
  RTM_GETLINK,
  RTM_GETNEIGH,
  RTM_NEWLINK,
  RTM_NEWNEIGH,
  text,
  until,
  word,
} from "../../testdata/netlink_subject.ts";

bindAll();

const GROUPS = [RTNLGRP_LINK, RTNLGRP_NEIGH];

/** A network with one device, somebody who changes its neighbours, and a host to watch with. */
class Place implements AsyncDisposable {
  private constructor(
    readonly network: NetworkNamespace,
    readonly index: number,
    readonly generator: NeighborGenerator,
    readonly host: NetlinkHost,
    readonly made: AsyncDisposableStack,
  ) {}

  static async create(options: NetlinkHostOptions): Promise<Place> {
    await using made = new AsyncDisposableStack();
    const network = made.use(await NetworkNamespace.create());
    const interfaceIndex = await network.addDevice("d0");
    const namespace = network.path;
    const generator = made.use(await NeighborGenerator.open({ namespace, interfaceIndex }));
    const host = made.use(await openNetlinkHost(options));
    return new Place(network, interfaceIndex, generator, host, made.move());
  }

  /** A socket that hears of every change, with room for 20,000. */
  watch(options: Parameters<typeof listen>[1] = {}): Promise<Listener> {
    const namespace = this.network.path;
    return listen(this, { namespace, groups: GROUPS, receiveBufferBytes: 16 << 20, ...options });
  }

  ask(): Promise<Listener> {
    return listen(this, { namespace: this.network.path });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    deepEqual(this.generator.refusals(), { count: 0, errno: 0 });
    await this.made.disposeAsync();
  }
}

const DRIVERS = [
  ["linux", { driver: "fast" }],
  ["linux worker", { driver: "fast", reactor: "worker" }],
  ["iproute", { driver: "portable" }],
] as const;

for (const [name, options] of DRIVERS) {
  peerTest(`NetlinkSocket on ${name} tells every change, in order`, ["namespaces"], async () => {
    await using place = await Place.create(options);
    const listener = await place.watch();
    const { generator } = place;
    generator.put(7, 1, 1);
    generator.put(7, 1, 2);
    generator.remove(7, 1);
    generator.put(7, 1, 3);
    await until(() => listener.messages.length >= 5, "five messages");
    // A deletion is two messages: the state becomes FAILED, and then it is gone.
    deepEqual(
      listener.messages.map((message) => [
        message.type,
        message.body.getUint8(8),
        attribute(message, 12, 2)?.[1],
      ]),
      [
        [RTM_NEWNEIGH, 0x80, 1],
        [RTM_NEWNEIGH, 0x80, 2],
        [RTM_NEWNEIGH, 0x20, undefined],
        [RTM_DELNEIGH, 0x20, undefined],
        [RTM_NEWNEIGH, 0x80, 3],
      ],
    );
    for (const message of listener.messages) {
      deepEqual(attribute(message, 12, 1), [10, 0, 0, 7]);
      equal(message.body.getInt32(4, true), place.index);
      equal(message.sequence, 0);
    }
  });

  peerTest(`NetlinkSocket on ${name} tells a new name of a link`, ["namespaces"], async () => {
    await using place = await Place.create(options);
    const listener = await place.watch();
    await place.network.ip("link", "set", "d0", "down");
    await place.network.ip("link", "set", "d0", "name", "renamed");
    await place.network.ip("link", "set", "renamed", "up");
    await until(
      () =>
        listener.messages.some((message) =>
          message.type === RTM_NEWLINK && message.body.getUint8(0) === 0 &&
          message.body.getInt32(4, true) === place.index &&
          text(attribute(message, 16, 3)) === "renamed"
        ),
      "the new name",
    );
    // And neighbours that come afterwards are on the same interface.
    place.generator.put(1, 1);
    await until(() => listener.count(RTM_NEWNEIGH) > 0, "the neighbour");
    equal(listener.messages.at(-1)!.body.getInt32(4, true), place.index);
  });

  peerTest(`NetlinkSocket on ${name} dumps 20,000 rows, each once`, ["namespaces"], async () => {
    await using place = await Place.create(options);
    place.generator.put(0, 20_000, 5);
    const listener = await place.ask();
    const startedAt = performance.now();
    const rows = await listener.ask(request(RTM_GETNEIGH, DUMP, 3, ndmsg(2)));
    console.error(
      `  ${name}: 20,000 rows in ${(performance.now() - startedAt).toFixed(1)} ms`,
    );
    equal(rows.length, 20_001);
    equal(new Set(rows.map((row) => String(attribute(row, 12, 1)))).size, 20_001);
    for (const row of rows.slice(0, -1)) equal(row.body.getUint8(8), 0x80);
    deepEqual(listener.losses, []);
  });

  peerTest(`NetlinkSocket on ${name} dumps one of two interfaces`, ["namespaces"], async () => {
    await using place = await Place.create(options);
    const other = await place.network.addDevice("e0");
    await place.network.ip(
      ...["neigh", "add", "2001:db8::1", "lladdr", "02:00:00:00:00:01", "dev", "e0", "router"],
    );
    place.generator.put(0, 10);
    const listener = await place.ask();
    const rows = await listener.ask(
      request(RTM_GETNEIGH, DUMP, 4, ndmsg(), [8, word(other)]),
    );
    equal(rows.length, 2);
    equal(rows[0]!.body.getInt32(4, true), other);
    equal(rows[0]!.body.getUint8(10), 0x80, "NTF_ROUTER");
    equal(rows[0]!.flags, 0x22, "NLM_F_MULTI, NLM_F_DUMP_FILTERED");
    const get = request(RTM_GETNEIGH, 0, 5, ndmsg(2, place.index), [1, [10, 0, 0, 9]]);
    const [one] = await listener.ask(get);
    equal(one!.type, RTM_NEWNEIGH);
    deepEqual(attribute(one!, 12, 2), [2, 0, 0, 0, 0, 9]);
  });

  peerTest(`NetlinkSocket on ${name} counts what a flood loses`, ["namespaces"], async () => {
    await using place = await Place.create(options);
    const listener = await place.watch({ receiveBufferBytes: 4096 });
    listener.socket.pause();
    const changes = 20_000;
    place.generator.flip(0, 500, changes);
    listener.socket.resume();
    const lost = () => listener.losses.reduce((sum, { datagrams }) => sum + datagrams, 0);
    await until(() => listener.count(RTM_NEWNEIGH) + lost() >= changes, "every change or its loss");
    equal(listener.count(RTM_NEWNEIGH) + lost(), changes);
    ok(lost() > changes / 2, `${lost()} lost`);
    ok(listener.losses.every(({ reason }) => reason === "overrun"));
    equal(listener.socket.checkLoss(), lost());
    equal(listener.socket.counters().datagramsLost, lost());
    // It goes on.
    place.generator.put(900, 1);
    await until(() => listener.count(RTM_NEWNEIGH) + lost() > changes, "one change more");
  });
}

peerTest(
  "a full queue is drained in turns, and others run in between",
  ["namespaces"],
  async () => {
    await using place = await Place.create({ driver: "fast" });
    const listener = await place.watch({ turnDatagrams: 500 });
    listener.socket.pause();
    place.generator.put(0, 20_000);
    listener.socket.resume();
    let others = 0;
    const go = (): void => {
      others++;
      if (listener.datagrams < 20_000) setTimeout(go, 0);
    };
    go();
    const startedAt = performance.now();
    await until(() => listener.datagrams === 20_000, "20,000 events");
    console.error(`  20,000 events copied in ${(performance.now() - startedAt).toFixed(1)} ms`);
    ok(listener.turns >= 20_000 / 564, `${listener.turns} turns`);
    ok(others >= 10, `${others} timers`);
    deepEqual(listener.losses, []);
  },
);

peerTest("datagrams longer than a slot are reported as lost", ["namespaces"], async () => {
  await using place = await Place.create({ driver: "fast" });
  const listener = await place.watch({ slotBytes: 64 });
  // An event has 76 bytes.
  place.generator.put(0, 300);
  await until(() => listener.losses.length > 0, "the loss");
  await until(() => listener.socket.checkLoss() === 300, "all of it");
  ok(listener.losses.every(({ reason }) => reason === "truncated"));
  equal(listener.datagrams, 0);
});

peerTest("a quiet overrun is counted all the same", ["namespaces"], async () => {
  await using place = await Place.create({ driver: "fast" });
  const listener = await place.watch({ receiveBufferBytes: 4096, quietOverrun: true });
  listener.socket.pause();
  place.generator.put(0, 1000);
  // On demand, before anything is read.
  const lost = listener.socket.checkLoss();
  ok(lost > 900);
  deepEqual(listener.losses, [{ reason: "overrun", datagrams: lost }]);
  listener.socket.resume();
  await until(() => listener.datagrams === 1000 - lost, "the rest");
  equal(listener.socket.counters().overruns, 0);
  equal(listener.losses.length, 1);
});

peerTest("a kernel filter keeps out what it drops, without a loss", ["namespaces"], async () => {
  await using place = await Place.create({ driver: "fast" });
  // ldh [4]; jeq RTM_DELNEIGH, byte-swapped as half-words are; ret all; ret 0.
  const deletions = Uint8Array.from([
    ...[0x28, 0, 0, 0, 4, 0, 0, 0],
    ...[0x15, 0, 0, 1, 0, RTM_DELNEIGH, 0, 0],
    ...[0x06, 0, 0, 0, 255, 255, 255, 255],
    ...[0x06, 0, 0, 0, 0, 0, 0, 0],
  ]);
  const listener = await place.watch({ kernelFilter: deletions });
  place.generator.put(0, 100);
  place.generator.remove(0, 100);
  await until(() => listener.count(RTM_DELNEIGH) === 100, "the deletions");
  equal(listener.messages.length, 100);
  equal(listener.socket.checkLoss(), 0);
  listener.socket.filter(undefined);
  place.generator.put(0, 1);
  await until(() => listener.count(RTM_NEWNEIGH) === 1, "what the filter would have dropped");
});

peerTest("what another process sends is ignored", ["namespaces"], async () => {
  await using place = await Place.create({ driver: "fast" });
  // In this process's own network: the sender is a plain socket.
  const listener = await listen(place, { groups: GROUPS });
  const library = libc()!;
  const fd = library.socket(16, 3, 0);
  const to = new DataView(new ArrayBuffer(12));
  to.setUint16(0, 16, true);
  to.setUint32(4, listener.socket.portId, true);
  const forged = request(RTM_NEWNEIGH, 0, 0, ndmsg(2, 1, 2));
  equal(library.sendto(fd, forged, BigInt(forged.length), 0, to, 12), forged.length);
  library.close(fd);
  await until(() => listener.socket.counters().datagramsForeign === 1, "the forgery");
  ok(!listener.messages.some(({ sequence, port }) => sequence === 0 && port === 0));
});

peerTest("a name that is used again is not taken for its first owner", ["namespaces"], async () => {
  await using place = await Place.create({ driver: "portable" });
  const listener = await place.watch();
  await place.network.ip("link", "set", "d0", "down");
  await place.network.ip("link", "set", "d0", "name", "first");
  await place.network.ip("link", "set", "first", "up");
  await place.network.ip("link", "add", "name", "d0", "type", "bridge");
  await until(() => listener.losses.length > 0, "the report");
  deepEqual(listener.losses, [{ reason: "restarted", datagrams: 0 }]);
  place.generator.put(1, 1);
  // The bridge has a neighbour of its own kind.
  const found = () =>
    listener.messages.filter(({ type, body }) => type === RTM_NEWNEIGH && body.getUint8(0) === 2);
  await until(() => found().length > 0, "the neighbour");
  equal(found()[0]!.body.getInt32(4, true), place.index);
});

peerTest("looking into another network leaves this one in force", ["namespaces"], async () => {
  const own = (): string => Deno.readLinkSync("/proc/thread-self/ns/net");
  const before = own();
  await using place = await Place.create({ driver: "fast" });
  await place.watch();
  equal(own(), before);
  const here = await listen(place);
  const there = await place.ask();
  const names = async (listener: Listener): Promise<string[]> =>
    (await listener.ask(request(RTM_GETLINK, DUMP, 6, ifinfomsg())))
      .map((row) => text(attribute(row, 16, 3)));
  ok((await names(there)).includes("d0p"));
  ok(!(await names(here)).includes("d0p"));
});

peerTest("a watched program that dies is started again and reported", ["namespaces"], async () => {
  await using place = await Place.create({ driver: "portable" });
  const listener = await place.watch();
  const monitor = (): number[] =>
    [...Deno.readDirSync("/proc")].map(({ name }) => Number(name)).filter((pid) => {
      try {
        return pid > 0 &&
          Deno.readTextFileSync(`/proc/${pid}/cmdline`).includes(`${place.network.name}\0`) &&
          Deno.readTextFileSync(`/proc/${pid}/cmdline`).includes("monitor");
      } catch {
        return false;
      }
    });
  const [first, ...more] = monitor();
  equal(more.length, 0);
  Deno.kill(first!, "SIGKILL");
  await until(() => listener.losses.length > 0, "the report");
  deepEqual(listener.losses, [{ reason: "restarted", datagrams: 0 }]);
  equal(listener.socket.counters().restarts, 1);
  place.generator.put(0, 1);
  await until(() => listener.count(RTM_NEWNEIGH) === 1, "a change after the restart");
  await listener.socket.close();
  deepEqual(monitor(), []);
});

for (const reactor of ["auto", "worker"] as const) {
  peerTest(
    `NetlinkSocket rests between changes that come fast, and leaves none unread (${reactor})`,
    ["namespaces"],
    async () => {
      await using place = await Place.create({ driver: "fast", reactor });
      let heard = 0, turns = 0;
      const last: number[] = [];
      const socket = await place.host.open({
        namespace: place.network.path,
        groups: GROUPS,
        receiveBufferBytes: 16 << 20,
        restMs: 100,
        consumer: {
          datagram: (view, start) => {
            heard++;
            last.push(view.getUint8(start + 28 + 7));
          },
          lost: () => {},
          turned: () => void turns++,
        },
      });
      const { generator } = place;
      for (let round = 0; round < 3; round++) {
        heard = turns = 0;
        for (let i = 0; i < 100; i++) {
          generator.put(i, 1, round);
          await new Promise((resolve) => setTimeout(resolve, 1));
        }
        await until(() => heard === 100, "all changes");
        ok(turns < 50, `${turns} turns`);
      }
      deepEqual(last, Array.from({ length: 300 }, (_, i) => i % 100));
      // In the middle of a rest.
      generator.put(1, 1, 9);
      generator.put(2, 1, 9);
      socket.pause();
      generator.put(3, 1, 9);
      socket.resume();
      await until(() => heard === 103, "what came while it was paused");
      generator.put(4, 1, 10);
      await socket.close();
      equal(heard, 103);
    },
  );
}
