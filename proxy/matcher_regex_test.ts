import { deepEqual, equal, ok, throws } from "node:assert/strict";
import fc from "fast-check";
import { seededRandom } from "../internal/random.ts";
import { RegexIndex } from "./matcher_regex.ts";
import { parseRegex, regexProblem } from "./regex.ts";
import { compileRegex } from "./testdata/regex_oracle.ts";

const LONG = Deno.env.get("FASTWIRE_LONG") === "1";

/** The positions of the expressions that a host has something of. */
function found(index: RegexIndex, host: string, count: number): readonly number[] {
  const marks = new Uint32Array(count);
  index.match(host, marks, 7);
  return [...marks.keys()].filter((id) => marks[id] === 7);
}

function indexOf(sources: readonly string[], cacheWords?: number): RegexIndex {
  return new RegexIndex(sources.map((source, id) => [source, id]), cacheWords);
}

Deno.test("RegexIndex reads RE2's syntax", () => {
  const hits: readonly [string, string, boolean][] = [
    ["^a\\-b$", "a-b", true],
    ["a{,3}", "a{,3}", true],
    ["^a{2}$", "aa", true],
    ["^a{2}$", "aaa", false],
    ["^(ab){1,2}$", "ababab", false],
    ["^a{2,}$", "aaaa", true],
    ["[]x]", "]", true],
    ["[^]x]", "x", false],
    ["[[:digit:]-]+$", "1-2", true],
    ["[[:^digit:]]", "12", false],
    ["[\\S]", " ", false],
    ["(?P<n>a)b", "ab", true],
    ["(?<n>a)b", "ab", true],
    ["(?:a|b)c", "bc", true],
    ["(?:)a", "a", true],
    ["()*a", "a", true],
    ["\\Qa.b\\E$", "a.b", true],
    ["\\Qa.b\\E$", "axb", false],
    ["^\\Qab\\E+$", "abb", true],
    ["^\\Qab\\E+$", "abab", false],
    ["\\Ab", "ab", false],
    ["a\\z", "ab", false],
    ["\\x61\\x{62}\\143", "abc", true],
    ["\\pL", "1a1", true],
    ["\\PL", "a", false],
    ["\\p{Latin}", "a", true],
    ["\\p{^Latin}", "a", false],
    ["\\p{Greek}", "abc", false],
    ["a.b", "a\nb", false],
    ["(?s)a.b", "a\nb", true],
    ["a.b", "a\u2028b", true],
    ["(?m)^b$", "a\nb\nc", true],
    ["^b$", "a\nb\nc", false],
    ["(?i)ABC", "abc", true],
    ["A", "a", false],
    ["a(?i)B", "ab", true],
    ["a(?i:B)C", "abc", false],
    ["(?i)a(?-i)B", "ab", false],
    ["(?i:x|B)", "b", true],
    ["(?i)\u212a", "k", true],
    ["(?U)a+", "a", true],
    ["[\\s]", "\v", false],
    ["\\_\\:", "_:", true],
    ["[a\\]]", "]", true],
    ["x]}", "x]}", true],
    ["\\bads\\b", "my.ads.test", true],
    ["\\bads\\b", "my.bads.test", false],
    ["\\Bds", "my.ads.test", true],
    ["ä", "a", false],
    ["^[^ä]$", "a", true],
    ["a$|^b", "ba", true],
    ["", "a", true],
  ];
  for (const [source, host, expected] of hits) {
    equal(found(indexOf([source]), host, 1).length === 1, expected, `${source} on ${host}`);
  }
});

Deno.test("RegexIndex reads hosts in any case and without the dot at their end", () => {
  const index = indexOf(["^ads\\.test$", "t$"]);
  deepEqual(found(index, "ADS.Test.", 2), [0, 1]);
  deepEqual(found(index, "ads.test..", 2), []);
  deepEqual(found(index, ".", 2), []);
  deepEqual(found(index, `${"a".repeat(251)}test`, 2), [1]);
  deepEqual(found(index, `${"a".repeat(252)}test`, 2), []);
});

Deno.test("RegexIndex without expressions marks nothing", () => {
  deepEqual(found(indexOf([]), "example.com", 1), []);
});

Deno.test("regexProblem() names what RE2 and this build do not have, and where", () => {
  const problems: readonly [string, string][] = [
    ["a(?=b)", "look-around is not part of RE2, at character 2"],
    ["(?<!a)b", "look-around is not part of RE2, at character 1"],
    ["(a)\\1", "back-references are not part of RE2, at character 4"],
    ["xa{1001}", "the repetition {1001} is above 1000, at character 3"],
    ["a{3,2}", "the repetition {3,2} is the wrong way round, at character 2"],
    ["(a{500}){500}", "it unfolds to more than 10000 steps"],
    ["b(a", "a bracket is not closed, at character 2"],
    ["ab)", "a bracket closes nothing, at character 3"],
    ["*a", "nothing to repeat, at character 1"],
    ["a|+", "nothing to repeat, at character 3"],
    ["a**", "a repetition of a repetition, at character 3"],
    ["a+{2}", "a repetition of a repetition, at character 3"],
    ["x[a", "a bracket is not closed, at character 2"],
    ["[z-a]", "the range z-a is the wrong way round, at character 2"],
    ["[[:foo:]]", "the class [:foo:] is not known, at character 2"],
    ["\\C", "the escape \\C is not supported, at character 1"],
    ["a\\", "a backslash at the end, at character 2"],
    ["(?x)a", "flags are i, m, s and U, at character 1"],
    ["\\p{Nonsense}", "the property \\p{Nonsense} is not known, at character 1"],
    ["(?P<a>x)(?P<a>y)", 'the name "a" is there twice, at character 9'],
    ["(".repeat(201), "groups are nested deeper than 200, at character 201"],
  ];
  for (const [source, expected] of problems) {
    equal(regexProblem(source), expected, source);
    throws(() => parseRegex(source), /^SyntaxError: Cannot use the expression: /);
  }
  equal(regexProblem("^a+\\.b$"), undefined);
});

