/**
 * Loaded before every test module: binds the functions of the C library and of libcrypto, which stay bound for the life of
 * a process. Bound by the first example in a docstring that needs one, they would count as a leak of that example. Modules
 * that never come near the kernel are spared the 30 ms.
 *
 * @module
 */

const PURE = /\/(?:protocol|internal|tools)\/[^/]*(?:\/[^/]*)?$/;

if (!PURE.test(Deno.mainModule)) {
  const { bindAll } = await import("../ffi/libc_linux.ts");
  bindAll();
  const { libcrypto } = await import("../ffi/libcrypto_linux.ts");
  libcrypto();
}
