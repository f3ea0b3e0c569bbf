/**
 * Error numbers of Linux (`<asm-generic/errno.h>`, the same on x86-64 and AArch64): number → name → what to do about it.
 *
 * @module
 */
import { SystemError } from "../internal/errors.ts";

/**
 * What a caller can do about an error.
 *
 * - `retry`: call again at once. - `would-block`: wait for readiness. - `closed`: the other side or this descriptor is
 * gone. - `refused`: the network said no. - `limit`: a table, buffer or disk is full. - `denied`: not allowed.
 * - `not-found`: no such thing. - `bug`: the call itself was wrong. - `other`: none of these.
 */
export type ErrnoClass =
  | "retry"
  | "would-block"
  | "closed"
  | "refused"
  | "limit"
  | "denied"
  | "not-found"
  | "bug"
  | "other";

/** One error number. */
export interface ErrnoEntry {
  /** `EADDRINUSE`. */
  readonly name: string;
  readonly class: ErrnoClass;
  /** The part of {@linkcode SystemError.code} behind `system.`. */
  readonly code: string;
  /** What is the matter, as it stands behind the colon of a message. */
  readonly text: string;
}

/** The entry of an error number; one with name `E<number>` for a number that has none here. */
export function errnoEntry(errno: number): ErrnoEntry {
  return BY_NUMBER.get(errno) ??
    { name: `E${errno}`, class: "other", code: "other", text: `error number ${errno}` };
}

/** `EADDRINUSE` for 98. */
export function errnoName(errno: number): string {
  return errnoEntry(errno).name;
}

/** What to do about an error number. */
export function errnoClass(errno: number): ErrnoClass {
  return BY_NUMBER.get(errno)?.class ?? "other";
}

/** 98 for `EADDRINUSE`; 0 for a name that is not known here. */
export function errnoNumber(name: string): number {
  return BY_NAME.get(name) ?? 0;
}

/** Every name that is known here, aliases included. */
export function errnoNames(): readonly string[] {
  return [...BY_NAME.keys()];
}

/**
 * The exception for a refused system call.
 *
 * @param syscall Name of the call, as its manual page has it.
 * @param errno The positive error number.
 * @param what What could not be done: `bind to 127.0.0.1:69`. Stands between "Cannot" and the colon.
 */
export function systemError(syscall: string, errno: number, what: string): SystemError {
  const { name, code, text } = errnoEntry(errno);
  return new SystemError(`system.${code}`, `Cannot ${what}: ${text} (${name})`, {
    syscall,
    errno,
    errnoName: name,
  });
}

/**
 * The exception for an error the runtime threw: `Deno.errors.*`, or the errors of `node:` modules. Anything that is
 * neither gets `system.other`; the original is always the cause. A {@linkcode SystemError} comes back as it is.
 *
 * @param error What was caught.
 * @param syscall Name of the call that was probably refused; used when the error does not name one itself.
 * @param what What could not be done; see {@linkcode systemError}.
 */
export function fromRuntimeError(error: unknown, syscall: string, what: string): SystemError {
  if (error instanceof SystemError) return error;
  let name = "";
  if (error instanceof Error) {
    // Both runtimes put the symbolic name into `code`, Deno since 1.4x also on its own classes; a message of Rust's
    // standard library ends in "(os error 98)".
    const { code, errno } = error as { code?: unknown; errno?: unknown };
    if (typeof code === "string" && BY_NAME.has(code)) name = code;
    else if (typeof errno === "number" && BY_NUMBER.has(Math.abs(errno))) {
      name = errnoName(Math.abs(errno));
    } else {
      const told = /\(os error (\d+)\)/.exec(error.message);
      name = told !== null && BY_NUMBER.has(Number(told[1]))
        ? errnoName(Number(told[1]))
        : NAME_OF_CLASS[error.name] ?? "";
    }
    const { syscall: named } = error as { syscall?: unknown };
    if (typeof named === "string" && named !== "") syscall = named;
  }
  const errno = errnoNumber(name);
  if (errno !== 0) {
    const entry = errnoEntry(errno);
    return new SystemError(`system.${entry.code}`, `Cannot ${what}: ${entry.text} (${name})`, {
      syscall,
      errno,
      errnoName: name,
      cause: error,
    });
  }
  const said = error instanceof Error ? error.message : String(error);
  return new SystemError("system.other", `Cannot ${what}: the runtime reports "${clean(said)}"`, {
    syscall,
    errno: 0,
    errnoName: "",
    cause: error,
  });
}

function clean(text: string): string {
  // deno-lint-ignore no-control-regex
  return text.replace(/[\x00-\x1f\x7f]+/g, " ").slice(0, 200);
}

