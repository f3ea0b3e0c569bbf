import { equal, ok } from "node:assert/strict";
import { SystemError } from "../internal/errors.ts";
import {
  EADDRINUSE,
  errnoClass,
  errnoEntry,
  errnoName,
  errnoNames,
  errnoNumber,
  fromRuntimeError,
  systemError,
} from "./errno.ts";

Deno.test("names and numbers are each other's inverse", () => {
  for (const name of errnoNames()) {
    const number = errnoNumber(name);
    ok(number > 0 && number < 134, name);
    // Two names are aliases.
    const back = errnoName(number);
    ok(
      back === name || (name === "EWOULDBLOCK" && back === "EAGAIN") ||
        (name === "ENOTSUP" && back === "EOPNOTSUPP"),
    );
  }
  equal(errnoNumber("ENOSUCHNAME"), 0);
  equal(errnoName(4095), "E4095");
  equal(errnoClass(4095), "other");
});

Deno.test("codes are kebab-case and messages have no final period", () => {
  for (const name of errnoNames()) {
    const { code, text } = errnoEntry(errnoNumber(name));
    ok(/^[a-z]+(-[a-z]+)*$/.test(code), code);
    ok(!text.endsWith(".") && /^[a-z]/.test(text), text);
  }
});

Deno.test("systemError() follows the grammar of messages", () => {
  const error = systemError("bind", EADDRINUSE, "listen on 127.0.0.1:69");
  ok(error instanceof SystemError);
  equal(error.message, "Cannot listen on 127.0.0.1:69: the address is in use (EADDRINUSE)");
  equal(error.code, "system.address-in-use");
  equal(error.syscall, "bind");
  equal(error.errno, 98);
  equal(error.errnoName, "EADDRINUSE");
});

Deno.test("fromRuntimeError() reads the errors of the runtime's own files and sockets", async () => {
  const caught = async (body: () => unknown): Promise<SystemError> => {
    try {
      await body();
    } catch (error) {
      const mapped = fromRuntimeError(error, "open", "do it");
      equal(mapped.cause, error);
      return mapped;
    }
    throw new Error("nothing was thrown");
  };
  const missing = await caught(() => Deno.open("/no/such/file"));
  equal(missing.code, "system.not-found");
  equal(missing.errno, 2);
  const { open } = await import("node:fs/promises");
  const node = await caught(() => open("/no/such/file"));
  equal(node.code, "system.not-found");
  equal(node.syscall, "open");
  const directory = await caught(() => Deno.readFile("/"));
  equal(directory.errnoName, "EISDIR");
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  const inUse = await caught(() => Deno.listen({ hostname: "127.0.0.1", port }).close());
  equal(inUse.code, "system.address-in-use");
});

Deno.test("fromRuntimeError() keeps what it cannot read", () => {
  const odd = fromRuntimeError(new Error("odd\nthing"), "open", "do it");
  equal(odd.code, "system.other");
  equal(odd.errno, 0);
  equal(odd.message, 'Cannot do it: the runtime reports "odd thing"');
  equal(fromRuntimeError("text", "open", "do it").code, "system.other");
  equal(fromRuntimeError(odd, "open", "do it"), odd);
});
