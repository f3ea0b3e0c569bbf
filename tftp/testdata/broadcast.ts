/**
 * A program: asks for a file by broadcast and then by name, and prints as JSON who answered which.
 * Words: broadcast address, server address, port, file name.
 *
 * @module
 */

import { createSocket, type Socket } from "node:dgram";

/** What the program prints: addresses that answered the broadcast, and the request after it. */
export interface BroadcastAnswers {
  readonly broadcast: readonly string[];
  readonly unicast: readonly string[];
}

const READ_REQUEST = 1;

async function main(): Promise<void> {
  const [everyone, server, port, name] = Deno.args as [string, string, string, string];
  const request = new TextEncoder().encode(
    `\0${String.fromCharCode(READ_REQUEST)}${name}\0octet\0`,
  );
  const answers = { broadcast: [] as string[], unicast: [] as string[] };
  const shouting = await open();
  const asking = await open();
  shouting.setBroadcast(true);
  shouting.on("message", (_, { address }) => answers.broadcast.push(address));
  const answered = new Promise<void>((resolve) => {
    asking.on("message", (_, { address, port }) => {
      answers.unicast.push(address);
      // The acknowledgement of block 1 ends it: the file is smaller than a block.
      asking.send(new Uint8Array([0, 4, 0, 1]), port, address, () => resolve());
    });
  });
  await new Promise((resolve) => shouting.send(request, Number(port), everyone, resolve));
  asking.send(request, Number(port), server);
  // One socket, one queue: with this answer the server has been through the broadcast, too.
  await answered;
  // What it might have said to the broadcast was sent before, over the same cable.
  await new Promise((resolve) => setTimeout(resolve, 50));
  console.log(JSON.stringify(answers satisfies BroadcastAnswers));
  shouting.close();
  asking.close();
}

function open(): Promise<Socket> {
  return new Promise((resolve) => {
    const socket = createSocket("udp4");
    socket.bind(0, () => resolve(socket));
  });
}

if (import.meta.main) main();
