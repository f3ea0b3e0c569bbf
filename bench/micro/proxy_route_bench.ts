/**
 * What routing one connection costs with 100,000 domain suffixes and 20,000 blocks of addresses, after every answer was
 * compared with a straight-line oracle: a mismatch ends the bench. Divide what is printed by the count in the name.
 *
 * `deno bench -A --no-check bench/micro/proxy_route_bench.ts`
 *
 * @module
 */
import { compileRoute, type ConnectionRequest, resolveProxyConfig } from "@fastwire/net/proxy";

const SUFFIXES = 100_000;
const BLOCKS = 20_000;
const REQUESTS = 20_000;

// xorshift32: the same world in every run.
let state = 0x9e37_79b9;
function random(below: number): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % below;
}

function label(): string {
  let text = "";
  for (let n = 3 + random(9); n > 0; n--) text += String.fromCharCode(97 + random(26));
  return text;
}

const TOPS = ["com", "net", "org", "de", "co.uk"];

function name(): string {
  return `${label()}.${TOPS[random(TOPS.length)]}`;
}

function v4(): string {
  return `${1 + random(223)}.${random(256)}.${random(256)}.${random(256)}`;
}

function v6(): string {
  const group = (): string => random(0x1_0000).toString(16);
  return `2001:${group()}:${group()}:${group()}::${group()}`;
}

const suffixes = Array.from({ length: SUFFIXES }, name);
const blocks = Array.from(
  { length: BLOCKS },
  (_, index) => index % 4 === 0 ? `${v6()}/${24 + random(41)}` : `${v4()}/${12 + random(21)}`,
);
const before = performance.now();
const config = resolveProxyConfig({
  outbounds: [{ type: "direct", tag: "direct" }, { type: "block", tag: "block" }],
  route: {
    rules: [
      { domain_suffix: suffixes, outbound: "block" },
      { ip_cidr: blocks, outbound: "block" },
    ],
  },
});
const checked = performance.now();
const plan = compileRoute(config);
const compiled = performance.now();
console.log(
  `checked in ${(checked - before).toFixed(0)} ms, compiled in ${
    (compiled - checked).toFixed(0)
  } ms`,
);

function requestTo(host: string): ConnectionRequest {
  return {
    inbound: "in",
    network: "tcp",
    sourceAddress: "192.0.2.7",
    sourcePort: 40000,
    // As from the wire: decoded bytes, not pieces joined by this program.
    host: new TextDecoder().decode(new TextEncoder().encode(host)),
    port: 443,
  };
}

/** Half of the names are below a suffix. */
const names = Array.from(
  { length: REQUESTS },
  (_, index) =>
    requestTo(index % 2 === 0 ? `${label()}.${suffixes[random(SUFFIXES)]}` : `www.${name()}`),
);
/** Half of the addresses are within a block, but for the last bits. */
const addresses = Array.from({ length: REQUESTS }, (_, index) => {
  const near = blocks[random(BLOCKS)]!.split("/")[0]!;
  return requestTo(index % 2 === 0 ? near : index % 4 === 1 ? v4() : v6());
});

function number(host: string): bigint {
  if (!host.includes(":")) return host.split(".").reduce((sum, n) => sum * 256n + BigInt(n), 0n);
  const [head = "", tail = ""] = host.split("::");
  const [left, right] = [head.split(":"), tail.split(":")];
  const zeros: string[] = new Array(8 - left.length - right.length).fill("0");
  return [...left, ...zeros, ...right].reduce((sum, n) => sum * 65536n + BigInt(`0x${n}`), 0n);
}

/** Counts answers that differ from a plain one. */
function mismatches(): number {
  const known = new Set(suffixes);
  let wrong = 0;
  for (const request of names) {
    const labels = request.host.split(".");
    const expected = labels.some((_, at) => known.has(labels.slice(at).join("."))) ? 0 : -1;
    if (plan.match(request) !== expected) wrong++;
  }
  const networks = new Set(blocks.map((block) => {
    const [host = "", bits] = block.split("/");
    const width = host.includes(":") ? 128 : 32;
    return `${width}/${bits}/${number(host) >> BigInt(width - Number(bits))}`;
  }));
  for (const request of addresses) {
    const width = request.host.includes(":") ? 128 : 32;
    const value = number(request.host);
    let expected = -1;
    for (let bits = 0; bits <= width && expected < 0; bits++) {
      if (networks.has(`${width}/${bits}/${value >> BigInt(width - bits)}`)) expected = 1;
    }
    if (plan.match(request) !== expected) wrong++;
  }
  return wrong;
}

const wrong = mismatches();
if (wrong > 0) throw new Error(`Cannot bench the router: ${wrong} answers differ from the oracle`);
console.log(`${names.length + addresses.length} answers compared, no mismatch`);

function route(requests: readonly ConnectionRequest[]): void {
  for (const request of requests) plan.match(request);
}

Deno.bench(`${REQUESTS} names, two rules`, () => route(names));
Deno.bench(`${REQUESTS} addresses, two rules`, () => route(addresses));
