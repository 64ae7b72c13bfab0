/**
 * Signature blobs and their verification: RFC 4253 section 6.6, RFC 8332, RFC 5656 section 3.1.2, RFC 8709, OpenSSH's
 * PROTOCOL.u2f with a browser's signatures, and its composite type. What a security key says of its user (presence,
 * verification) is not judged, nor is a browser's origin.
 */
import { createHash, createPublicKey, type KeyObject, verify } from 'node:crypto';
import { concat, text } from '../wire/bytes.ts';
import { Reader } from '../wire/reader.ts';
import { type Curve, signatureAlgorithms, WEBAUTHN_SK_ECDSA, WEBAUTHN_SK_ECDSA_CERTIFICATE } from './algorithms.ts';
import { KeyError } from './error.ts';
import { base64Url, compositeMessage, MLDSA44_PUBLIC_BYTES, MLDSA44_SIGNATURE_BYTES, verifyMldsa44 } from './mldsa.ts';
import type { PublicKey } from './publickey.ts';
import { readBrowserSigned } from './webauthn.ts';

const ED25519_SIGNATURE_BYTES = 64;

/** The algorithm's name in a signature blob, or undefined where there is none to read. */
export function signatureName(signature: Uint8Array): string | undefined {
  try {
    return text(new Reader(signature).string('signature algorithm'));
  } catch {
    return undefined;
  }
}

type JsonWebKey = Readonly<Record<string, string>>;

function field(key: PublicKey, name: string): Uint8Array {
  const value = key.fields[name];
  if (value === undefined) throw new KeyError('internal', `public key without ${name}`);
  return value;
}

function curveOf(key: PublicKey): Curve {
  const { curve } = key.algorithm;
  if (curve === undefined) throw new KeyError('internal', 'key type without a curve');
  return curve;
}

function jsonWebKey(key: PublicKey): JsonWebKey {
  const { family } = key.algorithm;
  switch (family) {
    case 'rsa':
      return { kty: 'RSA', n: base64Url(field(key, 'n')), e: base64Url(field(key, 'e')) };
    case 'ecdsa':
    case 'sk-ecdsa': {
      const curve = curveOf(key);
      const point = field(key, 'q').subarray(1);
      const x = base64Url(point.subarray(0, curve.bytes));
      return { kty: 'EC', crv: curve.jwk, x, y: base64Url(point.subarray(curve.bytes)) };
    }
    case 'ed25519':
    case 'sk-ed25519':
      return { kty: 'OKP', crv: 'Ed25519', x: base64Url(field(key, 'pk')) };
    case 'mldsa44-ed25519':
      return { kty: 'OKP', crv: 'Ed25519', x: base64Url(field(key, 'pk').subarray(MLDSA44_PUBLIC_BYTES)) };
    default:
      return family satisfies never;
  }
}

// Importing costs more than verifying, and every connection of ssh shows the same few host keys.
const imported = new WeakMap<PublicKey, KeyObject>();

function keyObject(key: PublicKey): KeyObject {
  let object = imported.get(key);
  if (object === undefined) {
    object = createPublicKey({ key: jsonWebKey(key), format: 'jwk' });
    imported.set(key, object);
  }
  return object;
}

/** `number` with zeros in front, or undefined where it is longer than `length`. */
function padded(number: Uint8Array, length: number): Uint8Array | undefined {
  if (number.length > length) return undefined;
  const bytes = new Uint8Array(length);
  bytes.set(number, length - number.length);
  return bytes;
}

function verifyRsa(key: PublicKey, hash: string | undefined, data: Uint8Array, signature: Uint8Array): boolean {
  // Some signers drop leading zeros; OpenSSH puts them back.
  const full = padded(signature, field(key, 'n').length);
  return full !== undefined && hash !== undefined && verify(hash, data, keyObject(key), full);
}

