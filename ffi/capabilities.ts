/**
 * What this process may do, and which driver follows from it.
 *
 * Asking has no side effects: no permission is prompted for, nothing is sent, nothing stays open. A permission that is
 * granted later is noticed; other answers are kept for as long as the process lives.
 *
 * @module
 */
import { CapabilityError } from "../internal/errors.ts";
import type { Driver } from "./datagram.ts";
// The one driver-side file that is not awaited: the answer has to be there at once, and importing it does nothing.
import { probeKernel } from "./probe_linux.ts";

/** Everything that is probed, by the names `fastwire doctor` prints. */
export type Feature =
  | "libc"
  | "errno"
  | "mmsg"
  | "gso"
  | "gro"
  | "rxqOvfl"
  | "packetInfo"
  | "errorQueue"
  | "reuseport"
  | "rcvbufForce"
  | "zerocopy"
  | "busyPoll"
  | "ipv6"
  | "epoll"
  | "eventfd"
  | "iouring"
  | "bridge"
  | "openat2"
  | "statx"
  | "splice"
  | "memfd"
  | "netlink"
  | "bpfClassic"
  | "affinity"
  | "mlock"
  | "hugepages";

/** The kind of obstacle. `disabled`: the portable driver was asked for. */
export type CapabilityReason =
  | "permission"
  | "unsupported-runtime"
  | "unsupported-platform"
  | "missing-symbol"
  | "kernel"
  | "privilege"
  | "disabled";

/** One probed feature. */
export interface Capability {
  /** Whether it can be used. */
  readonly ok: boolean;
  /** Why not; absent when `ok`. */
  readonly reason?: CapabilityReason;
  /** One plain sentence when not `ok`; sometimes a fact when it is. */
  readonly detail?: string;
  /** The error number the kernel answered, when it did. */
  readonly errno?: number;
}

/** The answers. Frozen. */
export interface Capabilities {
  /** Which runtime this is; Bun counts as `node`. */
  readonly runtime: "deno" | "node" | "other";
  /** Which system this is. */
  readonly os: "linux" | "freebsd" | "darwin" | "windows" | "other";
  /** Functions of the C library can be called: the permission is granted, the runtime and the platform fit. */
  readonly ffi: boolean;
  /** `recvmmsg` and `sendmmsg`, and a way to wait for their sockets. */
  readonly batchedDatagrams: boolean;
  /** One call sends a run of equal datagrams. */
  readonly segmentationOffload: boolean;
  /** Bytes can be moved between descriptors inside the kernel. */
  readonly splice: boolean;
  /** io_uring can be used. */
  readonly ioUring: boolean;
  /** Netlink sockets can be opened. */
  readonly netlink: boolean;
  /** One plain sentence for each of the above that is `false`. */
  readonly why: Readonly<Record<string, string>>;
  /** The full table. */
  readonly features: Readonly<Record<Feature, Capability>>;
}

/** What {@linkcode resolveDriver} decided. */
export interface DriverChoice {
  /** The driver to use. */
  readonly use: "fast" | "portable";
  /** Why not the fast one, one plain sentence; empty when it is. */
  readonly reason: string;
}

/**
 * What this process may do.
 *
 * Takes below 20 ms the first time, then nothing. Never prompts, never throws. With `FASTWIRE_DRIVER=portable` (read only
 * where the environment may be read) no library is opened and everything is `disabled`.
 *
 * @param options `refresh`: look again.
 *
 * @example
 * ```ts
 * import { capabilities } from "@fastwire/net/ffi";
 * import { equal } from "node:assert/strict";
 *
 * const { ffi, why } = capabilities();
 * equal(ffi, why.ffi === undefined); // every "no" has its sentence
 * ```
 */
export function capabilities(options: { readonly refresh?: boolean } = {}): Capabilities {
  return environmentDriver() === "portable"
    ? summarize(everything("disabled", "the portable driver was asked for with FASTWIRE_DRIVER"))
    : probed(options.refresh === true);
}

/**
 * Chooses between the kernel's driver and the portable one.
 *
 * @param wanted `auto` takes the kernel's where everything needed is there; `FASTWIRE_DRIVER` replaces it, where the
 * environment may be read. `portable` looks at nothing.
 * @param needed What the kernel's driver cannot do without.
 * @throws {CapabilityError} `ffi.driver-unavailable` for `fast` where something needed is missing.
 * @throws {TypeError} When `wanted` or `FASTWIRE_DRIVER` is none of the three words.
 */
export function resolveDriver(
  wanted: Driver,
  needed: readonly (
    | "ffi"
    | "batchedDatagrams"
    | "segmentationOffload"
    | "splice"
    | "ioUring"
    | "netlink"
    | Feature
  )[],
): DriverChoice {
  if (!isDriver(wanted)) throw wrongWord("driver", wanted);
  let asked: Driver = wanted, how = `driver "${wanted}"`;
  if (wanted === "auto") {
    const word = environmentDriver();
    if (word !== undefined) {
      if (!isDriver(word)) throw wrongWord("FASTWIRE_DRIVER", word);
      asked = word;
      how = `FASTWIRE_DRIVER=${word}`;
    }
  }
  if (asked === "portable") {
    return { use: "portable", reason: `the portable driver was asked for with ${how}` };
  }
  // Asked for by name, the environment's "portable" does not count any more.
  const found = probed(false);
  for (const need of needed) {
    const { ok, why, reason } = judge(found, need);
    if (ok) continue;
    if (asked === "auto") return { use: "portable", reason: why };
    throw new CapabilityError(
      "ffi.driver-unavailable",
      `Cannot use the kernel driver: ${why}, asked for with ${how}`,
      { capability: need, why, remedy: REMEDIES[reason] },
    );
  }
  return { use: "fast", reason: "" };
}

