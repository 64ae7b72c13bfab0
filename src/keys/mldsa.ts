/**
 * Verification of ssh-mldsa44-ed25519@openssh.com (OpenSSH 10.4, ssh-mldsa-eddsa.c): two signatures over one message
 * representative, ML-DSA-44 (FIPS 204) with a label as its context, and Ed25519; both must hold. The hash is SHA-512,
 * the application context empty, as SSH has them; other composites of draft-ietf-lamps-pq-composite-sigs are not here.
 *
 * ML-DSA is node:crypto's where Node has it with contexts (24.8 and later), else @noble/post-quantum, which costs a
 * megabyte that most programs never need: loadMldsa() brings it in.
 */
import { createHash, createPublicKey, verify } from 'node:crypto';
import { base64, concat, utf8 } from '../wire/bytes.ts';
import { KeyError } from './error.ts';

export const MLDSA44_PUBLIC_BYTES = 1312;
export const MLDSA44_SIGNATURE_BYTES = 2420;

const prefix = utf8('CompositeAlgorithmSignatures2025');

/** The context of the ML-DSA half, and a part of the message representative. */
export const COMPOSITE_LABEL: Uint8Array = utf8('COMPSIG-MLDSA44-Ed25519-SHA512');

/** What both halves sign for `data`. */
export function compositeMessage(data: Uint8Array): Uint8Array {
  const noContext = new Uint8Array([0]);
  return concat(prefix, COMPOSITE_LABEL, noContext, createHash('sha512').update(data).digest());
}

type Verify = (publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array) => boolean;

/** `bytes` in base64url without padding, which JSON Web Keys are written in. */
export function base64Url(bytes: Uint8Array): string {
  return base64(bytes).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');
}

function nativeVerify(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  const jwk = { kty: 'AKP', alg: 'ML-DSA-44', pub: base64Url(publicKey) };
  const key = createPublicKey({ key: jwk, format: 'jwk' });
  const options = { key, context: COMPOSITE_LABEL };
  return verify(undefined, message, options, signature);
}

/** Whether this Node verifies ML-DSA and heeds the context; one that ignores it would refuse every signature. */
function isNative(): boolean {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major < 24 || (major === 24 && minor < 8)) return false;
  try {
    nativeVerify(new Uint8Array(MLDSA44_PUBLIC_BYTES), new Uint8Array(1), new Uint8Array(MLDSA44_SIGNATURE_BYTES));
    return true;
  } catch {
    // A Node that is linked with an older OpenSSL of the system.
    return false;
  }
}

let implementation: Verify | undefined;
let loading: Promise<void> | undefined;

function verifier(): Verify | undefined {
  if (implementation === undefined && isNative()) implementation = nativeVerify;
  return implementation;
}

async function load(): Promise<void> {
  if (verifier() !== undefined) return;
  try {
    const { ml_dsa44 } = await import('@noble/post-quantum/ml-dsa.js');
    implementation = (publicKey, message, signature) =>
      ml_dsa44.verify(signature, message, publicKey, { context: COMPOSITE_LABEL });
  } catch (cause) {
    loading = undefined;
    throw new KeyError('unsupported', 'ML-DSA needs Node 24.8 or the package @noble/post-quantum', { cause });
  }
}

/**
 * Makes verifyMldsa44 work. Once done it costs nothing to call again.
 * @throws KeyError 'unsupported' where neither Node nor a package has ML-DSA
 */
export function loadMldsa(): Promise<void> {
  loading ??= load();
  return loading;
}

const typeBytes = utf8('ssh-mldsa44-ed25519');

/**
 * Whether `blob` (a public key, a certificate, or a message that holds one) may need ML-DSA: whoever is about to parse
 * or verify with such bytes awaits loadMldsa() first. Cheap, and true rather too often than not often enough.
 */
export function needsMldsa(blob: Uint8Array): boolean {
  const first = typeBytes[0] as number;
  for (let at = blob.indexOf(first); at >= 0; at = blob.indexOf(first, at + 1)) {
    let length = 1;
    while (length < typeBytes.length && blob[at + length] === typeBytes[length]) length++;
    if (length === typeBytes.length) return true;
  }
  return false;
}

/**
 * The ML-DSA-44 half: `signature` over `message`, with the composite's label as context. False for wrong lengths.
 * @throws KeyError 'unsupported' before loadMldsa()
 */
export function verifyMldsa44(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  if (publicKey.length !== MLDSA44_PUBLIC_BYTES || signature.length !== MLDSA44_SIGNATURE_BYTES) return false;
  const verifyHalf = verifier();
  if (verifyHalf === undefined) throw new KeyError('unsupported', 'ML-DSA is not loaded');
  return verifyHalf(publicKey, message, signature);
}
