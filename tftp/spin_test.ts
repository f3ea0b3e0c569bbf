import { equal, ok } from "node:assert/strict";
import type { DatagramHost } from "../ffi/mod.ts";
import { Spin } from "./spin.ts";

/** A host that has something at the `answers`th look, counted over all looks; a look takes a microsecond. */
function pretend(answers: (look: number) => boolean) {
  const state = { now: 0, looks: 0 };
  const host = {
    turn: (): number => {
      state.now += 0.001;
      return answers(++state.looks) ? 1 : 0;
    },
  } as unknown as DatagramHost;
  return { state, spin: (limitMs: number) => new Spin(host, { now: () => state.now }, limitMs) };
}

Deno.test("Spin looks until something is there", () => {
  const { state, spin } = pretend((look) => look === 7);
  equal(spin(0.05).look(), true);
  equal(state.looks, 7);
});

Deno.test("Spin looks no longer than its limit", () => {
  const { state, spin } = pretend(() => false);
  equal(spin(0.05).look(), false);
  ok(state.looks <= 51, `${state.looks} looks`);
});

Deno.test("Spin without a limit never looks", () => {
  const { state, spin } = pretend(() => true);
  equal(spin(0).look(), false);
  equal(state.looks, 0);
});

Deno.test("Spin stops looking where it does not pay, and tries again once in a while", () => {
  let there = false;
  const { state, spin } = pretend(() => there);
  const one = spin(0.05);
  for (let i = 0; i < 10; i++) one.look();
  const before = state.looks;
  for (let i = 0; i < 200; i++) equal(one.look(), false);
  equal(state.looks, before);
  there = true;
  let tries = 0;
  while (!one.look()) ok(++tries < 300);
  equal(one.look(), true);
});
