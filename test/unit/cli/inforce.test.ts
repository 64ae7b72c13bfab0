import { describe, expect, test } from 'vitest';
import { withRule } from '../../../src/cli/inforce.ts';

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
});
