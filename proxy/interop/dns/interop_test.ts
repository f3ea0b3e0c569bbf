import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { peer, peerTest } from "../../../internal/testing/peers.ts";
import { createProxy } from "../../engine.ts";
import type { ProxyServer } from "../../server.ts";

/** dnsmasq on a free port of 127.0.0.1, with records of its own and nobody to ask. */
async function startDnsmasq(): Promise<{ readonly port: number } & AsyncDisposable> {
  for (let attempt = 0;; attempt++) {
    const probe = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = probe.addr;
    probe.close();
    const many = Array.from({ length: 120 }, (_, i) => `--address=/many.test/10.0.0.${i + 1}`);
    const child = new Deno.Command(peer("dnsmasq")!.path, {
      args: [
        // Not --no-daemon: that one answers one TCP connection at a time, and nobody else meanwhile.
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--pid-file=",
        "--user=root",
        "--bind-interfaces",
        "--listen-address=127.0.0.1",
        `--port=${port}`,
        "--host-record=host.test,192.0.2.1,2001:db8::1,300",
        "--cname=alias.test,host.test,120",
        "--mx-host=host.test,mail.test,10",
        "--srv-host=_sip._udp.test,host.test,5060,1,2",
        "--txt-record=host.test,one,two",
        "--local=/test/",
        ...many,
      ],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    let ended = false;
    const end = child.status.then(() => ended = true);
    const stop = async (): Promise<void> => {
      if (!ended) child.kill("SIGTERM");
      await end;
    };
    for (let i = 0; i < 500 && !ended; i++) {
      try {
        (await Deno.connect({ hostname: "127.0.0.1", port })).close();
        return { port, [Symbol.asyncDispose]: stop };
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    }
    await stop();
    if (attempt === 2) throw new Error("Cannot start dnsmasq: it does not listen");
  }
}

/** A proxy that answers DNS on a port of its own, from a server of the given type. */
async function startProxy(type: "udp" | "tcp", port: number) {
  const proxy: ProxyServer = await createProxy({
    dns: { servers: [{ type, tag: "up", server: "127.0.0.1", server_port: port }] },
    inbounds: [{
      type: "direct",
      tag: "in",
      listen: "127.0.0.1",
      listen_port: 0,
      override_address: "192.0.2.53",
      override_port: 53,
    }],
    outbounds: [{ type: "direct", tag: "out" }],
    route: { rules: [{ inbound: "in", action: "hijack-dns" }] },
  }, {
    // Which driver carries the datagrams is the affair of their own suite.
    driver: "portable",
  });
  return proxy;
}

for (const type of ["udp", "tcp"] as const) {
  peerTest(
    `Dns asks dnsmasq over ${type} for every kind of record`,
    ["dnsmasq"],
    async () => {
      await using dnsmasq = await startDnsmasq();
      await using proxy = await startProxy(type, dnsmasq.port);
      const { dns } = proxy;
      deepEqual(await dns.resolve("Host.Test"), ["192.0.2.1", "2001:db8::1"]);
      deepEqual(await dns.resolve("alias.test", { strategy: "ipv6_only" }), ["2001:db8::1"]);
      equal((await dns.query("host.test", 1)).ttlSeconds, 300);
      // Longer than a datagram may be: over UDP it was cut and came by TCP.
      equal((await dns.resolve("many.test", { strategy: "ipv4_only" })).length, 120);
      await rejects(dns.resolve("none.test"), { code: "proxy.name-not-found" });
      await rejects(dns.resolve("example.com"), /refused/);
    },
  );
}

peerTest(
  "a resolver of another make is answered through the proxy",
  ["dnsmasq"],
  async () => {
    await using dnsmasq = await startDnsmasq();
    await using proxy = await startProxy("udp", dnsmasq.port);
    const { address: ipAddr, port } = proxy.inbounds[0]!.addresses[0]!;
    const nameServer = { ipAddr, port };
    deepEqual(await Deno.resolveDns("host.test.", "A", { nameServer }), ["192.0.2.1"]);
    deepEqual(await Deno.resolveDns("host.test.", "AAAA", { nameServer }), ["2001:db8::1"]);
    deepEqual(await Deno.resolveDns("alias.test.", "CNAME", { nameServer }), ["host.test."]);
    deepEqual(await Deno.resolveDns("host.test.", "TXT", { nameServer }), [["one", "two"]]);
    deepEqual(await Deno.resolveDns("host.test.", "MX", { nameServer }), [
      { preference: 10, exchange: "mail.test." },
    ]);
    deepEqual(await Deno.resolveDns("_sip._udp.test.", "SRV", { nameServer }), [
      { priority: 1, weight: 2, port: 5060, target: "host.test." },
    ]);
    await rejects(Deno.resolveDns("none.test.", "A", { nameServer }));
    const { cache, exchanges } = proxy.dns.snapshot();
    equal(exchanges, cache.misses);
    const before = proxy.dns.snapshot().exchanges;
    for (let i = 0; i < 20; i++) await Deno.resolveDns("host.test.", "A", { nameServer });
    ok(proxy.dns.snapshot().exchanges === before);
  },
);
