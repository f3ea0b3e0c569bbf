import { deepEqual, ok, throws } from "node:assert/strict";
import { layout, packedLayout } from "./layout.ts";

Deno.test("layout() puts each field at a multiple of its size", () => {
  deepEqual(
    { ...layout(["a", "u8"], ["b", "u16"], ["c", "u8"], ["d", "u64"], ["e", "i32"]) },
    { a: 0, b: 2, c: 4, d: 8, e: 16, size: 24 },
  );
});

Deno.test("layout() gives arrays of bytes no alignment", () => {
  deepEqual({ ...layout(["family", "u16"], ["path", 108]) }, { family: 0, path: 2, size: 110 });
});

Deno.test("packedLayout() leaves no gaps", () => {
  deepEqual({ ...packedLayout(["events", "u32"], ["data", "u64"]) }, {
    events: 0,
    data: 4,
    size: 12,
  });
});

Deno.test("layout() freezes what it returns", () => {
  ok(Object.isFrozen(layout(["a", "u8"])));
});

Deno.test("layout() refuses a repeated name and the name size", () => {
  throws(() => layout(["a", "u8"], ["a", "u8"]), TypeError);
  throws(() => layout(["size", "u8"]), TypeError);
});
