/**
 * The section `log` of a configuration that runs.
 *
 * @module
 */

import { createWriteStream, type WriteStream } from "node:fs";
import { open } from "node:fs/promises";
import { resolve as resolvePath } from "node:path";
import type { CommandInput } from "../internal/cli/command.ts";
import { adjustLogging } from "../internal/cli/logging.ts";
import { SystemError } from "../internal/errors.ts";
import type { LogConfig } from "./config_types.ts";

/** Logs as the configuration in force says. */
export class LogSection {
  readonly #input: CommandInput<object, { readonly directory: string }>;
  #file: WriteStream | undefined;

  /** @param input What the command line says: it goes before the file. */
  constructor(input: CommandInput<object, { readonly directory: string }>) {
    this.#input = input;
  }

  /**
   * Takes a section. A file is opened anew each time, so that it can be moved away before.
   *
   * @throws {SystemError} `proxy.log-file` when it cannot be written; the log goes on where it was.
   */
  async follow(config: LogConfig): Promise<void> {
    const { terminal, common, verbosity, flags } = this.#input;
    const { output } = config;
    const toFile = output !== undefined && output !== "stdout" && output !== "stderr";
    const file = toFile ? await openLog(resolvePath(flags.directory, output)) : undefined;
    file?.on("error", (error) => {
      file.destroy();
      terminal.stderr.write(`cannot write ${output}: ${error.message}\n`);
    });
    const write = file !== undefined
      ? (line: string): void =>
        void (file.destroyed ? terminal.stderr.write(line) : file.write(line))
      : output === "stdout"
      ? (line: string): void => terminal.stdout.write(line)
      : undefined;
    await adjustLogging(terminal, common, verbosity, {
      level: config.disabled ? null : LEVELS[config.level],
      write,
      timestamps: config.timestamp ?? true,
    });
    this.close();
    this.#file = file;
  }

  /** Lets go of the file. */
  close(): void {
    this.#file?.end();
    this.#file = undefined;
  }
}

async function openLog(path: string): Promise<WriteStream> {
  try {
    await (await open(path, "a")).close();
  } catch (cause) {
    const { code = "", errno = 0 } = cause as { code?: string; errno?: number };
    throw new SystemError(
      "proxy.log-file",
      `Cannot write the log to ${
        JSON.stringify(path)
      }: ${code}, expected a file that can be appended to`,
      { syscall: "open", errno: Math.abs(errno), errnoName: code, cause },
    );
  }
  return createWriteStream(path, { flags: "a" });
}

const LEVELS = {
  trace: "trace",
  debug: "debug",
  info: "info",
  warn: "warning",
  error: "error",
  fatal: "fatal",
  panic: "fatal",
} as const;
