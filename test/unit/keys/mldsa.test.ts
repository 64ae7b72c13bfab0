import { createHash, createPublicKey, generateKeyPairSync, sign } from 'node:crypto';
import { ml_dsa44 } from '@noble/post-quantum/ml-dsa.js';
import { describe, expect, it } from 'vitest';
import { isHostCertificateFor } from '../../../src/keys/certificate.ts';
import { loadMldsa, needsMldsa, verifyMldsa44 } from '../../../src/keys/mldsa.ts';
import { parsePublicKey } from '../../../src/keys/publickey.ts';
import { verifySignature } from '../../../src/keys/signature.ts';
import { codeOf, flipped, join8, string, u32, u64 } from './keygen.ts';

const TYPE = 'ssh-mldsa44-ed25519@openssh.com';
const message = Uint8Array.from(Buffer.from('what is to be signed'));
const label = Uint8Array.from(Buffer.from('COMPSIG-MLDSA44-Ed25519-SHA512'));

const mldsa = ml_dsa44.keygen(new Uint8Array(32).fill(5));
const ed25519 = generateKeyPairSync('ed25519');
const ed25519Public = Buffer.from(ed25519.publicKey.export({ format: 'jwk' }).x ?? '', 'base64url');
const blob = join8(string(TYPE), string(mldsa.publicKey, ed25519Public));
const key = parsePublicKey(blob);

/** What both halves sign, put together as OpenSSH's source has it. */
function representative(data: Uint8Array): Uint8Array {
  const hash = createHash('sha512').update(data).digest();
  return join8(Buffer.from('CompositeAlgorithmSignatures2025'), label, Uint8Array.of(0), hash);
}

function signed(data: Uint8Array): Uint8Array {
  const what = representative(data);
  const half = ml_dsa44.sign(what, mldsa.secretKey, { context: label });
  return join8(string(TYPE), string(half, sign(null, what, ed25519.privateKey)));
}

function nodeHasMldsa(): boolean {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major < 24 || (major === 24 && minor < 8)) return false;
  try {
    const pub = Buffer.from(mldsa.publicKey).toString('base64url');
    createPublicKey({ key: { kty: 'AKP', alg: 'ML-DSA-44', pub }, format: 'jwk' });
    return true;
  } catch {
    return false;
  }
}

// First of all: the tests after it load what is missing.
describe('ML-DSA before it is loaded', () => {
  it('is unsupported, or Node has it', () => {
    expect(codeOf(() => verifySignature(key, message, signed(message)))).toBe(
      nodeHasMldsa() ? 'no error' : 'unsupported',
    );
  });

  it('is not needed to read a key, nor to refuse a signature of the wrong length', () => {
    expect(parsePublicKey(blob).algorithm.type).toBe(TYPE);
    expect(verifySignature(key, message, join8(string(TYPE), string(new Uint8Array(64))))).toBe(false);
    expect(verifySignature(key, message, join8(string('ssh-ed25519'), string(new Uint8Array(64))))).toBe(false);
  });

  it('is known to be needed by what holds such a key, and by nothing else', () => {
    expect(needsMldsa(blob)).toBe(true);
    expect(needsMldsa(join8(string('ssh-rsa-cert-v01@openssh.com'), string('sssssh-mldsa4'), string(blob)))).toBe(true);
    expect(needsMldsa(string('ssh-mldsa44-ed25519-cert-v01@openssh.com'))).toBe(true);
    expect(needsMldsa(string('ssh-ed25519'))).toBe(false);
    expect(needsMldsa(blob.subarray(0, 12))).toBe(false);
    expect(needsMldsa(new Uint8Array())).toBe(false);
  });
});

describe('a composite signature', () => {
  it('holds when both halves do', async () => {
    await loadMldsa();
    await loadMldsa();
    const signature = signed(message);
    expect(verifySignature(key, message, signature)).toBe(true);
    expect(verifySignature(key, flipped(message, 0), signature)).toBe(false);
    expect(verifySignature(key, message, join8(signature, Uint8Array.of(0)))).toBe(false);
    const start = 4 + TYPE.length + 4;
    for (const index of [0, 3, 4, start - 1, start, start + 1000, start + 2419, start + 2420, start + 2483])
      expect(verifySignature(key, message, flipped(signature, index))).toBe(false);
    for (const length of [0, start, start + 2420, start + 2483])
      expect(verifySignature(key, message, signature.subarray(0, length))).toBe(false);
  });

  it('does not hold when a half is another key’s', async () => {
    await loadMldsa();
    const signature = signed(message);
    const other = ml_dsa44.keygen(new Uint8Array(32).fill(6)).publicKey;
    const otherEd = generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' }).x ?? '';
    const halves = [
      [other, ed25519Public],
      [mldsa.publicKey, Buffer.from(otherEd, 'base64url')],
    ];
    for (const half of halves)
      expect(verifySignature(parsePublicKey(join8(string(TYPE), string(...half))), message, signature)).toBe(false);
  });

  it('does not hold without its context, or over the bare message', async () => {
    await loadMldsa();
    const what = representative(message);
    const withoutContext = ml_dsa44.sign(what, mldsa.secretKey);
    const edHalf = sign(null, what, ed25519.privateKey);
    expect(verifySignature(key, message, join8(string(TYPE), string(withoutContext, edHalf)))).toBe(false);
    const bare = ml_dsa44.sign(message, mldsa.secretKey, { context: label });
    const bareEd = sign(null, message, ed25519.privateKey);
    expect(verifySignature(key, message, join8(string(TYPE), string(bare, bareEd)))).toBe(false);
    expect(verifyMldsa44(mldsa.publicKey, message, bare)).toBe(true);
  });

  it('makes certificates, which count for nothing as a host’s', async () => {
    await loadMldsa();
    const subject = join8(string('ssh-ed25519-cert-v01@openssh.com'), string('nonce'), string(ed25519Public));
    const fields = [u64(1n), u32(2), string('id'), string(string('host')), u64(0n), u64(2n ** 64n - 1n)];
    const body = join8(subject, ...fields, string(''), string(''), string(''), string(blob));
    const { certificate } = parsePublicKey(join8(body, string(signed(body))));
    expect(certificate?.authority.algorithm.type).toBe(TYPE);
    expect(certificate && isHostCertificateFor(certificate, 'host', 1e9)).toBe(false);
    expect(codeOf(() => parsePublicKey(join8(body, string(signed(message)))))).toBe('bad-signature');
  });
});
