import { deepEqual, equal, match, ok } from "node:assert/strict";
import { startCapture } from "../../../internal/testing/capture.ts";
import { type Link, type LinkOptions, NetworkNamespace } from "../../../internal/testing/netns.ts";
import { LossyRelay } from "../../../internal/testing/lossy_relay.ts";
import { ownWords } from "../../../internal/testing/own_tool.ts";
import { peerTest, runProgram } from "../../../internal/testing/peers.ts";
import { type OwnServer, runTransfers, startOwnServer, Workspace } from "../../testdata/interop.ts";
import type { ClientOptions } from "../../settings.ts";
import type { BroadcastAnswers } from "../../testdata/broadcast.ts";
import type { TransferJob, TransferReport } from "../../testdata/transfers.ts";

const DRIVERS = ["fast", "portable"] as const;

/** A server's and a client's network with a cable between, and files to serve. */
class TwoNetworks implements AsyncDisposable {
  private constructor(
    readonly space: Workspace,
    readonly there: NetworkNamespace,
    readonly here: NetworkNamespace,
    readonly link: Link,
  ) {}

  static async create(options: Partial<LinkOptions> = {}): Promise<TwoNetworks> {
    const addresses = { first: "10.77.0.1/24", second: "10.77.0.2/24" };
    await using made = new AsyncDisposableStack();
    const there = made.use(await NetworkNamespace.create());
    const here = made.use(await NetworkNamespace.create());
    const space = made.use(await Workspace.create());
    const link = await there.connect(here, { ...addresses, ...options });
    made.move();
    return new TwoNetworks(space, there, here, link);
  }

  serve(words: readonly string[], listen: readonly string[] = ["0.0.0.0:69"]): Promise<OwnServer> {
    return startOwnServer(this.space, words, listen, this.there);
  }

  /** Transfers of our own client, here. */
  transfer(
    server: OwnServer,
    jobs: readonly TransferJob[],
    options: ClientOptions,
    concurrency = 1,
  ): Promise<readonly TransferReport[]> {
    const list = { server: `10.77.0.1:${server.port}`, options, jobs, concurrency };
    return runTransfers(list, this.here);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.here[Symbol.asyncDispose]();
    await this.there[Symbol.asyncDispose]();
    await this.space[Symbol.asyncDispose]();
  }
}

for (
  const [version, address, blockSize] of [[4, "10.77.0.1", 1468], [6, "fd77::1", 1448]] as const
) {
  peerTest(
    `an IPv${version} path of 1,500 bytes carries one block a packet, runs or not`,
    ["namespaces", "tcpdump"],
    async (t) => {
      const addresses = version === 4 ? {} : { first: "fd77::1/64", second: "fd77::2/64" };
      await using two = await TwoNetworks.create({ mtu: 1500, cut: true, ...addresses });
      const name = await two.space.offer(1_000_000);
      for (const driver of DRIVERS) {
        await t.step(driver, async () => {
          await using server = await two.serve(["--driver", driver], ["[::]:69"]);
          await using capture = await startCapture(two.here, two.link.second);
          const options = { driver: "fast", blockSize: 8192, windowSize: 16 } as const;
          const host = version === 4 ? address : `[${address}]`;
          const [report] = await runTransfers({
            server: `${host}:${server.port}`,
            options,
            jobs: [{ get: name }],
          }, two.here);
          equal(report!.error, "");
          equal(report!.hash, two.space.hash(name));
          // More was asked for: the path decided.
          equal(report!.blockSize, blockSize);
          equal(report!.windowSize, 16);
          const blocks = Math.floor(1_000_000 / blockSize);
          const packets = await capture.stop(blocks + 2);
          const full = packets.filter(({ length }) => length === 1500).length;
          ok(full >= blocks, `${full} full packets of ${packets.length}`);
          deepEqual(packets.filter(({ length, fragment }) => length > 1500 || fragment), []);
        });
      }
    },
  );
}

