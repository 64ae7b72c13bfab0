/** What locking needs of libcrypto: scrypt (RFC 7914) and AES-256-GCM, on secrets that stay where they lie. */
import { bind, type Pointer, wipeCallStack } from './libc.ts';
import { LibcryptoError, made, ok, type Placed } from './libcrypto.ts';

const c = {
  EVP_PBE_scrypt: bind<{
    async(
      pass: number,
      passLength: number,
      salt: number,
      saltLength: number,
      n: number,
      r: number,
      p: number,
      maxmem: number,
      key: number,
      keyLength: number,
      done: (error: Error | null, result: number) => void,
    ): void;
  }>(
    'int EVP_PBE_scrypt(void *pass, size_t passLength, void *salt, size_t saltLength, uint64_t n, uint64_t r, uint64_t p, uint64_t maxmem, void *key, size_t keyLength)',
  ),
  EVP_aes_256_gcm: bind<() => Pointer>('void *EVP_aes_256_gcm()'),
  EVP_CIPHER_CTX_new: bind<() => Pointer | null>('void *EVP_CIPHER_CTX_new()'),
  EVP_CIPHER_CTX_free: bind<(ctx: Pointer) => void>('void EVP_CIPHER_CTX_free(void *ctx)'),
  EVP_CIPHER_CTX_ctrl: bind<(ctx: Pointer, op: number, arg: number, p: Uint8Array) => number>(
    'int EVP_CIPHER_CTX_ctrl(void *ctx, int op, int arg, uint8_t *p)',
  ),
  EVP_CipherInit_ex: bind<
    (ctx: Pointer, type: Pointer, e: null, key: Uint8Array, iv: Uint8Array, encrypt: number) => number
  >('int EVP_CipherInit_ex(void *ctx, void *type, void *e, const uint8_t *key, const uint8_t *iv, int enc)'),
  EVP_CipherUpdate: bind<(ctx: Pointer, out: Uint8Array, length: Int32Array, data: Uint8Array, n: number) => number>(
    'int EVP_CipherUpdate(void *ctx, uint8_t *out, int *length, const uint8_t *data, int n)',
  ),
  EVP_CipherFinal_ex: bind<(ctx: Pointer, out: Uint8Array, length: Int32Array) => number>(
    'int EVP_CipherFinal_ex(void *ctx, uint8_t *out, int *length)',
  ),
  ERR_clear_error: bind<() => void>('void ERR_clear_error()'),
};

/** scrypt (RFC 7914) on another thread, from and to addresses that stay where they are. @throws LibcryptoError */
export function scrypt(
  passphrase: Placed,
  salt: Placed,
  cost: { n: number; r: number; p: number },
  out: Placed,
): Promise<void> {
  return new Promise((resolve, reject) => {
    c.EVP_PBE_scrypt().async(
      passphrase.address,
      passphrase.bytes.length,
      salt.address,
      salt.bytes.length,
      cost.n,
      cost.r,
      cost.p,
      256 * cost.n * cost.r,
      out.address,
      out.bytes.length,
      (error, outcome) => {
        if (error === null && outcome === 1) resolve();
        else reject(new LibcryptoError('EVP_PBE_scrypt'));
      },
    );
  });
}

export const GCM_TAG_BYTES = 16;
const EVP_CTRL_AEAD_GET_TAG = 0x10;
const EVP_CTRL_AEAD_SET_TAG = 0x11;

/**
 * AES-256-GCM in place over `data`, whose tag is in `tag`.
 * @returns false where decrypting does not verify; `data` is then not to be used
 */
export function aes256gcm(
  encrypt: boolean,
  key: Uint8Array,
  nonce: Uint8Array,
  data: Uint8Array,
  tag: Uint8Array,
): boolean {
  const ctx = made('EVP_CIPHER_CTX_new', c.EVP_CIPHER_CTX_new()());
  const length = new Int32Array(1);
  try {
    ok('EVP_CipherInit_ex', c.EVP_CipherInit_ex()(ctx, c.EVP_aes_256_gcm()(), null, key, nonce, encrypt ? 1 : 0));
    ok('EVP_CipherUpdate', c.EVP_CipherUpdate()(ctx, data, length, data, data.length));
    if (!encrypt) ok('EVP_CIPHER_CTX_ctrl', c.EVP_CIPHER_CTX_ctrl()(ctx, EVP_CTRL_AEAD_SET_TAG, GCM_TAG_BYTES, tag));
    if (c.EVP_CipherFinal_ex()(ctx, tag, length) !== 1) {
      c.ERR_clear_error()();
      return false;
    }
    if (encrypt) ok('EVP_CIPHER_CTX_ctrl', c.EVP_CIPHER_CTX_ctrl()(ctx, EVP_CTRL_AEAD_GET_TAG, GCM_TAG_BYTES, tag));
    return true;
  } finally {
    c.EVP_CIPHER_CTX_free()(ctx);
    wipeCallStack();
  }
}
