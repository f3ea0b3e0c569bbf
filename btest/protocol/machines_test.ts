import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { seededRandom } from "../../internal/random.ts";
import { recordActions } from "../../internal/testing/recorder.ts";
import { bytesOfHex, hexOf } from "../../internal/testing/vectors.ts";
import { Decoy } from "./auth_ecsrp5.ts";
import {
  type ClientActions,
  ClientMachine,
  type ClientOptions,
  type ClientResult,
  JoinMachine,
} from "./client_machine.ts";
import { type Command, encodeCommand, planOf, writeStatus } from "./command.ts";
import { PendingSessions } from "./pending_sessions.ts";
import { type ServerActions, ServerMachine, type ServerOptions } from "./server_machine.ts";

const decoy = new Decoy(new Uint8Array(32).fill(1));
const user = "user", password = "password";

const TCP: Command = {
  protocol: "tcp",
  direction: "receive",
  randomData: false,
  connections: 1,
  txSize: 32768,
  clientBufferSize: 0,
  remoteTxSpeed: 0,
  localTxSpeed: 0,
};
const UDP: Command = { ...TCP, protocol: "udp", txSize: 1500 };

function clientOf(command: Command, more: Partial<ClientOptions> = {}) {
  const actions = recordActions<ClientActions>([
    "write",
    "join",
    "dataPort",
    "run",
    "probe",
    "second",
    "status",
    "finish",
  ]);
  const secret = new Uint8Array(32).fill(7);
  const machine = new ClientMachine({ command, secret, ...more });
  return {
    machine,
    actions,
    take: (hex: string, now = 0) => {
      const bytes = bytesOfHex(hex);
      return actions.call(() => machine.receive(bytes, 0, bytes.length, now, actions));
    },
    expire: (now: number) => actions.call(() => machine.expire(now, actions)),
    verbs: () => verbs(actions.take()),
  };
}

function serverOf(more: Partial<ServerOptions> = {}) {
  const actions = recordActions<ServerActions>([
    "write",
    "lookUp",
    "prepare",
    "join",
    "run",
    "second",
    "status",
    "finish",
  ]);
  const machine = new ServerMachine({
    auth: "none",
    challenge: new Uint8Array(16).fill(5),
    secret: new Uint8Array(32).fill(9),
    decoy,
    ...more,
  });
  return {
    machine,
    actions,
    take: (hex: string, now = 0) => {
      const bytes = bytesOfHex(hex);
      return actions.call(() => machine.receive(bytes, 0, bytes.length, now, actions));
    },
    expire: (now: number) => actions.call(() => machine.expire(now, actions)),
    verbs: () => verbs(actions.take()),
  };
}

/** The calls as one line each, bytes in hexadecimal. */
function verbs(calls: readonly (readonly unknown[])[]): readonly string[] {
  return calls.map(([verb, ...args]) =>
    [
      verb,
      ...args.map((value) =>
        value instanceof Uint8Array
          ? hexOf(value).replaceAll(" ", "")
          : typeof value === "object"
          ? Object.values(value as object).join("/")
          : String(value)
      ),
    ].join(" ")
  );
}

Deno.test("ClientMachine answers the hello with its command and runs when it is accepted", () => {
  const { machine, actions, take, verbs } = clientOf(TCP);
  machine.start(0, actions);
  equal(machine.deadline, 10_000);
  equal(take("01000000"), 4);
  deepEqual(verbs(), ["write 01020100008000000000000000000000"]);
  // Accepted, and the first data in the same segment.
  equal(take("01000000 0000000000"), 4);
  deepEqual(verbs(), ["run 1"]);
  equal(take("0000"), 0);
  machine.closed(actions);
  deepEqual(verbs(), ["finish peer-closed/running/none"]);
  ok(machine.finished && machine.deadline === Infinity);
  equal(take("0000"), 0);
});

Deno.test("ClientMachine reads accepted word and UDP port from one segment or byte by byte", () => {
  for (const pieces of [["01000000", "0100000007fa"], "010000000100000007fa".match(/../g)!]) {
    const { machine, actions, take, verbs } = clientOf(UDP);
    machine.start(0, actions);
    for (const piece of pieces) equal(take(piece), piece.length / 2);
    deepEqual(verbs(), [
      "write 00020100dc0500000000000000000000",
      "dataPort 2042",
      "run 1",
      "probe",
    ]);
  }
});

