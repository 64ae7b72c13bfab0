import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { matchGlob } from '../../../src/keys/glob.ts';

/** The definition, word for word; exponential, so for short texts only. */
function reference(text: string, pattern: string): boolean {
  if (pattern === '') return text === '';
  const rest = pattern.slice(1);
  if (pattern[0] === '*') return reference(text, rest) || (text !== '' && reference(text.slice(1), pattern));
  return text !== '' && (pattern[0] === '?' || pattern[0] === text[0]) && reference(text.slice(1), rest);
}

describe('matchGlob', () => {
  it.each([
    ['', '', true],
    ['', '*', true],
    ['', '?', false],
    ['a', '', false],
    ['host.example.org', '*.example.org', true],
    ['host.example.org', '*.example.com', false],
    ['example.org', '*.example.org', false],
    ['Host', 'host', false],
    ['ab', '?', false],
    ['ab', '??', true],
    ['a,b', 'a', false],
    ['!a', '!a', true],
    ['a[b]', 'a[b]', true],
    ['a*b', 'a*b', true],
    ['mississippi', 'm*iss*p?', true],
    ['mississippi', 'm*iss*s?', false],
  ])('%j against %j is %s', (text, pattern, expected) => {
    expect(matchGlob(text, pattern)).toBe(expected);
  });

  it('counts bytes, as OpenSSH does', () => {
    expect(matchGlob('é', '?')).toBe(false);
    expect(matchGlob('é', '??')).toBe(true);
    expect(matchGlob('é', 'é')).toBe(true);
  });

  it('agrees with the definition on all that is short', () => {
    const text = fc.string({ unit: fc.constantFrom('a', 'b'), maxLength: 8 });
    const pattern = fc.string({ unit: fc.constantFrom('a', 'b', '*', '?'), maxLength: 6 });
    fc.assert(
      fc.property(text, pattern, (t, p) => matchGlob(t, p) === reference(t, p)),
      { numRuns: 2000 },
    );
  });

  // With a step back for every star this would not end before the sun does.
  it('comes to an end with 200 stars against 10,000 characters', () => {
    const text = 'a'.repeat(10_000);
    expect(matchGlob(text, `${'*a'.repeat(200)}*b`)).toBe(false);
    expect(matchGlob(text, '*'.repeat(200))).toBe(true);
    expect(matchGlob(text, `${'*'.repeat(199)}b`)).toBe(false);
    expect(matchGlob(text, `${'*?'.repeat(200)}`)).toBe(true);
  });
});
