/**
 * Thin bindings to the libcrypto that is inside Node's own executable (OpenSSL 3), so that a private key can be made from
 * bytes outside of the JavaScript heap, used, and freed: OpenSSL wipes what it frees. Each binding stands under its C
 * name; numbers are little-endian, as OSSL_PARAM wants them. No policy, no key formats.
 */
import { bind, hasSymbol, mapPlain, type Pages, type Pointer, wipeCallStack } from './libc.ts';

const c = {
  EVP_PKEY_CTX_new_from_name: bind<(l: null, name: string, q: null) => Pointer | null>(
    'void *EVP_PKEY_CTX_new_from_name(void *libctx, const char *name, const char *propquery)',
  ),
  EVP_PKEY_CTX_new: bind<(key: Pointer, e: null) => Pointer | null>('void *EVP_PKEY_CTX_new(void *pkey, void *engine)'),
  EVP_PKEY_CTX_free: bind<(ctx: Pointer) => void>('void EVP_PKEY_CTX_free(void *ctx)'),
  EVP_PKEY_fromdata_init: bind<(ctx: Pointer) => number>('int EVP_PKEY_fromdata_init(void *ctx)'),
  EVP_PKEY_fromdata: bind<(ctx: Pointer, out: BigUint64Array, selection: number, params: number) => number>(
    'int EVP_PKEY_fromdata(void *ctx, uint64_t *ppkey, int selection, void *params)',
  ),
  EVP_PKEY_check: bind<(ctx: Pointer) => number>('int EVP_PKEY_check(void *ctx)'),
  EVP_PKEY_new_raw_private_key: bind<(type: number, e: null, key: Uint8Array, length: number) => Pointer | null>(
    'void *EVP_PKEY_new_raw_private_key(int type, void *engine, const uint8_t *key, size_t length)',
  ),
  EVP_PKEY_get_raw_public_key: bind<(key: Pointer, out: Uint8Array, length: BigUint64Array) => number>(
    'int EVP_PKEY_get_raw_public_key(void *pkey, uint8_t *out, uint64_t *length)',
  ),
  EVP_PKEY_get_octet_string_param: bind<
    (key: Pointer, name: string, out: Uint8Array, max: number, length: BigUint64Array) => number
  >('int EVP_PKEY_get_octet_string_param(void *pkey, const char *name, uint8_t *out, size_t max, uint64_t *length)'),
  EVP_PKEY_free: bind<(key: Pointer) => void>('void EVP_PKEY_free(void *pkey)'),
  EVP_MD_CTX_new: bind<() => Pointer | null>('void *EVP_MD_CTX_new()'),
  EVP_MD_CTX_free: bind<(ctx: Pointer) => void>('void EVP_MD_CTX_free(void *ctx)'),
  EVP_DigestSignInit: bind<(ctx: Pointer, pctx: null, md: null, e: null, key: Pointer) => number>(
    'int EVP_DigestSignInit(void *ctx, void *pctx, void *md, void *engine, void *pkey)',
  ),
  EVP_DigestSignInit_ex: bind<
    (ctx: Pointer, pctx: null, md: null, l: null, q: null, key: Pointer, params: number) => number
  >(
    'int EVP_DigestSignInit_ex(void *ctx, void *pctx, const char *md, void *libctx, const char *q, void *pkey, void *params)',
  ),
  EVP_DigestSign: bind<
    (ctx: Pointer, out: Uint8Array, length: BigUint64Array, data: Uint8Array, dataLength: number) => number
  >('int EVP_DigestSign(void *ctx, uint8_t *out, uint64_t *length, const uint8_t *data, size_t dataLength)'),
  ERR_clear_error: bind<() => void>('void ERR_clear_error()'),
};

/** A libcrypto call that should have worked did not. The text names the call and nothing of its arguments. */
export class LibcryptoError extends Error {
  constructor(call: string) {
    super(`libcrypto: ${call} failed`);
    this.name = 'LibcryptoError';
    c.ERR_clear_error()();
  }
}

