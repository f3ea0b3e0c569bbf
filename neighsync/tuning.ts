/**
 * Puts what the tuner says into force.
 *
 * @module
 */

import { logger } from "../internal/log.ts";
import type { NeighSyncSnapshot } from "./snapshot.ts";
import type { Tuner } from "./tuner.ts";
import type { Writer } from "./writer.ts";

const log = logger("neighsync", "writer");

/** Looks whether batches should be others, and makes them so. */
export function tuneWriter(
  tuner: Tuner,
  writer: Writer,
  now: number,
  snapshot: NeighSyncSnapshot,
): void {
  const reason = tuner.look(now, snapshot);
  if (reason === undefined) return;
  const { settings } = tuner;
  writer.tune(settings);
  log.info("batches are of {batchSize} keys or {batchTimeoutMs} ms now ({reason})", {
    event: "neighsync.tuned",
    batchSize: settings.batchSize,
    batchTimeoutMs: settings.batchTimeoutMs,
    reason,
  });
}
