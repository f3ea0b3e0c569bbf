/**
 * A server for people with accounts: each may move so many bytes, and every test is told of.
 *
 *     deno run --allow-net --allow-ffi --allow-read --allow-sys examples/btest_server.ts [address:port]
 *
 * Without an address it takes two tests from itself and ends; with one it serves until it is interrupted.
 */
import { MemoryAccounts, run, serve, type ServerEvent } from "@fastwire/net/btest";

const [address] = Deno.args;

// Only a verifier of the password is kept, made here; the password itself is forgotten.
const accounts = new MemoryAccounts();
accounts.set("admin", "secret");
accounts.set("guest", "guest", { limitBytes: 50_000_000, maxTxBps: 200_000_000 });

function tell(event: ServerEvent): void {
  switch (event.kind) {
    case "start":
      return console.log(`${event.session.user} begins: ${event.session.protocol}`);
    case "end":
      return console.log(`${event.session.user} ends by ${event.result.reason}`);
    case "refused":
      return console.log(`turned away: ${event.reason}`);
  }
}

await using server = await serve({
  listen: [address ?? "127.0.0.1:0"],
  accounts,
  maxDurationMs: 60_000,
  onEvent: tell,
});
const { port } = server.addresses[0]!;

if (address !== undefined) {
  console.log(`serving on port ${port}`);
  const stop = (): void => void server.shutdown();
  Deno.addSignalListener("SIGINT", stop);
  await server.finished;
  Deno.removeSignalListener("SIGINT", stop);
} else {
  const login = { user: "admin", password: "secret" };
  const test = { direction: "receive", durationMs: 300 } as const;
  const result = await run(`127.0.0.1:${port}`, { ...test, ...login });
  console.log(`${(result.rxBps / 1e6).toFixed(0)} Mbit/s, login by ${result.auth}`);
  try {
    await run(`127.0.0.1:${port}`, { ...test, ...login, password: "wrong" });
  } catch (error) {
    console.log((error as { code: string }).code);
  }
  await server.shutdown();
  const { testsEnded, loginsFailed } = server.snapshot();
  console.log(`${testsEnded} test ended, ${loginsFailed} login failed`);
}
