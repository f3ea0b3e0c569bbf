import { equal } from "node:assert/strict";
import { SystemError } from "../internal/errors.ts";
import { refusalOf, TftpRefusal } from "./refusal.ts";

const TABLE: readonly (readonly [names: string, code: number, text: string])[] = [
  ["ENOENT ENOTDIR", 1, "File not found"],
  ["EACCES EPERM ELOOP EXDEV EISDIR EROFS ENAMETOOLONG", 2, "Access violation"],
  ["ENOSPC EDQUOT EFBIG", 3, "Disk full or allocation exceeded"],
  ["EEXIST", 6, "File already exists"],
  ["EMFILE ENFILE EAGAIN", 0, "server busy"],
  ["EIO ESTALE EINVAL", 0, "internal error"],
];

for (const [names, code, text] of TABLE) {
  Deno.test(`refusalOf() answers ${names} with code ${code}`, () => {
    for (const errnoName of names.split(" ")) {
      const error = new SystemError("system.x", `Cannot open "/srv/tftp/secret": no`, {
        syscall: "open",
        errno: 0,
        errnoName,
      });
      const refusal = refusalOf(error);
      equal(refusal.tftpCode, code, errnoName);
      equal(refusal.message, text);
      equal(refusal.cause, error);
    }
  });
}

Deno.test("refusalOf() tells a peer nothing about errors that are not meant for it", () => {
  for (const error of [new TypeError("/srv/tftp"), "/srv/tftp", undefined]) {
    equal(refusalOf(error).tftpCode, 0);
    equal(refusalOf(error).message, "internal error");
  }
});

Deno.test("refusalOf() leaves a refusal as it is", () => {
  const refusal = new TftpRefusal(2, "no");
  equal(refusalOf(refusal), refusal);
  equal(refusal.code, "tftp.refused");
});
