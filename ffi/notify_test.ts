import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { AF_UNIX, MSG_DONTWAIT, SOCK_CLOEXEC, SOCK_DGRAM } from "./constants_linux.ts";
import { bindAll } from "./libc_linux.ts";
import { openServiceNotifier } from "./notify.ts";
import { monotonicMicroseconds } from "./unix_linux.ts";

const library = bindAll();
const ignore = library === undefined;
if (ignore) console.warn("the service notifier is not tested: no C library");

/** A service manager: a socket that keeps what it is told. */
class Manager {
  readonly #fd = library!.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

  constructor(name: string) {
    const path = new TextEncoder().encode(name.replace(/^@/, "\0"));
    const address = Uint8Array.of(AF_UNIX, 0, ...path, ...(name.startsWith("@") ? [] : [0]));
    equal(library!.bind(this.#fd, address, address.length), 0);
  }

  /** Everything said since the last time. Local datagrams arrive before the sender goes on. */
  told(): string[] {
    const told: string[] = [], bytes = new Uint8Array(1000);
    for (;;) {
      const length = library!.recvfrom(this.#fd, bytes, 1000n, MSG_DONTWAIT, null, null);
      if (length < 0) return told;
      told.push(new TextDecoder().decode(bytes.subarray(0, length)));
    }
  }

  [Symbol.dispose](): void {
    library!.close(this.#fd);
  }
}

async function eachName(body: (name: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    for (const name of [`${folder}/notify`, `@fastwire-${crypto.randomUUID()}`]) await body(name);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test({
  name: "a service notifier tells the life of a service, by path and by abstract name",
  ignore,
  fn: () =>
    eachName(async (name) => {
      using manager = new Manager(name);
      const service = await openServiceNotifier({ socket: name, watchdogMicroseconds: 15_000_000 });
      equal(service.active, true);
      equal(service.reason, "");
      equal(service.watchdogMs, 15_000);
      service.ready("serving 3 tables");
      service.status("a\nSTOPPING=1");
      service.alive();
      service.stopping();
      deepEqual(manager.told(), [
        "READY=1\nSTATUS=serving 3 tables",
        "STATUS=a STOPPING=1",
        "WATCHDOG=1",
        "STOPPING=1",
      ]);
      const before = monotonicMicroseconds();
      service.reloading();
      const [reloading] = manager.told();
      match(reloading!, /^RELOADING=1\nMONOTONIC_USEC=\d+$/);
      const at = BigInt(reloading!.split("=").at(-1)!);
      ok(before <= at && at <= monotonicMicroseconds());
      service.close();
      service.close();
      service.alive();
      deepEqual(manager.told(), []);
      equal(service.failures, 0);
    }),
});

Deno.test({
  name: "a service notifier counts what nobody hears, and goes on when somebody does again",
  ignore,
  fn: () =>
    eachName(async (name) => {
      const service = await openServiceNotifier({ socket: name });
      service.ready();
      equal(service.failures, 1);
      using manager = new Manager(name);
      service.alive();
      deepEqual(manager.told(), ["WATCHDOG=1"]);
      service.close();
    }),
});

Deno.test({
  name: "the monotonic clock is the one of the whole machine",
  ignore,
  fn: async () => {
    // Its zero is the start of the machine: /proc/uptime counts on while the machine sleeps, this clock does not.
    const uptime = Number((await Deno.readTextFile("/proc/uptime")).split(" ")[0]);
    ok(Number(monotonicMicroseconds()) / 1e6 <= uptime + 0.02);
    ok(monotonicMicroseconds() > 0n);
  },
});

Deno.test("a service notifier without a manager does nothing and says why", async () => {
  for (
    const [socket, why] of [["", /NOTIFY_SOCKET/], [
      "vsock:2:1",
      /no socket of this machine/,
    ]] as const
  ) {
    const service = await openServiceNotifier({ socket });
    equal(service.active, false);
    match(service.reason, why);
    equal(service.watchdogMs, 0);
    service.ready();
    service.status("x");
    service.alive();
    service.reloading();
    service.stopping();
    service.close();
    equal(service.failures, 0);
  }
});

Deno.test({
  name: "a service notifier refuses a name that fits no address",
  ignore,
  fn: () => rejects(openServiceNotifier({ socket: `/${"x".repeat(107)}` }), RangeError),
});
