/**
 * Serves a directory until it is interrupted.
 *
 *     deno run -A examples/tftp_serve.ts /srv/tftp 0.0.0.0:69
 *
 * Without words it serves a folder of its own on a free port, fetches a file from it and ends.
 */
import { get, serve } from "@fastwire/net/tftp";

const [given, listen = "127.0.0.1:0"] = Deno.args;
const root = given ?? await exampleFolder();
const stop = new AbortController();
if (given !== undefined) Deno.addSignalListener("SIGINT", () => stop.abort());

try {
  await using server = await serve({
    root,
    listen: [listen],
    // Called for every transfer that ended, refused requests included.
    onTransfer: ({ operation, filename, outcome, bytes, durationMs }) =>
      console.log(`${operation} ${filename}: ${outcome}, ${bytes} bytes, ${durationMs | 0} ms`),
    signal: stop.signal,
  });
  const { port } = server.addresses[0]!;
  console.log(`serving ${root} on port ${port} with the ${server.driver} driver`);

  if (given === undefined) {
    const bytes = await get(`tftp://127.0.0.1:${port}/boot/menu.cfg`);
    console.log(new TextDecoder().decode(bytes).trim());
  } else await server.finished;
  // Lets running transfers end, for up to two seconds.
  await server.shutdown({ graceMs: 2000 });
  console.log(`${server.snapshot().transfersCompleted} transfers done`);
} finally {
  if (given === undefined) await Deno.remove(root, { recursive: true });
}

async function exampleFolder(): Promise<string> {
  const folder = await Deno.makeTempDir();
  await Deno.mkdir(`${folder}/boot`);
  await Deno.writeTextFile(`${folder}/boot/menu.cfg`, "default linux\n");
  return folder;
}
