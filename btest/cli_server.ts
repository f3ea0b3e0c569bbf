/**
 * The command `server`: serves until it is stopped, and tells of every test.
 *
 * @module
 */
import { hostname } from "node:os";
import process from "node:process";
import { formatAddress, resolveHost } from "../ffi/mod.ts";
import { type CommandInput, environmentName, UsageError } from "../internal/cli/command.ts";
import { jsonLine } from "../internal/cli/output.ts";
import { logger } from "../internal/log.ts";
import { formatEndpoint } from "../internal/units.ts";
import { MemoryAccounts } from "./accounts_memory.ts";
import type { ServerEvent } from "./api_types.ts";
import { type PasswordSources, readPassword } from "./cli_words.ts";
import { CsvLog, INTERVAL_COLUMNS, intervalRow, RESULT_COLUMNS, resultRow } from "./csv_log.ts";
import { endObject, intervalObject, mbps, startObject, type TestIdentity } from "./report.ts";
import { NO_IPV4, serve } from "./server.ts";
import type { ListenAddress, ResolvedServerSettings } from "./settings.ts";
import { type SyslogFormat, syslogRecords, SyslogSender } from "./syslog.ts";

/** The server's own flags. */
export interface ServerFlags extends PasswordSources {
  readonly port: number | undefined;
  readonly listen6: ListenAddress | undefined;
  readonly user: string | undefined;
  readonly csv: string | undefined;
  readonly csvIntervals: string | undefined;
  readonly syslog: ListenAddress | undefined;
  readonly syslogFormat: SyslogFormat;
}

const log = logger("btest", "cli");
/** Where collectors listen, RFC 5426 §3.3. */
const SYSLOG_PORT = 514;

/** Serves until a signal comes. Answers the exit code. */
export async function runServer(
  { options, flags, given, common, verbosity, terminal, signal }: CommandInput<
    ResolvedServerSettings,
    ServerFlags
  >,
): Promise<number> {
  const listen = listenAddresses(options.listen, given.has("listen"), flags);
  const password = readPassword(
    flags,
    terminal,
    environmentName("btest", "password"),
    options.auth === "none" ? undefined : flags.user,
  );
  const accounts = accountsOf(options.auth, flags.user, password);
  const outputs: Outputs = {
    results: undefined,
    seconds: undefined,
    syslog: undefined,
    say: common.quiet ? () => {} : (words) => terminal.stdout.write(words),
    json: common.json,
  };
  const reopen = (): void => {
    outputs.results?.reopen();
    outputs.seconds?.reopen();
  };
  try {
    await openOutputs(outputs, flags);
    const server = await serve({
      ...options,
      listen,
      accounts,
      onEvent: (event) => {
        // A full disk or a closed pipe is no reason to stop other people's tests.
        try {
          tell(event, outputs);
        } catch (error) {
          log.error("Cannot report a test: {error}", { event: "btest.report-failed", error });
        }
      },
    });
    const announce = (event: object, words: string): void =>
      terminal.stderr.write(common.json ? jsonLine(event) : `${words}\n`);
    for (const address of server.addresses) {
      const shown = formatAddress(address);
      announce({ type: "listening", protocol: "tcp", address: shown }, `listening tcp ${shown}`);
    }
    if (verbosity > 0) {
      const { driver, fallbackReason, workers, auth } = server;
      const why = fallbackReason === "" ? "" : ` (${fallbackReason})`;
      announce(
        { type: "driver", driver, workers, auth, why },
        `driver ${driver}${why}, ${workers} threads, login ${auth}`,
      );
    }
    if (process.platform !== "win32") process.on("SIGHUP", reopen);
    const stopped = new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      signal.addEventListener("abort", () => resolve(), { once: true });
    });
    await Promise.race([stopped, server.finished]);
    const { drainTimeoutMs } = options;
    await server.shutdown({
      graceMs: given.has("drainTimeoutMs") ? drainTimeoutMs : common.graceMs,
    });
    return 0;
  } finally {
    if (process.platform !== "win32") process.off("SIGHUP", reopen);
    outputs.results?.close();
    outputs.seconds?.close();
    await outputs.syslog?.close();
  }
}

