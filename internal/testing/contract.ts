/**
 * Runs one suite against every driver of a contract.
 *
 * @module
 */

/** One behaviour: its sentence, and what shows it. */
export type ContractCase<Subject> = readonly [
  name: string,
  body: (subject: Subject) => void | Promise<void>,
];

/** One row of the driver table. */
export interface ContractDriver<Subject> {
  /** Why it cannot run here, one sentence; empty when it can. Asked once, at registration. */
  readonly missing: () => string;
  /** Makes what the suite is run against; called once per behaviour. */
  readonly open: () => Subject | Promise<Subject>;
  /** Ends it, after the behaviour was shown or not. */
  readonly close?: (subject: Subject) => void | Promise<void>;
}

/** The part of `Deno.test` that is used. */
export type RegisterTest = (
  test: { readonly name: string; readonly ignore: boolean; readonly fn: () => Promise<void> },
) => void;

/** Where {@linkcode runContract} registers and what it demands; for its own tests. */
export interface ContractOptions {
  /** Default `Deno.test`. */
  readonly register?: RegisterTest;
  /** Drivers that must be there; default the words of `FASTWIRE_REQUIRE_DRIVERS`. */
  readonly required?: readonly string[];
  /** Where the reason for an ignored driver goes; default standard error. */
  readonly print?: (line: string) => void;
}

/**
 * Registers one test per driver and behaviour.
 *
 * A driver that cannot run here is ignored and the reason printed. When `FASTWIRE_REQUIRE_DRIVERS` (words separated by
 * commas) names it, by its whole name or its first word, its tests fail with the reason instead. A required word that
 * matches no driver of this table is another suite's business.
 *
 * @param name The contract, the subject of every test's name.
 * @param suite Every behaviour a driver owes.
 * @param drivers Name → driver. A name is words separated by spaces, the first one that of the driver file.
 */
export function runContract<Subject>(
  name: string,
  suite: readonly ContractCase<Subject>[],
  drivers: Readonly<Record<string, ContractDriver<Subject>>>,
  options: ContractOptions = {},
): void {
  const register = options.register ?? ((test) => Deno.test(test));
  const print = options.print ?? ((line) => console.error(line));
  const required = options.required ?? requiredDrivers();
  for (const [driverName, driver] of Object.entries(drivers)) {
    const missing = driver.missing();
    const demanded = required.includes(driverName) || required.includes(driverName.split(" ")[0]!);
    if (missing !== "" && !demanded) print(`${name} on ${driverName} is not tested: ${missing}`);
    for (const [behaviour, body] of suite) {
      register({
        name: `${name} on ${driverName} ${behaviour}`,
        ignore: missing !== "" && !demanded,
        fn: async () => {
          if (missing !== "") throw new Error(`Cannot test required ${driverName}: ${missing}`);
          const subject = await driver.open();
          try {
            await body(subject);
          } finally {
            await driver.close?.(subject);
          }
        },
      });
    }
  }
}

function requiredDrivers(): readonly string[] {
  if (Deno.permissions.querySync({ name: "env", variable: REQUIRE }).state !== "granted") return [];
  return (Deno.env.get(REQUIRE) ?? "").split(",").map((word) => word.trim()).filter((word) => word);
}

const REQUIRE = "FASTWIRE_REQUIRE_DRIVERS";
