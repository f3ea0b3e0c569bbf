// What can be shown with the tables this process finds, without any right. With a network of their own, changes, floods
// and large tables: interop/netlink/interop_test.ts.

import { deepEqual, equal, match, notEqual, ok, rejects, throws } from "node:assert/strict";
import { CapabilityError, SystemError } from "../internal/errors.ts";
import { type ContractCase, runContract } from "../internal/testing/contract.ts";
import { EINVAL, ENODEV, ENOENT, EOPNOTSUPP, EPERM } from "./errno.ts";
import { libc } from "./libc_linux.ts";
import { type NetlinkHost, openNetlinkHost, RTNLGRP_LINK, RTNLGRP_NEIGH } from "./netlink.ts";
import {
  attribute,
  DRIVERS,
  DUMP,
  ifinfomsg,
  listen,
  type Message,
  ndmsg,
  NLMSG_DONE,
  NLMSG_ERROR,
  request,
  RTM_GETLINK,
  RTM_GETNEIGH,
  RTM_NEWLINK,
  RTM_NEWNEIGH,
  type Subject,
  text,
  until,
  word,
} from "./testdata/netlink_subject.ts";

const LOOPBACK = 1;
const GROUPS = [RTNLGRP_LINK, RTNLGRP_NEIGH];
/** A documentation address nobody answers for. */
const NOBODY = [192, 0, 2, 213];

const refused = ({ type, body }: Message): number =>
  type === NLMSG_ERROR ? -body.getInt32(0, true) : 0;