const LETTERS = fc.constantFrom("a", "b", "0", "-", ".", "k");
const CLASS_PARTS = fc.constantFrom("a", "b-k", "0", "\\d", "\\w", "\\s", ".", "[:alpha:]", "\\pL");

/** Expressions that RE2 and the engine of the language read the same way. */
const EXPRESSIONS: fc.Arbitrary<string> = fc.letrec<{ node: string; piece: string }>((tie) => ({
  node: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    tie("piece"),
    fc.array(tie("node"), { minLength: 1, maxLength: 4 }).map((parts) => parts.join("")),
    fc.array(tie("node"), { minLength: 2, maxLength: 3 }).map((parts) => `(?:${parts.join("|")})`),
    fc.tuple(tie("node"), fc.constantFrom("*", "+", "?", "*?", "{2}", "{1,3}", "{0,2}", "{2,}"))
      .map(([part, times]) => `(${part})${times}`),
  ),
  piece: fc.oneof(
    { arbitrary: LETTERS.map((letter) => letter === "." ? "\\." : letter), weight: 4 },
    fc.constantFrom("^", "$", "\\b", "\\B", "\\A", "\\z", ".", "\\d", "\\W", ""),
    fc.tuple(fc.boolean(), fc.array(CLASS_PARTS, { minLength: 1, maxLength: 3 }))
      .map(([not, parts]) => `[${not ? "^" : ""}${parts.join("")}]`),
  ),
})).node;

const FLAGS = fc.constantFrom("", "", "", "(?i)", "(?m)", "(?s)", "(?ims)");
const HOSTS = fc.array(fc.constantFrom("a", "b", "0", "-", ".", "k", "z", "_", "\n"), {
  minLength: 1,
  maxLength: 14,
}).map((letters) => letters.join("")).filter((host) => host !== ".");

Deno.test("RegexIndex finds what the engine of the language finds, with any cache", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(FLAGS, EXPRESSIONS), { minLength: 1, maxLength: 6 }),
      fc.array(HOSTS, { minLength: 1, maxLength: 8 }),
      fc.constantFrom(undefined, 0, 150, 600),
      (parts, hosts, cacheWords) => {
        const sources = parts.map(([flags, source]) => flags + source);
        const judges = sources.map(compileRegex);
        const index = indexOf(sources, cacheWords);
        // Twice, for what is found in the cache is another way than what is not.
        for (const host of [...hosts, ...hosts]) {
          const name = host.endsWith(".") ? host.slice(0, -1) : host;
          const expected = judges.flatMap((judge, id) => judge.test(name) ? [id] : []);
          deepEqual(found(index, host, sources.length), expected, JSON.stringify([sources, host]));
        }
      },
    ),
    { numRuns: LONG ? 100_000 : 4000 },
  );
});

Deno.test("RegexIndex takes a work that grows with the host, however hostile both are", () => {
  const sources = [
    "(a+)+$",
    "(a|a)*$",
    "(a*)*b",
    "^(([a-z])+.)+[A-Z]([a-z])+$",
    "(.*)(.*)(.*)(.*)(.*)[^a]x$",
    "(a?){60}a{60}$",
    "(x+x+)+y",
    "^(a?){200}$",
  ];
  for (const cacheWords of [0, undefined]) {
    for (const source of sources) {
      for (
        const host of ["a".repeat(255), `${"a".repeat(254)}!`, "x".repeat(255), "ax".repeat(127)]
      ) {
        const index = indexOf([source], cacheWords);
        found(index, host, 1);
        // Every step at most twice for each byte: once where it is, once where it leads.
        const most = (host.length + 1) * (2 * index.size + 4) * 2;
        ok(index.work <= most, `${source}: ${index.work} steps, at most ${most}`);
      }
    }
  }
});

Deno.test("RegexIndex looks at each byte once when it has seen the like before", () => {
  const sources = Array.from({ length: 2000 }, (_, at) => `^(.+\\.)?ads${at}\\.(com|net)$`);
  const index = indexOf(sources);
  const host = "tracker.ads1234.net";
  deepEqual(found(index, host, 2000), [1234]);
  const before = index.work;
  deepEqual(found(index, host, 2000), [1234]);
  equal(index.work - before, host.length + 1);
});

Deno.test("RegexIndex keeps its cache bounded when hosts lead to ever new states", () => {
  // Which of the last fourteen bytes were an a: 2^14 states if all were kept.
  const words = 20_000;
  const index = indexOf(["a.{14}x", "b.{9}y"], words);
  const judges = ["a.{14}x", "b.{9}y"].map(compileRegex);
  let most = 0;
  let before = 0;
  let emptied = 0;
  const random = seededRandom(11);
  for (let round = 0; round < 400; round++) {
    let host = "";
    while (host.length < 60) host += "abxyc"[random.u32() % 5];
    const expected = judges.flatMap((judge, id) => judge.test(host) ? [id] : []);
    deepEqual(found(index, host, 2), expected, host);
    if (index.states < before) emptied++;
    before = index.states;
    most = Math.max(most, before);
  }
  ok(most > 100 && most < words / 20 && emptied > 10, `${most} states, emptied ${emptied} times`);
});
