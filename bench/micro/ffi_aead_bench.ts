/**
 * What sealing costs through each driver: a chunk of 16 KiB, a packet of 1400 bytes, and the two bytes of a length.
 *
 * `deno bench -A --no-check bench/micro/ffi_aead_bench.ts`
 *
 * @module
 */
import { AEAD_SIZES, type AeadMethod, type AeadOptions, openAeads } from "@fastwire/net/ffi";

const ROWS: readonly (readonly [name: string, options: AeadOptions])[] = [
  ["libcrypto", { driver: "fast" }],
  ["node:crypto", { driver: "portable", portable: "node" }],
  ["noble", { driver: "portable", portable: "noble" }],
];

for (const bytes of [16_384, 1400, 2]) {
  for (const method of Object.keys(AEAD_SIZES) as AeadMethod[]) {
    for (const [name, options] of ROWS) {
      Deno.bench({
        name: `${name}: ${method}, ${bytes} bytes`,
        group: `${bytes} bytes`,
        fn: async (bench) => {
          const aead = (await openAeads(options)).aead(
            method,
            new Uint8Array(AEAD_SIZES[method].keyBytes),
          );
          const nonce = new Uint8Array(AEAD_SIZES[method].nonceBytes);
          const buffer = new Uint8Array(bytes + 16);
          bench.start();
          for (let i = 0; i < 10; i++) aead.seal(nonce, buffer, 0, bytes);
          bench.end();
          aead.close();
        },
      });
    }
  }
}
