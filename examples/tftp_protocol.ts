/**
 * The protocol without a network: a request taken apart, options agreed on, and a file carried from one machine to the
 * other by hand, every fifth datagram lost. No permission is needed.
 *
 *     deno run examples/tftp_protocol.ts
 */
import { decodeRequest, encodeRequest, requestOptions } from "@fastwire/net/tftp/protocol";
import { negotiate, ReceiveMachine, SendMachine, wireBlock } from "@fastwire/net/tftp/protocol";

// What a client asks, as bytes, and what a server makes of it.
const bytes = new Uint8Array(512);
const options = requestOptions({ blockSize: 1428, windowSize: 8, transferSize: 0 });
const what = { operation: "read", filename: "boot/kernel", mode: "octet", options } as const;
const end = encodeRequest(bytes, 0, what);
const request = decodeRequest(bytes, 0, end);
if (typeof request === "number") throw new Error("Cannot read what was just written");
console.log(`${request.operation} ${request.filename}, ${end} bytes on the wire`);

const sizeBytes = 100_000;
const { accepted, blockSize, windowSize, rollover } = negotiate(request.options, {
  maxBlockSize: 1024,
  clampToMtu: false,
  maxWindowSize: 4,
  maxWindowBytes: 65_536,
  refuseOptions: [],
}, { operation: "read", mode: "octet", sizeBytes, pathMtu: undefined, ipv6: false });
console.log(accepted.map(([name, value]) => `${name}=${value}`).join(" "));

// Two machines and what is on its way between them. A machine speaks only through its actions.
const wire: { readonly to: "sender" | "receiver"; readonly index: number }[] = [];
let now = 0, posted = 0, delivered = 0, complete = false, outcome = "";
const agreed = { role: "server", opening: false, blockSize, windowSize, rollover } as const;
const sender = new SendMachine({ ...agreed, sizeBytes });
const receiver = new ReceiveMachine({ ...agreed, reorder: false });
const sending = {
  sendOpening() {},
  sendError() {},
  sendBlocks(first: number, count: number) {
    for (let index = first; index < first + count; index++) post("receiver", index);
  },
  finish: (result: { readonly outcome: string }) => outcome = result.outcome,
};
const receiving = {
  ...sending,
  deliver: () => delivered++,
  hold() {},
  deliverHeld() {},
  dropHeld() {},
  sendAck: (index: number) => post("sender", index),
  commit: () => complete = true,
  finish() {},
};
receiver.start(now, receiving);
sender.start(now, sending);
while (outcome === "") {
  const datagram = wire.shift();
  if (complete) receiver.committed(now, receiving);
  if (datagram?.to === "sender") {
    sender.receiveAck(wireBlock(datagram.index, rollover), now, sending);
  } else if (datagram !== undefined) {
    const payloadBytes = Math.min(blockSize, sizeBytes - (datagram.index - 1) * blockSize);
    receiver.receiveData(wireBlock(datagram.index, rollover), payloadBytes, now, receiving);
  } else {
    // Nothing is on its way: time passes until a machine wants to be woken. No clock is read.
    now = Math.max(now, Math.min(sender.deadline, receiver.deadline));
    sender.expire(now, sending);
    receiver.expire(now, receiving);
  }
}
console.log(`${outcome}: ${delivered} blocks delivered, ${sender.retransmits} sent again`);

function post(to: "sender" | "receiver", index: number): void {
  if (++posted % 5 !== 0) wire.push({ to, index });
}
