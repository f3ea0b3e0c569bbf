import { deepEqual, equal, ok, throws } from "node:assert/strict";
import fc from "fast-check";
import { seededRandom } from "../../internal/random.ts";
import { HostilePackets } from "../../internal/testing/hostile.ts";
import { forVectors, hexOf, type VectorFile } from "../../internal/testing/vectors.ts";
import commands from "../testdata/commands.json" with { type: "json" };
import statuses from "../testdata/statuses.json" with { type: "json" };
import {
  classifyWord,
  type Command,
  COMMAND_BYTES,
  decodeCommand,
  encodeCommand,
  encodeJoin,
  isStatus,
  isToken,
  planOf,
  readJoinToken,
  readStatusCpu,
  readStatusReceived,
  readStatusSequence,
  readWordToken,
  REJECT_BAD_KIND,
  REJECT_NAMES,
  REJECT_NO_ROOM,
  STATUS_BYTES,
  tokenOf,
  UDP_OVERHEAD_IPV4_BYTES,
  UDP_OVERHEAD_IPV6_BYTES,
  udpPayloadBytes,
  WORD_ACCEPTED,
  WORD_ECSRP5,
  WORD_MD5,
  WORD_REFUSED,
  writeStatus,
  writeWord,
} from "./command.ts";

// The words of a JSON module are strings to the compiler.
const commandFile = commands as unknown as VectorFile<Command>;
const statusFile = statuses as unknown as VectorFile<
  { cpu: number; flag: boolean; sequence: number; received: number }
>;

Deno.test("decodeCommand() reads every vector", () => {
  forVectors(commandFile, (vector, bytes) => {
    const decoded = decodeCommand(bytes, 0, bytes.length);
    const meaning = typeof decoded === "number" ? REJECT_NAMES[-decoded] : decoded;
    deepEqual(meaning, vector.decoded ?? vector.rejected);
  });
});

Deno.test("encodeCommand() writes every vector byte for byte", () => {
  forVectors(commandFile, (vector, bytes) => {
    if (vector.decoded === undefined || vector.decodeOnly) return;
    const written = new Uint8Array(COMMAND_BYTES);
    equal(encodeCommand(written, 0, vector.decoded), COMMAND_BYTES);
    equal(hexOf(written), hexOf(bytes));
  });
});

Deno.test("the status codec reads and writes every vector", () => {
  forVectors(statusFile, (vector, bytes) => {
    equal(isStatus(bytes, 0), vector.decoded !== undefined);
    if (vector.decoded === undefined) return;
    const { cpu, flag, sequence, received } = vector.decoded;
    deepEqual(
      [readStatusCpu(bytes, 0), readStatusSequence(bytes, 0), readStatusReceived(bytes, 0)],
      [cpu, sequence, received],
    );
    const written = new Uint8Array(STATUS_BYTES + 2);
    equal(writeStatus(written, 1, cpu, flag, sequence, received), 1 + STATUS_BYTES);
    equal(hexOf(written), hexOf(Uint8Array.from([0, ...bytes, 0])));
  });
});

Deno.test("encodeCommand() and decodeCommand() are inverse", () => {
  const command = fc.record({
    protocol: fc.constantFrom("tcp", "udp"),
    direction: fc.constantFrom("transmit", "receive", "both"),
    randomData: fc.boolean(),
    connections: fc.integer({ min: 1, max: 255 }),
    txSize: fc.nat(0xffff),
    clientBufferSize: fc.nat(0xffff),
    remoteTxSpeed: fc.nat(0xffff_ffff),
    localTxSpeed: fc.nat(0xffff_ffff),
  });
  fc.assert(fc.property(command, fc.nat(9), (value, start) => {
    const bytes = new Uint8Array(32);
    equal(encodeCommand(bytes, start, value as Command), start + COMMAND_BYTES);
    deepEqual(decodeCommand(bytes, start, start + COMMAND_BYTES), value);
  }));
});

Deno.test("encodeCommand() refuses what the wire cannot carry and reports a full buffer", () => {
  const good = commandFile.cases[0]!.decoded!;
  const bytes = new Uint8Array(COMMAND_BYTES);
  const bad: readonly Partial<Command>[] = [
    { connections: 0 },
    { connections: 256 },
    { txSize: 65536 },
    { txSize: -1 },
    { clientBufferSize: 65536 },
    { remoteTxSpeed: 2 ** 32 },
    { localTxSpeed: -1 },
  ];
  for (const change of bad) {
    throws(() => encodeCommand(bytes, 0, { ...good, ...change }), RangeError);
  }
  throws(() => encodeCommand(bytes, 0, { ...good, txSize: 1.5 }), TypeError);
  equal(encodeCommand(bytes, 1, good), REJECT_NO_ROOM);
  equal(encodeJoin(bytes, 1, 0x0201), REJECT_NO_ROOM);
});

Deno.test("of all 65,536 tokens none that may be issued looks like a command, and every join is read back", () => {
  const bytes = new Uint8Array(COMMAND_BYTES);
  let issued = 0;
  for (let token = 0; token <= 0xffff; token++) {
    if (!isToken(token)) {
      throws(() => encodeJoin(bytes, 0, token), RangeError);
      continue;
    }
    issued++;
    equal(encodeJoin(bytes, 0, token), COMMAND_BYTES);
    equal(decodeCommand(bytes, 0, COMMAND_BYTES), REJECT_BAD_KIND);
    equal(readJoinToken(bytes, 0), token);
    deepEqual([...bytes.subarray(2)], [2, ...new Uint8Array(13)]);
  }
  equal(issued, 254 * 255);
  equal(readJoinToken(Uint8Array.of(1, 2, 1, 0), 0), REJECT_BAD_KIND);
});

