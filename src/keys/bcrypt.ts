/**
 * bcrypt_pbkdf, the key derivation of encrypted OpenSSH key files: Blowfish's expensive key schedule (Provos and
 * Mazières, 1999) under PBKDF2-like rounds, as OpenBSD's libutil has it. Not the bcrypt of password files.
 *
 * Blowfish starts from the first 33,344 bits of pi's fraction. They are computed at first use (some milliseconds), so
 * that no table has to be believed.
 */
import { createHash } from 'node:crypto';
import { KeyError } from './error.ts';

/** OpenSSH's default is 24. So many take a minute or so; a file that asks for more is broken or means harm. */
export const MAX_BCRYPT_ROUNDS = 8192;
/** OpenBSD's own bound for the output. */
export const MAX_BCRYPT_OUTPUT_BYTES = 1024;
/** OpenBSD's bound is 1 MiB; OpenSSH writes 16 bytes. */
export const MAX_BCRYPT_SALT_BYTES = 1024;

const P_WORDS = 18;
const STATE_WORDS = P_WORDS + 4 * 256;
const BLOCK_BYTES = 32;
/** After so many hashes (some 4 ms each) timers and signals get their turn. */
const HASHES_PER_TURN = 16;

const magic = 'OxychromaticBlowfishSwatDynamite';
let initialState: Int32Array | undefined;

/** Chudnovsky's series for the terms a <= k < b, by binary splitting. */
function splitSeries(a: bigint, b: bigint): [p: bigint, q: bigint, t: bigint] {
  if (b - a === 1n) {
    const p = (6n * a - 5n) * (2n * a - 1n) * (6n * a - 1n);
    const t = p * (13591409n + 545140134n * a);
    return [p, a * a * a * 10939058860032000n, a & 1n ? -t : t];
  }
  const middle = (a + b) >> 1n;
  const [p1, q1, t1] = splitSeries(a, middle);
  const [p2, q2, t2] = splitSeries(middle, b);
  return [p1 * p2, q1 * q2, t1 * q2 + p1 * t2];
}

function squareRoot(n: bigint, bits: bigint): bigint {
  for (let x = 1n << (bits / 2n + 1n); ; ) {
    const next = (x + n / x) >> 1n;
    if (next >= x) return x;
    x = next;
  }
}

/** The P array and the four S boxes, in this order, as Blowfish begins. */
function piWords(): Int32Array {
  const guard = 64n;
  const bits = BigInt(STATE_WORDS * 32) + guard;
  // Each term of the series gives a little more than 47 bits.
  const [, q, t] = splitSeries(1n, bits / 47n + 2n);
  const root = squareRoot(10005n << (2n * bits), 2n * bits + 14n);
  const pi = (q * 426880n * root) / (13591409n * q + t);
  const fraction = ((pi - (3n << bits)) >> guard).toString(16).padStart(STATE_WORDS * 8, '0');
  return Int32Array.from({ length: STATE_WORDS }, (_, i) => Number.parseInt(fraction.slice(i * 8, i * 8 + 8), 16) | 0);
}

/** Big-endian words of `bytes`, whose length is a multiple of four. */
function words(bytes: Uint8Array, out: Int32Array): void {
  for (let i = 0; i < out.length; i++) {
    const at = i * 4;
    out[i] =
      ((bytes[at] as number) << 24) |
      ((bytes[at + 1] as number) << 16) |
      ((bytes[at + 2] as number) << 8) |
      (bytes[at + 3] as number);
  }
}

/** Blowfish's function F. `s` holds P before the boxes. */
function feistel(s: Int32Array, x: number): number {
  return (
    ((((s[18 + (x >>> 24)] as number) + (s[274 + ((x >>> 16) & 255)] as number)) ^
      (s[530 + ((x >>> 8) & 255)] as number)) +
      (s[786 + (x & 255)] as number)) |
    0
  );
}

/** Encrypts the two words at `at` of `block` in place. */
function encipher(s: Int32Array, block: Int32Array, at: number): void {
  let left = (block[at] as number) ^ (s[0] as number);
  let right = block[at + 1] as number;
  right ^= feistel(s, left) ^ (s[1] as number);
  left ^= feistel(s, right) ^ (s[2] as number);
  right ^= feistel(s, left) ^ (s[3] as number);
  left ^= feistel(s, right) ^ (s[4] as number);
  right ^= feistel(s, left) ^ (s[5] as number);
  left ^= feistel(s, right) ^ (s[6] as number);
  right ^= feistel(s, left) ^ (s[7] as number);
  left ^= feistel(s, right) ^ (s[8] as number);
  right ^= feistel(s, left) ^ (s[9] as number);
  left ^= feistel(s, right) ^ (s[10] as number);
  right ^= feistel(s, left) ^ (s[11] as number);
  left ^= feistel(s, right) ^ (s[12] as number);
  right ^= feistel(s, left) ^ (s[13] as number);
  left ^= feistel(s, right) ^ (s[14] as number);
  right ^= feistel(s, left) ^ (s[15] as number);
  left ^= feistel(s, right) ^ (s[16] as number);
  block[at] = right ^ (s[17] as number);
  block[at + 1] = left;
}

