/**
 * A drop box: devices may store their configurations and crash dumps, small ones, under names that say what they are,
 * and nobody may read them back or replace them.
 *
 *     deno run -A examples/tftp_drop_box.ts
 */
import { PeerError } from "@fastwire/net/ffi";
import { get, put, serve } from "@fastwire/net/tftp";

const root = await Deno.makeTempDir();
try {
  await using server = await serve({
    root,
    listen: ["127.0.0.1:0"],
    write: {
      enabled: true,
      allowedPatterns: ["configs/*.cfg", "dumps/*.bin"],
      makeDirectories: true,
      maxFileBytes: 64 * 1024,
      maxTotalBytes: 10 * 1024 * 1024,
      minFreeBytes: 1024 * 1024,
    },
    // The first rule that matches decides. These networks may store, nobody may read.
    access: [
      { from: ["127.0.0.0/8", "192.0.2.0/24"], methods: ["put"], action: "allow" },
      { action: "deny" },
    ],
  });
  const base = `tftp://127.0.0.1:${server.addresses[0]!.port}`;
  const config = new TextEncoder().encode("hostname router1\n");

  const told = async (what: string, job: () => Promise<unknown>): Promise<void> => {
    try {
      await job();
      console.log(`${what}: stored`);
    } catch (error) {
      if (!(error instanceof PeerError)) throw error;
      console.log(`${what}: ${error.code} (ERROR ${error.peerCode}, "${error.peerMessage}")`);
    }
  };
  await told("a configuration", () => put(`${base}/configs/router1.cfg`, config));
  await told("the same again", () => put(`${base}/configs/router1.cfg`, config));
  await told("another name", () => put(`${base}/configs/router1.sh`, config));
  await told("outside", () => put(`${base}/../router1.cfg`, config));
  await told("too much", () => put(`${base}/dumps/core.bin`, new Uint8Array(100_000)));
  await told("reading", () => get(`${base}/configs/router1.cfg`));

  // A transfer that failed left nothing, not even its folder's worth of parts.
  for await (const folder of Deno.readDir(root)) {
    for await (const file of Deno.readDir(`${root}/${folder.name}`)) {
      console.log(`kept ${folder.name}/${file.name}`);
    }
  }
} finally {
  await Deno.remove(root, { recursive: true });
}
