import { equal } from "node:assert/strict";
import { readSecret } from "./secret.ts";

/** What was typed, `^x` standing for control. */
function typed(text: string): () => number | undefined {
  const bytes = [...new TextEncoder().encode(text)];
  return () => bytes.shift();
}

Deno.test("readSecret() takes what is typed up to the end of the line", () => {
  equal(readSecret(typed("secret\rrest")), "secret");
  equal(readSecret(typed("pässwörd€\n")), "pässwörd€");
  equal(readSecret(typed("\r")), "");
  equal(readSecret(typed("no end")), "no end");
});

Deno.test("readSecret() knows the keys that correct and those that give up", () => {
  equal(readSecret(typed("ab\x7fc\x08d\r")), "ad");
  equal(readSecret(typed("a€\x7f\x7f\x7fb\r")), "b");
  equal(readSecret(typed("wrong\x15right\r")), "right");
  equal(readSecret(typed("a\x1b[1;5Db\x1b[3~c\x07\r")), "abc");
  equal(readSecret(typed("half\x03\r")), undefined);
  equal(readSecret(typed("\x04")), undefined);
  equal(readSecret(typed("half\x04more")), "half");
});
