import { deepEqual, equal } from "node:assert/strict";
import { resolveServerSettings } from "./options.ts";
import { isPartName, Uploads, WRITE_POLICY } from "./write_policy.ts";

Deno.test("WRITE_POLICY says what the schema says", () => {
  const { rejectSizeMismatch: _, ...write } = resolveServerSettings({}).write;
  deepEqual(write, { ...WRITE_POLICY });
});

Deno.test("Uploads forget an upload that is over, whatever became of it", () => {
  const uploads = new Uploads({ ...WRITE_POLICY, enabled: true, allowedPatterns: ["a*"] });
  const one = uploads.begin("a1", 100, () => false);
  const other = uploads.begin("a2", undefined, () => false);
  other.claim(50);
  other.claim(20);
  deepEqual([uploads.running, uploads.bytes], [2, 150]);
  one.end(0);
  one.end(0);
  other.end(50);
  deepEqual([uploads.running, uploads.bytes], [0, 50]);
});

Deno.test("isPartName() knows unfinished uploads at any depth and nothing else", () => {
  const part = ".boot.img.0123456789abcdef.part";
  deepEqual([part, `sub/${part}`].map(isPartName), [true, true]);
  for (const path of ["boot.part", ".x.part", `${part}/file`, part.slice(1), `${part}x`]) {
    equal(isPartName(path), false, path);
  }
});
