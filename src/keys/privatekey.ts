/**
 * From a request to add a key to a signer: bounds first, then the private numbers go from the frame (secret memory) to
 * custody (secret memory), and the private half must make the public one. OpenSSH's agent takes a key whose halves don't
 * fit; its owner then finds out at the server.
 */
import { completeRsa } from '../native/bignum.ts';
import { freeKey, keyCheck, LibcryptoError, type Placed, rawPublicKey } from '../native/libcrypto.ts';
import { equal } from '../wire/bytes.ts';
import { keyShape, writeFields } from '../wire/keyshapes.ts';
import type { AddedKey } from '../wire/requests.ts';
import { Writer } from '../wire/writer.ts';
import { algorithm } from './algorithms.ts';
import type { Custody, Slot } from './custody.ts';
import { KeyError } from './error.ts';
import { MLDSA44_PUBLIC_BYTES } from './mldsa.ts';
import { mldsa44PublicKey } from './mldsasigner.ts';
import { type PublicKey, parsePublicKey, publicField } from './publickey.ts';
import type { Signer } from './signer.ts';
import { makeKey, RSA_PARTS, type RsaLengths, rsaParts, SoftSigner } from './softsigner.ts';

const ED25519_SEED_BYTES = 32;
const MLDSA44_SEED_BYTES = 32;

/**
 * The public key of a request: of its certificate, or built from its fields. What the request repeats beside the
 * certificate must be the certificate's.
 * @throws KeyError
 */
export function publicKeyOf(key: AddedKey): PublicKey {
  const known = keyShape(key.type);
  if (known === undefined || algorithm(key.type) === undefined)
    throw new KeyError('unknown-type', 'a key type that is not served');
  if (!known.certificate) {
    const writer = new Writer().text(key.type);
    writeFields(writer, known.shape.publicFields, key.fields);
    return parsePublicKey(writer.finish());
  }
  if (key.certificate === undefined) throw new KeyError('malformed', 'certificate is missing');
  const publicKey = parsePublicKey(key.certificate);
  if (publicKey.certificate === undefined || publicKey.algorithm.certificateType !== key.type)
    throw new KeyError('mismatch', 'the certificate is of another type than the key');
  checkRepeated(key, publicKey);
  return publicKey;
}

/** Public fields that a request repeats beside the certificate must be the certificate's. */
function checkRepeated(key: AddedKey, publicKey: PublicKey): void {
  for (const [name, value] of Object.entries(publicKey.fields)) {
    const given = key.fields[name];
    if (given !== undefined && !equal(given, value))
      throw new KeyError('mismatch', 'the certificate is of another key than the one given');
  }
}

function mismatch(): KeyError {
  return new KeyError('mismatch', 'the private half does not fit the public one');
}

/** Runs `fill` on a new slot, which is freed again if it fails. */
function placed(custody: Custody, length: number, fill: (slot: Slot) => Signer): Signer {
  const slot = custody.allocate(length);
  try {
    return fill(slot);
  } catch (error) {
    slot.free();
    if (error instanceof LibcryptoError) throw new KeyError('malformed', 'numbers that make no key', { cause: error });
    throw error;
  }
}

/** Big-endian `magnitude` into `to`, little-endian, filled up with zeros. */
function placeNumber(magnitude: Uint8Array, to: Uint8Array): void {
  for (let i = 0; i < magnitude.length; i++) to[i] = magnitude[magnitude.length - 1 - i] as number;
}

function privateField(key: AddedKey, name: string, maximum: number): Uint8Array {
  const value = key.fields[name];
  if (value === undefined) throw new KeyError('malformed', `private key without ${name}`);
  if (value.length === 0 || value.length > maximum)
    throw new KeyError('out-of-bounds', `private key with a ${name} of ${value.length} bytes, at most ${maximum}`);
  return value;
}

/** Makes the key once: libcrypto's own checks, then `check`, then it is freed. */
function verifyMade(publicKey: PublicKey, slot: Slot, check: (made: bigint) => boolean): void {
  const made = makeKey(publicKey, slot, undefined);
  try {
    if (!check(made)) throw mismatch();
  } finally {
    freeKey(made);
  }
}

function makes(made: bigint, expected: Uint8Array): boolean {
  const raw = new Uint8Array(expected.length);
  rawPublicKey(made, raw);
  return equal(raw, expected);
}

