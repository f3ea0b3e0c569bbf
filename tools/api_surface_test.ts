import { deepEqual, equal, match, throws } from "node:assert/strict";
import { type DocAnswer, firstDifference, surfaceText } from "./api_surface.ts";
import { declarationLines } from "./doc_render.ts";

const SOURCE = `
export type A<T extends string = "x"> = T extends \`a\${infer U}\` ? U : keyof Map<string, number>;
export type F = (a: number, ...b: readonly string[]) => void;
export type M = { readonly [K in "a" | "b"]?: K };
export type X = A["length"] | (string | undefined)[];
export const zero: { readonly A: 0 } = { A: 0 } as const;
export function p(v: unknown, c: number = 3): v is string { return typeof v === "string" && c > 0; }
export abstract class C<T> extends Map<string, T> implements Iterable<[string, T]> {
  #z = 1;
  static s: number = 1;
  readonly r?: string;
  constructor(size: number) { super(); this.#z = size; }
  get g(): number { return this.#z; }
  abstract m(): this;
  n<K>(k: K): Promise<K> { return Promise.resolve(k); }
  protected hidden(): void {}
}
export interface J extends Omit<typeof zero, "A"> { readonly a: 1; m?<T>(x: T): void; [k: string]: unknown; }
`;

async function docOf(source: string): Promise<DocAnswer> {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${folder}/a.ts`, source);
    const { stdout } = await new Deno.Command(Deno.execPath(), {
      args: ["doc", "--json", `${folder}/a.ts`],
    }).output();
    return JSON.parse(new TextDecoder().decode(stdout));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("surfaceText() writes signatures as TypeScript does, without what is private", async () => {
  const text = surfaceText(new Map([["./x", await docOf(SOURCE)]]));
  deepEqual(text.split("\n").slice(4), [
    "## `@fastwire/net/x`",
    "",
    "```ts ignore",
    'type A<T extends string = "x"> = T extends `a${infer U}` ? U : keyof Map<string, number>',
    "abstract class C<T> extends Map<string, T> implements Iterable<[string, T]>",
    "  constructor(size: number)",
    "  static s: number",
    "  readonly r?: string",
    "  get g(): number",
    "  abstract m(): this",
    "  n<K>(k: K): Promise<K>",
    "type F = (a: number, ...b: readonly string[]) => void",
    'interface J extends Omit<typeof zero, "A">',
    "  readonly a: 1",
    "  m?<T>(x: T): void",
    "  [k: string]: unknown",
    'type M = { readonly [K in "a" | "b"]?: K }',
    'type X = A["length"] | (string | undefined)[]',
    "function p(v: unknown, c?: number): v is string",
    "const zero: { readonly A: 0 }",
    "```",
    "",
  ]);
});

Deno.test("declarationLines() refuses what it does not know", () => {
  throws(() => declarationLines("x", { kind: "riddle" }), /unknown declaration "riddle"/);
});

Deno.test("firstDifference() shows the line that changed", () => {
  equal(firstDifference("a\nb\n", "a\nb\n"), undefined);
  match(firstDifference("a\nb\n", "a\nc\n")!, /^line 2:\n- b\n\+ c$/);
  match(firstDifference("a\nb\n", "a\n")!, /^line 2:/);
  match(firstDifference("", "a\n")!, /^line 1:/);
});
