import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { lookAlike } from '../../../src/policy/lookalikes.ts';
import { MAX_DECORATION, safe, shown, shownFolder } from '../../../src/policy/names.ts';

describe('a name in a sentence', () => {
  it.each([
    'root',
    'git',
    'github.com',
    '[db1]:2222',
    'user@host',
    '2001:db8::1',
    'строитель',
    'müller',
    'Ελένη',
    '東京タワー',
    'a+b~c=d%e/f#g^h',
    'nai\u0308f',
  ])('stands as it is where it is a plain word: %s', (name) => {
    expect(shown(name, 64)).toBe(name);
  });

  it.each([
    ['nothing', '', '""'],
    ['blanks', 'two words', '"two words"'],
    ['punctuation of ours', 'a, b; c', '"a, b; c"'],
    ['our mark', 'x (verified)', '"x \\x28verified\\x29"'],
    ['quotes that would end ours', 'x" on y', '"x\\x22 on y"'],
    [
      'brackets and quotes of other writings',
      '（x）“y”「z」',
      '"\\u{ff08}x\\u{ff09}\\u{201c}y\\u{201d}\\u{300c}z\\u{300d}"',
    ],
    ['what passes for a double quote', 'x″y', '"x\\u{2033}y"'],
    ['blanks of other widths', 'a\u00a0b\u3000c\u2800d', '"a\\xa0b\\u{3000}c\\u{2800}d"'],
    ['line ends', 'a\nb', '"a\\x0ab"'],
    ['a change of direction', 'a\u202eb', '"a\\u{202e}b"'],
    ['our mark of a cut', 'a…', '"a\\u{2026}"'],
    ['a mark that would sit on our letters', '\u0301a', '\\u{301}a'],
    ['marks piled up', `a${'\u0301'.repeat(6)}`, `a${'\u0301'.repeat(4)}\\u{301}\\u{301}`],
    ['an escape written by hand', '\\x28', '\\\\x28'],
  ])('is safe with %s', (_, name, expected) => {
    expect(shown(name, 64)).toBe(expected);
  });

  it('is cut with a mark, within its bound also where characters are escaped', () => {
    expect(shown('abcdef', 6)).toBe('abcdef');
    expect(shown('abcdefg', 6)).toBe('abcdef…');
    expect(shown('two words', 4)).toBe('"two …"');
    expect(shown('ab\u001b\u001b', 7)).toBe('"ab\\x1b…"');
    expect(shown('x'.repeat(1_000_000), 10)).toBe(`${'x'.repeat(10)}…`);
  });

  it('never holds what our own marks are made of, whatever it is, and keeps its bound', () => {
    const unit = fc.constantFrom(
      ...' (verified)claimed",:;…\u202e\u0301\ud800і\n\\'.split(''),
      'ａ',
      '（',
      ' (verified)',
    );
    const name = fc.oneof(fc.string({ unit }), fc.string({ unit: 'binary' }), fc.string({ unit: 'grapheme' }));
    fc.assert(
      fc.property(name, fc.integer({ min: 0, max: 40 }), (given, max) => {
        const made = shown(given, max);
        expect(made.length).toBeLessThanOrEqual(max + MAX_DECORATION);
        expect(made.replace(/ \((?:mixed alphabets|look-alike letters)!\)$/, '')).not.toMatch(/[()]/);
        expect(made).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/u);
        const inner = /^"(.*)"/s.exec(made)?.[1];
        if (inner === undefined) expect(made.replace(/ \(.*$/, '')).not.toMatch(/[\s,;"]/);
        else expect(inner).not.toContain('"');
        expect(safe(given, max).length).toBeLessThanOrEqual(max + 1);
      }),
      { numRuns: 2000 },
    );
  });

  it('differs from every other, as long as neither is cut', () => {
    const unit = fc.constantFrom('(', '\\', 'x', '2', '8', '"', ' ', 'a', '…');
    fc.assert(
      fc.property(fc.string({ unit, maxLength: 6 }), fc.string({ unit, maxLength: 6 }), (a, b) => {
        expect(shown(a, 99) === shown(b, 99)).toBe(a === b);
      }),
      { numRuns: 2000 },
    );
  });
});

describe('a warning of look-alikes', () => {
  it.each([
    ['a Cyrillic letter among Latin ones', 'g\u0456thub.com', 'mixed alphabets!'],
    ['a Greek letter among Latin ones', 'r\u03bfot', 'mixed alphabets!'],
    ['an Armenian letter among Latin ones', 'r\u0585ot', 'mixed alphabets!'],
    ['Cyrillic and Greek', 'д\u03bf', 'mixed alphabets!'],
    [
      'a word of Cyrillic letters that all pass for Latin',
      '\u0440\u0430\u0443\u0440\u0430\u04cf.com',
      'look-alike letters!',
    ],
    ['a Latin letter that passes for another', '\u0261ithub.com', 'look-alike letters!'],
    ['a letter without its dot', 'g\u0131thub.com', 'look-alike letters!'],
    ['wide letters', '\uff52oot', 'look-alike letters!'],
    ['letters of mathematics', '\u{1d42b}oot', 'look-alike letters!'],
    ['a dot that is none', 'github\u2024com', 'look-alike letters!'],
    ['a slash that is none', 'a\uff0fb', 'look-alike letters!'],
  ] as const)('is given for %s', (_, name, warning) => {
    expect(lookAlike(name)).toBe(warning);
    expect(shown(name, 64)).toMatch(new RegExp(`^"?${name}"? \\(${warning}\\)$`));
  });

  it.each([
    'github.com',
    'пример.com',
    'müller.example',
    'Ελένη@db1',
    '日本語ドメイン',
    'Tシャツ',
    '서버1',
    'خادم',
    'naïve',
    '',
    '😀',
  ])('is not given for %s', (name) => {
    expect(lookAlike(name)).toBeUndefined();
  });
});

describe('a folder', () => {
  it.each([
    ['/home/me/src/x', '/home/me', '~/src/x'],
    ['/home/me', '/home/me', '~'],
    ['/home/melissa', '/home/me', '/home/melissa'],
    ['/srv', undefined, '/srv'],
    ['/srv', '/', '/srv'],
    ['/home/me/My (old)', '/home/me', '"~/My \\x28old\\x29"'],
    ['/very/long/path/to/some/project', undefined, '…/to/some/project'],
    ['/averyveryverylongfoldername', undefined, '/averyveryverylongfo…'],
    ['/a/averyveryverylongfoldername', undefined, '/a/averyveryverylong…'],
    ['', undefined, '""'],
  ])('%s with home %s is %s', (path, home, expected) => {
    expect(shownFolder(path, home, 20)).toBe(expected);
  });
});
