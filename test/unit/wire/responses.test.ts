import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_EXTENSION_NAME_BYTES } from '../../../src/wire/extensions.ts';
import { decodeResponse, encodeResponse, MAX_IDENTITIES, type Response } from '../../../src/wire/responses.ts';
import { response } from './arbitraries.ts';
import { fill, letters, raw, str, u32 } from './build.ts';
import { expectWireError } from './thrown.ts';

const messages: [string, Uint8Array, Response][] = [
  ['failure', raw(5), { kind: 'failure' }],
  ['success', raw(6), { kind: 'success' }],
  ['no identities', raw(12, u32(0)), { kind: 'identities', identities: [] }],
  [
    'identities',
    raw(12, u32(2), str('one'), str('me'), str('two'), str('')),
    {
      kind: 'identities',
      identities: [
        { blob: raw('one'), comment: 'me' },
        { blob: raw('two'), comment: '' },
      ],
    },
  ],
  ['a signature', raw(14, str('signature')), { kind: 'signature', signature: raw('signature') }],
  ['failure of an extension', raw(28), { kind: 'extensionFailure' }],
  [
    'the answer of an extension',
    raw(29, str('query'), str('session-bind@openssh.com')),
    { kind: 'extensionResponse', name: 'query', body: str('session-bind@openssh.com') },
  ],
];

describe('each message', () => {
  it.each(messages)('reads and writes: %s', (_, bytes, value) => {
    expect(decodeResponse(bytes)).toEqual(value);
    expect(encodeResponse(value)).toEqual(bytes);
  });

  it.each(messages)('refuses every cut, or reads another message: %s', (_, bytes, value) => {
    for (let length = 0; length < bytes.length; length++) {
      let read: Response | undefined;
      try {
        read = decodeResponse(bytes.subarray(0, length));
      } catch (error) {
        expect((error as Error).name).toBe('WireError');
      }
      if (read !== undefined) expect(read).not.toEqual(value);
    }
  });

  it.each(messages.filter(([, , { kind }]) => kind !== 'failure' && kind !== 'extensionResponse'))(
    'refuses one byte more: %s',
    (_, bytes) => {
      expectWireError(() => decodeResponse(raw(bytes, 0)), 'trailing', 'response');
    },
  );

  it.each([5, 30, 102])('takes %d for a failure, as OpenSSH does, whatever follows it', (number) => {
    expect(decodeResponse(raw(number))).toEqual({ kind: 'failure' });
    expect(decodeResponse(raw(number, 'why'))).toEqual({ kind: 'failure' });
  });

  it('knows no other number, and an empty message is short', () => {
    const known = [5, 6, 12, 14, 28, 29, 30, 102];
    for (let number = 0; number < 256; number++)
      if (!known.includes(number))
        expectWireError(() => decodeResponse(raw(number, u32(0))), 'bad-value', 'message number');
    expectWireError(() => decodeResponse(raw()), 'short', 'message number');
  });
});

describe('bounds', () => {
  it('keeps MAX_IDENTITIES', () => {
    const pair = raw(str(), str());
    const of = (count: number) => raw(12, u32(count), ...Array.from({ length: count }, () => pair));
    const read = decodeResponse(of(MAX_IDENTITIES));
    expect(read.kind === 'identities' && read.identities.length).toBe(MAX_IDENTITIES);
    expectWireError(() => decodeResponse(of(MAX_IDENTITIES + 1)), 'too-long', 'number of keys');
  });

  it.each([1, 2, MAX_IDENTITIES])('is short where %d keys are claimed and none is there', (count) => {
    expectWireError(() => decodeResponse(raw(12, u32(count))), 'short', 'key blob');
  });

  it.each([MAX_IDENTITIES + 1, 0x7fffffff, 0x80000000, 0xffffffff])('refuses a claim of %d keys at once', (count) => {
    expectWireError(() => decodeResponse(raw(12, u32(count))), 'too-long', 'number of keys');
  });

  it('refuses fewer keys claimed than there are', () => {
    expectWireError(() => decodeResponse(raw(12, u32(1), str('a'), str(), str('b'), str())), 'trailing');
  });

  it('keeps MAX_EXTENSION_NAME_BYTES', () => {
    expect(decodeResponse(raw(29, str(letters(MAX_EXTENSION_NAME_BYTES)), 1))).toMatchObject({ body: raw(1) });
    expectWireError(() => decodeResponse(raw(29, str(letters(MAX_EXTENSION_NAME_BYTES + 1)))), 'too-long');
  });

  it('refuses a NUL in a comment, and shows one that is not UTF-8', () => {
    expectWireError(() => decodeResponse(raw(12, u32(1), str('b'), str('a', 0, 'c'))), 'bad-text', 'comment');
    expect(decodeResponse(raw(12, u32(1), str('b'), str(0xff)))).toMatchObject({ identities: [{ comment: '\ufffd' }] });
  });
});

describe('round trip', () => {
  it('gives back any response, and the same bytes again', () => {
    fc.assert(
      fc.property(response, (value) => {
        const bytes = encodeResponse(value);
        expect(decodeResponse(bytes)).toEqual(value);
        expect(encodeResponse(decodeResponse(bytes))).toEqual(bytes);
      }),
      { numRuns: 500 },
    );
  });

  it('gives views of the message', () => {
    const bytes = raw(14, str(fill(8, 1)));
    const read = decodeResponse(bytes);
    bytes.fill(0);
    expect(read).toEqual({ kind: 'signature', signature: fill(8, 0) });
  });
});
