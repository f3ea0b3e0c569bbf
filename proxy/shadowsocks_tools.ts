/**
 * What the machines of Shadowsocks are given.
 *
 * @module
 */

import type { AeadProvider } from "../ffi/mod.ts";
import type { Random } from "../internal/random.ts";
import type { ShadowsocksTools } from "./protocol/mod.ts";

/** Ciphers of the system, and its randomness. */
export function shadowsocksTools(aeads: AeadProvider, random: Random): ShadowsocksTools {
  return {
    // Everything here lies in buffers of its own, never in shared memory.
    createAead: (method, key) =>
      aeads.aead(method, key) as ReturnType<ShadowsocksTools["createAead"]>,
    createBlockCipher: (key) =>
      aeads.blockCipher(key) as ReturnType<ShadowsocksTools["createBlockCipher"]>,
    random,
  };
}

/** Unix time, seconds. */
export function unixSeconds(): number {
  return Math.floor(Date.now() / 1000);
}
