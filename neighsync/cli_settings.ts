/**
 * From flags, variables and files to settings, for every command that uses them.
 *
 * @module
 */

import { ConfigurationError } from "../internal/cli/command.ts";
import type { Terminal } from "../internal/cli/terminal.ts";
import { type Option, option, path } from "../internal/schema.ts";
import type { LoadedSettings } from "./config_file.ts";
import type { NeighSyncSettings, ResolvedNeighSyncSettings } from "./settings.ts";

/** What commands with a configuration file have besides its options. */
export interface ConfigFlags {
  /** The file. */
  readonly config: string | undefined;
}

/** The flag that names the file. */
export const CONFIG: { readonly config: Option<string | undefined> } = {
  config: option(path(), undefined, {
    help: "Configuration file, TOML",
    flag: "c",
    placeholder: "FILE",
    group: "Configuration",
  }),
};

/**
 * Puts the settings together: default, `/etc/fastwire/neighsync.toml`, the user's file, `--config`, variables, flags.
 *
 * @param resolved Options as the command line resolved them.
 * @param given The names of those that were typed or in the environment.
 * @throws {ConfigurationError} When a file cannot be used.
 */
export async function settingsOf(
  resolved: ResolvedNeighSyncSettings,
  given: ReadonlySet<string>,
  config: string | undefined,
  terminal: Terminal,
): Promise<LoadedSettings> {
  const { ConfigFileError, loadSettings } = await import("./config_file.ts");
  const sections: Record<string, Record<string, unknown>> = {};
  for (const name of given) {
    const [section, key] = name.split(".");
    const group =
      (resolved as unknown as Readonly<Record<string, Record<string, unknown>>>)[section!]!;
    (sections[section!] ??= {})[key!] = group[key!];
  }
  const home = terminal.environment("HOME");
  const user = terminal.environment("XDG_CONFIG_HOME") ?? (home && `${home}/.config`);
  try {
    return await loadSettings({
      optional: [
        "/etc/fastwire/neighsync.toml",
        ...(user === undefined ? [] : [`${user}/fastwire/neighsync.toml`]),
      ],
      required: config,
      given: sections as NeighSyncSettings,
    });
  } catch (cause) {
    if (!(cause instanceof ConfigFileError)) throw cause;
    throw new ConfigurationError(cause.message, { cause });
  }
}
