/**
 * OpenSSL's libcrypto as one thread sees it: the one place that opens it.
 *
 * Importing this file opens nothing, and nothing here asks for a permission. Versions 3 and 1.1 are taken; both have every
 * function of the table but those marked newer, and the same numbers of controls.
 *
 * @module
 */
import { type Libc, libc, libcRefusal } from "./libc_linux.ts";

// Contexts and ciphers are handled as addresses: a number the compiled path takes in 5 ns, and no object to keep alive.
const SYMBOLS = {
  // EVP_CIPHER *EVP_CIPHER_fetch(OSSL_LIB_CTX *ctx, const char *algorithm, const char *properties); since 3.0
  EVP_CIPHER_fetch: { parameters: ["usize", "buffer", "usize"], result: "usize", optional: true },
  // const EVP_CIPHER *EVP_get_cipherbyname(const char *name)
  EVP_get_cipherbyname: { parameters: ["buffer"], result: "usize", optional: true },
  // EVP_CIPHER_CTX *EVP_CIPHER_CTX_new(void)
  EVP_CIPHER_CTX_new: { parameters: [], result: "usize", optional: true },
  // void EVP_CIPHER_CTX_free(EVP_CIPHER_CTX *c)
  EVP_CIPHER_CTX_free: { parameters: ["usize"], result: "void", optional: true },
  // int EVP_CIPHER_CTX_set_padding(EVP_CIPHER_CTX *c, int pad)
  EVP_CIPHER_CTX_set_padding: { parameters: ["usize", "i32"], result: "i32", optional: true },
  // int EVP_CIPHER_CTX_ctrl(EVP_CIPHER_CTX *ctx, int type, int arg, void *ptr)
  EVP_CIPHER_CTX_ctrl: {
    parameters: ["usize", "i32", "i32", "usize"],
    result: "i32",
    optional: true,
  },
  // int EVP_CipherInit_ex(EVP_CIPHER_CTX *ctx, const EVP_CIPHER *cipher, ENGINE *impl, const unsigned char *key, const unsigned char *iv, int enc)
  initKey: {
    name: "EVP_CipherInit_ex",
    parameters: ["usize", "usize", "usize", "buffer", "usize", "i32"],
    result: "i32",
    optional: true,
  },
  // int EVP_CipherInit_ex(EVP_CIPHER_CTX *ctx, const EVP_CIPHER *cipher, ENGINE *impl, const unsigned char *key, const unsigned char *iv, int enc)
  initNonce: {
    name: "EVP_CipherInit_ex",
    parameters: ["usize", "usize", "usize", "usize", "buffer", "i32"],
    result: "i32",
    optional: true,
  },
  // int EVP_CipherUpdate(EVP_CIPHER_CTX *ctx, unsigned char *out, int *outl, const unsigned char *in, int inl)
  EVP_CipherUpdate: {
    parameters: ["usize", "usize", "usize", "usize", "i32"],
    result: "i32",
    optional: true,
  },
  // int EVP_CipherUpdate(EVP_CIPHER_CTX *ctx, unsigned char *out, int *outl, const unsigned char *in, int inl)
  updateFrom: {
    name: "EVP_CipherUpdate",
    parameters: ["usize", "usize", "usize", "buffer", "i32"],
    result: "i32",
    optional: true,
  },
  // int EVP_CipherFinal_ex(EVP_CIPHER_CTX *ctx, unsigned char *outm, int *outl)
  EVP_CipherFinal_ex: { parameters: ["usize", "usize", "usize"], result: "i32", optional: true },
  // void ERR_clear_error(void)
  ERR_clear_error: { parameters: [], result: "void", optional: true },
} as const;

type Bound = Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];

/** Functions one version has and the other may lack. */
type OneOf = "EVP_CIPHER_fetch" | "EVP_get_cipherbyname";

