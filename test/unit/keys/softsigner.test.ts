import { describe, expect, it } from 'vitest';
import { Custody } from '../../../src/keys/custody.ts';
import { KeyError } from '../../../src/keys/error.ts';
import { loadMldsa } from '../../../src/keys/mldsa.ts';
import { loadMldsaSigner } from '../../../src/keys/mldsasigner.ts';
import { createSigner } from '../../../src/keys/privatekey.ts';
import { signatureName, verifySignature } from '../../../src/keys/signature.ts';
import type { AddedKey } from '../../../src/wire/requests.ts';
import { freshEcdsa, freshEd25519, freshKeys, freshRsa } from '../../support/keys.ts';

const data = new TextEncoder().encode('what is signed');

function refusal(custody: Custody, key: AddedKey): string {
  try {
    createSigner(custody, key);
  } catch (error) {
    if (error instanceof KeyError) return error.code;
    throw error;
  }
  return 'taken';
}

function changed(key: AddedKey, name: string, change: (value: Uint8Array) => Uint8Array): AddedKey {
  const value = Uint8Array.from(key.fields[name] as Uint8Array);
  return { ...key, fields: { ...key.fields, [name]: change(value) } };
}

const flipped = (value: Uint8Array): Uint8Array => {
  value[value.length - 1] = (value[value.length - 1] as number) ^ 2;
  return value;
};

describe('a key in custody', () => {
  it('signs so that another implementation verifies it, for every type', async () => {
    await Promise.all([loadMldsa(), loadMldsaSigner()]);
    const custody = new Custody();
    for (const { key } of freshKeys()) {
      const signer = createSigner(custody, key);
      for (const flags of [0, 2, 4, 6]) {
        const signature = await signer.sign(data, flags);
        expect(verifySignature(signer.publicKey, data, signature), `${key.type} ${flags}`).toBe(true);
      }
      signer.dispose();
    }
    expect(custody.status().usedBytes).toBe(0);
  });

  it('chooses the hash of an RSA signature by the flags, SHA-256 first', async () => {
    const signer = createSigner(new Custody(), freshRsa().key);
    const names = await Promise.all(
      [0, 1, 2, 4, 6].map(async (flags) => signatureName(await signer.sign(data, flags))),
    );
    expect(names).toEqual(['ssh-rsa', 'ssh-rsa', 'rsa-sha2-256', 'rsa-sha2-512', 'rsa-sha2-256']);
  });

  it('signs many times at once with one slow key', async () => {
    const signer = createSigner(new Custody(), freshRsa().key);
    const signatures = await Promise.all(Array.from({ length: 40 }, () => signer.sign(data, 4)));
    for (const signature of signatures) expect(verifySignature(signer.publicKey, data, signature)).toBe(true);
  });

  it('finishes what it is signing when it is disposed, and signs no more', async () => {
    const custody = new Custody();
    const signer = createSigner(custody, freshRsa().key);
    const pending = signer.sign(data, 2);
    signer.dispose();
    expect(verifySignature(signer.publicKey, data, await pending)).toBe(true);
    expect(() => signer.sign(data, 2)).toThrow(KeyError);
    expect(custody.status().usedBytes).toBe(0);
  });

  it('is refused where the private half makes another public one', async () => {
    const custody = new Custody();
    const ed25519 = freshEd25519().key;
    expect(
      refusal(
        custody,
        changed(ed25519, 'sk', (sk) => Uint8Array.from([1, 2, 3, 4, ...sk.subarray(4)])),
      ),
    ).toBe('mismatch');
    expect(refusal(custody, changed(ed25519, 'pk', flipped))).toBe('mismatch');
    for (const curve of ['nistp256', 'nistp384', 'nistp521'] as const) {
      const key = freshEcdsa(curve).key;
      expect(refusal(custody, changed(key, 'd', flipped)), curve).toBe('mismatch');
    }
    const rsa = freshRsa().key;
    for (const name of ['d', 'p', 'q', 'iqmp', 'n'])
      expect(refusal(custody, changed(rsa, name, flipped)), name).toBe('mismatch');
    expect(
      refusal(
        custody,
        changed(rsa, 'e', () => new Uint8Array([3])),
      ),
    ).toBe('mismatch');
    expect(custody.status().usedBytes).toBe(0);
  });

  it('is refused where a number is out of bounds', async () => {
    const custody = new Custody();
    const ecdsa = freshEcdsa('nistp256').key;
    expect(
      refusal(
        custody,
        changed(ecdsa, 'd', () => new Uint8Array(0)),
      ),
    ).toBe('out-of-bounds');
    expect(
      refusal(
        custody,
        changed(ecdsa, 'd', () => new Uint8Array(33).fill(1)),
      ),
    ).toBe('out-of-bounds');
    expect(
      refusal(
        custody,
        changed(ecdsa, 'd', () => new Uint8Array(32).fill(255)),
      ),
    ).toMatch(/mismatch|malformed/);
    expect(refusal(custody, changed(ecdsa, 'q', flipped))).toBe('out-of-bounds');
    const rsa = freshRsa().key;
    const longer = (): Uint8Array => new Uint8Array((rsa.fields.n as Uint8Array).length + 1).fill(1);
    expect(refusal(custody, changed(rsa, 'd', longer))).toBe('out-of-bounds');
    expect(
      refusal(
        custody,
        changed(rsa, 'n', (n) => n.with(-1, 2)),
      ),
    ).toBe('out-of-bounds');
    expect(
      refusal(
        custody,
        changed(rsa, 'e', () => new Uint8Array(300).fill(1)),
      ),
    ).toBe('out-of-bounds');
    expect(
      refusal(
        custody,
        changed(rsa, 'e', () => new Uint8Array([4])),
      ),
    ).toBe('out-of-bounds');
    expect(
      refusal(
        custody,
        changed(rsa, 'p', () => new Uint8Array(0)),
      ),
    ).toBe('out-of-bounds');
    expect(custody.status().usedBytes).toBe(0);
  });
});
