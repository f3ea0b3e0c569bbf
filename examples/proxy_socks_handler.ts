/**
 * A SOCKS server in front of a program: names that end in `.greet` are answered here, all others are refused.
 *
 *     deno run --allow-net --allow-ffi examples/proxy_socks_handler.ts
 */
import { listenSocks, socks5Connect } from "@fastwire/net/proxy";

await using listener = await listenSocks((client) => {
  const { host } = client.destination;
  if (!host.endsWith(".greet")) return client.refuse("rule");
  const stream = client.accept();
  const words = new TextEncoder().encode(`hello ${host.slice(0, -".greet".length)}`);
  stream.sendNow(words, 0, words.length);
  stream.end();
});

const server = { host: "127.0.0.1", port: listener.address.port };
const stream = await socks5Connect(server, { host: "world.greet", port: 80 });
const bytes = new Uint8Array(64);
const count = await stream.receive(bytes, 0, bytes.length);
console.log(new TextDecoder().decode(bytes.subarray(0, count)));
await stream.close();

try {
  await socks5Connect(server, { host: "example.com", port: 80 });
} catch (error) {
  console.log(error instanceof Error ? error.message : error);
}
