/**
 * The two ends of the tests with netfilter, as programs for network namespaces of their own.
 *
 * `serve ADDRESS…` answers web clients on port 80 and datagrams on port 7000 of each address, and names the address it was
 * asked at. `ask SOURCE-PORT ADDRESS PORT LENGTH…` sends datagrams and wants each back, from where it was sent.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { patternBytes } from "../../internal/testing/pattern.ts";

/** Bytes in front of an answer: the address it was asked at, padded. */
const NAME_BYTES = 40;

async function serve(addresses: readonly string[]): Promise<void> {
  for (const address of addresses) {
    Deno.serve({ hostname: address, port: 80, onListen: () => {} }, async (request, info) => {
      const { pathname } = new URL(request.url);
      const headers = {
        "x-asked": address,
        "x-client": (info.remoteAddr as Deno.NetAddr).hostname,
      };
      const wanted = /^\/bytes\/(\d+)$/.exec(pathname);
      if (wanted !== null) return new Response(patternBytes(0, Number(wanted[1])), { headers });
      const body = new Uint8Array(await request.arrayBuffer());
      return new Response(createHash("sha256").update(body).digest("hex"), { headers });
    });
    const socket = createSocket({ type: address.includes(":") ? "udp6" : "udp4" });
    socket.on("message", (bytes, { address: from, port }) => {
      const answer = new Uint8Array(NAME_BYTES + bytes.length);
      new TextEncoder().encodeInto(address, answer);
      answer.set(bytes, NAME_BYTES);
      socket.send(answer, port, from);
    });
    socket.bind(7000, address);
    await once(socket, "listening");
  }
  console.error("serving");
}

async function ask(words: readonly string[]): Promise<void> {
  const [own, address, port, ...lengths] = words as [string, string, string, ...string[]];
  const socket = createSocket({ type: address.includes(":") ? "udp6" : "udp4" });
  socket.bind(Number(own));
  await once(socket, "listening");
  let arrived: (bytes: Uint8Array) => void = () => {};
  let strangers = 0;
  socket.on("message", (bytes, from) => {
    // Looked at here: connecting the socket does not have the runtime tell the kernel.
    if (from.address === address && from.port === Number(port)) arrived(bytes);
    else strangers++;
  });
  for (const length of lengths.map(Number)) {
    const payload = patternBytes(length, length);
    let answer: Uint8Array | undefined;
    for (let attempt = 0; attempt < 3 && answer === undefined; attempt++) {
      const coming = new Promise<Uint8Array | undefined>((resolve) => {
        const timer = setTimeout(() => resolve(undefined), 1500);
        arrived = (bytes) => {
          clearTimeout(timer);
          resolve(bytes);
        };
      });
      socket.send(payload, Number(port), address);
      answer = await coming;
    }
    if (answer === undefined) {
      console.log(
        `${length} nothing came back${strangers > 0 ? ` but ${strangers} of others` : ""}`,
      );
      continue;
    }
    const name = new TextDecoder().decode(answer.subarray(0, NAME_BYTES)).replaceAll("\0", "");
    const same = answer.length === NAME_BYTES + length &&
      payload.every((byte, at) => byte === answer[NAME_BYTES + at]);
    console.log(`${length} ${same ? "same" : "different"} ${name}`);
  }
  socket.close();
}

const [command, ...words] = Deno.args;
await (command === "serve" ? serve(words) : ask(words));
