/**
 * Public keys of a token's objects (PKCS#11 2.40 sections 2.1 and 2.3, 3.0 section 2.3; X.509 certificates by Node) as
 * SSH key blobs, and what to hand a token to be signed. Served: RSA, ECDSA on three curves, Ed25519; what is something
 * else gives undefined, since a token may hold much that is no SSH key.
 */
import { createHash, createPublicKey, type KeyObject, X509Certificate } from 'node:crypto';
import { algorithms, type Hash } from '../keys/algorithms.ts';
import { DER, derValues } from '../keys/der.ts';
import { concat, equal, hex, utf8 } from '../wire/bytes.ts';
import { Writer } from '../wire/writer.ts';

export const CKK_RSA = 0;
export const CKK_EC = 3;
export const CKK_EC_EDWARDS = 0x40;

const ED25519_BYTES = 32;
const PRINTABLE_STRING = 0x13;
const curves = algorithms.flatMap(({ family, curve }) => (family === 'ecdsa' && curve ? [curve] : []));

/** CKA_EC_PARAMS as tokens have them: an object identifier, or the name of a curve. In hexadecimal. */
const CURVE_OIDS: Readonly<Record<string, string>> = {
  '06082a8648ce3d030107': 'nistp256',
  '06052b81040022': 'nistp384',
  '06052b81040023': 'nistp521',
};
const ED25519_OIDS: ReadonlySet<string> = new Set(['06032b6570', '06092b06010401da470f01']);
const ED25519_NAMES: ReadonlySet<string> = new Set(['edwards25519', 'Ed25519', 'id-Ed25519']);

export function rsaBlob(modulus: Uint8Array | undefined, exponent: Uint8Array | undefined): Uint8Array | undefined {
  if (!modulus?.length || !exponent?.length) return undefined;
  return new Writer(modulus.length + 64).text('ssh-rsa').mpint(exponent).mpint(modulus).finish();
}

function ecdsaBlob(curve: string, point: Uint8Array): Uint8Array {
  return new Writer(256).text(`ecdsa-sha2-${curve}`).text(curve).string(point).finish();
}

function ed25519Blob(point: Uint8Array): Uint8Array {
  return new Writer(64).text('ssh-ed25519').string(point).finish();
}

/** The point in CKA_EC_POINT: in an octet string, as the standard has it; as it is, or in a bit string, as some have. */
function pointOf(value: Uint8Array, length: number): Uint8Array | undefined {
  try {
    const [outer, ...more] = derValues(value);
    const tagged = more.length === 0 ? outer : undefined;
    const content = tagged?.tag === DER.bitString ? tagged.content.subarray(1) : tagged?.content;
    const isString = tagged?.tag === DER.octetString || tagged?.tag === DER.bitString;
    if (isString && content?.length === length) return content;
  } catch {
    // Not DER: then only its length can tell.
  }
  return value.length === length ? value : undefined;
}

export function ecBlob(parameters: Uint8Array | undefined, point: Uint8Array | undefined): Uint8Array | undefined {
  const name = CURVE_OIDS[hex(parameters ?? new Uint8Array())];
  const curve = curves.find((one) => one.name === name);
  if (curve === undefined || point === undefined) return undefined;
  const q = pointOf(point, 1 + 2 * curve.bytes);
  return q && ecdsaBlob(curve.name, q);
}

export function edwardsBlob(parameters: Uint8Array | undefined, point: Uint8Array | undefined): Uint8Array | undefined {
  if (parameters === undefined || point === undefined) return undefined;
  const name = parameters[0] === PRINTABLE_STRING ? new TextDecoder().decode(parameters.subarray(2)) : '';
  if (!ED25519_OIDS.has(hex(parameters)) && !ED25519_NAMES.has(name)) return undefined;
  const pk = pointOf(point, ED25519_BYTES);
  return pk && ed25519Blob(pk);
}

