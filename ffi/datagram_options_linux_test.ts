import { deepEqual, equal, throws } from "node:assert/strict";
import { AF_INET, AF_INET6, SOCK_CLOEXEC, SOCK_DGRAM } from "./constants_linux.ts";
import { ADDRESS_BYTES } from "./address.ts";
import { readControls } from "./control_linux.ts";
import { DatagramBatch, type DatagramOptions } from "./datagram.ts";
import { configureDatagrams } from "./datagram_options_linux.ts";
import { OwnedFd } from "./fd_linux.ts";
import { bindAll } from "./libc_linux.ts";
import { type SocketOption, SocketOptions } from "./sockopt_linux.ts";
import { CMSGHDR } from "./structs_linux.ts";

const library = bindAll();
const ignore = library === undefined;
if (ignore) console.warn("options of datagram sockets are not tested: no C library");
const isRoot = Deno.build.os === "linux" && Deno.uid() === 0;

/** Opens a socket, sets options, and reads some. */
function configured(
  family: number,
  options: Omit<DatagramOptions, "bind">,
  names: readonly SocketOption[],
): number[] {
  using owned = new OwnedFd(library!.socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0), library);
  const bind = { family: "ipv4", address: "127.0.0.1", port: 0 } as const;
  const ipv6 = family === AF_INET6;
  configureDatagrams(library!, owned.fd, { bind, ...options }, { ipv4: true, ipv6 });
  const socket = new SocketOptions(library!, owned.fd);
  return names.map((name) => socket.get(name));
}

Deno.test({
  name: "datagrams may be fragmented, or may not, in both families",
  ignore,
  fn: () => {
    const both = ["mtuDiscover4", "mtuDiscover6"] as const;
    deepEqual(configured(AF_INET6, { fragment: true }, both), [0, 0]);
    deepEqual(configured(AF_INET6, { fragment: false }, both), [2, 2]);
    deepEqual(configured(AF_INET, { fragment: false }, ["mtuDiscover4"]), [2]);
    // What the system chose: the path is found out, and datagrams are cut to it.
    deepEqual(configured(AF_INET6, {}, both), [1, 1]);
  },
});

Deno.test({
  name: "a datagram socket shares its address where it is told to",
  ignore,
  fn: () => {
    deepEqual(configured(AF_INET, { reuseAddress: true }, ["reuseAddress", "reusePort"]), [1, 1]);
    deepEqual(configured(AF_INET, {}, ["reuseAddress", "reusePort"]), [0, 0]);
  },
});

Deno.test({
  name: "a datagram socket is marked, bound to an interface and transparent",
  ignore: ignore || !isRoot,
  fn: () => {
    deepEqual(configured(AF_INET6, { mark: 0x1234, device: "lo" }, ["mark"]), [0x1234]);
    deepEqual(
      configured(AF_INET6, { transparent: true }, [
        "transparent4",
        "transparent6",
        "originalDestination4",
        "originalDestination6",
      ]),
      [1, 1, 1, 1],
    );
    throws(
      () => configured(AF_INET, { device: "no-such" }, []),
      /^SystemError: Cannot use network interface "no-such": /,
    );
  },
});

Deno.test("an original destination that is no address is none", () => {
  const batch = new DatagramBatch(1, 64);
  const view = new DataView(new ArrayBuffer(128));
  for (const bytes of [4, 100]) {
    view.setUint32(CMSGHDR.len, CMSGHDR.size + bytes, true);
    view.setInt32(CMSGHDR.level, 0, true);
    view.setInt32(CMSGHDR.type, 20, true);
    view.setUint16(CMSGHDR.size, AF_INET, true);
    readControls(view, 0, 128, batch, 0);
    for (let at = 0; at < ADDRESS_BYTES; at++) equal(batch.locals.getUint8(at), 0);
  }
});
