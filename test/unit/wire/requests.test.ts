import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_PROVIDER_BYTES } from '../../../src/wire/constraints.ts';
import { MAX_EXTENSION_NAME_BYTES } from '../../../src/wire/extensions.ts';
import { carriesSecret, decodeRequest, encodeRequest, type Request } from '../../../src/wire/requests.ts';
import { Writer } from '../../../src/wire/writer.ts';
import { request } from './arbitraries.ts';
import { fill, letters, raw, str, u32 } from './build.ts';
import { expectWireError, wireError } from './thrown.ts';

const ed25519 = raw(str('ssh-ed25519'), str(fill(32, 1)), str(fill(64, 2)));
const rsa = raw(str('ssh-rsa'), str(0, 0x81), str(3), str(5), str(6), str(7), str(8));
const ecdsaCertificate = raw(str('ecdsa-sha2-nistp256-cert-v01@openssh.com'), str('certificate'), str(9));
const skEd25519 = raw(str('sk-ssh-ed25519@openssh.com'), str('pk'), str('ssh:'), 1, str('handle'), str());

/** Every message there is, by hand. */
const messages: [string, Uint8Array, Request][] = [
  ['list', raw(11), { kind: 'list' }],
  ['sign', raw(13, str('blob'), str('data'), u32(4)), { kind: 'sign', blob: raw('blob'), data: raw('data'), flags: 4 }],
  ['remove', raw(18, str('blob')), { kind: 'remove', blob: raw('blob') }],
  ['remove all', raw(19), { kind: 'removeAll', version: 2 }],
  ['remove all, version 1', raw(9), { kind: 'removeAll', version: 1 }],
  ['lock', raw(22, str('word')), { kind: 'lock', passphrase: raw('word') }],
  ['unlock', raw(23, str('word')), { kind: 'unlock', passphrase: raw('word') }],
  ['lock with nothing', raw(22, str()), { kind: 'lock', passphrase: raw() }],
  [
    'add a token',
    raw(20, str('/lib.so'), str('1234')),
    { kind: 'addToken', provider: '/lib.so', pin: raw('1234'), constraints: {} },
  ],
  [
    'add a token with bounds',
    raw(26, str('/lib.so'), str(), 2),
    { kind: 'addToken', provider: '/lib.so', pin: raw(), constraints: { confirm: true } },
  ],
  [
    'add a token with certificates',
    raw(26, str('/lib.so'), str(), 255, str('associated-certs-v00@openssh.com'), 1, str(str('one'))),
    {
      kind: 'addToken',
      provider: '/lib.so',
      pin: raw(),
      constraints: { associatedCertificates: { certificatesOnly: true, blobs: [raw('one')] } },
    },
  ],
  [
    'remove a token',
    raw(21, str('/lib.so'), str('1234')),
    { kind: 'removeToken', provider: '/lib.so', pin: raw('1234') },
  ],
  [
    'an extension',
    raw(27, str('x@example.org'), 'body'),
    { kind: 'extension', name: 'x@example.org', body: raw('body') },
  ],
  ['an extension with no body', raw(27, str('query')), { kind: 'extension', name: 'query', body: raw() }],
  ['the list of SSH 1', raw(1), { kind: 'unknown', number: 1 }],
  [
    'add ed25519',
    raw(17, ed25519, str('me')),
    {
      kind: 'add',
      key: { type: 'ssh-ed25519', fields: { pk: fill(32, 1), sk: fill(64, 2) } },
      comment: 'me',
      constraints: {},
    },
  ],
  [
    'add RSA with bounds',
    raw(25, rsa, str(''), 1, u32(60), 2),
    {
      kind: 'add',
      key: {
        type: 'ssh-rsa',
        fields: { n: raw(0x81), e: raw(3), d: raw(5), iqmp: raw(6), p: raw(7), q: raw(8) },
      },
      comment: '',
      constraints: { lifetime: 60, confirm: true },
    },
  ],
  [
    'add with a certificate',
    raw(17, ecdsaCertificate, str('c')),
    {
      kind: 'add',
      key: {
        type: 'ecdsa-sha2-nistp256-cert-v01@openssh.com',
        certificate: raw('certificate'),
        fields: { d: raw(9) },
      },
      comment: 'c',
      constraints: {},
    },
  ],
  [
    'add a security key',
    raw(25, skEd25519, str('s'), 255, str('sk-provider@openssh.com'), str('internal')),
    {
      kind: 'add',
      key: {
        type: 'sk-ssh-ed25519@openssh.com',
        fields: { pk: raw('pk'), application: raw('ssh:'), flags: raw(1), keyHandle: raw('handle'), reserved: raw() },
      },
      comment: 's',
      constraints: { skProvider: 'internal' },
    },
  ],
];

