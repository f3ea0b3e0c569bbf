/**
 * `proxy tools`: outbounds by hand.
 *
 * @module
 */

import { readFile } from "node:fs/promises";
import { STREAM_END } from "../ffi/mod.ts";
import { type CommandInput, UsageError } from "../internal/cli/command.ts";
import { jsonLine } from "../internal/cli/output.ts";
import { systemClock } from "../internal/time/clock.ts";
import { readConfig } from "./cli_config.ts";
import type { RunFlags } from "./cli_run.ts";
import type { Duplex } from "./duplex.ts";
import { startProxy } from "./engine.ts";
import { fetchVia } from "./fetch.ts";
import { isGroup } from "./groups.ts";
import { measureDelay } from "./health.ts";
import { type Endpoint, parseEndpoint } from "./protocol/mod.ts";
import { sendAll } from "./reading.ts";
import type { ProxyServer } from "./server.ts";
import type { TlsTrust } from "./tls_stream.ts";

/** Flags of `tools`. */
export interface ToolsFlags extends RunFlags {
  readonly outbound: string | undefined;
  readonly timeout: number;
  readonly url: string;
  readonly ca: string | undefined;
}

type Input = CommandInput<object, ToolsFlags>;

/** Connects, fetches or measures. @returns The exit code. */
export async function runTools(input: Input): Promise<number> {
  const { flags, operands } = input;
  const [what, target = ""] = operands;
  if (what !== "connect" && what !== "fetch" && what !== "urltest") {
    throw new UsageError(
      `Cannot run tools ${JSON.stringify(what)}: expected connect, fetch or urltest`,
      "--help shows them",
    );
  }
  const destination = what === "connect" ? parseEndpoint(target) : undefined;
  if (what === "connect" && destination === undefined) {
    throw new UsageError(
      `Cannot connect to ${JSON.stringify(target)}: expected host:port`,
      "write an IPv6 address as [address]:port",
    );
  }
  if (what !== "connect") checkUrl(what === "fetch" ? target : flags.url);
  const tls: TlsTrust = flags.ca === undefined ? {} : { ca: await readFile(flags.ca, "utf8") };
  const places = { files: flags.config, folder: flags.configDirectory };
  const config = await readConfig(places, flags.directory);
  if (what === "urltest" && !config.outbounds.some(({ tag }) => tag === target)) {
    const tags = config.outbounds.map(({ tag }) => JSON.stringify(tag)).join(", ");
    throw new UsageError(
      `Cannot measure ${JSON.stringify(target)}: the configuration has no such outbound`,
      `there are ${tags}`,
    );
  }
  // A proxy of the same configuration that runs has its file open.
  const cacheFile = { ...config.experimental.cacheFile, enabled: false };
  const experimental = { ...config.experimental, cacheFile };
  const proxy = await startProxy({ ...config, experimental, inbounds: [] }, {
    driver: flags.driver,
    folder: flags.directory,
  });
  try {
    if (what === "urltest") return await measure(proxy, target, tls, input);
    return await use(proxy, destination ?? target, tls, input);
  } finally {
    await proxy.close();
  }
}

function checkUrl(text: string): void {
  const protocol = URL.canParse(text) ? new URL(text).protocol : "";
  if (protocol === "http:" || protocol === "https:") return;
  throw new UsageError(
    `Cannot use the URL ${JSON.stringify(text)}: expected one that begins with http:// or https://`,
    "write it out, as https://example.com/",
  );
}

async function use(
  proxy: ProxyServer,
  target: Endpoint | string,
  tls: TlsTrust,
  { flags, terminal, signal }: Input,
): Promise<number> {
  const outbound = proxy.outbound(flags.outbound);
  const limit = AbortSignal.any([signal, AbortSignal.timeout(flags.timeout * 1000)]);
  if (typeof target !== "string") {
    await connectHere(
      await outbound.dial(target, { signal: limit }),
      target,
      (bytes) => terminal.stdout.write(bytes),
    );
    return 0;
  }
  const response = await fetchVia(outbound, target, { signal: limit, tls });
  terminal.stderr.write(`${response.status} ${response.statusText}\n`);
  for await (const piece of response.body ?? []) terminal.stdout.write(piece);
  return response.ok ? 0 : 1;
}

/** Measures an outbound, of a group all its members. @returns 0 when one of them answered. */
async function measure(
  proxy: ProxyServer,
  tag: string,
  tls: TlsTrust,
  { flags, common, terminal, signal }: Input,
): Promise<number> {
  const outbound = proxy.outbound(tag);
  const members = isGroup(outbound) ? outbound.members : [tag];
  const left = [...members];
  const found = new Map<string, number | string>();
  const measureNext = async (): Promise<void> => {
    for (let member = left.shift(); member !== undefined; member = left.shift()) {
      try {
        const delay = await measureDelay(proxy.outbound(member), flags.url, {
          clock: systemClock,
          timeoutMs: flags.timeout * 1000,
          signal,
          tls,
        });
        found.set(member, delay);
      } catch (error) {
        signal.throwIfAborted();
        found.set(member, error instanceof Error ? error.message : String(error));
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(MOST_PARALLEL, left.length) }, measureNext));
  for (const member of members) {
    const result = found.get(member)!;
    const answered = typeof result === "number";
    terminal.stdout.write(
      common.json
        ? jsonLine({ outbound: member, ...(answered ? { delayMs: result } : { error: result }) })
        : `${member}\t${answered ? `${result} ms` : result}\n`,
    );
  }
  return [...found.values()].some((result) => typeof result === "number") ? 0 : 1;
}

/** Standard input goes there, what comes from there to standard output. */
async function connectHere(
  stream: Duplex,
  { host }: Endpoint,
  write: (bytes: Uint8Array) => void,
): Promise<void> {
  const { stdin } = await import("node:process");
  const sending = (async () => {
    for await (const piece of stdin as AsyncIterable<Uint8Array>) {
      await sendAll(stream, new Uint8Array(piece), `send to ${host}`);
    }
    stream.end();
  })();
  // The other direction says what went wrong.
  sending.catch(() => {});
  const buffer = new Uint8Array(65_536);
  for (;;) {
    const count = await stream.receive(buffer, 0, buffer.length);
    if (count <= STREAM_END) break;
    write(buffer.slice(0, count));
  }
  stdin.destroy();
  await stream.close();
}

const MOST_PARALLEL = 10;