Deno.test("tokenOf() makes a token of any number, and every token of some", () => {
  const seen = new Set<number>();
  for (let high = 0; high < 254; high++) {
    for (let low = 0; low < 255; low++) seen.add(tokenOf((low << 16 | high) >>> 0));
  }
  equal(seen.size, 254 * 255);
  fc.assert(fc.property(fc.nat(0xffff_ffff), (random) => ok(isToken(tokenOf(random)))));
});

Deno.test("answer words are written and told apart", () => {
  const bytes = new Uint8Array(4);
  writeWord(bytes, 0, WORD_ACCEPTED, 0xbc04);
  deepEqual([...bytes], [1, 0xbc, 4, 0]);
  equal(classifyWord(bytes, 0), WORD_ACCEPTED);
  equal(readWordToken(bytes, 0), 0xbc04);
  for (const kind of [WORD_REFUSED, WORD_MD5, WORD_ECSRP5]) {
    writeWord(bytes, 0, kind, 0xbc04);
    deepEqual([...bytes], [kind, 0, 0, 0]);
    equal(classifyWord(bytes, 0), kind);
  }
  for (const bad of [[4, 0, 0, 0], [1, 0, 0, 1], [2, 1, 0, 0], [0, 0, 1, 0], [83, 83, 72, 45]]) {
    equal(classifyWord(Uint8Array.from(bad), 0), REJECT_BAD_KIND);
  }
});

Deno.test("writeStatus() saturates at 4 GiB and never wraps", () => {
  const bytes = new Uint8Array(STATUS_BYTES);
  for (
    const [received, expected] of [
      [0, 0],
      [2 ** 32 - 1, 2 ** 32 - 1],
      [2 ** 32, 2 ** 32 - 1],
      [358_000_000 * 12, 2 ** 32 - 1],
      [Infinity, 2 ** 32 - 1],
      [-5, 0],
    ] as const
  ) {
    writeStatus(bytes, 0, 0, false, 1, received);
    equal(readStatusReceived(bytes, 0), expected);
  }
});

Deno.test("writeStatus() clamps the load and keeps the flag of the sender's side", () => {
  const bytes = new Uint8Array(STATUS_BYTES);
  for (const [cpu, expected] of [[0, 0], [41.6, 42], [100, 100], [250, 100], [-1, 0], [NaN, 0]]) {
    writeStatus(bytes, 0, cpu!, true, 1, 0);
    equal(bytes[1], 0x80 | expected!);
    writeStatus(bytes, 0, cpu!, false, 1, 0);
    equal(bytes[1], expected);
    equal(readStatusCpu(bytes, 0), expected);
  }
  bytes[1] = 0xff;
  equal(readStatusCpu(bytes, 0), 100);
});

Deno.test("planOf() lets a client report over UDP only and a sending server over TCP never", () => {
  const plan = (protocol: "tcp" | "udp", direction: "transmit" | "receive" | "both") =>
    Object.entries(planOf({ protocol, direction })).filter(([, yes]) => yes).map(([name]) => name);
  deepEqual(plan("tcp", "transmit"), ["clientSends", "serverReports"]);
  deepEqual(plan("tcp", "receive"), ["serverSends"]);
  deepEqual(plan("tcp", "both"), ["clientSends", "serverSends", "serverReports"]);
  deepEqual(plan("udp", "transmit"), ["clientSends", "clientReports", "serverReports"]);
  deepEqual(plan("udp", "receive"), ["serverSends", "clientReports", "serverReports"]);
});

Deno.test("udpPayloadBytes() takes the headers off and stays within a datagram", () => {
  equal(udpPayloadBytes(1500, UDP_OVERHEAD_IPV4_BYTES), 1472);
  equal(udpPayloadBytes(1500, UDP_OVERHEAD_IPV6_BYTES), 1452);
  equal(udpPayloadBytes(28, UDP_OVERHEAD_IPV4_BYTES), 4);
  equal(udpPayloadBytes(0, UDP_OVERHEAD_IPV4_BYTES), 1472);
  equal(udpPayloadBytes(65535, UDP_OVERHEAD_IPV4_BYTES), 65507);
});

Deno.test("decodeCommand() survives 100,000 hostile messages", () => {
  const seed = 16;
  const good: Uint8Array[] = [];
  forVectors(commandFile, (_, bytes) => void good.push(bytes));
  const hostile = new HostilePackets(seededRandom(seed), good, 64);
  let commandsRead = 0;
  for (let i = 0; i < 100_000; i++) {
    hostile.next();
    const { bytes, start, end } = hostile;
    const command = decodeCommand(bytes, start, end);
    if (typeof command === "number") continue;
    commandsRead++;
    ok(end - start >= COMMAND_BYTES && command.connections > 0, `seed ${seed}, message ${i}`);
    encodeCommand(new Uint8Array(COMMAND_BYTES), 0, command);
  }
  ok(commandsRead > 1000 && commandsRead < 90_000, `${commandsRead}`);
});