Deno.test("ClientMachine sends empty datagrams now, after 250 ms and after a second, until data arrives", () => {
  const { machine, actions, take, verbs, expire } = clientOf(UDP);
  machine.start(0, actions);
  take("01000000 01000000 07fa", 100);
  verbs();
  expire(349);
  deepEqual(verbs(), []);
  equal(machine.deadline, 350);
  expire(350);
  expire(1100);
  deepEqual(verbs(), ["probe", "probe", "second 1 1"]);
  equal(machine.deadline, 2100);

  const answered = clientOf(UDP);
  answered.take("01000000 01000000 07fa", 100);
  answered.machine.dataArrived();
  equal(answered.machine.deadline, 1100);
  const quiet = clientOf({ ...UDP, direction: "transmit" });
  quiet.take("01000000 01000000 07fa");
  equal(quiet.verbs().includes("probe"), false);
  const off = clientOf(UDP, { natProbe: false });
  off.take("01000000 01000000 07fa");
  equal(off.verbs().includes("probe"), false);
});

Deno.test("ClientMachine joins with the token and runs when all connections are there, or after ten seconds", () => {
  const command = { ...TCP, connections: 3 };
  const { machine, actions, take, verbs, expire } = clientOf(command);
  machine.start(0, actions);
  // The data behind the word waits for the connections.
  equal(take("01000000 01bc0400 0000", 5), 8);
  deepEqual(verbs().slice(1), [`join ${0xbc04} 2`]);
  machine.joined(6, actions);
  deepEqual(verbs(), []);
  machine.joined(7, actions);
  deepEqual(verbs(), ["run 3"]);

  const late = clientOf(command);
  late.take("01000000 01bc0400", 5);
  late.machine.joinFailed(6, late.actions);
  late.verbs();
  late.expire(10_004);
  deepEqual(late.verbs(), []);
  late.expire(10_005);
  deepEqual(late.verbs(), ["run 1"]);
  equal(late.machine.failedJoins, 2);
  expire(8);
});

Deno.test("ClientMachine tells the endings of a handshake apart", () => {
  const credentials = { user, password };
  const ended = (
    command: Command,
    more: Partial<ClientOptions>,
    hex: string,
    close: boolean,
  ): unknown => {
    const { machine, actions, take } = clientOf(command, more);
    machine.start(0, actions);
    take(hex);
    if (close) machine.closed(actions);
    const last = actions.take().at(-1);
    const { outcome, phase } = last![1] as ClientResult;
    return `${outcome} in ${phase}`;
  };
  const challenge = `02000000 ${"00".repeat(16)}`;
  equal(ended(TCP, {}, "01000000 00000000", false), "refused in answer");
  equal(ended(TCP, {}, "", true), "peer-closed in hello");
  equal(ended(TCP, {}, "5353482d", false), "protocol-error in hello");
  equal(ended(TCP, {}, "01000000 04000000", false), "protocol-error in answer");
  equal(ended(TCP, {}, "01000000 02000000", false), "auth-required in answer");
  equal(ended(TCP, {}, "01000000 03000000", false), "auth-required in answer");
  equal(ended({ ...TCP, connections: 2 }, {}, "01000000 01000000", false), "unsupported in answer");
  equal(ended(UDP, {}, "01000000 01000000 0000", false), "protocol-error in port");
  const md5 = `01000000 ${challenge}`;
  equal(ended(TCP, { credentials }, `${md5} 00000000`, false), "auth-failed in verdict");
  equal(ended(TCP, { credentials }, md5, true), "auth-failed in verdict");
  equal(ended(TCP, { credentials }, `${md5} 03000000`, false), "protocol-error in verdict");
  const srp = `01000000 03000000`;
  equal(ended(TCP, { credentials }, srp, true), "peer-closed in proof");
  const point = `31 ${"00".repeat(31)}09 00 ${"00".repeat(16)}`;
  equal(ended(TCP, { credentials }, `${srp} ${point}`, true), "auth-failed in proof");
  equal(
    ended(TCP, { credentials }, `${srp} ${point} 20 ${"00".repeat(32)}`, false),
    "server-proof in proof",
  );
  equal(ended(TCP, { credentials }, `${srp} 31`, true), "peer-closed in proof");
  // Known for what it is by its length, before the bytes behind it come or do not.
  equal(ended(TCP, { credentials }, `${srp} 30`, false), "protocol-error in proof");
});

