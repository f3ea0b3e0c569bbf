import { deepEqual, equal, match, rejects } from "node:assert/strict";
import { type ContractDriver, type RegisterTest, runContract } from "./contract.ts";

type Registered = Parameters<RegisterTest>[0];

function registered(
  drivers: Record<string, ContractDriver<string[]>>,
  required: string[] = [],
): { tests: Registered[]; lines: string[] } {
  const tests: Registered[] = [];
  const lines: string[] = [];
  runContract(
    "Lamp",
    [
      ["shines", (seen) => void seen.push("shines")],
      ["goes dark", () => Promise.reject(new Error("still on"))],
    ],
    drivers,
    {
      register: (test) => tests.push(test),
      print: (line) => lines.push(line),
      required,
    },
  );
  return { tests, lines };
}

function driver(missing: string, seen: string[]): ContractDriver<string[]> {
  return {
    missing: () => missing,
    open: () => (seen.push("open"), seen),
    close: () => void seen.push("close"),
  };
}

Deno.test("runContract registers one test per driver and behaviour", () => {
  const { tests } = registered({ wax: driver("", []), oil: driver("", []) });
  deepEqual(tests.map((test) => test.name), [
    "Lamp on wax shines",
    "Lamp on wax goes dark",
    "Lamp on oil shines",
    "Lamp on oil goes dark",
  ]);
  equal(tests.some((test) => test.ignore), false);
});

Deno.test("runContract ignores a driver that is missing and prints why", async () => {
  const seen: string[] = [];
  const { tests, lines } = registered({ wax: driver("no wick", seen), oil: driver("", []) });
  deepEqual(tests.map((test) => test.ignore), [true, true, false, false]);
  deepEqual(lines, ["Lamp on wax is not tested: no wick"]);
  await tests[2]!.fn();
  deepEqual(seen, []);
});

Deno.test("runContract turns a missing driver that is required into a failure", async () => {
  for (const word of ["wax", "wax thick"]) {
    const { tests } = registered({ "wax thick": driver("no wick", []) }, [word]);
    equal(tests[0]!.ignore, false);
    await rejects(tests[0]!.fn(), /Cannot test required wax thick: no wick/);
  }
});

Deno.test("runContract closes what it opened, whether the behaviour held or not", async () => {
  const seen: string[] = [];
  const { tests } = registered({ wax: driver("", seen) });
  await tests[0]!.fn();
  deepEqual(seen, ["open", "shines", "close"]);
  await rejects(tests[1]!.fn(), (error: Error) => {
    match(error.message, /still on/);
    return true;
  });
  deepEqual(seen.slice(3), ["open", "close"]);
});
