import { deepEqual, equal, notDeepEqual, ok, throws } from "node:assert/strict";
import { createHash } from "node:crypto";
import { bytesToHex } from "@noble/curves/utils.js";
import { sha256 } from "@noble/hashes/sha2.js";
import fc from "fast-check";
import { type Random, seededRandom } from "../../internal/random.ts";
import { bytesOfHex } from "../../internal/testing/vectors.ts";
import vectors from "../testdata/ecsrp5.json" with { type: "json" };
import {
  type AuthStep,
  createVerifier,
  Decoy,
  EcSrp5Client,
  EcSrp5Server,
  hashPassword,
  type Verifier,
} from "./auth_ecsrp5.ts";
import {
  addInSubgroup,
  curveBuilds,
  curveWork,
  encodePoint,
  GROUP_ORDER,
  hashToPoint,
  liftBytes,
  multiplyBase,
  toScalar,
} from "./curve.ts";
import { joinBytes } from "./octets.ts";

/** `FASTWIRE_LONG=1` also measures times. */
const LONG = Deno.env.get("FASTWIRE_LONG") === "1";
const LOGINS = LONG ? 200 : 50;

const decoy = new Decoy(new Uint8Array(32).fill(3));

/** One side with the bytes it was sent and did not take yet. */
class Side {
  readonly sent: Uint8Array[] = [];
  outcome: string | undefined;
  #bytes = new Uint8Array(0);

  constructor(
    readonly machine: EcSrp5Client | EcSrp5Server,
    readonly verifier?: (user: string) => Verifier | undefined,
  ) {}

