import { deepEqual, equal, ok } from "node:assert/strict";
import { seededRandom } from "../internal/random.ts";
import { displayName, NAME_QUIRKS, type NameQuirks, resolveName } from "./path_policy.ts";

function pathOf(name: string | number[], quirks: NameQuirks = NAME_QUIRKS): unknown {
  const bytes = typeof name === "string" ? new TextEncoder().encode(name) : new Uint8Array(name);
  const resolved = resolveName("not looked at", bytes, quirks);
  return "refused" in resolved ? `refused: ${resolved.refused}` : resolved.path;
}

const CASES: readonly (readonly [requested: string | number[], resolved: unknown])[] = [
  ["boot.ipxe", "boot.ipxe"],
  ["/boot.ipxe", "boot.ipxe"],
  ["//a///b", "a/b"],
  ["./a/./b/.", "a/b"],
  ["a/b/", "a/b"],
  ["\\Boot\\BCD", "Boot/BCD"],
  ["/\\a", "a"],
  ["a..b", "a..b"],
  ["..a", "..a"],
  ["a..", "a.."],
  ["...", "..."],
  [".hidden", ".hidden"],
  ["..", "refused: traversal"],
  ["../etc/passwd", "refused: traversal"],
  ["a/../b", "refused: traversal"],
  ["a/..", "refused: traversal"],
  ["..\\windows", "refused: traversal"],
  ["a\\..\\b", "refused: traversal"],
  ["/..", "refused: traversal"],
  ["", "refused: empty"],
  ["/", "refused: empty"],
  ["./.", "refused: empty"],
  ["\xe9t\xe9", "été"],
  [[0x61, 0xff, 0xff], "a"],
  [[0x61, 0x0d, 0x0a], "a"],
  [[0x61, 0x0a, 0xff], "a"],
  [[0x61, 0x0a, 0x0a], "a\n"],
  [[0xff, 0xff], "refused: empty"],
  [[0x2e, 0x2e, 0xff], "refused: traversal"],
  [[0x61, 0x00, 0x62], "refused: nul"],
  [[0xe9, 0x2f, 0x61], new Uint8Array([0xe9, 0x2f, 0x61])],
  // An overlong "/" is no separator to any decoder that counts: two bytes of a name.
  [[0x2e, 0x2e, 0xc0, 0xaf, 0x61], new Uint8Array([0x2e, 0x2e, 0xc0, 0xaf, 0x61])],
  [[0xef, 0xbb, 0xbf, 0x61], "\ufeffa"],
  ["a".repeat(255), "a".repeat(255)],
  ["a".repeat(256), "refused: too-long"],
  ["ab/".repeat(341) + "c", "ab/".repeat(341) + "c"],
  ["ab/".repeat(341) + "cd", "refused: too-long"],
  ["C:\\pagefile.sys", "C:/pagefile.sys"],
];

for (const [requested, resolved] of CASES) {
  const shown = JSON.stringify(requested);
  Deno.test(`resolveName() of ${shown.length > 40 ? `${shown.slice(0, 40)}…` : shown}`, () => {
    deepEqual(pathOf(requested), resolved);
  });
}

Deno.test("resolveName() reads a name that was made here from its text", () => {
  deepEqual(resolveName("a//b", undefined, NAME_QUIRKS), { path: "a/b", text: "a/b" });
});

Deno.test("resolveName() gives bytes that are not UTF-8 a text that patterns can look at", () => {
  deepEqual(resolveName("", new Uint8Array([0xe9, 0x2e, 0x63]), NAME_QUIRKS), {
    path: new Uint8Array([0xe9, 0x2e, 0x63]),
    text: "é.c",
  });
});

Deno.test("resolveName() repairs nothing it was not told to", () => {
  const strict = { trimGarbage: false, backslash: false, windowsNames: false };
  equal(pathOf("a\\b", strict), "a\\b");
  equal(pathOf("..\\b", strict), "..\\b");
  equal(pathOf("a\r\n", strict), "a\r\n");
  deepEqual(pathOf([0x61, 0xff], strict), new Uint8Array([0x61, 0xff]));
});

Deno.test("resolveName() refuses what Windows would read as something else", () => {
  const windows = { ...NAME_QUIRKS, windowsNames: true };
  const special = ["C:/a", "a:stream", "nul", "sub/CON", "aux.txt", "com1.log", "a.", "a ", "lpt9"];
  for (const name of special) equal(pathOf(name, windows), "refused: windows-name", name);
  deepEqual(pathOf([0xe9], windows), "refused: windows-name");
  for (const name of ["console", "a.b", "com", "nulls.txt"]) equal(pathOf(name, windows), name);
});

Deno.test("resolveName() lets nothing through that could leave the root, whatever the bytes", () => {
  const seed = crypto.getRandomValues(new Uint32Array(1))[0]!;
  const random = seededRandom(seed);
  const alphabet = [0x2e, 0x2e, 0x2f, 0x5c, 0x61, 0x00, 0xff, 0xc0, 0xaf, 0x0a, 0x0d, 0x3a, 0xe2];
  let passed = 0;
  for (let round = 0; round < 20_000; round++) {
    const raw = Uint8Array.from(
      { length: random.u32() % 12 },
      () => alphabet[random.u32() % alphabet.length]!,
    );
    const resolved = resolveName("", raw, NAME_QUIRKS);
    if ("refused" in resolved) continue;
    passed++;
    const latin1 = typeof resolved.path === "string"
      ? resolved.path
      : String.fromCharCode(...resolved.path);
    const components = latin1.split("/");
    ok(
      components.every((part) => part !== "" && part !== "." && part !== "..") &&
        !latin1.includes("\0") && !latin1.includes("\\"),
      `seed ${seed}: ${[...raw]} became "${latin1}"`,
    );
    // What passed passes again, unchanged: rules may send a name through twice.
    const again = resolveName(
      typeof resolved.path === "string" ? resolved.path : "",
      typeof resolved.path === "string" ? undefined : resolved.path,
      { ...NAME_QUIRKS, trimGarbage: false },
    );
    deepEqual(again, resolved, `seed ${seed}`);
  }
  ok(passed > 5000, `${passed}`);
});

Deno.test("displayName() shows what a terminal must not be sent", () => {
  equal(displayName("a\nb\x1b[31m\\é\x9b"), "a\\x0ab\\x1b[31m\\x5cé\\x9b");
  equal(displayName(new Uint8Array([0x61, 0xe9, 0x07])), "a\\xe9\\x07");
  equal(displayName(new Uint8Array([0xc3, 0xa9])), "é");
});
