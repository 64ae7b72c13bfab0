/**
 * Fresh keys, certificates and session bindings for tests, made by node:crypto and not by the code under test: a key as
 * it travels in a request to add it, its blob, and a check of what it signed. The composite ML-DSA type is not here.
 */
import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
  verify,
} from 'node:crypto';
import { concat, equal, utf8 } from '../wire/bytes.ts';
import type { SessionBind } from '../wire/extensions.ts';
import { keyShape, writeFields } from '../wire/keyshapes.ts';
import { Reader } from '../wire/reader.ts';
import type { AddedKey } from '../wire/requests.ts';
import { Writer } from '../wire/writer.ts';

const url = (value: string | undefined): Uint8Array => new Uint8Array(Buffer.from(value ?? '', 'base64url'));

export interface FreshKey {
  readonly key: AddedKey;
  /** What names the key in requests: of the certificate, where there is one. */
  readonly blob: Uint8Array;
  /** Every private value by its name: what must not be found in a process's memory. */
  readonly secrets: Readonly<Record<string, Uint8Array>>;
  /** Both undefined for a type that node:crypto does not have. */
  readonly publicKey: KeyObject | undefined;
  readonly privateKey: KeyObject | undefined;
}

/** The public blob of a plain key. */
export function publicBlob(key: AddedKey): Uint8Array {
  const writer = new Writer().text(key.type);
  writeFields(writer, keyShape(key.type)?.shape.publicFields ?? [], key.fields);
  return writer.finish();
}

function strip(bytes: Uint8Array): Uint8Array {
  let zeros = 0;
  while (bytes[zeros] === 0) zeros++;
  return bytes.subarray(zeros);
}

/** The 32 bytes at the end of RFC 8410's two structures. */
const rawPart = (der: Uint8Array): Uint8Array => Uint8Array.from(der.subarray(-32));

/** By DER and not by JWK: Node 20's export of a JWK can wait for itself for ever when garbage is collected meanwhile. */
export function freshEd25519(): FreshKey {
  const pair = generateKeyPairSync('ed25519', {
    privateKeyEncoding: { format: 'der', type: 'pkcs8' },
    publicKeyEncoding: { format: 'der', type: 'spki' },
  });
  const privateKey = createPrivateKey({ key: pair.privateKey, format: 'der', type: 'pkcs8' });
  const publicKey = createPublicKey({ key: pair.publicKey, format: 'der', type: 'spki' });
  const seed = rawPart(pair.privateKey);
  const pk = rawPart(pair.publicKey);
  const key: AddedKey = { type: 'ssh-ed25519', fields: { pk, sk: concat(seed, pk) } };
  return { key, blob: publicBlob(key), secrets: { seed }, publicKey, privateKey };
}

const CURVES = {
  nistp256: { openssl: 'prime256v1', hash: 'sha256', bytes: 32 },
  nistp384: { openssl: 'secp384r1', hash: 'sha384', bytes: 48 },
  nistp521: { openssl: 'secp521r1', hash: 'sha512', bytes: 66 },
} as const;

export function freshEcdsa(curve: keyof typeof CURVES): FreshKey {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: CURVES[curve].openssl });
  const jwk = privateKey.export({ format: 'jwk' });
  const d = strip(url(jwk.d));
  const q = concat(new Uint8Array([4]), url(jwk.x), url(jwk.y));
  const key: AddedKey = { type: `ecdsa-sha2-${curve}`, fields: { curve: utf8(curve), q, d } };
  return { key, blob: publicBlob(key), secrets: { d }, publicKey, privateKey };
}

export function freshRsa(bits = 2048): FreshKey {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: bits });
  const { n, e, d, p, q, dp, dq, qi } = privateKey.export({ format: 'jwk' });
  const secrets = { d: url(d), p: url(p), q: url(q), dp: url(dp), dq: url(dq), iqmp: url(qi) };
  const key: AddedKey = {
    type: 'ssh-rsa',
    fields: { n: url(n), e: url(e), d: strip(secrets.d), iqmp: strip(secrets.iqmp), p: secrets.p, q: secrets.q },
  };
  return { key, blob: publicBlob(key), secrets, publicKey, privateKey };
}

