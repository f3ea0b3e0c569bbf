/**
 * The daemon as its management interface sees it.
 *
 * @module
 */

import type { NeighSync } from "./daemon.ts";
import { resolveNeighSyncSettings } from "./options.ts";
import type { ServedNeighSync } from "./rest.ts";
import type { ResolvedNeighSyncSettings } from "./settings.ts";

/** Settings that requests may change, by section. */
const CHANGEABLE: Readonly<Record<string, readonly string[]>> = {
  netlink: ["include", "exclude"],
  performance: ["batchSize", "batchTimeoutMs", "maxBatch", "lingerMs", "autoTune"],
  advanced: ["auditIntervalSec", "flushTimeoutMs", "memoryLimit"],
};

/** Everything of a synchroniser that can be asked for or changed. */
export function servedBy(sync: NeighSync): ServedNeighSync {
  return {
    snapshot: () => sync.snapshot(),
    health: () => sync.health(),
    neighbors: () => sync.neighbors(),
    config: () => withoutSecrets(sync.settings),
    diff: async () =>
      (await sync.differences()).map(({ key, expected, found }) => ({
        key,
        wanted: expected?.mac ?? null,
        published: found?.mac ?? null,
      })),
    resync: () => sync.resync(),
    reconfigure: (changes) => {
      const settings = changed(sync.settings, changes);
      sync.reload(settings);
      return withoutSecrets(sync.settings);
    },
  };
}

/**
 * Settings with changes applied.
 *
 * @throws {TypeError} For what cannot be changed while it runs. @throws {RangeError} For a value out of range.
 */
function changed(settings: ResolvedNeighSyncSettings, changes: object): ResolvedNeighSyncSettings {
  const merged: Record<string, object> = { ...settings };
  for (const [section, values] of Object.entries(changes)) {
    const names = CHANGEABLE[section];
    for (const name of Object.keys(Object(values))) {
      if (names?.includes(name) === true) continue;
      const known = Object.entries(CHANGEABLE)
        .flatMap(([each, members]) => members.map((member) => `${each}.${member}`));
      throw new TypeError(
        `Cannot change "${section}.${name}" while it runs: expected one of ${known.join(", ")}`,
      );
    }
    merged[section] = { ...merged[section], ...Object(values) };
  }
  return resolveNeighSyncSettings(merged);
}

/** A copy in which secrets are stars, when they are set. */
function withoutSecrets(settings: ResolvedNeighSyncSettings): object {
  const { redis, security } = settings;
  const stars = (secret: string | undefined): string | null => secret === undefined ? null : "***";
  // A URL may carry a password.
  const url = redis.url?.replace(/\/\/[^@/]*@/, "//***@");
  return {
    ...settings,
    redis: { ...redis, url: url ?? null, password: stars(redis.password) },
    security: { ...security, token: stars(security.token) },
  };
}
