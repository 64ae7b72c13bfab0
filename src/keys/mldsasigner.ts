/**
 * The ML-DSA-44 half of a composite signature (FIPS 204), from the seed in custody: by libcrypto where it is OpenSSL 3.5 or
 * later (Node 24), else by @noble/post-quantum. That library is JavaScript, so on Node 20 the seed and the numbers that it
 * is expanded to are in ordinary memory for the few milliseconds of a call, though not in the JavaScript heap; the library
 * and we wipe them.
 */
import { digestSign, freeKey, hasKeyType, keyFromParameters, octetsOf, type Placed } from '../native/libcrypto.ts';
import { KeyError } from './error.ts';
import { COMPOSITE_LABEL, MLDSA44_PUBLIC_BYTES, MLDSA44_SIGNATURE_BYTES } from './mldsa.ts';

const TYPE = 'ML-DSA-44';

interface Implementation {
  publicKey(seed: Placed): Uint8Array;
  sign(seed: Placed, message: Uint8Array): Uint8Array;
}

const native: Implementation = {
  publicKey(seed) {
    const key = keyFromParameters(TYPE, [{ name: 'seed', kind: 'octets', placed: seed }]);
    try {
      return octetsOf(key, 'pub', MLDSA44_PUBLIC_BYTES);
    } finally {
      freeKey(key);
    }
  },
  sign(seed, message) {
    const key = keyFromParameters(TYPE, [{ name: 'seed', kind: 'octets', placed: seed }]);
    try {
      const signature = new Uint8Array(MLDSA44_SIGNATURE_BYTES);
      digestSign(key, message, signature, COMPOSITE_LABEL);
      return signature;
    } finally {
      freeKey(key);
    }
  },
};

const HeapBytes = globalThis.Uint8Array;

/** Uint8Array, but `new Uint8Array(length)` takes memory that the garbage collector does not move. */
function FixedBytes(first: unknown, ...rest: unknown[]): Uint8Array {
  const args = typeof first === 'number' ? [new ArrayBuffer(first)] : [first, ...rest];
  return Reflect.construct(HeapBytes, args) as Uint8Array;
}
FixedBytes.prototype = HeapBytes.prototype;
Object.setPrototypeOf(FixedBytes, HeapBytes);

/**
 * Runs `call`, which is synchronous, with FixedBytes as the global Uint8Array. V8 keeps arrays of up to 64 bytes in its
 * heap, and what a collection moves stays behind where it was: the library wipes its copies of the seed and of the numbers
 * that blind a signature, but only where they are then. Measured: without this, two of three additions left a seed behind.
 */
function unmoved<T>(call: () => T): T {
  globalThis.Uint8Array = FixedBytes as unknown as Uint8ArrayConstructor;
  try {
    return call();
  } finally {
    globalThis.Uint8Array = HeapBytes;
  }
}

async function inJavaScript(): Promise<Implementation> {
  const { ml_dsa44 } = await import('@noble/post-quantum/ml-dsa.js');
  return {
    publicKey(seed) {
      const { publicKey, secretKey } = unmoved(() => ml_dsa44.keygen(seed.bytes));
      secretKey.fill(0);
      return publicKey;
    },
    sign(seed, message) {
      return unmoved(() => {
        const { secretKey } = ml_dsa44.keygen(seed.bytes);
        try {
          return ml_dsa44.sign(message, secretKey, { context: COMPOSITE_LABEL });
        } finally {
          secretKey.fill(0);
        }
      });
    },
  };
}

let implementation: Implementation | undefined;

/** Makes the two functions below work; once done it costs nothing to call again. */
export async function loadMldsaSigner(): Promise<void> {
  implementation ??= hasKeyType(TYPE) ? native : await inJavaScript();
}

function loaded(): Implementation {
  if (implementation === undefined) throw new KeyError('internal', 'ML-DSA is not loaded');
  return implementation;
}

/** The public key of a 32-byte seed. @throws KeyError, LibcryptoError */
export function mldsa44PublicKey(seed: Placed): Uint8Array {
  return loaded().publicKey(seed);
}

/** A signature over `message` with the composite's label as context. @throws KeyError, LibcryptoError */
export function signMldsa44(seed: Placed, message: Uint8Array): Uint8Array {
  return loaded().sign(seed, message);
}
