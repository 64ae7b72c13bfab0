import { constants, createPublicKey, generateKeyPairSync, privateEncrypt, verify } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { openProvider } from '../../../src/backends/pkcs11.ts';
import { Pkcs11Helper } from '../../../src/backends/pkcs11helper.ts';
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
import { HelperProcess, type HelperProcessError } from '../../../src/backends/pkcs11process.ts';
import { decodeAnswer, decodeRequest, encodeRequest, type HelperAnswer } from '../../../src/backends/pkcs11protocol.ts';
import { missingExport } from '../../../src/backends/providerfile.ts';
import { fill, fromHex, raw, str, u32, u64 } from '../wire/build.ts';
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
    return { cryptoki, helper, list, sign };
  };
  const outcomes = (answer: HelperAnswer): readonly string[] =>
    answer.kind === 'keys' ? answer.tokens.map(({ pin }) => pin) : [answer.kind];

  test('gives the PIN of one token to another once, never a second time', () => {
    const [a, b] = [new FakeToken('a', '1111'), new FakeToken('b', '2222')];
    const first = setUp(a, b);
    expect(outcomes(first.list('2222'))).toEqual(['wrong', 'accepted']);
    for (let i = 0; i < 5; i++) expect(outcomes(setUp(a, b).list('2222'))[1]).toBe('accepted');
    expect(a.pins).toEqual(['2222']);
    expect(a.tries).toBe(2);
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

describe('the helper process', () => {
  const processes: HelperProcess[] = [];
  const start = (script: string, times: { idleMs?: number; endMs?: number } = {}): HelperProcess => {
    const helper = new HelperProcess({
      command: [process.execPath, '-e', script],
      env: {},
      idleMs: 60_000,
      endMs: 300,
      ...times,
      after: (milliseconds, callback) => {
        const timer = setTimeout(callback, milliseconds);
        return () => clearTimeout(timer);
      },
      ended: () => {},
    });
    processes.push(helper);
    return helper;
  };
  afterEach(() => Promise.all(processes.splice(0).map((helper) => helper.close())));

  const ask = async (helper: HelperProcess, milliseconds = 20_000, signal?: AbortSignal): Promise<string> => {
    let got = '';
    const look = (answer: Uint8Array, fresh: boolean): boolean => {
      got = `${Buffer.from(answer).toString()} ${fresh}`;
      return false;
    };
    await helper.request(bytes('question'), milliseconds, look, signal);
    return got;
  };
  const ECHO = `process.stdin.on('data', (d) => process.stdout.write(d))`;

  test('answers one request after the other', async () => {
    const helper = start(ECHO);
    expect(await Promise.all([ask(helper), ask(helper), ask(helper)])).toEqual([
      'question true',
      'question false',
      'question false',
    ]);
  });

  test('is given answers in pieces', async () => {
    const helper = start(`process.stdin.on('data', async (d) => {
      for (const b of d) { process.stdout.write(Buffer.of(b)); await new Promise(setImmediate); } })`);
    expect(await ask(helper)).toBe('question true');
  });

  test('is sent a message that is wiped afterwards', async () => {
    const helper = start(ECHO);
    const message = bytes('1234');
    await helper.request(message, 20_000, () => false);
    expect(message).toEqual(new Uint8Array(4));
    await helper.close();
    const late = bytes('1234');
    await expect(helper.request(late, 20_000, () => false)).rejects.toMatchObject({ code: 'closed' });
    expect(late).toEqual(new Uint8Array(4));
  });

  test.each([
    ['ends', `process.exit(3)`, 'ended with 3'],
    ['is killed', `process.kill(process.pid, 'SIGKILL')`, 'was ended by SIGKILL'],
    [
      'announces too long an answer',
      `process.stdout.write(Buffer.of(0x7f, 0, 0, 0)); setInterval(() => {}, 1e6)`,
      'said what is no answer',
    ],
    [
      'answers twice',
      `process.stdout.write(Buffer.of(0, 0, 0, 1, 1, 9)); setInterval(() => {}, 1e6)`,
      'said what is no answer',
    ],
  ])('that %s fails the request, and another one is started', async (_, script, words) => {
    const helper = start(`process.stdin.once('data', () => { ${script} })`);
    for (let i = 0; i < 2; i++) await expect(ask(helper)).rejects.toThrow(words);
  });

  test('that hangs is killed after its time, and its successor serves who waits', async () => {
    const helper = start(`process.stdin.on('data', () => {})`);
    const first = ask(helper, 400).catch((error: HelperProcessError) => error.code);
    const second = ask(helper, 2000).catch((error: HelperProcessError) => error.code);
    expect(await first).toBe('late');
    expect(await second).toBe('late');
    expect(helper.pid).toBeUndefined();
  });

  test('that cannot be started is told so', async () => {
    const helper = new HelperProcess({
      command: ['/nonexistent/program'],
      env: {},
      idleMs: 1,
      endMs: 1,
      after: () => () => {},
      ended: () => {},
    });
    await expect(ask(helper)).rejects.toMatchObject({ code: 'not-started' });
  });

  test('has no work for a request that was withdrawn before its turn', async () => {
    const helper = start(ECHO);
    const gone = new AbortController();
    gone.abort();
    await expect(ask(helper, 20_000, gone.signal)).rejects.toMatchObject({ code: 'withdrawn' });
    expect(helper.pid).toBeUndefined();
  });

  test('ends when idle, unless it is kept', async () => {
    const helper = start(ECHO, { idleMs: 30 });
    helper.keep = true;
    await ask(helper);
    const { pid } = helper;
    await new Promise((done) => setTimeout(done, 150));
    expect(helper.pid).toBe(pid);
    helper.keep = false;
    await ask(helper);
    for (let i = 0; i < 200 && helper.pid !== undefined; i++) await new Promise((done) => setTimeout(done, 10));
    expect(helper.pid).toBeUndefined();
    expect(await ask(helper)).toBe('question true');
  });

  test('gives nonsense, which is an error in words', async () => {
    const ports = {
      env: {},
      helper: [process.execPath, '-e', ECHO],
      askPin: async () => undefined,
      log: () => {},
    };
    await expect(openProvider('/usr/lib/p.so', NONE, ports)).rejects.toThrow('gave an answer that says nothing');
  });
});

describe('the symbols of a file', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'latchkey-symbols-'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));
  const look = (content: Uint8Array, name: string): string | undefined => {
    const path = join(folder, 'file');
    writeFileSync(path, content);
    return missingExport(path, name);
  };

  const half = (value: number): Uint8Array => raw(value & 255, value >> 8);
  const word = (value: number): Uint8Array => raw(half(value & 0xffff), half(value >>> 16));
  const long = (value: number): Uint8Array => raw(word(value), word(0));

  /** A 64-bit ELF object: header, two symbols (the second is ours), strings, three sections. */
  function elf(
    options: { info?: number; other?: number; section?: number; type?: number; symbols?: number } = {},
  ): Uint8Array {
    const { info = 0x12, other = 0, section = 1, type = 3, symbols = 48 } = options;
    const strings = raw(0, 'C_GetFunctionList', 0);
    const header = raw(
      0x7f,
      'ELF',
      2,
      1,
      1,
      fill(9, 0),
      half(type),
      half(62),
      word(1),
      long(0),
      long(0),
      long(64 + 48 + strings.length),
      word(0),
      half(64),
      half(0),
      half(0),
      half(64),
      half(3),
      half(0),
    );
    const symbol = raw(word(1), info, other, half(section), long(0), long(0));
    const row = (kind: number, offset: number, size: number, link: number): Uint8Array =>
      raw(word(0), word(kind), long(0), long(0), long(offset), long(size), word(link), word(0), long(0), long(24));
    return raw(
      header,
      fill(24, 0),
      symbol,
      strings,
      fill(64, 0),
      row(11, 64, symbols, 2),
      row(3, 64 + 48, strings.length, 0),
    );
  }

  test('of ELF: a global function that is there', () => {
    expect(look(elf(), 'C_GetFunctionList')).toBeUndefined();
    expect(look(elf({ info: 0x22 }), 'C_GetFunctionList')).toBeUndefined();
    expect(look(elf(), 'C_GetFunction')).toBe('it has no C_GetFunction');
    expect(look(elf(), 'GetFunctionList')).toBe('it has no GetFunctionList');
  });

  test.each([
    ['undefined', { section: 0 }],
    ['local', { info: 0x02 }],
    ['data', { info: 0x11 }],
    ['hidden', { other: 2 }],
    ['beyond its table', { symbols: 24 }],
  ])('of ELF: none that is %s', (_, options) => {
    expect(look(elf(options), 'C_GetFunctionList')).toBe('it has no C_GetFunctionList');
  });

  test('of a program are not looked at', () => {
    expect(look(elf({ type: 2 }), 'C_GetFunctionList')).toBe('it is a program or an object file');
  });

  test('of a file that lies about its tables end in words', () => {
    const whole = elf();
    for (let length = 0; length < whole.length - 1; length++)
      expect(look(whole.subarray(0, length), 'C_GetFunctionList')).toEqual(expect.any(String));
    expect(look(elf({ symbols: 0x7fffffff }), 'C_GetFunctionList')).toBe('its tables are too large');
    for (let at = 0; at < whole.length; at++) {
      const spoilt = whole.slice();
      spoilt[at] = 0xff;
      look(spoilt, 'C_GetFunctionList');
    }
  });

  test('of Mach-O, thin and fat', () => {
    const macho = (kind: number, name: string): Uint8Array => {
      const strings = raw(0, name, 0);
      const command = raw(word(2), word(24), word(32 + 24), word(1), word(32 + 24 + 16), word(strings.length));
      const symbol = raw(word(1), kind, 1, half(0), long(0));
      return raw(
        word(0xfeedfacf),
        word(0x0100000c),
        word(0),
        word(6),
        word(1),
        word(24),
        word(0),
        word(0),
        command,
        symbol,
        strings,
      );
    };
    const good = macho(0x0f, '_C_GetFunctionList');
    expect(look(good, 'C_GetFunctionList')).toBeUndefined();
    expect(look(macho(0x01, '_C_GetFunctionList'), 'C_GetFunctionList')).toBe('it has no C_GetFunctionList');
    expect(look(macho(0x0e, '_C_GetFunctionList'), 'C_GetFunctionList')).toBe('it has no C_GetFunctionList');
    expect(look(macho(0x0f, 'C_GetFunctionList'), 'C_GetFunctionList')).toBe('it has no C_GetFunctionList');
    const fat = (...slices: Uint8Array[]): Uint8Array => {
      let at = 8 + 20 * slices.length;
      const rows = slices.map((slice) => {
        const row = raw(u32(0), u32(0), u32(at), u32(slice.length), u32(0));
        at += slice.length;
        return row;
      });
      return raw(u32(0xcafebabe), u32(slices.length), ...rows, ...slices);
    };
    expect(look(fat(good, good), 'C_GetFunctionList')).toBeUndefined();
    expect(look(fat(good, macho(1, '_C_GetFunctionList')), 'C_GetFunctionList')).toBe('it has no C_GetFunctionList');
  });

  test('of this Node, which is a program', () => {
    expect(missingExport(process.execPath, 'C_GetFunctionList')).toMatch(/no C_GetFunctionList|program/);
  });
});