/** The SSH signature blob of `by` over `data`, made by node:crypto; RSA with SHA-512. */
export function signatureBy(by: FreshKey, data: Uint8Array): Uint8Array {
  const { type } = by.key;
  if (by.privateKey === undefined) throw new TypeError(`node:crypto does not sign with ${type}`);
  const key = by.privateKey;
  if (type === 'ssh-ed25519')
    return new Writer()
      .text(type)
      .string(sign(null, data, key))
      .finish();
  if (type === 'ssh-rsa')
    return new Writer()
      .text('rsa-sha2-512')
      .string(sign('sha512', data, key))
      .finish();
  const { hash } = CURVES[type.slice(-8) as keyof typeof CURVES];
  const raw = sign(hash, data, { key, dsaEncoding: 'ieee-p1363' });
  const half = raw.length / 2;
  const numbers = new Writer().mpint(raw.subarray(0, half)).mpint(raw.subarray(half)).finish();
  return new Writer().text(type).string(numbers).finish();
}

const RSA_HASHES: Readonly<Record<string, string>> = {
  'ssh-rsa': 'sha1',
  'rsa-sha2-256': 'sha256',
  'rsa-sha2-512': 'sha512',
};

/** @returns the algorithm's name inside `signature`, or undefined where node:crypto finds that it does not verify */
export function verifiedName(by: FreshKey, data: Uint8Array, signature: Uint8Array): string | undefined {
  if (by.publicKey === undefined) throw new TypeError(`node:crypto does not verify with ${by.key.type}`);
  const reader = new Reader(signature);
  const name = reader.text('name');
  const raw = reader.string('signature');
  reader.end('signature');
  const key = by.publicKey;
  const plain = by.key.type.replace('-cert-v01@openssh.com', '');
  let good: boolean;
  if (plain === 'ssh-ed25519') good = name === plain && verify(null, data, key, raw);
  else if (plain === 'ssh-rsa') good = name in RSA_HASHES && verify(RSA_HASHES[name], data, key, raw);
  else {
    const { hash, bytes } = CURVES[plain.slice(-8) as keyof typeof CURVES];
    const numbers = new Reader(raw);
    const both = new Uint8Array(2 * bytes);
    for (const end of [bytes, 2 * bytes]) {
      const number = numbers.mpint('number');
      both.set(number, end - number.length);
    }
    numbers.end('numbers');
    good = name === plain && verify(hash, data, { key, dsaEncoding: 'ieee-p1363' }, both);
  }
  return good ? name : undefined;
}

export interface CertificateOptions {
  /** Default: user. */
  readonly kind?: 'user' | 'host';
  readonly keyId?: string;
  readonly principals?: readonly string[];
  /** Seconds since 1970. Default: for ever. */
  readonly validAfter?: bigint;
  readonly validBefore?: bigint;
}

/** `subject` again, as a key with a certificate that `authority` signed (draft-miller-ssh-cert). */
export function certified(subject: FreshKey, authority: FreshKey, options: CertificateOptions = {}): FreshKey {
  const shape = keyShape(subject.key.type)?.shape;
  if (shape === undefined) throw new TypeError(`no certificates for ${subject.key.type}`);
  const writer = new Writer().text(shape.certificateType).string(randomBytes(32));
  writeFields(writer, shape.publicFields, subject.key.fields);
  writer
    .u64(1n)
    .u32(options.kind === 'host' ? 2 : 1)
    .text(options.keyId ?? 'a fixture')
    .nested((list) => {
      for (const principal of options.principals ?? ['somebody']) list.text(principal);
    })
    .u64(options.validAfter ?? 0n)
    .u64(options.validBefore ?? 0xffff_ffff_ffff_ffffn)
    .text('')
    .text('')
    .text('')
    .string(authority.blob);
  const signed = writer.finish();
  const blob = new Writer().bytes(signed).string(signatureBy(authority, signed)).finish();
  return { ...subject, key: { ...subject.key, type: shape.certificateType, certificate: blob }, blob };
}

export interface BindingOptions {
  /** Default: 32 random bytes. */
  readonly sessionId?: Uint8Array;
  /** Default: false, a login. */
  readonly isForwarding?: boolean;
}

/** What a client says of the session that it opens with `host`, signed by it. */
export function bindingTo(host: FreshKey, options: BindingOptions = {}): SessionBind {
  const sessionId = options.sessionId ?? new Uint8Array(randomBytes(32));
  return {
    hostKey: host.blob,
    sessionId,
    signature: signatureBy(host, sessionId),
    isForwarding: options.isForwarding ?? false,
  };
}

/** The place of `blob` among `identities`, or -1. */
export function placeOf(identities: readonly { readonly blob: Uint8Array }[], blob: Uint8Array): number {
  return identities.findIndex((identity) => equal(identity.blob, blob));
}
