/**
 * Fetches a file onto the disk with progress, then again, giving up half-way: nothing of that one is left.
 *
 *     deno run -A examples/tftp_fetch.ts [tftp://host/file]
 *
 * Without an address it starts a server for itself.
 */
import { download, MemoryStore, serve, stat, type TftpServer } from "@fastwire/net/tftp";

let [url] = Deno.args;
let server: TftpServer | undefined;
if (url === undefined) {
  const store = new MemoryStore({ files: { "firmware.bin": new Uint8Array(20_000_000) } });
  server = await serve({ store, listen: ["127.0.0.1:0"] });
  url = `tftp://127.0.0.1:${server.addresses[0]!.port}/firmware.bin`;
}
const folder = await Deno.makeTempDir();
try {
  console.log(`size: ${await stat(url) ?? "not told"}`);

  let reports = 0;
  const summary = await download(url, `${folder}/firmware.bin`, {
    windowSize: 16,
    onProgress: ({ bytes, totalBytes }) => {
      reports++;
      if (totalBytes !== undefined && bytes === totalBytes) console.log("100 %");
    },
  });
  console.log(
    `${summary.bytes} bytes in blocks of ${summary.blockSize}, ${summary.windowSize} at a time, ` +
      `${summary.retransmits} repeated, ${reports > 0 ? "progress was reported" : "no progress"}`,
  );

  // A signal ends a transfer wherever it is: a timeout, a button, another transfer's failure.
  const stop = new AbortController();
  try {
    await download(url, `${folder}/second.bin`, {
      signal: AbortSignal.any([stop.signal, AbortSignal.timeout(60_000)]),
      onProgress: () => stop.abort(new Error("changed my mind")),
    });
  } catch (error) {
    console.log(`second: ${(error as Error).message}`);
  }
  const names = (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name);
  console.log(`on the disk: ${names.join(", ")}`);
} finally {
  await Deno.remove(folder, { recursive: true });
  await server?.close();
}