describe('each message', () => {
  it.each(messages)('reads and writes: %s', (_, bytes, value) => {
    expect(decodeRequest(bytes)).toEqual(value);
    expect(encodeRequest(value).finish()).toEqual(bytes);
  });

  it.each(messages)('refuses every cut, or reads another message: %s', (_, bytes, value) => {
    for (let length = 0; length < bytes.length; length++) {
      const cut = bytes.subarray(0, length);
      let read: Request | undefined;
      try {
        read = decodeRequest(cut);
      } catch (error) {
        expect((error as Error).name).toBe('WireError');
      }
      if (read !== undefined) expect(read).not.toEqual(value);
    }
  });

  it.each(messages.filter(([, , { kind }]) => kind !== 'extension' && kind !== 'unknown'))(
    'refuses one byte more: %s',
    (_, bytes, { kind }) => {
      const code = ['add', 'addToken', 'removeToken'].includes(kind) ? 'unknown-constraint' : 'trailing';
      expectWireError(() => decodeRequest(raw(bytes, 0)), code);
    },
  );

  it('takes bounds in 17 and 20 as in 25 and 26, and their lack in these', () => {
    expect(decodeRequest(raw(17, ed25519, str('me'), 2))).toMatchObject({ constraints: { confirm: true } });
    expect(decodeRequest(raw(25, ed25519, str('me')))).toMatchObject({ constraints: {} });
    expect(decodeRequest(raw(20, str('p'), str(), 2))).toMatchObject({ constraints: { confirm: true } });
    expect(decodeRequest(raw(26, str('p'), str()))).toMatchObject({ constraints: {} });
  });

  it('takes the bounds that ssh-add -t -e says in a removal, and no other bytes', () => {
    const removal = raw(21, str('/lib.so'), str());
    const value = { kind: 'removeToken', provider: '/lib.so', pin: raw() };
    expect(decodeRequest(raw(removal, 1, u32(90), 2))).toEqual(value);
    expectWireError(() => decodeRequest(raw(removal, 3)), 'unknown-constraint');
    expectWireError(() => decodeRequest(raw(removal, 1, 0)), 'short');
  });

  it('reads any message that it does not know, whatever it holds', () => {
    for (const number of [0, 1, 2, 3, 5, 6, 7, 8, 10, 12, 14, 15, 16, 24, 28, 29, 30, 100, 255])
      for (const body of [raw(), str('anything'), fill(1000)])
        expect(decodeRequest(raw(number, body))).toEqual({ kind: 'unknown', number });
  });

  it('is short where there is not even a number', () => {
    expectWireError(() => decodeRequest(raw()), 'short', 'message number');
  });
});

