/**
 * The table of key types: one row says what the rest of the program must know about a name. No other list of types.
 * Types as in keyshapes (OPENSSH.md section 4, RFC 8332 for the names of RSA signatures); no DSA, no Ed448.
 */
import { SIGN_RSA_SHA2_256, SIGN_RSA_SHA2_512 } from '../wire/requests.ts';

export type Family = 'ed25519' | 'ecdsa' | 'rsa' | 'mldsa44-ed25519' | 'sk-ed25519' | 'sk-ecdsa';

export type Hash = 'sha1' | 'sha256' | 'sha384' | 'sha512';

export interface Curve {
  /** As in key blobs. */
  readonly name: 'nistp256' | 'nistp384' | 'nistp521';
  /** As in OpenSSL. */
  readonly openssl: 'prime256v1' | 'secp384r1' | 'secp521r1';
  /** As in a JSON Web Key. */
  readonly jwk: 'P-256' | 'P-384' | 'P-521';
  /** Length of a coordinate and of a number below the group's order. */
  readonly bytes: number;
  readonly bits: number;
  /** RFC 5656 section 6.2.1. */
  readonly hash: Hash;
}

export interface Algorithm {
  readonly type: string;
  readonly certificateType: string;
  readonly family: Family;
  /** As ssh-add -l shows it, without the -CERT of a certificate. */
  readonly listName: string;
  /** ecdsa and sk-ecdsa. */
  readonly curve?: Curve;
  /** Size that ssh-add -l shows, where the type fixes it: all but RSA. */
  readonly bits?: number;
}

export interface SignatureAlgorithm {
  /** The name inside the signature blob. */
  readonly name: string;
  /** What the message is hashed with, where hashing is a step of its own: RSA and ECDSA. */
  readonly hash: Hash | undefined;
}

export const WEBAUTHN_SK_ECDSA = 'webauthn-sk-ecdsa-sha2-nistp256@openssh.com';
/** What a log-in with a certificate calls it (OpenSSH 10.3). */
export const WEBAUTHN_SK_ECDSA_CERTIFICATE = 'webauthn-sk-ecdsa-sha2-nistp256-cert-v01@openssh.com';

const nistp256: Curve = {
  name: 'nistp256',
  openssl: 'prime256v1',
  jwk: 'P-256',
  bytes: 32,
  bits: 256,
  hash: 'sha256',
};
const nistp384: Curve = { name: 'nistp384', openssl: 'secp384r1', jwk: 'P-384', bytes: 48, bits: 384, hash: 'sha384' };
const nistp521: Curve = { name: 'nistp521', openssl: 'secp521r1', jwk: 'P-521', bytes: 66, bits: 521, hash: 'sha512' };

function row(name: string, family: Family, listName: string, fixed: { curve?: Curve; bits?: number }): Algorithm {
  const at = name.indexOf('@');
  const base = at < 0 ? name : name.slice(0, at);
  return Object.freeze({ type: name, certificateType: `${base}-cert-v01@openssh.com`, family, listName, ...fixed });
}

const ecdsa = (curve: Curve): Algorithm =>
  row(`ecdsa-sha2-${curve.name}`, 'ecdsa', 'ECDSA', { curve, bits: curve.bits });

export const algorithms: readonly Algorithm[] = Object.freeze([
  row('ssh-ed25519', 'ed25519', 'ED25519', { bits: 256 }),
  ecdsa(nistp256),
  ecdsa(nistp384),
  ecdsa(nistp521),
  row('ssh-rsa', 'rsa', 'RSA', {}),
  // OpenSSH shows the Ed25519 half's size.
  row('ssh-mldsa44-ed25519@openssh.com', 'mldsa44-ed25519', 'MLDSA44-ED25519', { bits: 256 }),
  row('sk-ssh-ed25519@openssh.com', 'sk-ed25519', 'ED25519-SK', { bits: 256 }),
  row('sk-ecdsa-sha2-nistp256@openssh.com', 'sk-ecdsa', 'ECDSA-SK', { curve: nistp256, bits: 256 }),
]);

const byName = new Map<string, Algorithm>();
for (const one of algorithms) byName.set(one.type, one).set(one.certificateType, one);

/** The row for a plain or certificate type name, or undefined where we have none. */
export function algorithm(name: string): Algorithm | undefined {
  return byName.get(name);
}

const rsaSha1: SignatureAlgorithm = Object.freeze({ name: 'ssh-rsa', hash: 'sha1' });
const rsaSha256: SignatureAlgorithm = Object.freeze({ name: 'rsa-sha2-256', hash: 'sha256' });
const rsaSha512: SignatureAlgorithm = Object.freeze({ name: 'rsa-sha2-512', hash: 'sha512' });

/** Every signature that a key of this type can make. */
export function signatureAlgorithms(algorithm: Algorithm): readonly SignatureAlgorithm[] {
  switch (algorithm.family) {
    case 'rsa':
      return [rsaSha1, rsaSha256, rsaSha512];
    case 'ecdsa':
      return [{ name: algorithm.type, hash: algorithm.curve?.hash }];
    case 'sk-ecdsa':
      return [
        { name: algorithm.type, hash: undefined },
        { name: WEBAUTHN_SK_ECDSA, hash: undefined },
      ];
    case 'ed25519':
    case 'mldsa44-ed25519':
    case 'sk-ed25519':
      return [{ name: algorithm.type, hash: undefined }];
    default:
      return algorithm.family satisfies never;
  }
}

/**
 * What a sign request with these flags asks for. For RSA as OpenSSH has it: SHA-256 wins where both flags are set, and
 * neither means SHA-1; other types have no choice.
 */
export function signatureAlgorithm(algorithm: Algorithm, flags: number): SignatureAlgorithm {
  if (algorithm.family !== 'rsa')
    return { name: algorithm.type, hash: algorithm.family === 'ecdsa' ? algorithm.curve?.hash : undefined };
  if (flags & SIGN_RSA_SHA2_256) return rsaSha256;
  return flags & SIGN_RSA_SHA2_512 ? rsaSha512 : rsaSha1;
}
