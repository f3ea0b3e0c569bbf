/**
 * What a Redis server, or the way to it, can refuse, as codes to act on.
 *
 * @module
 */

import {
  AuthError,
  CapabilityError,
  DeadlineError,
  type FastwireError,
  PeerError,
  SystemError,
} from "./errors.ts";

/** Codes of errors that come from Redis or from the connection to it. */
export type RedisCode =
  /** The connection could not be made. */
  | "redis.unreachable"
  /** The connection ended. */
  | "redis.connection-lost"
  /** There is no connection now. */
  | "redis.not-connected"
  /** The connection was closed by this side. */
  | "redis.closed"
  /** A command was not answered in time. */
  | "redis.timeout"
  /** READONLY, and what comes before a failover is over: the server is a replica. */
  | "redis.read-only"
  /** LOADING: it is still reading its data. */
  | "redis.loading"
  /** OOM: the memory limit is reached. */
  | "redis.out-of-memory"
  /** MISCONF: it cannot save and therefore refuses to write. */
  | "redis.not-saving"
  /** BUSY: a script of somebody else runs too long. */
  | "redis.busy"
  /** NOSCRIPT: it has forgotten a script. */
  | "redis.no-script"
  /** NOAUTH, WRONGPASS: credentials are missing or wrong. */
  | "redis.auth"
  /** NOPERM: the user may not do this. */
  | "redis.not-permitted"
  /** MASTERDOWN, NOREPLICAS, NOGOODSLAVE, CLUSTERDOWN, or no sentinel knows the master. */
  | "redis.no-master"
  /** Any other refusal. */
  | "redis.refused";

// The word that begins the refusal. Servers before 7 put it, with a minus sign, inside the text when a script was
// running: "ERR Error running script …: -OOM command not allowed".
const WORDS: Readonly<Record<string, RedisCode>> = {
  READONLY: "redis.read-only",
  UNBLOCKED: "redis.read-only",
  LOADING: "redis.loading",
  OOM: "redis.out-of-memory",
  MISCONF: "redis.not-saving",
  BUSY: "redis.busy",
  NOSCRIPT: "redis.no-script",
  NOAUTH: "redis.auth",
  WRONGPASS: "redis.auth",
  NOPERM: "redis.not-permitted",
  MASTERDOWN: "redis.no-master",
  NOREPLICAS: "redis.no-master",
  NOGOODSLAVE: "redis.no-master",
  CLUSTERDOWN: "redis.no-master",
};

/** Finds the code for what a server said, in any of its versions. */
export function codeOfReply(message: string): RedisCode {
  const [first = ""] = message.split(" ", 1);
  const direct = WORDS[first.replace(/^-/, "")];
  if (direct !== undefined) return direct;
  const inside = /(?:^|[\s:])-([A-Z]+) /.exec(message)?.[1];
  const nested = inside === undefined ? undefined : WORDS[inside];
  if (nested !== undefined) return nested;
  // Servers before 6 have no WRONGPASS.
  return /\binvalid (?:username-)?password\b/i.test(message) ? "redis.auth" : "redis.refused";
}

/** Peer text for messages: one line, bounded, printable. */
export function peerText(text: string): string {
  // deno-lint-ignore no-control-regex -- control characters are what is being removed
  const clean = text.replace(/[\u0000-\u001f\u007f-\u009f]+/g, " ").trim();
  return clean.length > 200 ? `${clean.slice(0, 200)}…` : clean;
}

/**
 * Makes an error of ours from whatever a Redis client rejected with; an error of ours stays as it is.
 *
 * @param what What could not be done: `apply 100 changes`.
 * @param phase Whether a connection was being made or was there.
 */
export function redisError(
  error: unknown,
  what: string,
  phase: "connect" | "command" = "command",
): FastwireError {
  if (isRedisError(error)) return error;
  const message = peerText(error instanceof Error ? error.message : String(error));
  if (isReply(error)) {
    const code = codeOfReply(message);
    const text = `Cannot ${what}: the server said "${message}"`;
    return code === "redis.auth"
      ? new AuthError(code, text, { cause: error })
      : new PeerError(code, text, { cause: error, peerCode: 0, peerMessage: message });
  }
  const errnoName = systemName(error);
  const code: RedisCode = phase === "connect" ? "redis.unreachable" : "redis.connection-lost";
  return new SystemError(code, `Cannot ${what}: ${message === "" ? errnoName : message}`, {
    cause: error,
    syscall: phase === "connect" ? "connect" : "recv",
    errno: 0,
    errnoName,
  });
}

/** An error for a connection that is not there. */
export function notConnected(what: string, code: RedisCode, cause?: unknown): FastwireError {
  const state = code === "redis.closed" ? "it was closed" : "there is no connection";
  return new SystemError(code, `Cannot ${what}: ${state}`, {
    cause,
    syscall: "send",
    errno: 0,
    errnoName: "ENOTCONN",
  });
}

/** An error for a server that does not answer. */
export function timedOut(what: string, elapsedMs: number): FastwireError {
  return new DeadlineError(
    "redis.timeout",
    `Cannot ${what}: no answer in ${Math.round(elapsedMs)} ms`,
    { phase: what, elapsedMs, attempts: 1 },
  );
}

/** Whether an error already carries a {@linkcode RedisCode}. */
export function isRedisError(error: unknown): error is FastwireError {
  return (error instanceof SystemError || error instanceof PeerError ||
    error instanceof AuthError || error instanceof DeadlineError ||
    error instanceof CapabilityError) && error.code.startsWith("redis.");
}

/** Refusals by the server: node-redis calls their classes SimpleError, BlobError and ErrorReply, ioredis ReplyError. */
function isReply(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const name = error.constructor.name;
  return /^(?:SimpleError|BlobError|ErrorReply|ReplyError)$/.test(name) ||
    /^-?[A-Z]{3,} /.test(error.message) && codeOfReply(error.message) !== "redis.refused";
}

function systemName(error: unknown): string {
  const code = typeof error === "object" && error !== null && "code" in error ? error.code : "";
  return typeof code === "string" && /^E[A-Z0-9]+$/.test(code) ? code : "ECONNRESET";
}
