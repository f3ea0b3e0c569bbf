/**
 * The side that dials, as a value.
 *
 * ```
 *          01 00 00 00            01 HH LL 00                              all connections
 *   hello ─────────────► answer ─────────────► joining (TCP, count > 1) ─────────────────► running ──► finished
 *                          │ 02 / 03                port (UDP) ──────────────────────────────►
 *                          ▼
 *                     authenticating ──► answer again
 * ```
 *
 * @module
 */

import { EcSrp5Client } from "./auth_ecsrp5.ts";
import { encodeMd5Answer, MD5_CHALLENGE_BYTES } from "./auth_md5.ts";
import {
  classifyWord,
  type Command,
  COMMAND_BYTES,
  encodeCommand,
  encodeJoin,
  planOf,
  readWordToken,
  UDP_PORT_BYTES,
  WORD_ACCEPTED,
  WORD_BYTES,
  WORD_ECSRP5,
  WORD_MD5,
  WORD_REFUSED,
} from "./command.ts";
import { ItemBuffer, Running, type RunningActions } from "./running.ts";

/** How a peer was authenticated. */
export type AuthMethod = "none" | "md5" | "ecsrp5";

/** What a client wants and may need. */
export interface ClientOptions {
  /** The test. */
  readonly command: Command;
  /** Who logs in, when the server asks. */
  readonly credentials?: { readonly user: string; readonly password: string } | undefined;
  /** 32 fresh random bytes for one login by EC-SRP5. */
  readonly secret: Uint8Array;
  /**
   * Length of the test from `run()`, or from {@linkcode ClientMachine.flowing}, milliseconds; `Infinity` to go on until
   * stopped. Default `Infinity`.
   */
  readonly durationMs?: number;
  /** UDP: send empty datagrams until data arrives. Default true. */
  readonly natProbe?: boolean;
  /** For each answer of the handshake, milliseconds. Default 10000. */
  readonly answerTimeoutMs?: number;
  /** For the further connections, milliseconds. Default 10000. */
  readonly joinTimeoutMs?: number;
  /** UDP: for the next status of the server, milliseconds. Default 30000. */
  readonly controlTimeoutMs?: number;
}

/** How a client's test ended. */
export type ClientOutcome =
  /** It ran for its duration. */
  | "duration"
  /** This side stopped it. */
  | "stopped"
  /** The server closed the connection. */
  | "peer-closed"
  /** The server refuses without asking who we are. */
  | "refused"
  /** The server asks who we are, and there are no credentials. */
  | "auth-required"
  /** The server does not accept the credentials. */
  | "auth-failed"
  /** The server does not know the password it asks for: an impostor. */
  | "server-proof"
  /** The server does not take several connections. */
  | "unsupported"
  /** The server says what no server says. */
  | "protocol-error"
  /** The server is silent. */
  | "no-answer"
  /** The server's status messages stopped. */
  | "control-timeout"
  /** The server's data stopped. Not used by a client without an idle bound. */
  | "idle";

/** Where a client is. */
export type ClientPhase =
  | "hello"
  | "answer"
  | "challenge"
  | "proof"
  | "verdict"
  | "port"
  | "joining"
  | "running"
  | "finished";

/** The last word of a client. */
export interface ClientResult {
  /** Why it ended. */
  readonly outcome: ClientOutcome;
  /** Where it was. */
  readonly phase: ClientPhase;
  /** What the server asked for, and got. */
  readonly auth: AuthMethod;
}

/** What a client may ask of whoever drives it. */
export interface ClientActions extends RunningActions {
  /** Send these bytes on the first connection; they are valid until the call returns. */
  write(bytes: Uint8Array): void;
  /**
   * Open `count` more connections to the same address; on each read the hello and write the join, see
   * {@linkcode JoinMachine}, then call `joined()` or `joinFailed()`.
   */
  join(token: number, count: number): void;
  /** UDP: the server's port. Open the client's before returning; data may come from another port. */
  dataPort(port: number): void;
  /** Data flows from now on, over this many connections. */
  run(connections: number): void;
  /** UDP: send an empty datagram to the server's port. */
  probe(): void;
  /** Last call. */
  finish(result: ClientResult): void;
}

/** The client's half of a test. */
export class ClientMachine {
  /** Further connections that could not be had. */
  failedJoins = 0;

  readonly #options: ClientOptions;
  readonly #item: ItemBuffer = new ItemBuffer();
  readonly #running: Running;
  #phase: ClientPhase = "hello";
  #auth: AuthMethod = "none";
  #need: number = WORD_BYTES;
  #exchange: EcSrp5Client | undefined;
  #proofSent = false;
  #missing = 0;
  #connections = 1;
  #answerBy = Infinity;
  #probeAt = Infinity;
  #probes = 0;