/** @throws LibcryptoError where `call` did not return success */
export function ok(call: string, result: number): void {
  if (result <= 0) throw new LibcryptoError(call);
}

/** @throws LibcryptoError where `call` returned no object */
export function made(call: string, pointer: Pointer | null): Pointer {
  if (pointer === null || pointer === 0n) throw new LibcryptoError(call);
  return pointer;
}

/** Whether this Node lets its libcrypto be found; one that is built otherwise can hold no keys in custody. */
export function hasLibcrypto(): boolean {
  return ['EVP_PKEY_fromdata', 'EVP_PKEY_sign', 'EVP_PBE_scrypt', 'BN_lebin2bn'].every(hasSymbol);
}

/** An EVP_PKEY with its private half, to be freed by freeKey. */
export type PrivateKeyPointer = Pointer & { readonly __key?: never };

/** One value of an OSSL_PARAM array. `number` is little-endian and unsigned. */
export interface Parameter {
  readonly name: string;
  readonly kind: 'number' | 'octets' | 'text';
  readonly value: Uint8Array;
}

const PARAM_BYTES = 40;
const MAX_PARAMS = 12;
const PARAM_KINDS = { number: 2, text: 4, octets: 5 };
const NAME_BYTES = 32;
/** Largest public value that a parameter copies: a modulus of 16384 bits. */
const MAX_PUBLIC_BYTES = 2048;

let scratch: Pages | undefined;

/** A value in secret memory whose address is known: the only kind of private value that a parameter takes. */
export interface Placed {
  readonly bytes: Uint8Array;
  readonly address: number;
}

/**
 * Writes an OSSL_PARAM array and returns its address; it is valid until the next call. Private values are pointed at
 * where they lie; public ones are copied beside the array.
 */
function parameters(list: readonly (Parameter | (Omit<Parameter, 'value'> & { readonly placed: Placed }))[]): number {
  if (list.length > MAX_PARAMS) throw new LibcryptoError('OSSL_PARAM');
  scratch ??= mapPlain(64 * 1024);
  const { bytes, address } = scratch;
  const words = new DataView(bytes.buffer, bytes.byteOffset);
  const names = PARAM_BYTES * (MAX_PARAMS + 1);
  const values = names + NAME_BYTES * MAX_PARAMS;
  const pointer = (at: number, to: number): void => {
    words.setUint32(at, to >>> 0, true);
    words.setUint32(at + 4, Math.floor(to / 2 ** 32), true);
  };
  bytes.fill(0, 0, values);
  list.forEach((parameter, i) => {
    const at = i * PARAM_BYTES;
    const name = names + i * NAME_BYTES;
    for (let k = 0; k < parameter.name.length; k++) bytes[name + k] = parameter.name.charCodeAt(k);
    pointer(at, address + name);
    words.setUint32(at + 8, PARAM_KINDS[parameter.kind], true);
    if ('placed' in parameter) {
      pointer(at + 16, parameter.placed.address);
      words.setUint32(at + 24, parameter.placed.bytes.length, true);
    } else {
      const value = values + i * MAX_PUBLIC_BYTES;
      bytes.set(parameter.value, value);
      bytes[value + parameter.value.length] = 0;
      pointer(at + 16, address + value);
      words.setUint32(at + 24, parameter.value.length, true);
    }
    words.setBigUint64(at + 32, 0xffffffffffffffffn, true); // OSSL_PARAM_UNMODIFIED
  });
  return address;
}

const EVP_PKEY_KEYPAIR = 0x87;

/** EVP_PKEY_fromdata of a key pair of type `name` ("RSA", "EC", "ML-DSA-44"). @throws LibcryptoError */
export function keyFromParameters(name: string, list: Parameters<typeof parameters>[0]): PrivateKeyPointer {
  const ctx = made('EVP_PKEY_CTX_new_from_name', c.EVP_PKEY_CTX_new_from_name()(null, name, null));
  try {
    ok('EVP_PKEY_fromdata_init', c.EVP_PKEY_fromdata_init()(ctx));
    const out = new BigUint64Array(1);
    ok('EVP_PKEY_fromdata', c.EVP_PKEY_fromdata()(ctx, out, EVP_PKEY_KEYPAIR, parameters(list)));
    return out[0] as bigint;
  } finally {
    c.EVP_PKEY_CTX_free()(ctx);
  }
}

