import { describe, expect, test } from 'vitest';
import {
  allowsProvider,
  DEFAULT_PROVIDERS,
  MAX_PROVIDER_PATTERN,
  parseProviderPatterns,
} from '../../../src/policy/providers.ts';

const allows = (list: string, path: string): boolean => {
  const patterns = parseProviderPatterns(list);
  if (patterns === undefined) throw new Error('no list');
  return allowsProvider(patterns, path);
};

describe('the default list', () => {
  test.each([
    '/usr/lib/softhsm/libsofthsm2.so',
    '/usr/lib64/pkcs11/opensc-pkcs11.so',
    '/usr/lib/x86_64-linux-gnu/libykcs11.so.2',
    '/usr/local/lib/a.so',
    '/usr/local/libexec/deep/down/a.so',
  ])('allows %s', (path) => expect(allows(DEFAULT_PROVIDERS, path)).toBe(true));

  test.each([
    '/tmp/evil.so',
    '/home/u/usr/lib/a.so',
    '/usr/share/a.so',
    '/usr/lib',
    'usr/lib/a.so',
    '/USR/LIB/a.so',
    '',
  ])('refuses %s', (path) => expect(allows(DEFAULT_PROVIDERS, path)).toBe(false));
});

describe('a list of patterns', () => {
  test('is searched from the first to the last', () => {
    expect(allows('/opt/a.so,/opt/b.so', '/opt/b.so')).toBe(true);
    expect(allows('/opt/a.so,/opt/b.so', '/opt/c.so')).toBe(false);
  });

  test('has * for any run, a slash among it, and ? for one character', () => {
    expect(allows('/opt/*.so', '/opt/x/y/z.so')).toBe(true);
    expect(allows('/opt/?.so', '/opt/x.so')).toBe(true);
    expect(allows('/opt/?.so', '/opt/xx.so')).toBe(false);
  });

  test('refuses what a negated pattern matches, in whatever order', () => {
    for (const list of ['/usr/lib/*,!/usr/lib/bad.so', '!/usr/lib/bad.so,/usr/lib/*']) {
      expect(allows(list, '/usr/lib/bad.so')).toBe(false);
      expect(allows(list, '/usr/lib/good.so')).toBe(true);
    }
  });

  test('allows nothing by negation alone', () => {
    expect(allows('!/usr/lib/bad.so', '/usr/lib/good.so')).toBe(false);
  });

  test('that is empty allows nothing', () => {
    expect(allows('', '/usr/lib/a.so')).toBe(false);
  });

  test('with a pattern beyond the bound is no list', () => {
    expect(parseProviderPatterns(`/usr/lib/*,${'a'.repeat(MAX_PROVIDER_PATTERN + 1)}`)).toBeUndefined();
    expect(parseProviderPatterns(`/usr/lib/*,${'a'.repeat(MAX_PROVIDER_PATTERN)}`)).toBeDefined();
  });
});

describe('a path that is not canonical', () => {
  test.each(['/usr/lib/../../tmp/evil.so', '/usr/lib/./a.so', '/usr/lib//a.so', '/usr/lib/a/', '/usr/lib/..'])(
    'is refused: %s',
    (path) => expect(allows('*', path)).toBe(false),
  );

  test('is told from names that only have dots', () => {
    expect(allows('*', '/usr/lib/..a.so')).toBe(true);
    expect(allows('*', '/usr/lib/.../a..so')).toBe(true);
  });
});
