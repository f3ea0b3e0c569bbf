import { deepEqual, equal, ok } from "node:assert/strict";
import { startCapture } from "../../../internal/testing/capture.ts";
import { type Link, type LinkOptions, NetworkNamespace } from "../../../internal/testing/netns.ts";
import { peerTest } from "../../../internal/testing/peers.ts";
import { type OwnServer, runTransfers, startOwnServer, Workspace } from "../../testdata/interop.ts";
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
    const there = await NetworkNamespace.create();
    const here = await NetworkNamespace.create();
    const link = await there.connect(here, { ...addresses, ...options });
    return new TwoNetworks(await Workspace.create(), there, here, link);
  }

  serve(words: readonly string[], listen: readonly string[] = ["0.0.0.0:69"]): Promise<OwnServer> {
    return startOwnServer(this.space, words, listen, this.there);
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
