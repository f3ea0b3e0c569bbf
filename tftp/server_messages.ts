/**
 * What a server and its threads say to each other. Batches and control, never packets.
 *
 * @module
 */
import type { DatagramTraits, SocketAddress } from "../ffi/mod.ts";
import { CapabilityError, SystemError } from "../internal/errors.ts";
import type { AccessRule } from "./access.ts";
import type { SessionInfo, TransferRecord } from "./session.ts";
import type { ResolvedServerSettings } from "./settings.ts";

/** An address to listen on. */
export interface Bind {
  readonly address: SocketAddress;
  /** An IPv6 wildcard that takes IPv4 too. */
  readonly dualStack: boolean;
}

/** Why a thread could not start: an error as plain data, because classes do not survive the way. */
export interface ThreadRefusal {
  readonly kind: "system" | "capability" | "other";
  readonly code: string;
  readonly message: string;
  /** The other fields of the class. */
  readonly details: Readonly<Record<string, string | number>>;
}

/** Makes plain data of an error. */
export function describeRefusal(error: unknown): ThreadRefusal {
  if (error instanceof SystemError) {
    const { code, message, syscall, errno, errnoName } = error;
    return { kind: "system", code, message, details: { syscall, errno, errnoName } };
  }
  if (error instanceof CapabilityError) {
    const { code, message, capability, why, remedy } = error;
    return { kind: "capability", code, message, details: { capability, why, remedy } };
  }
  const message = error instanceof Error ? error.message : String(error);
  return { kind: "other", code: "", message, details: {} };
}

/** Makes the error again. */
export function refusalError({ kind, code, message, details }: ThreadRefusal): Error {
  const text = (name: string): string => String(details[name]);
  if (kind === "system") {
    return new SystemError(code, message, {
      syscall: text("syscall"),
      errno: Number(details.errno),
      errnoName: text("errnoName"),
    });
  }
  if (kind === "capability") {
    return new CapabilityError(code, message, {
      capability: text("capability"),
      why: text("why"),
      remedy: text("remedy"),
    });
  }
  return new Error(message);
}

/** What a thread is started with. */
export interface WorkerSetup {
  readonly settings: ResolvedServerSettings;
  readonly access: readonly AccessRule[];
  readonly root: string;
  readonly driver: "fast" | "portable";
  readonly counters: SharedArrayBuffer;
  /** Which of the threads it is, from 0. */
  readonly thread: number;
  readonly threads: number;
  readonly binds: readonly Bind[];
  readonly reusePort: boolean;
  /** False for a thread that is dealt its requests by the first. */
  readonly listens: boolean;
}

/** To a thread. */
export type ToWorker =
  | { readonly kind: "drain" }
  | { readonly kind: "sessions" }
  | {
    readonly kind: "dealt";
    readonly request: Uint8Array;
    readonly peer: Uint8Array;
    /** Which of the listening sockets received it. */
    readonly listener: number;
  };

/** From a thread. */
export type FromWorker =
  | {
    readonly kind: "ready";
    readonly addresses: readonly SocketAddress[];
    readonly traits: DatagramTraits;
  }
  | { readonly kind: "refused"; readonly refusal: ThreadRefusal }
  | { readonly kind: "records"; readonly records: readonly TransferRecord[] }
  | { readonly kind: "drained" }
  | { readonly kind: "sessions"; readonly sessions: readonly SessionInfo[] }
  | {
    readonly kind: "deal";
    readonly thread: number;
    readonly request: Uint8Array;
    readonly peer: Uint8Array;
    readonly listener: number;
  };
