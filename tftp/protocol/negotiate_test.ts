import { deepEqual, equal, ok, throws } from "node:assert/strict";
import fc from "fast-check";
import {
  negotiate,
  type NegotiationContext,
  type NegotiationPolicy,
  NO_OPTIONS,
  requestOptions,
  verifyOptionsAck,
} from "./negotiate.ts";
import type { OptionPair } from "./request.ts";

const POLICY: NegotiationPolicy = {
  maxBlockSize: 65464,
  clampToMtu: true,
  maxWindowSize: 1024,
  maxWindowBytes: 4 << 20,
  refuseOptions: [],
};
const READ: NegotiationContext = {
  operation: "read",
  mode: "octet",
  sizeBytes: 119,
  ipv6: false,
};
const WRITE: NegotiationContext = { ...READ, operation: "write", sizeBytes: undefined };

interface Row {
  readonly title: string;
  readonly asked: readonly OptionPair[];
  readonly answered: readonly OptionPair[];
  readonly policy?: Partial<NegotiationPolicy>;
  readonly context?: Partial<NegotiationContext>;
}

/** One option that is answered with a value, or not at all. */
function row(name: string, value: string, answer?: string, more?: Partial<Row>): Row {
  return {
    title: `${name}=${value || '""'} → ${answer ?? "nothing"}`,
    asked: [[name, value]],
    answered: answer === undefined ? [] : [[name, answer]],
    ...more,
  };
}

