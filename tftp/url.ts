/**
 * TFTP addresses of files: `tftp://host[:port]/path[;mode=octet|netascii]` (RFC 3617).
 *
 * @module
 */

/** The parts of an address. */
export interface TftpUrl {
  /** `host` or `host:port`, IPv6 in brackets: what `connect()` takes. */
  readonly server: string;
  /** The name to ask for, decoded, without the leading slash. */
  readonly name: string;
  /** The mode, when the address says. */
  readonly mode: "octet" | "netascii" | undefined;
}

/**
 * Reads an address of a file: the URL form, or `host:path` as other clients take it.
 *
 * @throws {SyntaxError} When it is neither, or names no file.
 *
 * @example
 * ```ts
 * import { parseTftpUrl } from "@fastwire/net/tftp";
 * import { deepEqual } from "node:assert/strict";
 *
 * deepEqual(parseTftpUrl("tftp://[fe80::1%3]:6969/boot/a%20b;mode=octet"), {
 *   server: "[fe80::1%3]:6969",
 *   name: "boot/a b",
 *   mode: "octet",
 * });
 * ```
 */
export function parseTftpUrl(text: string): TftpUrl {
  const url = /^tftp:\/\/(\[[^\]/]+\](?::\d+)?|[^/:[\]]+(?::\d+)?)\/(.*)$/is.exec(text);
  if (url !== null) {
    let name = url[2]!;
    let mode: TftpUrl["mode"];
    const suffix = /;mode=([^;]*)$/i.exec(name);
    if (suffix !== null) {
      const word = suffix[1]!.toLowerCase();
      if (word !== "octet" && word !== "netascii") {
        throw new SyntaxError(
          `Cannot use "${text}": mode "${word}", expected "octet" or "netascii"`,
        );
      }
      mode = word;
      name = name.slice(0, suffix.index);
    }
    return parts(text, url[1]!, unescape(text, name), mode);
  }
  const plain = /^(\[[^\]]+\]|[^:/[\]]+):(.+)$/s.exec(text);
  if (plain === null || text.includes("://")) {
    throw new SyntaxError(`Cannot use "${text}": expected tftp://host[:port]/name`);
  }
  return parts(text, plain[1]!, plain[2]!, undefined);
}

function parts(text: string, server: string, name: string, mode: TftpUrl["mode"]): TftpUrl {
  if (name === "") {
    throw new SyntaxError(`Cannot use "${text}": no file is named, expected tftp://host/name`);
  }
  return Object.freeze({ server, name, mode });
}

function unescape(text: string, name: string): string {
  try {
    return decodeURIComponent(name);
  } catch {
    throw new SyntaxError(`Cannot use "${text}": a % is not followed by two hexadecimal digits`);
  }
}
