/**
 * What the bandwidth test costs beside its data: a login on the server, and looking for status messages.
 *
 * `deno bench -A --no-check bench/micro/btest_bench.ts`
 *
 * @module
 */
import {
  createVerifier,
  Decoy,
  EcSrp5Client,
  EcSrp5Server,
  StatusFinder,
  writeStatus,
} from "@fastwire/net/btest/protocol";

const EMPTY = new Uint8Array(0);
const decoy = new Decoy(new Uint8Array(32).fill(1));
const verifier = createVerifier("admin", "secret", new Uint8Array(16).fill(2));

type Machine = EcSrp5Client | EcSrp5Server;

function written(machine: Machine, bytes: Uint8Array): Uint8Array {
  const step = machine.step(bytes, 0, bytes.length);
  return step.kind === "write" ? step.bytes : EMPTY;
}

for (const known of [true, false]) {
  // The same secrets each time: a server's words are the same then, and the client's can be made beforehand.
  const secret = new Uint8Array(32).fill(3);
  const client = new EcSrp5Client("admin", "secret", new Uint8Array(32).fill(4));
  const opening = written(client, EMPTY);
  const begin = (): EcSrp5Server => {
    const server = new EcSrp5Server(secret, decoy);
    server.step(opening, 0, opening.length);
    server.verify(known ? verifier : undefined);
    return server;
  };
  const proof = written(client, written(begin(), EMPTY));
  Deno.bench({
    name: `PRD-001: a server's part of a login, ${known ? "right" : "no such user"} (at most 2 ms)`,
    group: "login",
    fn: () => {
      const server = begin();
      written(server, EMPTY);
      written(server, proof);
    },
  });
}

const zeros = new Uint8Array(262_144);
const random = new Uint8Array(262_144);
for (let at = 0; at < random.length; at += 65_536) {
  crypto.getRandomValues(random.subarray(at, at + 65_536));
}
const sink = { status: (): void => {} };

// 256 KiB in 22 µs are 12 GB/s.
for (
  const [name, bytes, gated] of [
    ["zeros", zeros, false],
    ["random bytes", random, false],
    ["random bytes between messages", random, true],
  ] as const
) {
  const finder = new StatusFinder({ randomData: gated });
  const message = new Uint8Array(12);
  finder.scan(message, 0, 12, 0, sink);
  for (let sequence = 1; sequence <= 2; sequence++) {
    writeStatus(message, 0, 5, false, sequence, 1000 * sequence);
    finder.scan(message, 0, 12, 1000 * sequence, sink);
  }
  Deno.bench({
    name: `PRD-012: 256 KiB of ${name} searched for status messages`,
    group: "finder",
    fn: () => void finder.scan(bytes, 0, bytes.length, 2100, sink),
  });
}
