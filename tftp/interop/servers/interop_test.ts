import { deepEqual } from "node:assert/strict";
import { NetworkNamespace } from "../../../internal/testing/netns.ts";
import { peerTest, type ServerName, startServer } from "../../../internal/testing/peers.ts";
import { ROLLOVER_BLOCKS, runTransfers, sizesAround, Workspace } from "../../testdata/interop.ts";
import type { TransferJob, TransferReport } from "../../testdata/transfers.ts";

/** How a server answers our wishes. */
interface Habit {
  readonly server: ServerName;
  /** More words for its command line. */
  readonly extra?: readonly string[];
  readonly writable: boolean;
  /** The largest block it agrees to; `own` when that depends on how it was built. */
  readonly blockSize?: number | "own";
  /** Whether it knows windows. */
  readonly windows?: boolean;
}

/** Every server, as it comes and with options refused. */
const HABITS: Readonly<Record<string, Habit>> = {
  "in.tftpd": { server: "in.tftpd", writable: true },
  "in.tftpd with blocks of 1,400 bytes at most": {
    server: "in.tftpd",
    extra: ["--blocksize", "1400"],
    writable: true,
    blockSize: 1400,
  },
  "in.tftpd without blksize and tsize": {
    server: "in.tftpd",
    extra: ["--refuse", "blksize", "--refuse", "tsize"],
    writable: true,
    blockSize: 512,
  },
  "atftpd": { server: "atftpd", writable: true, windows: true },
  "atftpd without blksize": {
    server: "atftpd",
    extra: ["--no-blksize"],
    writable: true,
    blockSize: 512,
    windows: true,
  },
  "atftpd without windowsize": {
    server: "atftpd",
    extra: ["--no-windowsize"],
    writable: true,
  },
  // No more than its packet buffer holds: 2263 bytes in version 2.90.
  "dnsmasq": { server: "dnsmasq", writable: false, blockSize: "own" },
  "dnsmasq without blksize": {
    server: "dnsmasq",
    extra: ["--tftp-no-blocksize"],
    writable: false,
    blockSize: 512,
  },
};

/** Block and window sizes we wish for; 1 and 512 go without saying, so that request carries `tsize` only. */
const WISHES = [[512, 1], [1428, 16], [8192, 64], [512, 64]] as const;

for (const [title, habit] of Object.entries(HABITS)) {
  const needs = [habit.server] as const;
  peerTest(`our client and ${title} exchange files of every size`, needs, async (t) => {
    await using space = await Workspace.create();
    await using namespace = habit.server === "dnsmasq"
      ? await NetworkNamespace.create()
      : undefined;
    await using server = await startServer(habit.server, {
      root: space.root,
      writable: habit.writable,
      ...(habit.extra === undefined ? {} : { extra: habit.extra }),
      ...(namespace === undefined ? {} : { namespace }),
    });
    for (const driver of ["fast", "portable"] as const) {
      await t.step(driver, async () => {
        const plan = await planOf(
          space,
          habit,
          WISHES.flatMap(([blockSize, windowSize]) =>
            sizesAround(blockSize).map((size) => ({ size, blockSize, windowSize }))
          ),
          driver,
        );
        const reports = await runTransfers({
          server: `${server.host}:${server.port}`,
          options: { driver },
          jobs: plan.map(({ job }) => job),
        }, namespace);
        deepEqual(await mistakesOf(space, plan, reports, driver), []);
      });
    }
  });
}

for (const server of ["in.tftpd", "atftpd", "dnsmasq"] as const) {
  const blocks = ROLLOVER_BLOCKS + 3;
  peerTest(`our client and ${server} exchange ${blocks} blocks`, [server], async () => {
    await using space = await Workspace.create();
    await using namespace = server === "dnsmasq" ? await NetworkNamespace.create() : undefined;
    const writable = server !== "dnsmasq";
    await using running = await startServer(server, {
      root: space.root,
      writable,
      ...(namespace === undefined ? {} : { namespace }),
    });
    const wish = { size: 512 * blocks - 3, blockSize: 512, windowSize: 64 };
    const habit = HABITS[server]!;
    const plan = await planOf(space, habit, [wish], "roll");
    const reports = await runTransfers({
      server: `${running.host}:${running.port}`,
      options: { driver: "fast" },
      jobs: plan.map(({ job }) => job),
    }, namespace);
    deepEqual(await mistakesOf(space, plan, reports, "fast"), []);
  });
}

/** A transfer with what must come of it. */
interface Planned {
  readonly job: TransferJob;
  /** The offered file it moves. */
  readonly name: string;
  /** What must be agreed on; at most that, when it is the server's own affair. */
  readonly blockSize: number;
  readonly anySmaller: boolean;
  readonly windowSize: number;
}

async function planOf(
  space: Workspace,
  habit: Habit,
  wishes: readonly { size: number; blockSize: number; windowSize: number }[],
  prefix: string,
): Promise<Planned[]> {
  const planned: Planned[] = [];
  for (const { size, blockSize, windowSize } of wishes) {
    const name = await space.offer(size);
    const expected = {
      name,
      blockSize: Math.min(
        blockSize,
        habit.blockSize === "own" ? Infinity : habit.blockSize ?? Infinity,
      ),
      anySmaller: habit.blockSize === "own",
      windowSize: habit.windows === true ? windowSize : 1,
    };
    const options = { blockSize, windowSize };
    planned.push({ ...expected, job: { get: name, options } });
    if (!habit.writable) continue;
    const as = `${prefix}-${planned.length}`;
    planned.push({ ...expected, job: { put: `${space.local}/${name}`, as, options } });
  }
  return planned;
}

async function mistakesOf(
  space: Workspace,
  plan: readonly Planned[],
  reports: readonly TransferReport[],
  driver: "fast" | "portable",
): Promise<string[]> {
  const mistakes: string[] = [];
  for (const [index, { job, name, blockSize, anySmaller, windowSize }] of plan.entries()) {
    const report = reports[index]!;
    const wrong: string[] = [];
    if (report.error !== "") wrong.push(report.error);
    else {
      const fits = anySmaller ? report.blockSize <= blockSize : report.blockSize === blockSize;
      if (!fits) wrong.push(`block size ${report.blockSize}`);
      if (report.windowSize !== windowSize) wrong.push(`window size ${report.windowSize}`);
      if (report.driver !== (driver === "fast" ? "linux" : "node")) wrong.push(report.driver);
    }
    if (job.get !== undefined && report.hash !== space.hash(name)) wrong.push("content differs");
    if (job.as !== undefined) {
      const difference = await space.difference(`${space.root}/${job.as}`, name);
      if (difference !== "") wrong.push(difference);
    }
    if (wrong.length > 0) mistakes.push(`${JSON.stringify(job)}: ${wrong.join("; ")}`);
  }
  return mistakes;
}
