import { deepEqual, equal, ok } from "node:assert/strict";
import { busyPercent, cpuSampler, type CpuSource, sampleFrom } from "./cpu.ts";
import { type FreeBsdClock, freeBsdSource, type MacClock, macSource } from "./cpu_bsd.ts";
import { openProcStat, PROC_STAT, readProcStat } from "./cpu_linux.ts";
import { openNodeClock } from "./cpu_node.ts";

if (Deno.build.os !== "freebsd" && Deno.build.os !== "darwin") {
  console.warn(
    `the clocks of FreeBSD and macOS are tested against stand-ins only: this is ${Deno.build.os}`,
  );
}

/** Recorded on Linux 6.18, two processors, one second apart, one of them busy. */
const RECORDED = [
  "cpu  1000200 300 200400 9000000 5000 0 1200 700 44 0\ncpu0 500100 150 100200 4500000\n",
  "cpu  1000285 300 200415 9000095 5003 0 1201 701 44 0\ncpu0 500185 150 100210 4500010\n",
];

/** Percent between two texts. */
function between(one: string, two: string): number | undefined {
  const before = new Float64Array(8), now = new Float64Array(8);
  ok(readProcStat(one, before));
  ok(readProcStat(two, now));
  return busyPercent(before, now, PROC_STAT);
}

/** A source that answers one reading after another. */
function recorded(
  readings: readonly (readonly number[] | undefined)[],
  wrap = Infinity,
): CpuSource {
  let next = 0;
  return {
    name: "linux",
    kinds: 2,
    idle: [1],
    wrap,
    read: (times) => {
      const reading = readings[next++];
      if (reading === undefined) return false;
      times.set(reading);
      return true;
    },
    close: () => {},
  };
}

Deno.test("readProcStat() takes eight kinds and leaves the time of guests out", () => {
  const times = new Float64Array(8);
  ok(readProcStat(RECORDED[0]!, times));
  deepEqual([...times], [1000200, 300, 200400, 9000000, 5000, 0, 1200, 700]);
});

Deno.test("readProcStat() takes the four kinds of old kernels and refuses other files", () => {
  const times = new Float64Array(8).fill(7);
  ok(readProcStat("cpu  1 2 3 4\nintr 5\n", times));
  deepEqual([...times], [1, 2, 3, 4, 0, 0, 0, 0]);
  for (
    const text of ["", "cpu", "cpu0 1 2 3 4\n", "cpu  1 2 3\n", "cpu  1 2 x 4\n", "cpu  1 2 3 4"]
  ) {
    equal(readProcStat(text, times), false, text);
  }
});

Deno.test("busyPercent() counts waiting for a disk as idle and steal as busy", () => {
  // 85 user, 15 system, 1 softirq, 1 steal of 200; 95 idle, 3 waiting.
  equal(between(RECORDED[0]!, RECORDED[1]!), 100 * 102 / 200);
  equal(between("cpu  0 0 0 0 0 0 0 0\n", "cpu  0 0 0 0 50 0 0 0\n"), 0);
  equal(between("cpu  0 0 0 0 0 0 0 0\n", "cpu  0 0 0 5 0 0 0 5\n"), 50);
  equal(between("cpu  0 0 0 0 0 0 0 0\n", "cpu  9 0 0 0 0 0 0 0\n"), 100);
});

Deno.test("busyPercent() survives a clock that goes backwards", () => {
  // Linux takes back time it had counted as waiting for a disk.
  equal(between("cpu  100 0 0 100 50 0 0 0\n", "cpu  110 0 0 110 40 0 0 0\n"), 50);
  equal(between("cpu  100 0 0 100 50 0 0 0\n", "cpu  90 0 0 110 50 0 0 0\n"), 0);
  equal(between(RECORDED[0]!, RECORDED[0]!), undefined);
});

Deno.test("busyPercent() carries 32-bit clocks over their end, each by itself", () => {
  const top = 2 ** 32;
  const before = Float64Array.of(top - 30, 10, top - 50, 0);
  const now = Float64Array.of(20, 10, 0, 0);
  equal(busyPercent(before, now, { idle: [2], wrap: top }), 50);
  equal(busyPercent(now, before, { idle: [2], wrap: top }), 100 * (top - 50) / (2 * top - 100));
});

Deno.test("CpuSampler counts from the look before, the first from its opening", () => {
  const sampler = sampleFrom(recorded([[0, 0], [25, 75], [125, 75], [126, 174]]), "");
  const seen = [sampler.sample(), sampler.sample(), sampler.sample()];
  deepEqual(seen.map(({ busyPercent }) => busyPercent), [25, 100, 1]);
  ok(seen.every((sample) => Object.isFrozen(sample)));
});

