import { equal, ok, throws } from "node:assert/strict";
import { SystemError } from "../internal/errors.ts";
import { AF_INET, AF_INET6, SOCK_CLOEXEC, SOCK_DGRAM } from "./constants_linux.ts";
import { EBADF } from "./errno.ts";
import { OwnedFd } from "./fd_linux.ts";
import { bindAll } from "./libc_linux.ts";
import { type SocketOption, SocketOptions } from "./sockopt_linux.ts";

const library = bindAll();
const ignore = library === undefined;
if (ignore) console.warn("socket options are not tested: no C library");

function socket(family: number): OwnedFd {
  return new OwnedFd(library!.socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0), library);
}

Deno.test({
  name: "SocketOptions reads back what it set",
  ignore,
  fn: () => {
    const cases: readonly (readonly [number, SocketOption, number])[] = [
      [AF_INET, "reuseAddress", 1],
      [AF_INET, "reusePort", 1],
      [AF_INET, "broadcast", 1],
      [AF_INET, "packetInfo4", 1],
      [AF_INET, "errorQueue4", 1],
      [AF_INET, "dropCounter", 1],
      [AF_INET, "coalesce", 1],
      [AF_INET, "segmentBytes", 1400],
      [AF_INET, "mtuDiscover4", 2],
      [AF_INET, "trafficClass4", 0x20],
      [AF_INET, "hopLimit4", 33],
      [AF_INET6, "only6", 1],
      [AF_INET6, "packetInfo6", 1],
      [AF_INET6, "errorQueue6", 1],
      [AF_INET6, "mtuDiscover6", 2],
      [AF_INET6, "trafficClass6", 0x20],
      [AF_INET6, "hopLimit6", 33],
    ];
    for (const [family, option, value] of cases) {
      using owned = socket(family);
      const options = new SocketOptions(library!, owned.fd);
      if (value === 1) equal(options.get(option), 0, `${option} before`);
      options.set(option, value);
      equal(options.get(option), value, option);
    }
  },
});

Deno.test({
  name: "SocketOptions reports the buffer that is in force",
  ignore,
  fn: () => {
    using owned = socket(AF_INET);
    const options = new SocketOptions(library!, owned.fd);
    const before = options.receiveBuffer(0);
    ok(before > 0);
    const receive = options.receiveBuffer(100_000), send = options.sendBuffer(120_000);
    equal(receive, options.get("receiveBuffer"));
    equal(receive, 200_000);
    equal(send, 240_000);
  },
});

Deno.test({
  name: "SocketOptions names the option that was refused",
  ignore,
  fn: () => {
    const options = new SocketOptions(library!, 1_000_000);
    equal(options.trySet("reusePort", true), EBADF);
    throws(
      () => options.set("reusePort", true),
      (error) =>
        error instanceof SystemError && error.syscall === "setsockopt" &&
        error.message ===
          'Cannot set socket option "reusePort" to true: the descriptor is not open (EBADF)',
    );
    throws(() => options.get("type"), SystemError);
  },
});
