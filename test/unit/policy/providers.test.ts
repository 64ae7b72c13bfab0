import { describe, expect, test } from 'vitest';
import { allowsProvider, DEFAULT_PROVIDERS } from '../../../src/policy/providers.ts';

describe('the default list', () => {
  test.each([
    '/usr/lib/softhsm/libsofthsm2.so',
    '/usr/lib64/pkcs11/opensc-pkcs11.so',
    '/usr/lib/x86_64-linux-gnu/libykcs11.so.2',
    '/usr/local/lib/a.so',
    '/usr/local/libexec/deep/down/a.so',
  ])('allows %s', (path) => expect(allowsProvider(DEFAULT_PROVIDERS, path)).toBe(true));

  test.each([
    '/tmp/evil.so',
    '/home/u/usr/lib/a.so',
    '/usr/share/a.so',
    '/usr/lib',
    'usr/lib/a.so',
    '/USR/LIB/a.so',
    '',
  ])('refuses %s', (path) => expect(allowsProvider(DEFAULT_PROVIDERS, path)).toBe(false));
});

describe('a list of patterns', () => {
  test('is searched from the first to the last', () => {
    expect(allowsProvider('/opt/a.so,/opt/b.so', '/opt/b.so')).toBe(true);
    expect(allowsProvider('/opt/a.so,/opt/b.so', '/opt/c.so')).toBe(false);
  });

  test('has * for any run, a slash among it, and ? for one character', () => {
    expect(allowsProvider('/opt/*.so', '/opt/x/y/z.so')).toBe(true);
    expect(allowsProvider('/opt/?.so', '/opt/x.so')).toBe(true);
    expect(allowsProvider('/opt/?.so', '/opt/xx.so')).toBe(false);
  });

  test('refuses what a negated pattern matches, in whatever order', () => {
    for (const list of ['/usr/lib/*,!/usr/lib/bad.so', '!/usr/lib/bad.so,/usr/lib/*']) {
      expect(allowsProvider(list, '/usr/lib/bad.so')).toBe(false);
      expect(allowsProvider(list, '/usr/lib/good.so')).toBe(true);
    }
  });

  test('allows nothing by negation alone', () => {
    expect(allowsProvider('!/usr/lib/bad.so', '/usr/lib/good.so')).toBe(false);
  });

  test('that is empty allows nothing', () => {
    expect(allowsProvider('', '/usr/lib/a.so')).toBe(false);
  });

  test('with a pattern beyond the bound allows nothing', () => {
    expect(allowsProvider(`/usr/lib/*,${'a'.repeat(1023)}`, '/usr/lib/a.so')).toBe(false);
    expect(allowsProvider(`/usr/lib/*,${'a'.repeat(1022)}`, '/usr/lib/a.so')).toBe(true);
  });
});

describe('a path that is not canonical', () => {
  test.each(['/usr/lib/../../tmp/evil.so', '/usr/lib/./a.so', '/usr/lib//a.so', '/usr/lib/a/', '/usr/lib/..'])(
    'is refused: %s',
    (path) => expect(allowsProvider('*', path)).toBe(false),
  );

  test('is told from names that only have dots', () => {
    expect(allowsProvider('*', '/usr/lib/..a.so')).toBe(true);
    expect(allowsProvider('*', '/usr/lib/.../a..so')).toBe(true);
  });
});
