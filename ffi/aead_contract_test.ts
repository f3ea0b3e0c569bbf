import { deepEqual, equal, notDeepEqual, ok, rejects, throws } from "node:assert/strict";
import { seededRandom } from "../internal/random.ts";
import {
  type ContractCase,
  type ContractDriver,
  runContract,
} from "../internal/testing/contract.ts";
import {
  type Aead,
  AEAD_SIZES,
  type AeadMethod,
  type AeadOptions,
  type AeadProvider,
  openAeads,
  TAG_BYTES,
} from "./aead.ts";
import { hchacha20 } from "./hchacha.ts";
import { bindAll } from "./libc_linux.ts";
import { libcrypto, libcryptoCandidates, libcryptoRefusal } from "./libcrypto_linux.ts";

// Opened here, or the leak check would put it down to the first test.
bindAll();
libcrypto();

const LONG = Deno.env.get("FASTWIRE_LONG") === "1";
const METHODS = Object.keys(AEAD_SIZES) as AeadMethod[];
const TEXT =
  "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the " +
  "future, sunscreen would be it.";
/** The text of test cases 3 to 16 of the GCM specification. */
const GCM_TEXT = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72" +
  "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255";
const GCM_KEY = "feffe9928665731c6d6a8f9467308308";

interface Vector {
  readonly from: string;
  readonly method: AeadMethod;
  readonly key: string;
  readonly nonce: string;
  readonly plain: string;
  readonly additional?: string;
  readonly sealed: string;
}

const VECTORS: readonly Vector[] = [
  ...([
    ["1", "aes-128-gcm", 16, 0, "58e2fccefa7e3061367f1d57a4e7455a"],
    [
      "2",
      "aes-128-gcm",
      16,
      16,
      "0388dace60b6a392f328c2b971b2fe78ab6e47d42cec13bdf53a67b21257bddf",
    ],
    ["7", "aes-192-gcm", 24, 0, "cd33b28ac773f74ba00ed1f312572435"],
    [
      "8",
      "aes-192-gcm",
      24,
      16,
      "98e7247c07f0fe411c267e4384b0f6002ff58d80033927ab8ef4d4587514f0fb",
    ],
    ["13", "aes-256-gcm", 32, 0, "530f8afbc74536b9a963b4f1c4cb738b"],
    [
      "14",
      "aes-256-gcm",
      32,
      16,
      "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919",
    ],
  ] as const).map(([number, method, keyBytes, bytes, sealed]) => ({
    from: `GCM specification, test case ${number}`,
    method,
    key: "00".repeat(keyBytes),
    nonce: "00".repeat(12),
    plain: "00".repeat(bytes),
    sealed,
  })),
  {
    from: "GCM specification, test case 3",
    method: "aes-128-gcm",
    key: GCM_KEY,
    nonce: "cafebabefacedbaddecaf888",
    plain: GCM_TEXT,
    sealed: "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e" +
      "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985" +
      "4d5c2af327cd64a62cf35abd2ba6fab4",
  },
  {
    from: "GCM specification, test case 4",
    method: "aes-128-gcm",
    key: GCM_KEY,
    nonce: "cafebabefacedbaddecaf888",
    plain: GCM_TEXT.slice(0, 120),
    additional: "feedfacedeadbeeffeedfacedeadbeefabaddad2",
    sealed: "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e" +
      "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091" +
      "5bc94fbc3221a5db94fae95ae7121a47",
  },
  {
    from: "RFC 8439 §2.8.2",
    method: "chacha20-poly1305",
    key: counting(0x80, 32),
    nonce: "070000004041424344454647",
    plain: hex(new TextEncoder().encode(TEXT)),
    additional: "50515253c0c1c2c3c4c5c6c7",
    sealed: "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6" +
      "3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36" +
      "92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc" +
      "3ff4def08e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691",
  },
  {
    from: "draft-irtf-cfrg-xchacha-03 §A.3.1",
    method: "xchacha20-poly1305",
    key: counting(0x80, 32),
    nonce: counting(0x40, 24),
    plain: hex(new TextEncoder().encode(TEXT)),
    additional: "50515253c0c1c2c3c4c5c6c7",
    sealed: "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb" +
      "731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452" +
      "2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9" +
      "21f9664c97637da9768812f615c68b13b52ec0875924c1c7987947deafd8780acf49",
  },
];

