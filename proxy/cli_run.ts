/**
 * `proxy run`: a proxy until a signal ends it; SIGHUP reads the configuration again.
 *
 * @module
 */

import process from "node:process";
import {
  CapabilityError,
  formatAddress,
  openSharedLoop,
  releaseMemory,
  type SharedLoop,
} from "../ffi/mod.ts";
import type { CommandInput } from "../internal/cli/command.ts";
import { tapLogging } from "../internal/cli/logging.ts";
import { jsonLine } from "../internal/cli/output.ts";
import { onSignals } from "../internal/cli/terminal.ts";
import { IdleMemory } from "../internal/idle_memory.ts";
import { logger } from "../internal/log.ts";
import type { ClashApiServer } from "./clash_api.ts";
import { readConfig } from "./cli_config.ts";
import { LogSection } from "./cli_log.ts";
import type { ProxyConfig } from "./config_types.ts";
import { startProxy } from "./engine.ts";
import { LogFeed } from "./log_feed.ts";
import type { ProxyServer } from "./server.ts";

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
  const logging = new LogSection(input);
  await logging.follow(config.log);
  const loop = await sharedLoop(flags.driver);
  let proxy: ProxyServer;
  try {
    proxy = await startProxy(config, {
      driver: flags.driver,
      folder: flags.directory,
      ...(loop === undefined ? {} : { loop }),
    });
  } catch (error) {
    // It would keep the process from ending.
    await loop?.close();
    throw error;
  }
  const say = (event: object, words: string): void =>
    terminal.stderr.write(common.json ? jsonLine(event) : `${words}\n`);
  const { driver, fallbackReason } = proxy.snapshot();
  if (verbosity > 0) {
    const why = fallbackReason === "" ? "" : ` (${fallbackReason})`;
    say({ type: "driver", driver, why: fallbackReason }, `driver ${driver}${why}`);
  }
  const control = new Control(proxy, flags, () => reload());
  let reloading = Promise.resolve();
  const reload = (): Promise<void> => {
    const done = reloading.then(async () => {
      await proxy.use(await readConfig(places, flags.directory));
      await logging.follow(proxy.config.log).catch((error) => {
        log.error("the log goes on where it was: {error}", { error });
      });
      announce(proxy, say);
      await control.follow(say);
      log.info("took the configuration again");
    });
    reloading = done.catch((error) => {
      // The old one goes on: a mistake in a file must not end what works.
      log.error("kept the old configuration: {error}", { error });
    });
    return done;
  };
  // Whoever reads that it listens may send it.
  const forget = onSignals(["SIGHUP"], () => void reload().catch(() => {}));
  announce(proxy, say);
  const opening = control.follow(say);
  reloading = opening.catch(() => {});
  try {
    await opening;
  } catch (error) {
    forget();
    await proxy.close();
    await loop?.close();
    throw error;
  }
  // Of the memory that starting takes much is not needed again; after a burst of connections, too.
  await releaseMemory();
  const idle = new IdleMemory({
    work: () => {
      const { opened, traffic } = proxy.snapshot();
      return opened + traffic.upload + traffic.download;
    },
    resident: () => process.memoryUsage.rss(),
    release: releaseMemory,
  });
  await new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
  forget();
  idle.close();
  await reloading;
  await control.close();
  await proxy.close({ graceMs: Math.min(common.graceMs, STOP_MS) });
  await loop?.close();
  logging.close();
  return 0;
}

/** The process is a proxy and nothing else: it waits in one place. */
async function sharedLoop(driver: RunFlags["driver"]): Promise<SharedLoop | undefined> {
  if (driver === "portable") return undefined;
  try {
    return await openSharedLoop();
  } catch (error) {
    if (driver === "auto" && error instanceof CapabilityError) return undefined;
    throw error;
  }
}

/** The control interface that the configuration in force asks for. */
class Control {
  readonly #proxy: ProxyServer;
  readonly #flags: RunFlags;
  readonly #reread: () => Promise<void>;
  readonly #logs = new LogFeed();
  #server: ClashApiServer | undefined;
  #untap: (() => Promise<void>) | undefined;
  /** What is served, as text. */
  #text: string | undefined;

  constructor(proxy: ProxyServer, flags: RunFlags, reread: () => Promise<void>) {
    this.#proxy = proxy;
    this.#flags = flags;
    this.#reread = reread;
  }

  /** Opens it, closes it, or opens it anew when its configuration changed. */
  async follow(say: (event: object, words: string) => void): Promise<void> {
    const config: ProxyConfig["experimental"]["clashApi"] =
      this.#proxy.config.experimental.clashApi;
    const text = JSON.stringify(config);
    if (text === this.#text) return;
    await this.close();
    if (config === undefined) return;
    const { serveClashApi } = await import("./clash_api.ts");
    this.#server = await serveClashApi(this.#proxy, config, {
      driver: this.#flags.driver,
      logs: this.#logs,
      reread: this.#reread,
    });
    this.#text = text;
    this.#untap = await tapLogging(this.#logs.sink);
    const { address } = this.#server;
    say(
      { type: "listening", protocol: "tcp", address, inbound: "clash_api", tag: "" },
      `listening tcp ${address} clash_api`,
    );
  }

  async close(): Promise<void> {
    this.#text = undefined;
    await this.#untap?.();
    this.#untap = undefined;
    await this.#server?.close();
    this.#server = undefined;
  }
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