/** One expansion of the key schedule by the 16 words of `key`; the 16 words of `salt` are stirred in where given. */
function expand(s: Int32Array, key: Int32Array, salt: Int32Array | undefined, block: Int32Array): void {
  for (let i = 0; i < P_WORDS; i++) s[i] = (s[i] as number) ^ (key[i & 15] as number);
  block[0] = 0;
  block[1] = 0;
  for (let i = 0; i < STATE_WORDS; i += 2) {
    if (salt !== undefined) {
      block[0] = (block[0] as number) ^ (salt[i & 15] as number);
      block[1] = (block[1] as number) ^ (salt[(i + 1) & 15] as number);
    }
    encipher(s, block, 0);
    s[i] = block[0] as number;
    s[i + 1] = block[1] as number;
  }
}

/** What one derivation works on; all of it depends on the pass phrase. */
class Hasher {
  readonly #state = new Int32Array(STATE_WORDS);
  readonly #key = new Int32Array(16);
  readonly #salt = new Int32Array(16);
  readonly #block = new Int32Array(2);
  readonly #data = new Int32Array(8);
  readonly #magic = new Int32Array(8);

  constructor(passHash: Uint8Array) {
    initialState ??= piWords();
    words(passHash, this.#key);
    words(new TextEncoder().encode(magic), this.#magic);
  }

  /** 64 expansions by salt and pass phrase, then the magic text encrypted 64 times: 32 bytes into `out`. */
  hash(saltHash: Uint8Array, out: Uint8Array): void {
    const s = this.#state;
    s.set(initialState as Int32Array);
    words(saltHash, this.#salt);
    expand(s, this.#key, this.#salt, this.#block);
    for (let i = 0; i < 64; i++) {
      expand(s, this.#salt, undefined, this.#block);
      expand(s, this.#key, undefined, this.#block);
    }
    const data = this.#data;
    data.set(this.#magic);
    for (let i = 0; i < 64; i++) for (let at = 0; at < 8; at += 2) encipher(s, data, at);
    // Each word leaves with its lowest byte first, although all were read the other way round.
    for (let i = 0; i < BLOCK_BYTES; i++) out[i] = (data[i >> 2] as number) >>> (8 * (i & 3));
  }

  wipe(): void {
    for (const array of [this.#state, this.#key, this.#salt, this.#block, this.#data]) array.fill(0);
  }
}

function sha512(...parts: readonly Uint8Array[]): Uint8Array {
  const hash = createHash('sha512');
  for (const part of parts) hash.update(part);
  return hash.digest();
}

/**
 * `length` bytes derived from `passphrase`, which is not kept. Whoever asked wipes the result. Takes some 4 ms for each
 * round and each 32 bytes of output, and lets others run in between.
 * @throws KeyError 'out-of-bounds' for parameters that OpenBSD refuses too, or more rounds than MAX_BCRYPT_ROUNDS
 */
export async function bcryptPbkdf(
  passphrase: Uint8Array,
  salt: Uint8Array,
  length: number,
  rounds: number,
): Promise<Uint8Array> {
  if (rounds < 1 || rounds > MAX_BCRYPT_ROUNDS)
    throw new KeyError('out-of-bounds', `${rounds} bcrypt rounds: 1 to ${MAX_BCRYPT_ROUNDS} are served`);
  if (passphrase.length === 0 || salt.length === 0 || salt.length > MAX_BCRYPT_SALT_BYTES)
    throw new KeyError('out-of-bounds', `bcrypt takes a pass phrase and a salt of 1 to ${MAX_BCRYPT_SALT_BYTES} bytes`);
  if (length < 1 || length > MAX_BCRYPT_OUTPUT_BYTES)
    throw new KeyError('out-of-bounds', `bcrypt gives 1 to ${MAX_BCRYPT_OUTPUT_BYTES} bytes`);

  const passHash = sha512(passphrase);
  const hasher = new Hasher(passHash);
  passHash.fill(0);
  const key = new Uint8Array(length);
  const sum = new Uint8Array(BLOCK_BYTES);
  const block = new Uint8Array(BLOCK_BYTES);
  const blocks = Math.ceil(length / BLOCK_BYTES);
  let done = false;
  try {
    for (let count = 1, hashes = 0; count <= blocks; count++) {
      let saltHash = sha512(salt, Uint8Array.of(count >>> 24, count >>> 16, count >>> 8, count));
      for (let round = 0; round < rounds; round++) {
        if (round > 0) saltHash = sha512(block);
        hasher.hash(saltHash, block);
        saltHash.fill(0);
        for (let i = 0; i < BLOCK_BYTES; i++)
          sum[i] = round === 0 ? (block[i] as number) : (sum[i] as number) ^ (block[i] as number);
        if (++hashes % HASHES_PER_TURN === 0) await new Promise((resolve) => setImmediate(resolve));
      }
      // The output is interleaved: block `count` gives every byte whose index is count - 1 modulo the number of blocks.
      for (let i = 0, at = count - 1; i < BLOCK_BYTES && at < length; i++, at += blocks) key[at] = sum[i] as number;
    }
    done = true;
    return key;
  } finally {
    hasher.wipe();
    sum.fill(0);
    block.fill(0);
    if (!done) key.fill(0);
  }
}