const EVP_PKEY_ED25519 = 1087;

/** An Ed25519 key from its 32-byte seed. @throws LibcryptoError */
export function keyFromEd25519Seed(seed: Uint8Array): PrivateKeyPointer {
  return made(
    'EVP_PKEY_new_raw_private_key',
    c.EVP_PKEY_new_raw_private_key()(EVP_PKEY_ED25519, null, seed, seed.length),
  );
}

/** Writes the raw public key to `out`, which it must fill. @throws LibcryptoError */
export function rawPublicKey(key: PrivateKeyPointer, out: Uint8Array): void {
  const length = new BigUint64Array([BigInt(out.length)]);
  ok('EVP_PKEY_get_raw_public_key', c.EVP_PKEY_get_raw_public_key()(key, out, length));
  if (length[0] !== BigInt(out.length)) throw new LibcryptoError('EVP_PKEY_get_raw_public_key');
}

/** Whether this libcrypto has keys of that type name. */
export function hasKeyType(name: string): boolean {
  const ctx = c.EVP_PKEY_CTX_new_from_name()(null, name, null);
  if (ctx === null) {
    c.ERR_clear_error()();
    return false;
  }
  c.EVP_PKEY_CTX_free()(ctx);
  return true;
}

/** An octet string of the key ("pub") that has exactly `length` bytes. @throws LibcryptoError */
export function octetsOf(key: PrivateKeyPointer, name: string, length: number): Uint8Array {
  const out = new Uint8Array(length);
  const got = new BigUint64Array(1);
  ok('EVP_PKEY_get_octet_string_param', c.EVP_PKEY_get_octet_string_param()(key, name, out, length, got));
  if (got[0] !== BigInt(length)) throw new LibcryptoError('EVP_PKEY_get_octet_string_param');
  return out;
}

/** EVP_PKEY_check: the public half is a point of the curve, the private one in range, and they belong together. */
export function keyCheck(key: PrivateKeyPointer): boolean {
  const ctx = made('EVP_PKEY_CTX_new', c.EVP_PKEY_CTX_new()(key, null));
  const fits = c.EVP_PKEY_check()(ctx) === 1;
  c.EVP_PKEY_CTX_free()(ctx);
  if (!fits) c.ERR_clear_error()();
  return fits;
}

/** Frees a key, and wipes what its use left on the stack. */
export function freeKey(key: PrivateKeyPointer): void {
  c.EVP_PKEY_free()(key);
  wipeCallStack();
}

const signatureLength = new BigUint64Array(1);

/** One-shot signature of `data` by a key that hashes for itself (Ed25519, ML-DSA with `context`). @throws LibcryptoError */
export function digestSign(key: PrivateKeyPointer, data: Uint8Array, out: Uint8Array, context?: Uint8Array): void {
  const ctx = made('EVP_MD_CTX_new', c.EVP_MD_CTX_new()());
  try {
    if (context === undefined) ok('EVP_DigestSignInit', c.EVP_DigestSignInit()(ctx, null, null, null, key));
    else {
      const params = parameters([{ name: 'context-string', kind: 'octets', value: context }]);
      ok('EVP_DigestSignInit_ex', c.EVP_DigestSignInit_ex()(ctx, null, null, null, null, key, params));
    }
    signatureLength[0] = BigInt(out.length);
    ok('EVP_DigestSign', c.EVP_DigestSign()(ctx, out, signatureLength, data, data.length));
    if (signatureLength[0] !== BigInt(out.length)) throw new LibcryptoError('EVP_DigestSign');
  } finally {
    c.EVP_MD_CTX_free()(ctx);
  }
}
