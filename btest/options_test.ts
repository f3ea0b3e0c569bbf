import { deepEqual, equal, match, ok, throws } from "node:assert/strict";
import {
  chooseTxSize,
  clientOptions,
  resolveClientOptions,
  resolveServerSettings,
  serverSettings,
} from "./options.ts";
import { MAX_USER_BYTES } from "./protocol/mod.ts";

Deno.test("resolveServerSettings() fills every default with what RouterOS has", () => {
  const settings = resolveServerSettings();
  deepEqual(settings.listen, [{ host: "::", port: 2000 }]);
  deepEqual([settings.auth, settings.udpPortStart, settings.maxSessions], ["auto", 2001, 100]);
  deepEqual([settings.maxDurationMs, settings.idleTimeoutMs], [300_000, 30_000]);
  equal(Object.isFrozen(settings), true);
});

Deno.test("resolveServerSettings() reads addresses and durations", () => {
  const settings = resolveServerSettings({ listen: ["127.0.0.1:0", "[::1]:2000"] });
  deepEqual(settings.listen, [{ host: "127.0.0.1", port: 0 }, { host: "::1", port: 2000 }]);
  const short = resolveServerSettings({ idleTimeoutMs: 50 });
  equal(short.idleTimeoutMs, 50);
});

Deno.test("resolveServerSettings() refuses what is out of range or unknown", () => {
  throws(() => resolveServerSettings({ udpPortStart: 0 }), RangeError);
  // The client's port is 256 above, and there must be one.
  throws(() => resolveServerSettings({ udpPortStart: 65280 }), RangeError);
  throws(() => resolveServerSettings({ maxSessions: 0 }), RangeError);
  throws(() => resolveServerSettings({ maxDurationMs: 999 }), RangeError);
  throws(() => resolveServerSettings({ auth: "md4" as "md5" }), /auth/);
  throws(
    () => resolveServerSettings({ maxSesions: 1 } as object),
    (error: unknown) => error instanceof TypeError && /maxSessions/.test(error.message),
  );
});

Deno.test("resolveClientOptions() fills every default", () => {
  const options = resolveClientOptions();
  deepEqual([options.protocol, options.direction, options.connections], ["tcp", "receive", 1]);
  deepEqual([options.durationMs, options.randomData, options.natProbe], [10_000, false, true]);
  deepEqual([options.user, options.password, options.udpStartBps], [undefined, undefined, 5e7]);
});

Deno.test("resolveClientOptions() refuses what a command cannot carry", () => {
  throws(() => resolveClientOptions({ connections: 0 }), RangeError);
  throws(() => resolveClientOptions({ connections: 256 }), RangeError);
  throws(() => resolveClientOptions({ txSize: 65_536 }), RangeError);
  equal(resolveClientOptions({ localTxSpeedBps: 0xffff_ffff }).localTxSpeedBps, 0xffff_ffff);
  throws(() => resolveClientOptions({ localTxSpeedBps: 0x1_0000_0000 }), RangeError);
});

Deno.test("resolveClientOptions() counts a user name in bytes", () => {
  equal(resolveClientOptions({ user: "a".repeat(MAX_USER_BYTES) }).user?.length, MAX_USER_BYTES);
  throws(() => resolveClientOptions({ user: "a".repeat(MAX_USER_BYTES + 1) }), RangeError);
  equal(resolveClientOptions({ user: "ä".repeat(110) }).user?.length, 110);
  throws(() => resolveClientOptions({ user: "ä".repeat(111) }), RangeError);
  throws(() => resolveClientOptions({ user: "a\0b" }), RangeError);
  throws(() => resolveClientOptions({ user: "" }), RangeError);
});

Deno.test("Messages about options never show a password", () => {
  throws(
    () => resolveClientOptions({ password: 8391_7711 as unknown as string }),
    (error: unknown) => error instanceof TypeError && !/83917711/.test(error.message),
  );
});

Deno.test("chooseTxSize() takes the size of the direction that carries data", () => {
  const size = (settings: Parameters<typeof resolveClientOptions>[0]) =>
    chooseTxSize(resolveClientOptions(settings));
  const both = { localTxSize: 100, remoteTxSize: 200 } as const;
  equal(size({ direction: "receive" }).txSize, 32768);
  equal(size({ direction: "receive", protocol: "udp" }).txSize, 1500);
  equal(size({ direction: "transmit", ...both }).txSize, 100);
  equal(size({ direction: "receive", ...both }).txSize, 200);
  equal(size({ direction: "receive", ...both, txSize: 9 }).txSize, 9);
  equal(size({ direction: "both", remoteTxSize: 200 }).txSize, 200);
  equal(size({ direction: "both", remoteTxSize: 200 }).warning, "");
  equal(size({ direction: "both", localTxSize: 7, remoteTxSize: 7 }).warning, "");
  const chosen = size({ direction: "both", ...both });
  equal(chosen.txSize, 100);
  match(chosen.warning, /100 is used, 200 is not/);
});

Deno.test("Both sides share the spelling of every data option", () => {
  const names = (schema: { readonly flat: readonly { readonly flagName: string }[] }) =>
    new Set(schema.flat.map(({ flagName }) => flagName));
  const client = names(clientOptions);
  for (const name of ["driver", "workers", "tx-mode", "segmentation", "udp-start-bps"]) {
    ok(client.has(name) && names(serverSettings).has(name), name);
  }
});
