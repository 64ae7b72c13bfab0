/**
 * Argon2 (RFC 9106) for PuTTY's key files: Node's own where it has one (24.7 and later), else hash-wasm, which is loaded
 * when first needed and whose memory we cannot wipe.
 */
import * as crypto from 'node:crypto';
import { KeyError } from './error.ts';

export type Argon2Variant = 'argon2d' | 'argon2i' | 'argon2id';

export interface Argon2Parameters {
  readonly variant: Argon2Variant;
  /** KiB. PuTTY's default is 8192. */
  readonly memory: number;
  readonly passes: number;
  readonly parallelism: number;
  readonly salt: Uint8Array;
}

/** 1 GiB. */
export const MAX_ARGON2_MEMORY = 2 ** 20;
/** KiB filled in all passes together: half a minute or so. PuTTY's default is some 2^18. */
export const MAX_ARGON2_WORK = 2 ** 24;
export const MAX_ARGON2_PARALLELISM = 255;
const MIN_SALT_BYTES = 8;
const MAX_SALT_BYTES = 1024;

type NodeArgon2 = (
  variant: Argon2Variant,
  parameters: {
    message: Uint8Array;
    nonce: Uint8Array;
    parallelism: number;
    tagLength: number;
    memory: number;
    passes: number;
  },
  done: (error: Error | null, derived: Uint8Array) => void,
) => void;

function demandBounds({ memory, passes, parallelism, salt }: Argon2Parameters): void {
  const within =
    memory <= MAX_ARGON2_MEMORY &&
    memory >= 8 * parallelism &&
    passes >= 1 &&
    memory * passes <= MAX_ARGON2_WORK &&
    parallelism >= 1 &&
    parallelism <= MAX_ARGON2_PARALLELISM &&
    salt.length >= MIN_SALT_BYTES &&
    salt.length <= MAX_SALT_BYTES;
  if (!within) throw new KeyError('out-of-bounds', 'the Argon2 parameters of the file are out of bounds');
}

/**
 * `length` bytes derived from `passphrase`, for the caller to wipe.
 * @throws KeyError 'out-of-bounds', 'internal'
 */
export async function argon2(
  passphrase: Uint8Array,
  parameters: Argon2Parameters,
  length: number,
): Promise<Uint8Array> {
  demandBounds(parameters);
  const { variant, memory, passes, parallelism, salt } = parameters;
  const native = (crypto as unknown as { argon2?: NodeArgon2 }).argon2;
  try {
    if (native !== undefined) {
      const options = { message: passphrase, nonce: salt, parallelism, tagLength: length, memory, passes };
      return await new Promise((resolve, reject) => {
        native(variant, options, (error, derived) => {
          if (error === null) resolve(new Uint8Array(derived.buffer, derived.byteOffset, derived.length));
          else reject(error);
        });
      });
    }
    const wasm = await import('hash-wasm');
    return await wasm[variant]({
      password: passphrase,
      salt,
      iterations: passes,
      parallelism,
      memorySize: memory,
      hashLength: length,
      outputType: 'binary',
    });
  } catch (cause) {
    throw new KeyError('internal', 'Argon2 failed', { cause });
  }
}
