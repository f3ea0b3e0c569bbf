/**
 * Keeps `docs/proxy-schema.json`, the published JSON Schema of proxy configurations. `--write` brings it up to date;
 * a test beside the schemas compares.
 *
 * @module
 */

import { jsonSchemaText } from "../internal/cli/schema_command.ts";
import { CONFIG_SCHEMA } from "../proxy/options.ts";

/** Where it is kept. */
export const PROXY_SCHEMA: URL = new URL("../docs/proxy-schema.json", import.meta.url);

/** The schema as it has to be. */
export function proxySchemaText(): string {
  return jsonSchemaText(CONFIG_SCHEMA, {
    id: "urn:fastwire:proxy-configuration",
    title: "Configuration of fastwire proxy",
  });
}

if (import.meta.main) {
  if (Deno.args.includes("--write")) await Deno.writeTextFile(PROXY_SCHEMA, proxySchemaText());
  else console.log(proxySchemaText());
}
