/**
 * Public key blobs and the lines that carry them: RFC 4253 section 6.6, RFC 5656 section 3.1, RFC 8709, OpenSSH's
 * PROTOCOL.u2f and its composite ML-DSA type; certificates of each through certificate.ts. Numbers and points are
 * checked as far as their bounds and the curve's equation go. Not read: authorized_keys options, PEM, RFC 4716.
 */
import { createHash, ECDH } from 'node:crypto';
import { base64, copy, equal, fromBase64, hex, text } from '../wire/bytes.ts';
import { WireError } from '../wire/error.ts';
import { type FieldValues, keyShape, readFields, writeFields } from '../wire/keyshapes.ts';
import { Reader } from '../wire/reader.ts';
import { Writer } from '../wire/writer.ts';
import { type Algorithm, algorithm, type Curve } from './algorithms.ts';
import { type Certificate, readCertificate } from './certificate.ts';
import { KeyError } from './error.ts';
import { MLDSA44_PUBLIC_BYTES } from './mldsa.ts';

/** OpenSSH's SSH_RSA_MINIMUM_MODULUS_SIZE, in bits. */
export const MIN_RSA_BITS = 1024;
/** OpenSSL's OPENSSL_RSA_MAX_MODULUS_BITS. */
export const MAX_RSA_BITS = 16384;
/** OpenSSL's OPENSSL_RSA_SMALL_MODULUS_BITS: above it the public exponent is bounded by MAX_RSA_EXPONENT_BITS. */
export const SMALL_RSA_BITS = 3072;
export const MAX_RSA_EXPONENT_BITS = 64;

export const ED25519_PUBLIC_BYTES = 32;

export interface PublicKey {
  readonly algorithm: Algorithm;
  /** As it was given. */
  readonly blob: Uint8Array;
  /** The blob of the plain key, its numbers in their shortest form: the same for every certificate of one key. */
  readonly plainBlob: Uint8Array;
  /** The plain key's public fields, by the names of keyshapes. */
  readonly fields: FieldValues;
  /** As ssh-add -l shows it. */
  readonly bits: number;
  readonly certificate?: Certificate;
}

function bitLength(magnitude: Uint8Array): number {
  const first = magnitude[0];
  return first === undefined ? 0 : magnitude.length * 8 - Math.clz32(first) + 24;
}

function below(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return a.length < b.length;
  for (let i = 0; i < a.length; i++) {
    const difference = (a[i] as number) - (b[i] as number);
    if (difference !== 0) return difference < 0;
  }
  return false;
}

/** Field `name` of `fields`. @throws KeyError where there is none */
export function publicField(fields: FieldValues, name: string): Uint8Array {
  const value = fields[name];
  if (value === undefined) throw new KeyError('malformed', `public key without ${name}`);
  return value;
}

function checkLength(value: Uint8Array, length: number): void {
  if (value.length !== length)
    throw new KeyError('malformed', `public key of ${value.length} bytes where ${length} are due`);
}

function checkRsa(fields: FieldValues): number {
  const n = publicField(fields, 'n');
  const e = publicField(fields, 'e');
  const bits = bitLength(n);
  if (bits < MIN_RSA_BITS || bits > MAX_RSA_BITS)
    throw new KeyError('out-of-bounds', `RSA modulus of ${bits} bits: ${MIN_RSA_BITS} to ${MAX_RSA_BITS} are served`);
  const odd = (number: Uint8Array): boolean => ((number.at(-1) ?? 0) & 1) === 1;
  if (!odd(n)) throw new KeyError('out-of-bounds', 'RSA modulus is even');
  const exponentBits = bitLength(e);
  if (exponentBits < 2 || !odd(e)) throw new KeyError('out-of-bounds', 'RSA exponent is even or below 3');
  if (bits > SMALL_RSA_BITS && exponentBits > MAX_RSA_EXPONENT_BITS)
    throw new KeyError(
      'out-of-bounds',
      `RSA exponent of ${exponentBits} bits: at most ${MAX_RSA_EXPONENT_BITS} beside so large a modulus`,
    );
  if (!below(e, n)) throw new KeyError('out-of-bounds', 'RSA exponent is not below the modulus');
  return bits;
}

function checkPoint(fields: FieldValues, curve: Curve): void {
  if (text(publicField(fields, 'curve')) !== curve.name)
    throw new KeyError('malformed', 'the curve named in the key is not that of its type');
  const q = publicField(fields, 'q');
  // OpenSSH refuses compressed points as well; the infinite one is a single zero byte.
  if (q.length !== 1 + 2 * curve.bytes || q[0] !== 4)
    throw new KeyError('malformed', 'elliptic curve point is not in uncompressed form');
  try {
    // Decodes the point, and so checks it against the curve; the cofactor is 1, so every point is of the right order.
    ECDH.convertKey(q, curve.openssl, undefined, undefined, 'compressed');
  } catch (cause) {
    throw new KeyError('out-of-bounds', 'elliptic curve point is not on its curve', { cause });
  }
}

function checkApplication(fields: FieldValues): void {
  if (publicField(fields, 'application').includes(0)) throw new KeyError('malformed', 'NUL in the application');
}

