/**
 * The TFTP command line: words to options, the public API, the result in words.
 *
 * @module
 */
import { formatAddress } from "../ffi/mod.ts";
import { command, type Tool, UsageError } from "../internal/cli/command.ts";
import { bytesText, durationText, jsonLine, rateText } from "../internal/cli/output.ts";
import { openProgress } from "../internal/cli/progress.ts";
import { InterruptedError, runTool } from "../internal/cli/run.ts";
import { list, option, options, path, text } from "../internal/schema.ts";
import { clientOptions, serverSettings } from "./options.ts";
import { parseTftpUrl } from "./url.ts";
import type { TransferSummary } from "./client_attempt.ts";

const EXITS = [0, 1, 2, 3, 4, 6, 7, 8, 10, 130, 143] as const;

const serve = command({
  name: "serve",
  brief: "Serve a directory",
  operands: [{
    name: "root",
    help: "The directory; nothing outside of it is ever read or written",
  }],
  options: serverSettings,
  flags: options({
    write: option(list(text(1024)), [], {
      help: "Accept uploads of names that match (*, ?, [...], **)",
      placeholder: "PATTERN",
    }),
  }),
  examples: [
    ["/srv/tftp", "serve on port 69, IPv4 and IPv6"],
    ["/srv/tftp --listen 127.0.0.1:6969", "serve on loopback, no privileges needed"],
    ["/srv/tftp --write 'configs/*.cfg'", "accept uploads of those names"],
    ["/srv/tftp --single-port", "answer from the listening port, behind NAT or in a container"],
  ],
  exits: EXITS,
  logLevel: "info",
  async run({ operands, options, flags, common, verbosity, terminal, signal }) {
    const { serve } = await import("./server.ts");
    const patterns = flags.write;
    // Typing the pattern of everything is a clear enough word.
    const write = patterns.length === 0 ? options.write : {
      ...options.write,
      enabled: true,
      allowAny: true,
      allowedPatterns: [...options.write.allowedPatterns, ...patterns],
    };
    const server = await serve({ ...options, write, root: operands[0]! });
    const say = (event: object, words: string): void =>
      terminal.stderr.write(common.json ? jsonLine(event) : `${words}\n`);
    for (const address of server.addresses) {
      const shown = formatAddress(address);
      say({ type: "listening", protocol: "udp", address: shown }, `listening udp ${shown}`);
    }
    if (verbosity > 0) {
      const why = server.fallbackReason === "" ? "" : ` (${server.fallbackReason})`;
      say(
        { type: "driver", driver: server.driver, workers: server.workers, why },
        `driver ${server.driver}${why}, ${server.workers} threads`,
      );
    }
    const stopped = new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      signal.addEventListener("abort", () => resolve(), { once: true });
    });
    await Promise.race([stopped, server.finished]);
    await server.shutdown({ graceMs: Math.min(options.drainTimeoutMs, common.graceMs) });
    return 0;
  },
});

const get = command({
  name: "get",
  brief: "Fetch a file",
  operands: [{ name: "url", help: "tftp://host[:port]/name, or host:name" }],
  options: clientOptions,
  flags: options({
    output: option(path(), undefined, {
      help: "Where to; - is standard output, default is the name in the current directory",
      flag: "o",
      placeholder: "FILE",
    }),
  }),
  examples: [
    ["tftp://192.0.2.1/firmware.bin", "fetch into the current directory"],
    ["tftp://192.0.2.1/firmware.bin -o - | sha256sum", "fetch to standard output"],
    ["tftp://192.0.2.1/firmware.bin -b 1428 -w 16", "choose block size and window"],
  ],
  exits: EXITS,
  async run({ operands, options, flags, common, given, terminal, signal }) {
    const url = operands[0]!;
    const { name } = parsed(url);
    const output = flags.output ?? name.slice(name.lastIndexOf("/") + 1);
    const { receiveTo } = await import("./cli_output.ts");
    const progress = await openProgress(terminal, name, common.quiet || common.json);
    try {
      const summary = await receiveTo(output, url, terminal, {
        ...options,
        // A command has its thread to itself.
        wait: given.has("wait") ? options.wait : "thread",
        signal,
        onProgress: ({ bytes, totalBytes }) => progress.update(bytes, totalBytes),
      });
      progress.stop();
      report(summary, "get", name, output, common, terminal);
      return 0;
    } finally {
      progress.stop();
      if (signal.aborted && !(signal.reason instanceof InterruptedError)) signal.throwIfAborted();
    }
  },
});

const put = command({
  name: "put",
  brief: "Store a file",
  operands: [
    { name: "file", help: "The file; - is standard input" },
    { name: "url", help: "tftp://host[:port]/name, or host:name" },
  ],
  options: clientOptions,
  examples: [
    ["running.cfg tftp://192.0.2.1/configs/router1.cfg", "store a file"],
    ["- tftp://192.0.2.1/notes.txt < notes.txt", "store standard input"],
  ],
  exits: EXITS,
  async run({ operands, options, common, given, terminal, signal }) {
    const [file, url] = [operands[0]!, operands[1]!];
    const { name } = parsed(url);
    const { sendFrom } = await import("./cli_output.ts");
    const progress = await openProgress(terminal, name, common.quiet || common.json);
    try {
      const summary = await sendFrom(file, url, {
        ...options,
        wait: given.has("wait") ? options.wait : "thread",
        signal,
        onProgress: ({ bytes, totalBytes }) => progress.update(bytes, totalBytes),
      });
      progress.stop();
      report(summary, "put", name, file, common, terminal);
      return 0;
    } finally {
      progress.stop();
    }
  },
});

/** The tool, for the umbrella command and for completions. */
export const tool: Tool = {
  name: "tftp",
  brief: "TFTP server and client for network boot and device provisioning",
  commands: [serve, get, put],
};

/**
 * Runs the tool.
 *
 * @param args Words; the process's own when left out, and then the exit code is set too.
 * @returns The exit code.
 */
export function main(args?: string[]): Promise<number> {
  return runTool(tool, args);
}

function parsed(url: string): { readonly name: string } {
  try {
    return parseTftpUrl(url);
  } catch (error) {
    throw new UsageError(
      error instanceof Error ? error.message : String(error),
      "write the address as tftp://host[:port]/name",
    );
  }
}

function report(
  summary: TransferSummary,
  operation: "get" | "put",
  name: string,
  file: string,
  common: { readonly json: boolean; readonly quiet: boolean },
  terminal: { readonly stdout: Out; readonly stderr: Out },
): void {
  const { bytes, durationMs } = summary;
  const rateBps = durationMs > 0 ? bytes * 8000 / durationMs : 0;
  if (common.json) {
    const line = jsonLine({
      type: operation,
      name,
      file,
      ...summary,
      server: formatAddress(summary.server),
      rateBps: Math.round(rateBps),
    });
    // With the content on standard output the report goes beside it.
    (operation === "get" && file === "-" ? terminal.stderr : terminal.stdout).write(line);
    return;
  }
  if (common.quiet) return;
  terminal.stderr.write(
    `${name}: ${bytesText(bytes)} in ${durationText(durationMs)} (${rateText(rateBps)})\n`,
  );
}

interface Out {
  write(data: string): void;
}
