/**
 * Signing by libcrypto with one key again and again: contexts that keep what it has looked up, so that a signature costs
 * little more than its arithmetic. Arguments lie at fixed addresses, since some calls run on another thread.
 */
import { bind, mapPlain, type Pointer } from './libc.ts';
import { LibcryptoError, made, ok, type PrivateKeyPointer } from './libcrypto.ts';

const c = {
  EVP_MD_CTX_new: bind<() => Pointer | null>('void *EVP_MD_CTX_new()'),
  EVP_MD_CTX_free: bind<(ctx: Pointer) => void>('void EVP_MD_CTX_free(void *ctx)'),
  EVP_PKEY_CTX_new: bind<(key: Pointer, e: null) => Pointer | null>('void *EVP_PKEY_CTX_new(void *pkey, void *engine)'),
  EVP_PKEY_CTX_free: bind<(ctx: Pointer) => void>('void EVP_PKEY_CTX_free(void *ctx)'),
  EVP_DigestSignInit: bind<(ctx: Pointer | number, pctx: null, md: null, e: null, key: Pointer | null) => number>(
    'int EVP_DigestSignInit(void *ctx, void *pctx, void *md, void *engine, void *pkey)',
  ),
  EVP_DigestSignAt: bind<(ctx: Pointer, out: number, length: number, data: Uint8Array, dataLength: number) => number>(
    'int EVP_DigestSign(void *ctx, void *out, void *length, const uint8_t *data, size_t dataLength)',
  ),
  /** The same with the data at an address. */
  EVP_DigestSignPlaced: bind<(ctx: Pointer | number, out: number, length: number, data: number, n: number) => number>(
    'int EVP_DigestSign(void *ctx, void *out, void *length, const void *data, size_t dataLength)',
  ),
  EVP_MD_fetch: bind<(l: null, name: string, q: null) => Pointer | null>(
    'void *EVP_MD_fetch(void *libctx, const char *name, const char *q)',
  ),
  EVP_Digest: bind<(data: Uint8Array, length: number, out: number, size: null, type: Pointer, e: null) => number>(
    'int EVP_Digest(const uint8_t *data, size_t length, void *out, void *size, void *type, void *engine)',
  ),
  EVP_PKEY_sign_init: bind<(ctx: Pointer) => number>('int EVP_PKEY_sign_init(void *ctx)'),
  EVP_PKEY_CTX_set_rsa_padding: bind<(ctx: Pointer, padding: number) => number>(
    'int EVP_PKEY_CTX_set_rsa_padding(void *ctx, int padding)',
  ),
  EVP_PKEY_CTX_set_signature_md: bind<(ctx: Pointer, md: Pointer) => number>(
    'int EVP_PKEY_CTX_set_signature_md(void *ctx, void *md)',
  ),
  /** Plain pointers only: koffi's typed arguments may not be used from another thread. */
  EVP_PKEY_sign: bind<
    ((ctx: Pointer | number, out: number, length: number, digest: number, digestLength: number) => number) & {
      async(
        ctx: Pointer,
        out: number,
        length: number,
        digest: number,
        digestLength: number,
        done: (error: Error | null, result: number) => void,
      ): void;
    }
  >('int EVP_PKEY_sign(void *ctx, void *out, void *length, void *digest, size_t digestLength)'),
  OpenSSL_version_num: bind<(() => number) & { async(done: () => void): void }>('unsigned long OpenSSL_version_num()'),
};

/** What signs with one key again and again. libcrypto looks up its algorithms for it once; it holds no private bytes. */
export type SigningContext = Pointer & { readonly __signing?: never };

/** For a key that hashes for itself (Ed25519). To be freed by freeDigestSigning, before the key. @throws LibcryptoError */
export function digestSigning(key: PrivateKeyPointer): SigningContext {
  const ctx = made('EVP_MD_CTX_new', c.EVP_MD_CTX_new()());
  if (c.EVP_DigestSignInit()(ctx, null, null, null, key) === 1) return ctx;
  c.EVP_MD_CTX_free()(ctx);
  throw new LibcryptoError('EVP_DigestSignInit');
}

export function freeDigestSigning(ctx: SigningContext): void {
  c.EVP_MD_CTX_free()(ctx);
}

