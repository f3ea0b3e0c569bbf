import { deepEqual, equal, match, ok } from "node:assert/strict";
import { seededRandom } from "../internal/random.ts";
import {
  endObject,
  intervalObject,
  intervalText,
  lossPercent,
  rateOf,
  startObject,
  summaryText,
  tableHead,
  tableText,
  Totals,
  waysOf,
} from "./report.ts";
import { interval, result } from "./testdata/reports.ts";

const RX = { tx: false, rx: true };
const BOTH = { tx: true, rx: true };

Deno.test("waysOf() turns the client's direction round for a server", () => {
  deepEqual(waysOf("transmit", "client"), { tx: true, rx: false });
  deepEqual(waysOf("transmit", "server"), { tx: false, rx: true });
  deepEqual(waysOf("receive", "server"), { tx: true, rx: false });
  deepEqual(waysOf("both", "server"), BOTH);
});

Deno.test("Totals divides by the time that really passed", () => {
  const totals = new Totals();
  totals.add(interval({ second: 1, intervalMs: 1010, rxBytes: 1_010_000, txBytes: 2_020_000 }));
  totals.add(interval({ second: 2, elapsedMs: 1510, intervalMs: 500, rxBytes: 500_000 }));
  equal(totals.elapsedMs, 1510);
  equal(totals.rxBps, 8_000_000);
  equal(Math.round(totals.txBps), Math.round(2_020_000 * 8000 / 1510));
  equal(new Totals().rxBps, 0);
});

Deno.test("Totals averages loads over the seconds in which they were known", () => {
  const totals = new Totals();
  equal(totals.localCpu, undefined);
  totals.add(interval({ localCpu: 30 }));
  totals.add(interval({ second: 2, remoteCpu: 80 }));
  totals.add(interval({ second: 3, intervalMs: 500, localCpu: 90, remoteCpu: 20 }));
  equal(totals.localCpu, 50);
  equal(totals.remoteCpu, 60);
});

Deno.test("Totals finds the best and the worst whole second", () => {
  const totals = new Totals();
  equal(totals.rx, undefined);
  [3, 9, 5, 2].forEach((bytes, index) =>
    totals.add(interval({ second: index + 1, rxBytes: bytes * 125_000 }))
  );
  // The rest at the end is neither.
  totals.add(interval({ second: 5, intervalMs: 100, rxBytes: 0 }));
  deepEqual(totals.rx, { bestBps: 9e6, bestSecond: 2, worstBps: 2e6, worstSecond: 4 });
});

Deno.test("Totals merges intervals into one whose sums are theirs", () => {
  const seed = 11;
  const random = seededRandom(seed);
  const totals = new Totals();
  let [rx, lost, peer] = [0, 0, 0];
  for (let second = 1; second <= 50; second++) {
    const one = interval({
      second,
      elapsedMs: second * 1000,
      rxBytes: random.u32(),
      lost: random.u32() % 5 - 1,
      peerReceivedBytes: second % 3 === 0 ? undefined : random.u32(),
    });
    [rx, lost, peer] = [rx + one.rxBytes, lost + one.lost, peer + (one.peerReceivedBytes ?? 0)];
    totals.add(one);
  }
  const merged = totals.merged();
  deepEqual(
    [merged.rxBytes, merged.lost, merged.peerReceivedBytes, merged.second, merged.intervalMs],
    [rx, lost, peer, 50, 50_000],
    `seed ${seed}`,
  );
  equal(merged.localCpu, undefined);
});

Deno.test("intervalText() writes the line people know", () => {
  const one = interval({
    second: 3,
    rxBytes: 53_813_376,
    lost: 5,
    localCpu: 18.4,
    remoteCpu: 45,
  });
  equal(
    intervalText(one, RX, "udp"),
    "[   3]  RX    430.51 Mbps (53813376 bytes)  lost: 5  cpu: 18%/45%\n",
  );
  equal(
    intervalText({ ...one, remoteCpu: undefined, localCpu: 71 }, RX, "tcp"),
    "[   3]  RX    430.51 Mbps (53813376 bytes)  cpu: 71%/- !\n",
  );
  equal(
    intervalText(interval({ txBytes: 125_000 }), BOTH, "tcp"),
    "[   1]  TX      1.00 Mbps (125000 bytes)\n[   1]  RX      0.00 Mbps (0 bytes)\n",
  );
});