peerTest("runs leave the server in one piece where the cable takes them", [
  "namespaces",
  "tcpdump",
], async () => {
  await using two = await TwoNetworks.create({ mtu: 1500 });
  const name = await two.space.offer(1_000_000);
  await using server = await two.serve(["--driver", "fast"]);
  await using capture = await startCapture(two.here, two.link.second);
  const reports = await two.transfer(server, [{ get: name }], { blockSize: 1468, windowSize: 16 });
  deepEqual(mistakes(two, reports, [name]), []);
  const runs = (await capture.stop(40)).filter(({ length }) => length > 1500);
  ok(runs.length > 0, "no packet was longer than the path's MTU");
  // A run is no packet that the path would have to cut: nothing came out as pieces of one.
  equal((await two.there.counts("Ip"))["FragCreates"], 0);
});

for (const driver of DRIVERS) {
  peerTest(
    `larger blocks travel in fragments when they may (${driver})`,
    ["namespaces"],
    async () => {
      await using two = await TwoNetworks.create({ mtu: 1500 });
      const name = await two.space.offer(300_000);
      await using server = await two.serve(["--driver", driver, "--no-clamp-to-mtu"]);
      const jobs = [
        { get: name },
        { put: `${two.space.local}/${name}`, as: "up" },
      ];
      const options = { driver, blockSize: 8192, windowSize: 4 };
      const reports = await two.transfer(server, jobs, options);
      deepEqual(mistakes(two, reports, [name, ""]), []);
      deepEqual(reports.map(({ blockSize }) => blockSize), [8192, 8192]);
      equal(await two.space.difference(`${two.space.root}/up`, name), "");
      for (const network of [two.there, two.here]) {
        ok((await network.counts("Ip"))["FragCreates"]! > 36, "nobody cut anything");
      }
    },
  );
}

peerTest("a path of 576 bytes gets blocks that fit, asked for or not", ["namespaces"], async () => {
  await using two = await TwoNetworks.create({ mtu: 576 });
  const name = await two.space.offer(100_003);
  await using server = await two.serve(["--driver", "fast"]);
  const jobs = [
    { get: name, options: { blockSize: 1428 } },
    { get: name, options: { blockSize: 0 } },
    { put: `${two.space.local}/${name}`, as: "up", options: { blockSize: 1428 } },
  ];
  const reports = await two.transfer(server, jobs, { windowSize: 16 });
  deepEqual(mistakes(two, reports, [name, name, ""]), []);
  deepEqual(reports.map(({ blockSize }) => blockSize), [544, 544, 544]);
  equal(await two.space.difference(`${two.space.root}/up`, name), "");
  for (const network of [two.there, two.here]) {
    equal((await network.counts("Ip"))["FragCreates"], 0);
  }
});

for (const driver of DRIVERS) {
  peerTest(`one wildcard serves IPv4, global and link-local IPv6 (${driver})`, [
    "namespaces",
  ], async () => {
    await using two = await TwoNetworks.create();
    await two.there.addAddress(two.link.first, "fd77::1/64");
    await two.here.addAddress(two.link.second, "fd77::2/64");
    await two.there.addAddress(two.link.first, "fe80::77:1/64");
    await two.here.addAddress(two.link.second, "fe80::77:2/64");
    const name = await two.space.offer(100_003);
    await using server = await two.serve(["--driver", driver], ["[::]:69"]);
    const hosts = ["10.77.0.1", "[fd77::1]", `[fe80::77:1%${two.link.second}]`];
    const jobs: TransferJob[] = hosts.flatMap((host, i) => [
      { server: `${host}:69`, get: name },
      { server: `${host}:69`, put: `${two.space.local}/${name}`, as: `up-${i}` },
    ]);
    const reports = await two.transfer(server, jobs, { driver, windowSize: 16 });
    deepEqual(mistakes(two, reports, jobs.map(({ get }) => get ?? "")), []);
    for (let i = 0; i < hosts.length; i++) {
      equal(await two.space.difference(`${two.space.root}/up-${i}`, name), "");
    }
  });
}