const ROWS: readonly Row[] = [
  row("blksize", "1428", "1428"),
  row("blksize", "8", "8"),
  row("blksize", "7"),
  row("blksize", "0"),
  row("blksize", "512", "512"),
  row("blksize", "65464", "65464"),
  row("blksize", "65465", "65464"),
  row("blksize", "9999999999", "65464"),
  row("blksize", "99999999999"),
  row("blksize", "0512", "512"),
  row("blksize", "+512"),
  row("blksize", "-512"),
  row("blksize", " 512"),
  row("blksize", "512 "),
  row("blksize", "0x200"),
  row("blksize", "1e3"),
  row("blksize", "512.0"),
  row("blksize", ""),
  row("blksize", "\u0663"),
  row("blksize", "8192", "4096", {
    title: "blksize within the cap",
    policy: { maxBlockSize: 4096 },
  }),
  row("blksize", "65464", "1468", { title: "blksize within IPv4", context: { pathMtu: 1500 } }),
  row("blksize", "65464", "1448", {
    title: "blksize within IPv6",
    context: { pathMtu: 1500, ipv6: true },
  }),
  row("blksize", "65464", "65464", {
    title: "blksize without clamping",
    policy: { clampToMtu: false },
    context: { pathMtu: 1500 },
  }),
  row("blksize2", "1428", "1024"),
  row("blksize2", "32768", "32768"),
  row("blksize2", "65464", "32768"),
  row("blksize2", "9", "8"),
  row("blksize2", "7"),
  {
    title: "blksize wins over blksize2",
    asked: [["blksize2", "1024"], ["blksize", "1428"]],
    answered: [["blksize", "1428"]],
  },
  {
    title: "blksize2 counts when blksize is no number",
    asked: [["blksize", "big"], ["blksize2", "1024"]],
    answered: [["blksize2", "1024"]],
  },
  row("timeout", "1", "1"),
  row("timeout", "255", "255"),
  row("timeout", "0"),
  row("timeout", "256"),
  row("utimeout", "10000", "10000"),
  row("utimeout", "9999"),
  row("utimeout", "255000000", "255000000"),
  row("utimeout", "255000001"),
  {
    title: "utimeout wins over timeout",
    asked: [["timeout", "3"], ["utimeout", "500000"]],
    answered: [["utimeout", "500000"]],
  },
  row("tsize", "0", "119"),
  row("tsize", "0", "0", { title: "tsize of an empty file", context: { sizeBytes: 0 } }),
  row("tsize", "0", undefined, { title: "tsize unknown", context: { sizeBytes: undefined } }),
  row("tsize", "1000", "1000", { title: "tsize of a write", context: WRITE }),
  row("tsize", "9007199254740991", "9007199254740991", {
    title: "tsize of a huge write",
    context: WRITE,
  }),
  row("tsize", "99999999999999999999", undefined, {
    title: "tsize beyond every file",
    context: WRITE,
  }),
  row("windowsize", "1", "1"),
  row("windowsize", "64", "64"),
  row("windowsize", "0"),
  row("windowsize", "65535", "1024"),
  row("windowsize", "65536"),
  row("windowsize", "65535", "32768", {
    title: "windowsize is at most 32768",
    policy: { maxWindowSize: 65535, maxWindowBytes: 1 << 30 },
  }),
  {
    title: "windowsize fits the window's bytes at the agreed block size",
    asked: [["windowsize", "1000"], ["blksize", "65464"]],
    answered: [["windowsize", "64"], ["blksize", "65464"]],
  },
  row("windowsize", "16", "1", {
    title: "a window of one always",
    policy: { maxWindowBytes: 100 },
  }),
  row("rollover", "0", "0"),
  row("rollover", "1", "1"),
  row("rollover", "2"),
  row("rollover", "01"),
  row("multicast", ""),
  row("msftwindow", "31416"),
  {
    title: "the order of the request",
    asked: [["windowsize", "4"], ["x", "1"], ["tsize", "0"], ["blksize", "600"], ["timeout", "6"]],
    answered: [["windowsize", "4"], ["tsize", "119"], ["blksize", "600"], ["timeout", "6"]],
  },
  {
    title: "the first of a repeated name",
    asked: [["blksize", "600"], ["blksize", "700"]],
    answered: [["blksize", "600"]],
  },
  {
    title: "refused options",
    asked: [["tsize", "0"], ["blksize", "600"]],
    answered: [["blksize", "600"]],
    policy: { refuseOptions: ["tsize"] },
  },
  // What real clients ask for, and in which order.
  {
    title: "UEFI: probe with tsize, blksize, windowsize",
    asked: [["tsize", "0"], ["blksize", "1468"], ["windowsize", "4"]],
    answered: [["tsize", "119"], ["blksize", "1468"], ["windowsize", "4"]],
    context: { pathMtu: 1500 },
  },
  {
    title: "U-Boot: timeout first",
    asked: [["timeout", "5"], ["tsize", "0"], ["blksize", "1468"]],
    answered: [["timeout", "5"], ["tsize", "119"], ["blksize", "1468"]],
  },
  {
    title: "curl: the default block size is confirmed too",
    asked: [["tsize", "0"], ["blksize", "512"], ["timeout", "6"]],
    answered: [["tsize", "119"], ["blksize", "512"], ["timeout", "6"]],
  },
  {
    title: "iPXE: an empty multicast is ignored",
    asked: [["blksize", "1432"], ["tsize", "0"], ["multicast", ""]],
    answered: [["blksize", "1432"], ["tsize", "119"]],
  },
  {
    title: "atftp: multicast in a write is ignored",
    asked: [["tsize", "7"], ["timeout", "5"], ["blksize", "512"], ["multicast", ""]],
    answered: [["tsize", "7"], ["timeout", "5"], ["blksize", "512"]],
    context: WRITE,
  },
  {
    title: "Windows boot manager: the private window option is ignored",
    asked: [["tsize", "0"], ["blksize", "1456"], ["windowsize", "4"], ["msftwindow", "31416"]],
    answered: [["tsize", "119"], ["blksize", "1456"], ["windowsize", "4"]],
  },
];

for (const { title, asked, answered, policy, context } of ROWS) {
  Deno.test(`negotiate() answers ${title}`, () => {
    const answer = negotiate(asked, { ...POLICY, ...policy }, { ...READ, ...context });
    deepEqual(answer.accepted, answered);
  });
}

Deno.test("negotiate() leaves the defaults when nothing was asked", () => {
  deepEqual(negotiate([], POLICY, READ), NO_OPTIONS);
});

Deno.test("negotiate() turns what it answers into what is used", () => {
  const asked: OptionPair[] = [["utimeout", "500000"], ["rollover", "1"], ["tsize", "77"]];
  const answer = negotiate(asked, POLICY, WRITE);
  equal(answer.timeoutMs, 500);
  equal(answer.rollover, 1);
  equal(answer.transferSize, 77);
  equal(negotiate([["timeout", "3"]], POLICY, READ).timeoutMs, 3000);
});

