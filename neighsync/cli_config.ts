/**
 * The command `config`: is a file right, and what may stand in one.
 *
 * @module
 */

import { type CommandInput, UsageError } from "../internal/cli/command.ts";
import { jsonLine } from "../internal/cli/output.ts";
import { type ConfigFlags, settingsOf } from "./cli_settings.ts";
import { configSchema } from "./config_schema.ts";
import type { ResolvedNeighSyncSettings } from "./settings.ts";

/** Checks, or prints the schema. */
export async function runConfig(
  { operands, options, given, flags, common, terminal }: CommandInput<
    ResolvedNeighSyncSettings,
    ConfigFlags
  >,
): Promise<number> {
  const action = operands[0]!;
  if (action === "schema") {
    terminal.stdout.write(`${JSON.stringify(configSchema(), null, 2)}\n`);
    return 0;
  }
  if (action !== "check") {
    throw new UsageError(
      `Cannot do ${JSON.stringify(action)} with the configuration: expected check or schema`,
      "config check --config FILE",
    );
  }
  const { files } = await settingsOf(options, given, flags.config, terminal);
  if (common.json) terminal.stdout.write(jsonLine({ type: "checked", files }));
  else if (!common.quiet) {
    terminal.stderr.write(
      files.length === 0
        ? "no file was found; the options are right\n"
        : `${files.join(", ")}: right\n`,
    );
  }
  return 0;
}