function ed25519(custody: Custody, key: AddedKey, publicKey: PublicKey): Signer {
  const pk = publicField(publicKey.fields, 'pk');
  const sk = privateField(key, 'sk', 64);
  if (sk.length !== 64) throw new KeyError('malformed', 'an Ed25519 private key has 64 bytes');
  if (!equal(sk.subarray(ED25519_SEED_BYTES), pk)) throw mismatch();
  return placed(custody, ED25519_SEED_BYTES, (slot) => {
    slot.bytes.set(sk.subarray(0, ED25519_SEED_BYTES));
    verifyMade(publicKey, slot, (made) => makes(made, pk));
    return new SoftSigner(publicKey, slot);
  });
}

function ecdsa(custody: Custody, key: AddedKey, publicKey: PublicKey): Signer {
  const bytes = publicKey.algorithm.curve?.bytes ?? 0;
  const d = privateField(key, 'd', bytes);
  return placed(custody, bytes, (slot) => {
    placeNumber(d, slot.bytes);
    verifyMade(publicKey, slot, keyCheck);
    return new SoftSigner(publicKey, slot);
  });
}

function rsa(custody: Custody, key: AddedKey, publicKey: PublicKey): Signer {
  const n = publicField(publicKey.fields, 'n');
  const e = publicField(publicKey.fields, 'e');
  const [d, p, q, iqmp] = ['d', 'p', 'q', 'iqmp'].map((name) => privateField(key, name, n.length)) as [
    Uint8Array,
    Uint8Array,
    Uint8Array,
    Uint8Array,
  ];
  const lengths: RsaLengths = {
    d: n.length,
    p: p.length,
    q: q.length,
    iqmp: p.length,
    dp: p.length,
    dq: q.length,
  };
  if (iqmp.length > p.length) throw mismatch();
  const total = RSA_PARTS.reduce((sum, name) => sum + lengths[name], 0);
  return placed(custody, total, (slot) => {
    const parts = rsaParts(slot, lengths);
    placeNumber(d, parts.d.bytes);
    placeNumber(p, parts.p.bytes);
    placeNumber(q, parts.q.bytes);
    placeNumber(iqmp, parts.iqmp.bytes);
    const number = ({ bytes }: Placed): Uint8Array => bytes;
    const numbers = {
      n: Uint8Array.from(n).reverse(),
      e: Uint8Array.from(e).reverse(),
      d: number(parts.d),
      p: number(parts.p),
      q: number(parts.q),
      iqmp: number(parts.iqmp),
    };
    if (!completeRsa(numbers, parts.dp.bytes, parts.dq.bytes)) throw mismatch();
    return new SoftSigner(publicKey, slot, lengths);
  });
}

function mldsa44ed25519(custody: Custody, key: AddedKey, publicKey: PublicKey): Signer {
  const pk = publicField(publicKey.fields, 'pk');
  const length = MLDSA44_SEED_BYTES + ED25519_SEED_BYTES;
  const sk = privateField(key, 'sk', length);
  if (sk.length !== length) throw new KeyError('malformed', `an ML-DSA-44 and Ed25519 private key has ${length} bytes`);
  return placed(custody, length, (slot) => {
    slot.bytes.set(sk);
    const seed: Placed = { bytes: slot.bytes.subarray(0, MLDSA44_SEED_BYTES), address: slot.address };
    if (!equal(mldsa44PublicKey(seed), pk.subarray(0, MLDSA44_PUBLIC_BYTES))) throw mismatch();
    verifyMade(publicKey, slot, (made) => makes(made, pk.subarray(MLDSA44_PUBLIC_BYTES)));
    return new SoftSigner(publicKey, slot);
  });
}

/**
 * A signer for a key that a client sent; its private parts are copied to `custody`, and the frame may be wiped.
 * The composite type needs loadMldsa() and loadMldsaSigner() first.
 * @throws KeyError
 */
export function createSigner(custody: Custody, key: AddedKey): Signer {
  const publicKey = publicKeyOf(key);
  switch (publicKey.algorithm.family) {
    case 'ed25519':
      return ed25519(custody, key, publicKey);
    case 'ecdsa':
      return ecdsa(custody, key, publicKey);
    case 'rsa':
      return rsa(custody, key, publicKey);
    case 'mldsa44-ed25519':
      return mldsa44ed25519(custody, key, publicKey);
    case 'sk-ed25519':
    case 'sk-ecdsa':
      throw new KeyError('internal', 'the private half of a security key is in its device');
    default:
      return publicKey.algorithm.family satisfies never;
  }
}
