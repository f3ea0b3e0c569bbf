// Prints what capabilities() finds and what resolveDriver() chooses, as JSON, and how often a library was opened up to
// then. Argument: the driver to resolve.
import { capabilities, resolveDriver } from "../capabilities.ts";

let opened = 0;
const dlopen = Deno.dlopen;
Deno.dlopen = ((path: string, symbols: Deno.ForeignLibraryInterface) => {
  opened++;
  return dlopen(path, symbols);
}) as typeof Deno.dlopen;

const driver = Deno.args[0] as "auto" | "fast" | "portable";
// Resolving first: "portable" must not look at anything.
let choice: unknown;
try {
  choice = resolveDriver(driver, ["batchedDatagrams"]);
} catch (error) {
  const { code, why, remedy, name } = error as Record<string, string>;
  choice = { name, code, why, remedy };
}
const openedByChoice = opened;
const found = capabilities({ refresh: true });
console.log(JSON.stringify({ choice, openedByChoice, found, opened }));