  /**
   * Makes a machine that has not begun.
   *
   * @throws {RangeError} When the command does not fit the wire.
   */
  constructor(options: ClientOptions) {
    this.#options = options;
    encodeCommand(new Uint8Array(COMMAND_BYTES), 0, options.command);
    const udp = options.command.protocol === "udp";
    this.#running = new Running(planOf(options.command).clientReports, {
      durationMs: options.durationMs ?? Infinity,
      controlTimeoutMs: udp ? options.controlTimeoutMs ?? 30_000 : Infinity,
      idleTimeoutMs: Infinity,
    });
  }

  /** When {@linkcode expire} wants to be called, monotonic milliseconds; `Infinity` when nothing is pending. */
  get deadline(): number {
    if (this.#phase === "finished") return Infinity;
    if (this.#phase !== "running") return this.#answerBy;
    return Math.min(this.#running.deadline, this.#probeAt);
  }

  /** True once `finish` was called; every later call does nothing. */
  get finished(): boolean {
    return this.#phase === "finished";
  }

  /** Where it is. */
  get phase(): ClientPhase {
    return this.#phase;
  }

  /** What the server asked for. */
  get auth(): AuthMethod {
    return this.#auth;
  }

  /** The connection is there: wait for the hello. */
  start(now: number, _actions: ClientActions): void {
    this.#wait(now);
  }

  /**
   * Takes what arrived on the first connection.
   *
   * @returns How many bytes were taken. What is left is test data, or waits for the further connections: offer it
   * again after `run()`.
   */
  receive(
    bytes: Uint8Array,
    start: number,
    end: number,
    now: number,
    actions: ClientActions,
  ): number {
    let at = start;
    while (this.#phase !== "finished" && this.#phase !== "joining") {
      if (this.#phase === "running") {
        if (this.#carriesData()) break;
        this.#running.receive(bytes, at, end, now, actions);
        return end - start;
      }
      at += this.#item.take(bytes, at, end, this.#need);
      if (this.#item.filled < this.#need) break;
      this.#handle(now, actions);
    }
    return at - start;
  }

  /** A further connection has sent its join. */
  joined(now: number, actions: ClientActions): void {
    if (this.#phase !== "joining") return;
    this.#connections++;
    if (--this.#missing === 0) this.#run(now, actions);
  }

  /** A further connection could not be had: the test goes on with fewer. */
  joinFailed(now: number, actions: ClientActions): void {
    if (this.#phase !== "joining") return;
    this.failedJoins++;
    if (--this.#missing === 0) this.#run(now, actions);
  }

  /**
   * Data flows only now, some time after `run()` asked for it: seconds, duration and silence count from here. Call it
   * once, before {@linkcode expire}.
   */
  flowing(now: number): void {
    if (this.#phase === "running") this.#running.start(now);
  }

  /** Data came from the server. Once is enough: it ends the NAT probes. */
  dataArrived(): void {
    this.#probeAt = Infinity;
  }

  /** The server closed the first connection, or it broke. */
  closed(actions: ClientActions): void {
    // A server that does not believe a proof closes instead of answering.
    const disbelieved = this.#phase === "verdict" || this.#proofSent && this.#phase === "proof";
    this.#finish(disbelieved ? "auth-failed" : "peer-closed", actions);
  }

  /** Ends the test from this side. */
  stop(actions: ClientActions): void {
    this.#finish("stopped", actions);
  }

  /** Time has passed. */
  expire(now: number, actions: ClientActions): void {
    if (this.#phase === "finished" || now < this.deadline) return;
    if (this.#phase === "joining") {
      this.failedJoins += this.#missing;
      return this.#run(now, actions);
    }
    if (this.#phase !== "running") return this.#finish("no-answer", actions);
    if (now >= this.#probeAt) this.#probe(now, actions);
    const end = this.#running.expire(now, actions);
    if (end !== undefined) this.#finish(end, actions);
  }

  /** Whether the first connection carries test data towards us, so that its bytes are not ours to read. */
  #carriesData(): boolean {
    const { protocol, direction } = this.#options.command;
    return protocol === "tcp" && direction !== "transmit";
  }

  #handle(now: number, actions: ClientActions): void {
    const { bytes } = this.#item;
    switch (this.#phase) {
      case "hello": {
        if (classifyWord(bytes, 0) !== WORD_ACCEPTED || readWordToken(bytes, 0) !== 0) {
          return this.#finish("protocol-error", actions);
        }
        const command = new Uint8Array(COMMAND_BYTES);
        encodeCommand(command, 0, this.#options.command);
        this.#await("answer", WORD_BYTES, now);
        return actions.write(command);
      }
      case "answer":
      case "verdict":
        return this.#answered(now, actions);
      case "challenge": {
        const { user, password } = this.#options.credentials!;
        const answer = encodeMd5Answer(user, password, bytes.subarray(0, MD5_CHALLENGE_BYTES));
        this.#await("verdict", WORD_BYTES, now);
        return actions.write(answer);
      }
      case "proof":
        return this.#exchangeMore(now, actions);
      case "port": {
        const port = bytes[0]! << 8 | bytes[1]!;
        if (port === 0) return this.#finish("protocol-error", actions);
        actions.dataPort(port);
        return this.#run(now, actions);
      }
    }
  }

  #answered(now: number, actions: ClientActions): void {
    const { bytes } = this.#item;
    const again = this.#phase === "verdict";
    const word = classifyWord(bytes, 0);
    const { command, credentials, secret } = this.#options;
    if (word === WORD_REFUSED) return this.#finish(again ? "auth-failed" : "refused", actions);
    if (word === WORD_ACCEPTED) {
      const token = readWordToken(bytes, 0);
      if (command.protocol === "udp") return this.#await("port", UDP_PORT_BYTES, now);
      if (command.connections === 1) return this.#run(now, actions);
      // A server without a token would never see the other connections as ours.
      if (token === 0) return this.#finish("unsupported", actions);
      this.#await("joining", 0, now);
      this.#answerBy = now + (this.#options.joinTimeoutMs ?? 10_000);
      this.#missing = command.connections - 1;
      return actions.join(token, this.#missing);
    }
    if (again || word !== WORD_MD5 && word !== WORD_ECSRP5) {
      return this.#finish("protocol-error", actions);
    }
    this.#auth = word === WORD_MD5 ? "md5" : "ecsrp5";
    if (credentials === undefined) return this.#finish("auth-required", actions);
    if (word === WORD_MD5) return this.#await("challenge", MD5_CHALLENGE_BYTES, now);
    this.#exchange = new EcSrp5Client(credentials.user, credentials.password, secret);
    this.#await("proof", 0, now);
    this.#exchangeMore(now, actions);
  }

  #exchangeMore(now: number, actions: ClientActions): void {
    for (let messages = 0;;) {
      const step = this.#exchange!.step(this.#item.bytes, 0, this.#item.filled);
      if (step.kind === "need") {
        this.#need = step.bytes;
        return;
      }
      if (step.kind === "user") return;
      this.#item.drop(step.consumed);
      this.#wait(now);
      if (step.kind === "write") {
        // The first message is not a proof yet.
        this.#proofSent = step.consumed > 0 || messages++ > 0;
        actions.write(step.bytes);
      } else if (step.outcome === "proved") return this.#await("verdict", WORD_BYTES, now);
      else {
        return this.#finish(step.outcome === "failed" ? "server-proof" : "protocol-error", actions);
      }
    }
  }

  #run(now: number, actions: ClientActions): void {
    this.#phase = "running";
    this.#running.start(now);
    actions.run(this.#connections);
    const { command, natProbe } = this.#options;
    if (command.protocol === "udp" && command.direction !== "transmit" && (natProbe ?? true)) {
      this.#probe(now, actions);
    }
  }

  #probe(now: number, actions: ClientActions): void {
    const waitMs = PROBE_WAITS_MS[this.#probes++];
    this.#probeAt = waitMs === undefined ? Infinity : now + waitMs;
    actions.probe();
  }

  #await(phase: ClientPhase, need: number, now: number): void {
    this.#phase = phase;
    this.#item.filled = 0;
    this.#need = need;
    this.#wait(now);
  }

  #wait(now: number): void {
    this.#answerBy = now + (this.#options.answerTimeoutMs ?? 10_000);
  }

  #finish(outcome: ClientOutcome, actions: ClientActions): void {
    if (this.#phase === "finished") return;
    const phase = this.#phase;
    this.#phase = "finished";
    actions.finish(Object.freeze({ outcome, phase, auth: this.#auth }));
  }
}

/** A further connection of a client: hello in, join out, then test data. */
export class JoinMachine {
  readonly #token: number;
  readonly #item: ItemBuffer = new ItemBuffer();
  #state: "hello" | "joined" | "failed" = "hello";

  /** Takes the token of the test, as `join()` of the actions gave it. */
  constructor(token: number) {
    this.#token = token;
  }

  /** Where it is: no answer comes to a join, so `joined` follows the hello at once. */
  get state(): "hello" | "joined" | "failed" {
    return this.#state;
  }

  /**
   * Takes what arrived.
   *
   * @returns How many bytes were taken; what is left is test data. Some servers answer a join with four bytes: they
   * are counted as data.
   */
  receive(
    bytes: Uint8Array,
    start: number,
    end: number,
    actions: Pick<ClientActions, "write">,
  ): number {
    if (this.#state !== "hello") return 0;
    const taken = this.#item.take(bytes, start, end, WORD_BYTES);
    if (this.#item.filled < WORD_BYTES) return taken;
    if (classifyWord(this.#item.bytes, 0) !== WORD_ACCEPTED) {
      this.#state = "failed";
      return taken;
    }
    this.#state = "joined";
    const join = new Uint8Array(COMMAND_BYTES);
    // Whatever the server called its token goes back as it came.
    if (encodeJoinAsGiven(join, this.#token)) actions.write(join);
    else this.#state = "failed";
    return taken;
  }
}

function encodeJoinAsGiven(bytes: Uint8Array, token: number): boolean {
  if (token <= 0 || token > 0xffff) return false;
  // Servers of others may give tokens that ours would not.
  encodeJoin(bytes, 0, 0x0201);
  bytes[0] = token >> 8;
  bytes[1] = token & 0xff;
  return true;
}

/** From one NAT probe to the next: the second after 250 ms, the third a second after the first. */
const PROBE_WAITS_MS: readonly number[] = [250, 750];
