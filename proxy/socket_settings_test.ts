import { deepEqual, equal, match } from "node:assert/strict";
import type { StreamTraits } from "../ffi/mod.ts";
import { resolveProxyConfig } from "./config.ts";
import {
  datagramSettings,
  ignoredOptions,
  type SocketConfig,
  streamSettings,
} from "./socket_settings.ts";

const KERNEL: StreamTraits = {
  driver: "linux",
  discard: true,
  vectored: true,
  sendfile: true,
  detach: true,
  reusePort: true,
  bind: true,
  ipv6Only: true,
  reset: true,
  options: true,
  info: true,
  multipath: true,
};
const RUNTIME: StreamTraits = { ...KERNEL, driver: "deno", options: false, multipath: false };

const EVERYTHING = {
  bind_interface: "eth0",
  routing_mark: 7,
  reuse_addr: true,
  tcp_fast_open: true,
  tcp_multi_path: true,
  tcp_keep_alive: "1m",
  tcp_keep_alive_interval: "10s",
  udp_fragment: false,
};

/** The socket fields of an inbound and of an outbound that say the same. */
function configs(fields: object): readonly SocketConfig[] {
  const { inbounds, outbounds } = resolveProxyConfig({
    inbounds: [{ type: "socks", ...fields }],
    outbounds: [{ type: "direct", ...fields }],
  });
  const [outbound] = outbounds;
  if (outbound?.type !== "direct") throw new Error("Cannot happen");
  return [inbounds[0]!.listen, outbound.dial];
}

Deno.test("every socket option of a configuration reaches the sockets", () => {
  for (const config of configs(EVERYTHING)) {
    deepEqual(streamSettings(config), {
      keepAliveMs: 60_000,
      keepAliveIntervalMs: 10_000,
      mark: 7,
      device: "eth0",
      fastOpen: true,
      multipath: true,
    });
    deepEqual(datagramSettings(config), {
      mark: 7,
      device: "eth0",
      fragment: false,
      reuseAddress: true,
    });
  }
  for (const config of configs({})) {
    deepEqual(streamSettings(config), { keepAliveMs: 300_000, keepAliveIntervalMs: 75_000 });
    deepEqual(datagramSettings(config), {});
  }
  for (const config of configs({ ...EVERYTHING, disable_tcp_keep_alive: true })) {
    equal(streamSettings(config).keepAliveMs, 0);
    equal("keepAliveIntervalMs" in streamSettings(config), false);
  }
});

Deno.test("every socket option that a driver leaves out is named, and no other", () => {
  for (const config of configs(EVERYTHING)) {
    deepEqual(ignoredOptions(config, KERNEL), []);
    deepEqual(ignoredOptions(config, { ...KERNEL, multipath: false }), ["tcp_multi_path"]);
    // Each by its own name: a new one that is forgotten here fails.
    deepEqual([...ignoredOptions(config, RUNTIME)].sort(), Object.keys(EVERYTHING).sort());
    const onNode = ignoredOptions(config, { ...RUNTIME, driver: "node" });
    equal(onNode.includes("tcp_keep_alive"), false);
    match(onNode.join(), /tcp_keep_alive_interval/);
  }
  for (const config of configs({})) deepEqual(ignoredOptions(config, RUNTIME), []);
  for (const config of configs({ disable_tcp_keep_alive: true, tcp_keep_alive: "1s" })) {
    deepEqual(ignoredOptions(config, RUNTIME), []);
  }
});
