import { equal, throws } from "node:assert/strict";
import { bytesToHex } from "@noble/curves/utils.js";
import fc from "fast-check";
import { bytesOfHex } from "../../internal/testing/vectors.ts";
import vectors from "../testdata/md5.json" with { type: "json" };
import { checkMd5Answer, encodeMd5Answer, readMd5User } from "./auth_md5.ts";

const encoder = new TextEncoder();

Deno.test("the MD5 challenge is answered and checked as in every vector", () => {
  for (const { password, challenge, answer } of vectors.cases) {
    const bytes = encodeMd5Answer("admin", password, bytesOfHex(challenge));
    equal(bytesToHex(bytes.subarray(0, 16)), answer);
    equal(checkMd5Answer(bytes, 0, encoder.encode(password), bytesOfHex(challenge)), true);
    equal(checkMd5Answer(bytes, 0, encoder.encode(`${password}x`), bytesOfHex(challenge)), false);
  }
});

Deno.test("checkMd5Answer() looks at every byte of the proof", () => {
  const challenge = new Uint8Array(16).fill(5);
  const password = encoder.encode("secret");
  const answer = encodeMd5Answer("admin", "secret", challenge);
  for (let i = 0; i < 16; i++) {
    answer[i]! ^= 0x10;
    equal(checkMd5Answer(answer, 0, password, challenge), false, `byte ${i}`);
    answer[i]! ^= 0x10;
  }
  equal(checkMd5Answer(answer, 0, password, challenge), true);
});

Deno.test("readMd5User() reads 32 bytes without a terminator and no more", () => {
  const name = "n".repeat(32);
  const bytes = new Uint8Array(60).fill(0x78);
  bytes.set(encodeMd5Answer(`${name}cut`, "", new Uint8Array(16)), 5);
  equal(readMd5User(bytes, 5), name);
});

Deno.test("encodeMd5Answer() cuts a long name between characters", () => {
  equal(readMd5User(encodeMd5Answer("é".repeat(17), "", new Uint8Array(16)), 0), "é".repeat(16));
  equal(
    readMd5User(encodeMd5Answer("x" + "é".repeat(17), "", new Uint8Array(16)), 0).length,
    16,
  );
  throws(() => encodeMd5Answer("a", "", new Uint8Array(15)), RangeError);
});

Deno.test("an MD5 answer proves exactly the password it was made with", () => {
  const challenge = fc.uint8Array({ minLength: 16, maxLength: 16 });
  fc.assert(fc.property(fc.string(), fc.string(), challenge, (password, other, sent) => {
    const answer = encodeMd5Answer("user", password, sent);
    equal(checkMd5Answer(answer, 0, encoder.encode(password), sent), true);
    equal(checkMd5Answer(answer, 0, encoder.encode(other), sent), password === other);
  }));
});