/** Signs `data`, and writes the signature of `length` bytes to `out` at `at`. @throws LibcryptoError */
export function digestSignAgain(
  ctx: SigningContext,
  data: Uint8Array,
  out: Uint8Array,
  at: number,
  length: number,
): void {
  const slot = takeSlot();
  try {
    // OpenSSL 3.5 signs once for each initialisation; one without a key goes on with what the first has found.
    ok('EVP_DigestSignInit', c.EVP_DigestSignInit()(ctx, null, null, null, null));
    const { address } = slot;
    slot.words.setUint32(0, length, true);
    slot.words.setUint32(4, 0, true);
    ok('EVP_DigestSign', c.EVP_DigestSignAt()(ctx, address + SIGNATURE_AT, address, data, data.length));
    if (slot.words.getUint32(0, true) !== length) throw new LibcryptoError('EVP_DigestSign');
    for (let i = 0; i < length; i++) out[at + i] = slot.bytes[SIGNATURE_AT + i] as number;
  } finally {
    freeSlot(slot);
  }
}

const RSA_PKCS1_PADDING = 1;
const fetched = new Map<string, { readonly md: Pointer; readonly bytes: number }>();
const DIGEST_BYTES: Readonly<Record<string, number>> = { sha1: 20, sha256: 32, sha384: 48, sha512: 64 };

/** An algorithm looked up once, never given back. */
function digest(name: string): { readonly md: Pointer; readonly bytes: number } {
  let found = fetched.get(name);
  if (found === undefined) {
    const bytes = DIGEST_BYTES[name];
    if (bytes === undefined) throw new LibcryptoError('EVP_MD_fetch');
    found = { md: made('EVP_MD_fetch', c.EVP_MD_fetch()(null, name, null)), bytes };
    fetched.set(name, found);
  }
  return found;
}

/** Arguments of one EVP_PKEY_sign: fixed addresses, since it may run on another thread. */
export interface SignSlot {
  readonly address: number;
  readonly bytes: Uint8Array;
  readonly words: DataView;
}

const SLOT_BYTES = 4096;
const SLOTS_A_MAP = 16;
const DIGEST_AT = 64;
const SIGNATURE_AT = 256;
/** A signature by an RSA key of 16384 bits. */
const MAX_SIGNATURE_BYTES = 2048;
const DATA_AT = SIGNATURE_AT + MAX_SIGNATURE_BYTES;
/** Data that a slot holds beside the signature; what ssh and git have signed is shorter. */
export const MAX_PLACED_BYTES = SLOT_BYTES - DATA_AT;
const freeSlots: SignSlot[] = [];

function takeSlot(): SignSlot {
  if (freeSlots.length === 0) {
    const pages = mapPlain(SLOT_BYTES * SLOTS_A_MAP);
    for (let i = 0; i < SLOTS_A_MAP; i++) {
      const bytes = pages.bytes.subarray(i * SLOT_BYTES, (i + 1) * SLOT_BYTES);
      freeSlots.push({
        address: pages.address + i * SLOT_BYTES,
        bytes,
        words: new DataView(bytes.buffer, bytes.byteOffset, SLOT_BYTES),
      });
    }
  }
  return freeSlots.pop() as SignSlot;
}

/**
 * For a key that signs what was hashed (RSA with PKCS#1 v1.5 padding, ECDSA). To be freed by freeSigning, before the key;
 * for one signature at a time.
 * @throws LibcryptoError
 */
export function signing(key: PrivateKeyPointer, digestName: string, rsa: boolean): SigningContext {
  const ctx = made('EVP_PKEY_CTX_new', c.EVP_PKEY_CTX_new()(key, null));
  try {
    ok('EVP_PKEY_sign_init', c.EVP_PKEY_sign_init()(ctx));
    if (rsa) ok('EVP_PKEY_CTX_set_rsa_padding', c.EVP_PKEY_CTX_set_rsa_padding()(ctx, RSA_PKCS1_PADDING));
    ok('EVP_PKEY_CTX_set_signature_md', c.EVP_PKEY_CTX_set_signature_md()(ctx, digest(digestName).md));
    return ctx;
  } catch (error) {
    c.EVP_PKEY_CTX_free()(ctx);
    throw error;
  }
}

export function freeSigning(ctx: SigningContext): void {
  c.EVP_PKEY_CTX_free()(ctx);
}

/** Hashes `data` into the slot. @returns the length of the digest */
function fill(slot: SignSlot, digestName: string, data: Uint8Array): number {
  const { md, bytes } = digest(digestName);
  ok('EVP_Digest', c.EVP_Digest()(data, data.length, slot.address + DIGEST_AT, null, md, null));
  slot.words.setUint32(0, MAX_SIGNATURE_BYTES, true);
  slot.words.setUint32(4, 0, true);
  return bytes;
}