const bytesOf = (value: string | undefined): Uint8Array => new Uint8Array(Buffer.from(value ?? '', 'base64url'));

function nodeKeyBlob(key: KeyObject): Uint8Array | undefined {
  const jwk = key.export({ format: 'jwk' });
  if (jwk.kty === 'RSA') return rsaBlob(bytesOf(jwk.n), bytesOf(jwk.e));
  if (jwk.kty === 'OKP' && jwk.crv === 'Ed25519') return ed25519Blob(bytesOf(jwk.x));
  const curve = curves.find((one) => one.jwk === jwk.crv);
  return curve && ecdsaBlob(curve.name, concat(new Uint8Array([4]), bytesOf(jwk.x), bytesOf(jwk.y)));
}

/** Of CKA_PUBLIC_KEY_INFO. */
export function keyInfoBlob(der: Uint8Array | undefined): Uint8Array | undefined {
  if (!der?.length) return undefined;
  try {
    return nodeKeyBlob(createPublicKey({ key: Buffer.from(der), format: 'der', type: 'spki' }));
  } catch {
    return undefined;
  }
}

/** Of a certificate's CKA_VALUE. `subject` is on one line. */
export function certificateBlob(der: Uint8Array | undefined): { blob: Uint8Array; subject: string } | undefined {
  if (!der?.length) return undefined;
  try {
    const certificate = new X509Certificate(der);
    const blob = nodeKeyBlob(certificate.publicKey);
    return blob && { blob, subject: certificate.subject.split('\n').join(', ') };
  } catch {
    return undefined;
  }
}

/** DigestInfo (RFC 8017 section 9.2, note 1) up to the digest, in hexadecimal. */
const DIGEST_INFO: Readonly<Record<Hash, string>> = {
  sha1: '3021300906052b0e03021a05000414',
  sha256: '3031300d060960864801650304020105000420',
  sha384: '3041300d060960864801650304020205000430',
  sha512: '3051300d060960864801650304020305000440',
};
const CKM_RSA_PKCS = 0x1;
const CKM_HASH_RSA_PKCS: Readonly<Record<Hash, number>> = { sha1: 0x6, sha256: 0x40, sha384: 0x41, sha512: 0x42 };
const CKM_ECDSA = 0x1041;
const CKM_EDDSA = 0x1057;

export interface SigningWay {
  readonly mechanism: number;
  readonly input: Uint8Array;
}

/** The ways to ask for one signature, the one that most tokens know first. @throws RangeError where there is none */
export function signingWays(keyType: number, hash: Hash | undefined, data: Uint8Array): readonly SigningWay[] {
  if (keyType === CKK_EC_EDWARDS) return [{ mechanism: CKM_EDDSA, input: data }];
  if (hash === undefined) throw new RangeError('no hash for a key that needs one');
  const digest = createHash(hash).update(data).digest();
  if (keyType === CKK_EC) return [{ mechanism: CKM_ECDSA, input: digest }];
  return [
    { mechanism: CKM_RSA_PKCS, input: concat(Buffer.from(DIGEST_INFO[hash], 'hex'), digest) },
    // For tokens that hash themselves, or are not allowed to sign what they haven't hashed.
    { mechanism: CKM_HASH_RSA_PKCS[hash], input: data },
  ];
}

const TYPES: readonly (readonly [prefix: Uint8Array, keyType: number])[] = [
  [new Writer().text('ssh-rsa').finish(), CKK_RSA],
  [new Writer().text('ssh-ed25519').finish(), CKK_EC_EDWARDS],
  ...curves.map(({ name }) => [new Writer().string(utf8(`ecdsa-sha2-${name}`)).finish(), CKK_EC] as const),
];

/** CKA_KEY_TYPE of the private key behind one of the blobs made here. */
export function keyTypeOf(blob: Uint8Array): number | undefined {
  return TYPES.find(([prefix]) => equal(blob.subarray(0, prefix.length), prefix))?.[1];
}
