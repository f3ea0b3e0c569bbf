import { deepEqual, equal, ok } from "node:assert/strict";
import * as constants from "./constants_linux.ts";
import { errnoNames, errnoNumber } from "./errno.ts";
import { controlLength, controlSpace } from "./structs_linux.ts";
import { askCompiler, type CompilerFacts, layouts } from "./testdata/generate_structs.ts";

const FIXTURE = new URL(`./testdata/structs_${Deno.build.arch}.json`, import.meta.url);

/** Compares everything the tables claim with what a compiler said. Returns how many numbers were compared. */
function compare(facts: CompilerFacts): number {
  let compared = 0;
  for (const [name, fields] of Object.entries(layouts())) {
    const told = facts.structs[name];
    ok(told !== undefined, `${name} is not in the compiler's answer: generate the fixture again`);
    for (const [field, offset] of Object.entries(told)) {
      equal(fields[field], offset, `${name}.${field}`);
      compared++;
    }
  }
  for (const [name, value] of Object.entries(constants)) {
    equal(String(value), facts.constants[name], name);
    compared++;
  }
  for (const name of errnoNames()) {
    equal(String(errnoNumber(name)), facts.constants[name], name);
    compared++;
  }
  return compared;
}

let fixture: CompilerFacts | undefined;
try {
  fixture = JSON.parse(Deno.readTextFileSync(FIXTURE));
} catch (error) {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
  console.warn(`there is no fixture for ${Deno.build.arch}: only the compiler can be asked`);
}

Deno.test({
  name: "layouts, constants and error numbers are those of the recorded headers",
  ignore: fixture === undefined,
  fn: () => ok(compare(fixture!) > 400),
});

Deno.test("layouts, constants and error numbers are those of this machine's headers", async () => {
  const facts = await askCompiler(errnoNames());
  if (facts === undefined) return console.warn("not compared with the headers: there is no cc");
  ok(compare(facts) > 400);
  if (fixture !== undefined) deepEqual(facts.types, fixture.types);
});

Deno.test("the comparison notices a wrong offset, a wrong constant and a wrong error number", () => {
  const right = fixture!;
  const wrong: CompilerFacts[] = [
    { ...right, structs: { ...right.structs, MSGHDR: { ...right.structs.MSGHDR, iov: 12 } } },
    { ...right, constants: { ...right.constants, SO_RCVBUF: "9" } },
    { ...right, constants: { ...right.constants, EAGAIN: "35" } },
  ];
  for (const facts of wrong) {
    let noticed = false;
    try {
      compare(facts);
    } catch {
      noticed = true;
    }
    ok(noticed);
  }
});

Deno.test("control message sizes follow CMSG_LEN and CMSG_SPACE", () => {
  deepEqual([controlLength(2), controlSpace(2)], [18, 24]);
  deepEqual([controlLength(12), controlSpace(12)], [28, 32]);
  deepEqual([controlLength(8), controlSpace(8)], [24, 24]);
});