Deno.test("both machines give up on a silent peer at each step", () => {
  const client = clientOf(TCP);
  client.machine.start(0, client.actions);
  client.expire(9999);
  deepEqual(client.verbs(), []);
  client.expire(10_000);
  deepEqual(client.verbs(), ["finish no-answer/hello/none"]);

  const server = serverOf({ auth: "ecsrp5" });
  server.machine.start(0, server.actions);
  equal(server.machine.deadline, 5000);
  server.take("01020100008000000000000000000000", 4000);
  equal(server.machine.deadline, 14_000);
  // A byte now and then does not help.
  server.take("2a", 13_000);
  server.expire(14_000);
  deepEqual(server.verbs().at(-1), "finish no-answer/ecsrp5/");
});

Deno.test("ServerMachine sends the accepted word once, after authentication, with the UDP port", () => {
  const { machine, actions, take, verbs } = serverOf();
  machine.start(0, actions);
  deepEqual(verbs(), ["write 01000000"]);
  equal(take("00020100dc0500000000000000000000 07"), 16);
  deepEqual(verbs(), ["prepare udp/receive/false/1/1500/0/0/0 "]);
  throws(() => machine.accept(0, 0, 0, actions), RangeError);
  throws(() => machine.accept(0x0201, 2042, 0, actions), RangeError);
  machine.accept(0, 2042, 1, actions);
  deepEqual(verbs(), ["write 0100000007fa", "run 1"]);
  machine.accept(0, 2042, 1, actions);
  deepEqual(verbs(), []);
});

Deno.test("ServerMachine starts within the join that completes the set", () => {
  const { machine, actions, take, verbs } = serverOf();
  take("01030103008000000000000000000000");
  throws(() => machine.accept(0, 0, 0, actions), RangeError);
  machine.accept(0xbc04, 0, 10, actions);
  verbs();
  equal(machine.joined(11, actions), true);
  deepEqual(verbs(), []);
  machine.left();
  equal(machine.joined(12, actions), true);
  deepEqual(verbs(), []);
  equal(machine.joined(13, actions), true);
  deepEqual(verbs(), ["run 3"]);
  equal(machine.joined(14, actions), false);

  const short = serverOf();
  short.take("01030114008000000000000000000000");
  short.machine.accept(0xbc04, 0, 10, short.actions);
  short.machine.joined(11, short.actions);
  short.verbs();
  short.expire(10_010);
  deepEqual(short.verbs(), ["run 2"]);
});

Deno.test("ServerMachine hands a join over, answers nothing to it and leaves its data alone", () => {
  const { machine, actions, take, verbs } = serverOf({ auth: "ecsrp5" });
  machine.start(0, actions);
  verbs();
  equal(take("bc040200000000000000000000000000 0000"), 16);
  deepEqual(verbs(), [`join ${0xbc04}`, "finish joined/command/"]);
});

Deno.test("ServerMachine closes without a word on what is no command", () => {
  for (const hex of ["47455420 2f204854 54502f31 2e310d0a", "01000100".padEnd(32, "0")]) {
    const { take, verbs } = serverOf();
    take(hex);
    equal(verbs().some((line) => line.startsWith("write")), false);
  }
  const { take, verbs } = serverOf();
  take("01040100".padEnd(32, "0"));
  deepEqual(verbs(), ["finish protocol-error/command/"]);
});