export function signatureIn(slot: SignSlot): Uint8Array {
  return slot.bytes.slice(SIGNATURE_AT, SIGNATURE_AT + slot.words.getUint32(0, true));
}

/** Signs the data itself (Ed25519), or its hash (ECDSA). */
export type SignKind = 0 | 1;
export const DIGEST_SIGN: SignKind = 0;
export const HASH_SIGN: SignKind = 1;

/** A slot with data that signAt finds there, for a key that hashes for itself; at most MAX_PLACED_BYTES. */
export function placeData(data: Uint8Array, signatureBytes: number): SignSlot {
  const slot = takeSlot();
  slot.words.setUint32(0, signatureBytes, true);
  slot.words.setUint32(4, 0, true);
  slot.bytes.set(data, DATA_AT);
  return slot;
}

/** A slot with the hash of data. */
export function placeHash(digestName: string, data: Uint8Array): { readonly slot: SignSlot; readonly length: number } {
  const slot = takeSlot();
  try {
    return { slot, length: fill(slot, digestName, data) };
  } catch (error) {
    freeSlot(slot);
    throw error;
  }
}

export function freeSlot(slot: SignSlot): void {
  freeSlots.push(slot);
}

/** Signs what is in the slot at `address`, on whichever thread; `ctx` is used by no other meanwhile. */
export function signAt(kind: SignKind, ctx: SigningContext | number, address: number, length: number): boolean {
  if (kind === HASH_SIGN)
    return c.EVP_PKEY_sign()(ctx, address + SIGNATURE_AT, address, address + DIGEST_AT, length) > 0;
  return (
    c.EVP_DigestSignInit()(ctx, null, null, null, null) > 0 &&
    c.EVP_DigestSignPlaced()(ctx, address + SIGNATURE_AT, address, address + DATA_AT, length) > 0
  );
}

/** Hashes `data` and signs it (RSA as PKCS#1 v1.5, ECDSA as DER) on this thread. @throws LibcryptoError */
export function hashAndSign(ctx: SigningContext, digestName: string, data: Uint8Array): Uint8Array {
  const { slot, length } = placeHash(digestName, data);
  try {
    if (!signAt(HASH_SIGN, ctx, slot.address, length)) throw new LibcryptoError('EVP_PKEY_sign');
    return signatureIn(slot);
  } finally {
    freeSlot(slot);
  }
}

let bound: Promise<void> | undefined;

/**
 * Settles when a call on another thread has been made. The dynamic linker binds functions of koffi and the C library when
 * they are first called, and saves the vector registers on that thread's stack meanwhile: 16 bytes of the inverse of a
 * nonce were found there, so that the first call is one without secrets.
 */
function othersBound(): Promise<void> {
  bound ??= new Promise((resolve) => {
    c.OpenSSL_version_num().async(() => resolve());
  });
  return bound;
}

/** The same for the thread that calls it, before it signs. */
export function bindHere(): void {
  c.OpenSSL_version_num()();
}

/**
 * The same on one of libuv's threads, so that a slow key holds up nobody. `data` is hashed before this returns; the key
 * must live until it settles.
 */
export function hashAndSignAway(
  key: PrivateKeyPointer,
  digestName: string,
  data: Uint8Array,
  rsa: boolean,
): Promise<Uint8Array> {
  const slot = takeSlot();
  let ctx: SigningContext | undefined;
  try {
    const length = fill(slot, digestName, data);
    ctx = signing(key, digestName, rsa);
    return signAway(ctx, slot, length);
  } catch (error) {
    freeSlot(slot);
    if (ctx !== undefined) freeSigning(ctx);
    throw error;
  }
}

async function signAway(ctx: SigningContext, slot: SignSlot, length: number): Promise<Uint8Array> {
  await othersBound();
  return new Promise((resolve, reject) => {
    const { address } = slot;
    const done = (error: Error | null, outcome: number): void => {
      const signature = error === null && outcome > 0 ? signatureIn(slot) : undefined;
      freeSlot(slot);
      freeSigning(ctx);
      if (signature === undefined) reject(new LibcryptoError('EVP_PKEY_sign'));
      else resolve(signature);
    };
    c.EVP_PKEY_sign().async(ctx, address + SIGNATURE_AT, address, address + DIGEST_AT, length, done);
  });
}
