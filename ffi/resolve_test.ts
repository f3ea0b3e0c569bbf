import { deepEqual, equal, throws } from "node:assert/strict";
import { networkInterfaces } from "node:os";
import { literalAddress } from "./resolve.ts";
import { scopeOf, zoneOf } from "./zones.ts";

Deno.test("literalAddress() takes the number of an interface as a zone", () => {
  deepEqual(literalAddress("fe80::1%3", 69), {
    family: "ipv6",
    address: "fe80::1",
    port: 69,
    scope: 3,
  });
});

Deno.test("literalAddress() refuses a zone that is no interface", () => {
  throws(() => literalAddress("fe80::1%no-such-one", 69), /Cannot use zone "no-such-one"/);
});

Deno.test("scopeOf() and zoneOf() agree about every interface with a link-local address", () => {
  for (const [name, addresses] of Object.entries(networkInterfaces())) {
    const scope = addresses?.find((one) => (one.scopeid ?? 0) > 0)?.scopeid ?? 0;
    equal(scopeOf(name), scope);
    if (scope > 0) equal(zoneOf(scope), name);
  }
});
