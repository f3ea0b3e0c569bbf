import { deepEqual, equal, ok } from "node:assert/strict";
import { bytesOfHex, hexOf } from "../internal/testing/vectors.ts";
import commands from "./testdata/commands.json" with { type: "json" };
import ecsrp5 from "./testdata/ecsrp5.json" with { type: "json" };
import md5 from "./testdata/md5.json" with { type: "json" };
import statuses from "./testdata/statuses.json" with { type: "json" };
import {
  type ClientActions,
  ClientMachine,
  type Command,
  createVerifier,
  decodeCommand,
  Decoy,
  encodeCommand,
  isStatus,
  readStatusCpu,
  readStatusReceived,
  readStatusSequence,
  type ServerActions,
  ServerMachine,
  UDP_OVERHEAD_IPV4_BYTES,
  udpPayloadBytes,
  writeSequence,
  writeStatus,
} from "./protocol/mod.ts";

// What must hold after every change, line by line as it was asked for. The last two lines name devices: here their
// side of the conversation is played from recorded bytes. What crosses a real network (packet sizes, the second as a
// clock sees it) is tested where the sockets are.

const TCP = commands.cases[1]!.decoded as Command;
const UDP = commands.cases.find(({ name }) => name === "UDP both")!.decoded as Command;

function plain(hex: string | Uint8Array): string {
  return (typeof hex === "string" ? hex : hexOf(hex)).replaceAll(" ", "");
}

/** A conversation as lines: `>` what the client says, `<` what the server says, other lines what happens. */
class Transcript {
  readonly lines: string[] = [];

  client(command: Command, secret: string, credentials?: { user: string; password: string }) {
    const machine = new ClientMachine({
      command,
      secret: bytesOfHex(secret),
      credentials,
      durationMs: 10_000,
    });
    const actions: ClientActions = {
      write: (bytes) => void this.lines.push(`> ${plain(bytes)}`),
      join: (token, count) => void this.lines.push(`join ${token.toString(16)} ${count}`),
      dataPort: (port) => void this.lines.push(`port ${port}`),
      run: (connections) => void this.lines.push(`run ${connections}`),
      probe: () => void this.lines.push("probe"),
      second: (second, sequence) => void this.lines.push(`second ${second} status ${sequence}`),
      status: () => {},
      finish: ({ outcome }) => void this.lines.push(outcome),
    };
    const say = (hex: string, now = 0) => {
      this.lines.push(`< ${plain(hex)}`);
      const bytes = bytesOfHex(hex);
      machine.receive(bytes, 0, bytes.length, now, actions);
    };
    machine.start(0, actions);
    return { machine, say, expire: (now: number) => machine.expire(now, actions) };
  }

  server(
    auth: "none" | "md5" | "ecsrp5",
    secret: string,
    challenge: string,
    known: { user: string; password: string; salt: string },
    token = 0,
  ) {
    const machine = new ServerMachine({
      auth,
      secret: bytesOfHex(secret),
      challenge: bytesOfHex(challenge),
      decoy: new Decoy(new Uint8Array(32)),
    });
    let todo: (() => void) | undefined;
    const actions: ServerActions = {
      write: (bytes) => void this.lines.push(`< ${plain(bytes)}`),
      lookUp: (user, method) => {
        equal(user, known.user);
        const { password, salt } = known;
        todo = method === "md5"
          ? () => machine.verifyMd5(new TextEncoder().encode(password), 0, actions)
          : () =>
            machine.verifyEcSrp5(createVerifier(user, password, bytesOfHex(salt)), 0, actions);
      },
      prepare: ({ protocol }) => {
        todo = () => machine.accept(token, protocol === "udp" ? 2042 : 0, 0, actions);
      },
      join: (given) => void this.lines.push(`joins ${given.toString(16)}`),
      run: (connections) => void this.lines.push(`run ${connections}`),
      second: (second, sequence) => void this.lines.push(`second ${second} status ${sequence}`),
      status: (cpu, sequence) => void this.lines.push(`status ${cpu} ${sequence}`),
      finish: ({ outcome }) => void this.lines.push(outcome),
    };
    const say = (hex: string, now = 0) => {
      this.lines.push(`> ${plain(hex)}`);
      const bytes = bytesOfHex(hex);
      machine.receive(bytes, 0, bytes.length, now, actions);
      while (todo !== undefined) {
        const next = todo;
        todo = undefined;
        next();
      }
    };
    machine.start(0, actions);
    return { machine, actions, say, expire: (now: number) => machine.expire(now, actions) };
  }
}

