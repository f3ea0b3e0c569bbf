/**
 * Authenticated encryption by the system's libcrypto.
 *
 * Four foreign calls a seal or open (nonce, bytes, end, tag), 400 ns in all for two bytes of AES and 4.3 µs for 16 KiB,
 * of which the calls themselves are 60 ns (`bench/micro/ffi_aead_bench.ts`). `EVP_Cipher` instead of update and final
 * saves nothing, and passing subarrays instead of addresses costs nothing that can be seen either.
 *
 * @module
 */
import { CapabilityError } from "../internal/errors.ts";
import {
  type Aead,
  AEAD_SIZES,
  type AeadMethod,
  type AeadSource,
  type BlockCipher,
  checkBlock,
  checkCall,
  checkKey,
  CLOSED,
  TAG_BYTES,
} from "./aead.ts";
import { hchacha20 } from "./hchacha.ts";
import {
  EVP_CTRL_AEAD_GET_TAG,
  EVP_CTRL_AEAD_SET_TAG,
  type Libcrypto,
  libcrypto,
} from "./libcrypto_linux.ts";

export { libcryptoRefusal } from "./libcrypto_linux.ts";

/** The driver, or `undefined` where there is no libcrypto that can everything. */
export function linuxAeads(): AeadSource | undefined {
  const library = libcrypto();
  if (library === undefined) return undefined;
  for (const name of Object.values(NAMES)) if (library.cipher(name) === 0n) return undefined;
  const memory = new Memory(library);
  return {
    name: "linux",
    aead: (method, key) => new LinuxAead(memory, method, key),
    blockCipher: (key) => new LinuxBlockCipher(memory, key),
  };
}

/** What every context of a thread shares: where buffers are, and where libcrypto writes lengths. */
class Memory {
  readonly library: Libcrypto;
  /** libcrypto writes a length here with each call; it says nothing new. */
  readonly #length = new Int32Array(new ArrayBuffer(4));
  readonly lengthAddress: bigint;
  readonly #addresses = new WeakMap<ArrayBuffer, number>();
  #lastBuffer: ArrayBuffer | undefined;
  #lastAddress = 0;

  constructor(library: Libcrypto) {
    this.library = library;
    this.lengthAddress = library.libc.addressOf(this.#length);
  }

  /** The address of the first byte. That of an `ArrayBuffer` does not change while it lives, so it is asked for once. */
  addressOf(bytes: Uint8Array<ArrayBuffer>): number {
    const buffer = bytes.buffer;
    if (buffer !== this.#lastBuffer) {
      let address = this.#addresses.get(buffer);
      if (address === undefined) {
        address = Number(this.library.libc.addressOf(buffer));
        this.#addresses.set(buffer, address);
      }
      this.#lastBuffer = buffer;
      this.#lastAddress = address;
    }
    return this.#lastAddress + bytes.byteOffset;
  }
}

class LinuxAead implements Aead {
  readonly method: AeadMethod;
  readonly tagBytes = 16;
  readonly nonceBytes: 12 | 24;
  readonly #memory: Memory;
  readonly #calls: Libcrypto["symbols"];
  readonly #lengthAddress: bigint;
  /** `EVP_CIPHER_CTX *`; 0 after close. */
  #context: bigint;
  /** The context encrypts (1), decrypts (0) or has not been told (−1). Telling it costs a key schedule with ChaCha. */
  #direction = -1;
  // Of xchacha20-poly1305 only: the key itself, the one derived for the nonce at hand, the rest of that nonce.
  readonly #longKey: Uint8Array | undefined;
  readonly #shortKey: Uint8Array<ArrayBuffer> | undefined;
  readonly #shortNonce: Uint8Array<ArrayBuffer> | undefined;

