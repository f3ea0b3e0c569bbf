/**
 * The side that listens, as a value: one machine for each accepted connection.
 *
 * ```
 *            16 bytes            01 HH LL 00 sent                          all connections
 *   command ──────────► ready? ─────────────────► joining (TCP, count > 1) ───────────────► running ──► finished
 *      │        │ 02 / 03 sent
 *      │        ▼
 *      │    authenticating ──► ready?
 *      └── a token: this connection belongs to another machine's test; finished
 * ```
 *
 * @module
 */

import { type Decoy, EcSrp5Server, type Verifier } from "./auth_ecsrp5.ts";
import { checkMd5Answer, MD5_ANSWER_BYTES, MD5_CHALLENGE_BYTES, readMd5User } from "./auth_md5.ts";
import type { AuthMethod } from "./client_machine.ts";
import { integerIn } from "../../internal/check.ts";
import {
  type Command,
  COMMAND_BYTES,
  decodeCommand,
  isToken,
  planOf,
  readJoinToken,
  UDP_PORT_BYTES,
  WORD_ACCEPTED,
  WORD_BYTES,
  WORD_ECSRP5,
  WORD_MD5,
  WORD_REFUSED,
  writeWord,
} from "./command.ts";
import { ItemBuffer, Running, type RunningActions } from "./running.ts";

/** What a server offers a connection, and the random bytes it may need. */
export interface ServerOptions {
  /** What it asks for. */
  readonly auth: AuthMethod;
  /** 16 fresh random bytes: the MD5 challenge. */
  readonly challenge: Uint8Array;
  /** 32 fresh random bytes: the secret of one login by EC-SRP5; for MD5 the password of users that do not exist. */
  readonly secret: Uint8Array;
  /** What stands for users that do not exist. */
  readonly decoy: Decoy;
  /** For the command, milliseconds. Default 5000. */
  readonly commandTimeoutMs?: number;
  /** For the whole authentication, milliseconds. Default 10000. */
  readonly authTimeoutMs?: number;
  /** For the further connections, milliseconds. Default 10000. */
  readonly joinTimeoutMs?: number;
  /** UDP: for the next status of the client, milliseconds. Default 30000. */
  readonly controlTimeoutMs?: number;
  /** For data from a client that should send some, milliseconds. Default 30000. */
  readonly idleTimeoutMs?: number;
  /** Length of a test, milliseconds. Default 300000. */
  readonly maxDurationMs?: number;
}

/** How a connection ended. */
export type ServerOutcome =
  /** It was handed over to the test with this token. */
  | "joined"
  /** The test ran as long as it may. */
  | "duration"
  /** No data came. */
  | "idle"
  /** The client's status messages stopped. */
  | "control-timeout"
  /** The client closed the connection. */
  | "peer-closed"
  /** This side stopped it. */
  | "stopped"
  /** This side refused it. */
  | "refused"
  /** Wrong user or wrong password; nobody may tell which. */
  | "auth-failed"
  /** The client says what no client says. */
  | "protocol-error"
  /** The client is silent. */
  | "no-answer";

/** Where a connection is. */
export type ServerPhase =
  | "command"
  | "md5"
  | "md5-user"
  | "ecsrp5"
  | "ecsrp5-user"
  | "ready"
  | "joining"
  | "running"
  | "finished";

/** The last word of a server's machine. */
export interface ServerResult {
  /** Why it ended. */
  readonly outcome: ServerOutcome;
  /** Where it was. */
  readonly phase: ServerPhase;
  /** Who logged in or tried to; empty when nobody said. Up to 221 bytes as the peer sent them: data, not text of ours. */
  readonly user: string;
}

/** What a server's machine may ask of whoever drives it. */
export interface ServerActions extends RunningActions {
  /** Send these bytes; they are valid until the call returns. */
  write(bytes: Uint8Array): void;
  /** Look a user up, then call `verifyEcSrp5()` or `verifyMd5()`, and offer what was left of the input again. */
  lookUp(user: string, method: "md5" | "ecsrp5"): void;
  /** Who may test is known. Bind the UDP port, take a token, then call `accept()` or `refuse()`. */
  prepare(command: Command, user: string): void;
  /** This connection belongs to the test with this token. `finish()` follows; close it when there is no such test. */
  join(token: number): void;
  /** Data flows from now on, over this many connections. */
  run(connections: number): void;
  /** Last call. */
  finish(result: ServerResult): void;
}

/** The server's half of a test. */
export class ServerMachine {
  readonly #options: ServerOptions;
  readonly #item: ItemBuffer = new ItemBuffer();
  #phase: ServerPhase = "command";
  #need: number = COMMAND_BYTES;
  #command: Command | undefined;
  #user = "";
  #exchange: EcSrp5Server | undefined;
  #running: Running | undefined;
  #connections = 1;
  #answerBy = Infinity;

