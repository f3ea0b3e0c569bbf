/**
 * Which part of the repository a file belongs to, and what that part may do.
 *
 * @module
 */

const ROOT = new URL("..", import.meta.url).pathname;

/** The path below the repository's root; other absolute paths lose their first slash. */
export function pathInRepository(filename: string): string {
  const path = filename.replace(/^file:\/\//, "").replaceAll("\\", "/");
  return path.startsWith(ROOT) ? path.slice(ROOT.length) : path.replace(/^\//, "");
}

/** Tests and what only tests use. */
export function isTest(path: string): boolean {
  return /_test\.ts$|(?:^|\/)testdata\/|^internal\/testing\//.test(path);
}

/** What a user downloads. */
export function isShipped(path: string): boolean {
  return !isTest(path) && !/^(?:tools|bench|examples|contrib|docs)\//.test(path);
}

/** L2: machines and codecs. */
export function isProtocol(path: string): boolean {
  return /^[a-z]+\/protocol\//.test(path) && !isTest(path);
}

/** L10: places that print. */
export function mayPrint(path: string): boolean {
  return isTest(path) || /^(?:internal\/cli|tools|bench|examples|contrib)\//.test(path) ||
    /(?:^|\/)cli\.ts$/.test(path) || path === "demo.ts" || /_demo\.ts$/.test(path);
}

/** Places that end the process. */
export function mayExit(path: string): boolean {
  return isTest(path) || path === "internal/cli/terminal.ts" ||
    /^(?:tools|bench|examples)\//.test(path);
}

/** Places that know the runtime. */
export function mayUseDeno(path: string): boolean {
  return /^ffi\/|^internal\/(?:cli|http)\//.test(path) || path === "demo.ts";
}
