/**
 * `proxy run`: a proxy until a signal ends it; SIGHUP reads the configuration again.
 *
 * @module
 */

import { formatAddress } from "../ffi/mod.ts";
import type { CommandInput } from "../internal/cli/command.ts";
import { jsonLine } from "../internal/cli/output.ts";
import { onSignals } from "../internal/cli/terminal.ts";
import { logger } from "../internal/log.ts";
import { readConfig } from "./cli_config.ts";
import { type ProxyServer, startProxy } from "./engine.ts";

/** Flags of `run`. */
export interface RunFlags {
  readonly config: readonly string[];
  readonly configDirectory: string | undefined;
  readonly directory: string;
  readonly driver: "auto" | "fast" | "portable";
}

/** Runs a proxy. @returns The exit code. */
export async function runProxy(input: CommandInput<object, RunFlags>): Promise<number> {
  const { flags, common, terminal, signal, verbosity } = input;
  const places = { files: flags.config, folder: flags.configDirectory };
  const config = await readConfig(places, flags.directory);
  const proxy = await startProxy(config, { driver: flags.driver, folder: flags.directory });
  const say = (event: object, words: string): void =>
    terminal.stderr.write(common.json ? jsonLine(event) : `${words}\n`);
  const { driver, fallbackReason } = proxy.snapshot();
  if (verbosity > 0) {
    const why = fallbackReason === "" ? "" : ` (${fallbackReason})`;
    say({ type: "driver", driver, why: fallbackReason }, `driver ${driver}${why}`);
  }
  announce(proxy, say);
  let reloading = Promise.resolve();
  const forget = onSignals(["SIGHUP"], () => {
    reloading = reloading.then(async () => {
      try {
        await proxy.use(await readConfig(places, flags.directory));
        announce(proxy, say);
        log.info("took the configuration again");
      } catch (error) {
        // The old one goes on: a mistake in a file must not end what works.
        log.error("kept the old configuration: {error}", { error });
      }
    });
  });
  await new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
  forget();
  await reloading;
  await proxy.close({ graceMs: Math.min(common.graceMs, STOP_MS) });
  return 0;
}

function announce(proxy: ProxyServer, say: (event: object, words: string) => void): void {
  for (const { type, tag, networks, addresses } of proxy.inbounds) {
    for (const address of addresses) {
      const shown = formatAddress(address);
      const network = networks.join("+");
      say(
        { type: "listening", protocol: network, address: shown, inbound: type, tag },
        `listening ${network} ${shown} ${type}/${tag}`,
      );
    }
  }
}

const log = logger("proxy");
/** Longest wait for connections that run; proxy.md §2.2. */
const STOP_MS = 5000;