/** Both families of words for where to listen, as one list. */
function listenAddresses(
  listen: readonly ListenAddress[],
  given: boolean,
  { port, listen6 }: ServerFlags,
): readonly ListenAddress[] {
  const none = listen.every(({ host }) => host === NO_IPV4);
  if (port !== undefined && given && !none) {
    throw new UsageError("Cannot use --port beside --listen", "write the port as --listen H:P");
  }
  if (none && listen6 === undefined) {
    throw new UsageError("Cannot listen nowhere", "give --listen6, or an address to --listen");
  }
  if (listen6 === undefined) return port === undefined ? listen : [{ host: "::", port }];
  const ipv4 = given ? listen : [{ host: "0.0.0.0", port }];
  return [...ipv4, { host: listen6.host || "::", port: listen6.port ?? port }];
}

interface Outputs {
  results: CsvLog | undefined;
  seconds: CsvLog | undefined;
  syslog: SyslogSender | undefined;
  readonly say: (words: string) => void;
  readonly json: boolean;
}

function accountsOf(
  auth: ResolvedServerSettings["auth"],
  user: string | undefined,
  password: string | undefined,
): MemoryAccounts | undefined {
  if (auth === "none") return undefined;
  if (user === undefined) {
    if (auth === "auto" && password === undefined) return undefined;
    throw new UsageError(
      "Cannot ask for a login: there is no user",
      "give --user and --password-file",
    );
  }
  if (password === undefined) {
    throw new UsageError(
      `Cannot let ${JSON.stringify(user)} in: there is no password`,
      "give --password-file or --password-env; an empty file is an empty password",
    );
  }
  const accounts = new MemoryAccounts();
  accounts.set(user, password, { md5: auth === "md5" });
  return accounts;
}

async function openOutputs(outputs: Outputs, flags: ServerFlags): Promise<void> {
  if (flags.csv !== undefined) outputs.results = new CsvLog(flags.csv, RESULT_COLUMNS);
  if (flags.csvIntervals !== undefined) {
    outputs.seconds = new CsvLog(flags.csvIntervals, INTERVAL_COLUMNS);
  }
  if (flags.syslog === undefined) return;
  const target = await resolveHost(formatEndpoint(flags.syslog), SYSLOG_PORT);
  outputs.syslog = await SyslogSender.open(target, flags.syslogFormat, {
    host: hostname().replace(/[^!-~]/g, "") || "-",
    app: "btest",
    processId: process.pid,
  });
}

function tell(event: ServerEvent, { results, seconds, syslog, say, json }: Outputs): void {
  const now = Date.now();
  syslog?.push(syslogRecords(event), now);
  if (event.kind === "refused") {
    const { peer, reason, user } = event;
    if (json) say(jsonLine({ type: "refused", host: peer.address, port: peer.port, user, reason }));
    return;
  }
  const { session } = event;
  const { peer, protocol, direction, id, connections, auth, user } = session;
  const test: TestIdentity = { host: peer.address, port: peer.port, protocol, direction };
  if (event.kind === "start") {
    if (json) {
      say(jsonLine({ ...startObject(test, now), session: id, connections, auth, user }));
    }
    return;
  }
  if (event.kind === "interval") {
    seconds?.append(intervalRow(test, event.interval, "server", now));
    if (json) say(jsonLine({ ...intervalObject(event.interval), session: id }));
    return;
  }
  const { result } = event;
  results?.append(resultRow(test, result, "server", now));
  if (json) return say(jsonLine({ ...endObject(result), session: id }));
  say(
    `${formatAddress(peer)} ${protocol} ${direction}: TX ${mbps(result.txBps)} Mbps, ` +
      `RX ${mbps(result.rxBps)} Mbps, ${(result.elapsedMs / 1000).toFixed(1)} s, ` +
      `ended by ${result.reason}\n`,
  );
}
