/**
 * The bandwidth test's command line: words to options, the public API, the result in words.
 *
 * @module
 */
import { command, type Tool } from "../internal/cli/command.ts";
import { runTool } from "../internal/cli/run.ts";
import { processArguments, setExitCode } from "../internal/cli/terminal.ts";
import {
  boolean,
  choice,
  endpoint,
  integer,
  number,
  option,
  options,
  path,
  port,
  rate,
  secret,
  text,
} from "../internal/schema.ts";
import { familiarWords } from "./cli_words.ts";
import { clientOptions, serverSettings } from "./options.ts";

const EXITS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 130, 143] as const;

const PASSWORD_PLACES = {
  passwordFile: option(path(), undefined, {
    help: "File with the password; - is standard input",
    placeholder: "FILE",
    group: "Access",
  }),
  passwordEnv: option(text(256), undefined, {
    help: "Variable with the password",
    placeholder: "NAME",
    group: "Access",
  }),
} as const;

const FILES = {
  csv: option(path(), undefined, {
    help: "Append a row for each test to this file",
    placeholder: "FILE",
    group: "Output",
  }),
  csvIntervals: option(path(), undefined, {
    help: "Append a row for each second to this file",
    placeholder: "FILE",
    group: "Output",
  }),
} as const;

const server = command({
  name: "server",
  brief: "Let others test against this machine",
  options: serverSettings,
  flags: options({
    port: option(port(), undefined, {
      help: "Port to listen on, at every address",
      flag: "P",
      placeholder: "PORT",
      group: "Network",
    }),
    listen6: option(endpoint(), undefined, {
      help:
        "IPv6 address to listen on besides, :: when none is named; --listen none leaves IPv4 out",
      placeholder: "[H]:P",
      group: "Network",
    }),
    user: option(text(221), undefined, {
      help: "Who may test; more users take a store of accounts",
      flag: "a",
      placeholder: "NAME",
      group: "Access",
    }),
    password: option(secret(), undefined, {
      help: "The user's password; other users of this machine can see it",
      flag: "p",
      placeholder: "WORD",
      group: "Access",
    }),
    ...PASSWORD_PLACES,
    ...FILES,
    syslog: option(endpoint(), undefined, {
      help: "Send logins, starts and ends to this collector by UDP",
      placeholder: "H:P",
      group: "Output",
    }),
    syslogFormat: option(choice(["3164", "5424"]), "5424", {
      help: "Form of the collector's lines, by RFC",
      group: "Output",
    }),
  }),
  examples: [
    ["", "take every test, on port 2000, IPv4 and IPv6"],
    ["--user admin --password-file secret.txt", "ask for a login as RouterOS 6.43 and later do"],
    ["--user admin --password-file secret.txt --auth md5", "ask as older ones do"],
    ["--listen 127.0.0.1:0 --json", "any free port, events as JSON"],
  ],
  exits: EXITS,
  logLevel: "warning",
  run: async (input) => await (await import("./cli_server.ts")).runServer(input),
});

const client = command({
  name: "client",
  brief: "Test against a RouterOS device or another server",
  operands: [{ name: "host", help: "host, host:port or [v6]:port; the port is 2000 by default" }],
  options: clientOptions,
  flags: options({
    transmit: option(boolean(), false, { help: "Send to the server", flag: "t", group: "Test" }),
    receive: option(boolean(), false, {
      help: "Receive from the server; with -t both",
      flag: "r",
      group: "Test",
    }),
    udp: option(boolean(), false, { help: "Test with UDP", flag: "u", group: "Test" }),
    seconds: option(number(0, 86_400), undefined, {
      help: "Length of the test in seconds; 0 goes on until stopped",
      flag: "d",
      placeholder: "SECS",
      group: "Test",
    }),
    bandwidth: option(rate(0, 0xffff_ffff), undefined, {
      help: "Most that is sent in the chosen direction; 0 is unlimited",
      flag: "b",
      placeholder: "RATE",
      group: "Test",
    }),
    port: option(port(), undefined, {
      help: "The server's port",
      flag: "P",
      placeholder: "PORT",
      group: "Test",
    }),
    ...PASSWORD_PLACES,
    interval: option(integer(1, 3600), 1, {
      help: "Seconds in one line",
      flag: "i",
      placeholder: "SECS",
      group: "Output",
    }),
    ...FILES,
  }),
  examples: [
    ["192.0.2.1", "receive for ten seconds by TCP"],
    ["192.0.2.1 --direction both --connections 20 --duration 30s", "load both ways"],
    ["192.0.2.1 -t -u -b 100M -a admin --password-file secret.txt", "send 100 Mbit/s of UDP"],
    ["192.0.2.1 --json | tail -n 1", "the result for a program"],
  ],
  exits: EXITS,
  run: async (input) => await (await import("./cli_client.ts")).runClient(input),
});

/** The tool, for the umbrella command and for completions. */
export const tool: Tool = {
  name: "btest",
  brief: "MikroTik bandwidth test, server and client",
  commands: [server, client],
};

/**
 * Runs the tool.
 *
 * @param args Words; the process's own when left out, and then the exit code is set too.
 * @returns The exit code.
 */
export async function main(args?: string[]): Promise<number> {
  const code = await runTool(tool, familiarWords(args ?? processArguments()));
  if (args === undefined) setExitCode(code);
  return code;
}
