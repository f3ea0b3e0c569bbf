/**
 * `fastwire doctor`: what this process may do, and why not.
 *
 * @module
 */

import { VERSION } from "../version.ts";
import { boolean, option, options } from "../schema.ts";
import { type Command, command } from "./command.ts";
import { table } from "./output.ts";

/** What `--version --json` prints. */
export interface VersionDetails {
  readonly name: "fastwire";
  readonly version: string;
  /** `deno 2.9.5`. */
  readonly runtime: string;
  /** `linux x86_64`. */
  readonly platform: string;
  /** What `driver: "auto"` would choose for datagrams. */
  readonly driver: "fast" | "portable";
}

/** Everything `fastwire doctor --json` prints. */
export interface Diagnosis extends VersionDetails {
  /** Permission → `granted`, `prompt` or `denied`; empty on runtimes without permissions. */
  readonly permissions: Readonly<Record<string, string>>;
  readonly features: Readonly<Record<string, { readonly ok: boolean; readonly why: string }>>;
  /** Bounds of the system by name; left out where they cannot be read without asking. */
  readonly limits: Readonly<Record<string, number>>;
}

/** The command. */
export function doctorCommand(): Command {
  return command({
    name: "doctor",
    brief: "Show what this machine and runtime allow, and why not",
    options: options({}),
    flags: options({
      quick: option(boolean(), false, { help: "Only answer by exit code whether it runs at all" }),
    }),
    examples: [["", "what works here"], ["--json", "the same for programs"]],
    exits: [0],
    run: async ({ common, flags, terminal }) => {
      const found = await diagnose();
      if (flags.quick) return;
      terminal.stdout.write(common.json ? JSON.stringify(found) + "\n" : diagnosisText(found));
    },
  });
}

/** The version with its surroundings. */
export async function versionDetails(): Promise<VersionDetails> {
  const { capabilities } = await import("../../ffi/mod.ts");
  const found = capabilities();
  const { runtime, platform } = surroundings();
  return {
    name: "fastwire",
    version: VERSION,
    runtime,
    platform,
    driver: found.batchedDatagrams ? "fast" : "portable",
  };
}

/** Looks at everything, without opening anything that stays open and without asking for a permission. */
export async function diagnose(): Promise<Diagnosis> {
  const { capabilities } = await import("../../ffi/mod.ts");
  const { features } = capabilities();
  return {
    ...await versionDetails(),
    permissions: permissionStates(),
    features: Object.fromEntries(
      Object.entries(features).map(([name, { ok, reason, detail }]) => [
        name,
        { ok, why: ok ? "" : [reason, detail].filter((part) => part !== undefined).join(": ") },
      ]),
    ),
    limits: await limits(),
  };
}

/** The diagnosis for people. */
export function diagnosisText(found: Diagnosis): string {
  const facts = [
    ["version", found.version],
    ["runtime", found.runtime],
    ["platform", found.platform],
    ["driver", found.driver],
  ];
  const permissions = Object.entries(found.permissions);
  const limits = Object.entries(found.limits).map(([name, value]) => [name, String(value)]);
  const features = Object.entries(found.features)
    .map(([name, { ok, why }]) => [name, ok ? "yes" : "no", why]);
  const parts = [
    table([["fastwire", "left"], ["", "left"]], facts),
    table([["permission", "left"], ["state", "left"]], permissions),
    table([["limit", "left"], ["value", "right"]], limits),
    table([["feature", "left"], ["here", "left"], ["why not", "left"]], features),
  ];
  return parts.filter((_part, index) =>
    index === 0 || [permissions, limits, features][index - 1]!.length > 0
  )
    .join("\n");
}

function surroundings(): { readonly runtime: string; readonly platform: string } {
  const { Deno: deno, process } = globalThis as {
    Deno?: typeof Deno;
    process?: { versions: { node: string }; platform: string; arch: string };
  };
  if (deno !== undefined) {
    return {
      runtime: `deno ${deno.version.deno}`,
      platform: `${deno.build.os} ${deno.build.arch}`,
    };
  }
  return {
    runtime: `node ${process?.versions.node ?? "unknown"}`,
    platform: `${process?.platform ?? "unknown"} ${process?.arch ?? ""}`.trim(),
  };
}

function permissionStates(): Readonly<Record<string, string>> {
  const deno = (globalThis as { Deno?: typeof Deno }).Deno;
  if (deno === undefined) return {};
  const names = ["net", "read", "write", "ffi", "env", "run", "sys"] as const;
  return Object.fromEntries(
    names.map((name) => [name, deno.permissions.querySync({ name }).state]),
  );
}

const LIMIT_FILES: Readonly<Record<string, string>> = {
  "receive buffer bytes": "/proc/sys/net/core/rmem_max",
  "send buffer bytes": "/proc/sys/net/core/wmem_max",
  "first unprivileged port": "/proc/sys/net/ipv4/ip_unprivileged_port_start",
};

async function limits(): Promise<Readonly<Record<string, number>>> {
  const deno = (globalThis as { Deno?: typeof Deno }).Deno;
  // /proc needs the read permission for everything; a narrower grant would stop and ask.
  if (deno !== undefined && deno.permissions.querySync({ name: "read" }).state !== "granted") {
    return {};
  }
  const { readFile } = await import("node:fs/promises");
  const found: Record<string, number> = {};
  for (const [name, path] of Object.entries(LIMIT_FILES)) {
    try {
      found[name] = Number(await readFile(path, "utf8"));
    } catch {
      // Another system, or a container that hides it.
    }
  }
  try {
    const open = /^Max open files\s+(\d+)/m.exec(await readFile("/proc/self/limits", "utf8"));
    if (open !== null) found["open files"] = Number(open[1]);
  } catch {
    // As above.
  }
  return found;
}
