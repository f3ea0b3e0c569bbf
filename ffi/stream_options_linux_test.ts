import { deepEqual, equal, match, ok, throws } from "node:assert/strict";
import { CapabilityError } from "../internal/errors.ts";
import { IPPROTO_MPTCP, IPPROTO_TCP } from "./constants_linux.ts";
import { bindAll, type Libc } from "./libc_linux.ts";
import { type SocketOption, SocketOptions } from "./sockopt_linux.ts";
import { type ListenOptions, openStreamHost, type StreamConnection } from "./stream.ts";
import {
  allowTransparent,
  hasMultipath,
  offerFastOpen,
  openStreamSocket,
  prepareConnect,
  setMark,
} from "./stream_options_linux.ts";

const library = bindAll();
const ignore = library === undefined;
if (ignore) console.warn("options of TCP sockets are not tested: no C library");

const LOOPBACK = { family: "ipv4", address: "127.0.0.1", port: 0 } as const;

/** Takes a connection's descriptor and reads options of it. */
function optionsOf(connection: StreamConnection, names: readonly SocketOption[]): number[] {
  const fd = connection.detach();
  const socket = new SocketOptions(library!, fd);
  const values = names.map((name) => socket.get(name));
  library!.close(fd);
  return values;
}

/** Both ends of a connection whose ends were told the same. */
async function connected(
  options: Omit<ListenOptions, "bind">,
  read: (client: StreamConnection, server: StreamConnection) => void | Promise<void>,
): Promise<void> {
  await using host = await openStreamHost({ driver: "fast" });
  const listener = await host.listen({ ...options, bind: LOOPBACK });
  const client = await host.connect({ ...options, remote: listener.local });
  const server = await listener.accept();
  await read(client, server!);
}

/** The C library of a process that may do nothing special: setting options is not permitted. */
function withoutPrivilege(): Libc {
  return new Proxy(library!, {
    get: (real, name) =>
      name === "setsockopt" ? () => -1 : name === "errno" ? () => 1 : Reflect.get(real, name),
  });
}

Deno.test({
  name: "keep-alive has a time before the first probe and one between probes",
  ignore,
  fn: async () => {
    const names = ["keepAlive", "keepAliveIdleSeconds", "keepAliveIntervalSeconds"] as const;
    await connected({ keepAliveMs: 60_000, keepAliveIntervalMs: 10_400 }, (client, server) => {
      for (const end of [client, server]) deepEqual(optionsOf(end, names), [1, 60, 10]);
    });
    // One number is enough, and none leaves them off.
    await connected({ keepAliveMs: 7000 }, (client) => {
      deepEqual(optionsOf(client, names), [1, 7, 7]);
    });
    await connected({ keepAliveMs: 0, keepAliveIntervalMs: 9000 }, (client) => {
      equal(optionsOf(client, ["keepAlive"])[0], 0);
    });
  },
});

Deno.test({
  name: "a multipath connection is one on both sides, and carries bytes and both ends",
  ignore: ignore || !hasMultipath(library!),
  fn: async () => {
    await connected({ multipath: true }, async (client, server) => {
      ok(client.traits.multipath);
      const bytes = new Uint8Array(300_000).map((_, at) => at * 7);
      const sent = Promise.resolve(client.send(bytes, 0, bytes.length));
      sent.then(() => client.end());
      const into = new Uint8Array(65_536);
      let at = 0;
      for (;;) {
        const count = await server.receive(into, 0, into.length);
        if (count === 0) break;
        for (let i = 0; i < count; i++) equal(into[i], bytes[at + i], `byte ${at + i}`);
        at += count;
      }
      equal(at, bytes.length);
      for (const end of [client, server]) {
        deepEqual(optionsOf(end, ["protocol"]), [IPPROTO_MPTCP]);
      }
    });
  },
});

Deno.test({
  name: "a kernel without Multipath TCP gives TCP",
  ignore,
  fn: () => {
    const without = new Proxy(library!, {
      get: (real, name) =>
        name === "socket"
          ? (domain: number, type: number, protocol: number) =>
            protocol === IPPROTO_MPTCP ? -1 : real.socket(domain, type, protocol)
          : Reflect.get(real, name),
    });
    equal(hasMultipath(without), false);
    const fd = openStreamSocket(without, "ipv4", true);
    equal(new SocketOptions(library!, fd).get("protocol"), IPPROTO_TCP);
    library!.close(fd);
  },
});

Deno.test({
  name: "Fast Open is asked for on both sides, and passed over where the kernel refuses",
  ignore,
  fn: () => {
    const fd = openStreamSocket(library!, "ipv6", false);
    const socket = new SocketOptions(library!, fd);
    prepareConnect(library!, fd, { fastOpen: true, reuseAddress: true });
    deepEqual(
      [socket.get("fastOpenConnect"), socket.get("reuseAddress"), socket.get("reusePort")],
      [1, 1, 1],
    );
    offerFastOpen(library!, fd);
    ok(socket.get("fastOpenQueue") > 1);
    library!.close(fd);
    const other = openStreamSocket(library!, "ipv4", false);
    prepareConnect(withoutPrivilege(), other, { fastOpen: true });
    offerFastOpen(withoutPrivilege(), other);
    prepareConnect(library!, other, {});
    equal(new SocketOptions(library!, other).get("fastOpenConnect"), 0);
    library!.close(other);
  },
});

Deno.test({
  name: "what needs CAP_NET_ADMIN says so, and what to do about it",
  ignore,
  fn: () => {
    const refusing = withoutPrivilege();
    for (
      const [code, attempt] of [
        ["ffi.no-transparent", () => allowTransparent(refusing, 0, true, "listen here")],
        ["ffi.no-mark", () => setMark(refusing, 0, 7)],
      ] as const
    ) {
      throws(attempt, (error) => {
        ok(error instanceof CapabilityError);
        equal(error.code, code);
        match(error.message, /^Cannot .*: .* needs CAP_NET_ADMIN/);
        match(error.remedy, /root.*CAP_NET_ADMIN/);
        return true;
      });
    }
    setMark(refusing, 0, 0);
  },
});
