/**
 * The published tables in Redis: names of keys and fields, and the scripts that change and read them in one step.
 *
 * A producer-state table stages changes: `<T>_KEY_SET` names the keys with pending work, `<T>_DEL_SET` those whose final
 * hash goes first, `_<T>:<key>` holds the staged fields, and a message on `<T>_CHANNEL@<database>` wakes the consumer,
 * which moves them to `<T>:<key>`.
 *
 * @module
 */

import type { NeighborFamily, SinkOperation, SinkSchema } from "./sink.ts";

/** Table of neighbours. */
export const NEIGH_TABLE = "NEIGH_TABLE";
/** Table of routes, of which host routes are deleted for neighbours (rule 10). */
export const ROUTE_TABLE = "ROUTE_TABLE";
/** Field with the link-layer address. */
export const FIELD_MAC = "neigh";
/** Field with the address family. */
export const FIELD_FAMILY = "family";
/** What a producer publishes: something is pending. */
export const CHANNEL_MESSAGE = "G";

/** Names in one database. */
export interface TableNames {
  /** `NEIGH_TABLE_KEY_SET`. */
  readonly keySet: string;
  /** `NEIGH_TABLE_DEL_SET`. */
  readonly delSet: string;
  /** `NEIGH_TABLE_CHANNEL@0`. */
  readonly channel: string;
  /** `NEIGH_TABLE:`, before the key of a final hash. */
  readonly final: string;
  /** `_NEIGH_TABLE:`, before the key of a staged hash. */
  readonly staged: string;
}

/** The names a table goes by. */
export function tableNames(table: string, database: number, separator: string): TableNames {
  return {
    keySet: `${table}_KEY_SET`,
    delSet: `${table}_DEL_SET`,
    channel: `${table}_CHANNEL@${database}`,
    final: `${table}${separator}`,
    staged: `_${table}${separator}`,
  };
}

// Arguments of both writing scripts: prefix of the hashes, the same of routes, number of routes, the routes, and two
// strings per change: its key, and the family followed by the MAC, or nothing for a deletion. Two strings instead of four
// are worth a fifth of the throughput (180,000 against 250,000 changes/s in batches of 100, together with one SADD for all keys).
//
// Hashes come first and the sets last: a script that the server stops half-way, on a wrong type for instance, leaves staged
// hashes that nobody looks at, never a key without fields, which the consumer would take for a deletion.
const SET_HASH = `local function set(name, value)
  local reply = redis.pcall('HSET', name, '${FIELD_MAC}', string.sub(value, 5), '${FIELD_FAMILY}', string.sub(value, 1, 4))
  if type(reply) ~= 'table' then return end
  if not string.find(reply.err, 'WRONGTYPE', 1, true) then return reply end
  redis.call('DEL', name)
  redis.call('HSET', name, '${FIELD_MAC}', string.sub(value, 5), '${FIELD_FAMILY}', string.sub(value, 1, 4))
end
local routes = tonumber(ARGV[3])
`;

/** Stages changes. Keys: key set, deletion set and channel of the neighbours, the same of the routes. */
export const STAGE_SCRIPT: string = `${SET_HASH}local function add(name, list)
  local added = 0
  for i = 1, #list, 1000 do
    added = added + redis.call('SADD', name, unpack(list, i, math.min(i + 999, #list)))
  end
  return added
end
if routes > 0 then
  local gone = {}
  for i = 4, 3 + routes do
    redis.call('DEL', ARGV[2] .. ARGV[i])
    gone[#gone + 1] = ARGV[i]
  end
  add(KEYS[5], gone)
  if add(KEYS[4], gone) > 0 then redis.call('PUBLISH', KEYS[6], '${CHANNEL_MESSAGE}') end
end
local keys, gone = {}, {}
for i = 4 + routes, #ARGV, 2 do
  local key, value = ARGV[i], ARGV[i + 1]
  keys[#keys + 1] = key
  if value == '' then
    gone[#gone + 1] = key
    redis.call('DEL', ARGV[1] .. key)
  else
    local failure = set(ARGV[1] .. key, value)
    if failure then return failure end
  end
end
add(KEYS[2], gone)
if add(KEYS[1], keys) > 0 then redis.call('PUBLISH', KEYS[3], '${CHANNEL_MESSAGE}') end
return #keys`;

/** Writes final hashes. No keys are named; arguments as above. */
export const PLAIN_SCRIPT: string = `${SET_HASH}for i = 4, 3 + routes do
  redis.call('DEL', ARGV[2] .. ARGV[i])
end
local count = 0
for i = 4 + routes, #ARGV, 2 do
  count = count + 1
  if ARGV[i + 1] == '' then
    redis.call('DEL', ARGV[1] .. ARGV[i])
  else
    local failure = set(ARGV[1] .. ARGV[i], ARGV[i + 1])
    if failure then return failure end
  end
end
return count`;

/**
 * One step through the final hashes. Arguments: cursor, pattern, length of the prefix, how many to look at. Answers with
 * the next cursor and three strings per entry: key, MAC, family, empty where a field is missing.
 */
export const READ_FINAL_SCRIPT: string =
  `local found = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[4])
local reply, from = {found[1]}, tonumber(ARGV[3]) + 1
for _, name in ipairs(found[2]) do
  local hash = redis.pcall('HMGET', name, '${FIELD_MAC}', '${FIELD_FAMILY}')
  reply[#reply + 1] = string.sub(name, from)
  reply[#reply + 1] = hash[1] or ''
  reply[#reply + 1] = hash[2] or ''
end
return reply`;

/**
 * One step through what is staged. Keys: key set, deletion set. Arguments: cursor, prefix of staged hashes, how many to
 * look at. Answers with the next cursor and four strings per entry: key, `D` when the final hash goes first, MAC, family.
 */
export const READ_PENDING_SCRIPT: string =
  `local found = redis.call('SSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[3])
local reply = {found[1]}
for _, key in ipairs(found[2]) do
  local hash = redis.pcall('HMGET', ARGV[2] .. key, '${FIELD_MAC}', '${FIELD_FAMILY}')
  reply[#reply + 1] = key
  reply[#reply + 1] = redis.call('SISMEMBER', KEYS[2], key) == 1 and 'D' or ''
  reply[#reply + 1] = hash[1] or ''
  reply[#reply + 1] = hash[2] or ''
end
return reply`;

/** Keys and arguments of a writing script: the part of EVAL and EVALSHA that follows the script. */
export function scriptArguments(
  schema: SinkSchema,
  neighbors: TableNames,
  routes: TableNames,
  batch: readonly SinkOperation[],
  start: number,
  end: number,
): string[] {
  const args = schema === "plain" ? ["0", neighbors.final, routes.final, ""] : [
    "6",
    neighbors.keySet,
    neighbors.delSet,
    neighbors.channel,
    routes.keySet,
    routes.delSet,
    routes.channel,
    neighbors.staged,
    routes.staged,
    "",
  ];
  const countAt = args.length - 1;
  for (let i = start; i < end; i++) {
    const { route } = batch[i]!;
    if (route !== undefined) args.push(route);
  }
  args[countAt] = String(args.length - 1 - countAt);
  for (let i = start; i < end; i++) {
    const { op, key, mac, family } = batch[i]!;
    args.push(key, op === "set" ? family + mac : "");
  }
  return args;
}

/** The family of an address as text. */
export function familyOf(address: string): NeighborFamily {
  return address.includes(":") ? "IPv6" : "IPv4";
}
