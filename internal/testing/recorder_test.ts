import { deepEqual, throws } from "node:assert/strict";
import { recordActions } from "./recorder.ts";

interface Actions {
  send(count: number): void;
  finish(): void;
}

Deno.test("recordActions() writes calls down in order and hands them over", () => {
  const actions = recordActions<Actions>(["send", "finish"]);
  actions.send(3);
  actions.finish();
  deepEqual(actions.take(), [["send", 3], ["finish"]]);
  deepEqual(actions.calls, []);
});

Deno.test("recordActions() notices a machine that is entered from inside its action", () => {
  const actions = recordActions<Actions>(["send", "finish"], () => {
    throws(() => actions.call(() => {}), /inside/);
  });
  actions.call(() => actions.send(1));
  deepEqual(actions.calls, [["send", 1]]);
});
