import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { base64, concat, copy, equal, fromBase64, hex, text, utf8 } from '../../../src/wire/bytes.ts';
import { fill, raw } from './build.ts';

const bytes = () => fc.uint8Array({ maxLength: 64 });

describe('utf8 and text', () => {
  it('writes UTF-8', () => {
    expect(utf8('aé€😀')).toEqual(raw(0x61, 0xc3, 0xa9, 0xe2, 0x82, 0xac, 0xf0, 0x9f, 0x98, 0x80));
  });

  it('reads UTF-8 and keeps a byte order mark', () => {
    expect(text(raw(0xef, 0xbb, 0xbf, 0x61))).toBe('\ufeffa');
  });

  it('keeps the byte order mark where the rest is not UTF-8', () => {
    expect(text(raw(0xef, 0xbb, 0xbf, 0xff))).toBe('\ufeff\ufffd');
  });

  it.each([
    ['a stray byte', raw('a', 0xff, 'b')],
    ['a cut sequence', raw('a', 0xe2, 0x82)],
    ['an overlong NUL', raw(0xc0, 0x80)],
    ['a surrogate', raw(0xed, 0xa0, 0x80)],
    ['a number above U+10FFFF', raw(0xf4, 0x90, 0x80, 0x80)],
  ])('shows %s as U+FFFD and does not throw', (_, given) => {
    const shown = text(given);
    expect(shown).toContain('\ufffd');
    expect(shown).not.toContain('\u0000');
  });
});

describe('concat and copy', () => {
  it('joins in order, empty parts and none too', () => {
    expect(concat(raw(1, 2), raw(), raw(3))).toEqual(raw(1, 2, 3));
    expect(concat()).toEqual(raw());
  });

  it('gives a copy that does not change with the original', () => {
    const original = raw(1, 2, 3);
    const joined = concat(original);
    const copied = copy(original);
    original.fill(9);
    expect([joined, copied]).toEqual([raw(1, 2, 3), raw(1, 2, 3)]);
  });

  it('copies a view with nothing around it, and does so for a Buffer', () => {
    const whole = Buffer.from([0, 1, 2, 3, 4]);
    const copied = copy(whole.subarray(1, 3));
    whole.fill(9);
    expect([...copied]).toEqual([1, 2]);
    expect(copied.buffer).not.toBe(whole.buffer);
    expect(copied.buffer.byteLength).toBe(2);
  });
});

describe('equal', () => {
  it('tells equal bytes from others', () => {
    expect(equal(raw(1, 2), raw(1, 2))).toBe(true);
    expect(equal(raw(1, 2), raw(1, 3))).toBe(false);
    expect(equal(raw(1, 2), raw(1, 2, 0))).toBe(false);
    expect(equal(raw(), raw())).toBe(true);
  });

  it('compares views by what they show', () => {
    const whole = raw(1, 2, 1, 2);
    expect(equal(whole.subarray(0, 2), whole.subarray(2))).toBe(true);
  });
});

describe('hex and base64', () => {
  it('agree with Node', () => {
    fc.assert(
      fc.property(bytes(), (given) => {
        expect(hex(given)).toBe(Buffer.from(given).toString('hex'));
        expect(base64(given)).toBe(Buffer.from(given).toString('base64'));
        expect(fromBase64(base64(given))).toEqual(given);
      }),
    );
  });

  it('writes arrays longer than one call can take', () => {
    const long = fill(300_000, 0xfb);
    expect(base64(long)).toBe(Buffer.from(long).toString('base64'));
  });

  it.each([
    'A',
    'AA',
    'AAA',
    'AA=',
    '=',
    '==',
    '====',
    'A===',
    'AAAA\n',
    ' AAAA',
    'AA-_',
    'AAAA=AAA',
    'AA==AAAA',
    'é===',
  ])('refuses %j', (given) => {
    expect(fromBase64(given)).toBeUndefined();
  });

  it('refuses padding bits that are not zero, so that one key has one text', () => {
    expect(fromBase64('AB==')).toBeUndefined();
    expect(fromBase64('AAF=')).toBeUndefined();
    expect(fromBase64('AA==')).toEqual(raw(0));
    expect(fromBase64('AAE=')).toEqual(raw(0, 1));
  });

  it('never throws', () => {
    fc.assert(fc.property(fc.string(), (given) => void fromBase64(given)));
    fc.assert(fc.property(fc.stringMatching(/^[AB=]{0,9}$/), (given) => void fromBase64(given)));
  });
});
