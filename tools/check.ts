/**
 * The gate every commit passes.
 *
 * @module
 */

import { checkLayers, sourceFiles } from "./check_layers.ts";
import { denoStep, ROOT, runDeno, runSteps } from "./steps.ts";

async function main(): Promise<number> {
  const files = await sourceFiles(ROOT.href);
  const manifest: { exports: Record<string, string> } = JSON.parse(
    await Deno.readTextFile(new URL("deno.json", ROOT)),
  );
  return await runSteps([
    denoStep("format", ["fmt", "--check", "--quiet"]),
    denoStep("lint", ["lint", "--quiet"]),
    denoStep("types", ["check", "--quiet", ...files]),
    denoStep("documentation", ["doc", "--lint", ...Object.values(manifest.exports)]),
    {
      name: "layers",
      run: async () => {
        const lines = await checkLayers(ROOT.href);
        for (const line of lines) console.error(line);
        return lines.length === 0;
      },
    },
    {
      name: "surface",
      run: async () => await runDeno(["run", "-A", "tools/api_surface.ts", "--check"]) === 0,
    },
  ]);
}

if (import.meta.main) Deno.exitCode = await main() === 0 ? 0 : 1;