Deno.test("negotiate() never exceeds what was asked and never invents, whatever was asked", () => {
  const name = fc.constantFrom("blksize", "blksize2", "windowsize", "timeout", "tsize", "x");
  const value = fc.oneof(fc.nat(70_000).map(String), fc.string({ maxLength: 6 }));
  fc.assert(fc.property(fc.array(fc.tuple(name, value), { maxLength: 8 }), (asked) => {
    const answer = negotiate(asked, POLICY, { ...READ, pathMtu: 1500 });
    const names = answer.accepted.map((pair) => pair[0]);
    equal(new Set(names).size, names.length);
    for (const [accepted, text] of answer.accepted) {
      const first = asked.find((pair) => pair[0] === accepted);
      ok(first !== undefined);
      if (accepted !== "tsize") ok(Number(text) <= Number(first[1]));
    }
    if (!names.some((each) => each.startsWith("blksize"))) equal(answer.blockSize, 512);
    if (!names.includes("windowsize")) equal(answer.windowSize, 1);
    ok(answer.blockSize <= 1468 && answer.windowSize * answer.blockSize <= 4 << 20);
    // A client that asked this takes the answer.
    const unique = asked.filter((pair, at) => asked.findIndex((e) => e[0] === pair[0]) === at);
    const verified = verifyOptionsAck(unique, answer.accepted, { lenient: false });
    ok(!("refused" in verified), JSON.stringify(verified));
    equal(verified.blockSize, answer.blockSize);
    equal(verified.windowSize, answer.windowSize);
  }));
});

Deno.test("requestOptions() sends only what is not the default", () => {
  deepEqual(requestOptions({ blockSize: 512, windowSize: 1 }), []);
  deepEqual(
    requestOptions({
      blockSize: 1428,
      windowSize: 16,
      timeoutMs: 2000,
      transferSize: 0,
      rollover: 0,
    }),
    [["tsize", "0"], ["blksize", "1428"], ["timeout", "2"], ["windowsize", "16"], [
      "rollover",
      "0",
    ]],
  );
  deepEqual(requestOptions({ timeoutMs: 250 }), [["utimeout", "250000"]]);
});

Deno.test("requestOptions() refuses what the wire cannot carry", () => {
  throws(() => requestOptions({ blockSize: 7 }), RangeError);
  throws(() => requestOptions({ blockSize: 65465 }), RangeError);
  throws(() => requestOptions({ windowSize: 32769 }), RangeError);
  throws(() => requestOptions({ timeoutMs: 9 }), RangeError);
  throws(() => requestOptions({ transferSize: -1 }), RangeError);
});

const ASKED: readonly OptionPair[] = [
  ["tsize", "0"],
  ["blksize", "1428"],
  ["timeout", "2"],
  ["windowsize", "16"],
  ["rollover", "0"],
];

Deno.test("verifyOptionsAck() takes smaller values and fewer options", () => {
  const answer = verifyOptionsAck(ASKED, [["blksize", "1024"], ["windowsize", "1"]], {
    lenient: false,
  });
  ok(!("refused" in answer));
  equal(answer.blockSize, 1024);
  equal(answer.windowSize, 1);
  equal(answer.timeoutMs, undefined);
});

Deno.test("verifyOptionsAck() refuses larger values, other timeouts and what is no number", () => {
  const wrong: OptionPair[] = [
    ["blksize", "1429"],
    ["blksize", "7"],
    ["blksize", "x"],
    ["windowsize", "17"],
    ["windowsize", "0"],
    ["timeout", "3"],
    ["rollover", "1"],
  ];
  for (const pair of wrong) {
    ok("refused" in verifyOptionsAck(ASKED, [pair], { lenient: true }), pair.join("="));
  }
});

Deno.test("verifyOptionsAck() ignores what was not asked only when lenient", () => {
  const lenient = verifyOptionsAck(ASKED, [["multicast", ",,1"]], { lenient: true });
  ok(!("refused" in lenient));
  deepEqual(lenient.accepted, []);
  ok("refused" in verifyOptionsAck(ASKED, [["multicast", ",,1"]], { lenient: false }));
});
