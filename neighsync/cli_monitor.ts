/**
 * The command `monitor`.
 *
 * @module
 */

import type { CommandInput } from "../internal/cli/command.ts";
import { jsonLine } from "../internal/cli/output.ts";
import { NeighborMonitor } from "./monitor.ts";
import type { NeighborEvent } from "./monitor_queue.ts";
import type { Neighbor } from "./neighbor.ts";
import type { ResolvedNetlinkSettings } from "./settings.ts";

/** What `monitor` has besides the settings. */
export interface MonitorFlags {
  /** Only neighbours in these states; all when empty. */
  readonly state: readonly string[];
  /** Lines begin with the time. */
  readonly timestamps: boolean;
  /** Not what there is at the start. */
  readonly changes: boolean;
}

/** Prints until a signal ends it. */
export async function runMonitor(
  { options, flags, common, terminal, signal }: CommandInput<ResolvedNetlinkSettings, MonitorFlags>,
): Promise<number> {
  const monitor = await NeighborMonitor.open({ ...options, signal });
  try {
    let quiet = flags.changes;
    for await (const event of monitor) {
      // The first reading tells what there is.
      if (quiet && event.type === "resync-end") {
        quiet = false;
        continue;
      }
      if (quiet || !isWanted(event, flags.state)) continue;
      const time = new Date().toISOString();
      if (common.json) terminal.stdout.write(jsonLine({ time, ...event }));
      else terminal.stdout.write((flags.timestamps ? `${time} ` : "") + eventText(event) + "\n");
    }
  } finally {
    await monitor.close();
  }
  return 0;
}

function isWanted(event: NeighborEvent, states: readonly string[]): boolean {
  if (states.length === 0 || !("neighbor" in event)) return true;
  return states.includes(event.neighbor.state) ||
    event.previous !== undefined && states.includes(event.previous.state);
}

function eventText(event: NeighborEvent): string {
  if (event.type === "resync-start") return `resync ${event.reason}`;
  if (event.type === "resync-end") {
    const { added, changed, removed, lost } = event;
    return `synced ${added} added, ${changed} changed, ${removed} removed, ${lost} lost`;
  }
  const { type, neighbor, previous } = event;
  const before = previous === undefined ? "" : ` (was ${factsText(previous)})`;
  return `${type} ${neighbor.ifname} ${neighbor.ip} ${factsText(neighbor)}${before}`;
}

function factsText({ mac, state }: Neighbor): string {
  return `${mac ?? "-"} ${state}`;
}