describe('texts and secrets', () => {
  it.each([
    ['a comment', raw(17, ed25519, str('a', 0, 'b'))],
    ['a PIN', raw(20, str('p'), str('a', 0, 'b'))],
    ['a PIN that ends in two', raw(20, str('p'), str('a', 0, 0))],
    ['a provider', raw(20, str('p', 0, 'q'), str())],
    ['the provider of a removal', raw(21, str('p', 0, 'q'), str())],
    ['a pass phrase', raw(22, str('a', 0, 'b'))],
    ['a pass phrase to unlock', raw(23, str(0, 'b'))],
    ['the name of an extension', raw(27, str('a', 0, 'b'))],
    ['a key type', raw(17, str('ssh', 0, 'x'))],
  ])('refuses a NUL in %s', (_, bytes) => {
    expectWireError(() => decodeRequest(bytes), 'bad-text');
  });

  it('drops one NUL at the end, as C programs may send it', () => {
    expect(decodeRequest(raw(22, str('a', 0)))).toEqual({ kind: 'lock', passphrase: raw('a') });
    expect(decodeRequest(raw(20, str('p', 0), str('1', 0)))).toMatchObject({ provider: 'p', pin: raw('1') });
    expect(decodeRequest(raw(17, ed25519, str('me', 0)))).toMatchObject({ comment: 'me' });
  });

  it('keeps a pass phrase that is not UTF-8', () => {
    expect(decodeRequest(raw(22, str(0xff, 0xfe)))).toEqual({ kind: 'lock', passphrase: raw(0xff, 0xfe) });
  });

  it('shows a comment that is not UTF-8, and refuses such a provider: it would be another file', () => {
    expect(decodeRequest(raw(17, ed25519, str('caf', 0xe9)))).toMatchObject({ comment: 'caf\ufffd' });
    expectWireError(() => decodeRequest(raw(20, str('/caf', 0xe9), str())), 'bad-text', 'provider');
    expectWireError(() => decodeRequest(raw(21, str('/caf', 0xe9), str())), 'bad-text', 'provider');
  });

  it('reads secrets as views, so that whoever owns the frame can wipe them', () => {
    const lock = raw(22, str('word'));
    const add = raw(17, ed25519, str('me'));
    const token = raw(20, str('p'), str('1234'));
    const decoded = [decodeRequest(lock), decodeRequest(add), decodeRequest(token)] as const;
    for (const frame of [lock, add, token]) frame.fill(0);
    expect(decoded[0]).toMatchObject({ passphrase: fill(4, 0) });
    expect(decoded[1]).toMatchObject({ key: { fields: { sk: fill(64, 0) } } });
    expect(decoded[2]).toMatchObject({ pin: fill(4, 0) });
  });

  it('leaves secrets in the writer alone, where wipe clears them', () => {
    const writer = new Writer(4);
    encodeRequest({ kind: 'lock', passphrase: raw('correct horse') }, writer);
    const whole = new Uint8Array(writer.view().buffer);
    writer.wipe();
    expect(whole.every((byte) => byte === 0)).toBe(true);
  });

  it('quotes no secret in an error', () => {
    const horse = raw('correct horse');
    const errors = [
      raw(22, str(horse, 0, horse)),
      raw(22, str(horse), 1),
      raw(20, str(horse, 0xff), str(horse)),
      raw(17, str(horse), str(horse)),
      raw(17, str('ssh-ed25519'), u32(99), horse),
      raw(17, ed25519, str(horse), 255, str(horse)),
    ].map((bytes) => wireError(() => decodeRequest(bytes)));
    for (const error of errors) expect(`${error.message} ${error.field}`).not.toContain('horse');
  });
});

describe('secret memory', () => {
  it.each([17, 25, 20, 26, 21, 22, 23])('is needed for message %d', (number) => {
    expect(carriesSecret(number)).toBe(true);
  });

  it.each([7, 24])('is needed for message %d, which adds a key of SSH 1 though we refuse it', (number) => {
    expect(carriesSecret(number)).toBe(true);
  });

  it('is needed for what nobody knows: extensions (PuTTY adds keys by one) and unknown numbers', () => {
    for (const number of [0, 27, 28, 99, 200, 255]) expect(carriesSecret(number)).toBe(true);
  });

  it.each([9, 11, 13, 18, 19])('is not needed for message %d', (number) => {
    expect(carriesSecret(number)).toBe(false);
  });

  it('is needed for every message that a request with a secret field encodes to', () => {
    fc.assert(
      fc.property(request, (value) => {
        const number = encodeRequest(value).finish()[0] ?? 0;
        if ('pin' in value || 'passphrase' in value || 'key' in value) expect(carriesSecret(number)).toBe(true);
      }),
    );
  });
});