  /** Takes bytes, surrounded by others, and answers what it wrote. */
  take(more: Uint8Array): Uint8Array<ArrayBuffer> {
    const all = new Uint8Array(this.#bytes.length + more.length);
    all.set(this.#bytes);
    all.set(more, this.#bytes.length);
    const around = new Uint8Array(all.length + 10).fill(0xdd);
    around.set(all, 5);
    let at = 0;
    const written: number[] = [];
    for (let i = 0;; i++) {
      ok(i < 10, "a step says that it needs more or is done");
      const step: AuthStep = this.machine.step(around, 5 + at, 5 + all.length);
      if (step.kind === "need") {
        ok(step.bytes > all.length - at, "it needs more than there is");
        break;
      }
      at += step.consumed;
      ok(at <= all.length, "it consumes what there is");
      if (step.kind === "user") {
        (this.machine as EcSrp5Server).verify(this.verifier!(step.user));
      } else if (step.kind === "write") {
        this.sent.push(step.bytes);
        written.push(...step.bytes);
      } else {
        this.outcome = step.outcome;
        break;
      }
    }
    this.#bytes = all.slice(at);
    return Uint8Array.from(written);
  }

  /** Bytes that are not its own. */
  get rest(): Uint8Array {
    return this.#bytes;
  }
}

/** Runs a login with the bytes cut by `cut`. */
function login(
  client: EcSrp5Client,
  server: EcSrp5Server,
  verifier: Verifier | undefined,
  cut: (bytes: Uint8Array<ArrayBuffer>) => readonly Uint8Array[] = (bytes) => [bytes],
): readonly [Side, Side] {
  const left = new Side(client);
  const right = new Side(server, () => verifier);
  let toServer = left.take(new Uint8Array(0));
  while (toServer.length > 0) {
    const answers: number[] = [];
    for (const piece of cut(toServer)) answers.push(...right.take(piece));
    const next: number[] = [];
    for (const piece of cut(Uint8Array.from(answers))) next.push(...left.take(piece));
    toServer = Uint8Array.from(next);
  }
  return [left, right];
}

function byteWise(bytes: Uint8Array<ArrayBuffer>): readonly Uint8Array[] {
  return [...bytes].map((byte) => Uint8Array.of(byte));
}

Deno.test("EcSrp5Client and EcSrp5Server write every vector byte for byte", () => {
  ok(vectors.cases.length >= 4);
  for (const vector of vectors.cases) {
    const verifier = createVerifier(vector.user, vector.password, bytesOfHex(vector.salt));
    if (vector.gamma !== undefined) equal(bytesToHex(verifier.gamma), vector.gamma, vector.name);
    for (const cut of [undefined, byteWise]) {
      const client = new EcSrp5Client(
        vector.user,
        vector.password,
        bytesOfHex(vector.clientSecret),
      );
      const server = new EcSrp5Server(bytesOfHex(vector.serverSecret), decoy);
      const [left, right] = login(client, server, verifier, cut);
      deepEqual(left.sent.map(bytesToHex), [vector.messages[0], vector.messages[2]], vector.name);
      deepEqual(right.sent.map(bytesToHex), [vector.messages[1], vector.messages[3]], vector.name);
      deepEqual([left.outcome, right.outcome], ["proved", "proved"]);
    }
  }
});

Deno.test("every number between the messages of a vector is the one that is written there", () => {
  let checked = 0;
  for (const vector of vectors.cases) {
    const { user, password, salt, clientSecret, messages } = vector;
    const [one, two, three, four] = messages.map((hex) => bytesOfHex(hex)) as Uint8Array[];
    const is = (name: "i" | "j" | "scalar" | "z", value: string) => {
      if (vector[name] === undefined) return;
      checked++;
      equal(value, vector[name], `${vector.name}: ${name}`);
    };
    const inner = hashPassword(user, password);
    if (vector.inner !== undefined) equal(inner, vector.inner, vector.name);
    const i = sha256(joinBytes(bytesOfHex(salt), bytesOfHex(inner)));
    is("i", bytesToHex(i));
    const ownX = one!.subarray(one!.length - 33, one!.length - 1);
    const j = sha256(joinBytes(ownX, two!.subarray(1, 33)));
    is("j", bytesToHex(j));
    const scalar = (toScalar(i) * toScalar(j) + toScalar(bytesOfHex(clientSecret))) % GROUP_ORDER;
    is("scalar", scalar.toString(16).padStart(64, "0"));
    const gamma = encodePoint(multiplyBase(toScalar(i)));
    if (vector.gamma !== undefined) equal(bytesToHex(gamma), vector.gamma, vector.name);
    const peer = liftBytes(two!.subarray(1, 33), two![33]!)!;
    const sum = addInSubgroup(peer, hashToPoint(gamma.subarray(0, 32), 1))!;
    const z = encodePoint(sum.multiply(scalar)).subarray(0, 32);
    is("z", bytesToHex(z));
    const proof = sha256(joinBytes(j, z));
    equal(bytesToHex(proof), bytesToHex(three!.subarray(1)), vector.name);
    equal(bytesToHex(sha256(joinBytes(j, proof, z))), bytesToHex(four!.subarray(1)), vector.name);
  }
  equal(checked, 6);
});

function secrets(random: Random): readonly [Uint8Array, Uint8Array] {
  return [random.bytes(32), random.bytes(32)];
}

Deno.test("logins with fresh salts succeed, with both parities of the verifier", () => {
  const seed = 52_001;
  const random = seededRandom(seed);
  const parities = [0, 0];
  for (let i = 0; i < LOGINS; i++) {
    const verifier = createVerifier("user", "password", random.bytes(16));
    parities[verifier.gamma[32]!]!++;
    const [a, b] = secrets(random);
    const [left, right] = login(
      new EcSrp5Client("user", "password", a),
      new EcSrp5Server(b, decoy),
      verifier,
    );
    deepEqual([left.outcome, right.outcome], ["proved", "proved"], `seed ${seed}, login ${i}`);
  }
  ok(parities[0]! > LOGINS / 4 && parities[1]! > LOGINS / 4, `seed ${seed}: ${parities}`);
});

Deno.test("EC-SRP5 proves what it should for any user, password, salt and secrets", () => {
  const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
  const user = fc.string({ minLength: 1, maxLength: 40, unit: "grapheme" })
    .filter((text) => !text.includes("\0"));
  fc.assert(
    fc.property(
      user,
      fc.string(),
      bytes(16),
      bytes(32),
      bytes(32),
      (name, password, salt, a, b) => {
        a[5]! |= 1;
        b[5]! |= 1;
        const verifier = createVerifier(name, password, salt);
        const [left, right] = login(
          new EcSrp5Client(name, password, a),
          new EcSrp5Server(b, decoy),
          verifier,
        );
        deepEqual([left.outcome, right.outcome], ["proved", "proved"]);
        const wrong = login(
          new EcSrp5Client(name, `${password}!`, a),
          new EcSrp5Server(b, decoy),
          verifier,
        );
        deepEqual([wrong[0].outcome, wrong[1].outcome], [undefined, "failed"]);
      },
    ),
    { numRuns: LONG ? 40 : 20 },
  );
});

Deno.test("a wrong user and a wrong password are answered with the same bytes at the same places", () => {
  const random = seededRandom(7);
  const salt = random.bytes(16);
  const known = createVerifier("user", "password", salt);
  const shapes = [known, undefined].map((verifier) => {
    const [a, b] = secrets(random);
    const [left, right] = login(
      new EcSrp5Client("user", "wrong", a),
      new EcSrp5Server(b, decoy),
      verifier,
    );
    equal(left.outcome, undefined);
    return [right.sent.map((bytes) => bytes.length), right.sent[0]![0], right.outcome];
  });
  deepEqual(shapes[0], shapes[1]);
  deepEqual(shapes[0], [[50], 49, "failed"]);
});

/** What a server works for one login with a wrong password. */
function work(user: string, verifier: Verifier | undefined, [a, b]: ReturnType<typeof secrets>) {
  const server = new Side(new EcSrp5Server(b, decoy), () => verifier);
  const client = new Side(new EcSrp5Client(user, "wrong", a));
  const opening = client.take(new Uint8Array(0));
  const steps: { products: number; roots: number }[] = [];
  const counted = (bytes: Uint8Array): Uint8Array<ArrayBuffer> => {
    const before = curveWork();
    const answer = server.take(bytes);
    const after = curveWork();
    steps.push({
      products: after.products - before.products,
      roots: after.roots - before.roots,
    });
    return answer;
  };
  const proof = client.take(counted(opening));
  counted(proof);
  equal(server.outcome, "failed");
  return steps;
}

Deno.test("a server works as much for a user that does not exist as for a wrong password", () => {
  const seed = 52_002;
  const random = seededRandom(seed);
  const rounds = { known: new Map<number, number>(), unknown: new Map<number, number>() };
  let first: readonly number[] | undefined;
  for (let i = 0; i < 30; i++) {
    const user = `user ${i}`;
    for (const kind of ["known", "unknown"] as const) {
      const verifier = kind === "known"
        ? createVerifier(user, "password", random.bytes(16))
        : undefined;
      const drawn = secrets(random);
      const steps = work(user, verifier, drawn);
      const shape = [steps[0]!.products, steps[1]!.products, steps[1]!.roots];
      deepEqual(shape, first ??= shape, `seed ${seed}, ${user}, ${kind}`);
      // How often a point is hashed differs from one user to the next, known or not, and never for one user.
      const again = work(user, verifier, drawn);
      equal(again[0]!.roots, steps[0]!.roots);
      const count = rounds[kind];
      count.set(steps[0]!.roots, (count.get(steps[0]!.roots) ?? 0) + 1);
    }
  }
  for (const count of [rounds.known, rounds.unknown]) {
    ok(count.size >= 3, `seed ${seed}: ${JSON.stringify([...count])}`);
  }
  const mean = (count: Map<number, number>): number =>
    [...count].reduce((sum, [roots, times]) => sum + roots * times, 0) / 30;
  const difference = Math.abs(mean(rounds.known) - mean(rounds.unknown));
  ok(difference < 1, `seed ${seed}: ${difference} roots`);
});

Deno.test({
  name: "a server takes as long for a user that does not exist as for a wrong password",
  // A machine with other things to do would decide it.
  ignore: !LONG,
  fn: () => {
    const random = seededRandom(52_003);
    const times = { known: [] as number[], unknown: [] as number[] };
    for (let i = 0; i < 400; i++) {
      for (const kind of ["known", "unknown"] as const) {
        const user = `user ${i % 100}`;
        const verifier = createVerifier(user, "password", random.bytes(16));
        const startedAt = performance.now();
        work(user, kind === "known" ? verifier : undefined, secrets(random));
        times[kind].push(performance.now() - startedAt);
      }
    }
    const middle = (all: number[]): number => all.sort((a, b) => a - b)[all.length >> 1]!;
    const ratio = middle(times.known) / middle(times.unknown);
    ok(ratio > 0.9 && ratio < 1.1, `${ratio}`);
  },
});

Deno.test("PRD-003: hashPassword() writes the digits that a plain conversion writes", () => {
  const seed = 52_004;
  const random = seededRandom(seed);
  for (let i = 0; i < 10_000; i++) {
    const user = String(random.u32());
    const password = String.fromCodePoint(32 + random.u32() % 0x3000);
    const plain = createHash("sha256").update(`${user}:${password}`).digest("hex");
    equal(hashPassword(user, password), plain, `seed ${seed}, ${i}`);
  }
});

Deno.test("an unknown user sees the same salt at every login and another one than its neighbor", () => {
  const salts = ["anna", "anna", "berta"].map((user) => bytesToHex(decoy.verifier(user).salt));
  equal(salts[0], salts[1]);
  notDeepEqual(salts[0], salts[2]);
  const other = new Decoy(new Uint8Array(32).fill(4));
  notDeepEqual(bytesToHex(other.verifier("anna").salt), salts[0]);
});

Deno.test("unknown users do not all take the same number of rounds to hash, as known ones do not", () => {
  const points = new Set<string>();
  for (let i = 0; i < 1000; i++) points.add(bytesToHex(decoy.verifier(`user ${i}`).gamma));
  equal(points.size, 64);
});

Deno.test("nobody enters as a user that does not exist, not even knowing what stands for it", () => {
  // The decoy's scalar is known here, so the proof is right, and yet refused.
  const server = new EcSrp5Server(new Uint8Array(32).fill(9), decoy);
  const client = new EcSrp5Client("ghost", "x", new Uint8Array(32).fill(7));
  const verifier = createVerifier("ghost", "x", decoy.verifier("ghost").salt);
  const posing = new Proxy(decoy, { get: () => () => verifier });
  const fooled = new EcSrp5Server(new Uint8Array(32).fill(9), posing);
  deepEqual(login(client, fooled, undefined).map((side) => side.outcome), [undefined, "failed"]);
  const again = new EcSrp5Client("ghost", "x", new Uint8Array(32).fill(7));
  deepEqual(login(again, server, verifier).map((side) => side.outcome), ["proved", "proved"]);
});

Deno.test("EcSrp5Client knows a server that does not have the verifier", () => {
  const client = new Side(new EcSrp5Client("user", "password", new Uint8Array(32).fill(7)));
  const server = new Side(
    new EcSrp5Server(new Uint8Array(32).fill(9), decoy),
    () => createVerifier("user", "other", new Uint8Array(16)),
  );
  client.take(server.take(client.take(new Uint8Array(0))));
  equal(client.outcome, undefined);
  client.take(Uint8Array.from([32, ...new Uint8Array(32)]));
  equal(client.outcome, "failed");
});

Deno.test("EcSrp5Server leaves alone what follows the last message", () => {
  const verifier = createVerifier("user", "password", new Uint8Array(16));
  const client = new Side(new EcSrp5Client("user", "password", new Uint8Array(32).fill(7)));
  const server = new Side(new EcSrp5Server(new Uint8Array(32).fill(9), decoy), () => verifier);
  const proof = client.take(server.take(client.take(new Uint8Array(0))));
  const answer = server.take(Uint8Array.from([...proof, 1, 2, 3]));
  equal(server.outcome, "proved");
  deepEqual([...server.rest], [1, 2, 3]);
  client.take(Uint8Array.from([...answer, 1, 0, 0, 0, 7, 0xfa]));
  equal(client.outcome, "proved");
  deepEqual([...client.rest], [1, 0, 0, 0, 7, 0xfa]);
});

/** A message 1 with the given user bytes, point and parity. */
function opening(user: readonly number[], point: Uint8Array, parity = 0): Uint8Array {
  const body = [...user, 0, ...point, parity];
  return Uint8Array.from([body.length, ...body]);
}

/** 32 bytes big-endian of a small number. */
function small(value: number): Uint8Array {
  const bytes = new Uint8Array(32);
  bytes[31] = value;
  return bytes;
}

Deno.test("EcSrp5Server refuses what is no opening", () => {
  const bad: readonly (readonly [string, Uint8Array])[] = [
    ["a length too short for any user", Uint8Array.of(34)],
    ["no user", opening([], small(9)).with(0, 34)],
    ["a zero inside the user", opening([65, 0, 66], small(9))],
    ["the point of order two", opening([65], small(0))],
    ["a point of order four", opening([65], small(1))],
    ["a point on the twist", opening([65], small(2))],
    ["no terminator", Uint8Array.from([36, ...new Uint8Array(36).fill(65)])],
  ];
  for (const [name, bytes] of bad) {
    const server = new Side(new EcSrp5Server(small(5), decoy), () => undefined);
    server.take(bytes);
    equal(server.outcome, "malformed", name);
    equal(server.sent.length, 0, name);
  }
  const good = new Side(new EcSrp5Server(small(5), decoy), () => undefined);
  equal(good.take(opening([65], small(9))).length, 50);
});

Deno.test("EcSrp5Client refuses what is no challenge", () => {
  const bad: readonly (readonly [string, Uint8Array])[] = [
    ["another length", Uint8Array.from([48, ...new Uint8Array(48)])],
    ["the point of order two", Uint8Array.from([49, ...new Uint8Array(49)])],
    ["no point", Uint8Array.from([49, ...small(2), 0, ...new Uint8Array(16)])],
  ];
  for (const [name, bytes] of bad) {
    const client = new Side(new EcSrp5Client("user", "password", small(5)));
    client.take(new Uint8Array(0));
    client.take(bytes);
    equal(client.outcome, "malformed", name);
    equal(client.sent.length, 1, name);
  }
});

Deno.test("EcSrp5Client sends its proof even when the challenge cannot be of its password", () => {
  // W_b = G: inside the subgroup, so its sum with the hashed point is outside.
  const client = new Side(new EcSrp5Client("user", "password", small(5)));
  client.take(new Uint8Array(0));
  equal(client.take(Uint8Array.from([49, ...small(9), 0, ...new Uint8Array(16)])).length, 33);
  equal(client.outcome, undefined);
});

Deno.test("EC-SRP5 refuses what its own side got wrong", () => {
  throws(() => new EcSrp5Client("", "x", small(1)), RangeError);
  throws(() => new EcSrp5Client("a\0b", "x", small(1)), RangeError);
  throws(() => new EcSrp5Client("x".repeat(222), "x", small(1)), RangeError);
  throws(() => new EcSrp5Client("user", "x", small(0)), RangeError);
  throws(() => new EcSrp5Server(small(1).subarray(1), decoy), RangeError);
  throws(() => createVerifier("user", "x", small(1)), RangeError);
  throws(() => new Decoy(new Uint8Array(16)), RangeError);
  const side = new Side(new EcSrp5Server(small(5), decoy), () => ({
    salt: new Uint8Array(16),
    gamma: Uint8Array.from([...small(2), 0]),
  }));
  throws(() => side.take(opening([65], small(9))), RangeError);
});

Deno.test("both machines survive 150 mutated handshakes", () => {
  const seed = 90_210;
  const random = seededRandom(seed);
  const verifier = createVerifier("user", "password", random.bytes(16));
  const outcomes = new Map<string, number>();
  for (let i = 0; i < 150; i++) {
    try {
      const [a, b] = secrets(random);
      const client = new Side(new EcSrp5Client("user", "password", a));
      const server = new Side(
        new EcSrp5Server(b, decoy),
        (name) => name === "user" ? verifier : undefined,
      );
      let bytes = client.take(new Uint8Array(0));
      const target = random.u32() % 4;
      for (let message = 0; message < 4; message++) {
        if (message === target) {
          const position = random.u32() % bytes.length;
          // Of a parity byte only the lowest bit counts.
          const parity = message === 0 && position === bytes.length - 1 ||
            message === 1 && position === 33;
          bytes[position]! ^= parity ? 1 : 1 << random.u32() % 8;
          if (random.u32() % 4 === 0) bytes = bytes.slice(0, random.u32() % bytes.length);
        }
        bytes = (message % 2 === 0 ? server : client).take(bytes);
        if (bytes.length === 0) break;
      }
      ok(!(client.outcome === "proved" && target < 4), "a bent handshake is not proved");
      const name = `${target} ${client.outcome} ${server.outcome}`;
      outcomes.set(name, (outcomes.get(name) ?? 0) + 1);
    } catch (error) {
      throw new Error(`seed ${seed}, handshake ${i}`, { cause: error });
    }
  }
  ok(outcomes.size >= 8, [...outcomes.keys()].join("; "));
});

Deno.test("PRD-001: the curve is built once for a hundred logins of both roles, and not before them", async () => {
  // A process of its own, because this one has used it.
  const script = `
    import { createVerifier, Decoy, EcSrp5Client, EcSrp5Server } from "${new URL(
    "./auth_ecsrp5.ts",
    import.meta.url,
  )}";
    import { curveBuilds } from "${new URL("./curve.ts", import.meta.url)}";
    const before = curveBuilds();
    const decoy = new Decoy(new Uint8Array(32));
    const verifier = createVerifier("user", "password", new Uint8Array(16));
    const write = (side, bytes) => {
      const step = side.step(bytes, 0, bytes.length);
      return step.kind === "write" ? step.bytes : step;
    };
    for (let i = 1; i <= 100; i++) {
      const client = new EcSrp5Client("user", "password", new Uint8Array(32).fill(i));
      const server = new EcSrp5Server(new Uint8Array(32).fill(255 - i), decoy);
      write(server, write(client, new Uint8Array(0)));
      server.verify(verifier);
      const proof = write(client, write(server, new Uint8Array(0)));
      const end = write(client, write(server, proof));
      if (end.outcome !== "proved") throw new Error("login " + i);
    }
    console.log(before, curveBuilds());
  `;
  const { stdout, success } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", "--config", new URL("../../deno.json", import.meta.url).pathname, script],
    stderr: "inherit",
  }).output();
  ok(success);
  equal(new TextDecoder().decode(stdout).trim(), "0 1");
  ok(curveBuilds() <= 1);
});
