import { describe, expect, test } from 'vitest';
import { Pkcs11Helper } from '../../../src/backends/pkcs11helper.ts';
import { decodeAnswer, decodeRequest, encodeRequest, type HelperAnswer } from '../../../src/backends/pkcs11protocol.ts';
import { fill, raw, str, u32, u64 } from '../wire/build.ts';
import { FakeCryptoki, FakeToken } from './faketoken.ts';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const DATA = bytes('to be signed');
const NONE = new Uint8Array();

describe('the helper protocol', () => {
  const identity = fill(96, 0x41);
  const sample = raw(1, 2, str('/usr/lib/p.so'), str(identity), str('blob'), 2, str('data'), 2, str('1234'));

  test('writes a sign request as docs/protocol.md has it', () => {
    const request = { kind: 'sign', path: '/usr/lib/p.so', token: identity, blob: bytes('blob') } as const;
    const message = encodeRequest({
      ...request,
      hash: 'sha256',
      data: bytes('data'),
      pin: bytes('1234'),
      lastTry: true,
    });
    expect(message).toEqual(sample);
    expect(decodeRequest(sample)).toMatchObject({ ...request, hash: 'sha256', lastTry: true });
  });

  test('reads list and tokens requests', () => {
    expect(decodeRequest(raw(1, 0, str('/p'), str('12'), str('')))).toEqual({
      kind: 'list',
      path: '/p',
      pin: bytes('12'),
      lastTry: NONE,
    });
    expect(decodeRequest(raw(1, 1, str('/p')))).toEqual({ kind: 'tokens', path: '/p' });
  });

  test('reads and writes a request to check a PIN as docs/protocol.md has it', () => {
    const check = { kind: 'check', path: '/p', pin: bytes('12'), lastTry: identity } as const;
    expect(encodeRequest(check)).toEqual(raw(1, 3, str('/p'), str('12'), str(identity)));
    expect(decodeRequest(raw(1, 3, str('/p'), str('12'), str(identity)))).toEqual(check);
  });

  test('refuses a request that is cut, longer, of another version or of an unknown kind', () => {
    for (let length = 0; length < sample.length; length++)
      expect(() => decodeRequest(sample.subarray(0, length))).toThrow();
    expect(() => decodeRequest(raw(sample, 0))).toThrow();
    expect(() => decodeRequest(raw(2, sample.subarray(1)))).toThrow('another version');
    expect(() => decodeRequest(raw(1, 9, sample.subarray(2)))).toThrow('unknown request');
    expect(() => decodeRequest(raw(1, 0, str('/p'), str(fill(1024)), str('')))).toThrow();
  });

  test('reads keys with their tokens', () => {
    const token = raw(str(identity), str('one'), u64(7n), 0b010011, 1);
    const answer = decodeAnswer(raw(1, 0, 1, token, u32(1), str('blob'), str('label'), 0));
    expect(answer).toMatchObject({
      kind: 'keys',
      tokens: [
        { label: 'one', slot: 7n, loginRequired: true, loggedIn: true, locked: true, lastTry: false, pin: 'accepted' },
      ],
      keys: [{ label: 'label', token: 0 }],
    });
  });

  test.each([
    ['more tokens than there may be', raw(1, 1, 65)],
    ['a key of no token', raw(1, 0, 0, u32(1), str('b'), str('l'), 0)],
    ['more keys than there may be', raw(1, 0, 0, u32(1025))],
    ['an unknown failure', raw(1, 3, 0, 99, str(''), 0)],
    ['an unknown kind', raw(1, 4)],
    ['bytes after the end', raw(1, 2, 1, str('s'), 0)],
    ['nothing', NONE],
  ])('refuses an answer with %s', (_, message) => {
    expect(() => decodeAnswer(message)).toThrow();
  });
});

