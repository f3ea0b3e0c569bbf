/**
 * Reading and clearing the published table in steps that never hold the server for long.
 *
 * @module
 */

import type { RedisLink } from "../internal/redis_link.ts";
import { READ_FINAL_SCRIPT, READ_PENDING_SCRIPT, type TableNames } from "./redis_table.ts";
import type { PendingNeighbor, SinkSchema, SinkTable, StoredNeighbor } from "./sink.ts";

/** Keys looked at in one step: about 2 ms of the server's time. */
const STEP = "1000";

/** Reads final entries and staged changes, those first (see {@linkcode Sink.readAll}). */
export async function readTable(
  link: RedisLink,
  schema: SinkSchema,
  names: TableNames,
  isCluster: boolean,
): Promise<SinkTable> {
  const pending = schema === "plain"
    ? new Map<string, PendingNeighbor>()
    : await readPending(link, names);
  const final = isCluster
    ? await readFinalOfCluster(link, names)
    : await readFinal(link, names.final);
  return { final, pending };
}

/** Deletes every key that matches a pattern, in steps. */
export async function removeMatching(link: RedisLink, pattern: string): Promise<void> {
  let cursor = "0";
  do {
    const reply = await link.send(["SCAN", cursor, "MATCH", pattern, "COUNT", STEP], "scan keys");
    const { next, keys } = scanned(reply);
    if (keys.length > 0) await link.send(["DEL", ...keys], "delete keys");
    cursor = next;
  } while (cursor !== "0");
}

/**
 * Names of keys in another database of the same server that match a pattern, in steps.
 *
 * @param atMost Stops once so many were found.
 */
export async function findKeys(
  link: RedisLink,
  database: number,
  pattern: string,
  atMost: number = Infinity,
): Promise<string[]> {
  const found: string[] = [];
  let cursor = "0";
  do {
    const command = ["SCAN", cursor, "MATCH", pattern, "COUNT", STEP];
    const [reply] = await link.inDatabase(database, [command], "scan keys");
    const { next, keys } = scanned(reply);
    found.push(...keys);
    cursor = next;
  } while (cursor !== "0" && found.length < atMost);
  return found;
}

async function readFinal(link: RedisLink, prefix: string): Promise<Map<string, StoredNeighbor>> {
  const final = new Map<string, StoredNeighbor>();
  let cursor = "0";
  do {
    const { next, list } = packed(
      await link.send(
        ["EVAL", READ_FINAL_SCRIPT, "0", cursor, `${prefix}*`, String(prefix.length), STEP],
        "read the table",
      ),
    );
    cursor = next;
    for (let i = 0; i + 2 < list.length; i += 3) {
      final.set(list[i]!, { mac: list[i + 1]!, family: list[i + 2]! });
    }
  } while (cursor !== "0");
  return final;
}

async function readPending(
  link: RedisLink,
  names: TableNames,
): Promise<Map<string, PendingNeighbor>> {
  const pending = new Map<string, PendingNeighbor>();
  const { keySet, delSet, staged } = names;
  let cursor = "0";
  do {
    const { next, list } = packed(
      await link.send(
        ["EVAL", READ_PENDING_SCRIPT, "2", keySet, delSet, cursor, staged, STEP],
        "read staged changes",
      ),
    );
    cursor = next;
    for (let i = 0; i + 3 < list.length; i += 4) {
      const mac = list[i + 2]!, family = list[i + 3]!;
      pending.set(list[i]!, {
        deletes: list[i + 1] === "D",
        staged: mac === "" && family === "" ? undefined : { mac, family },
      });
    }
  } while (cursor !== "0");
  return pending;
}

/** A script may not touch several slots, so here the hashes are asked for one by one, many at a time. */
async function readFinalOfCluster(
  link: RedisLink,
  names: TableNames,
): Promise<Map<string, StoredNeighbor>> {
  const final = new Map<string, StoredNeighbor>();
  const pattern = `${names.final}*`;
  const words = ["MATCH", pattern, "COUNT", STEP];
  const first = await link.sendToNodes(["SCAN", "0", ...words], "read the table");
  for (const { index, reply } of first) {
    for (let { next, keys } = scanned(reply);;) {
      const hashes = await link.sendAll(
        keys.map((key) => ({ args: ["HMGET", key, "neigh", "family"], key })),
        "read the table",
      );
      keys.forEach((key, at) => {
        const [mac = "", family = ""] = texts(hashes[at]);
        final.set(key.slice(names.final.length), { mac, family });
      });
      if (next === "0") break;
      const more = await link.sendToNode(index, ["SCAN", next, ...words], "read the table");
      ({ next, keys } = scanned(more));
    }
  }
  return final;
}

/** A cursor, and strings that the server packed into a text; where there are none, it cannot tell a list from an object. */
function packed(reply: unknown): { readonly next: string; readonly list: readonly string[] } {
  const [next, text] = texts(reply);
  const list: unknown = JSON.parse(text ?? "[]");
  return { next: next ?? "0", list: texts(list) };
}

function scanned(reply: unknown): { readonly next: string; readonly keys: string[] } {
  const [next, keys] = Array.isArray(reply) ? reply : ["0", []];
  return { next: String(next), keys: texts(keys) };
}

/** A reply as strings; what is missing becomes an empty one. */
function texts(reply: unknown): string[] {
  if (!Array.isArray(reply)) return [];
  return reply.map((value) => value === null || value === undefined ? "" : String(value));
}