Deno.test("CpuSampler repeats its answer while no tick passes, and 0 before the first", () => {
  const sampler = sampleFrom(recorded([[5, 5], [5, 5], [6, 8], [6, 8], [7, 8]]), "");
  deepEqual(
    [1, 2, 3, 4].map(() => sampler.sample().busyPercent),
    [0, 25, 25, 100],
  );
});

Deno.test("CpuSampler knows nothing while its source cannot be read, and goes on after", () => {
  const sampler = sampleFrom(recorded([undefined, undefined, [10, 10], [20, 20]]), "");
  deepEqual(
    [1, 2, 3, 4].map(() => sampler.sample().busyPercent),
    [undefined, 0, 50, undefined],
  );
  const none = sampleFrom(undefined, "there is nobody to ask");
  equal(none.source, "none");
  equal(none.sample().busyPercent, undefined);
  none.close();
});

Deno.test("CpuSampler answers nothing after it is closed, and closes its source once", () => {
  let closes = 0;
  const sampler = sampleFrom({ ...recorded([[0, 0], [1, 1]]), close: () => closes++ }, "");
  sampler.close();
  sampler.close();
  equal(sampler.sample().busyPercent, undefined);
  equal(closes, 1);
});

Deno.test("cpuSampler() sees this process work", async () => {
  const sampler = await cpuSampler();
  equal(sampler.source, Deno.build.os === "linux" ? "linux" : sampler.source);
  sampler.sample();
  const until = performance.now() + 120;
  while (performance.now() < until);
  const { busyPercent } = sampler.sample();
  // One of the processors was busy, give or take the ticks at both ends.
  ok(
    busyPercent !== undefined && busyPercent > 60 / navigator.hardwareConcurrency,
    `${busyPercent}`,
  );
  ok(busyPercent <= 100);
  sampler.close();
});

Deno.test("the portable clock agrees with the kernel's file within ten points", () => {
  const portable = openNodeClock(), own = openProcStat();
  ok(typeof portable !== "string" && (typeof own !== "string" || Deno.build.os !== "linux"));
  if (typeof own === "string") return console.warn(`not compared: ${own}`);
  const [a, b] = [sampleFrom(portable, ""), sampleFrom(own, "")];
  const until = performance.now() + 300;
  while (performance.now() < until);
  const [one, two] = [a.sample().busyPercent!, b.sample().busyPercent!];
  ok(Math.abs(one - two) <= 10, `${one} and ${two}`);
  a.close();
  b.close();
});

Deno.test({
  name: "cpuSampler() without the permission to read says why and asks for none",
  fn: async () => {
    const program = new URL("./testdata/cpu_reason.ts", import.meta.url).pathname;
    const run = async (flags: readonly string[]): Promise<string> => {
      const { stdout } = await new Deno.Command(Deno.execPath(), {
        args: ["run", "--no-check", "--no-prompt", ...flags, program],
      }).output();
      return new TextDecoder().decode(stdout).trim();
    };
    if (Deno.build.os !== "linux") return console.warn("only Linux reads a file");
    deepEqual(JSON.parse(await run(["--allow-sys=cpus"])), {
      source: "node",
      reason: "the permission to read /proc/stat (read) is not granted",
      known: true,
    });
    deepEqual(JSON.parse(await run([])), {
      source: "none",
      reason: "the permission to read /proc/stat (read) is not granted; " +
        "the permission to see the processors (sys) is not granted",
      known: false,
    });
  },
});

Deno.test("freeBsdSource() reads user, nice, system, interrupt and idle", () => {
  const library: FreeBsdClock = {
    sysctlbyname: (name, value, length) => {
      equal(new TextDecoder().decode(name), "kern.cp_time\0");
      equal(length[0], 40n);
      value.set([1n, 2n, 3n, 4n, 30n]);
      return 0;
    },
  };
  const times = new Float64Array(5);
  let closes = 0;
  const source = freeBsdSource(library, () => closes++);
  ok(source.read(times));
  deepEqual([...times], [1, 2, 3, 4, 30]);
  equal(busyPercent(new Float64Array(5), times, source), 25);
  source.close();
  equal(closes, 1);
  equal(freeBsdSource({ sysctlbyname: () => -1 }, () => {}).read(times), false);
});

Deno.test("macSource() reads user, system, idle and nice, and wraps at 2³²", () => {
  let ticks = [10, 20, 2 ** 32 - 10, 0];
  const library: MacClock = {
    mach_host_self: () => 515,
    host_statistics: (host, flavor, info, count) => {
      deepEqual([host, flavor, count[0]], [515, 3, 4]);
      info.set(ticks);
      return 0;
    },
  };
  const sampler = sampleFrom(macSource(library, () => {}), "");
  ticks = [20, 25, 20, 15];
  equal(sampler.sample().busyPercent, 50);
  const refusing = macSource({ ...library, host_statistics: () => 5 }, () => {});
  equal(refusing.read(new Float64Array(4)), false);
});