for (
  const words of [["--driver", "fast"], ["--driver", "fast", "--single-port"], [
    "--driver",
    "portable",
  ]]
) {
  peerTest(`every address answers for itself, and none a broadcast (${words.slice(1).join(" ")})`, [
    "namespaces",
  ], async () => {
    await using two = await TwoNetworks.create();
    await two.there.addAddress(two.link.first, "10.77.0.11/24");
    const name = await two.space.offer(511);
    // node:dgram does not tell which address a datagram was for: there every address needs a socket of its own.
    const listen = words.includes("portable") ? ["10.77.0.1:69", "10.77.0.11:69"] : ["0.0.0.0:69"];
    await using server = await two.serve(words, listen);
    // Our client takes an answer from the asked address only.
    const jobs = ["10.77.0.1", "10.77.0.11"].map((host) => ({ server: `${host}:69`, get: name }));
    deepEqual(mistakes(two, await two.transfer(server, jobs, {}), [name, name]), []);
    const { stdout, stderr } = await runProgram(
      ownWords("tftp/testdata/broadcast.ts", ["10.77.0.255", "10.77.0.11", "69", name]),
      { namespace: two.here, timeoutMs: 10_000 },
    );
    equal(stderr, "");
    const answers = JSON.parse(stdout) as BroadcastAnswers;
    deepEqual(answers, { broadcast: [], unicast: ["10.77.0.11"] });
  });
}

/** 5 % loss each way, 10 ms there and 10 ms back, every twentieth packet late. */
const BAD = { delayMs: 10, lossRate: 0.05, reorderRate: 0.05, reorderDelayMs: 5 };

for (const driver of DRIVERS) {
  peerTest(`transfers survive a bad link (${driver})`, [], async (t) => {
    for (const windowSize of [1, 16, 64]) {
      await t.step(`window ${windowSize}`, async () => {
        await using space = await Workspace.create();
        const name = await space.offer(windowSize === 1 ? 100_003 : 1_000_003);
        await using server = await startOwnServer(space, ["--driver", driver]);
        const seed = Math.floor(Math.random() * 2 ** 32);
        await using relay = await LossyRelay.open(server.port, BAD, seed);
        const reports = await runTransfers({
          server: `127.0.0.1:${relay.port}`,
          options: { driver, blockSize: 1428, windowSize },
          jobs: [{ get: name }, { put: `${space.local}/${name}`, as: "up" }],
          concurrency: 2,
        });
        const shown = `seed ${seed}: ${reports.map(({ error }) => error).join("; ")}`;
        deepEqual(reports.map(({ error }) => error), ["", ""], shown);
        equal(reports[0]!.hash, space.hash(name), shown);
        equal(await space.difference(`${space.root}/up`, name), "", shown);
        ok(relay.lost > 0 && relay.disturbed > 0, "the link was not bad");
      });
    }
  });
}

peerTest("transfers survive a bad link of the kernel's", ["namespaces", "netem"], async (t) => {
  const netem = ["delay", "10ms", "loss", "5%", "reorder", "25%"];
  await using two = await TwoNetworks.create({ netem });
  const name = await two.space.offer(500_003);
  for (const driver of DRIVERS) {
    await using server = await two.serve(["--driver", driver]);
    for (const windowSize of [1, 16, 64]) {
      await t.step(`${driver}, window ${windowSize}`, async () => {
        const as = `up-${driver}-${windowSize}`;
        const jobs = [{ get: name }, { put: `${two.space.local}/${name}`, as }];
        const reports = await two.transfer(server, jobs, { driver, windowSize });
        deepEqual(mistakes(two, reports, [name, ""]), []);
        equal(await two.space.difference(`${two.space.root}/${as}`, name), "");
      });
    }
  }
});

