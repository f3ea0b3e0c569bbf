/**
 * Telling the service manager how things are (sd_notify(3)): started, alive, reloading, stopping.
 *
 * The manager listens on a datagram socket whose name it puts into `NOTIFY_SOCKET`. Sending to it takes the C library; a
 * process without a manager, or without the right to call C functions, gets a notifier that does nothing and says why.
 *
 * @module
 */
import { resolveDriver } from "./capabilities.ts";

/** Tells the service manager. No verb of it throws: a daemon does not stop because nobody listens to it. */
export interface ServiceNotifier {
  /** Whether there is somebody to tell. */
  readonly active: boolean;
  /** Why not, one sentence; empty when there is. */
  readonly reason: string;
  /** How often {@linkcode alive} is expected at the latest, milliseconds; 0 when it is not. Call it twice as often. */
  readonly watchdogMs: number;
  /** Everything is up. @param status One line for humans. */
  ready(status?: string): void;
  /** One line for humans. */
  status(text: string): void;
  /** The watchdog's question answered: still alive. */
  alive(): void;
  /** The configuration is being read again; {@linkcode ready} ends it. */
  reloading(): void;
  /** The end has begun. @param status One line for humans. */
  stopping(status?: string): void;
  /** Messages that could not be delivered. */
  readonly failures: number;
  /** Idempotent. Later calls of the other verbs do nothing. */
  close(): void;
}

/** Where to find the manager; the environment by default. */
export interface NotifierOptions {
  /** `NOTIFY_SOCKET`: a path, or `@` and an abstract name. */
  readonly socket?: string;
  /** `WATCHDOG_USEC`: microseconds. */
  readonly watchdogMicroseconds?: number;
}

/**
 * Opens the way to the service manager.
 *
 * Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` where the environment may be read. Never asks for a
 * permission.
 *
 * @throws {RangeError} For a socket name that is none.
 * @throws {SystemError} When the process has no descriptors left.
 *
 * @example
 * ```ts
 * import { openServiceNotifier } from "@fastwire/net/ffi";
 * import { equal } from "node:assert/strict";
 *
 * const service = await openServiceNotifier({ socket: "" });
 * service.ready("serving"); // harmless without a manager
 * equal(service.active, false);
 * service.close();
 * ```
 */
export async function openServiceNotifier(
  options: NotifierOptions = {},
): Promise<ServiceNotifier> {
  const socket = options.socket ?? environment("NOTIFY_SOCKET") ?? "";
  const watchdogMs = watchdog(options);
  if (socket === "") return new Notifier(undefined, "NOTIFY_SOCKET names no socket", watchdogMs);
  if (!/^[@/]/.test(socket)) {
    return new Notifier(undefined, `"${socket}" is no socket of this machine`, watchdogMs);
  }
  const { use, reason } = resolveDriver("auto", ["ffi"]);
  if (use !== "fast") return new Notifier(undefined, reason, watchdogMs);
  const { monotonicMicroseconds, UnixDatagramSender } = await import("./unix_linux.ts");
  const sender = new UnixDatagramSender(socket);
  return new Notifier({ sender, now: monotonicMicroseconds }, "", watchdogMs);
}

interface Way {
  readonly sender: { send(bytes: Uint8Array<ArrayBuffer>): void; close(): void };
  readonly now: () => bigint;
}

class Notifier implements ServiceNotifier {
  readonly reason: string;
  readonly watchdogMs: number;
  failures = 0;
  #way: Way | undefined;

  constructor(way: Way | undefined, reason: string, watchdogMs: number) {
    this.#way = way;
    this.reason = reason;
    this.watchdogMs = way === undefined ? 0 : watchdogMs;
  }

  get active(): boolean {
    return this.#way !== undefined;
  }

  ready(status?: string): void {
    this.#send("READY=1", status);
  }

  status(text: string): void {
    this.#send(undefined, text);
  }

  alive(): void {
    this.#send("WATCHDOG=1");
  }

  reloading(): void {
    // The time lets the manager tell this reload's end from an earlier one's (systemd.service(5), notify-reload).
    if (this.#way !== undefined) this.#send(`RELOADING=1\nMONOTONIC_USEC=${this.#way.now()}`);
  }

  stopping(status?: string): void {
    this.#send("STOPPING=1", status);
  }

  close(): void {
    this.#way?.sender.close();
    this.#way = undefined;
  }

  #send(state: string | undefined, status?: string): void {
    if (this.#way === undefined) return;
    // A line break would begin another assignment.
    const line = status === undefined ? undefined : `STATUS=${status.replace(/[\r\n]+/g, " ")}`;
    const text = [state, line].filter((part) => part !== undefined).join("\n");
    try {
      this.#way.sender.send(new TextEncoder().encode(text));
    } catch {
      this.failures++;
    }
  }
}

function watchdog({ watchdogMicroseconds }: NotifierOptions): number {
  if (watchdogMicroseconds !== undefined) return watchdogMicroseconds / 1000;
  const { Deno: deno, process } = globalThis as Globals;
  // Meant for another process: a parent that was replaced, or a child that inherited the variables.
  const pid = environment("WATCHDOG_PID");
  if (pid !== undefined && Number(pid) !== (deno?.pid ?? process?.pid)) return 0;
  const microseconds = Number(environment("WATCHDOG_USEC") ?? 0);
  return Number.isFinite(microseconds) && microseconds > 0 ? microseconds / 1000 : 0;
}

interface Globals {
  readonly Deno?: typeof Deno;
  readonly process?: {
    readonly pid: number;
    readonly env: Readonly<Record<string, string | undefined>>;
  };
}

/** A variable, when it may be read without asking and is not empty. */
function environment(name: string): string | undefined {
  const { Deno: deno, process } = globalThis as Globals;
  if (deno === undefined) return process?.env[name] || undefined;
  if (deno.permissions.querySync({ name: "env", variable: name }).state !== "granted") {
    return undefined;
  }
  return deno.env.get(name) || undefined;
}