function judge(
  found: Capabilities,
  need: keyof typeof SUMMARY | Feature,
): { readonly ok: boolean; readonly why: string; readonly reason: CapabilityReason } {
  const feature = need in SUMMARY
    ? firstMissing(found.features, SUMMARY[need as keyof typeof SUMMARY])
    : found.features[need as Feature].ok
    ? undefined
    : need as Feature;
  if (feature === undefined) return { ok: true, why: "", reason: "kernel" };
  const { detail = "it is not available", reason = "kernel" } = found.features[feature];
  return { ok: false, why: detail, reason };
}

// A cache of a pure result; only answers that cannot change while the process lives are kept.
let known: Capabilities | undefined;

function probed(refresh: boolean): Capabilities {
  if (known !== undefined && !refresh) return known;
  const found = summarize(
    surroundings().os === "linux"
      ? probeKernel(FEATURES)
      : everything("unsupported-platform", `there is no kernel driver for ${surroundings().os}`),
  );
  known = found.ffi ? found : undefined;
  return found;
}

function everything(
  reason: CapabilityReason,
  detail: string,
): Readonly<Record<Feature, Capability>> {
  const found = {} as Record<Feature, Capability>;
  for (const feature of FEATURES) found[feature] = { ok: false, reason, detail };
  return found;
}

function summarize(features: Readonly<Record<Feature, Capability>>): Capabilities {
  const why: Record<string, string> = {};
  const answers = {} as Record<keyof typeof SUMMARY, boolean>;
  for (const [name, parts] of Object.entries(SUMMARY) as [keyof typeof SUMMARY, Feature[]][]) {
    const missing = firstMissing(features, parts);
    answers[name] = missing === undefined;
    if (missing !== undefined) why[name] = features[missing].detail ?? "it is not available";
  }
  for (const feature of Object.values(features)) Object.freeze(feature);
  return Object.freeze({
    ...surroundings(),
    ...answers,
    why: Object.freeze(why),
    features: Object.freeze(features),
  });
}

function firstMissing(
  features: Readonly<Record<Feature, Capability>>,
  parts: readonly Feature[],
): Feature | undefined {
  return parts.find((part) => !features[part].ok);
}

interface Globals {
  readonly Deno?: typeof Deno;
  readonly process?: {
    readonly platform: string;
    readonly env: Readonly<Record<string, string | undefined>>;
    readonly versions: Readonly<Record<string, string | undefined>>;
  };
}

function surroundings(): Pick<Capabilities, "runtime" | "os"> {
  const { Deno: deno, process } = globalThis as Globals;
  const name = deno?.build.os ?? process?.platform ?? "";
  const os = name === "linux" || name === "freebsd" || name === "darwin" || name === "windows"
    ? name
    : name === "win32"
    ? "windows"
    : "other";
  const runtime = deno !== undefined
    ? "deno"
    : process?.versions.node !== undefined
    ? "node"
    : "other";
  return { runtime, os };
}

/** `FASTWIRE_DRIVER`, when it may be read without asking and is not empty. */
function environmentDriver(): string | undefined {
  const { Deno: deno, process } = globalThis as Globals;
  const name = "FASTWIRE_DRIVER";
  if (deno === undefined) return process?.env[name] || undefined;
  if (deno.permissions.querySync({ name: "env", variable: name }).state !== "granted") {
    return undefined;
  }
  return deno.env.get(name) || undefined;
}

function isDriver(word: string): word is Driver {
  return word === "auto" || word === "fast" || word === "portable";
}

function wrongWord(name: string, word: unknown): TypeError {
  return new TypeError(
    `Cannot use ${name} "${String(word)}": expected "auto", "fast" or "portable"`,
  );
}

const FEATURES: readonly Feature[] = [
  "libc",
  "errno",
  "mmsg",
  "gso",
  "gro",
  "rxqOvfl",
  "packetInfo",
  "errorQueue",
  "reuseport",
  "rcvbufForce",
  "zerocopy",
  "busyPoll",
  "ipv6",
  "epoll",
  "eventfd",
  "iouring",
  "bridge",
  "openat2",
  "statx",
  "splice",
  "memfd",
  "netlink",
  "bpfClassic",
  "affinity",
  "mlock",
  "hugepages",
];

/** What each summary is made of; the first part that is missing gives the sentence. */
const SUMMARY: Readonly<
  Record<
    "ffi" | "batchedDatagrams" | "segmentationOffload" | "splice" | "ioUring" | "netlink",
    readonly Feature[]
  >
> = {
  ffi: ["libc", "errno"],
  batchedDatagrams: ["libc", "errno", "mmsg", "epoll", "eventfd"],
  segmentationOffload: ["libc", "gso"],
  splice: ["libc", "splice"],
  ioUring: ["libc", "iouring"],
  netlink: ["libc", "netlink"],
};

const REMEDIES: Readonly<Record<CapabilityReason, string>> = {
  "permission": "run with --allow-ffi",
  "unsupported-runtime": 'run it with Deno, or use driver "portable"',
  "unsupported-platform": 'use driver "portable"',
  "missing-symbol": 'use a newer C library, or driver "portable"',
  "kernel": 'use driver "portable"',
  "privilege": 'run as a user with the capability it needs, or use driver "portable"',
  "disabled": "unset FASTWIRE_DRIVER",
};
