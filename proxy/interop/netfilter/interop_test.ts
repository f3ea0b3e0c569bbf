import { deepEqual, equal, match, ok } from "node:assert/strict";
import { ownWords } from "../../../internal/testing/own_tool.ts";
import { peerTest, runProgram } from "../../../internal/testing/peers.ts";
import { until } from "../../../internal/testing/proxy_peers.ts";
import { NetfilterScene, SERVER4, SERVER6 } from "../../testdata/netfilter.ts";

const PORT = 12_345;
const MARK = 0x77;
const NEEDS = ["namespaces", "nft", "curl"] as const;
const LENGTHS = [0, 1, 1400, 20_000];

const redirect = { type: "redirect", tag: "in", listen: "::", listen_port: PORT };
const tproxy = { type: "tproxy", tag: "in", listen: "::", listen_port: PORT };
const MARKED = { outbounds: [{ type: "direct", tag: "out", routing_mark: MARK }] };

const REDIRECT_CLIENTS = (inside: string) => `
  chain pre {
    type nat hook prerouting priority dstnat; policy accept
    iifname "${inside}" meta l4proto tcp redirect to :${PORT}
  }`;

const TPROXY_CLIENTS = (inside: string) => `
  chain pre {
    type filter hook prerouting priority mangle; policy accept
    iifname "${inside}" ip daddr 10.91.2.0/24 meta l4proto { tcp, udp } tproxy ip to :${PORT} meta mark set 1 accept
    iifname "${inside}" ip6 daddr fd91:2::/64 meta l4proto { tcp, udp } tproxy ip6 to :${PORT} meta mark set 1 accept
  }`;

/** Fetches and sends over both families, and says which destination went wrong. */
async function transfers(scene: NetfilterScene): Promise<void> {
  for (const host of [...SERVER4, ...SERVER6]) {
    equal(await scene.fetch(host, 3_000_000), "", host);
    equal(await scene.send(host, 1_000_000), "", host);
  }
}

peerTest("redirect takes clients of both families to where they were going", NEEDS, async () => {
  await using scene = await NetfilterScene.create();
  // The router forwards nothing: without the proxy there is no way.
  const url = `http://${SERVER4[0]}/bytes/1`;
  const { code } = await scene.try(scene.client, ["curl", "-sS", "--max-time", "1", url]);
  ok(code === 7 || code === 28, `${code}`);
  await scene.proxy({ inbounds: [redirect] });
  await scene.rules(REDIRECT_CLIENTS(scene.inside));
  await transfers(scene);
  // Nobody is redirected who talks to the port itself.
  const words = ["curl", "-sS", "--max-time", "5", `http://10.91.2.1:${PORT}/`];
  equal((await scene.try(scene.server, words)).code, 56);
  equal(await scene.fetch(SERVER4[0], 1), "");
});

peerTest(
  "redirect takes what its own host sends, and a mark passes what the proxy sends",
  NEEDS,
  async () => {
    await using scene = await NetfilterScene.create();
    await scene.proxy({ inbounds: [redirect], ...MARKED });
    await scene.rules(`
    counter passed {}
    chain out {
      type nat hook output priority -100; policy accept
      meta mark ${MARK} counter name passed accept
      tcp dport 80 redirect to :${PORT}
    }`);
    for (const host of [...SERVER4, ...SERVER6]) {
      equal(await scene.fetch(host, 200_000, scene.router), "", host);
    }
    equal(await scene.packets("passed"), 4);
  },
);

peerTest(
  "redirect cuts its own connections when rules without a mark bring them back",
  NEEDS,
  async () => {
    await using scene = await NetfilterScene.create();
    const rules = (pass: string) => `
    chain out {
      type nat hook output priority -100; policy accept
      ${pass}
      tcp dport 80 redirect to :${PORT}
    }`;
    const proxy = await scene.proxy({ inbounds: [redirect] });
    await scene.rules(rules(""));
    match(await scene.fetch(SERVER4[0], 1, scene.router), /^curl ended with (52|56): /);
    match(await scene.fetch(SERVER6[0], 1, scene.router), /^curl ended with (52|56): /);
    const warnings = proxy.output().match(/netfilter brought back to it.*routing_mark/g);
    equal(warnings?.length, 1, proxy.output());
    // A few, and not as many as there are descriptors.
    const sockets = await scene.run(scene.router, ["ss", "-Htan"]);
    ok(sockets.trim().split("\n").length < 60, sockets);
    // Nothing is left of it once the rules are right.
    await scene.rules(rules(`ip daddr ${SERVER4[1]} accept`));
    equal(await scene.fetch(SERVER4[1], 1000, scene.router), "");
  },
);

