import { deepEqual, equal, ok } from "node:assert/strict";
import { type Random, seededRandom } from "../../internal/random.ts";
import { bytesOfHex } from "../../internal/testing/vectors.ts";
import { createVerifier, Decoy } from "./auth_ecsrp5.ts";
import {
  type AuthMethod,
  type ClientActions,
  ClientMachine,
  type ClientResult,
  JoinMachine,
} from "./client_machine.ts";
import type { Command } from "./command.ts";
import { PendingSessions } from "./pending_sessions.ts";
import { type ServerActions, ServerMachine, type ServerResult } from "./server_machine.ts";

const decoy = new Decoy(new Uint8Array(32).fill(1));
const user = "user", password = "password";
const verifier = createVerifier(user, password, new Uint8Array(16).fill(2));

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

/** One side of a pair: what it wrote, and how it ended. */
interface SideLog<Result> {
  readonly written: Uint8Array[];
  outcome: Result | undefined;
  runs: number[];
}

interface PairOptions {
  readonly credentials?: { readonly user: string; readonly password: string } | undefined;
  readonly known?: boolean;
  readonly cut?: (bytes: Uint8Array) => readonly Uint8Array[];
  readonly seed?: number;
}

/** A client and a server back to back, with their further connections; bytes are cut as asked. */
function pair(command: Command, auth: AuthMethod, options: PairOptions = {}) {
  const cut = options.cut ?? ((bytes) => [bytes]);
  const random = seededRandom(options.seed ?? 1);
  const client: SideLog<ClientResult> = { written: [], outcome: undefined, runs: [] };
  const server: SideLog<ServerResult> = { written: [], outcome: undefined, runs: [] };
  const queue: (() => void)[] = [];
  const pending = new PendingSessions<ServerMachine>();
  let token = 0;
  let ports = 0;
  const rest: number[] = [];

  const offer = () => {
    const bytes = Uint8Array.from(rest.splice(0));
    const taken = left.receive(bytes, 0, bytes.length, 0, clientActions);
    rest.push(...bytes.subarray(taken));
  };
  const serverRest: number[] = [];
  const offerToServer = () => {
    const bytes = Uint8Array.from(serverRest.splice(0));
    const taken = right.receive(bytes, 0, bytes.length, 0, serverActions);
    serverRest.push(...bytes.subarray(taken));
  };
  const clientActions: ClientActions = {
    write: (bytes) => {
      client.written.push(bytes.slice());
      for (const piece of cut(bytes.slice())) {
        queue.push(() => {
          serverRest.push(...piece);
          offerToServer();
        });
      }
    },
    join: (given, count) => {
      for (let i = 0; i < count; i++) queue.push(() => joinOne(given));
    },
    dataPort: (port) => void (ports = port),
    run: (connections) => void client.runs.push(connections),
    probe: () => {},
    second: () => {},
    status: () => {},
    finish: (result) => void (client.outcome = result),
  };
  const serverActions: ServerActions = {
    write: (bytes) => {
      server.written.push(bytes.slice());
      for (const piece of cut(bytes.slice())) {
        queue.push(() => {
          rest.push(...piece);
          offer();
        });
      }
    },
    lookUp: (name, method) =>
      void queue.push(() => {
        const known = name === user && (options.known ?? true);
        if (method === "ecsrp5") {
          right.verifyEcSrp5(known ? verifier : undefined, 0, serverActions);
        } else {
          const secret = new TextEncoder().encode(password);
          right.verifyMd5(known ? secret : undefined, 0, serverActions);
        }
        offerToServer();
      }),
    prepare: ({ protocol, connections }) =>
      void queue.push(() => {
        const joins = protocol === "tcp" && connections > 1;
        token = joins ? pending.add(random.u32(), "peer", right) : 0;
        right.accept(token, protocol === "udp" ? 2042 : 0, 0, serverActions);
      }),
    join: () => {},
    run: (connections) => {
      pending.remove(token);
      server.runs.push(connections);
    },
    second: () => {},
    status: () => {},
    finish: (result) => {
      server.outcome = result;
      queue.push(() => left.closed(clientActions));
    },
  };
  /** One more connection: its own machines on both sides. */
  const joinOne = (given: number) => {
    const join = new JoinMachine(given);
    let hello = new Uint8Array(0);
    const accepted = new ServerMachine({
      auth,
      challenge: random.bytes(16),
      secret: random.bytes(32),
      decoy,
    });
    let joinedToken = 0;
    const actions: ServerActions = {
      ...serverActions,
      write: (bytes) => void (hello = bytes.slice()),
      join: (found) => void (joinedToken = found),
      finish: ({ outcome }) => equal(outcome, "joined"),
    };
    accepted.start(0, actions);
    for (const piece of cut(hello)) {
      join.receive(piece, 0, piece.length, {
        write: (bytes) => {
          for (const part of cut(bytes)) accepted.receive(part, 0, part.length, 0, actions);
        },
      });
    }
    equal(join.state, "joined");
    ok(pending.find(joinedToken, "peer")?.joined(0, serverActions));
    left.joined(0, clientActions);
  };

  const left = new ClientMachine({
    command,
    secret: random.bytes(32),
    credentials: options.credentials,
  });
  const right = new ServerMachine({
    auth,
    challenge: random.bytes(16),
    secret: random.bytes(32),
    decoy,
  });
  left.start(0, clientActions);
  right.start(0, serverActions);
  for (let i = 0; queue.length > 0; i++) {
    ok(i < 10_000, "the handshake ends");
    queue.shift()!();
  }
  return { client, server, ports: () => ports, left, right };
}

