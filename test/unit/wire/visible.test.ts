import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_VISIBLE, visible } from '../../../src/wire/visible.ts';

describe('what is shown as it is', () => {
  it.each([
    'me@host',
    'ключ',
    '鍵 キー 열쇠',
    'مفتاح',
    'é ü ñ',
    'e\u0301',
    '😀 🔑',
    '👍🏽',
    '🇩🇪',
    'a b',
    '~/.ssh/id_ed25519',
    '',
  ])('keeps %j', (text) => {
    expect(visible(text)).toBe(text);
  });
});

describe('what is not', () => {
  it.each([
    ['escape sequences', '\u001b[31mred', '\\x1b[31mred'],
    ['a title change', '\u001b]0;x\u0007', '\\x1b]0;x\\x07'],
    ['C1 controls', '\u009b31m', '\\x9b31m'],
    ['line ends', 'a\r\nb', 'a\\x0d\\x0ab'],
    ['tab, NUL, delete', '\t\u0000\u007f', '\\x09\\x00\\x7f'],
    ['soft hyphen', 'a\u00adb', 'a\\xadb'],
    ['an override of direction', 'a\u202eb', 'a\\u{202e}b'],
    ['isolates', '\u2066a\u2069', '\\u{2066}a\\u{2069}'],
    ['the Arabic letter mark', '\u061c', '\\u{61c}'],
    ['zero-width space, joiner and non-joiner', '\u200b\u200c\u200d', '\\u{200b}\\u{200c}\\u{200d}'],
    ['word joiner and byte order mark', '\u2060\ufeff', '\\u{2060}\\u{feff}'],
    ['line and paragraph separators', '\u2028\u2029', '\\u{2028}\\u{2029}'],
    ['Hangul fillers', '\u3164\uffa0\u115f', '\\u{3164}\\u{ffa0}\\u{115f}'],
    ['tags', '\u{e0001}\u{e0041}', '\\u{e0001}\\u{e0041}'],
    ['variation selectors', '\ufe0f\u{e0100}', '\\u{fe0f}\\u{e0100}'],
    ['code points that are no characters', '\ufdd0\ufffe\uffff\u{1fffe}', '\\u{fdd0}\\u{fffe}\\u{ffff}\\u{1fffe}'],
    ['musical and shorthand controls', '\u{1d173}\u{1bca0}', '\\u{1d173}\\u{1bca0}'],
    ['hieroglyph controls', '\u{13430}', '\\u{13430}'],
    ['a high surrogate alone', 'a\ud800b', 'a\\u{d800}b'],
    ['a low surrogate alone', '\udc00', '\\u{dc00}'],
    ['surrogates in the wrong order', '\udc00\ud800', '\\u{dc00}\\u{d800}'],
    ['the backslash, so that nobody can write an escape himself', 'a\\x1b', 'a\\\\x1b'],
  ])('shows %s', (_, given, shown) => {
    expect(visible(given)).toBe(shown);
  });

  it('leaves no control, format, ignorable or bidirectional control character of Unicode', () => {
    const unsafe = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\p{Bidi_Control}]/u;
    const kept: string[] = [];
    for (let code = 0; code <= 0x10ffff; code++) {
      const character = String.fromCodePoint(code);
      if (unsafe.test(character) && visible(character) === character) kept.push(code.toString(16));
    }
    expect(kept).toEqual([]);
  });

  it('leaves no control character in any text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (given) => {
        expect(visible(given)).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]/);
      }),
    );
  });

  it('shows two texts differently', () => {
    const unit = fc.constantFrom('\\', 'x', '1', 'b', 'u', '{', '}', '\u001b', '\u202e', '…');
    fc.assert(
      fc.property(fc.string({ unit, maxLength: 8 }), fc.string({ unit, maxLength: 8 }), (a, b) => {
        expect(visible(a) === visible(b)).toBe(a === b);
      }),
      { numRuns: 2000 },
    );
  });
});

describe('cutting', () => {
  it('cuts after max characters and marks the cut', () => {
    expect(visible('abcdef', 6)).toBe('abcdef');
    expect(visible('abcdefg', 6)).toBe('abcdef…');
    expect(visible('a', 0)).toBe('…');
    expect(visible('', 0)).toBe('');
  });

  it('has a bound of its own', () => {
    expect(visible('a'.repeat(MAX_VISIBLE))).toBe('a'.repeat(MAX_VISIBLE));
    expect(visible('a'.repeat(MAX_VISIBLE + 1))).toBe(`${'a'.repeat(MAX_VISIBLE)}…`);
    expect(visible('a'.repeat(1_000_000)).length).toBe(MAX_VISIBLE + 1);
  });

  it('counts characters and not code units, and cuts none in two', () => {
    expect(visible('😀😀😀', 3)).toBe('😀😀😀');
    expect(visible('😀😀😀😀', 3)).toBe('😀😀😀…');
    expect(visible(`${'😀'.repeat(10)}\u001b`, 10)).toBe(`${'😀'.repeat(10)}…`);
  });

  it('counts before it escapes, so that a cut is never inside of an escape', () => {
    expect(visible('\u001b\u001b\u001b', 2)).toBe('\\x1b\\x1b…');
    expect(visible('\\\\\\', 2)).toBe('\\\\\\\\…');
  });

  it('never shows more characters than asked', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), fc.nat(20), (text, max) => {
        const count = [...text].length;
        expect(visible(text, max).endsWith('…') || count <= max).toBe(true);
        if (count <= max) expect(visible(text, max)).toBe(visible(text, 10_000));
      }),
    );
  });
});