function verifyEcdsa(key: PublicKey, data: Uint8Array, signature: Uint8Array): boolean {
  const { bytes, hash } = curveOf(key);
  const reader = new Reader(signature);
  const r = padded(reader.mpint('r'), bytes);
  const s = padded(reader.mpint('s'), bytes);
  reader.end('signature');
  if (r === undefined || s === undefined) return false;
  return verify(hash, data, { key: keyObject(key), dsaEncoding: 'ieee-p1363' }, concat(r, s));
}

function verifyEd25519(key: PublicKey, data: Uint8Array, signature: Uint8Array): boolean {
  return signature.length === ED25519_SIGNATURE_BYTES && verify(undefined, data, keyObject(key), signature);
}

function verifyComposite(key: PublicKey, data: Uint8Array, signature: Uint8Array): boolean {
  if (signature.length !== MLDSA44_SIGNATURE_BYTES + ED25519_SIGNATURE_BYTES) return false;
  const message = compositeMessage(data);
  const mldsa = field(key, 'pk').subarray(0, MLDSA44_PUBLIC_BYTES);
  // ML-DSA first: it must say "not loaded" whatever the other half is worth.
  return (
    verifyMldsa44(mldsa, message, signature.subarray(0, MLDSA44_SIGNATURE_BYTES)) &&
    verifyEd25519(key, message, signature.subarray(MLDSA44_SIGNATURE_BYTES))
  );
}

const sha256 = (bytes: Uint8Array): Uint8Array => createHash('sha256').update(bytes).digest();

const FLAGS_AND_COUNTER_BYTES = 5;

/** What a security key signs, and what a browser has it sign. Reads what follows the signature itself. @throws WireError */
function assertion(key: PublicKey, data: Uint8Array, reader: Reader, fromBrowser: boolean): Uint8Array | undefined {
  const flagsAndCounter = reader.bytes(FLAGS_AND_COUNTER_BYTES, 'flags and counter');
  const application = sha256(field(key, 'application'));
  if (!fromBrowser) return concat(application, flagsAndCounter, sha256(data));
  const [flags = 0] = flagsAndCounter;
  const signed = readBrowserSigned(reader, flags, data);
  return signed && concat(application, flagsAndCounter, signed.extensions, sha256(signed.clientData));
}

function verifyBlob(key: PublicKey, data: Uint8Array, signature: Uint8Array): boolean {
  const reader = new Reader(signature);
  const given = text(reader.string('signature algorithm'));
  // OpenSSH takes the certificate's name here too, though it is that of a key and not of a signature.
  const name = given === WEBAUTHN_SK_ECDSA_CERTIFICATE ? WEBAUTHN_SK_ECDSA : given;
  const row = signatureAlgorithms(key.algorithm).find((one) => one.name === name);
  if (row === undefined) return false;
  const raw = reader.string('signature');
  const { family } = key.algorithm;
  const isSecurityKey = family === 'sk-ed25519' || family === 'sk-ecdsa';
  const signed = isSecurityKey ? assertion(key, data, reader, name === WEBAUTHN_SK_ECDSA) : data;
  reader.end('signature');
  if (signed === undefined) return false;
  switch (family) {
    case 'rsa':
      return verifyRsa(key, row.hash, signed, raw);
    case 'ecdsa':
    case 'sk-ecdsa':
      return verifyEcdsa(key, signed, raw);
    case 'ed25519':
    case 'sk-ed25519':
      return verifyEd25519(key, signed, raw);
    case 'mldsa44-ed25519':
      return verifyComposite(key, signed, raw);
    default:
      return family satisfies never;
  }
}

/**
 * Whether `signature` (an SSH signature blob) is one of `key` over `data`. A certificate's key verifies like the plain
 * one, with the plain name. False for whatever is malformed, or of an algorithm that the key can't make.
 * @throws KeyError 'unsupported' where a composite key needs loadMldsa() first
 */
export function verifySignature(key: PublicKey, data: Uint8Array, signature: Uint8Array): boolean {
  try {
    return verifyBlob(key, data, signature);
  } catch (error) {
    if (error instanceof KeyError) throw error;
    // A WireError, or node:crypto's, which throws where OpenSSL fails for another reason than a wrong signature: no
    // failure makes a signature right.
    return false;
  }
}
