/**
 * A way through two servers: SOCKS5 in, then Shadowsocks, and out at the far end. Rules decide who takes it.
 *
 *     deno run --allow-net --allow-ffi examples/proxy_chain.ts
 */
import { createProxy, fetchVia, generateShadowsocksPassword } from "@fastwire/net/proxy";

const method = "2022-blake3-aes-128-gcm";
const password = generateShadowsocksPassword(method);
const place = { listen: "127.0.0.1", listen_port: 0 };

// The far end, usually somewhere else.
await using far = await createProxy({
  inbounds: [{ type: "shadowsocks", tag: "in", ...place, method, password }],
});

await using near = await createProxy({
  inbounds: [{ type: "mixed", tag: "local", ...place }],
  outbounds: [
    { type: "direct", tag: "direct" },
    {
      type: "shadowsocks",
      tag: "far",
      server: "127.0.0.1",
      server_port: far.inbounds[0]!.addresses[0]!.port,
      method,
      password,
    },
  ],
  route: { rules: [{ domain_suffix: "lan", outbound: "direct" }], final: "far" },
});

const { port } = near.inbounds[0]!.addresses[0]!;
console.log(`curl -x socks5h://127.0.0.1:${port} takes the way through the far end`);

// A site to visit, and a visit without curl.
await using site = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, () => {
  return new Response("hello");
});
const response = await fetchVia(near.outbound("far"), `http://127.0.0.1:${site.addr.port}/`);
console.log(`${response.status} ${await response.text()}`);
console.log(`${far.snapshot().opened} connection through the far end`);