/** FIPS 197, appendix C: keys that count up, one block. */
const BLOCKS = [
  [16, "69c4e0d86a7b0430d8cdb78070b4c55a"],
  [24, "dda97ca4864cdfe06eaf70a0ec0d7191"],
  [32, "8ea2b7ca516745bfeafc49904b496089"],
] as const;

function bytes(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array((text.match(/../g) ?? []).map((pair) => parseInt(pair, 16)));
}

function hex(of: Uint8Array): string {
  return [...of].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function counting(from: number, length: number): string {
  return hex(Uint8Array.from({ length }, (_, i) => from + i));
}

/** The bytes at an odd place of a larger buffer, with room for the tag. */
function placed(plain: Uint8Array, at = 7): Uint8Array<ArrayBuffer> {
  const buffer = new Uint8Array(at + plain.length + TAG_BYTES + 5).fill(0x5a);
  buffer.set(plain, at);
  return buffer;
}

function sealed(aead: Aead, nonce: Uint8Array, plain: Uint8Array): Uint8Array {
  const buffer = placed(plain, 0);
  aead.seal(nonce, buffer, 0, plain.length);
  return buffer.slice(0, plain.length + TAG_BYTES);
}

const SUITE: readonly ContractCase<AeadProvider>[] = [
  ["answers every published vector, and takes its answer back", (aeads) => {
    for (const vector of VECTORS) {
      const aead = aeads.aead(vector.method, bytes(vector.key));
      const plain = bytes(vector.plain), nonce = bytes(vector.nonce);
      const additional = vector.additional === undefined ? undefined : bytes(vector.additional);
      const buffer = placed(plain);
      const end = 7 + plain.length;
      aead.seal(nonce, buffer, 7, end, additional);
      equal(hex(buffer.subarray(7, end + TAG_BYTES)), vector.sealed, vector.from);
      equal(hex(buffer.subarray(0, 7)), "5a".repeat(7));
      equal(hex(buffer.subarray(end + TAG_BYTES)), "5a".repeat(5));
      equal(aead.open(nonce, buffer, 7, end + TAG_BYTES, additional), true, vector.from);
      equal(hex(buffer.subarray(7, end)), vector.plain, vector.from);
      aead.close();
    }
  }],

  ["encrypts and decrypts the blocks of FIPS 197", (aeads) => {
    for (const [keyBytes, expected] of BLOCKS) {
      const cipher = aeads.blockCipher(bytes(counting(0, keyBytes)));
      const buffer = new Uint8Array(40);
      const block = bytes("00112233445566778899aabbccddeeff");
      for (const offset of [0, 3, 24]) {
        buffer.set(block, offset);
        cipher.encryptBlock(buffer, offset);
        equal(hex(buffer.subarray(offset, offset + 16)), expected);
        cipher.decryptBlock(buffer, offset);
        equal(hex(buffer.subarray(offset, offset + 16)), hex(block));
      }
      throws(() => cipher.encryptBlock(buffer, 25), RangeError);
      throws(() => cipher.decryptBlock(buffer, -1), RangeError);
      cipher.close();
      cipher.close();
      throws(() => cipher.encryptBlock(buffer, 0), TypeError);
      throws(() => cipher.decryptBlock(buffer, 0), TypeError);
    }
    throws(() => aeads.blockCipher(new Uint8Array(15)), RangeError);
  }],

  ["answers false to every wrong bit, and goes on", (aeads) => {
    for (const method of METHODS) {
      const { keyBytes, nonceBytes } = AEAD_SIZES[method];
      const aead = aeads.aead(method, bytes(counting(1, keyBytes)));
      const nonce = bytes(counting(9, nonceBytes));
      const plain = bytes(counting(0x30, 20));
      const good = sealed(aead, nonce, plain);
      for (let bit = 0; bit < good.length * 8; bit += 11) {
        const bad = new Uint8Array(good);
        bad[bit >> 3]! ^= 1 << (bit & 7);
        equal(aead.open(nonce, bad, 0, bad.length), false, `${method}, bit ${bit}`);
      }
      const other = new Uint8Array(nonce);
      other[nonceBytes - 1]! ^= 1;
      equal(aead.open(other, new Uint8Array(good), 0, good.length), false);
      other[nonceBytes - 1]! ^= 1;
      other[0]! ^= 1;
      equal(aead.open(other, new Uint8Array(good), 0, good.length), false);
      equal(aead.open(nonce, new Uint8Array(good), 0, good.length, new Uint8Array([0])), false);
      for (const length of [0, 1, 15]) {
        equal(aead.open(nonce, new Uint8Array(good), 0, length), false);
      }
      equal(aead.open(nonce, new Uint8Array(good), 0, good.length - 1), false);
      const last = new Uint8Array(good);
      equal(aead.open(nonce, last, 0, last.length), true);
      deepEqual(last.slice(0, 20), plain);
      aead.close();
    }
  }],

  ["takes sealing and opening in any order, and another key in between", (aeads) => {
    for (const method of METHODS) {
      const { keyBytes, nonceBytes } = AEAD_SIZES[method];
      const keys = [1, 2, 3].map((from) => bytes(counting(from, keyBytes)));
      const changing = aeads.aead(method, keys[0]!);
      const plain = bytes(counting(0, 100));
      for (let round = 0; round < 9; round++) {
        const key = keys[round % 3]!;
        const nonce = bytes(counting(round, nonceBytes));
        const fresh = aeads.aead(method, key);
        const expected = sealed(fresh, nonce, plain);
        fresh.close();
        changing.rekey(key);
        // Even rounds decrypt first after the new key, odd ones encrypt first.
        if (round % 2 === 1) deepEqual(sealed(changing, nonce, plain), expected, method);
        const back = new Uint8Array(expected);
        equal(changing.open(nonce, back, 0, back.length), true, method);
        deepEqual(back.slice(0, 100), plain);
        deepEqual(sealed(changing, nonce, plain), expected, method);
      }
      changing.close();
    }
  }],

  ["keeps a copy of the key", (aeads) => {
    for (const method of METHODS) {
      const { keyBytes, nonceBytes } = AEAD_SIZES[method];
      const key = bytes(counting(1, keyBytes));
      const aead = aeads.aead(method, key);
      const nonce = new Uint8Array(nonceBytes), plain = new Uint8Array(3);
      const before = sealed(aead, nonce, plain);
      key.fill(0);
      deepEqual(sealed(aead, nonce, plain), before);
      aead.rekey(key);
      notDeepEqual(sealed(aead, nonce, plain), before);
      aead.close();
    }
  }],

  ["refuses ranges, nonces and keys that do not fit, and use after close", (aeads) => {
    for (const method of METHODS) {
      const { keyBytes, nonceBytes } = AEAD_SIZES[method];
      const aead = aeads.aead(method, new Uint8Array(keyBytes));
      const nonce = new Uint8Array(nonceBytes), buffer = new Uint8Array(64);
      for (const [start, end] of [[0, 49], [-1, 10], [10, 9], [0.5, 1.5], [NaN, 1]] as const) {
        throws(() => aead.seal(nonce, buffer, start, end), RangeError, `${start} ${end}`);
      }
      for (const [start, end] of [[0, 65], [-1, 20], [20, 19]] as const) {
        throws(() => aead.open(nonce, buffer, start, end), RangeError, `${start} ${end}`);
      }
      throws(() => aead.seal(new Uint8Array(nonceBytes - 1), buffer, 0, 1), RangeError);
      throws(() => aead.open(new Uint8Array(nonceBytes + 1), buffer, 0, 17), RangeError);
      throws(() => aeads.aead(method, new Uint8Array(keyBytes + 1)), RangeError);
      throws(() => aead.rekey(new Uint8Array(keyBytes - 1)), RangeError);
      aead.close();
      aead.close();
      throws(() => aead.seal(nonce, buffer, 0, 1), TypeError);
      throws(() => aead.open(nonce, buffer, 0, 17), TypeError);
      throws(() => aead.rekey(new Uint8Array(keyBytes)), TypeError);
    }
  }],
];

function row(options: AeadOptions, missing: () => string): ContractDriver<AeadProvider> {
  return { missing, open: () => openAeads(options) };
}

runContract("AeadProvider", SUITE, {
  "linux": row({ driver: "fast" }, () => libcrypto() === undefined ? libcryptoRefusal() : ""),
  "node": row({ driver: "portable", portable: "node" }, () => ""),
  "noble": row({ driver: "portable", portable: "noble" }, () => ""),
});

Deno.test("every driver seals what every other one opens, over random sizes and places", async () => {
  const seed = Number(Deno.env.get("FASTWIRE_SEED") ?? Date.now() % 2 ** 31);
  const random = seededRandom(seed);
  const below = (limit: number): number => Math.floor(random.float() * limit);
  const some = (length: number): Uint8Array<ArrayBuffer> =>
    Uint8Array.from({ length }, () => below(256));
  const all = [await openAeads({ driver: "portable", portable: "noble" })];
  all.push(await openAeads({ driver: "portable", portable: "node" }));
  if (libcrypto() !== undefined) all.push(await openAeads({ driver: "fast" }));
  for (let round = 0; round < (LONG ? 3000 : 60); round++) {
    const method = METHODS[below(METHODS.length)]!;
    const { keyBytes, nonceBytes } = AEAD_SIZES[method];
    const key = some(keyBytes), nonce = some(nonceBytes), additional = some(below(40));
    const plain = some(below(3) === 0 ? below(20) : below(3000));
    const from = all[below(all.length)]!.aead(method, key);
    const to = all[below(all.length)]!.aead(method, key);
    const at = below(70);
    const buffer = placed(plain, at);
    from.seal(nonce, buffer, at, at + plain.length, additional);
    const said = `seed ${seed}, round ${round}, ${method}, ${plain.length} bytes`;
    ok(to.open(nonce, buffer, at, at + plain.length + TAG_BYTES, additional), said);
    deepEqual(buffer.slice(at, at + plain.length), plain, said);
    from.close();
    to.close();
  }
});

Deno.test("hchacha20() derives the key of draft-irtf-cfrg-xchacha-03 §2.2.1", () => {
  const into = new Uint8Array(32);
  hchacha20(bytes(counting(0, 32)), bytes("000000090000004a0000000031415927"), into);
  equal(hex(into), "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc");
});

Deno.test("openAeads() says who computes what, and which of the two common methods is faster", async () => {
  const auto = await openAeads();
  const fast = libcrypto() !== undefined;
  equal(auto.fallbackReason === "", fast);
  if (fast) { for (const method of METHODS) equal(auto.drivers[method], "linux"); }
  ok(["aes-128-gcm", "chacha20-poly1305"].includes(auto.fastestMethod()));
  const start = performance.now();
  const portable = await openAeads({ driver: "portable" });
  // Bounded by count as well as by time; the rest of the half second is for a busy machine.
  ok(performance.now() - start < 500);
  for (const method of METHODS) ok(portable.drivers[method] !== "linux");
  ok(portable.fallbackReason !== "");
});

Deno.test({
  name: "AeadProvider on linux gives back what contexts take, over many keys and messages",
  ignore: libcrypto() === undefined,
  fn: async () => {
    const aeads = await openAeads({ driver: "fast" });
    const buffer = new Uint8Array(1024), nonce = new Uint8Array(24);
    const turn = (count: number): void => {
      for (let i = 0; i < count; i++) {
        const method = METHODS[i % METHODS.length]!;
        const { keyBytes, nonceBytes } = AEAD_SIZES[method];
        const aead = aeads.aead(method, new Uint8Array(keyBytes));
        const own = nonce.subarray(0, nonceBytes);
        for (let j = 0; j < 10; j++) aead.seal(own, buffer, 0, 100);
        for (let j = 0; j < 10; j++) aead.open(own, buffer, 0, 116);
        aead.close();
        if (i % 50 === 0) {
          const cipher = aeads.blockCipher(new Uint8Array(16));
          cipher.encryptBlock(buffer, 0);
          cipher.decryptBlock(buffer, 0);
          cipher.close();
        }
      }
    };
    turn(1000);
    const before = Deno.memoryUsage().rss;
    const count = LONG ? 50_000 : 8_000;
    turn(count);
    // A context and its key schedule are about 1 KiB: lost, they would make several times as much.
    const grown = Deno.memoryUsage().rss - before;
    ok(grown < Math.max(6 << 20, count * 250), `${grown} bytes after ${count} keys`);
  },
});

Deno.test("libcryptoCandidates() names absolute paths before what the loader finds, newest first", () => {
  const names = libcryptoCandidates("x86_64");
  equal(names[0], "/lib/x86_64-linux-gnu/libcrypto.so.3");
  ok(names.indexOf("libcrypto.so.3") < names.indexOf("/lib/x86_64-linux-gnu/libcrypto.so.1.1"));
  equal(names.at(-1), "libcrypto.so.1.1");
});

Deno.test("openAeads() refuses a driver that is none", async () => {
  await rejects(openAeads({ driver: "quick" as "fast" }), TypeError);
});
