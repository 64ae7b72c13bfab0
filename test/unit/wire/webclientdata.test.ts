import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { classify } from '../../../src/wire/signeddata.ts';
import { MAX_CLIENT_DATA_BYTES } from '../../../src/wire/webclientdata.ts';
import { raw, u32 } from './build.ts';

describe('a web login', () => {
  const clientData = (change: Record<string, unknown> = {}): string =>
    JSON.stringify({
      type: 'webauthn.get',
      challenge: 'uHT_-A0gZm8',
      origin: 'https://example.com',
      crossOrigin: false,
      ...change,
    });
  const expected = { kind: 'webauthn', type: 'webauthn.get', origin: 'https://example.com', challenge: 'uHT_-A0gZm8' };

  it('is what a browser has a security key sign, with its site and challenge', () => {
    // From a browser's signature among the test data of OpenSSH (regress/unittests/sshsig/testdata).
    const real = `{"type":"webauthn.get","challenge":"U1NIU0lH","origin":"https://www.mindrot.org","crossOrigin":false}`;
    expect(classify(raw(real))).toEqual({
      ...expected,
      origin: 'https://www.mindrot.org',
      challenge: 'U1NIU0lH',
    });
  });

  it.each([
    ['a byte order mark in front', raw(0xef, 0xbb, 0xbf, clientData())],
    ['white space around', raw(' \r\n\t', clientData(), ' \n')],
    [
      'its parts in another order',
      raw('{"origin":"https://example.com","challenge":"uHT_-A0gZm8","type":"webauthn.get"}'),
    ],
    ['escapes', raw(clientData().replace('webauthn.get', 'webauthn\\u002eget'))],
  ])('is known with %s, which sites take too', (_, data) => {
    expect(classify(data)).toEqual(expected);
  });

  it.each(['webauthn.create', 'payment.get'])('may be %s', (type) => {
    expect(classify(raw(clientData({ type })))).toEqual({ ...expected, type });
  });

  it.each(['navigator.id.getAssertion', 'navigator.id.finishEnrollment'])('may be %s of U2F', (typ) => {
    expect(classify(raw(clientData({ type: undefined, typ })))).toEqual({ ...expected, type: typ });
  });

  it.each([
    ['another type', clientData({ type: 'webauthn' })],
    ['no type', clientData({ type: undefined })],
    ['no origin', clientData({ origin: undefined })],
    ['an origin that is no text', clientData({ origin: 1 })],
    ['no challenge', clientData({ challenge: null })],
    ['bytes after it', `${clientData()}x`],
    ['its end missing', clientData().slice(0, -1)],
    ['a list around it', `[${clientData()}]`],
    ['nothing but null', ' null'],
    ['brackets without end', `{"a":${'['.repeat(60_000)}`],
    ['more bytes than such a text may have', clientData({ pad: 'x'.repeat(MAX_CLIENT_DATA_BYTES) })],
  ])('is not known with %s', (_, data) => {
    expect(classify(raw(data)).kind).toBe('unidentified');
  });

  it('is not known by the bytes that a security key signs in the end, which have no mark', () => {
    const hash = (data: string): Uint8Array => new Uint8Array(createHash('sha256').update(data).digest());
    expect(classify(raw(hash('example.com'), 1, u32(7), hash(clientData()))).kind).toBe('unidentified');
  });
});