  constructor(memory: Memory, method: AeadMethod, key: Uint8Array) {
    this.method = method;
    this.nonceBytes = AEAD_SIZES[method].nonceBytes;
    this.#memory = memory;
    this.#calls = memory.library.symbols;
    this.#lengthAddress = memory.lengthAddress;
    if (method === "xchacha20-poly1305") {
      this.#longKey = new Uint8Array(32);
      this.#shortKey = new Uint8Array(new ArrayBuffer(32));
      this.#shortNonce = new Uint8Array(new ArrayBuffer(12));
    }
    this.#context = this.#calls.EVP_CIPHER_CTX_new();
    const cipher = memory.library.cipher(NAMES[method]);
    if (this.#context === 0n || this.#use(cipher, key) !== 1) {
      this.close();
      throw refused(memory.library, method);
    }
  }

  seal(
    nonce: Uint8Array,
    buffer: Uint8Array<ArrayBuffer>,
    start: number,
    end: number,
    additional?: Uint8Array,
  ): void {
    checkCall(this.nonceBytes, nonce, buffer, start, end, end + TAG_BYTES);
    const context = this.#context;
    if (context === 0n) throw new TypeError(CLOSED);
    const calls = this.#calls;
    const base = this.#memory.addressOf(buffer);
    const at = BigInt(base + start);
    if (
      this.#begin(nonce, 1, additional) !== 1 ||
      calls.EVP_CipherUpdate(context, at, this.#lengthAddress, at, end - start) !== 1 ||
      calls.EVP_CipherFinal_ex(context, at, this.#lengthAddress) !== 1 ||
      calls.EVP_CIPHER_CTX_ctrl(
          context,
          EVP_CTRL_AEAD_GET_TAG,
          TAG_BYTES,
          BigInt(base + end),
        ) !== 1
    ) throw refused(this.#memory.library, this.method);
  }

  open(
    nonce: Uint8Array,
    buffer: Uint8Array<ArrayBuffer>,
    start: number,
    end: number,
    additional?: Uint8Array,
  ): boolean {
    checkCall(this.nonceBytes, nonce, buffer, start, end, end);
    const context = this.#context;
    if (context === 0n) throw new TypeError(CLOSED);
    const length = end - start - TAG_BYTES;
    if (length < 0) return false;
    const calls = this.#calls;
    const base = this.#memory.addressOf(buffer);
    const at = BigInt(base + start);
    const tag = BigInt(base + end - TAG_BYTES);
    if (
      this.#begin(nonce, 0, additional) !== 1 ||
      calls.EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, TAG_BYTES, tag) !== 1 ||
      calls.EVP_CipherUpdate(context, at, this.#lengthAddress, at, length) !== 1
    ) throw refused(this.#memory.library, this.method);
    return calls.EVP_CipherFinal_ex(context, at, this.#lengthAddress) === 1;
  }

  rekey(key: Uint8Array): void {
    checkKey(this.method, key);
    if (this.#context === 0n) throw new TypeError(CLOSED);
    if (this.#use(0n, key) !== 1) throw refused(this.#memory.library, this.method);
  }

  close(): void {
    if (this.#context !== 0n) this.#calls.EVP_CIPHER_CTX_free(this.#context);
    this.#context = 0n;
    this.#longKey?.fill(0);
    this.#shortKey?.fill(0);
  }

  /** Tells the context its key, and its cipher the first time. @returns 1 when it took it. */
  #use(cipher: bigint, key: Uint8Array): number {
    if (this.#longKey !== undefined) {
      this.#longKey.set(key);
      // The key comes with each nonce.
      if (cipher === 0n) return 1;
    }
    // The first time needs a direction as well; #direction stays unknown, so that the first nonce brings the real one.
    const direction = cipher === 0n ? -1 : 1;
    const taken = this.#calls.initKey(this.#context, cipher, 0n, key, 0n, direction);
    if (direction === 1) this.#direction = 1;
    return taken;
  }

  /** Tells the context the nonce and what else the tag covers. @returns 1 when it took both. */
  #begin(nonce: Uint8Array, direction: number, additional: Uint8Array | undefined): number {
    const taken = this.#nonce(nonce, direction);
    if (taken !== 1 || additional === undefined || additional.length === 0) return taken;
    // Without a place for the outcome the bytes are only authenticated.
    return this.#calls.updateFrom(
      this.#context,
      0n,
      this.#lengthAddress,
      additional as Uint8Array<ArrayBuffer>,
      additional.length,
    );
  }

  #nonce(nonce: Uint8Array, direction: number): number {
    const calls = this.#calls;
    const context = this.#context;
    // −1 leaves the direction as it is.
    const told = direction === this.#direction ? -1 : direction;
    this.#direction = direction;
    if (this.#longKey === undefined) {
      return calls.initNonce(context, 0n, 0n, 0n, nonce as Uint8Array<ArrayBuffer>, told);
    }
    hchacha20(this.#longKey, nonce, this.#shortKey!);
    for (let i = 4; i < 12; i++) this.#shortNonce![i] = nonce[i + 12]!;
    if (calls.initKey(context, 0n, 0n, this.#shortKey!, 0n, told) !== 1) return 0;
    return calls.initNonce(context, 0n, 0n, 0n, this.#shortNonce!, -1);
  }
}

class LinuxBlockCipher implements BlockCipher {
  readonly #memory: Memory;
  readonly #key: Uint8Array;
  // One context each way, made when first used.
  #encrypt = 0n;
  #decrypt = 0n;
  #closed = false;

  constructor(memory: Memory, key: Uint8Array) {
    this.#memory = memory;
    this.#key = key.slice();
  }

  encryptBlock(buffer: Uint8Array<ArrayBuffer>, offset: number): void {
    if (this.#encrypt === 0n) this.#encrypt = this.#open(1);
    this.#run(this.#encrypt, buffer, offset);
  }

  decryptBlock(buffer: Uint8Array<ArrayBuffer>, offset: number): void {
    if (this.#decrypt === 0n) this.#decrypt = this.#open(0);
    this.#run(this.#decrypt, buffer, offset);
  }

  close(): void {
    const { EVP_CIPHER_CTX_free } = this.#memory.library.symbols;
    if (this.#encrypt !== 0n) EVP_CIPHER_CTX_free(this.#encrypt);
    if (this.#decrypt !== 0n) EVP_CIPHER_CTX_free(this.#decrypt);
    this.#encrypt = this.#decrypt = 0n;
    this.#key.fill(0);
    this.#closed = true;
  }

  #open(direction: number): bigint {
    if (this.#closed) throw new TypeError(CLOSED);
    const { library } = this.#memory;
    const { symbols } = library;
    const context = symbols.EVP_CIPHER_CTX_new();
    const cipher = library.cipher(`AES-${this.#key.length * 8}-ECB`);
    if (
      context === 0n || cipher === 0n ||
      symbols.initKey(context, cipher, 0n, this.#key as Uint8Array<ArrayBuffer>, 0n, direction) !==
        1
    ) {
      symbols.EVP_CIPHER_CTX_free(context);
      throw refused(library, "aes-ecb");
    }
    // With padding, decryption would hold every block back until it knows that another follows.
    symbols.EVP_CIPHER_CTX_set_padding(context, 0);
    return context;
  }

  #run(context: bigint, buffer: Uint8Array<ArrayBuffer>, offset: number): void {
    checkBlock(buffer, offset);
    const { library, lengthAddress } = this.#memory;
    const at = BigInt(this.#memory.addressOf(buffer) + offset);
    if (library.symbols.EVP_CipherUpdate(context, at, lengthAddress, at, 16) !== 1) {
      throw refused(library, "aes-ecb");
    }
  }
}

/** libcrypto said no to something it said yes to before: out of memory, or a policy that forbids the cipher. */
function refused(library: Libcrypto, method: string): CapabilityError {
  library.symbols.ERR_clear_error();
  const why = "libcrypto refused a call it had announced to support";
  return new CapabilityError("ffi.cipher-refused", `Cannot encrypt with ${method}: ${why}`, {
    capability: method,
    why,
    remedy: 'use driver "portable"',
  });
}

const NAMES: Readonly<Record<AeadMethod, string>> = {
  "aes-128-gcm": "AES-128-GCM",
  "aes-192-gcm": "AES-192-GCM",
  "aes-256-gcm": "AES-256-GCM",
  "chacha20-poly1305": "ChaCha20-Poly1305",
  // A derived key and a short nonce make the rest of the difference.
  "xchacha20-poly1305": "ChaCha20-Poly1305",
};
