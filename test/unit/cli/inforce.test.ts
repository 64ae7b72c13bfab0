import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ConfigurationInForce, hasRule, withRule } from '../../../src/cli/inforce.ts';

const rule = '[[rule]]\neffect = "allow"\n';

describe('the rule of an answer', () => {
  test('is the last where no rule asked', () => {
    expect(withRule('', rule, undefined)).toBe(rule);
    expect(withRule('[ask]\nseconds = 5', rule, undefined)).toBe(`[ask]\nseconds = 5\n\n${rule}`);
  });

  test('comes before the rule that asked and its comments, and after those that denied', () => {
    const content = '[[rule]]\neffect = "deny"\n\n# mine\n[[rule]]\neffect = "ask"\n';
    expect(withRule(content, rule, 5)).toBe(`[[rule]]\neffect = "deny"\n\n${rule}\n# mine\n[[rule]]\neffect = "ask"\n`);
  });

  test('is the last where the file has changed and another thing stands in that line', () => {
    expect(withRule('[[rule]]\neffect = "ask"\n', rule, 2)).toBe(`[[rule]]\neffect = "ask"\n\n${rule}`);
  });

  test('is known where it stands already, whole and not behind the rule that asked', () => {
    const asks = '# mine\n[[rule]]\neffect = "ask"\n';
    expect(hasRule(withRule(asks, rule, 2), rule, 2)).toBe(true);
    expect(hasRule(withRule('[ask]\nseconds = 5', rule, undefined), rule, undefined)).toBe(true);
    expect(hasRule(asks, rule, 2)).toBe(false);
    expect(hasRule(`${asks}\n${rule}`, rule, 2)).toBe(false);
    expect(hasRule(`${rule}key = "x"\n`, rule, undefined)).toBe(false);
    expect(hasRule(`${rule}\n# more\nkey = "x"\n`, rule, undefined)).toBe(false);
  });

  test('is written once, and not lost where another is written at the same time', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'latchkey-inforce-'));
    try {
      const file = join(folder, 'config.toml');
      const inForce = await ConfigurationInForce.read(file, 'latchkey', () => {});
      const rules = ['git', 'file'].map((namespace) => `${rule}namespace = ["${namespace}"]\n`);
      // The first is the answer to two requests.
      const added = [...rules, rules[0] as string].map((one) => inForce.addRule(one, undefined));
      expect(await Promise.all(added)).toEqual([true, true, true]);
      expect(readFileSync(file, 'utf8')).toBe(rules.join('\n'));
      expect(inForce.status().rules).toBe(2);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