const bytewise = (bytes: Uint8Array) => [...bytes].map((byte) => Uint8Array.of(byte));

function randomly(random: Random): (bytes: Uint8Array) => readonly Uint8Array[] {
  return (bytes) => {
    const pieces: Uint8Array[] = [];
    for (let at = 0; at < bytes.length;) {
      const end = Math.min(bytes.length, at + 1 + random.u32() % 20);
      pieces.push(bytes.slice(at, end));
      at = end;
    }
    return pieces;
  };
}

for (const auth of ["none", "md5", "ecsrp5"] as const) {
  for (const protocol of ["tcp", "udp"] as const) {
    Deno.test(`client and server run a ${protocol} test with auth ${auth} in every direction, count and cut`, () => {
      let seed = 0;
      for (const direction of ["transmit", "receive", "both"] as const) {
        for (const connections of [1, 2, 20, 255]) {
          const cuts = [undefined, bytewise, randomly(seededRandom(++seed))];
          for (const cut of cuts) {
            const command = { ...TCP, protocol, direction, connections };
            const credentials = { user, password };
            const { client, server, ports, left } = pair(command, auth, {
              credentials,
              seed,
              ...cut === undefined ? {} : { cut },
            });
            const runs = protocol === "tcp" ? connections : 1;
            const what = `seed ${seed}, ${direction}, ${connections} connections`;
            deepEqual([client.runs, server.runs], [[runs], [runs]], what);
            deepEqual([client.outcome, server.outcome], [undefined, undefined], what);
            equal(left.auth, auth);
            equal(ports(), protocol === "udp" ? 2042 : 0);
          }
        }
      }
    });
  }
}