/** Error numbers that code decides by. */
export const EPERM = 1;
export const ENOENT = 2;
export const EINTR = 4;
export const EIO = 5;
export const EBADF = 9;
export const EAGAIN = 11;
export const ENOMEM = 12;
export const EACCES = 13;
export const EBUSY = 16;
export const EEXIST = 17;
export const EXDEV = 18;
export const ENODEV = 19;
export const ENOTDIR = 20;
export const EISDIR = 21;
export const EINVAL = 22;
export const ENFILE = 23;
export const EMFILE = 24;
export const EFBIG = 27;
export const ENOSPC = 28;
export const EROFS = 30;
export const EPIPE = 32;
export const ENAMETOOLONG = 36;
export const ENOSYS = 38;
export const ELOOP = 40;
export const EMSGSIZE = 90;
export const ENOPROTOOPT = 92;
export const EOPNOTSUPP = 95;
export const EAFNOSUPPORT = 97;
export const EADDRINUSE = 98;
export const EADDRNOTAVAIL = 99;
export const ENETDOWN = 100;
export const ENETUNREACH = 101;
export const ECONNRESET = 104;
export const ENOBUFS = 105;
export const ETIMEDOUT = 110;
export const ECONNREFUSED = 111;
export const EHOSTDOWN = 112;
export const EHOSTUNREACH = 113;
export const EALREADY = 114;
export const EINPROGRESS = 115;
export const EDQUOT = 122;
export const ECANCELED = 125;

const ROWS: readonly (readonly [number, string, ErrnoClass, string, string])[] = [
  [EPERM, "EPERM", "denied", "not-permitted", "the operation is not permitted"],
  [ENOENT, "ENOENT", "not-found", "not-found", "there is no such file or directory"],
  [3, "ESRCH", "not-found", "no-such-process", "there is no such process"],
  [EINTR, "EINTR", "retry", "interrupted", "a signal interrupted the call"],
  [EIO, "EIO", "other", "input-output", "the device reports an error"],
  [6, "ENXIO", "not-found", "no-such-device", "there is no such device or address"],
  [7, "E2BIG", "bug", "argument-too-big", "the argument is too big"],
  [EBADF, "EBADF", "closed", "bad-descriptor", "the descriptor is not open"],
  [10, "ECHILD", "not-found", "no-child", "there is no child process"],
  [EAGAIN, "EAGAIN", "would-block", "would-block", "the call would have to wait"],
  [ENOMEM, "ENOMEM", "limit", "out-of-memory", "the kernel is out of memory"],
  [EACCES, "EACCES", "denied", "permission-denied", "permission is denied"],
  [14, "EFAULT", "bug", "bad-address", "an address points outside the process"],
  [EBUSY, "EBUSY", "limit", "busy", "it is in use"],
  [EEXIST, "EEXIST", "other", "already-exists", "it exists already"],
  [EXDEV, "EXDEV", "denied", "cross-device", "it is on another file system or outside the root"],
  [ENODEV, "ENODEV", "not-found", "no-such-device", "there is no such device"],
  [ENOTDIR, "ENOTDIR", "not-found", "not-a-directory", "a component is not a directory"],
  [EISDIR, "EISDIR", "other", "is-a-directory", "it is a directory"],
  [EINVAL, "EINVAL", "bug", "invalid-argument", "an argument is invalid"],
  [ENFILE, "ENFILE", "limit", "file-table-full", "the system's file table is full"],
  [EMFILE, "EMFILE", "limit", "too-many-files", "the process has too many open files"],
  [25, "ENOTTY", "bug", "not-supported", "the request does not fit the descriptor"],
  [EFBIG, "EFBIG", "limit", "file-too-large", "the file would be too large"],
  [ENOSPC, "ENOSPC", "limit", "disk-full", "no space is left on the device"],
  [29, "ESPIPE", "bug", "illegal-seek", "the descriptor cannot seek"],
  [EROFS, "EROFS", "denied", "read-only", "the file system is read-only"],
  [31, "EMLINK", "limit", "too-many-links", "it has too many links"],
  [EPIPE, "EPIPE", "closed", "broken-pipe", "the other end is closed"],
  [34, "ERANGE", "bug", "out-of-range", "the result is out of range"],
  [35, "EDEADLK", "other", "deadlock", "it would wait for itself"],
  [ENAMETOOLONG, "ENAMETOOLONG", "bug", "name-too-long", "the name is too long"],
  [ENOSYS, "ENOSYS", "bug", "not-implemented", "the kernel does not have this call"],
  [39, "ENOTEMPTY", "other", "not-empty", "the directory is not empty"],
  [ELOOP, "ELOOP", "denied", "link-loop", "a symbolic link is not followed"],
  [61, "ENODATA", "not-found", "no-data", "there is no data"],
  [62, "ETIME", "other", "timer-expired", "the timer expired"],
  [71, "EPROTO", "other", "protocol", "the protocol was broken"],
  [75, "EOVERFLOW", "limit", "overflow", "the value does not fit"],
  [88, "ENOTSOCK", "bug", "not-a-socket", "the descriptor is not a socket"],
  [89, "EDESTADDRREQ", "bug", "no-destination", "a destination address is required"],
  [EMSGSIZE, "EMSGSIZE", "limit", "message-too-long", "the message is too long"],
  [91, "EPROTOTYPE", "bug", "wrong-protocol", "the protocol does not fit the socket"],
  [ENOPROTOOPT, "ENOPROTOOPT", "bug", "no-such-option", "the socket option does not exist here"],
  [93, "EPROTONOSUPPORT", "bug", "protocol-unsupported", "the protocol is not supported"],
  [EOPNOTSUPP, "EOPNOTSUPP", "bug", "not-supported", "the operation is not supported"],
  [EAFNOSUPPORT, "EAFNOSUPPORT", "bug", "family-unsupported", "the address family is missing"],
  [EADDRINUSE, "EADDRINUSE", "limit", "address-in-use", "the address is in use"],
  [EADDRNOTAVAIL, "EADDRNOTAVAIL", "not-found", "address-not-available", "no such address here"],
  [ENETDOWN, "ENETDOWN", "refused", "network-down", "the network is down"],
  [ENETUNREACH, "ENETUNREACH", "refused", "network-unreachable", "the network is unreachable"],
  [103, "ECONNABORTED", "closed", "connection-aborted", "the connection was aborted"],
  [ECONNRESET, "ECONNRESET", "closed", "connection-reset", "the peer reset the connection"],
  [ENOBUFS, "ENOBUFS", "limit", "no-buffers", "the kernel has no buffer space"],
  [106, "EISCONN", "bug", "already-connected", "the socket is connected already"],
  [107, "ENOTCONN", "closed", "not-connected", "the socket is not connected"],
  [ETIMEDOUT, "ETIMEDOUT", "refused", "timed-out", "the connection timed out"],
  [ECONNREFUSED, "ECONNREFUSED", "refused", "connection-refused", "nobody listens there"],
  [EHOSTDOWN, "EHOSTDOWN", "refused", "host-down", "the host is down"],
  [EHOSTUNREACH, "EHOSTUNREACH", "refused", "host-unreachable", "the host is unreachable"],
  [EALREADY, "EALREADY", "would-block", "already-in-progress", "it is in progress already"],
  [EINPROGRESS, "EINPROGRESS", "would-block", "in-progress", "it is in progress"],
  [116, "ESTALE", "not-found", "stale-handle", "the file handle is stale"],
  [EDQUOT, "EDQUOT", "limit", "quota-exceeded", "the disk quota is exceeded"],
  [ECANCELED, "ECANCELED", "other", "canceled", "it was canceled"],
];