describe('keys', () => {
  it.each(['ssh-dss', 'ssh-dss-cert-v01@openssh.com', 'ssh-ed448', 'rsa-sha1', '', '__proto__', 'constructor'])(
    'has no shape for %j, and says so',
    (type) => {
      expectWireError(
        () => decodeRequest(raw(17, str(type), str('x'), str('y'), str('z'))),
        'unknown-type',
        'key type',
      );
      const key = { type, fields: {} };
      expectWireError(
        () => encodeRequest({ kind: 'add', key, comment: '', constraints: {} }),
        'unknown-type',
        'key type',
      );
    },
  );

  it.each([
    ['webauthn-sk-ecdsa-sha2-nistp256@openssh.com', 'sk-ecdsa-sha2-nistp256@openssh.com', false],
    ['webauthn-sk-ecdsa-sha2-nistp256-cert-v01@openssh.com', 'sk-ecdsa-sha2-nistp256-cert-v01@openssh.com', true],
  ])('named %j are of the type behind it, as for OpenSSH', (name, type, certificate) => {
    const rest = [str('ssh:'), 1, str('handle'), str('')];
    const before = certificate ? [str('a certificate')] : [str('nistp256'), str('point')];
    expect(decodeRequest(raw(17, str(name), ...before, ...rest, str('me')))).toMatchObject({
      kind: 'add',
      key: { type, fields: { application: raw('ssh:'), keyHandle: raw('handle') } },
      comment: 'me',
    });
  });

  it('refuses to write a certificate type without and a plain type with a certificate', () => {
    const fields = { pk: fill(32), sk: fill(64) };
    const add = (key: Extract<Request, { kind: 'add' }>['key']) => () =>
      encodeRequest({ kind: 'add', key, comment: '', constraints: {} });
    expectWireError(add({ type: 'ssh-ed25519-cert-v01@openssh.com', fields }), 'bad-value', 'certificate');
    expectWireError(add({ type: 'ssh-ed25519', certificate: raw('c'), fields }), 'bad-value', 'certificate');
  });

  it('refuses a private number that is negative or has more than 16384 bits', () => {
    const withD = (d: Uint8Array) => raw(17, str('ssh-rsa'), str(5), str(3), str(d), str(1), str(1), str(1), str(''));
    expect(decodeRequest(withD(raw(0, fill(2048, 0xff))))).toMatchObject({ kind: 'add' });
    expectWireError(() => decodeRequest(withD(raw(1, fill(2048)))), 'too-long', 'd');
    expectWireError(() => decodeRequest(withD(raw(0, 1, fill(2048)))), 'too-long', 'd');
    expectWireError(() => decodeRequest(withD(raw(0x80))), 'bad-value', 'd');
  });
});

describe('bounds', () => {
  it.each([
    [
      'MAX_EXTENSION_NAME_BYTES',
      raw(27, str(letters(MAX_EXTENSION_NAME_BYTES))),
      raw(27, str(letters(MAX_EXTENSION_NAME_BYTES + 1))),
    ],
    [
      'MAX_PROVIDER_BYTES',
      raw(20, str(letters(MAX_PROVIDER_BYTES)), str()),
      raw(20, str(letters(MAX_PROVIDER_BYTES + 1)), str()),
    ],
    [
      'MAX_PROVIDER_BYTES of a removal',
      raw(21, str(letters(MAX_PROVIDER_BYTES)), str()),
      raw(21, str(letters(MAX_PROVIDER_BYTES + 1)), str()),
    ],
  ])('keeps %s', (_, at, above) => {
    expect(encodeRequest(decodeRequest(at)).finish()).toEqual(at);
    expectWireError(() => decodeRequest(above), 'too-long');
  });

  it('takes a message as long as a frame may be', () => {
    const data = fill(262144 - 1 - 4 - 4 - 4 - 4, 7);
    const bytes = raw(13, str('blob'), str(data), u32(0)).subarray(0, 262144);
    const read = decodeRequest(raw(13, str('blob'), str(data), u32(0)));
    expect(bytes.length).toBeLessThanOrEqual(262144);
    expect(read.kind === 'sign' && Buffer.compare(read.data, data) === 0).toBe(true);
  });
});

describe('round trip', () => {
  it('gives back any request', () => {
    fc.assert(
      fc.property(request, (value) => {
        expect(decodeRequest(encodeRequest(value).finish())).toEqual(value);
      }),
      { numRuns: 500 },
    );
  });

  it('writes the same bytes again', () => {
    fc.assert(
      fc.property(request, (value) => {
        const bytes = encodeRequest(value).finish();
        expect(encodeRequest(decodeRequest(bytes)).finish()).toEqual(bytes);
      }),
    );
  });

  it('reads a Buffer as it reads a Uint8Array', () => {
    fc.assert(
      fc.property(request, (value) => {
        const bytes = encodeRequest(value).finish();
        expect(encodeRequest(decodeRequest(Buffer.from(bytes))).finish()).toEqual(bytes);
      }),
    );
  });
});
