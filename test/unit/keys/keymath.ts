/** What must hold between the two halves of a key, worked out without any code of ours: for tests of key readers. */
import { createECDH, createPrivateKey, createPublicKey } from 'node:crypto';
import { expect } from 'vitest';
import type { FieldValues } from '../../../src/wire/keyshapes.ts';

const curves: Readonly<Record<string, string>> = {
  nistp256: 'prime256v1',
  nistp384: 'secp384r1',
  nistp521: 'secp521r1',
};

function number(bytes: Uint8Array | undefined): bigint {
  return BigInt(`0x0${Buffer.from(bytes ?? []).toString('hex')}`);
}

function bytes(fields: FieldValues, name: string): Buffer {
  return Buffer.from(fields[name] ?? []);
}

/** The Ed25519 public key of a seed, by OpenSSL. */
export function ed25519Public(seed: Uint8Array): Buffer {
  const der = Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), seed]);
  const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  return createPublicKey(key).export({ type: 'spki', format: 'der' }).subarray(-32);
}

export function expectHalvesToFit(type: string, fields: FieldValues): void {
  if (type === 'ssh-rsa') {
    const [n, e, d, iqmp, p, q] = ['n', 'e', 'd', 'iqmp', 'p', 'q'].map((name) => number(fields[name])) as [
      bigint,
      bigint,
      bigint,
      bigint,
      bigint,
      bigint,
    ];
    expect(p * q).toBe(n);
    expect((e * d) % (p - 1n)).toBe(1n);
    expect((e * d) % (q - 1n)).toBe(1n);
    expect((iqmp * q) % p).toBe(1n);
  } else if (type === 'ssh-ed25519') {
    const sk = bytes(fields, 'sk');
    expect(sk.length).toBe(64);
    expect(ed25519Public(sk.subarray(0, 32)).equals(bytes(fields, 'pk'))).toBe(true);
    expect(sk.subarray(32).equals(bytes(fields, 'pk'))).toBe(true);
  } else {
    const curve = createECDH(curves[bytes(fields, 'curve').toString()] ?? '');
    curve.setPrivateKey(bytes(fields, 'd'));
    expect(curve.getPublicKey().equals(bytes(fields, 'q'))).toBe(true);
  }
}
