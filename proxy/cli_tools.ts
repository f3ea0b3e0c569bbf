/**
 * `proxy tools`: outbounds by hand.
 *
 * @module
 */

import { STREAM_END } from "../ffi/mod.ts";
import { type CommandInput, UsageError } from "../internal/cli/command.ts";
import { readConfig } from "./cli_config.ts";
import type { Duplex } from "./duplex.ts";
import { startProxy } from "./engine.ts";
import { fetchVia } from "./fetch.ts";
import { type Endpoint, parseEndpoint } from "./protocol/mod.ts";
import { sendAll } from "./reading.ts";
import type { RunFlags } from "./cli_run.ts";
import type { ProxyServer } from "./server.ts";

/** Connects or fetches. @returns The exit code. */
export async function runTools(
  input: CommandInput<
    object,
    RunFlags & { readonly outbound: string | undefined; readonly timeout: number }
  >,
): Promise<number> {
  const { flags, operands, terminal, signal } = input;
  const [what, target = ""] = operands;
  if (what !== "connect" && what !== "fetch") {
    throw new UsageError(
      `Cannot run tools ${JSON.stringify(what)}: expected connect or fetch`,
      "--help shows both",
    );
  }
  const destination = what === "connect" ? parseEndpoint(target) : undefined;
  if (what === "connect" && destination === undefined) {
    throw new UsageError(
      `Cannot connect to ${JSON.stringify(target)}: expected host:port`,
      "write an IPv6 address as [address]:port",
    );
  }
  const places = { files: flags.config, folder: flags.configDirectory };
  const config = await readConfig(places, flags.directory);
  const proxy = await startProxy({ ...config, inbounds: [] }, {
    driver: flags.driver,
    folder: flags.directory,
  });
  try {
    return await use(proxy);
  } finally {
    await proxy.close();
  }
  async function use(proxy: ProxyServer): Promise<number> {
    const outbound = proxy.outbound(flags.outbound);
    const limit = AbortSignal.any([signal, AbortSignal.timeout(flags.timeout * 1000)]);
    if (destination !== undefined) {
      await connectHere(
        await outbound.dial(destination, { signal: limit }),
        destination,
        (bytes) => terminal.stdout.write(bytes),
      );
      return 0;
    }
    const response = await fetchVia(outbound, target, { signal: limit });
    terminal.stderr.write(`${response.status} ${response.statusText}\n`);
    for await (const piece of response.body ?? []) terminal.stdout.write(piece);
    return response.ok ? 0 : 1;
  }
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
