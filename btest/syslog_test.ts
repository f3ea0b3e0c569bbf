import { deepEqual, equal, match, ok } from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { seededRandom } from "../internal/random.ts";
import type { ServerEvent } from "./api_types.ts";
import {
  syslog3164,
  syslog5424,
  SYSLOG_QUEUE,
  type SyslogRecord,
  syslogRecords,
  SyslogSender,
} from "./syslog.ts";
import { interval, refusal, result, session } from "./testdata/reports.ts";

const ORIGIN = { host: "gate", app: "btest", processId: 42, timeZone: "UTC" } as const;
/** 2 January 2026, 03:04:05.678 UTC. */
const AT = Date.UTC(2026, 0, 2, 3, 4, 5, 678);

/** RFC 5424 §6 as a strict grammar: everything that is optional there is present here. */
const STRICT_5424 = new RegExp(
  "^<(\\d{1,3})>1 (\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}Z) ([!-~]{1,255}) ([!-~]{1,48})" +
    " ([!-~]{1,128}) ([!-~]{1,32}) \\[([!#-<>-\\\\^-~]{1,32})((?: [!#-<>-\\\\^-~]{1,32}=" +
    '"(?:[^"\\\\\\]]|\\\\["\\\\\\]])*")*)\\] (\\P{Cc}*)$',
  "u",
);
const STRICT_3164 =
  /^<(\d{1,3})>((?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ 1-3]\d \d\d:\d\d:\d\d) (\S+) ([\w-]{1,32})\[(\d+)\]: (\P{Cc}*)$/u;

