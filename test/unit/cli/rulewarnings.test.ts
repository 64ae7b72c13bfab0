import { describe, expect, it } from 'vitest';
import { covers, ruleWarnings } from '../../../src/cli/rulewarnings.ts';
import type { Effect, Rule } from '../../../src/policy/rules.ts';
import { letters } from '../wire/build.ts';

const print = `SHA256:${letters(43)}`;

function rule(effect: Effect, conditions: Partial<Rule> = {}): Rule {
  return { name: 'rule 1', line: 1, effect, lasts: 'once', ...conditions };
}

type Pair = readonly [Effect, Partial<Rule>, Effect, Partial<Rule>];

const covered = ([first, wide, second, narrow]: Pair): boolean => covers(rule(first, wide), rule(second, narrow));

describe('a rule covers a later one', () => {
  it.each<Pair>([
    ['deny', {}, 'allow', {}],
    ['ask', {}, 'allow', { host: ['web'] }],
    ['deny', { host: ['*.net'] }, 'ask', { host: ['a.net', 'B.net'] }],
    ['deny', { host: ['web'] }, 'allow', { host: ['web'] }],
    ['allow', { via: ['*'] }, 'allow', { via: ['web', 'db*'] }],
    ['deny', { program: ['git'] }, 'deny', { program: ['/usr/bin/git'] }],
    ['deny', { program: ['*', '!git'] }, 'deny', { program: ['*', '!git'] }],
    ['deny', { key: [print] }, 'allow', { key: [print], user: ['git'] }],
    ['deny', { key: ['*'] }, 'allow', { key: [print] }],
    ['deny', { origin: ['forwarded'] }, 'allow', { origin: ['guard'] }],
    ['deny', {}, 'allow', { purpose: ['unidentified'] }],
    ['ask', {}, 'allow', { purpose: ['login', 'sudo'] }],
    ['ask', { origin: ['local'] }, 'deny', { origin: ['local'], purpose: ['unidentified'] }],
    ['ask', { purpose: ['login', 'sudo'] }, 'deny', { purpose: ['sudo'] }],
  ])('%s %j, %s %j', (...pair) => expect(covered(pair)).toBe(true));
});

describe('a rule does not cover one that', () => {
  it.each<readonly [string, ...Pair]>([
    ['is wider', 'deny', { host: ['web'] }, 'deny', {}],
    ['is of another name', 'deny', { host: ['web'] }, 'deny', { host: ['web', 'db'] }],
    ['is of a pattern', 'deny', { host: ['a*b*'] }, 'deny', { host: ['a*'] }],
    ['is of unknown hosts too', 'allow', { host: ['*'] }, 'deny', { host: ['*'] }],
    ['is of any host on the way', 'allow', { via: ['web'] }, 'deny', { via: ['web'] }],
    ['is of what comes by any program', 'allow', { program: ['git'] }, 'ask', { program: ['git'] }],
    ['is of overlong users too', 'allow', { user: ['*'] }, 'deny', { user: ['*'] }],
    ['is for other purposes', 'ask', {}, 'deny', {}],
    ['is for a purpose that is to be written out', 'ask', {}, 'allow', { purpose: ['login', 'unidentified'] }],
    ['is for more than those named', 'deny', { purpose: ['login', 'sshsig', 'sudo'] }, 'ask', {}],
    ['is of this machine', 'deny', { origin: ['forwarded'] }, 'deny', { origin: ['local'] }],
    ['is of both origins', 'deny', { origin: ['guard'] }, 'deny', { origin: ['forwarded'] }],
    ['takes out less', 'deny', { host: ['*', '!web'] }, 'deny', { host: ['*'] }],
    ['takes out the same with other effect', 'ask', { host: ['!web'] }, 'deny', { host: ['!web'] }],
    ['is of the name of a program', 'deny', { program: ['/usr/bin/git'] }, 'deny', { program: ['git'] }],
    ['is of a comment', 'deny', { key: [print] }, 'deny', { key: ['work'] }],
  ])('%s', (_, ...pair) => expect(covered(pair)).toBe(false));
});

describe('a warning', () => {
  const warned = (...rules: readonly Rule[]): readonly string[] => ruleWarnings(rules).map(({ text }) => text);

  it.each<readonly [RegExp, Effect, Partial<Rule>]>([
    [/never matches: nothing that comes from here/, 'deny', { via: ['web'], origin: ['local'] }],
    [/never matches: from afar no program/, 'allow', { program: ['/bin/git'], origin: ['forwarded', 'guard'] }],
    [/never matches: user is of logins/, 'deny', { user: ['git'], namespace: ['git'] }],
    [/never matches: namespace is of purpose "sshsig"/, 'deny', { namespace: ['git'], purpose: ['login'] }],
    [/never matches: user is of purpose "login"/, 'deny', { user: ['git'], purpose: ['sudo'] }],
    [/never matches: host is of purpose "login"/, 'deny', { host: ['git'], purpose: ['sudo'] }],
    [/nothing narrows it/, 'allow', { purpose: ['sshsig'], origin: ['forwarded'] }],
    [/goes by the comment of a key/, 'allow', { key: [print, 'work'] }],
    [/goes by the name of a program/, 'allow', { program: ['git'] }],
    [
      /lets other machines have signed .*: certificate, unidentified$/,
      'allow',
      {
        key: [print],
        purpose: ['certificate', 'unidentified', 'login'],
      },
    ],
  ])('%s is given', (text, effect, conditions) => {
    expect(warned(rule(effect, conditions))).toEqual([expect.stringMatching(text)]);
  });

  it.each<readonly [Effect, Partial<Rule>]>([
    ['deny', {}],
    ['ask', { key: ['work'], program: ['git'], purpose: ['unidentified'] }],
    ['allow', { origin: ['local'], purpose: ['unidentified'] }],
    ['allow', { key: ['!work'], program: ['!git'] }],
    ['deny', { program: ['git'], origin: ['forwarded'] }],
    ['deny', { host: ['*'], purpose: ['blind-login'] }],
  ])('is not given for %s %j', (effect, conditions) => {
    expect(warned(rule(effect, conditions))).toEqual([]);
  });

  it('names the rule that comes first, and safely', () => {
    const first = rule('deny', { line: 7, name: 'x\u001b[2J' });
    expect(warned(first, { ...first, line: 9 })).toEqual([
      'rule 2, x\\x1b[2J, never decides: the rule on line 7 matches all that it does, and comes first',
      'rule 2, x\\x1b[2J, has the name of the rule on line 7',
    ]);
  });
});
