import { deepEqual, ok } from "node:assert/strict";
import { seededRandom } from "../random.ts";
import { HostilePackets } from "./hostile.ts";

Deno.test("HostilePackets makes short, random, truncated, extended and bent packets within its buffer", () => {
  const good = new Uint8Array([0, 3, 0, 1, 9, 9, 9, 9]);
  const packets = new HostilePackets(seededRandom(1), [good], 100);
  const lengths = new Set<number>();
  let same = 0;
  for (let i = 0; i < 5000; i++) {
    packets.next();
    ok(packets.start >= 0 && packets.start <= packets.end && packets.end <= packets.bytes.length);
    lengths.add(packets.end - packets.start);
    if (good.every((byte, at) => packets.bytes[packets.start + at] === byte)) same++;
  }
  ok(lengths.size > 50 && lengths.has(0) && lengths.has(8));
  ok(same > 100 && same < 4000);
});

Deno.test("HostilePackets repeats itself for the same seed", () => {
  const make = () => {
    const packets = new HostilePackets(seededRandom(5), [], 100);
    for (let i = 0; i < 10; i++) packets.next();
    return [...packets.bytes.subarray(packets.start, packets.end)];
  };
  deepEqual(make(), make());
});
