import { deepEqual, equal, ok } from "node:assert/strict";
import { seededRandom } from "../random.ts";
import { Deadlines } from "./deadlines.ts";

interface Item {
  name: number;
  deadline: number;
}

Deno.test("Deadlines runs what is due, earliest first", () => {
  const deadlines = new Deadlines<Item>();
  for (const at of [30, 10, 20, 40]) deadlines.add({ name: at, deadline: at });
  const ran: number[] = [];
  deadlines.run(30, (item) => {
    ran.push(item.name);
    item.deadline = Infinity;
  });
  deepEqual(ran, [10, 20, 30]);
  equal(deadlines.next, 40);
});

Deno.test("Deadlines notices a deadline that moved later without being told", () => {
  const deadlines = new Deadlines<Item>();
  const item = { name: 1, deadline: 10 };
  deadlines.add(item);
  item.deadline = 50;
  equal(deadlines.next, 50);
});

Deno.test("Deadlines notices a deadline that moved earlier when touched", () => {
  const deadlines = new Deadlines<Item>();
  const item = { name: 1, deadline: 100 };
  deadlines.add({ name: 0, deadline: 50 });
  deadlines.add(item);
  item.deadline = 20;
  deadlines.touch(item);
  equal(deadlines.next, 20);
});

Deno.test("Deadlines calls an item that does not move its deadline once a run", () => {
  const deadlines = new Deadlines<Item>();
  deadlines.add({ name: 1, deadline: 5 });
  let calls = 0;
  deadlines.run(10, () => calls++);
  equal(calls, 1);
  deadlines.run(11, () => calls++);
  equal(calls, 2);
});

Deno.test("Deadlines survives items that remove themselves and others while they run", () => {
  const deadlines = new Deadlines<Item>();
  const items = Array.from({ length: 9 }, (_, name) => ({ name, deadline: name }));
  for (const item of items) deadlines.add(item);
  const ran: number[] = [];
  deadlines.run(100, (item) => {
    ran.push(item.name);
    deadlines.remove(item);
    if (item.name % 2 === 0) deadlines.remove(items[item.name + 1] ?? item);
  });
  deepEqual(ran, [0, 2, 4, 6, 8]);
  equal(deadlines.size, 0);
  equal(deadlines.next, Infinity);
});

Deno.test("Deadlines agrees with a sorted list over random histories", () => {
  for (let seed = 1; seed <= 200; seed++) {
    const random = seededRandom(seed);
    const deadlines = new Deadlines<Item>();
    const live = new Set<Item>();
    for (let step = 0; step < 200; step++) {
      const dice = random.float();
      const some = [...live][random.u32() % Math.max(live.size, 1)];
      if (dice < 0.4 || some === undefined) {
        const item = { name: step, deadline: random.u32() % 1000 };
        live.add(item);
        deadlines.add(item);
      } else if (dice < 0.7) {
        some.deadline = random.u32() % 1000;
        deadlines.touch(some);
      } else if (dice < 0.8) {
        live.delete(some);
        deadlines.remove(some);
      } else {
        const now = random.u32() % 500;
        const expected = [...live].filter((item) => item.deadline <= now).length;
        let ran = 0;
        deadlines.run(now, (item) => {
          ok(item.deadline <= now, `seed ${seed}`);
          ran++;
          item.deadline = now + 1 + random.u32() % 500;
        });
        equal(ran, expected, `seed ${seed}`);
      }
      const first = Math.min(Infinity, ...[...live].map((item) => item.deadline));
      equal(deadlines.next, first, `seed ${seed}`);
    }
  }
});
