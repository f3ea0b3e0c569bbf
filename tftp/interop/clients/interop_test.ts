import { deepEqual, equal, match } from "node:assert/strict";
import { type ClientName, peerTest } from "../../../internal/testing/peers.ts";
import {
  type ClientUse,
  exchange,
  ROLLOVER_BLOCKS,
  SERVER_SHAPES,
  sizesAround,
  startOwnServer,
  Workspace,
} from "../../testdata/interop.ts";

/** How each real client is used. */
const USES: Readonly<Record<ClientName, readonly ClientUse[]>> = {
  tftp: [{}, { mode: "netascii" }],
  atftp: [{}, { blockSize: 1428 }, { windowSize: 16 }, { blockSize: 1428, windowSize: 16 }],
  curl: [{}, { noOptions: true }, { blockSize: 1428 }],
  busybox: [{}, { blockSize: 1428 }],
};

/**
 * More blocks than the block number counts. The smallest block a client can ask for keeps the file small (busybox wants the
 * request to fit into one); tftp-hpa can ask for nothing, so its blocks are 512 bytes.
 */
const ROLLOVERS: readonly (readonly [ClientName, ClientUse, blockSize: number])[] = [
  ["tftp", {}, 512],
  ["atftp", { blockSize: 8, windowSize: 16 }, 8],
  ["curl", { blockSize: 8 }, 8],
  ["busybox", { blockSize: 64 }, 64],
];

/** curl 7.88 takes the size 0 in an OACK for an error (ILLEGAL, reported as 71), whoever the server is. */
function mayBeEmpty(client: ClientName, { noOptions }: ClientUse): boolean {
  return client !== "curl" || noOptions === true;
}

for (const [client, uses] of Object.entries(USES) as [ClientName, readonly ClientUse[]][]) {
  peerTest(`${client} fetches and stores files of every size`, [client], async (t) => {
    for (const [shape, words] of Object.entries(SERVER_SHAPES)) {
      await t.step(shape, async () => {
        await using space = await Workspace.create();
        await using server = await startOwnServer(space, words);
        const address = { host: "127.0.0.1", port: server.port };
        const mistakes: string[] = [];
        for (const use of uses) {
          const sizes = sizesAround(use.blockSize ?? 512);
          const some = sizes.filter((size) => size > 0 || mayBeEmpty(client, use));
          mistakes.push(...await exchange(client, use, space, address, some));
          if (some.length < sizes.length) {
            mistakes.push(...await exchange(client, use, space, address, [0], ["put"]));
          }
        }
        deepEqual(mistakes, []);
        equal(await server.tool.stop(), 0, server.tool.output());
      });
    }
  });
}

for (const [client, use, blockSize] of ROLLOVERS) {
  const blocks = ROLLOVER_BLOCKS + 3;
  // Only who counts blocks matters here, and that is the same code in every shape.
  const shapes = client === "curl" ? ["fast", "portable"] : ["fast"];
  for (const shape of shapes) {
    peerTest(`${client} fetches and stores ${blocks} blocks (${shape})`, [client], async () => {
      await using space = await Workspace.create();
      await using server = await startOwnServer(space, SERVER_SHAPES[shape]!);
      const address = { host: "127.0.0.1", port: server.port };
      deepEqual(await exchange(client, use, space, address, [blocks * blockSize - 3]), []);
    });
  }
}

peerTest("curl gives up on an empty file whose size it was told", ["curl"], async () => {
  await using space = await Workspace.create();
  // It goes without a word; the server would wait for it before it stops.
  await using server = await startOwnServer(space, ["--drain-timeout-ms", "0"]);
  const address = { host: "127.0.0.1", port: server.port };
  const mistakes = await exchange("curl", {}, space, address, [0], ["get"]);
  match(mistakes.join(), /^curl \{\} get 0\.bin: exit 71, there is no such file/);
  // The size was what it stumbled over.
  await using shy = await startOwnServer(space, ["--refuse-options", "tsize"]);
  deepEqual(
    await exchange("curl", {}, space, { host: "127.0.0.1", port: shy.port }, [0], ["get"]),
    [],
  );
});