/** Checks public `fields` of a plain key and tells its size in bits. @throws KeyError */
export function checkPublicFields(algorithm: Algorithm, fields: FieldValues): number {
  const { family, curve } = algorithm;
  switch (family) {
    case 'rsa':
      return checkRsa(fields);
    case 'sk-ed25519':
      checkApplication(fields);
      checkLength(publicField(fields, 'pk'), ED25519_PUBLIC_BYTES);
      break;
    case 'ed25519':
      checkLength(publicField(fields, 'pk'), ED25519_PUBLIC_BYTES);
      break;
    case 'mldsa44-ed25519':
      checkLength(publicField(fields, 'pk'), MLDSA44_PUBLIC_BYTES + ED25519_PUBLIC_BYTES);
      break;
    case 'sk-ecdsa':
      checkApplication(fields);
      if (curve) checkPoint(fields, curve);
      break;
    case 'ecdsa':
      if (curve) checkPoint(fields, curve);
      break;
    default:
      return family satisfies never;
  }
  return algorithm.bits ?? 0;
}

function parse(blob: Uint8Array, role: 'any' | 'authority'): PublicKey {
  const reader = new Reader(blob);
  const type = text(reader.string('key type'));
  const row = algorithm(type);
  const found = keyShape(type);
  if (row === undefined || found === undefined) throw new KeyError('unknown-type', 'unknown or unsupported key type');
  const isCertificate = found.certificate;
  if (isCertificate && role === 'authority')
    throw new KeyError('malformed', 'a certificate may not be signed by a certificate');
  if (isCertificate) reader.string('nonce');
  const fields = readFields(reader, found.shape.publicFields);
  const bits = checkPublicFields(row, fields);
  const writer = new Writer(blob.length).text(row.type);
  writeFields(writer, found.shape.publicFields, fields);
  const canonical = writer.finish();
  if (!isCertificate) {
    reader.end('public key');
    return { algorithm: row, blob, plainBlob: equal(canonical, blob) ? blob : canonical, fields, bits };
  }
  const certificate = readCertificate(reader, (authority) => parse(authority, 'authority'));
  reader.end('certificate');
  return { algorithm: row, blob, plainBlob: canonical, fields, bits, certificate };
}

/**
 * Reads the blob of a plain key or of a certificate, whose authority's signature is verified. Keeps a copy of `blob`,
 * and views of that copy. Neither a certificate's dates nor its principals are judged here.
 * @throws KeyError 'unknown-type', 'malformed', 'out-of-bounds', 'bad-signature', or 'unsupported' where a composite
 * authority needs loadMldsa() first
 */
export function parsePublicKey(blob: Uint8Array): PublicKey {
  try {
    return parse(copy(blob), 'any');
  } catch (error) {
    if (error instanceof WireError) throw new KeyError('malformed', `public key: ${error.message}`, { cause: error });
    throw error;
  }
}

const fingerprintHashes: ReadonlySet<string> = new Set(['md5', 'sha1', 'sha256', 'sha384', 'sha512']);

/**
 * Fingerprint of the plain key, as ssh-keygen -l shows it: SHA256:base64 without padding, MD5:aa:bb:...
 * @param hash md5, sha1, sha256, sha384 or sha512, in either case
 * @param sha256 what makes such a hash, where it shall not be Node's
 * @throws KeyError 'unsupported' for another
 */
export function fingerprint(
  key: PublicKey,
  hash: string = 'sha256',
  sha256?: (bytes: Uint8Array) => Uint8Array,
): string {
  const name = hash.toLowerCase();
  if (!fingerprintHashes.has(name)) throw new KeyError('unsupported', 'unknown fingerprint hash');
  const digest: Uint8Array =
    name === 'sha256' && sha256 !== undefined ? sha256(key.plainBlob) : createHash(name).update(key.plainBlob).digest();
  if (name === 'md5') return `MD5:${hex(digest).replace(/..(?!$)/g, '$&:')}`;
  return `${name.toUpperCase()}:${base64(digest).replace(/=+$/, '')}`;
}

/** 'ED25519', or 'ED25519-CERT' for a certificate, as ssh-add -l shows it. */
export function typeName(key: PublicKey): string {
  return key.certificate === undefined ? key.algorithm.listName : `${key.algorithm.listName}-CERT`;
}

/** The blob's own type name, which for a certificate is not that of its key. */
export function blobType(key: PublicKey): string {
  return key.certificate === undefined ? key.algorithm.type : key.algorithm.certificateType;
}

/** 'ssh-ed25519 AAAA...', with no comment and no line end. */
export function publicKeyText(key: PublicKey): string {
  return `${blobType(key)} ${base64(key.blob)}`;
}

/**
 * Reads a line of a .pub file: type, base64 and, if any, a comment, which is given as it stands.
 * @throws KeyError as parsePublicKey, and 'malformed' where the line is no such line
 */
export function parsePublicKeyLine(line: string): { readonly key: PublicKey; readonly comment: string } {
  const [, type = '', data = '', rest = ''] = /^[ \t]*([^\s]+)[ \t]+([^\s]+)([^\r\n]*)[\r\n]*$/.exec(line) ?? [];
  const blob = fromBase64(data);
  if (type === '' || blob === undefined) throw new KeyError('malformed', 'not a public key line');
  if (algorithm(type) === undefined) throw new KeyError('unknown-type', 'unknown or unsupported key type');
  const key = parsePublicKey(blob);
  if (blobType(key) !== type) throw new KeyError('malformed', 'the type in front of the key is not that of the key');
  return { key, comment: rest.replace(/^[ \t]+/, '') };
}
