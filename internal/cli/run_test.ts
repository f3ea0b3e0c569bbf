import { deepEqual, equal, match } from "node:assert/strict";
import {
  AuthError,
  CapabilityError,
  DeadlineError,
  LimitError,
  PeerError,
  ProtocolError,
  SystemError,
} from "../errors.ts";
import { options } from "../schema.ts";
import { recordedTerminal } from "../testing/terminal.ts";
import { command, ConfigurationError, type Tool, UsageError } from "./command.ts";
import { errorText, exitCodeOf, InterruptedError, runTool } from "./run.ts";

function systemError(syscall: string, errnoName: string): SystemError {
  return new SystemError("system.x", "Cannot do it", { syscall, errno: 1, errnoName });
}

const EXITS: readonly (readonly [number, unknown])[] = [
  [1, new Error("x")],
  [1, "text"],
  [1, new PeerError("tftp.refused", "x", { peerCode: 1, peerMessage: "x" })],
  [1, systemError("write", "ENOSPC")],
  [2, new UsageError("x", "y")],
  [3, new ConfigurationError("x")],
  [4, systemError("bind", "EADDRINUSE")],
  [4, systemError("sendto", "ECONNREFUSED")],
  [4, Object.assign(new Error("x"), { code: "ENOTFOUND" })],
  [5, new AuthError("btest.refused", "x")],
  [6, new DeadlineError("tftp.no-answer", "x", { phase: "x", elapsedMs: 1, attempts: 1 })],
  [7, new ProtocolError("proxy.bad-version", "x", { rule: "x" })],
  [8, new CapabilityError("ffi.x", "x", { capability: "x", why: "y", remedy: "z" })],
  [8, systemError("bind", "EACCES")],
  [8, new Deno.errors.NotCapable("Requires net access")],
  [10, new LimitError("tftp.too-large", "x", { limit: "x", value: 1 })],
  [130, new InterruptedError("SIGINT")],
  [143, new InterruptedError("SIGTERM")],
];

Deno.test("exitCodeOf() follows the table of exit codes", () => {
  for (const [code, error] of EXITS) equal(exitCodeOf(error), code, String(error));
});

Deno.test("errorText() prints the error, its causes and a hint, each on one line", () => {
  const error = new CapabilityError("ffi.driver-unavailable", "Cannot use the fast driver\nhere", {
    capability: "mmsg",
    why: "no permission",
    remedy: "run again with --allow-ffi",
    cause: new Error("first", { cause: "second" }),
  });
  equal(
    errorText(error, false),
    "error: Cannot use the fast driver here\ncause: first\ncause: second\n" +
      "hint: run again with --allow-ffi\n",
  );
  match(errorText(error, true), /\n {4}at /);
});

Deno.test("errorText() gives each problem of a configuration a line of its own", () => {
  const error = new ConfigurationError("a (1:2): is wrong\nb (3:4): is\twrong as well");
  equal(errorText(error, false), "error: a (1:2): is wrong\nerror: b (3:4): is wrong as well\n");
});

Deno.test("errorText() names the flag of a missing permission and what a low port needs", () => {
  const denied = new Deno.errors.NotCapable('Requires net access to "127.0.0.1:69", run again');
  match(errorText(denied, false), /hint: run again with --allow-net\n/);
  match(errorText(systemError("bind", "EACCES"), false), /hint: .*CAP_NET_BIND_SERVICE/);
});

function failingTool(error: Error): Tool {
  return {
    name: "example",
    brief: "",
    commands: [command({
      name: "fail",
      brief: "",
      options: options({}),
      examples: [],
      exits: [],
      run: () => Promise.reject(error),
    })],
  };
}

Deno.test("runTool() prints a failure as one JSON object with --json", async () => {
  const terminal = recordedTerminal();
  const error = new LimitError("tftp.too-large", "Cannot take it", { limit: "x", value: 1 });
  equal(await runTool(failingTool(error), ["fail", "--json"], terminal), 10);
  deepEqual(JSON.parse(terminal.err), {
    error: { code: "tftp.too-large", message: "Cannot take it" },
  });
});

Deno.test("runTool() restores the terminal before it prints a failure", async () => {
  const terminal = recordedTerminal();
  terminal.atExit(() => terminal.stderr.write("restored\n"));
  equal(await runTool(failingTool(new Error("Cannot")), ["fail"], terminal), 1);
  equal(terminal.err, "restored\nerror: Cannot\n");
});

Deno.test("runTool() is silent and successful when the reader of a pipe has gone", async () => {
  const terminal = recordedTerminal();
  equal(await runTool(failingTool(new Deno.errors.BrokenPipe("x")), ["fail"], terminal), 0);
  equal(terminal.err, "");
});

const TOOL = new URL("./testdata/waiting_tool.ts", import.meta.url).pathname;

/** Starts the waiting tool, sends signals once it says `ready` and again once it noticed. */
async function stopped(
  words: readonly string[],
  signals: readonly Deno.Signal[],
): Promise<{ code: number; err: string }> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", TOOL, "wait", ...words],
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const rest = [...signals];
  for await (const chunk of child.stdout) {
    const lines = new TextDecoder().decode(chunk).match(/ready|noticed/g) ?? [];
    for (const _ of lines) {
      const signal = rest.shift();
      if (signal !== undefined) child.kill(signal);
    }
  }
  const err = await new Response(child.stderr).text();
  return { code: (await child.status).code, err };
}

for (
  const [what, words, signals, code] of [
    ["ends a cut operation with 130 on SIGINT", [], ["SIGINT"], 130],
    ["ends a cut operation with 143 on SIGTERM", [], ["SIGTERM"], 143],
    ["lets a server stop with 0", ["--graceful"], ["SIGTERM"], 0],
    ["obeys a second signal at once", ["--stubborn"], ["SIGTERM", "SIGINT"], 130],
    ["waits no longer than --grace", ["--stubborn", "--grace", "20ms"], ["SIGTERM"], 143],
  ] as const
) {
  Deno.test(`runTool() ${what} and restores the terminal`, async () => {
    const { code: found, err } = await stopped(words, signals);
    equal(found, code, err);
    match(err, /^restored\n/);
  });
}

Deno.test("runTool() ends with 0 when stdout is closed under it", async () => {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", TOOL, "write"],
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const reader = child.stdout.getReader();
  await reader.read();
  await reader.cancel();
  equal(await new Response(child.stderr).text(), "");
  equal((await child.status).code, 0);
});
