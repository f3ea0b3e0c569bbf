import { deepEqual, equal, match, ok } from "node:assert/strict";
import { capabilities } from "../../ffi/mod.ts";
import { VERSION } from "../version.ts";
import { diagnose, diagnosisText } from "./doctor.ts";

// The C library is opened once and stays open; inside a test that would be a leak.
capabilities();

Deno.test("diagnose() has a sentence for every feature that is missing and none for the others", async () => {
  const found = await diagnose();
  equal(found.version, VERSION);
  ok(Object.keys(found.features).length > 0);
  for (const [name, { ok, why }] of Object.entries(found.features)) equal(why === "", ok, name);
});

Deno.test("diagnosisText() shows every feature", async () => {
  const found = await diagnose();
  const text = diagnosisText(found);
  for (const name of Object.keys(found.features)) match(text, new RegExp(`^${name} `, "m"));
});

Deno.test("doctor asks for no permission and answers without any", async () => {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", "--no-check", "mod.ts", "doctor", "--json"],
    cwd: new URL("../..", import.meta.url),
  }).output();
  equal(new TextDecoder().decode(stderr), "");
  equal(code, 0);
  const found = JSON.parse(new TextDecoder().decode(stdout));
  equal(found.driver, "portable");
  deepEqual(found.limits, {});
});
