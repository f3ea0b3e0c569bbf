// Keeps a shared loop busy with one connection of its own while a connection of the runtime throws a byte to and fro fifty
// times; prints how often the thread was left to the runtime for that.
import { openSharedLoop } from "../shared_loop.ts";
import { openStreamHost } from "../stream.ts";

const loop = await openSharedLoop();
const host = await openStreamHost({ reactor: loop });
const own = await host.listen({ bind: { family: "ipv4", address: "127.0.0.1", port: 0 } });
const connecting = host.connect({ remote: own.local });
const server = (await own.accept())!;
const byte = new Uint8Array(1);
let stopped = false;
for (const end of [server, await connecting]) {
  end.watch(() => {
    if (end.receiveNow(byte, 0, 1) === 1 && !stopped) end.sendNow(byte, 0, 1);
  });
}
server.sendNow(byte, 0, 1);

const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
const echoing = listener.accept().then(({ readable, writable }) => readable.pipeTo(writable));
const { port } = listener.addr as Deno.NetAddr;
const client = await Deno.connect({ hostname: "127.0.0.1", port });
const before = loop.parks;
for (let round = 0; round < 50; round++) {
  await client.write(byte);
  await client.read(byte);
}
console.log(loop.parks - before);
stopped = true;
client.close();
await echoing;
listener.close();
await host.close();
await loop.close();
