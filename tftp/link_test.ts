import { deepEqual, equal } from "node:assert/strict";
import { ADDRESS_BYTES, DatagramBatch, type SocketAddress, writeAddress } from "../ffi/mod.ts";
import { seededRandom } from "../internal/random.ts";
import { ManualClock } from "../internal/time/clock.ts";
import { addressCell, Endpoint } from "./endpoint.ts";
import { Link, type LinkOptions, Source } from "./link.ts";
import { FakeHost } from "./testdata/fake_host.ts";

const PEER: SocketAddress = { family: "ipv4", address: "192.0.2.1", port: 69 };
const OTHER_PORT: SocketAddress = { ...PEER, port: 40_000 };
const OTHER_HOST: SocketAddress = { ...PEER, address: "192.0.2.2" };

function linked(options: LinkOptions = {}, owns = true): { link: Link; host: FakeHost } {
  const host = new FakeHost();
  const endpoint = new Endpoint(host, new ManualClock(), seededRandom(1));
  const socket = host.open({ bind: { family: "ipv4", address: "192.0.2.9", port: 0 } });
  const peer = addressCell();
  writeAddress(peer, 0, PEER);
  return { host, link: new Link(endpoint, socket, peer, 0, undefined, owns, options) };
}

function from(address: SocketAddress): DatagramBatch {
  const batch = new DatagramBatch(2, 64);
  writeAddress(batch.peers, ADDRESS_BYTES, address);
  return batch;
}

function verdicts(link: Link): string[] {
  return [PEER, OTHER_PORT, OTHER_HOST].map((address) =>
    link.check(from(address), 1) === Source.Peer ? "peer" : "stranger"
  );
}

Deno.test("Link knows its peer by host and port", () => {
  const { link } = linked();
  deepEqual(verdicts(link), ["peer", "stranger", "stranger"]);
  link.settle(from(OTHER_PORT), 1);
  deepEqual(verdicts(link), ["peer", "stranger", "stranger"]);
});

Deno.test("Link learns the port of the host it asked", () => {
  const { link } = linked({ learnPort: true });
  equal(link.settled, false);
  deepEqual(verdicts(link), ["peer", "peer", "stranger"]);
  link.settle(from(OTHER_PORT), 1);
  equal(link.settled, true);
  deepEqual(verdicts(link), ["stranger", "peer", "stranger"]);
});

Deno.test("Link learns host and port when any may answer", () => {
  const { link } = linked({ learnHost: true });
  deepEqual(verdicts(link), ["peer", "peer", "peer"]);
  link.settle(from(OTHER_HOST), 1);
  deepEqual(verdicts(link), ["stranger", "stranger", "peer"]);
});

Deno.test("Link follows a port that keeps changing when told to", () => {
  const { link } = linked({ anyPort: true });
  deepEqual(verdicts(link), ["peer", "peer", "stranger"]);
});

Deno.test("Link tells a stranger once a second and remembers eight", () => {
  const { link, host } = linked();
  const refuse = (port: number, now: number): number => {
    link.refuseStranger(from({ ...OTHER_HOST, port }), 1, now);
    return host.take().length;
  };
  deepEqual([refuse(1, 0), refuse(1, 999), refuse(1, 1000), refuse(2, 1000)], [1, 0, 1, 1]);
  for (let port = 3; port <= 9; port++) refuse(port, 1000);
  equal(refuse(1, 1001), 1, "the ninth took the place of the first");
  equal(link.strangers, 12);
});

Deno.test("Link closes only a socket of its own", () => {
  const own = linked();
  own.link.close();
  equal(own.host.open_, 0);
  const shared = linked({}, false);
  shared.link.close();
  equal(shared.host.open_, 1);
});