describe('the helper with tokens', () => {
  const setUp = (...tokens: FakeToken[]) => {
    const cryptoki = new FakeCryptoki(...tokens);
    const helper = new Pkcs11Helper({ refuse: () => undefined, load: () => cryptoki });
    const list = (pin = '', lastTry: Uint8Array = NONE): HelperAnswer =>
      decodeAnswer(helper.handle(encodeRequest({ kind: 'list', path: '/p', pin: bytes(pin), lastTry })));
    const sign = (token: FakeToken, pin?: string, lastTry = false): HelperAnswer =>
      decodeAnswer(
        helper.handle(
          encodeRequest({
            kind: 'sign',
            path: '/p',
            token: token.info().subarray(0, 96),
            blob: token.blob,
            hash: undefined,
            data: DATA,
            pin: pin === undefined ? undefined : bytes(pin),
            lastTry,
          }),
        ),
      );
    const check = (pin: string, lastTry: Uint8Array = NONE): HelperAnswer =>
      decodeAnswer(helper.handle(encodeRequest({ kind: 'check', path: '/p', pin: bytes(pin), lastTry })));
    return { cryptoki, helper, list, check, sign };
  };
  const outcomes = (answer: HelperAnswer): readonly string[] =>
    answer.kind === 'keys' || answer.kind === 'tokens' ? answer.tokens.map(({ pin }) => pin) : [answer.kind];

  test('gives the PIN of one token to another once, never a second time', () => {
    const [a, b] = [new FakeToken('a', '1111'), new FakeToken('b', '2222')];
    const first = setUp(a, b);
    expect(outcomes(first.list('2222'))).toEqual(['wrong', 'accepted']);
    for (let i = 0; i < 5; i++) expect(outcomes(setUp(a, b).list('2222'))[1]).toBe('accepted');
    expect(a.pins).toEqual(['2222']);
    expect(a.tries).toBe(2);
  });

  test('tries no PIN where somebody is logged in: any would be right there, and it may not be for another', () => {
    const [a, b] = [new FakeToken('a', '1111'), new FakeToken('b', '2222')];
    const { list, check } = setUp(a, b);
    expect(outcomes(list('1111'))).toEqual(['accepted', 'wrong']);
    for (const pin of ['1111', '9999', '2222']) {
      expect(outcomes(list(pin))).toEqual(['open', 'unused']);
      expect(outcomes(check(pin))).toEqual(['open', 'unused']);
    }
    expect([a.pins, b.pins]).toEqual([['1111'], ['1111']]);
    expect(outcomes(list('2222', b.info().slice(0, 96)))).toEqual(['unused', 'accepted']);
  });

  test('says what becomes of a PIN without listing keys', () => {
    const a = new FakeToken('a', '1111');
    const { check } = setUp(a);
    expect(check('1112')).toMatchObject({ kind: 'tokens', tokens: [{ pin: 'wrong', triesLost: true }] });
    expect(outcomes(check('1111'))).toEqual(['accepted']);
    a.tries = 1;
    expect(outcomes(setUp(a).check('1111'))).toEqual(['last-try']);
    expect(a.pins).toEqual(['1112', '1111']);
  });

  test('takes a PIN for a token that lost a try before, when it is that one', () => {
    const [a, b] = [new FakeToken('a', '1111'), new FakeToken('b', '2222')];
    a.tries = b.tries = 2;
    expect(outcomes(setUp(a, b).list('1111'))).toEqual(['accepted', 'unused']);
    expect(b.tries).toBe(2);
  });

  test('never makes the last try unless that token was agreed on', () => {
    const [a, b] = [new FakeToken('a', '1111'), new FakeToken('b', '2222')];
    a.tries = 1;
    const { list, sign } = setUp(a, b);
    expect(outcomes(list('1111'))).toEqual(['last-try', 'wrong']);
    expect(sign(a, '1111')).toMatchObject({ kind: 'failure', code: 'pin-needed', tokens: [{ lastTry: true }] });
    expect(a.pins).toEqual([]);
    expect(outcomes(list('1111', a.info().slice(0, 96)))).toEqual(['accepted', 'unused']);
    expect(b.pins).toEqual(['1111']);
  });

  test('does not give a PIN to a locked token', () => {
    const a = new FakeToken('a', '1111');
    a.tries = 0;
    const { list, sign } = setUp(a);
    expect(outcomes(list('1111'))).toEqual(['locked']);
    expect(sign(a, '1111', true)).toMatchObject({ code: 'pin-locked' });
    expect(a.pins).toEqual([]);
  });

  test('says which token wants its PIN, and signs with it', () => {
    const a = new FakeToken('a', '1111');
    const { list, sign } = setUp(a);
    list();
    expect(sign(a)).toMatchObject({ kind: 'failure', code: 'pin-needed', loggedIn: false, tokens: [{ label: 'a' }] });
    expect(sign(a, '1112')).toMatchObject({ code: 'wrong-pin', tokens: [{ triesLost: true }] });
    expect(sign(a, '1111')).toMatchObject({ kind: 'signature', loggedIn: true });
    expect(sign(a)).toMatchObject({ kind: 'signature' });
    expect(a.pins).toEqual(['1112', '1111']);
  });

  test('finds a key again in another slot, and leaves the login of another token alone', () => {
    const [a, b] = [new FakeToken('a', '1111'), new FakeToken('b', '2222')];
    const { cryptoki, list, sign } = setUp(a, b);
    list('1111');
    sign(b, '2222');
    cryptoki.pull(0n);
    expect(sign(a)).toMatchObject({ kind: 'failure', code: 'gone', loggedIn: true });
    cryptoki.slots.set(9n, a);
    expect(sign(a)).toMatchObject({ code: 'pin-needed', tokens: [{ label: 'a', slot: 9n }] });
    expect(sign(a, '1111')).toMatchObject({ kind: 'signature' });
    expect(sign(b)).toMatchObject({ kind: 'signature' });
    expect(b.pins.filter((pin) => pin === '2222')).toHaveLength(1);
  });

  test.each([0x30, 0x32, 0x60, 0x82, 0xb3, 0xe0])('opens a fresh session after CKR %d', (rv) => {
    const a = new FakeToken('a', '1111');
    const { cryptoki, list, sign } = setUp(a);
    list('1111');
    cryptoki.failures.push(rv);
    const before = cryptoki.opened;
    expect(sign(a)).toMatchObject({ kind: 'signature' });
    expect(cryptoki.opened).toBeGreaterThan(before);
    expect(a.pins).toEqual(['1111']);
  });

  test('says so where the device goes on failing', () => {
    const a = new FakeToken('a', '1111');
    const { cryptoki, list, sign } = setUp(a);
    list('1111');
    cryptoki.failures.push(0x30, 0x30);
    expect(sign(a)).toMatchObject({ code: 'device', text: 'C_Sign failed with CKR 0x30', loggedIn: true });
    expect(sign(a)).toMatchObject({ kind: 'signature' });
  });

  test('asks for a login again where the token forgot it', () => {
    const a = new FakeToken('a', '1111');
    const { cryptoki, list, sign } = setUp(a);
    list('1111');
    cryptoki.failures.push(0x101);
    expect(sign(a)).toMatchObject({ code: 'pin-needed', loggedIn: false });
    expect(sign(a, '1111')).toMatchObject({ kind: 'signature' });
  });

  test('answers a request that it cannot read, and goes on', () => {
    const a = new FakeToken('a', '1111');
    const { helper, list } = setUp(a);
    for (const message of [NONE, raw(1), raw(1, 2, str('/p')), fill(300, 255)])
      expect(decodeAnswer(helper.handle(message))).toMatchObject({ kind: 'failure', code: 'malformed' });
    expect(list()).toMatchObject({ kind: 'keys' });
  });

  test('has one provider', () => {
    const { helper, list } = setUp(new FakeToken('a', '1111'));
    list();
    const other = helper.handle(encodeRequest({ kind: 'tokens', path: '/other' }));
    expect(decodeAnswer(other)).toMatchObject({ kind: 'failure', code: 'malformed' });
  });
});