Deno.test("ServerMachine takes an MD5 answer in two writes and asks who that is", () => {
  const { machine, actions, take, verbs } = serverOf({ auth: "md5" });
  take("01020100008000000000000000000000");
  deepEqual(verbs(), [`write 02000000${"05".repeat(16)}`]);
  take("00".repeat(16));
  // Nothing is read while the user is looked up.
  equal(take(`${hexOf(new TextEncoder().encode("anna")).padEnd(11)} ${"00".repeat(28)} 0102`), 32);
  deepEqual(verbs(), ["lookUp anna md5"]);
  machine.verifyMd5(new TextEncoder().encode("x"), 1, actions);
  deepEqual(verbs(), ["write 00000000", "finish auth-failed/md5-user/anna"]);
});

Deno.test("ServerMachine never accepts an MD5 user that does not exist, even with the right proof", () => {
  const secret = new Uint8Array(32).fill(0x41);
  const { machine, actions, take, verbs } = serverOf({ auth: "md5", secret });
  const client = clientOf(TCP, {
    credentials: { user: "ghost", password: "A".repeat(32) },
  });
  client.take(`01000000 02000000 ${"05".repeat(16)}`);
  take("01020100008000000000000000000000");
  take(client.verbs().at(-1)!.split(" ")[1]!);
  machine.verifyMd5(undefined, 1, actions);
  deepEqual(verbs().at(-1), "finish auth-failed/md5-user/ghost");
});

Deno.test("both sides of a UDP test report each second, on a grid that does not drift", () => {
  const { machine, actions, take, verbs, expire } = serverOf();
  take("00020100dc0500000000000000000000");
  machine.accept(0, 2042, 1000.1, actions);
  verbs();
  for (let second = 1; second <= 5; second++) {
    const due = machine.deadline;
    ok(Math.abs(due - (1000.1 + 1000 * second)) < 1e-6);
    expire(due - 0.001);
    deepEqual(verbs(), []);
    expire(due + 7);
    deepEqual(verbs(), [`second ${second} ${second}`]);
  }
  // Three seconds without a call are told as one, with the next number.
  expire(1000.1 + 8200);
  deepEqual(verbs(), ["second 8 6"]);
  ok(machine.deadline > 10_000);
});

Deno.test("expire() at the deadline makes progress from any moment of start", () => {
  for (let i = 0; i < 2000; i++) {
    const { machine, actions, take, expire } = serverOf();
    take("00020100dc0500000000000000000000");
    machine.accept(0, 2042, i * 0.1 + 0.3333, actions);
    const due = machine.deadline;
    expire(due);
    ok(machine.deadline > due, `start ${i}`);
  }
});

Deno.test("a TCP server reports when it receives and only counts seconds when it sends", () => {
  for (const [direction, sequence] of [["01", 1], ["02", 0], ["03", 1]] as const) {
    const { machine, actions, take, verbs, expire } = serverOf();
    take(`01${direction}0100008000000000000000000000`);
    machine.accept(0, 0, 0, actions);
    verbs();
    expire(1000);
    deepEqual(verbs(), [`second 1 ${sequence}`]);
  }
  const { actions, take, verbs, expire } = clientOf({ ...TCP, direction: "both" });
  take("01000000 01000000");
  verbs();
  expire(1000);
  deepEqual(verbs(), ["second 1 0"]);
  ok(actions);
});

Deno.test("status messages are read from pieces of any size, with strays between them", () => {
  const { machine, actions, take, verbs } = serverOf();
  take("00030100dc0500000000000000000000");
  machine.accept(0, 2042, 0, actions);
  verbs();
  const stream = "07d90000 01000000 c02db402 ff01 07aa0000 02000000 00000000";
  for (const byte of stream.replaceAll(" ", "").match(/../g)!) equal(take(byte, 10), 1);
  deepEqual(verbs(), ["status 89 1 45362624", "status 42 2 0"]);
  // A client in TCP transmit reads the return path in the same way.
  const client = clientOf({ ...TCP, direction: "transmit" });
  client.take("01000000 01000000");
  client.verbs();
  equal(client.take("07000000 01000000 c02db402"), 12);
  deepEqual(client.verbs(), ["status 0 1 45362624"]);
});

