import { deepEqual, equal, throws } from "node:assert/strict";
import { resolveClientOptions, resolveServerSettings } from "./options.ts";

Deno.test("resolveServerSettings() fills every default", () => {
  const settings = resolveServerSettings();
  deepEqual(settings.listen, [{ host: "::", port: 69 }]);
  deepEqual([settings.write.enabled, settings.write.maxFileBytes], [false, 104_857_600]);
  deepEqual([settings.maxWindowSize, settings.maxBlockSize], [1024, 65464]);
  equal(settings.sourcePortCheck, true);
  equal(Object.isFrozen(settings), true);
});

Deno.test("resolveServerSettings() reads addresses", () => {
  const read = (text: string) => resolveServerSettings({ listen: [text] }).listen[0];
  deepEqual(read("127.0.0.1:6969"), { host: "127.0.0.1", port: 6969 });
  deepEqual(read("[::1]:0"), { host: "::1", port: 0 });
  equal(read(":6969")!.port, 6969);
});

Deno.test("resolveServerSettings() refuses what is out of range or unknown", () => {
  throws(() => resolveServerSettings({ maxBlockSize: 7 }), RangeError);
  throws(() => resolveServerSettings({ maxBlockSize: 65465 }), RangeError);
  throws(() => resolveServerSettings({ workers: -1 }), RangeError);
  throws(() => resolveServerSettings({ portRangeFirst: 10, portRangeLast: 9 }), RangeError);
  throws(() => resolveServerSettings({ retry: { maxRetries: 0 } }), RangeError);
  throws(() => resolveServerSettings({ symlinks: "some" as "deny" }), /symlinks/i);
  throws(
    () => resolveServerSettings({ singlPort: true } as object),
    (error: unknown) => error instanceof TypeError && /singlePort/.test(error.message),
  );
});

Deno.test("resolveClientOptions() fills every default and refuses the rest", () => {
  const options = resolveClientOptions();
  deepEqual([options.blockSize, options.windowSize, options.mode], [0, 64, "octet"]);
  deepEqual([options.fallback, options.lenient, options.rollover], [true, true, "auto"]);
  throws(() => resolveClientOptions({ windowSize: 0 }), RangeError);
  throws(() => resolveClientOptions({ windowSize: 32769 }), RangeError);
  throws(() => resolveClientOptions({ blockSize: 65465 }), RangeError);
  throws(() => resolveClientOptions({ timeoutSeconds: 256 }), RangeError);
  throws(
    () => resolveClientOptions({ windowsize: 4 } as object),
    (error: unknown) => error instanceof TypeError && /windowSize/.test(error.message),
  );
});
