/**
 * Fresh keys for the tests: those of src/testing, made by node:crypto, and the composite type, made by noble; none by our
 * own code.
 */
import { randomBytes } from 'node:crypto';
import { ml_dsa44 } from '@noble/post-quantum/ml-dsa.js';
import { type FreshKey, freshEcdsa, freshEd25519, freshRsa, publicBlob } from '../../src/testing/fixtures.ts';
import type { AddedKey } from '../../src/wire/requests.ts';

export { type FreshKey, freshEcdsa, freshEd25519, freshRsa } from '../../src/testing/fixtures.ts';

export function freshMldsa(): FreshKey {
  const mldsaSeed = new Uint8Array(randomBytes(32));
  const { publicKey: mldsaPublic } = ml_dsa44.keygen(mldsaSeed);
  const ed = freshEd25519();
  const { seed } = ed.secrets as { seed: Uint8Array };
  const pk = ed.key.fields.pk as Uint8Array;
  const key: AddedKey = {
    type: 'ssh-mldsa44-ed25519@openssh.com',
    fields: { pk: new Uint8Array([...mldsaPublic, ...pk]), sk: new Uint8Array([...mldsaSeed, ...seed]) },
  };
  return { key, blob: publicBlob(key), secrets: { mldsaSeed, seed }, publicKey: undefined, privateKey: undefined };
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
