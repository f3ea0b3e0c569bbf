/**
 * `ip monitor`, watched for as long as somebody wants to know: started, started again when it ends, asked for losses.
 *
 * @module
 */
import type { ChildProcess } from "node:child_process";
import { SystemError } from "../internal/errors.ts";
import { type Programs, readSocketFacts } from "./netlink_programs_iproute.ts";

/** Who is told. */
export interface MonitorListener {
  /** Whole lines. */
  readonly lines: (lines: readonly string[]) => void;
  /** The program reports that its receive buffer was full. */
  readonly overrun: () => void;
  /** It had ended, and has joined its groups again: what changed in between is unknown. */
  readonly restarted: () => void;
}

/** One program that prints changes. */
export class Monitor {
  /** Times it was started again. */
  restarts = 0;
  /** Whether the kernel's drop counter of its socket can be read. */
  countsDrops = true;
  readonly #programs: Programs;
  readonly #words: readonly string[];
  readonly #mask: number;
  readonly #listener: MonitorListener;
  #child: ChildProcess | undefined;
  #paused = false;
  #closed = false;
  #drops = 0;
  #backoffMs = FIRST_BACKOFF_MS;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    programs: Programs,
    words: readonly string[],
    groups: readonly number[],
    listener: MonitorListener,
  ) {
    this.#programs = programs;
    this.#words = words;
    this.#mask = groups.reduce((mask, group) => mask | 1 << (group - 1), 0);
    this.#listener = listener;
  }

  /** Starts it. Settles when it has joined its groups. @throws {SystemError} When it ends before that. */
  async start(): Promise<void> {
    const ended = this.#spawn();
    const joined = this.#joined();
    const failure = await Promise.race([ended, joined]);
    if (failure === undefined) {
      const joinedAt = performance.now();
      ended.then(() => {
        if (performance.now() - joinedAt > LAST_BACKOFF_MS) this.#backoffMs = FIRST_BACKOFF_MS;
        this.#again();
      });
      return;
    }
    throw new SystemError("system.other", `Cannot watch network tables: ip monitor ${failure}`, {
      syscall: "ip",
      errno: 0,
      errnoName: "",
    });
  }

  /** Datagrams the kernel dropped since the last look; 0 where its list may not be read. */
  newDrops(): number {
    const pid = this.#child?.pid;
    if (pid === undefined || !this.countsDrops) return 0;
    const facts = readSocketFacts(pid);
    if (facts === undefined || facts === "unreadable") return 0;
    const lost = (facts.drops - this.#drops) >>> 0;
    this.#drops = facts.drops;
    return lost;
  }

  /** Lets the pipe fill; the program then waits, and its socket fills. */
  pause(): void {
    this.#paused = true;
    this.#child?.stdout?.pause();
  }

  /** Reads on. */
  resume(): void {
    this.#paused = false;
    this.#child?.stdout?.resume();
  }

  /** Ends the program, to be started afresh. */
  restart(): void {
    this.#child?.kill("SIGKILL");
  }

  /** The program itself is ended by who owns the programs. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  /** @returns Settles when it has ended, with how. */
  #spawn(): Promise<string> {
    const decoder = new TextDecoder();
    let rest = "", complaint = "";
    this.#drops = 0;
    return new Promise((resolve) => {
      this.#child = this.#programs.start(this.#words, {
        out: (chunk) => {
          const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
          rest = lines.pop()!;
          const whole = lines.filter((line) => line !== "");
          if (!this.#closed && whole.length > 0) this.#listener.lines(whole);
        },
        complaint: (chunk) => {
          complaint = (complaint + new TextDecoder().decode(chunk)).slice(-COMPLAINT_CHARS);
          // libnetlink's words for ENOBUFS; it goes on after them.
          if (!this.#closed && /No buffer space/.test(complaint)) {
            complaint = "";
            this.#listener.overrun();
          }
        },
        ended: (code, why) => {
          this.#child = undefined;
          resolve(`${why || complaint.trim() || `ended with ${code}`}`);
        },
      });
      if (this.#paused) this.#child?.stdout?.pause();
    });
  }

  /** Settles when the program has joined the groups: the kernel's list of sockets says so. */
  async #joined(): Promise<undefined> {
    const deadline = performance.now() + JOIN_WITHIN_MS;
    while (!this.#closed && this.#child !== undefined && performance.now() < deadline) {
      const facts = readSocketFacts(this.#child.pid ?? 0);
      if (facts === "unreadable" && this.#child !== undefined) {
        // It prints nothing when it is ready. It needs about 5 ms.
        this.countsDrops = false;
        await pause(BLIND_WAIT_MS);
        return undefined;
      }
      if (typeof facts === "object" && (facts.groups & this.#mask) === this.#mask) return undefined;
      await pause(LOOK_EVERY_MS);
    }
    return undefined;
  }

  #again(): void {
    if (this.#closed) return;
    this.restarts++;
    const waitMs = this.#backoffMs;
    this.#backoffMs = Math.min(2 * waitMs, LAST_BACKOFF_MS);
    this.#timer = setTimeout(() => {
      this.start().then(
        () => {
          if (!this.#closed) this.#listener.restarted();
        },
        () => this.#again(),
      );
    }, waitMs);
  }
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

const FIRST_BACKOFF_MS = 100;
const LAST_BACKOFF_MS = 5000;
const JOIN_WITHIN_MS = 2000;
const LOOK_EVERY_MS = 2;
const BLIND_WAIT_MS = 100;
const COMPLAINT_CHARS = 1000;