const BY_NUMBER: ReadonlyMap<number, ErrnoEntry> = new Map(
  ROWS.map((
    [number, name, kind, code, text],
  ) => [number, Object.freeze({ name, class: kind, code, text })]),
);
const BY_NAME: ReadonlyMap<string, number> = new Map([
  ...ROWS.map(([number, name]) => [name, number] as const),
  ["EWOULDBLOCK", EAGAIN],
  ["ENOTSUP", EOPNOTSUPP],
]);

/** `Deno.errors.*` by class name, for errors that carry neither a code nor a number. */
const NAME_OF_CLASS: Readonly<Record<string, string>> = {
  AddrInUse: "EADDRINUSE",
  AddrNotAvailable: "EADDRNOTAVAIL",
  AlreadyExists: "EEXIST",
  BadResource: "EBADF",
  BrokenPipe: "EPIPE",
  Busy: "EBUSY",
  ConnectionAborted: "ECONNABORTED",
  ConnectionRefused: "ECONNREFUSED",
  ConnectionReset: "ECONNRESET",
  FilesystemLoop: "ELOOP",
  Interrupted: "EINTR",
  IsADirectory: "EISDIR",
  NetworkUnreachable: "ENETUNREACH",
  NotADirectory: "ENOTDIR",
  NotCapable: "EACCES",
  NotConnected: "ENOTCONN",
  NotFound: "ENOENT",
  NotSupported: "EOPNOTSUPP",
  PermissionDenied: "EACCES",
  TimedOut: "ETIMEDOUT",
  WouldBlock: "EAGAIN",
};
