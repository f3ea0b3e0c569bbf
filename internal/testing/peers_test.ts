import { deepEqual, throws } from "node:assert/strict";
import { type ClientJob, clientWords } from "./peers.ts";

const JOB: ClientJob = {
  action: "get",
  host: "127.0.0.1",
  port: 6969,
  remote: "a b",
  local: "/tmp/x",
};

/** The words behind the program, which stands elsewhere on other machines. */
function words(...given: Parameters<typeof clientWords>): readonly string[] {
  return clientWords(...given).slice(1);
}

Deno.test("clientWords() speaks every client's language", () => {
  deepEqual(words("tftp", JOB), [
    "-m",
    "binary",
    "127.0.0.1",
    "6969",
    "-c",
    "get",
    "a b",
    "/tmp/x",
  ]);
  deepEqual(words("atftp", { ...JOB, blockSize: 1428, windowSize: 16 }), [
    "--option",
    "blksize 1428",
    "--option",
    "windowsize 16",
    "--get",
    "-r",
    "a b",
    "-l",
    "/tmp/x",
    "127.0.0.1",
    "6969",
  ]);
  deepEqual(words("curl", { ...JOB, blockSize: 1024, action: "put" }), [
    "-sS",
    "--tftp-blksize",
    "1024",
    "-T",
    "/tmp/x",
    "tftp://127.0.0.1:6969/a%20b",
  ]);
  deepEqual(words("busybox", { ...JOB, blockSize: 600 }), [
    "tftp",
    "-b",
    "600",
    "-g",
    "-r",
    "a b",
    "-l",
    "/tmp/x",
    "127.0.0.1",
    "6969",
  ]);
});

Deno.test("clientWords() refuses what a client has no option for", () => {
  throws(() => clientWords("tftp", { ...JOB, blockSize: 1024 }), /Cannot give tftp a block size/);
  throws(() => clientWords("curl", { ...JOB, windowSize: 4 }), /Cannot give curl a window size/);
});
