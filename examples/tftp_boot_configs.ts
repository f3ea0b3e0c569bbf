/**
 * Boot configurations that no file holds: each machine gets its own, made when it asks; kernels come from a store.
 *
 *     deno run --allow-net examples/tftp_boot_configs.ts
 */
import { PeerError } from "@fastwire/net/ffi";
import { get, MemoryStore, serve, TftpRefusal } from "@fastwire/net/tftp";

/** Which machine boots what, by hardware address as PXELINUX writes it into the name it asks for. */
const MACHINES = new Map([
  ["01-52-54-00-12-34-56", { hostname: "web1", kernel: "linux-6.18", quiet: true }],
  ["01-52-54-00-ab-cd-ef", { hostname: "db1", kernel: "linux-6.12", quiet: false }],
]);

// A directory would do as well: `root: "/srv/tftp"` instead of `store`.
const store = new MemoryStore({
  files: { "linux-6.18": "kernel bytes", "linux-6.12": "older kernel bytes" },
});

await using server = await serve({
  store,
  listen: ["127.0.0.1:0"],
  onRead({ filename, remote }) {
    const machine = /^pxelinux\.cfg\/(01(?:-[0-9a-f]{2}){6})$/.exec(filename);
    // Not a configuration: answer with the file that was asked for.
    if (machine === null) return undefined;
    const found = MACHINES.get(machine[1]!);
    // PXELINUX goes on with shorter names when this one is not there.
    if (found === undefined) throw new TftpRefusal(1, "File not found");
    return [
      `# for ${found.hostname} at ${remote.address}`,
      "default boot",
      "label boot",
      `  kernel ${found.kernel}`,
      `  append hostname=${found.hostname}${found.quiet ? " quiet" : ""}`,
      "",
    ].join("\n");
  },
});

// What two machines and a stranger do.
const base = `tftp://127.0.0.1:${server.addresses[0]!.port}`;
for (const name of ["01-52-54-00-12-34-56", "01-52-54-00-ab-cd-ef", "01-00-00-00-00-00-00"]) {
  try {
    const text = new TextDecoder().decode(await get(`${base}/pxelinux.cfg/${name}`));
    const kernel = /kernel (\S+)/.exec(text)![1]!;
    const bytes = await get(`${base}/${kernel}`);
    console.log(`${name} boots ${kernel}, ${bytes.length} bytes`);
  } catch (error) {
    if (!(error instanceof PeerError)) throw error;
    console.log(`${name}: ${error.code}`);
  }
}
