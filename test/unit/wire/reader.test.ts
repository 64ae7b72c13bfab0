import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_MPINT_BYTES, Reader } from '../../../src/wire/reader.ts';
import { fill, letters, type Part, raw, str, u32, u64 } from './build.ts';
import { expectWireError, wireError } from './thrown.ts';

const read = (...parts: readonly Part[]): Reader => new Reader(raw(...parts));

describe('numbers', () => {
  it('reads u8, u32 and u64 big-endian, up to their largest values', () => {
    const reader = read(0xff, u32(0x01020304), u32(0xffffffff), u64(0x0102030405060708n), u64(2n ** 64n - 1n));
    expect(reader.u8('a')).toBe(255);
    expect(reader.u32('b')).toBe(0x01020304);
    expect(reader.u32('c')).toBe(4294967295);
    expect(reader.u64('d')).toBe(0x0102030405060708n);
    expect(reader.u64('e')).toBe(18446744073709551615n);
    expect(reader.remaining).toBe(0);
  });

  it('is short on every number that is cut', () => {
    expectWireError(() => read().u8('n'), 'short', 'n');
    for (let length = 0; length < 4; length++) expectWireError(() => new Reader(fill(length)).u32('n'), 'short', 'n');
    for (let length = 0; length < 8; length++) expectWireError(() => new Reader(fill(length)).u64('n'), 'short', 'n');
  });

  it('takes any byte but 0 for true', () => {
    const reader = read(0, 1, 2, 255);
    expect([0, 0, 0, 0].map(() => reader.bool('b'))).toEqual([false, true, true, true]);
    expectWireError(() => reader.bool('b'), 'short', 'b');
  });
});

describe('strings', () => {
  it('gives views of the input and not copies', () => {
    const input = raw(str('abc'), str(raw(1, 2)), 7, 8);
    const reader = new Reader(input);
    const string = reader.string('a');
    const mpint = reader.mpint('b');
    const bytes = reader.bytes(1, 'c');
    const rest = reader.rest();
    for (const view of [string, mpint, bytes, rest]) expect(view.buffer).toBe(input.buffer);
    input.fill(0);
    expect([...string, ...mpint, ...bytes, ...rest]).toEqual([0, 0, 0, 0, 0, 0, 0]);
  });

  it('reads from the middle of a larger buffer and never past its own end', () => {
    const whole = raw(9, 9, str('abc'), 9, 9);
    const reader = new Reader(whole.subarray(2, 9));
    expect(reader.string('a')).toEqual(raw('abc'));
    expectWireError(() => reader.u8('b'), 'short');
    expectWireError(() => new Reader(whole.subarray(2, 8)).string('a'), 'short', 'a');
  });

  it.each([3, 4, 0x7fffffff, 0x80000000, 0xffffffff])(
    'is short when a length says %d and two bytes are there',
    (length) => {
      expectWireError(() => read(u32(length), 'ab').string('field'), 'short', 'field');
    },
  );

  it('keeps a bound: at it, one above it', () => {
    expect(read(str(fill(5))).string('f', 5).length).toBe(5);
    expectWireError(() => read(str(fill(6))).string('f', 5), 'too-long', 'f');
    expect(read(str(letters(5))).text('f', 5)).toBe('aaaaa');
    expectWireError(() => read(str(letters(6))).text('f', 5), 'too-long', 'f');
    expect(read(str(fill(5))).child('f', 5).remaining).toBe(5);
    expectWireError(() => read(str(fill(6))).child('f', 5), 'too-long', 'f');
  });

  it('names the bound before the lack of bytes, so that a huge length is never waited for', () => {
    expectWireError(() => read(u32(0xffffffff)).string('f', 5), 'too-long', 'f');
  });

  it('reads nested strings through a child that cannot see its neighbour', () => {
    const reader = read(str(str('in'), 5), str('out'));
    const child = reader.child('nested');
    expect(child.string('a')).toEqual(raw('in'));
    expect(child.u8('b')).toBe(5);
    expectWireError(() => child.u8('c'), 'short', 'c');
    expect(reader.string('d')).toEqual(raw('out'));
  });

  it('does not let an inner length reach past the nested string', () => {
    const child = read(str(u32(6), 'ab'), 'cdef').child('nested');
    expectWireError(() => child.string('inner'), 'short', 'inner');
  });

  it('takes nothing for bytes(0) and is short for one too many', () => {
    expect(read(1).bytes(0, 'f')).toEqual(raw());
    expectWireError(() => read(1).bytes(2, 'f'), 'short', 'f');
  });
});