peerTest("a thousand clients of two networks are served at once", ["namespaces"], async () => {
  await using two = await TwoNetworks.create();
  await using third = await NetworkNamespace.create();
  await two.there.connect(third, { first: "10.78.0.1/24", second: "10.78.0.2/24" });
  const name = await two.space.offer(200_000);
  const generous = [
    ...["--limits-max-transfers-per-client", "500", "--limits-max-pending-answers", "1000"],
    ...["--limits-requests-per-second-per-client", "100000"],
    ...["--limits-request-burst-per-client", "100000"],
  ];
  await using server = await two.serve(["--driver", "fast", ...generous]);
  const list = {
    options: { driver: "fast", blockSize: 1428, windowSize: 4 },
    jobs: Array.from({ length: 500 }, () => ({ get: name })),
    concurrency: 500,
  } as const;
  const both = await Promise.all([
    runTransfers({ ...list, server: `10.77.0.1:${server.port}` }, two.here),
    runTransfers({ ...list, server: `10.78.0.1:${server.port}` }, third),
  ]);
  const reports = both.flat();
  deepEqual(mistakes(two, reports, reports.map(() => name)), []);
  // Each is there before the first one has left, or nearly.
  ok(peak(reports) >= 900, `${peak(reports)} at once`);
});

peerTest("one client's transfers and requests are limited", ["namespaces"], async (t) => {
  await using two = await TwoNetworks.create();
  const name = await two.space.offer(2_000_000);
  // ERROR 0 would make our client ask again without options; here it is the answer.
  const options = { windowSize: 1, blockSize: 512, fallback: false };
  await t.step("two transfers at once", async () => {
    await using server = await two.serve(["--limits-max-transfers-per-client", "2"]);
    const jobs = Array.from({ length: 8 }, () => ({ get: name }));
    const reports = await two.transfer(server, jobs, options, 8);
    const refused = reports.filter(({ error }) => error !== "");
    equal(reports.filter(({ hash }) => hash === two.space.hash(name)).length, 2);
    equal(refused.length, 6);
    for (const { error } of refused) match(error, /busy/);
  });
  await t.step("five requests, then one a second", async () => {
    const few = ["--limits-requests-per-second-per-client", "1"];
    await using server = await two.serve([...few, "--limits-request-burst-per-client", "5"]);
    const jobs = Array.from({ length: 20 }, () => ({ get: "none" }));
    const reports = await two.transfer(server, jobs, options);
    const answers = reports.map(({ error }) => /file-not-found/.test(error) ? "none" : error);
    const served = answers.filter((answer) => answer === "none").length;
    // The first five at once; more only as time passes.
    deepEqual(answers.slice(0, 5), Array(5).fill("none"));
    const seconds = (reports.at(-1)!.endedAt - reports[0]!.startedAt) / 1000;
    ok(served <= 6 + Math.ceil(seconds), `${served} in ${seconds} s`);
    for (const answer of answers.filter((answer) => answer !== "none")) match(answer, /busy/);
  });
});

/** How many transfers ran at the same time at most. */
function peak(reports: readonly TransferReport[]): number {
  const ends = reports.map(({ endedAt }) => endedAt);
  return Math.max(
    ...reports.map(({ startedAt }) =>
      reports.filter((other) => other.startedAt <= startedAt).length -
      ends.filter((end) => end < startedAt).length
    ),
  );
}

/** What went wrong, and which fetches brought something else than the file of that name (none for an upload). */
function mistakes(
  { space }: TwoNetworks,
  reports: readonly TransferReport[],
  names: readonly string[],
): string[] {
  return reports.flatMap(({ error, hash }, i) =>
    error !== ""
      ? [`${i}: ${error}`]
      : names[i] !== "" && hash !== space.hash(names[i]!)
      ? [`${i}: content differs`]
      : []
  );
}
