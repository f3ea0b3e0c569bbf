/**
 * What travels between a server or client and the threads that carry its data: beginnings, rates, ends. Never packets.
 *
 * @module
 */
import { FastwireError, type SocketAddress, SystemError } from "../ffi/mod.ts";
import type { FlowCounts, TcpPlan, UdpPlan } from "./flow.ts";

/** What a thread is started with. */
export interface ThreadSetup {
  /** What it carries: it sleeps in one wait, which is for either. */
  readonly protocol: "tcp" | "udp";
}

/** To a thread. `id` names a flow. */
export type ToThread =
  | {
    readonly kind: "tcp";
    readonly id: number;
    readonly plan: TcpPlan;
    readonly descriptors: readonly number[];
    readonly kept: readonly Uint8Array[];
    readonly counts: FlowCounts;
  }
  | {
    readonly kind: "udp";
    readonly id: number;
    readonly plan: UdpPlan;
    readonly segmentation: boolean;
    readonly counts: FlowCounts;
  }
  | { readonly kind: "start"; readonly id: number; readonly port: number | undefined }
  | { readonly kind: "rate"; readonly id: number; readonly bps: number }
  | { readonly kind: "weave"; readonly id: number; readonly status: Uint8Array }
  | { readonly kind: "probe"; readonly id: number }
  | { readonly kind: "stop"; readonly id: number };

/** From a thread. */
export type FromThread =
  | { readonly kind: "opened"; readonly id: number; readonly local: SocketAddress }
  | { readonly kind: "refused"; readonly id: number; readonly refusal: Refusal }
  | {
    readonly kind: "status";
    readonly id: number;
    readonly cpu: number;
    readonly sequence: number;
    readonly received: number;
  }
  | { readonly kind: "closed"; readonly id: number; readonly index: number }
  | { readonly kind: "arrived"; readonly id: number }
  | { readonly kind: "stopped"; readonly id: number };

/** An error that crossed threads. */
export interface Refusal {
  readonly code: string;
  readonly message: string;
  readonly syscall: string;
  readonly errno: number;
  readonly errnoName: string;
}

/** Takes an error apart for the journey. */
export function describeRefusal(error: unknown): Refusal {
  const system = error instanceof SystemError ? error : undefined;
  return {
    code: error instanceof FastwireError ? error.code : "system.other",
    message: error instanceof Error ? error.message : String(error),
    syscall: system?.syscall ?? "",
    errno: system?.errno ?? 0,
    errnoName: system?.errnoName ?? "",
  };
}

/** Puts it together again. */
export function refusalError({ code, message, ...details }: Refusal): SystemError {
  return new SystemError(code, message, details);
}
