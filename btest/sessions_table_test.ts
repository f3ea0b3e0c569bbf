import { equal } from "node:assert/strict";
import { addressKey, Sessions, UdpPorts } from "./sessions.ts";

Deno.test("addressKey() takes an IPv6 /64 for one host and every IPv4 address for its own", () => {
  equal(addressKey("2001:db8:1:2::3"), addressKey("2001:db8:1:2:ffff::4"));
  equal(addressKey("2001:db8:1:2::3") === addressKey("2001:db8:1:3::3"), false);
  equal(addressKey("10.0.0.1"), "10.0.0.1");
});

Deno.test("Sessions has places for so many sessions, and for so many of one address", () => {
  const sessions = new Sessions<string>(3, 2);
  const leave = sessions.enter("10.0.0.1");
  sessions.enter("10.0.0.1");
  equal(sessions.hasPlace("10.0.0.1"), false);
  equal(sessions.hasPlace("10.0.0.2"), true);
  sessions.enter("10.0.0.2");
  equal(sessions.hasPlace("10.0.0.3"), false);
  leave();
  leave();
  equal(sessions.count, 2);
  equal(sessions.hasPlace("10.0.0.1"), true);
});

Deno.test("Sessions without a bound for addresses counts all together only", () => {
  const sessions = new Sessions<string>(100, 0);
  for (let i = 0; i < 99; i++) sessions.enter("10.0.0.1");
  equal(sessions.hasPlace("10.0.0.1"), true);
  sessions.enter("10.0.0.1");
  equal(sessions.hasPlace("10.0.0.1"), false);
});

Deno.test("Sessions expects connections of an address until its last session has them", () => {
  const sessions = new Sessions<string>(10, 0);
  const first = sessions.expect("::1");
  const second = sessions.expect("::1");
  first();
  equal(sessions.expects("::1"), true);
  second();
  equal(sessions.expects("::1"), false);
});

Deno.test("UdpPorts begins again before a client's port would be none", () => {
  const ports = new UdpPorts(65_278);
  equal(ports.take(), 65_278);
  equal(ports.take(), 65_279);
  equal(ports.take(), 65_278);
});
