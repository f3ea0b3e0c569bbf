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

// Arguments of both writing scripts: prefix of the hashes, the same of routes, the routes and the changes, both as JSON, the
// routes as an empty text when there are none. A change is two strings: its key, and the family followed by the MAC, or
// nothing for a deletion. One argument is a fifth of the client's work that two for each change are (its encoder measures and
// joins every one), and no more for the server, whose own decoder takes it apart; there is no separator that a name of an
// interface could contain. Two strings instead of four, and one SADD for all keys, are worth a fifth of the throughput.
//
// Hashes come first and the sets last: a script that the server stops half-way, on a wrong type for instance, leaves staged
// hashes that nobody looks at, never a key without fields, which the consumer would take for a deletion.
const SET_HASH = `local call, pcall, sub, prefix = redis.call, redis.pcall, string.sub, ARGV[1]
local function set(name, value)
  local reply = pcall('HSET', name, '${FIELD_MAC}', sub(value, 5), '${FIELD_FAMILY}', sub(value, 1, 4))
  if type(reply) ~= 'table' then return end
  if not string.find(reply.err, 'WRONGTYPE', 1, true) then return reply end
  call('DEL', name)
  call('HSET', name, '${FIELD_MAC}', sub(value, 5), '${FIELD_FAMILY}', sub(value, 1, 4))
end
local routes = ARGV[3] == '' and {} or cjson.decode(ARGV[3])
for _, route in ipairs(routes) do call('DEL', ARGV[2] .. route) end
local changes = cjson.decode(ARGV[4])
`;

/** Stages changes. Keys: key set, deletion set and channel of the neighbours, the same of the routes. */
export const STAGE_SCRIPT: string = `${SET_HASH}local function add(name, list)
  local added = 0
  for i = 1, #list, 1000 do
    added = added + call('SADD', name, unpack(list, i, math.min(i + 999, #list)))
  end
  return added
end
add(KEYS[5], routes)
if add(KEYS[4], routes) > 0 then call('PUBLISH', KEYS[6], '${CHANNEL_MESSAGE}') end
local keys, gone = {}, {}
for i = 1, #changes, 2 do
  local key, value = changes[i], changes[i + 1]
  keys[#keys + 1] = key
  if value == '' then
    gone[#gone + 1] = key
    call('DEL', prefix .. key)
  else
    local failure = set(prefix .. key, value)
    if failure then return failure end
  end
end
add(KEYS[2], gone)
if add(KEYS[1], keys) > 0 then call('PUBLISH', KEYS[3], '${CHANNEL_MESSAGE}') end
return #keys`;

/** Writes final hashes. No keys are named; arguments as above. */
export const PLAIN_SCRIPT: string = `${SET_HASH}for i = 1, #changes, 2 do
  if changes[i + 1] == '' then
    call('DEL', prefix .. changes[i])
  else
    local failure = set(prefix .. changes[i], changes[i + 1])
    if failure then return failure end
  end
end
return #changes / 2`;

/**
 * One step through the final hashes. Arguments: cursor, pattern, length of the prefix, how many to look at. Answers with
 * the next cursor and, as JSON, three strings per entry: key, MAC, family, empty where a field is missing. One text instead of
 * thousands is 40 % less time for 20,000 entries, of the server and of the client's decoder together.
 */
export const READ_FINAL_SCRIPT: string = `local pcall, sub = redis.pcall, string.sub
local found = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[4])
local list, n, from = {}, 0, tonumber(ARGV[3]) + 1
for _, name in ipairs(found[2]) do
  local hash = pcall('HMGET', name, '${FIELD_MAC}', '${FIELD_FAMILY}')
  list[n + 1], list[n + 2], list[n + 3] = sub(name, from), hash[1] or '', hash[2] or ''
  n = n + 3
end
return {found[1], cjson.encode(list)}`;

/**
 * One step through what is staged. Keys: key set, deletion set. Arguments: cursor, prefix of staged hashes, how many to
 * look at. Answers with the next cursor and, as JSON, four strings per entry: key, `D` when the final hash goes first, MAC,
 * family.
 */
export const READ_PENDING_SCRIPT: string = `local call, pcall = redis.call, redis.pcall
local found = call('SSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[3])
local list, n = {}, 0
for _, key in ipairs(found[2]) do
  local hash = pcall('HMGET', ARGV[2] .. key, '${FIELD_MAC}', '${FIELD_FAMILY}')
  list[n + 1], list[n + 2] = key, call('SISMEMBER', KEYS[2], key) == 1 and 'D' or ''
  list[n + 3], list[n + 4] = hash[1] or '', hash[2] or ''
  n = n + 4
end
return {found[1], cjson.encode(list)}`;

/** Keys and arguments of a writing script: the part of EVAL and EVALSHA that follows the script. */
export function scriptArguments(
  schema: SinkSchema,
  neighbors: TableNames,
  routes: TableNames,
  batch: readonly SinkOperation[],
  start: number,
  end: number,
): string[] {
  const gone: string[] = [];
  const changes: string[] = [];
  for (let i = start; i < end; i++) {
    const { op, key, mac, family, route } = batch[i]!;
    if (route !== undefined) gone.push(route);
    changes.push(key, op === "set" ? family + mac : "");
  }
  const texts = [gone.length === 0 ? "" : JSON.stringify(gone), JSON.stringify(changes)];
  if (schema === "plain") return ["0", neighbors.final, routes.final, ...texts];
  return [
    "6",
    neighbors.keySet,
    neighbors.delSet,
    neighbors.channel,
    routes.keySet,
    routes.delSet,
    routes.channel,
    neighbors.staged,
    routes.staged,
    ...texts,
  ];
}

/** The family of an address as text. */
export function familyOf(address: string): NeighborFamily {
  return address.includes(":") ? "IPv6" : "IPv4";
}
