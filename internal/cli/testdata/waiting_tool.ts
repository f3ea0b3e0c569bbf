/**
 * A tool for the signal tests of run.ts: says `ready`, then waits until it is stopped.
 *
 * @module
 */

import { boolean, option, options } from "../../schema.ts";
import { command } from "../command.ts";
import { runTool } from "../run.ts";

const wait = command({
  name: "wait",
  brief: "Wait for a signal",
  options: options({
    graceful: option(boolean(), false, { help: "Stop as a server does, with code 0" }),
    stubborn: option(boolean(), false, { help: "Take no notice of the first signal" }),
  }),
  examples: [],
  exits: [0],
  run: async ({ options, signal, terminal }) => {
    terminal.atExit(() => terminal.stderr.write("restored\n"));
    const alive = setInterval(() => {}, 1000);
    terminal.stdout.write("ready\n");
    await new Promise<void>((resolve, reject) => {
      signal.addEventListener("abort", () => {
        terminal.stdout.write("noticed\n");
        if (options.graceful) resolve();
        else if (!options.stubborn) reject(signal.reason);
      });
    }).finally(() => clearInterval(alive));
  },
});

const write = command({
  name: "write",
  brief: "Write without end",
  options: options({}),
  examples: [],
  exits: [0],
  run: ({ terminal }) => {
    for (;;) terminal.stdout.write("x".repeat(65_536));
  },
});

if (import.meta.main) runTool({ name: "waiting", brief: "Wait", commands: [wait, write] });
