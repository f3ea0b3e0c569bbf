import { deepEqual, throws } from "node:assert/strict";
import { parseTftpUrl } from "./url.ts";

const GOOD: readonly (readonly [string, string, string, ("octet" | "netascii")?])[] = [
  ["tftp://h/name", "h", "name"],
  ["TFTP://h:6969/name", "h:6969", "name"],
  ["tftp://192.0.2.1/a/b/c", "192.0.2.1", "a/b/c"],
  ["tftp://h//absolute", "h", "/absolute"],
  ["tftp://[::1]/name", "[::1]", "name"],
  ["tftp://[fe80::1%3]:69/name", "[fe80::1%3]:69", "name"],
  ["tftp://h/a%20b%3Bc", "h", "a b;c"],
  ["tftp://h/%C3%BC", "h", "ü"],
  ["tftp://h/name;mode=octet", "h", "name", "octet"],
  ["tftp://h/name;MODE=NetASCII", "h", "name", "netascii"],
  ["tftp://h/a;b", "h", "a;b"],
  ["tftp://h/a;mode=octet;mode=netascii", "h", "a;mode=octet", "netascii"],
  ["h:name", "h", "name"],
  ["h:a%20b", "h", "a%20b"],
  ["192.0.2.1:/boot/x", "192.0.2.1", "/boot/x"],
  ["[::1]:name", "[::1]", "name"],
];

Deno.test("parseTftpUrl() reads both forms", () => {
  for (const [text, server, name, mode] of GOOD) {
    deepEqual({ ...parseTftpUrl(text) }, { server, name, mode }, text);
  }
});

Deno.test("parseTftpUrl() refuses what names no file of a server", () => {
  const bad = [
    "",
    "name",
    "tftp://",
    "tftp://h",
    "tftp://h/",
    "tftp:///name",
    "tftp://h:port/name",
    "http://h/name",
    "tftp://h/%zz",
    "tftp://h/name;mode=mail",
    "h:",
    ":name",
  ];
  for (const text of bad) throws(() => parseTftpUrl(text), SyntaxError, text);
});
