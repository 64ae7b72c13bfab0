/**
 * What every key file format gives in the end, and what must hold for it: fields in the shapes of the wire, numbers and
 * points of the right size. Whether the private half fits the public one is custody's to find out, not checked here.
 */
import { copy, equal, utf8 } from '../wire/bytes.ts';
import { WireError } from '../wire/error.ts';
import { type Field, type FieldValues, type KeyShape, keyShape, readFields, writeFields } from '../wire/keyshapes.ts';
import { Reader } from '../wire/reader.ts';
import type { AddedKey } from '../wire/requests.ts';
import { visible } from '../wire/visible.ts';
import { Writer } from '../wire/writer.ts';
import { KeyError } from './error.ts';

/** OpenSSH's bounds for the modulus, in bits. */
export const MIN_RSA_BITS = 1024;
export const MAX_RSA_BITS = 16384;

/** Longest type name looked at in a file, in bytes; the longest that exists has 46. */
export const MAX_TYPE_NAME_BYTES = 256;

export interface PrivateKeyFile {
  /** Always of a plain type. Its fields are views of arrays that `wipe` clears. */
  readonly key: AddedKey;
  readonly publicBlob: Uint8Array;
  /** '' where the file has none. */
  readonly comment: string;
  wipe(): void;
}

/** Clears each array that there is. */
export function wipeAll(arrays: readonly (Uint8Array | undefined)[]): void {
  for (const array of arrays) array?.fill(0);
}

/** Runs `read`; what the reader finds wrong becomes a KeyError 'malformed' that names the field. */
export function reading<T>(what: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw asKeyError(what, error);
  }
}

export function asKeyError(what: string, error: unknown): unknown {
  return error instanceof WireError ? new KeyError('malformed', `${what}: ${error.message}`, { cause: error }) : error;
}

/** The shape of a type that a file may hold. @throws KeyError 'unknown-type', in words for those that people still have */
export function shapeOf(type: string): { readonly shape: KeyShape; readonly certificate: boolean } {
  const known = keyShape(type);
  if (known !== undefined) return known;
  if (type === 'ssh-dss' || type.startsWith('ssh-dss-cert-'))
    throw new KeyError(
      'unknown-type',
      'this is a DSA key (ssh-dss): OpenSSH dropped the type in 10.1, and it is not served',
    );
  if (type === 'ssh-ed448')
    throw new KeyError('unknown-type', 'this is an Ed448 key: OpenSSH has no such type, and it is not served');
  if (type.startsWith('ssh-xmss'))
    throw new KeyError('unknown-type', 'this is an XMSS key: OpenSSH dropped the type in 10.1, and it is not served');
  throw new KeyError('unknown-type', `keys of type "${visible(type, 80)}" are not served`);
}

/** The public blob of a plain key. */
export function publicBlobOf(type: string, fields: FieldValues): Uint8Array {
  const writer = new Writer().text(type);
  writeFields(writer, shapeOf(type).shape.publicFields, fields);
  return writer.finish();
}

/** Type and public fields of a plain blob, or of the key inside a certificate. @throws KeyError, WireError */
export function readPublicFields(blob: Uint8Array): {
  readonly type: string;
  readonly certificate: boolean;
  readonly fields: FieldValues;
} {
  const reader = new Reader(blob);
  const name = reader.text('key type', MAX_TYPE_NAME_BYTES);
  const { shape, certificate } = shapeOf(name);
  if (certificate) reader.string('nonce');
  const fields = readFields(reader, shape.publicFields);
  if (!certificate) reader.end('public key');
  return { type: shape.type, certificate, fields };
}

/** Demands the same values in all of `fields`. @throws KeyError 'mismatch' */
export function demandSame(fields: readonly Field[], a: FieldValues, b: FieldValues): void {
  for (const { name } of fields) {
    const one = a[name];
    const other = b[name];
    if (one === undefined || other === undefined || !equal(one, other))
      throw new KeyError('mismatch', 'the private half of the file holds another key than its public half');
  }
}

/** A big-endian number without its leading zeros, as a view. */
export function magnitude(bytes: Uint8Array): Uint8Array {
  let zeros = 0;
  while (zeros < bytes.length && bytes[zeros] === 0) zeros++;
  return bytes.subarray(zeros);
}

const curveBytes: Readonly<Record<string, number>> = { nistp256: 32, nistp384: 48, nistp521: 66 };

function field(fields: FieldValues, name: string): Uint8Array {
  const value = fields[name];
  if (value === undefined) throw new KeyError('malformed', `the key lacks its ${name}`);
  return value;
}

function demandLength(fields: FieldValues, name: string, length: number): void {
  if (field(fields, name).length !== length)
    throw new KeyError('malformed', `${name} of the key must be ${length} bytes`);
}

function checkPoint(fields: FieldValues, curve: string): void {
  if (!equal(field(fields, 'curve'), utf8(curve)))
    throw new KeyError('malformed', 'the key names another curve than its type');
  demandLength(fields, 'q', 1 + 2 * (curveBytes[curve] as number));
  if (field(fields, 'q')[0] !== 4) throw new KeyError('malformed', 'the public point is not in its uncompressed form');
}

function checkRsa(fields: FieldValues): void {
  const n = field(fields, 'n');
  const bits = n.length === 0 ? 0 : n.length * 8 - (Math.clz32(n[0] as number) - 24);
  if (bits < MIN_RSA_BITS || bits > MAX_RSA_BITS)
    throw new KeyError('out-of-bounds', `an RSA key of ${bits} bits: ${MIN_RSA_BITS} to ${MAX_RSA_BITS} are served`);
  for (const name of ['e', 'd', 'iqmp', 'p', 'q']) {
    const length = field(fields, name).length;
    if (length === 0 || length > n.length)
      throw new KeyError('malformed', `${name} of the key cannot be a number of that size`);
  }
}

function checkSizes(type: string, fields: FieldValues): void {
  switch (type) {
    case 'ssh-ed25519':
      demandLength(fields, 'pk', 32);
      demandLength(fields, 'sk', 64);
      if (!equal(field(fields, 'sk').subarray(32), field(fields, 'pk')))
        throw new KeyError('mismatch', 'the private half of the file holds another key than its public half');
      return;
    case 'ssh-mldsa44-ed25519@openssh.com':
      demandLength(fields, 'pk', 1312 + 32);
      demandLength(fields, 'sk', 32 + 32);
      return;
    case 'sk-ssh-ed25519@openssh.com':
      demandLength(fields, 'pk', 32);
      return;
    case 'sk-ecdsa-sha2-nistp256@openssh.com':
      checkPoint(fields, 'nistp256');
      return;
    case 'ssh-rsa':
      checkRsa(fields);
      return;
    default: {
      const curve = type.slice('ecdsa-sha2-'.length);
      checkPoint(fields, curve);
      const { length } = field(fields, 'd');
      if (length === 0 || length > (curveBytes[curve] as number))
        throw new KeyError('malformed', 'd of the key cannot be a number of that size');
    }
  }
}

/**
 * The result for a plain key. `owned` are the arrays that `fields` are views of: `wipe` clears them; where this throws
 * they are the caller's to clear.
 * @throws KeyError 'malformed', 'mismatch', 'out-of-bounds'
 */
export function privateKeyFile(
  type: string,
  fields: FieldValues,
  comment: string,
  owned: readonly Uint8Array[],
): PrivateKeyFile {
  checkSizes(type, fields);
  const publicBlob = copy(publicBlobOf(type, fields));
  return { key: { type, fields }, publicBlob, comment, wipe: () => wipeAll(owned) };
}