Deno.test("a hundred thousand random first messages leave every machine finished or waiting, and none throws", () => {
  const seed = 100_000;
  const random = seededRandom(seed);
  const outcomes = new Map<string, number>();
  const message = new Uint8Array(64);
  for (let i = 0; i < 100_000; i++) {
    const length = random.u32() % 64;
    for (let j = 0; j < length; j++) message[j] = random.u32();
    // Most begin like a command, a join or a status.
    if (random.u32() % 2 === 0) message[0] = random.u32() % 8;
    if (random.u32() % 2 === 0) message[1] = random.u32() % 5;
    let outcome = "waiting";
    const auth = (["none", "md5", "ecsrp5"] as const)[i % 3]!;
    const challenge = new Uint8Array(16);
    const secret = SECRET;
    const machine = new ServerMachine({ auth, challenge, secret, decoy });
    const actions: ServerActions = {
      write: () => {},
      lookUp: () => void (outcome = "lookUp"),
      prepare: () => void (outcome = "prepare"),
      join: () => {},
      run: () => {},
      second: () => {},
      status: () => {},
      finish: (result) => void (outcome = result.outcome),
    };
    try {
      machine.start(0, actions);
      const taken = machine.receive(message, 0, length, 0, actions);
      ok(taken <= length);
      if (outcome === "prepare") {
        const { protocol, connections } = machine.command!;
        const joins = protocol === "tcp" && connections > 1;
        machine.accept(joins ? 0x0201 : 0, protocol === "udp" ? 2042 : 0, 0, actions);
        machine.receive(message, taken, length, 0, actions);
      }
      for (let j = 0; !machine.finished; j++) {
        ok(j < 1000, "it ends by itself");
        // Lookups of ours are bounded by the same deadline.
        machine.expire(machine.deadline, actions);
      }
    } catch (error) {
      throw new Error(`seed ${seed}, message ${i}`, { cause: error });
    }
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  }
  for (const outcome of ["joined", "protocol-error", "no-answer", "duration", "idle"]) {
    ok((outcomes.get(outcome) ?? 0) > 100, `${outcome}: ${outcomes.get(outcome)}`);
  }
});

const SECRET = new Uint8Array(32).fill(9);

Deno.test("ClientMachine survives every lie a server can tell", () => {
  for (let seed = 1; seed <= 3000; seed++) {
    try {
      lieToClient(seededRandom(seed));
    } catch (error) {
      throw new Error(`seed ${seed}`, { cause: error });
    }
  }
});

function lieToClient(random: Random): void {
  const good = ["01000000", "01bc0400", "02000000", "03000000", "00000000", "07fa", "31", "20"];
  const command = {
    ...(random.u32() % 2 === 0 ? TCP : UDP),
    connections: 1 + random.u32() % 3,
    direction: (["transmit", "receive", "both"] as const)[random.u32() % 3]!,
  };
  let finishes = 0;
  const actions: ClientActions = {
    write: () => equal(finishes, 0),
    join: () => equal(finishes, 0),
    dataPort: (port) => ok(port > 0),
    run: () => equal(finishes, 0),
    probe: () => equal(finishes, 0),
    second: () => equal(finishes, 0),
    status: (cpu) => ok(cpu <= 100),
    finish: () => void finishes++,
  };
  const machine = new ClientMachine({
    command,
    secret: SECRET,
    durationMs: 5000,
    credentials: random.u32() % 4 === 0 ? undefined : { user, password },
  });
  machine.start(0, actions);
  let now = 0;
  for (let i = 0; i < 20; i++) {
    const first = i === 0 && random.u32() % 8 !== 0;
    const bytes = first
      ? bytesOfHex("01000000")
      : random.u32() % 3 === 0
      ? random.bytes(random.u32() % 70)
      : bytesOfHex(good[random.u32() % good.length]!);
    const taken = machine.receive(bytes, 0, bytes.length, now, actions);
    ok(taken >= 0 && taken <= bytes.length);
    if (random.u32() % 8 === 0) machine.joined(now, actions);
    if (random.u32() % 8 === 0) machine.joinFailed(now, actions);
    if (random.u32() % 30 === 0) machine.closed(actions);
    machine.expire(now += random.u32() % 500, actions);
  }
  for (let i = 0; !machine.finished; i++) {
    ok(i < 100 && machine.deadline < Infinity, "it ends by itself");
    machine.expire(machine.deadline, actions);
  }
  equal(finishes, 1);
}

Deno.test("wrong user and wrong password look the same to a client, in bytes and order", () => {
  for (const auth of ["md5", "ecsrp5"] as const) {
    const seen = [true, false].map((known) => {
      const { client, server } = pair(TCP, auth, {
        credentials: { user, password: "wrong" },
        known,
      });
      equal(client.outcome?.outcome, "auth-failed");
      equal(server.outcome?.outcome, "auth-failed");
      return server.written.map((bytes) => bytes.length);
    });
    deepEqual(seen[0], seen[1]);
  }
});
