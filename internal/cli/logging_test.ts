import { deepEqual, equal } from "node:assert/strict";
import { logger } from "../log.ts";
import { resolve } from "../schema.ts";
import { recordedTerminal } from "../testing/terminal.ts";
import { COMMON, type CommonOptions } from "./command.ts";
import { configureLogging, humanRecord, jsonRecord, syslogRecord } from "./logging.ts";

type LogRecord = Parameters<typeof humanRecord>[0];

const RECORD: LogRecord = {
  category: ["fastwire", "tftp", "server"],
  level: "warning",
  message: ["refused ", "a\nb", ""],
  rawMessage: "refused {name}",
  timestamp: Date.UTC(2026, 0, 2, 3, 4, 5, 6),
  properties: { event: "tftp.request-refused", name: "a\nb", size: 5n },
};

Deno.test("humanRecord() is one line with the time of day, level and category", () => {
  equal(humanRecord(RECORD, false), "03:04:05.006 warning tftp.server: refused a b\n");
  equal(humanRecord(RECORD, true).includes("\x1b[33mwarning\x1b[0m"), true);
});

Deno.test("jsonRecord() carries the properties and cannot be overridden by them", () => {
  const record = { ...RECORD, properties: { ...RECORD.properties, level: "fake" } };
  deepEqual(JSON.parse(jsonRecord(record)), {
    event: "tftp.request-refused",
    name: "a\nb",
    size: "5",
    time: "2026-01-02T03:04:05.006Z",
    level: "warning",
    category: "fastwire.tftp.server",
    message: "refused a b",
  });
});

Deno.test("syslogRecord() is an RFC 5424 line of facility daemon", () => {
  equal(
    syslogRecord(RECORD),
    "<28>1 2026-01-02T03:04:05.006Z - fastwire - tftp.request-refused - refused a b\n",
  );
});

async function logged(options: Partial<CommonOptions>, verbosity: number): Promise<string> {
  const terminal = recordedTerminal();
  const common = resolve(COMMON, { logFormat: "syslog", ...options }, "options");
  await configureLogging(terminal, common, verbosity, "warning");
  const log = logger("test");
  log.error("e");
  log.warning("w");
  log.info("i");
  log.debug("d");
  log.trace("t");
  return [...terminal.err.matchAll(/ - (\w)\n/g)].map(([, letter]) => letter).join("");
}

Deno.test("configureLogging() raises the level with -v, lowers it with -q, obeys --log-level first", async () => {
  equal(await logged({}, 0), "ew");
  equal(await logged({}, 1), "ewi");
  equal(await logged({}, 2), "ewid");
  equal(await logged({}, 7), "ewidt");
  equal(await logged({ quiet: true }, 0), "e");
  equal(await logged({ logLevel: "debug", quiet: true }, 1), "ewid");
});
