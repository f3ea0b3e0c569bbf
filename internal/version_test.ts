import { equal } from "node:assert/strict";
import { VERSION } from "./version.ts";

Deno.test("VERSION is the one in deno.json", () => {
  const manifest = JSON.parse(Deno.readTextFileSync(new URL("../deno.json", import.meta.url)));
  equal(VERSION, manifest.version);
});
