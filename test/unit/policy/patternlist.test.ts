import { describe, expect, it } from 'vitest';
import { matchPatternList } from '../../../src/policy/patternlist.ts';

describe('a pattern list', () => {
  it.each([
    ['ssh:x', 'ssh:*', true],
    ['ssh:x', 'a,ssh:?', true],
    ['ssh:x', 'ssh:*,!ssh:x', false],
    ['ssh:x', '!ssh:x,ssh:*', false],
    ['ssh:y', '!ssh:x', false],
    ['/usr/lib/a/b.so', '/usr/lib*/*,/usr/local/lib*/*', true],
    ['/tmp/b.so', '/usr/lib*/*,/usr/local/lib*/*', false],
    ['A', 'a', false],
    ['', '', false],
    ['', 'a,', false],
    ['', ',a', true],
    ['', '*', true],
    ['x', '', false],
    ['a'.repeat(1022), 'a'.repeat(1022), true],
    ['a'.repeat(1023), 'a'.repeat(1023), false],
  ])('%j against %j: %j', (value, list, matches) => {
    expect(matchPatternList(value, list)).toBe(matches);
  });
});
