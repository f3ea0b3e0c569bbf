import { deepEqual, ok } from "node:assert/strict";

const ROOT = new URL("..", import.meta.url);

/** Every page, by its path below the root. */
async function pages(): Promise<ReadonlyMap<string, string>> {
  const found = new Map<string, string>();
  const walk = async (folder: string): Promise<void> => {
    for await (const { name, isDirectory } of Deno.readDir(new URL(folder || ".", ROOT))) {
      const path = folder + name;
      if (isDirectory) await walk(`${path}/`);
      else if (name.endsWith(".md")) found.set(path, await Deno.readTextFile(new URL(path, ROOT)));
    }
  };
  await walk("docs/");
  for (const name of ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]) {
    found.set(name, await Deno.readTextFile(new URL(name, ROOT)));
  }
  return found;
}

/** The anchor that a heading gets where the pages are read. */
function anchorOf(heading: string): string {
  return heading.toLowerCase().replace(/[^\p{L}\p{N}\s-]/gu, "").trim().replace(/\s/g, "-");
}

Deno.test("every link between the pages leads somewhere", async () => {
  const all = await pages();
  ok(all.size > 20);
  const broken: string[] = [];
  for (const [page, text] of all) {
    for (const [, target] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^https?:/.test(target!)) continue;
      const [path = "", anchor] = target!.split("#");
      const resolved = path === "" ? page : new URL(path, `file:///${page}`).pathname.slice(1);
      const there = await Deno.stat(new URL(resolved, ROOT)).then(() => true, () => false);
      const headings = [...all.get(resolved)?.matchAll(/^#+ (.*)$/gm) ?? []].map(([, heading]) =>
        anchorOf(heading!)
      );
      if (!there || anchor !== undefined && !headings.includes(anchor)) {
        broken.push(`${page}: ${target}`);
      }
    }
  }
  deepEqual(broken, []);
});

Deno.test("every test that the table of peers names exists", async () => {
  const page = await Deno.readTextFile(new URL("docs/protocols/tftp.md", ROOT));
  const section = page.slice(page.indexOf("## Peers and their habits"));
  const names = [...section.slice(0, section.indexOf("\n## Programs")).matchAll(/`([^`]+)` *\|$/gm)]
    .map(([, name]) => name!);
  ok(names.length >= 15, `${names.length} names`);
  let tests = "";
  const walk = async (folder: string): Promise<void> => {
    for await (const { name, isDirectory } of Deno.readDir(new URL(folder, ROOT))) {
      if (isDirectory) await walk(`${folder}${name}/`);
      else if (name.endsWith("_test.ts")) {
        tests += await Deno.readTextFile(new URL(folder + name, ROOT));
      }
    }
  };
  await walk("tftp/");
  deepEqual(names.filter((name) => !tests.includes(`"${name}"`)), []);
});
