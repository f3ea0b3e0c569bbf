import { deepEqual, equal, throws } from "node:assert/strict";
import { SystemError } from "../internal/errors.ts";
import {
  csvLine,
  CsvLog,
  INTERVAL_COLUMNS,
  intervalRow,
  RESULT_COLUMNS,
  resultRow,
} from "./csv_log.ts";
import { interval, result } from "./testdata/reports.ts";

const TEST = { host: "192.0.2.1", port: 2000, protocol: "tcp", direction: "transmit" } as const;

/** A path in a folder that goes with the test. */
class Place implements Disposable {
  readonly folder = Deno.makeTempDirSync({ prefix: "fastwire-csv-" });
  readonly path = `${this.folder}/results.csv`;

  get text(): string {
    return Deno.readTextFileSync(this.path);
  }

  [Symbol.dispose](): void {
    Deno.removeSync(this.folder, { recursive: true });
  }
}

Deno.test("csvLine() quotes as RFC 4180 does and defuses formulas", () => {
  equal(csvLine(["a", 1, undefined, -5]), "a,1,,-5\r\n");
  equal(csvLine(['say "x"', "a,b", "a\nb"]), '"say ""x""","a,b","a\nb"\r\n');
  equal(csvLine(["=1+1", "+1", "-1", "@x", '=A,"']), `'=1+1,'+1,'-1,'@x,"'=A,"""\r\n`);
});

Deno.test("resultRow() has a value for every column, rates over the real time", () => {
  const row = resultRow(
    TEST,
    result({
      elapsedMs: 9876,
      txBytes: 10,
      txBps: 1_234_567,
      lost: 3,
      localCpu: 12.6,
      auth: "md5",
    }),
    "client",
    1_700_000_000_999,
  );
  equal(row.length, RESULT_COLUMNS.length);
  equal(
    csvLine(row),
    "1700000000,192.0.2.1,2000,tcp,send,9.88,1.23,0.00,10,0,3,13,,md5\r\n",
  );
});

Deno.test("resultRow() names a direction from where it stands", () => {
  const at = RESULT_COLUMNS.indexOf("direction");
  const named = (direction: "transmit" | "receive" | "both", role: "client" | "server") =>
    resultRow({ ...TEST, direction }, result(), role, 0)[at];
  deepEqual(
    (["transmit", "receive", "both"] as const).map((way) => named(way, "client")),
    ["send", "receive", "both"],
  );
  deepEqual(
    (["transmit", "receive", "both"] as const).map((way) => named(way, "server")),
    ["RX", "TX", "BOTH"],
  );
});

Deno.test("intervalRow() has a value for every column", () => {
  const row = intervalRow(TEST, interval({ rxBytes: 125_000, lost: -1 }), "client", 5000);
  equal(row.length, INTERVAL_COLUMNS.length);
  equal(csvLine(row), "5,192.0.2.1,2000,tcp,send,1,1.00,0.00,1.00,0,125000,-1,0,0,0,,\r\n");
});

Deno.test("CsvLog writes the header into an empty file only", () => {
  using place = new Place();
  for (let i = 0; i < 3; i++) {
    const log = new CsvLog(place.path, ["a", "b"]);
    log.append([i, "x"]);
    log.close();
    log.close();
  }
  equal(place.text, "a,b\r\n0,x\r\n1,x\r\n2,x\r\n");
});

Deno.test("PRD-004: CsvLog keeps one descriptor for a hundred results and opens no other", () => {
  using place = new Place();
  const open = (): number =>
    [...Deno.readDirSync("/proc/self/fd")].filter(({ name }) => {
      try {
        return Deno.readLinkSync(`/proc/self/fd/${name}`) === place.path;
      } catch {
        return false; // the descriptor of this very listing
      }
    }).length;
  const log = new CsvLog(place.path, ["n"]);
  const inode = Deno.statSync(place.path).ino;
  for (let i = 0; i < 100; i++) log.append([i]);
  if (Deno.build.os === "linux") equal(open(), 1);
  equal(Deno.statSync(place.path).ino, inode);
  equal(place.text.split("\r\n").length, 102);
  // Who opened it once more would make it anew.
  Deno.removeSync(place.path);
  for (let i = 0; i < 100; i++) log.append([i]);
  throws(() => Deno.statSync(place.path), Deno.errors.NotFound);
  log.close();
});

Deno.test("Two logs of one file leave every row whole and write one header", () => {
  using place = new Place();
  const logs = [new CsvLog(place.path, ["n", "text"]), new CsvLog(place.path, ["n", "text"])];
  for (let i = 0; i < 200; i++) logs[i % 2]!.append([i, "x".repeat(i)]);
  for (const log of logs) log.close();
  const lines = place.text.split("\r\n").slice(0, -1);
  deepEqual(lines, ["n,text", ...Array.from({ length: 200 }, (_, i) => `${i},${"x".repeat(i)}`)]);
});

Deno.test("CsvLog follows a rotation when it is told to reopen", () => {
  using place = new Place();
  const log = new CsvLog(place.path, ["n"]);
  log.append([1]);
  Deno.renameSync(place.path, `${place.path}.1`);
  log.append([2]);
  log.reopen();
  log.append([3]);
  log.close();
  equal(Deno.readTextFileSync(`${place.path}.1`), "n\r\n1\r\n2\r\n");
  equal(place.text, "n\r\n3\r\n");
});

Deno.test("CsvLog says what it cannot do", () => {
  using place = new Place();
  throws(() => new CsvLog(`${place.folder}/missing/file.csv`, ["n"]), SystemError);
  const log = new CsvLog(place.path, ["n"]);
  log.close();
  throws(() => log.append([1]), TypeError);
});