describe('text', () => {
  it('drops one NUL at the very end and refuses any other', () => {
    expect(read(str('abc', 0)).text('f')).toBe('abc');
    expect(read(str(0)).text('f')).toBe('');
    expect(read(str()).text('f')).toBe('');
    for (const bad of [raw('a', 0, 'b'), raw(0, 'a'), raw('a', 0, 0), raw(0, 0)])
      expectWireError(() => read(str(bad)).text('f'), 'bad-text', 'f');
  });

  const broken: [string, Uint8Array, string][] = [
    ['an overlong slash', raw(0xc0, 0xaf), '\ufffd\ufffd'],
    ['an overlong NUL', raw('a', 0xc0, 0x80, 'b'), 'a\ufffd\ufffdb'],
    ['an overlong three-byte form', raw(0xe0, 0x80, 0xaf), '\ufffd\ufffd\ufffd'],
    ['a surrogate', raw(0xed, 0xa0, 0x80), '\ufffd\ufffd\ufffd'],
    ['above U+10FFFF', raw(0xf4, 0x90, 0x80, 0x80), '\ufffd\ufffd\ufffd\ufffd'],
    ['a lone continuation', raw('a', 0x80, 'b'), 'a\ufffdb'],
    ['a cut sequence at the end', raw('a', 0xf0, 0x9f, 0x98), 'a\ufffd'],
    ['Latin-1', raw('caf', 0xe9), 'caf\ufffd'],
    ['a byte order mark and a stray byte', raw(0xef, 0xbb, 0xbf, 0xff), '\ufeff\ufffd'],
  ];

  it.each(broken)('shows %s as U+FFFD', (_, bytes, shown) => {
    expect(read(str(bytes)).text('f')).toBe(shown);
  });

  it.each(broken)('exactText refuses %s', (_, bytes) => {
    expectWireError(() => read(str(bytes)).exactText('f'), 'bad-text', 'f');
  });

  it('keeps a byte order mark, which is part of a comment like any character', () => {
    expect(read(str(0xef, 0xbb, 0xbf, 'a')).text('f')).toBe('\ufeffa');
    expect(read(str(0xef, 0xbb, 0xbf, 'a')).exactText('f')).toBe('\ufeffa');
  });

  it('reads good text well after text that was cut in a character', () => {
    for (const tail of [raw(0xf0, 0x9f, 0x98), raw(0xe2, 0x82), raw(0xc3), raw(0xff)]) {
      read(str('x', tail)).text('bad');
      expect(read(str('é😀')).text('good')).toBe('é😀');
    }
  });

  it('gives back any well-formed text without NUL, both ways', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (given) => {
        fc.pre(!given.includes('\u0000'));
        const bytes = str(given);
        expect(new Reader(bytes).text('f')).toBe(given);
        expect(new Reader(bytes).exactText('f')).toBe(given);
      }),
    );
  });

  it('exactText keeps the bound and the rule for NUL', () => {
    expect(read(str('abc', 0)).exactText('f')).toBe('abc');
    expectWireError(() => read(str('a', 0, 'b')).exactText('f'), 'bad-text', 'f');
    expectWireError(() => read(str(letters(6))).exactText('f', 5), 'too-long', 'f');
  });
});

describe('mpint', () => {
  it('gives the magnitude without leading zeros', () => {
    expect(read(str()).mpint('n')).toEqual(raw());
    expect(read(str(0)).mpint('n')).toEqual(raw());
    expect(read(str(0x7f)).mpint('n')).toEqual(raw(0x7f));
    expect(read(str(0, 0x80)).mpint('n')).toEqual(raw(0x80));
    expect(read(str(0, 0, 0, 1, 0)).mpint('n')).toEqual(raw(1, 0));
  });

  it('refuses a negative number', () => {
    expectWireError(() => read(str(0x80)).mpint('n'), 'bad-value', 'n');
    expectWireError(() => read(str(0xff, 0)).mpint('n'), 'bad-value', 'n');
  });

  it('takes MAX_MPINT_BYTES with their sign byte, and no more', () => {
    expect(MAX_MPINT_BYTES).toBe(2049);
    expect(read(str(0, fill(2048, 0xff))).mpint('n').length).toBe(2048);
    expect(read(str(fill(2048, 0x7f))).mpint('n').length).toBe(2048);
    expectWireError(() => read(str(0, 0, fill(2048, 0xff))).mpint('n'), 'too-long', 'n');
  });

  it('refuses 16385 bits, as the first byte of the longest form may only be a sign', () => {
    expectWireError(() => read(str(1, fill(2048))).mpint('n'), 'too-long', 'n');
  });
});

describe('the end', () => {
  it('accepts nothing left and names what is left', () => {
    read().end('request');
    const error = wireError(() => read(1, 2).end('request'));
    expect([error.code, error.field]).toEqual(['trailing', 'request']);
  });

  it('says what was consumed, and what is left', () => {
    const reader = read(str('ab'), 1, 2);
    reader.string('a');
    expect(reader.consumed()).toEqual(str('ab'));
    expect(reader.rest()).toEqual(raw(1, 2));
    expect(reader.rest()).toEqual(raw());
    expect(reader.remaining).toBe(0);
  });

  it('quotes no content in an error', () => {
    const secret = 'correct horse';
    for (const act of [
      () => read(str(secret, 0, secret)).text('pin'),
      () => read(str(secret, 0xff)).exactText('pin'),
      () => read(str(secret)).string('pin', 3),
      () => read(raw(secret)).end('request'),
      () => read(u32(99), secret).string('pin'),
    ])
      expect(wireError(act).message).not.toContain('horse');
  });
});