const nobody = { user: "", password: "", salt: "00".repeat(16) };

Deno.test("No change to `Command` or `StatusMessage` struct layouts or serialization", () => {
  let written = 0;
  for (const { hex, decoded } of commands.cases as { hex: string; decoded?: Command }[]) {
    const bytes = bytesOfHex(hex);
    if (decoded === undefined) continue;
    deepEqual(decodeCommand(bytes, 0, bytes.length), decoded);
  }
  for (
    const { hex, decoded } of commands.cases.slice(0, 14) as { hex: string; decoded: Command }[]
  ) {
    const bytes = new Uint8Array(16);
    encodeCommand(bytes, 0, decoded);
    equal(plain(bytes), plain(hex));
    written++;
  }
  for (const { hex, decoded } of statuses.cases) {
    if (decoded === undefined) continue;
    const bytes = bytesOfHex(hex);
    ok(isStatus(bytes, 0));
    const { cpu, flag, sequence, received } = decoded;
    deepEqual(
      [readStatusCpu(bytes, 0), readStatusSequence(bytes, 0), readStatusReceived(bytes, 0)],
      [cpu, sequence, received],
    );
    const again = new Uint8Array(12);
    writeStatus(again, 0, cpu, flag, sequence, received);
    equal(plain(again), plain(hex));
    written++;
  }
  equal(written, 22);
});

Deno.test("No change to MD5 challenge-response handshake order", () => {
  const [vector] = md5.cases;
  const { password, challenge, answer } = vector!;
  const reply = answer + plain(new TextEncoder().encode("admin")).padEnd(64, "0");
  const expected = [
    "< 01000000",
    "> 01020100008000000000000000000000",
    `< 02000000${challenge}`,
    `> ${reply}`,
    "< 01000000",
    "run 1",
  ];
  const left = new Transcript();
  const client = left.client(TCP, "07".repeat(32), { user: "admin", password });
  client.say("01000000");
  client.say(`02000000 ${challenge}`);
  client.say("01000000");
  deepEqual(left.lines, expected);
  const right = new Transcript();
  const known = { ...nobody, user: "admin", password };
  const server = right.server("md5", "09".repeat(32), challenge, known);
  server.say("01020100008000000000000000000000");
  server.say(reply);
  deepEqual(right.lines, expected);
});

Deno.test("No change to EC-SRP5 handshake order or byte values", () => {
  for (const { user, password, salt, clientSecret, serverSecret, messages } of ecsrp5.cases) {
    const [one, two, three, four] = messages as [string, string, string, string];
    const expected = [
      "< 01000000",
      "> 01020100008000000000000000000000",
      "< 03000000",
      `> ${one}`,
      `< ${two}`,
      `> ${three}`,
      `< ${four}`,
      "< 01000000",
      "run 1",
    ];
    const left = new Transcript();
    const client = left.client(TCP, clientSecret, { user, password });
    for (const hex of ["01000000", "03000000", two, four, "01000000"]) client.say(hex);
    deepEqual(left.lines, expected);
    const right = new Transcript();
    const server = right.server("ecsrp5", serverSecret, "00".repeat(16), { user, password, salt });
    for (const hex of ["01020100008000000000000000000000", one, three]) server.say(hex);
    deepEqual(right.lines, expected);
  }
});

Deno.test("No change to TCP packet sizes or UDP payload format", () => {
  equal(TCP.txSize, 32768);
  deepEqual(
    [28, 512, 1500, 9000, 64000].map((size) => udpPayloadBytes(size, UDP_OVERHEAD_IPV4_BYTES)),
    [
      4,
      484,
      1472,
      8972,
      63972,
    ],
  );
  const payload = new Uint8Array(8);
  writeSequence(new DataView(payload.buffer), 0, 1);
  equal(plain(payload), "0000000100000000");
});