/** libcrypto, as one thread sees it. */
export interface Libcrypto {
  /** What it was opened as. */
  readonly path: string;
  /** Its functions. */
  readonly symbols:
    & { readonly [K in Exclude<keyof Bound, OneOf>]: NonNullable<Bound[K]> }
    & { readonly [K in OneOf]: Bound[K] | null };
  /** The C library, for addresses. */
  readonly libc: Libc;
  /** The cipher of a name OpenSSL knows (`AES-256-GCM`), for as long as the process lives; 0 where there is none. */
  cipher(name: string): bigint;
}

/** `EVP_CTRL_AEAD_SET_TAG` and `EVP_CTRL_AEAD_GET_TAG`, `<openssl/evp.h>`. */
export const EVP_CTRL_AEAD_GET_TAG = 0x10;
export const EVP_CTRL_AEAD_SET_TAG = 0x11;

// Caches of pure results, one per thread because each thread loads its own copy of this module.
let opened: Libcrypto | undefined;
let refusal = "";

/** libcrypto, or `undefined` with {@linkcode libcryptoRefusal} saying why. A refusal is not remembered. */
export function libcrypto(): Libcrypto | undefined {
  opened ??= open();
  return opened;
}

/** Why the last {@linkcode libcrypto} answered `undefined`, one plain sentence; empty when it did not. */
export function libcryptoRefusal(): string {
  return opened === undefined ? refusal : "";
}

/** Names under which it may be found, best first; see `libcCandidates`. */
export function libcryptoCandidates(arch: string): readonly string[] {
  const folders = [`/lib/${arch}-linux-gnu`, `/usr/lib/${arch}-linux-gnu`, "/usr/lib64", "/lib"];
  const names = ["libcrypto.so.3", "libcrypto.so.1.1"];
  return names.flatMap((name) => [...folders.map((folder) => `${folder}/${name}`), name]);
}

function open(): Libcrypto | undefined {
  const library = libc();
  if (library === undefined) {
    refusal = libcRefusal()!.why;
    return undefined;
  }
  const full = Deno.permissions.querySync({ name: "ffi" }).state === "granted";
  let allowed = full;
  for (const path of libcryptoCandidates(Deno.build.arch)) {
    if (!full) {
      // A name without a slash would be resolved against the working directory: never right.
      if (!path.startsWith("/")) continue;
      if (Deno.permissions.querySync({ name: "ffi", path }).state !== "granted") continue;
      allowed = true;
    }
    const found = bind(path, library);
    if (found !== undefined) return found;
  }
  refusal = allowed
    ? "libcrypto of OpenSSL 3 or 1.1 was not found"
    : "the permission to call functions of libcrypto (ffi) is not granted";
  return undefined;
}

function bind(path: string, library: Libc): Libcrypto | undefined {
  let symbols: Bound;
  try {
    symbols = Deno.dlopen(path, SYMBOLS).symbols;
  } catch {
    return undefined;
  }
  const { EVP_CIPHER_fetch: fetch, EVP_get_cipherbyname: byName } = symbols;
  for (const name of Object.keys(SYMBOLS) as (keyof typeof SYMBOLS)[]) {
    const optional = name === "EVP_CIPHER_fetch" || name === "EVP_get_cipherbyname";
    if (symbols[name] === null && !optional) return undefined;
  }
  if (fetch === null && byName === null) return undefined;
  const ciphers = new Map<string, bigint>();
  return {
    path,
    // Every function was looked at above.
    symbols: symbols as Libcrypto["symbols"],
    libc: library,
    cipher: (name) => {
      let found = ciphers.get(name);
      if (found === undefined) {
        const text = new TextEncoder().encode(`${name}\0`);
        // Fetched once: found by its name, 3.0 would look it up again for every new context (1 µs).
        found = fetch !== null ? fetch(0n, text, 0n) : byName!(text);
        if (found === 0n) symbols.ERR_clear_error!();
        ciphers.set(name, found);
      }
      return found;
    },
  };
}