  /** Makes a machine that has not begun. The options are resolved ones: nothing is checked here. */
  constructor(options: ServerOptions) {
    this.#options = options;
  }

  /** When {@linkcode expire} wants to be called, monotonic milliseconds; `Infinity` when nothing is pending. */
  get deadline(): number {
    if (this.#phase === "finished") return Infinity;
    return this.#phase === "running" ? this.#running!.deadline : this.#answerBy;
  }

  /** True once `finish` was called; every later call does nothing. */
  get finished(): boolean {
    return this.#phase === "finished";
  }

  /** Where it is. */
  get phase(): ServerPhase {
    return this.#phase;
  }

  /** What the client asked for, once it has. */
  get command(): Command | undefined {
    return this.#command;
  }

  /** The connection is there: greet it. */
  start(now: number, actions: ServerActions): void {
    this.#answerBy = now + (this.#options.commandTimeoutMs ?? 5000);
    this.#writeWord(WORD_ACCEPTED, 0, actions);
  }

  /**
   * Takes what arrived on this connection.
   *
   * @returns How many bytes were taken. What is left is test data, or waits for `verify…()`, `accept()` or the further
   * connections: offer it again after those.
   */
  receive(
    bytes: Uint8Array,
    start: number,
    end: number,
    now: number,
    actions: ServerActions,
  ): number {
    let at = start;
    while (this.#reads()) {
      if (this.#phase === "running") {
        // A client sends no status over TCP: all of it is data.
        if (this.#command!.protocol === "tcp") break;
        this.#running!.receive(bytes, at, end, now, actions);
        return end - start;
      }
      at += this.#item.take(bytes, at, end, this.#need);
      if (this.#item.filled < this.#need) break;
      this.#handle(now, actions);
    }
    return at - start;
  }

  /** Answers `lookUp()` of EC-SRP5. @param verifier Undefined when there is no such user, or none who may enter. */
  verifyEcSrp5(verifier: Verifier | undefined, now: number, actions: ServerActions): void {
    if (this.#phase !== "ecsrp5-user") return;
    this.#exchange!.verify(verifier);
    this.#phase = "ecsrp5";
    this.#exchangeMore(now, actions);
  }

  /** Answers `lookUp()` of MD5. @param password UTF-8; undefined when there is no such user, or none who may enter. */
  verifyMd5(password: Uint8Array | undefined, _now: number, actions: ServerActions): void {
    if (this.#phase !== "md5-user") return;
    const { challenge, secret } = this.#options;
    const proved = checkMd5Answer(this.#item.bytes, 0, password ?? secret, challenge);
    if (proved && password !== undefined) return this.#ready(actions);
    this.#writeWord(WORD_REFUSED, 0, actions);
    this.#finish("auth-failed", actions);
  }

  /**
   * Answers `prepare()`: the test may begin.
   *
   * @param token For TCP with several connections, see `isToken()`; otherwise 0.
   * @param udpPort For UDP the port that is bound already, 1 to 65279; otherwise 0.
   * @throws {RangeError} When the token or the port does not fit the command.
   */
  accept(token: number, udpPort: number, now: number, actions: ServerActions): void {
    if (this.#phase !== "ready") return;
    const { protocol, connections } = this.#command!;
    const joins = protocol === "tcp" && connections > 1;
    if (joins !== isToken(token) || !joins && token !== 0) {
      throw new RangeError(`Cannot accept with token ${token}: it does not fit the command`);
    }
    const udp = protocol === "udp";
    if (udp) integerIn(udpPort, 1, 65279, "UDP port");
    // Once, and after authentication. Sent twice, its second half would be read as the UDP port.
    const bytes = new Uint8Array(WORD_BYTES + (udp ? UDP_PORT_BYTES : 0));
    writeWord(bytes, 0, WORD_ACCEPTED, token);
    if (udp) {
      bytes[WORD_BYTES] = udpPort >> 8;
      bytes[WORD_BYTES + 1] = udpPort & 0xff;
    }
    this.#phase = "joining";
    actions.write(bytes);
    if (!joins) return this.#run(now, actions);
    this.#answerBy = now + (this.#options.joinTimeoutMs ?? 10_000);
  }

  /** Answers `prepare()`, or ends the handshake: no. */
  refuse(actions: ServerActions): void {
    if (this.#phase === "finished" || this.#phase === "joining" || this.#phase === "running") {
      return;
    }
    this.#writeWord(WORD_REFUSED, 0, actions);
    this.#finish("refused", actions);
  }

  /**
   * Takes a further connection into the test. The one that completes it starts the data within the call.
   *
   * @returns False when the test is not waiting for one: close it.
   */
  joined(now: number, actions: ServerActions): boolean {
    if (this.#phase !== "joining") return false;
    if (++this.#connections === this.#command!.connections) this.#run(now, actions);
    return true;
  }

  /** A further connection was closed while the test waits for the others. */
  left(): void {
    if (this.#phase === "joining" && this.#connections > 1) this.#connections--;
  }

  /** Data came from the client since the last call. Once a second is enough. */
  dataArrived(now: number): void {
    this.#running?.dataArrived(now);
  }

  /** The client closed this connection, or it broke. */
  closed(actions: ServerActions): void {
    this.#finish("peer-closed", actions);
  }

  /** Ends the test from this side. */
  stop(actions: ServerActions): void {
    this.#finish("stopped", actions);
  }

  /** Time has passed. */
  expire(now: number, actions: ServerActions): void {
    if (this.#phase === "finished" || now < this.deadline) return;
    // Who asked for more connections than it brought is served with what there is.
    if (this.#phase === "joining") return this.#run(now, actions);
    if (this.#phase !== "running") return this.#finish("no-answer", actions);
    const end = this.#running!.expire(now, actions);
    if (end !== undefined) this.#finish(end, actions);
  }

  /** Whether input is looked at now, or waits for an answer of this side. */
  #reads(): boolean {
    const phase = this.#phase;
    return phase === "command" || phase === "md5" || phase === "ecsrp5" || phase === "running";
  }

  #handle(now: number, actions: ServerActions): void {
    switch (this.#phase) {
      case "command":
        return this.#commanded(now, actions);
      case "md5":
        this.#user = readMd5User(this.#item.bytes, 0);
        this.#phase = "md5-user";
        return actions.lookUp(this.#user, "md5");
      case "ecsrp5":
        return this.#exchangeMore(now, actions);
    }
  }

  #commanded(now: number, actions: ServerActions): void {
    const { bytes } = this.#item;
    const token = readJoinToken(bytes, 0);
    if (token > 0) {
      actions.join(token);
      return this.#finish("joined", actions);
    }
    const command = decodeCommand(bytes, 0, COMMAND_BYTES);
    // Without a word: who speaks another protocol would not understand ours.
    if (typeof command === "number") return this.#finish("protocol-error", actions);
    this.#command = command;
    this.#item.filled = 0;
    const { auth, challenge, secret, decoy } = this.#options;
    if (auth === "none") return this.#ready(actions);
    this.#answerBy = now + (this.#options.authTimeoutMs ?? 10_000);
    if (auth === "md5") {
      this.#phase = "md5";
      this.#need = MD5_ANSWER_BYTES;
      const offer = new Uint8Array(WORD_BYTES + MD5_CHALLENGE_BYTES);
      writeWord(offer, 0, WORD_MD5, 0);
      offer.set(challenge, WORD_BYTES);
      return actions.write(offer);
    }
    this.#phase = "ecsrp5";
    this.#need = 1;
    this.#exchange = new EcSrp5Server(secret, decoy);
    this.#writeWord(WORD_ECSRP5, 0, actions);
  }

  #exchangeMore(_now: number, actions: ServerActions): void {
    for (;;) {
      const step = this.#exchange!.step(this.#item.bytes, 0, this.#item.filled);
      if (step.kind === "need") {
        this.#need = step.bytes;
        return;
      }
      this.#item.drop(step.consumed);
      if (step.kind === "write") actions.write(step.bytes);
      else if (step.kind === "user") {
        this.#user = step.user;
        this.#phase = "ecsrp5-user";
        return actions.lookUp(step.user, "ecsrp5");
      } else if (step.outcome === "proved") return this.#ready(actions);
      // Without a word, as RouterOS does.
      else {
        const outcome = step.outcome === "failed" ? "auth-failed" : "protocol-error";
        return this.#finish(outcome, actions);
      }
    }
  }

  /** The client is who it should be: the driver prepares what the accepted word has to name. */
  #ready(actions: ServerActions): void {
    this.#phase = "ready";
    // Nothing of the peer is waited for; the driver bounds its own work.
    this.#answerBy = Infinity;
    actions.prepare(this.#command!, this.#user);
  }

  #run(now: number, actions: ServerActions): void {
    const { controlTimeoutMs, idleTimeoutMs, maxDurationMs } = this.#options;
    const plan = planOf(this.#command!);
    this.#running = new Running(plan.serverReports, {
      durationMs: maxDurationMs ?? 300_000,
      controlTimeoutMs: plan.clientReports ? controlTimeoutMs ?? 30_000 : Infinity,
      idleTimeoutMs: plan.clientSends ? idleTimeoutMs ?? 30_000 : Infinity,
    });
    this.#phase = "running";
    this.#running.start(now);
    actions.run(this.#connections);
  }

  #writeWord(kind: number, token: number, actions: ServerActions): void {
    const word = new Uint8Array(WORD_BYTES);
    writeWord(word, 0, kind, token);
    actions.write(word);
  }

  #finish(outcome: ServerOutcome, actions: ServerActions): void {
    if (this.#phase === "finished") return;
    const phase = this.#phase;
    this.#phase = "finished";
    actions.finish(Object.freeze({ outcome, phase, user: this.#user }));
  }
}