Deno.test("No change to status injection timing (1-second interval)", () => {
  const udp = new Transcript();
  const client = udp.client({ ...UDP, direction: "transmit" }, "07".repeat(32));
  client.say("01000000");
  client.say("01000000 07d2", 40);
  udp.lines.length = 0;
  for (let now = 40; now < 3500; now += 5) client.expire(now);
  deepEqual(udp.lines, ["second 1 status 1", "second 2 status 2", "second 3 status 3"]);
  equal(client.machine.deadline, 4040);

  const tcp = new Transcript();
  const server = tcp.server("none", "09".repeat(32), "00".repeat(16), nobody);
  server.say("01030100008000000000000000000000");
  tcp.lines.length = 0;
  for (let now = 0; now < 3500; now += 5) server.expire(now);
  deepEqual(tcp.lines, ["second 1 status 1", "second 2 status 2", "second 3 status 3"]);
});

Deno.test("No change to NAT probe behavior", () => {
  const transcript = new Transcript();
  const client = transcript.client({ ...UDP, direction: "receive" }, "07".repeat(32));
  client.say("01000000");
  client.say("01000000 07d2");
  deepEqual(transcript.lines.slice(-3), ["port 2002", "run 1", "probe"]);
  transcript.lines.length = 0;
  const at: number[] = [];
  for (let now = 1; now < 5000; now++) {
    client.expire(now);
    if (transcript.lines.splice(0).includes("probe")) at.push(now);
  }
  deepEqual(at, [250, 1000]);
});

Deno.test("Client can still authenticate against stock RouterOS `btest` server", () => {
  // The words of a RouterOS 6.48 server, with its default of 20 connections.
  const { user, password, clientSecret, messages } = ecsrp5.cases[2]!;
  const transcript = new Transcript();
  const command = { ...TCP, direction: "both", connections: 20 } as const;
  const client = transcript.client(command, clientSecret, { user, password });
  for (const hex of ["01000000", "03000000", messages[1]!, messages[3]!]) client.say(hex);
  client.say("01bc0400");
  deepEqual(transcript.lines.filter((line) => line.startsWith(">")), [
    "> 01030114008000000000000000000000",
    `> ${messages[0]}`,
    `> ${messages[2]}`,
  ]);
  equal(transcript.lines.at(-1), "join bc04 19");
});

Deno.test("Server can still accept connections from stock RouterOS `btest` client", () => {
  const { user, password, salt, serverSecret, messages } = ecsrp5.cases[2]!;
  const known = { user, password, salt };
  const transcript = new Transcript();
  const server = transcript.server("ecsrp5", serverSecret, "00".repeat(16), known, 0xbc04);
  for (const hex of ["01030114008000000000000000000000", messages[0]!, messages[2]!]) {
    server.say(hex);
  }
  equal(transcript.lines.at(-1), "< 01bc0400");
  for (let i = 1; i < 20; i++) {
    const joining = new Transcript();
    const further = joining.server("ecsrp5", serverSecret, "00".repeat(16), known);
    further.say("bc040200000000000000000000000000");
    // No answer: a RouterOS client would take one as data.
    deepEqual(joining.lines, [
      "< 01000000",
      "> bc040200000000000000000000000000",
      "joins bc04",
      "joined",
    ]);
    ok(server.machine.joined(i, server.actions));
  }
  equal(transcript.lines.at(-1), "run 20");

  // The status messages of a RouterOS 6.46 client, in UDP.
  const udp = new Transcript();
  const receiver = udp.server("none", serverSecret, "00".repeat(16), nobody);
  receiver.say("00010100dc0500000000000000000000");
  receiver.say("07e40000 01000000 00000000");
  receiver.say("07aa0000 02000000 00000000");
  deepEqual(udp.lines.filter((line) => line.startsWith("status")), ["status 100 1", "status 42 2"]);
});