Deno.test("a vanished client does not leave a sender running", () => {
  const { machine, actions, take, verbs, expire } = serverOf({ maxDurationMs: 100_000 });
  take("00020100dc0500000000000000000000");
  machine.accept(0, 2042, 0, actions);
  take("07d90000 01000000 00000000", 5000);
  expire(34_999);
  equal(machine.finished, false);
  expire(35_000);
  deepEqual(verbs().at(-1), "finish control-timeout/running/");
});

Deno.test("a server that should receive and does not ends after 30 s, any test after its longest time", () => {
  const idle = serverOf();
  idle.take("01010100008000000000000000000000");
  idle.machine.accept(0, 0, 0, idle.actions);
  idle.machine.dataArrived(10_000);
  idle.expire(39_999);
  idle.expire(40_000);
  deepEqual(idle.verbs().at(-1), "finish idle/running/");

  const long = serverOf({ maxDurationMs: 2000 });
  long.take("01020100008000000000000000000000");
  long.machine.accept(0, 0, 0, long.actions);
  long.verbs();
  long.expire(1000);
  long.expire(2000);
  deepEqual(long.verbs(), ["second 1 0", "second 2 0", "finish duration/running/"]);
});

Deno.test("either side can stop a test, and nothing follows", () => {
  const client = clientOf(TCP, { durationMs: 500 });
  client.take("01000000 01000000");
  client.verbs();
  client.machine.stop(client.actions);
  deepEqual(client.verbs(), ["finish stopped/running/none"]);
  client.expire(99_999);
  client.machine.closed(client.actions);
  deepEqual(client.verbs(), []);
  const server = serverOf();
  server.take("01020100008000000000000000000000");
  server.verbs();
  server.machine.refuse(server.actions);
  deepEqual(server.verbs(), ["write 00000000", "finish refused/ready/"]);
  server.machine.stop(server.actions);
  deepEqual(server.verbs(), []);
});

Deno.test("JoinMachine reads the hello, writes the join and leaves all else to the data", () => {
  const run = (hex: string, token = 0xbc04) => {
    const written: string[] = [];
    const machine = new JoinMachine(token);
    const bytes = bytesOfHex(hex);
    let taken = 0;
    for (let i = 0; i < bytes.length; i++) {
      taken += machine.receive(bytes, i, i + 1, { write: (b) => void written.push(hexOf(b)) });
    }
    return [machine.state, taken, ...written];
  };
  const join = "bc 04 02 00 00 00 00 00 00 00 00 00 00 00 00 00";
  // The answer that one server gives to a join is data.
  deepEqual(run("01000000 01bc0400"), ["joined", 4, join]);
  deepEqual(run("5353482d"), ["failed", 4]);
  deepEqual(run("0100"), ["hello", 2]);
  deepEqual(run("01000000", 0x0100), ["joined", 4, join.replace("bc 04", "01 00")]);
});

Deno.test("PendingSessions finds a test by token and address, and never gives a token twice", () => {
  const pending = new PendingSessions<string>();
  const token = pending.add(5, "192.0.2.1", "a");
  const other = pending.add(5, "192.0.2.1", "b");
  ok(token > 0 && other > 0 && token !== other);
  equal(pending.find(token, "192.0.2.1"), "a");
  equal(pending.find(token, "192.0.2.2"), undefined);
  pending.remove(token);
  equal(pending.find(token, "192.0.2.1"), undefined);
  equal(pending.size, 1);
  const random = seededRandom(1);
  for (let i = 1; i < 64_770; i++) ok(pending.add(random.u32(), "x", "y") > 0);
  equal(pending.add(1, "x", "full"), 0);
});

Deno.test("planOf() and the machines agree on who reports", () => {
  for (const direction of ["transmit", "receive", "both"] as const) {
    const { machine, actions, take, expire } = serverOf();
    const command = { ...TCP, direction };
    const bytes = new Uint8Array(16);
    encodeCommand(bytes, 0, command);
    take(hexOf(bytes));
    machine.accept(0, 0, 0, actions);
    expire(1000);
    const second = actions.take().find(([verb]) => verb === "second")!;
    equal(second[2], planOf(command).serverReports ? 1 : 0);
  }
  const status = new Uint8Array(12);
  equal(writeStatus(status, 0, 1, true, 1, 1), 12);
});
