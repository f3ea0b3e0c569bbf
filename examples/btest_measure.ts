/**
 * Measures a path both ways, by TCP and by UDP, second by second, and finds out where the UDP rate begins to lose.
 *
 *     deno run --allow-net --allow-ffi --allow-read --allow-sys examples/btest_measure.ts [host] [user] [password]
 *
 * Without a host it starts a server for itself and makes short work of it.
 */
import { type BtestServer, run, serve, type TestInterval } from "@fastwire/net/btest";

const [host, user, password] = Deno.args;
let server: BtestServer | undefined;
let target = host;
if (target === undefined) {
  server = await serve({ listen: ["127.0.0.1:0"] });
  target = `127.0.0.1:${server.addresses[0]!.port}`;
}
const durationMs = host === undefined ? 200 : 5000;
const common = { user, password, durationMs };

function mbps(bps: number): string {
  return `${(bps / 1e6).toFixed(1)} Mbit/s`;
}

function show({ second, txBytes, rxBytes, intervalMs }: TestInterval): void {
  const rate = (bytes: number): string => mbps(bytes * 8000 / intervalMs);
  console.log(`  second ${second}: ${rate(txBytes)} out, ${rate(rxBytes)} in`);
}

try {
  console.log("tcp, four connections");
  const tcp = await run(target, {
    ...common,
    direction: "both",
    connections: 4,
    onInterval: show,
  });
  console.log(`  ${mbps(tcp.txBps)} out, ${mbps(tcp.rxBps)} in, ended by ${tcp.reason}`);
  for (const warning of tcp.warnings) console.log(`  ${warning}`);

  let clean = 0;
  for (const rateBps of [1e6, 10e6, 50e6]) {
    const udp = await run(target, {
      ...common,
      protocol: "udp",
      direction: "receive",
      remoteTxSpeedBps: rateBps,
    });
    const lostPercent = 100 * udp.lost / Math.max(1, udp.lost + udp.datagramsReceived);
    console.log(`udp at ${mbps(rateBps)}: ${lostPercent.toFixed(2)} % lost`);
    if (lostPercent > 1) break;
    clean = rateBps;
  }
  console.log(clean === 0 ? "no clean rate found" : `clean up to ${mbps(clean)}`);
} finally {
  await server?.close();
}
