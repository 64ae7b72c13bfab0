import { constants, createPublicKey, generateKeyPairSync, privateEncrypt, verify } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import {
  CKK_EC_EDWARDS,
  CKK_RSA,
  ecBlob,
  edwardsBlob,
  keyInfoBlob,
  keyTypeOf,
  rsaBlob,
  signingWays,
} from '../../../src/backends/pkcs11objects.ts';
import { fill, fromHex, raw, str } from '../wire/build.ts';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const DATA = bytes('to be signed');
const NONE = new Uint8Array();

describe('public keys of objects', () => {
  const P256 = fromHex('06082a8648ce3d030107');
  const point = raw(4, fill(64, 5));

  test.each([
    ['in an octet string', raw(4, 65, point)],
    ['as it is', point],
    ['as it is, though it looks like an octet string', raw(4, 63, fill(63, 1))],
    ['in a bit string', raw(3, 66, 0, point)],
  ])('ECDSA: a point %s', (_, value) => {
    const q = value.length === 65 ? value : point;
    expect(ecBlob(P256, value)).toEqual(raw(str('ecdsa-sha2-nistp256'), str('nistp256'), str(q)));
  });

  test('ECDSA: no other curve, no other length, nothing missing', () => {
    expect(ecBlob(fromHex('06052b8104000a'), point)).toBeUndefined();
    expect(ecBlob(fromHex('06052b81040022'), point)).toBeUndefined();
    expect(ecBlob(undefined, point)).toBeUndefined();
    expect(ecBlob(P256, undefined)).toBeUndefined();
  });

  test.each([
    ['by its name', raw(0x13, 12, 'edwards25519')],
    ['by its identifier', fromHex('06032b6570')],
    ['by the identifier that GnuPG gave it', fromHex('06092b06010401da470f01')],
  ])('Ed25519 %s', (_, parameters) => {
    const blob = raw(str('ssh-ed25519'), str(fill(32, 9)));
    expect(edwardsBlob(parameters, raw(4, 32, fill(32, 9)))).toEqual(blob);
    expect(edwardsBlob(parameters, fill(32, 9))).toEqual(blob);
    expect(edwardsBlob(parameters, fill(57, 9))).toBeUndefined();
  });

  test('no Ed448', () => {
    expect(edwardsBlob(raw(0x13, 10, 'edwards448'), raw(4, 57, fill(57)))).toBeUndefined();
  });

  test('RSA numbers lose their leading zeros and get a sign', () => {
    const blob = rsaBlob(raw(0, 0, 0x80, 1), raw(0, 1, 0, 1));
    expect(blob).toEqual(raw(str('ssh-rsa'), str(1, 0, 1), str(0, 0x80, 1)));
    expect(rsaBlob(NONE, raw(1))).toBeUndefined();
  });

  test('a SubjectPublicKeyInfo of any type', () => {
    for (const pair of [generateKeyPairSync('ed25519'), generateKeyPairSync('ec', { namedCurve: 'P-521' })]) {
      const blob = keyInfoBlob(new Uint8Array(pair.publicKey.export({ format: 'der', type: 'spki' })));
      const { x = '', y, crv } = pair.publicKey.export({ format: 'jwk' });
      const [one, two] = [x, y ?? ''].map((value) => new Uint8Array(Buffer.from(value, 'base64url'))) as [
        Uint8Array,
        Uint8Array,
      ];
      if (crv === 'Ed25519') expect(blob).toEqual(raw(str('ssh-ed25519'), str(one)));
      else expect(blob).toEqual(raw(str('ecdsa-sha2-nistp521'), str('nistp521'), str(4, one, two)));
    }
    expect(keyInfoBlob(bytes('junk'))).toBeUndefined();
  });

  test('what is given to an RSA key is PKCS #1 with each hash', () => {
    const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 1024 });
    for (const hash of ['sha1', 'sha256', 'sha512'] as const) {
      const [way] = signingWays(CKK_RSA, hash, DATA);
      const key = { key: privateKey, padding: constants.RSA_PKCS1_PADDING };
      const signature = privateEncrypt(key, way?.input ?? NONE);
      expect(verify(hash, DATA, createPublicKey(publicKey.export({ type: 'spki', format: 'pem' })), signature)).toBe(
        true,
      );
    }
    expect(signingWays(CKK_EC_EDWARDS, undefined, DATA)).toEqual([{ mechanism: 0x1057, input: DATA }]);
    expect(keyTypeOf(raw(str('ssh-dss')))).toBeUndefined();
  });
});
