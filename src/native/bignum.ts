/** The numbers of an RSA key by libcrypto's BN, which keeps them out of the JavaScript heap and wipes what it frees. */
import { bind, type Pointer, wipeCallStack } from './libc.ts';
import { made, ok } from './libcrypto.ts';

const c = {
  BN_new: bind<() => Pointer | null>('void *BN_secure_new()'),
  BN_clear_free: bind<(a: Pointer) => void>('void BN_clear_free(void *a)'),
  BN_lebin2bn: bind<(data: Uint8Array, length: number, out: Pointer) => Pointer | null>(
    'void *BN_lebin2bn(const uint8_t *data, int length, void *out)',
  ),
  BN_bn2lebinpad: bind<(a: Pointer, out: Uint8Array, length: number) => number>(
    'int BN_bn2lebinpad(void *a, uint8_t *out, int length)',
  ),
  BN_set_flags: bind<(a: Pointer, flags: number) => void>('void BN_set_flags(void *a, int flags)'),
  BN_sub_word: bind<(a: Pointer, w: number) => number>('int BN_sub_word(void *a, unsigned long w)'),
  BN_mul: bind<(r: Pointer, a: Pointer, b: Pointer, ctx: Pointer) => number>(
    'int BN_mul(void *r, void *a, void *b, void *ctx)',
  ),
  BN_nnmod: bind<(r: Pointer, a: Pointer, m: Pointer, ctx: Pointer) => number>(
    'int BN_nnmod(void *r, void *a, void *m, void *ctx)',
  ),
  BN_mod_mul: bind<(r: Pointer, a: Pointer, b: Pointer, m: Pointer, ctx: Pointer) => number>(
    'int BN_mod_mul(void *r, void *a, void *b, void *m, void *ctx)',
  ),
  BN_cmp: bind<(a: Pointer, b: Pointer) => number>('int BN_cmp(void *a, void *b)'),
  BN_is_one: bind<(a: Pointer) => number>('int BN_is_one(void *a)'),
  BN_is_zero: bind<(a: Pointer) => number>('int BN_is_zero(void *a)'),
  BN_CTX_new: bind<() => Pointer | null>('void *BN_CTX_secure_new()'),
  BN_CTX_free: bind<(ctx: Pointer) => void>('void BN_CTX_free(void *ctx)'),
};

const BN_FLG_CONSTTIME = 4;

/** Little-endian numbers of an RSA key. All but n and e are private and lie in custody. */
export interface RsaNumbers {
  readonly n: Uint8Array;
  readonly e: Uint8Array;
  readonly d: Uint8Array;
  readonly p: Uint8Array;
  readonly q: Uint8Array;
  readonly iqmp: Uint8Array;
}

/**
 * Checks that d, p, q and iqmp belong to (n, e), and computes the CRT exponents d mod (p-1) and d mod (q-1) into `dp` and
 * `dq`. Whether p and q are prime is not tested: a key that lies about that signs nothing that verifies.
 * @returns false where they don't fit
 */
export function completeRsa(numbers: RsaNumbers, dp: Uint8Array, dq: Uint8Array): boolean {
  const owned: Pointer[] = [];
  const fresh = (): Pointer => {
    const bn = made('BN_secure_new', c.BN_new()());
    owned.push(bn);
    return bn;
  };
  const load = (bytes: Uint8Array): Pointer => {
    const bn = fresh();
    made('BN_lebin2bn', c.BN_lebin2bn()(bytes, bytes.length, bn));
    c.BN_set_flags()(bn, BN_FLG_CONSTTIME);
    return bn;
  };
  const ctx = made('BN_CTX_secure_new', c.BN_CTX_new()());
  try {
    const [n, e, d, p, q, iqmp] = [numbers.n, numbers.e, numbers.d, numbers.p, numbers.q, numbers.iqmp].map(load) as [
      Pointer,
      Pointer,
      Pointer,
      Pointer,
      Pointer,
      Pointer,
    ];
    const t = fresh();
    ok('BN_mul', c.BN_mul()(t, p, q, ctx));
    if (c.BN_cmp()(t, n) !== 0 || c.BN_cmp()(d, n) >= 0) return false;
    const halves: readonly (readonly [Pointer, Uint8Array])[] = [
      [load(numbers.p), dp],
      [load(numbers.q), dq],
    ];
    for (const [less, out] of halves) {
      ok('BN_sub_word', c.BN_sub_word()(less, 1));
      if (c.BN_is_zero()(less) === 1) return false;
      const exponent = fresh();
      ok('BN_nnmod', c.BN_nnmod()(exponent, d, less, ctx));
      ok('BN_mod_mul', c.BN_mod_mul()(t, exponent, e, less, ctx));
      if (c.BN_is_one()(t) !== 1) return false;
      if (c.BN_bn2lebinpad()(exponent, out, out.length) < 0) return false;
    }
    ok('BN_mod_mul', c.BN_mod_mul()(t, iqmp, q, p, ctx));
    return c.BN_is_one()(t) === 1;
  } finally {
    for (const bn of owned) c.BN_clear_free()(bn);
    c.BN_CTX_free()(ctx);
    wipeCallStack();
  }
}
