/**
 * Words with units, as people write them in flags and configuration files. Parsers answer `undefined` for what they do
 * not understand; formatters write the shortest exact form that the parser reads back.
 *
 * @module
 */

const DURATIONS: readonly (readonly [string, number])[] = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["m", 60_000],
  ["s", 1000],
  ["ms", 1],
];

/**
 * Reads `500ms`, `10s`, `2m`, `1h`, `1.5s`, `1d`; a bare number is milliseconds.
 *
 * @returns Milliseconds, or `undefined` when it is not a duration.
 */
export function parseDuration(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)?$/.exec(text.trim());
  if (match === null) return undefined;
  return scaled(match[1]!, DURATIONS.find(([unit]) => unit === (match[2] ?? "ms"))![1]);
}

/** Writes whole milliseconds as {@linkcode parseDuration} reads them: `90s`, `1500ms`. */
export function formatDuration(ms: number): string {
  return exact(ms, DURATIONS, "0ms");
}

const SIZES: readonly (readonly [string, number])[] = [
  ["TiB", 2 ** 40],
  ["GiB", 2 ** 30],
  ["MiB", 2 ** 20],
  ["KiB", 2 ** 10],
  ["B", 1],
];

const DECIMAL = { "": 1, k: 1e3, m: 1e6, g: 1e9, t: 1e12 } as const;
const BINARY = { "": 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 } as const;

/**
 * Reads `512`, `64K`, `8MiB`, `10MB`. `K`, `Ki` and `KiB` are 1024 bytes, `kB` and `KB` are 1000.
 *
 * @returns Bytes, or `undefined` when it is not a size of whole bytes.
 */
export function parseSize(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)(b?)$/i.exec(text.trim());
  if (match === null) return undefined;
  const prefix = match[2]!.toLowerCase() as keyof typeof BINARY;
  if (prefix === "" && match[3] !== "") return undefined;
  const decimal = match[3] === "" && match[4] !== "";
  return scaled(match[1]!, (decimal ? DECIMAL : BINARY)[prefix]);
}

/** Writes whole bytes as {@linkcode parseSize} reads them: `8MiB`, `1468B`. */
export function formatSize(bytes: number): string {
  return exact(bytes, SIZES, "0B");
}

const RATES: readonly (readonly [string, number])[] = [
  ["T", 1e12],
  ["G", 1e9],
  ["M", 1e6],
  ["k", 1e3],
  ["", 1],
];

/**
 * Reads a rate in bits per second with decimal prefixes: `100M`, `1.5G`, `64kbps`, `9600`.
 *
 * @returns Bits per second, or `undefined` when it is not a whole rate.
 */
export function parseRate(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgt]?)(?:bps|bit\/s)?$/i.exec(text.trim());
  if (match === null) return undefined;
  return scaled(match[1]!, DECIMAL[match[2]!.toLowerCase() as keyof typeof DECIMAL]);
}

/** Writes whole bits per second as {@linkcode parseRate} reads them: `100M`. */
export function formatRate(bps: number): string {
  return exact(bps, RATES, "0");
}

/** A host and a port, either of which may have been left out. */
export interface Endpoint {
  /** A name or an address without brackets; `""` when left out. */
  readonly host: string;
  /** 0 to 65535; `undefined` when left out. */
  readonly port: number | undefined;
}

/**
 * Reads `host`, `host:port`, `[v6]:port`, `[v6]`, a bare IPv6 address, and `:port`.
 *
 * @returns The parts, or `undefined` when it is none of these.
 */
export function parseEndpoint(text: string): Endpoint | undefined {
  const bracketed = /^\[([0-9a-fA-F:.]+(?:%[\w.-]+)?)\](?::(\d{1,5}))?$/.exec(text);
  if (bracketed !== null) return endpointOf(bracketed[1]!, bracketed[2]);
  // Two colons without brackets can only be an address: the port of an IPv6 host needs brackets (RFC 3986 §3.2.2).
  if (/:.*:/.test(text)) {
    return /^[0-9a-fA-F:.]+(?:%[\w.-]+)?$/.test(text) ? { host: text, port: undefined } : undefined;
  }
  const plain = /^([\w.-]*)(?::(\d{1,5}))?$/.exec(text);
  if (plain === null || text === "") return undefined;
  return endpointOf(plain[1]!, plain[2]);
}

/** Writes an endpoint as {@linkcode parseEndpoint} reads it. */
export function formatEndpoint(endpoint: Endpoint): string {
  const host = endpoint.host.includes(":") ? `[${endpoint.host}]` : endpoint.host;
  return endpoint.port === undefined ? host : `${host}:${endpoint.port}`;
}

/** A block of addresses. */
export interface Cidr {
  /** The address as it was written. */
  readonly address: string;
  /** Leading bits that count: 0 to 32, or 0 to 128. */
  readonly prefixBits: number;
}

/**
 * Reads `10.0.0.0/8`, `2001:db8::/32`; a lone address is a block of one.
 *
 * @returns The block, or `undefined` when it is not one.
 */
export function parseCidr(text: string): Cidr | undefined {
  const match = /^([0-9a-fA-F:.]+)(?:\/(\d{1,3}))?$/.exec(text.trim());
  if (match === null) return undefined;
  const address = match[1]!;
  const widest = isIpv4(address) ? 32 : isIpv6(address) ? 128 : -1;
  const prefixBits = match[2] === undefined ? widest : Number(match[2]);
  return prefixBits <= widest && widest > 0 ? { address, prefixBits } : undefined;
}

/** Writes a block as {@linkcode parseCidr} reads it. */
export function formatCidr(cidr: Cidr): string {
  return `${cidr.address}/${cidr.prefixBits}`;
}

function isIpv4(text: string): boolean {
  const parts = text.split(".");
  return parts.length === 4 && parts.every((part) => /^\d{1,3}$/.test(part) && Number(part) < 256);
}

function isIpv6(text: string): boolean {
  const halves = text.split("::");
  if (halves.length > 2 || !text.includes(":")) return false;
  const groups = halves.flatMap((half) => half === "" ? [] : half.split(":"));
  const last = groups.at(-1) ?? "";
  let count = groups.length;
  if (last.includes(".")) {
    if (!isIpv4(last)) return false;
    groups.pop();
    count++;
  }
  if (!groups.every((group) => /^[0-9a-fA-F]{1,4}$/.test(group))) return false;
  return halves.length === 2 ? count < 8 : count === 8;
}

function endpointOf(host: string, port: string | undefined): Endpoint | undefined {
  if (port === undefined) return { host, port: undefined };
  const number = Number(port);
  return number <= 65535 ? { host, port: number } : undefined;
}

function scaled(digits: string, factor: number): number | undefined {
  const value = Number(digits) * factor;
  // 0.1 × 1000 and friends: a decimal fraction of a unit is meant exactly, the binary one is not.
  const whole = Math.round(value);
  const near = Math.abs(value - whole) <= Math.abs(value) * 1e-12;
  return near && Number.isSafeInteger(whole) ? whole : undefined;
}

function exact(
  value: number,
  units: readonly (readonly [string, number])[],
  zero: string,
): string {
  if (value === 0) return zero;
  for (const [unit, factor] of units) if (value % factor === 0) return `${value / factor}${unit}`;
  return `${value}${units.at(-1)![0]}`;
}