const SUITE: readonly ContractCase<Subject>[] = [
  ["dumps the neighbours and ends with DONE", async (given) => {
    const listener = await listen(given);
    const answers = await listener.ask(request(RTM_GETNEIGH, DUMP, 77, ndmsg()));
    equal(answers.at(-1)!.type, NLMSG_DONE);
    for (const { type, flags, port } of answers) {
      ok(type === RTM_NEWNEIGH || type === NLMSG_DONE, `type ${type}`);
      equal(flags & 0x2, 0x2, "NLM_F_MULTI");
      equal(port, listener.socket.portId);
    }
    deepEqual(listener.losses, []);
  }],

  ["dumps the links with name, type and state", async (given) => {
    const listener = await listen(given);
    const answers = await listener.ask(request(RTM_GETLINK, DUMP, 78, ifinfomsg()));
    equal(answers.at(-1)!.type, NLMSG_DONE);
    const loopback = answers.find(({ type, body }) =>
      type === RTM_NEWLINK && body.getInt32(4, true) === LOOPBACK
    )!;
    equal(text(attribute(loopback, 16, 3)), "lo");
    equal(loopback.body.getUint16(2, true), 772);
    equal(attribute(loopback, 16, 16)!.length, 1);
    deepEqual(attribute(loopback, 16, 1), [0, 0, 0, 0, 0, 0]);
    equal(loopback.body.getUint32(8, true) & 0x8, 0x8, "IFF_LOOPBACK");
  }],

  ["gets one link, by index", async (given) => {
    const listener = await listen(given);
    const [link] = await listener.ask(request(RTM_GETLINK, 0, 5, ifinfomsg(LOOPBACK)));
    equal(link!.type, RTM_NEWLINK);
    equal(text(attribute(link!, 16, 3)), "lo");
    const [none] = await listener.ask(request(RTM_GETLINK, 0, 6, ifinfomsg(999_999)));
    equal(refused(none!), ENODEV);
  }],

  ["refuses a neighbour that is not there, in words", async (given) => {
    const listener = await listen(given);
    const question = request(RTM_GETNEIGH, 0, 9, ndmsg(2, LOOPBACK), [1, NOBODY]);
    const [none] = await listener.ask(question);
    equal(refused(none!), ENOENT);
    // The header of the request follows, then the sentence.
    equal(none!.body.getUint32(12, true), 9);
    match(text(attribute(none!, 20, 1)), /not found/);
  }],

  ["dumps the neighbours of one interface only", async (given) => {
    const listener = await listen(given);
    const filter = [8, word(LOOPBACK)] as const;
    const answers = await listener.ask(request(RTM_GETNEIGH, DUMP, 10, ndmsg(), filter));
    for (const { type, body } of answers) {
      if (type === RTM_NEWNEIGH) equal(body.getInt32(4, true), LOOPBACK);
    }
    equal(answers.at(-1)!.type, NLMSG_DONE);
    const nowhere = [8, word(999_999)] as const;
    const none = await listener.ask(request(RTM_GETNEIGH, DUMP, 11, ndmsg(), nowhere));
    deepEqual(none.map(({ type }) => type), [NLMSG_DONE]);
  }],

  ["refuses what it does not know and answers the rest of the datagram", async (given) => {
    const listener = await listen(given);
    const parts = [request(9999, 0, 20, ndmsg()), request(RTM_GETLINK, 0, 21, ifinfomsg(LOOPBACK))];
    listener.socket.send(Uint8Array.from(parts.flatMap((part) => [...part])));
    await until(() => listener.messages.length === 2, "both answers");
    equal(refused(listener.messages[0]!), EOPNOTSUPP);
    equal(listener.messages[1]!.type, RTM_NEWLINK);
  }],

  ["answers sockets apart", async (given) => {
    const [a, b] = [await listen(given), await listen(given)];
    notEqual(a.socket.portId, b.socket.portId);
    ok(a.socket.portId > 0);
    await a.ask(request(RTM_GETLINK, 0, 30, ifinfomsg(LOOPBACK)));
    equal(b.messages.length, 0);
  }],

  ["joins groups, and says what its buffer holds", async (given) => {
    const listener = await listen(given, { groups: GROUPS, receiveBufferBytes: 65_536 });
    const { receiveBufferBytes, eventCapacity, traits } = listener.socket;
    equal(receiveBufferBytes, 65_536);
    equal(eventCapacity, 157);
    equal(traits.driver, given.host.driver);
    equal(listener.socket.checkLoss(), 0);
    deepEqual(listener.losses, []);
  }],

  ["hands over nothing while it is paused", async (given) => {
    const listener = await listen(given);
    listener.socket.pause();
    listener.socket.send(request(RTM_GETLINK, 0, 40, ifinfomsg(LOOPBACK)));
    const other = await listen(given);
    await other.ask(request(RTM_GETLINK, 0, 41, ifinfomsg(LOOPBACK)));
    equal(listener.messages.length, 0);
    listener.socket.resume();
    await until(() => listener.messages.length === 1, "the answer that was held back");
    ok(listener.turns > 0);
  }],

  ["goes on when its consumer throws", async (given) => {
    let thrown = 0;
    const caught: unknown[] = [];
    const onError = (event: ErrorEvent): void => {
      event.preventDefault();
      caught.push(event.error);
    };
    addEventListener("error", onError);
    try {
      const wrong = new Error("a consumer's own");
      const socket = await given.host.open({
        consumer: {
          datagram: () => {
            thrown++;
            throw wrong;
          },
          lost: () => {},
        },
      });
      for (const sequence of [50, 51]) {
        socket.send(request(RTM_GETLINK, 0, sequence, ifinfomsg(LOOPBACK)));
      }
      await until(() => thrown === 2 && caught.length === 2, "both exceptions");
      equal(caught[0], wrong);
    } finally {
      removeEventListener("error", onError);
    }
  }],

  ["does nothing after it is closed", async (given) => {
    const listener = await listen(given, { groups: GROUPS });
    listener.socket.send(request(RTM_GETLINK, 0, 60, ifinfomsg(LOOPBACK)));
    await listener.socket.close();
    await listener.socket.close();
    throws(() => listener.socket.send(request(RTM_GETLINK, 0, 61, ifinfomsg())), TypeError);
    throws(() => listener.socket.growReceiveBuffer(1000), TypeError);
    equal(listener.socket.drain(), 0);
    equal(listener.socket.checkLoss(), 0);
    listener.socket.pause();
    listener.socket.resume();
    const other = await listen(given);
    await other.ask(request(RTM_GETLINK, 0, 62, ifinfomsg(LOOPBACK)));
    equal(listener.messages.length, 0);
    equal(listener.socket.counters().sendCalls, 1);
  }],

  ["may be closed by its consumer", async (given) => {
    let datagrams = 0;
    const socket = await given.host.open({
      consumer: {
        datagram: () => {
          datagrams++;
          socket.close();
        },
        lost: () => {},
      },
    });
    for (const sequence of [70, 71]) {
      socket.send(request(RTM_GETLINK, 0, sequence, ifinfomsg(LOOPBACK)));
    }
    await until(() => datagrams > 0, "a datagram");
    await given.host.close();
    equal(datagrams, 1);
    await rejects(given.host.open(), TypeError);
  }],

  ["refuses to open what it cannot", async (given) => {
    const reason = new Error("changed my mind");
    await rejects(given.host.open({ signal: AbortSignal.abort(reason) }), reason);
    await rejects(given.host.open({ groups: [0] }), RangeError);
    await rejects(given.host.open({ receiveBufferBytes: -1 }), RangeError);
    await rejects(
      given.host.open({ namespace: "/run/netns/there-is-none-of-this-name" }),
      // Who may not enter any is told that instead.
      (error) => error instanceof SystemError && [ENOENT, EPERM].includes(error.errno),
    );
  }],
];