peerTest(
  "tproxy takes streams and datagrams of both families, and answers in the name of whom they asked",
  NEEDS,
  async () => {
    await using scene = await NetfilterScene.create();
    await scene.divert();
    await scene.proxy({ inbounds: [tproxy] });
    await scene.rules(TPROXY_CLIENTS(scene.inside));
    await transfers(scene);
    for (const host of [...SERVER4, ...SERVER6]) {
      const lines = await scene.ask(host, 0, LENGTHS);
      deepEqual(lines, LENGTHS.map((length) => `${length} same ${host}`));
    }
    // One client, one port, several destinations: an association each way, and nothing mixed up.
    for (const host of [...SERVER4, ...SERVER4]) {
      deepEqual(await scene.ask(host, 5000, [100]), [`100 same ${host}`]);
    }
  },
);

peerTest(
  "tproxy takes datagrams that its own host sends, and passes the proxy's by their mark",
  NEEDS,
  async () => {
    await using scene = await NetfilterScene.create();
    await scene.divert();
    await scene.proxy({ inbounds: [{ ...tproxy, routing_mark: MARK }], ...MARKED });
    await scene.rules(`
    counter passed {}
    chain out {
      type route hook output priority mangle; policy accept
      meta mark ${MARK} counter name passed accept
      ip daddr 10.91.2.0/24 udp dport 7000 meta mark set 1 accept
    }
    chain pre {
      type filter hook prerouting priority mangle; policy accept
      iifname "lo" meta mark 1 meta l4proto udp tproxy ip to :${PORT} accept
    }`);
    const words = ownWords("proxy/testdata/netfilter_peer.ts", [
      "ask",
      "0",
      SERVER4[1],
      "7000",
      "500",
    ]);
    equal(await scene.run(scene.router, words), `500 same ${SERVER4[1]}\n`);
    ok(await scene.packets("passed") >= 1);
  },
);

peerTest("tproxy without CAP_NET_ADMIN says what it needs", ["namespaces"], async () => {
  const file = await Deno.makeTempFile({ suffix: ".json" });
  try {
    for (const network of ["tcp", "udp"]) {
      const inbound = { ...tproxy, listen: "127.0.0.1", listen_port: 0, network };
      await Deno.writeTextFile(file, JSON.stringify({ inbounds: [inbound] }));
      const less = ["setpriv", "--bounding-set", "-net_admin,-net_raw", "--inh-caps", "-all"];
      const { code, stderr } = await runProgram([
        ...less,
        ...ownWords("proxy/mod.ts", ["run", "-c", file, "--driver", "fast"]),
      ]);
      equal(code, 8, stderr);
      match(stderr, /IP_TRANSPARENT needs CAP_NET_ADMIN or CAP_NET_RAW/);
      match(stderr, /run as root, or give the process CAP_NET_ADMIN/);
    }
  } finally {
    await Deno.remove(file);
  }
});

peerTest("marks, interfaces and fragments hold for the datagrams that go out", NEEDS, async () => {
  await using scene = await NetfilterScene.create();
  await scene.divert();
  await scene.rules(`
    counter marked {}
    counter whole {}
    counter cut {}
    chain out {
      type filter hook output priority 0; policy accept
      udp dport 7000 meta mark ${MARK} counter name marked
      udp dport 7000 ip frag-off & 0x4000 != 0 counter name whole
      udp dport 7000 ip frag-off & 0x4000 == 0 counter name cut
    }
    ${TPROXY_CLIENTS(scene.inside)}`);
  const outbound = (more: object) => ({
    inbounds: [tproxy],
    outbounds: [{ type: "direct", tag: "out", ...more }],
  });
  await scene.proxy(outbound({ routing_mark: MARK, udp_fragment: true }));
  deepEqual(await scene.ask(SERVER4[0], 0, [1, 5000]), [
    `1 same ${SERVER4[0]}`,
    `5000 same ${SERVER4[0]}`,
  ]);
  equal(await scene.packets("whole"), 0);
  ok(await scene.packets("cut") >= 2);
  equal(await scene.packets("marked"), await scene.packets("cut"));
  // With "do not fragment" a datagram that fits gets through, and one that does not is lost.
  await scene.proxy(outbound({ udp_fragment: false }));
  deepEqual(await scene.ask(SERVER4[0], 0, [1, 5000]), [
    `1 same ${SERVER4[0]}`,
    "5000 nothing came back",
  ]);
  ok(await scene.packets("whole") >= 1);
  // Bound to the wrong interface nothing gets anywhere.
  await scene.proxy(outbound({ bind_interface: scene.inside }));
  deepEqual(await scene.ask(SERVER4[0], 0, [1]), ["1 nothing came back"]);
});

