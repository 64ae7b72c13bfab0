/** Fresh keys as they travel in a request to add them, made by node:crypto (and noble for ML-DSA), not by our own code. */
import { generateKeyPairSync, type KeyObject, randomBytes } from 'node:crypto';
import { ml_dsa44 } from '@noble/post-quantum/ml-dsa.js';
import type { AddedKey } from '../../src/wire/requests.ts';

const url = (text: string | undefined): Uint8Array => new Uint8Array(Buffer.from(text ?? '', 'base64url'));

export interface FreshKey {
  readonly key: AddedKey;
  /** Every private value by its name: what must not be found in a process's memory. */
  readonly secrets: Readonly<Record<string, Uint8Array>>;
  /** Undefined for the composite type. */
  readonly publicKey: KeyObject | undefined;
}

const strip = (bytes: Uint8Array): Uint8Array => {
  let zeros = 0;
  while (bytes[zeros] === 0) zeros++;
  return bytes.subarray(zeros);
};

export function freshEd25519(): FreshKey {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const { d, x } = privateKey.export({ format: 'jwk' });
  const seed = url(d);
  const pk = url(x);
  return {
    key: { type: 'ssh-ed25519', fields: { pk, sk: new Uint8Array([...seed, ...pk]) } },
    secrets: { seed },
    publicKey,
  };
}

export function freshEcdsa(curve: 'nistp256' | 'nistp384' | 'nistp521'): FreshKey {
  const namedCurve = { nistp256: 'prime256v1', nistp384: 'secp384r1', nistp521: 'secp521r1' }[curve];
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve });
  const { d, x, y } = privateKey.export({ format: 'jwk' });
  return {
    key: {
      type: `ecdsa-sha2-${curve}`,
      fields: {
        curve: new TextEncoder().encode(curve),
        q: new Uint8Array([4, ...url(x), ...url(y)]),
        d: strip(url(d)),
      },
    },
    secrets: { d: strip(url(d)) },
    publicKey,
  };
}

export function freshRsa(bits = 2048): FreshKey {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: bits });
  const { n, e, d, p, q, dp, dq, qi } = privateKey.export({ format: 'jwk' });
  const secrets = { d: url(d), p: url(p), q: url(q), dp: url(dp), dq: url(dq), iqmp: url(qi) };
  return {
    key: {
      type: 'ssh-rsa',
      fields: { n: url(n), e: url(e), d: strip(secrets.d), iqmp: strip(secrets.iqmp), p: secrets.p, q: secrets.q },
    },
    secrets,
    publicKey,
  };
}

export function freshMldsa(): FreshKey {
  const mldsaSeed = new Uint8Array(randomBytes(32));
  const { publicKey: mldsaPublic } = ml_dsa44.keygen(mldsaSeed);
  const ed = freshEd25519();
  const { seed } = ed.secrets as { seed: Uint8Array };
  const pk = ed.key.fields.pk as Uint8Array;
  return {
    key: {
      type: 'ssh-mldsa44-ed25519@openssh.com',
      fields: { pk: new Uint8Array([...mldsaPublic, ...pk]), sk: new Uint8Array([...mldsaSeed, ...seed]) },
    },
    secrets: { mldsaSeed, seed },
    publicKey: undefined,
  };
}

export function freshKeys(): readonly FreshKey[] {
  return [
    freshEd25519(),
    freshEcdsa('nistp256'),
    freshEcdsa('nistp384'),
    freshEcdsa('nistp521'),
    freshRsa(),
    freshMldsa(),
  ];
}