runContract("NetlinkSocket", SUITE, DRIVERS);

const onLinux = (name: string, body: (host: NetlinkHost) => Promise<void>): void =>
  Deno.test({
    name,
    ignore: libc() === undefined,
    fn: async () => {
      await using host = await openNetlinkHost({ driver: "fast" });
      await body(host);
    },
  });

onLinux("a strict socket passes on the kernel's sentence about a wrong dump", async (host) => {
  const listener = await listen({ host });
  // V13 of the specification: a state has no business in the header of a dump request.
  const wrong = request(RTM_GETNEIGH, DUMP, 9, ndmsg(2, 0, 0x80));
  const [done] = await listener.ask(wrong);
  equal(done!.type, NLMSG_DONE);
  equal(done!.body.getInt32(0, true), -EINVAL);
  equal(text(attribute(done!, 4, 1)), "Invalid values in header for neighbor dump request");
  const lax = await listen({ host }, { strict: false });
  equal((await lax.ask(wrong)).at(-1)!.body.getInt32(0, true), 0);
});

onLinux("a receive buffer grows at run time, and without force stays in bounds", async (host) => {
  const { socket } = await listen({ host }, { groups: GROUPS, receiveBufferBytes: 32_768 });
  equal(socket.receiveBufferBytes, 32_768);
  equal(socket.growReceiveBuffer(131_072), 131_072);
  equal(socket.memory().limitBytes, 262_144);
  const limit = Number(await Deno.readTextFile("/proc/sys/net/core/rmem_max"));
  const bounded = await listen({ host }, { receiveBufferBytes: 4 * limit, force: false });
  equal(bounded.socket.receiveBufferBytes, limit);
  equal(bounded.socket.traits.receiveBufferForced, false);
});

onLinux("a kernel filter is attached, replaced and taken away", async (host) => {
  const pass = Uint8Array.of(6, 0, 0, 0, 255, 255, 255, 255);
  const { socket } = await listen({ host }, { groups: GROUPS, kernelFilter: pass });
  socket.filter(pass);
  socket.filter(undefined);
  socket.filter(undefined);
  // A load that leads out of the program's scratch memory.
  throws(() => socket.filter(Uint8Array.of(0x60, 0, 0, 0, 99, 0, 0, 0)), SystemError);
  throws(() => socket.filter(new Uint8Array(5)), TypeError);
});

Deno.test("openNetlinkHost() says which programs it needs where there are none", async () => {
  await rejects(
    openNetlinkHost({ driver: "portable", program: "/nowhere/ip" }),
    (error) => error instanceof CapabilityError && /\/nowhere\/ip/.test(error.why),
  );
  await rejects(
    openNetlinkHost({ driver: "portable", program: "echo" }),
    (error) => error instanceof CapabilityError && /not iproute2/.test(error.why),
  );
});