peerTest("Fast Open, Multipath TCP and keep-alive times are there on the wire", NEEDS, async () => {
  await using scene = await NetfilterScene.create();
  for (const network of [scene.router, scene.server]) {
    await scene.run(network, ["sysctl", "-q", "-w", "net.ipv4.tcp_fastopen=3"]);
  }
  const options = {
    tcp_fast_open: true,
    tcp_keep_alive: "60s",
    tcp_keep_alive_interval: "20s",
  };
  // Two of ours: one listens on the other's outbound, so that both sides of each option are ours.
  const shadowsocks = { method: "none", password: "" };
  const near = (more: object) => ({
    inbounds: [
      {
        type: "direct",
        tag: "in",
        listen: "10.91.1.1",
        listen_port: 80,
        override_address: SERVER4[0],
        override_port: 80,
        ...more,
      },
      {
        type: "shadowsocks",
        tag: "server",
        listen: "127.0.0.1",
        listen_port: 8388,
        ...shadowsocks,
        ...more,
      },
    ],
    outbounds: [
      {
        type: "shadowsocks",
        tag: "far",
        server: "127.0.0.1",
        server_port: 8388,
        ...shadowsocks,
        ...more,
      },
      { type: "direct", tag: "out" },
    ],
    route: { rules: [{ inbound: "server", outbound: "out" }], final: "far" },
  });
  const url = (bytes: number) => `http://10.91.1.1/bytes/${bytes}`;
  const fetch = (bytes: number) =>
    scene.run(scene.client, [
      "curl",
      "-sS",
      "--max-time",
      "20",
      "-o",
      "/dev/null",
      "-w",
      "%{size_download}",
      url(bytes),
    ]);

  await scene.proxy(near(options));
  for (let i = 0; i < 5; i++) equal(await fetch(100_000), "100000");
  // The first one asks for a cookie, the others bring their first bytes with it.
  ok(await scene.statistic(scene.router, "TCPFastOpenActive") >= 3);
  ok(await scene.statistic(scene.router, "TCPFastOpenPassive") >= 3);

  const holding = scene.try(scene.client, [
    "curl",
    "-sS",
    "--max-time",
    "3",
    "--limit-rate",
    "100k",
    "-o",
    "/dev/null",
    url(5_000_000),
  ]);
  let seen = "";
  await until(
    async () => {
      seen = await scene.run(scene.router, ["ss", "-Htno", "sport", "=", "8388"]);
      return /timer:\(keepalive,(\d+sec|1min),/.test(seen);
    },
    2500,
    () => `no keep-alive timer: ${seen}`,
  );
  await holding;

  await scene.proxy(near({ tcp_multi_path: true }));
  const before = await scene.statistic(scene.router, "MPCapableSYNACKRX");
  equal(await fetch(3_000_000), "3000000");
  ok(await scene.statistic(scene.router, "MPCapableSYNACKRX") > before);
});

for (const driver of ["fast", "portable"] as const) {
  peerTest(`options without effect are named once, driver ${driver}`, NEEDS, async () => {
    await using scene = await NetfilterScene.create();
    await scene.run(scene.router, ["sysctl", "-q", "-w", "net.mptcp.enabled=0"]);
    const proxy = await scene.proxy({
      inbounds: [{ type: "socks", tag: "in", listen: "127.0.0.1", listen_port: 1080 }],
      outbounds: [{
        type: "direct",
        tag: "out",
        tcp_multi_path: true,
        tcp_fast_open: true,
        routing_mark: MARK,
        udp_fragment: true,
        tcp_keep_alive_interval: "5s",
      }],
    }, driver);
    const lines = proxy.output().split("\n").filter((line) => line.includes("has no effect"));
    equal(lines.length, 1, proxy.output());
    if (driver === "fast") match(lines[0]!, /out: tcp_multi_path has no effect: the kernel has no/);
    else {
      match(
        lines[0]!,
        /out: routing_mark, tcp_fast_open, tcp_multi_path, tcp_keep_alive_interval, udp_fragment has/,
      );
    }
  });
}