/** The fields of structured data, unescaped. */
function fieldsOf(data: string): [string, string][] {
  return [...data.matchAll(/ ([^=]+)="((?:[^"\\\]]|\\["\\\]])*)"/gu)]
    .map(([, name, value]) => [name!, value!.replace(/\\(["\\\]])/g, "$1")]);
}

Deno.test("syslogRecords() tells of logins, starts and ends", () => {
  const names = (event: ServerEvent) => syslogRecords(event).map(({ event }) => event);
  const open = session({ auth: "none", user: "" });
  deepEqual(names({ kind: "start", session: session() }), ["AUTH_SUCCESS", "TEST_START"]);
  deepEqual(names({ kind: "start", session: open }), ["TEST_START"]);
  deepEqual(names({ kind: "end", session: open, result: result() }), ["TEST_END"]);
  deepEqual(names(refusal("x")), ["AUTH_FAILURE"]);
  deepEqual(names({ kind: "refused", peer: open.peer, user: "", reason: "protocol" }), []);
  deepEqual(names({ kind: "interval", session: open, interval: interval() }), []);
});

Deno.test("syslog3164() writes local time with a padded day", () => {
  const [record] = syslogRecords(refusal("ad min"));
  equal(
    syslog3164(record!, ORIGIN, AT),
    '<132>Jan  2 03:04:05 gate btest[42]: AUTH_FAILURE peer=192.0.2.1 user="ad min" reason=auth-failed',
  );
});

Deno.test("PRD-006: syslog3164() keeps calendars and zones straight", () => {
  const [record] = syslogRecords(refusal("x"));
  const time = (at: number, timeZone: string) =>
    syslog3164(record!, { ...ORIGIN, timeZone }, at).slice(5, 20);
  equal(time(0, "UTC"), "Jan  1 00:00:00");
  equal(time(Date.UTC(2024, 1, 29, 23, 59, 59), "UTC"), "Feb 29 23:59:59");
  equal(time(Date.UTC(2025, 11, 31, 23, 30), "Europe/Helsinki"), "Jan  1 01:30:00");
  // The clock goes forward at 01:00 UTC on 29 March 2026.
  equal(time(Date.UTC(2026, 2, 29, 0, 59, 59), "Europe/Berlin"), "Mar 29 01:59:59");
  equal(time(Date.UTC(2026, 2, 29, 1, 0, 0), "Europe/Berlin"), "Mar 29 03:00:00");
  equal(time(Date.UTC(2026, 9, 25, 1, 0, 0), "Europe/Berlin"), "Oct 25 02:00:00");
});

Deno.test("syslog5424() puts the fields into structured data", () => {
  const event: ServerEvent = {
    kind: "end",
    session: session(),
    result: result({ rxBytes: 125_000, rxBps: 1e6, elapsedMs: 1000 }),
  };
  const [record] = syslogRecords(event);
  const line = syslog5424(record!, ORIGIN, AT);
  ok(line.startsWith("<134>1 2026-01-02T03:04:05.678Z gate btest 42 TEST_END [btest@32473 peer="));
  deepEqual(Object.fromEntries(fieldsOf(STRICT_5424.exec(line)![8]!)), {
    peer: "192.0.2.1",
    user: "admin",
    type: "ecsrp5",
    proto: "tcp",
    dir: "RX",
    connections: "1",
    duration: "1.00",
    tx_avg: "0.00",
    rx_avg: "1.00",
    tx_bytes: "0",
    rx_bytes: "125000",
    lost: "0",
    reason: "duration",
  });
});

Deno.test("PRD-007: a strict parser reads a thousand records whatever peers call themselves", () => {
  const seed = 7;
  const random = seededRandom(seed);
  const alphabet = [
    '"',
    "\\",
    "]",
    "=",
    " ",
    "\n",
    "\x00",
    "\x7f",
    "\u0085",
    "ä",
    "𝄞",
    "a",
    "<",
    ">",
  ];
  for (let round = 0; round < 1000; round++) {
    const user = Array.from(
      { length: random.u32() % 100 },
      () => alphabet[random.u32() % alphabet.length]!,
    ).join("");
    const kept = [...user.replace(/\p{Cc}/gu, "")].slice(0, 64).join("");
    const why = `seed ${seed}, round ${round}`;
    const records: readonly SyslogRecord[] = [
      ...syslogRecords({ kind: "start", session: session({ user }) }),
      ...syslogRecords({ kind: "end", session: session({ user }), result: result() }),
      ...syslogRecords(refusal(user)),
    ];
    equal(records.length, 4);
    for (const record of records) {
      const modern = STRICT_5424.exec(syslog5424(record, ORIGIN, AT));
      ok(modern !== null, why);
      equal(Object.fromEntries(fieldsOf(modern[8]!))["user"], kept, why);
      match(syslog3164(record, ORIGIN, AT), STRICT_3164, why);
      ok(new TextEncoder().encode(syslog5424(record, ORIGIN, AT)).length <= 2048, why);
    }
  }
});

Deno.test("SyslogSender sends a datagram for each record, those that wait at its end too", async () => {
  const collector = createSocket("udp4");
  collector.bind(0, "127.0.0.1");
  await once(collector, "listening");
  const { port } = collector.address();
  try {
    const target = { family: "ipv4", address: "127.0.0.1", port } as const;
    await using sender = await SyslogSender.open(target, "5424", ORIGIN);
    const arrived = once(collector, "message");
    sender.push(syslogRecords(refusal("x")), AT);
    equal(sender.sent, 0, "nothing is formatted or sent in the caller's turn");
    const [bytes] = await arrived;
    match(
      new TextDecoder().decode(bytes),
      /AUTH_FAILURE \[btest@32473 peer="192\.0\.2\.1" user="x"/,
    );
    equal(sender.sent, 1);

    const last = once(collector, "message");
    sender.push(syslogRecords(refusal("last")), AT);
    await sender.close();
    match(new TextDecoder().decode((await last)[0]), /user="last"/);
  } finally {
    collector.close();
  }
});

Deno.test("SyslogSender lets 256 records wait, drops the rest and never blocks", async () => {
  // A port that nobody reads: what is sent there is lost, and that is all.
  const target = { family: "ipv4", address: "127.0.0.1", port: 9 } as const;
  const sender = await SyslogSender.open(target, "3164", ORIGIN);
  for (let i = 0; i < 1000; i++) sender.push(syslogRecords(refusal("x")), AT);
  equal(sender.dropped, 1000 - SYSLOG_QUEUE);
  await sender.close();
  equal(sender.sent, SYSLOG_QUEUE);
  sender.push(syslogRecords(refusal("x")), AT);
  await sender.close();
  equal(sender.dropped, 1000 - SYSLOG_QUEUE, "a closed sender takes nothing");
});