Deno.test("intervalText() marks a busy second only above 70 percent", () => {
  match(intervalText(interval({ remoteCpu: 70 }), RX, "tcp"), /70%\n$/);
  match(intervalText(interval({ remoteCpu: 71 }), RX, "tcp"), /71% !\n$/);
});

Deno.test("The rest of a second at the end is told as one", () => {
  const rest = interval({ second: 4, intervalMs: 250, rxBytes: 31_250 });
  equal(intervalText(rest, RX, "tcp"), "[   4]  RX      1.00 Mbps (31250 bytes)  in 250 ms\n");
  match(tableText(rest, RX, "tcp"), / {2}in 250 ms\n$/);
});

Deno.test("tableText() stands under tableHead(), column by column", () => {
  for (const ways of [BOTH, RX]) {
    for (const protocol of ["tcp", "udp"] as const) {
      const head = tableHead(ways, protocol);
      const line = tableText(interval({ rxBytes: 1e9, localCpu: 3 }), ways, protocol);
      equal(line.length, head.length);
      equal(/lost/.test(head), protocol === "udp");
      equal(/sent/.test(head), ways.tx);
    }
  }
  match(tableText(interval({ rxBytes: 125_000 }), RX, "tcp"), /^ {5}1 +1\.00 Mbps +- +-\n$/);
});

Deno.test("summaryText() says averages, extremes, losses, reason and warnings", () => {
  const totals = new Totals();
  totals.add(interval({ rxBytes: 125_000 }));
  totals.add(interval({ second: 2, rxBytes: 250_000 }));
  const text = summaryText(
    result({
      rxBytes: 375_000,
      rxBps: 1.5e6,
      elapsedMs: 2000,
      lost: 5,
      datagramsReceived: 995,
      reordered: 2,
      auth: "md5",
      warnings: ["One connection could not be had"],
    }),
    totals,
    RX,
    "udp",
  );
  equal(
    text,
    "RX  average 1.50 Mbps, best 2.00 in second 2, worst 1.00 in second 1 (375000 bytes)\n" +
      "lost 5 of 1000 datagrams (0.50 %), of these 0 dropped here; 2 reordered, 0 duplicate\n" +
      "udp, 1 connection, login by md5, 2.0 s, ended by duration\n" +
      "warning: One connection could not be had\n",
  );
  // A test of half a second has no whole one.
  match(
    summaryText(result(), new Totals(), BOTH, "tcp"),
    /^TX {2}average 0\.00 Mbps \(0 bytes\)\n/,
  );
});

Deno.test("lossPercent() of nothing is 0", () => {
  equal(lossPercent({ lost: 0, datagramsReceived: 0 }), 0);
  equal(lossPercent({ lost: 1, datagramsReceived: 3 }), 25);
  equal(rateOf(10, 0), 0);
});

Deno.test("JSON objects carry integers for bytes and rates, null for the unknown", () => {
  deepEqual(intervalObject(interval({ intervalMs: 999.7, rxBytes: 1001, localCpu: 33.4 })), {
    type: "interval",
    second: 1,
    elapsed_ms: 1000,
    interval_ms: 1000,
    rx_bytes: 1001,
    tx_bytes: 0,
    rx_bps: Math.round(1001 * 8000 / 999.7),
    tx_bps: 0,
    lost_packets: 0,
    reordered_packets: 0,
    duplicate_packets: 0,
    local_drops: 0,
    local_cpu_pct: 33,
    remote_cpu_pct: null,
    peer_rx_bytes: null,
  });
});

Deno.test("The last JSON object begins with the members programs rely on", () => {
  const end = endObject(result({ rxBytes: 5, rxBps: 12.6, elapsedMs: 4999.6, remoteCpu: 7.5 }));
  deepEqual(Object.entries(end).slice(0, 9), [
    ["type", "end"],
    ["rx_bytes", 5],
    ["tx_bytes", 0],
    ["rx_bps", 13],
    ["tx_bps", 0],
    ["lost_packets", 0],
    ["duration_ms", 5000],
    ["local_cpu_pct", null],
    ["remote_cpu_pct", 8],
  ]);
  ok(JSON.parse(JSON.stringify(end)));
});

Deno.test("The first JSON object says when, with whom and what", () => {
  const test = { host: "192.0.2.1", port: 2000, protocol: "udp", direction: "both" } as const;
  deepEqual(startObject(test, 0), { type: "start", time: "1970-01-01T00:00:00.000Z", ...test });
});
