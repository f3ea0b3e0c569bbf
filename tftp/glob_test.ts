import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { seededRandom } from "../internal/random.ts";
import { compileGlob, compileGlobs, isCatchAll } from "./glob.ts";

const CASES: readonly (readonly [pattern: string, matches: string, fails: string])[] = [
  ["boot.img", "boot.img", "Boot.img"],
  ["/boot.img", "boot.img", "x/boot.img"],
  ["*.img", "boot.img .img", "a/boot.img boot.imgx img"],
  ["*", "a .hidden", "a/b"],
  ["a?c", "abc aéc a😀c", "ac abbc a/c"],
  ["[abc]x", "ax bx", "dx x /x"],
  ["[!abc]x", "dx", "ax /x x"],
  ["[^a-c]x", "dx -x", "bx"],
  ["[a-]x", "ax -x", "bx"],
  ["[]]x", "]x", "[x"],
  ["[\\]]x", "]x", "\\x"],
  ["[a\\-c]x", "-x ax cx", "bx"],
  ["a[/]b", "", "a/b"],
  ["\\*", "*", "a"],
  ["a**b", "ab axxb", "a/b"],
  ["**", "a a/b a/b/c", ""],
  ["a/**", "a/b a/b/c", "a b/a ab"],
  ["**/a", "a x/a x/y/a", "xa x/ab"],
  ["a/**/b", "a/b a/x/b a/x/y/b", "ab axb a/xb"],
  ["a/**/**/b", "a/b a/x/b", "ab"],
  ["**/**", "a a/b", ""],
  ["**/*.img", "x.img a/b/x.img", "x.im"],
  ["*/*", "a/b", "a a/b/c"],
  ["uploads/[0-9][0-9]-*.cfg", "uploads/01-a.cfg", "uploads/1-a.cfg uploads/01-a/b.cfg"],
];

for (const [pattern, matches, fails] of CASES) {
  Deno.test(`compileGlob("${pattern}") matches what it says and nothing else`, () => {
    const glob = compileGlob(pattern);
    const words = (text: string): string[] => text.split(" ").filter((word) => word !== "");
    deepEqual(words(matches).filter((path) => !glob.matches(path)), []);
    deepEqual(words(fails).filter((path) => glob.matches(path)), []);
  });
}

Deno.test("compileGlob() refuses patterns that say nothing definite", () => {
  for (const pattern of ["", "/", "[abc", "[", "[z-a]", "a\\", "[]"]) {
    throws(() => compileGlob(pattern), SyntaxError, pattern);
  }
});

Deno.test("compileGlobs() of no patterns matches nothing", () => {
  equal(compileGlobs([])("a"), false);
  equal(compileGlobs(["b", "a"])("a"), true);
});

Deno.test("isCatchAll() knows the patterns that restrict nothing", () => {
  deepEqual(["*", "**", "**/*", "/**", "*/**"].filter((pattern) => !isCatchAll(pattern)), []);
  deepEqual(["*.img", "a/**", "?", ""].filter(isCatchAll), []);
});

Deno.test("a glob stays linear where a backtracking matcher would not end", () => {
  const glob = compileGlob("**/" + "*a".repeat(40) + "/**/" + "*b".repeat(40));
  const started = performance.now();
  equal(glob.matches("a".repeat(500) + "/" + "b".repeat(499) + "c"), false);
  ok(performance.now() - started < 2000);
});

Deno.test("a glob agrees with the plain recursive definition over random patterns and paths", () => {
  const seed = crypto.getRandomValues(new Uint32Array(1))[0]!;
  const random = seededRandom(seed);
  const pick = (parts: readonly string[], most: number): string => {
    let text = "";
    for (let n = 1 + random.u32() % most; n > 0; n--) text += parts[random.u32() % parts.length];
    return text;
  };
  const matched = { yes: 0, no: 0 };
  for (let round = 0; round < 40_000; round++) {
    const pattern = pick(["a", "b", "*", "**", "/**/", "/", "?", "[ab]", "[!a]", "**/"], 6);
    const path = pick(["a", "b", "c", "a/", "b/"], 7).replace(/\/$/, "");
    if (/^\/*$/.test(pattern)) continue;
    const expected = matchesSlowly(pattern, path);
    equal(compileGlob(pattern).matches(path), expected, `seed ${seed}: "${pattern}" on "${path}"`);
    matched[expected ? "yes" : "no"]++;
  }
  ok(matched.yes > 1000 && matched.no > 1000, JSON.stringify(matched));
});

// The definition, word by word: components against components, characters against characters, with backtracking.
function matchesSlowly(pattern: string, path: string): boolean {
  const components = (patterns: string[], paths: string[]): boolean => {
    const [first, ...rest] = patterns;
    if (first === undefined) return paths.length === 0;
    if (first === "**") {
      // At the end it stands for at least one component: "a/**" is what is beneath "a", not "a" itself.
      if (rest.length === 0) return paths.length > 0;
      return components(rest, paths) || (paths.length > 0 && components(patterns, paths.slice(1)));
    }
    const [name, ...names] = paths;
    return name !== undefined && characters(first, name) && components(rest, names);
  };
  const characters = (glob: string, name: string): boolean => {
    if (glob === "") return name === "";
    if (glob[0] === "*") {
      return characters(glob.slice(1), name) || (name !== "" && characters(glob, name.slice(1)));
    }
    if (name === "") return false;
    if (glob[0] === "?") return characters(glob.slice(1), name.slice(1));
    if (glob.startsWith("[ab]")) {
      return /^[ab]/.test(name) && characters(glob.slice(4), name.slice(1));
    }
    if (glob.startsWith("[!a]")) return name[0] !== "a" && characters(glob.slice(4), name.slice(1));
    return glob[0] === name[0] && characters(glob.slice(1), name.slice(1));
  };
  const split = (text: string): string[] => text.split("/").filter((part) => part !== "");
  return components(split(pattern), split(path));
}
