import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { differences } from './differences.ts';

test('every difference that is listed is asserted by a test, and has a reason', () => {
  const asserted = new Set<string>();
  for (const name of readdirSync(import.meta.dirname).filter((file) => file.endsWith('.test.ts'))) {
    const text = readFileSync(join(import.meta.dirname, name), 'utf8');
    for (const [, found] of text.matchAll(/\bwhere(?:<[^>]*>)?\(\s*agent,\s*'([^']+)'/g)) asserted.add(found ?? '');
  }
  expect([...asserted].sort()).toEqual(Object.keys(differences).sort());
  for (const { openssh, ours, reason } of Object.values(differences))
    for (const words of [openssh, ours, reason]) expect(words).toMatch(/\w+ \w+/);
});
