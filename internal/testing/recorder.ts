/**
 * An actions object that writes down what a machine asked for.
 *
 * @module
 */

/** One call: the verb and its arguments. */
export type RecordedCall = readonly [verb: string, ...args: unknown[]];

/** What was recorded. */
export interface Recording {
  /** In order, since the last {@linkcode Recording.take}. */
  readonly calls: readonly RecordedCall[];
  /** Hands over the calls and starts an empty list. */
  take(): readonly RecordedCall[];
  /**
   * Asserts the rule that no action calls back: while `body` runs as an action, entering the machine again throws.
   * Machines under test are called through it.
   */
  call<Result>(body: () => Result): Result;
}

/**
 * Makes an actions object for any machine.
 *
 * @param verbs The names of the actions.
 * @param react Called with each action after it was recorded; for tests that must answer at once.
 */
export function recordActions<Actions extends object>(
  verbs: readonly (keyof Actions & string)[],
  react?: (verb: keyof Actions & string, args: readonly unknown[]) => void,
): Actions & Recording {
  let calls: RecordedCall[] = [];
  let inside = false;
  const recorder: Record<string, unknown> = {
    take(): readonly RecordedCall[] {
      const taken = calls;
      calls = [];
      return taken;
    },
    call<Result>(body: () => Result): Result {
      if (inside) throw new Error("the machine was called from inside one of its actions");
      inside = true;
      try {
        return body();
      } finally {
        inside = false;
      }
    },
  };
  Object.defineProperty(recorder, "calls", { get: () => calls });
  for (const verb of verbs) {
    recorder[verb] = (...args: unknown[]): void => {
      calls.push([verb, ...args]);
      react?.(verb, args);
    };
  }
  // Every verb of Actions was given by name, which the type of a record cannot say.
  return recorder as unknown as Actions & Recording;
}
