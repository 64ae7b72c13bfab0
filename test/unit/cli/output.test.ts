import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { jsonText, shown, VERSION } from '../../../src/cli/output.ts';

describe('text of others', () => {
  it.each(['my comment', 'DOMAIN\\user', 'C:\\keys\\id', 'Пароль 鍵 🔑', '', '\\', 'x'.repeat(5000)])(
    'is left as it is where it is safe: %j',
    (text) => {
      expect(shown(text)).toBe(text);
    },
  );

  it.each([
    ['a\x1b[2Jb', 'a\\x1b[2Jb'],
    ['two\nlines', 'two\\x0alines'],
    ['back\\slash and \x07', 'back\\\\slash and \\x07'],
    ['\u202egnp.exe', '\\u{202e}gnp.exe'],
    ['\x9b31m', '\\x9b31m'],
  ])('is made visible where it is not: %j', (text, safe) => {
    expect(shown(text)).toBe(safe);
  });

  it('is printed as JSON that reads back the same, and drives no terminal', () => {
    const value = { text: 'a\x1b\x9b\u202e\u{e0001}é鍵"\\' };
    for (const indent of [undefined, 2]) {
      const printed = jsonText(value, indent);
      expect(JSON.parse(printed)).toEqual(value);
      expect(printed.replaceAll('\n', '')).not.toMatch(/[\p{Cc}\p{Cf}]/u);
      expect(printed).toContain('é鍵');
    }
  });
});

it('has the version of the package', () => {
  const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
  expect(VERSION).toBe(version);
});
