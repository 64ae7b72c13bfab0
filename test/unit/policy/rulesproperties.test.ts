/** What holds for every list of rules, in every order, on every request: made up from a few names, so that they meet. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { covers } from '../../../src/cli/rulewarnings.ts';
import { type Decision, decide, type Policy } from '../../../src/policy/decide.ts';
import type { Facts } from '../../../src/policy/facts.ts';
import { purposeOf } from '../../../src/policy/purpose.ts';
import { firstMatch, mayBeUsed, PLAIN_PURPOSES, PURPOSES, type Rule } from '../../../src/policy/rules.ts';
import { defaultWebsafe } from '../../../src/policy/websafe.ts';
import type { SignedData } from '../../../src/wire/signeddata.ts';
import { fill, raw, str } from '../wire/build.ts';
import { constraint, hop } from './hosts.ts';
import { anyGuard, entryOf, facts, hostOf, keyBlob, sshsig, unidentified } from './requested.ts';

const SEED = 20260815;
const NAMES = ['a', 'b', '[a]:2222'];
const PATTERNS = ['a', 'b', '*', '?', 'a*', '!a', '!b', '[a]:2222', 'zz'];
const PROGRAMS = ['/bin/a', '/bin/b', '/opt/a'];
const print = 'SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA';

/** Most conditions are left out, or rules would hardly ever match. */
const maybe = <T>(value: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
  fc.oneof({ weight: 4, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: value });

const patterns = (...more: readonly string[]) =>
  maybe(fc.array(fc.constantFrom(...PATTERNS, ...more), { minLength: 1, maxLength: 3 }));

const some = <T>(...values: readonly T[]) => maybe(fc.uniqueArray(fc.constantFrom(...values), { minLength: 1 }));

const anyRule: fc.Arbitrary<Rule> = fc
  .record({
    effect: fc.constantFrom('allow', 'deny', 'ask'),
    lasts: fc.constantFrom('once', 'command', 'destination', 'path', 'always'),
    key: patterns(print),
    host: patterns(),
    user: patterns(),
    via: patterns(),
    program: patterns('/bin/a', '/bin/*', '!/bin/a'),
    namespace: patterns(),
    purpose: some(...PURPOSES),
    origin: some('local' as const, 'forwarded' as const, 'guard' as const),
  })
  .map((conditions) => {
    const given = Object.entries(conditions).filter(([, value]) => value !== undefined);
    return { name: 'a rule', line: 1, ...Object.fromEntries(given) } as Rule;
  });

const webKey = raw(str('sk-ssh-ed25519@openssh.com'), str(fill(32, 5)), str('https://example.com'));
const toA = constraint(undefined, hop(hostOf('a')));

const login = facts({ to: 'a' }).signed;
const as = (kind: 'sudo' | 'certificate' | 'webauthn'): SignedData => ({ ...login, kind }) as unknown as SignedData;

const madeFacts: fc.Arbitrary<Facts> = fc
  .record({
    kind: fc.constantFrom('login', 'login', 'blind', 'unnamed', 'sshsig', 'sudo', 'certificate', 'webauthn', 'other'),
    to: fc.option(fc.constantFrom(...NAMES), { nil: undefined }),
    via: fc.array(fc.constantFrom('a', 'b'), { maxLength: 2 }),
    user: fc.constantFrom('a', 'b', 'c'),
    shared: fc.boolean(),
    hidden: fc.constantFrom(0, 0, 1),
    programs: fc.array(fc.constantFrom(...PROGRAMS, undefined), { maxLength: 2 }),
    failed: fc.constantFrom(false, false, true),
    relay: fc.constantFrom(undefined, undefined, 'a relay'),
    guard: fc.constantFrom(
      ...[undefined, undefined, anyGuard, { ...anyGuard, effect: 'allow' as const }],
      ...[
        { ...anyGuard, to: [hop(hostOf('a'))] },
        { ...anyGuard, keys: [print] },
      ],
    ),
    entry: fc.record({
      comment: fc.constantFrom('a', 'b'),
      confirm: fc.boolean(),
      destinations: fc.constantFrom(undefined, undefined, [], [toA]),
    }),
    isWebKey: fc.constantFrom(false, false, true),
  })
  .map(({ kind, to, shared, entry, isWebKey, ...rest }) => {
    const signed = { sshsig: sshsig('a'), other: unidentified, sudo: as('sudo'), certificate: as('certificate') };
    const given = { ...signed, webauthn: as('webauthn') }[kind as 'other'];
    return facts({
      ...rest,
      ...(to === undefined ? {} : { to }),
      ...(given === undefined ? {} : { signed: given }),
      ...{ blind: kind === 'blind', unnamed: kind === 'unnamed', names: shared ? { a: ['a', 'b'], b: [] } : {} },
      entry: { ...entryOf({}, isWebKey ? webKey : keyBlob), ...entry },
    } as Parameters<typeof facts>[0]);
  });

/** Made once: each takes signatures of its hosts. */
const anyFacts = fc.constantFrom(...fc.sample(madeFacts, { numRuns: 1500, seed: SEED }));

function decided(given: Facts, rules: readonly Rule[], table: Policy['table']): Decision {
  return decide(given, { fingerprintHash: 'sha256', websafe: defaultWebsafe, table, rules, lasts: 'once' });
}

/** What is made up for a test. */
interface Case {
  readonly given: Facts;
  readonly rules: readonly Rule[];
  readonly rule: Rule;
  readonly other: Rule;
  readonly table: Policy['table'];
}

const anyCase: fc.Arbitrary<Case> = fc.record({
  ...{ given: anyFacts, rules: fc.array(anyRule, { maxLength: 6 }), rule: anyRule, other: anyRule },
  table: fc.constantFrom('openssh', 'latchkey'),
});

/**
 * Runs a property.
 * @param holds throws where it does not hold; tells whether the case met what the property speaks of, which 100 must
 */
function always(holds: (made: Case) => boolean): void {
  let met = 0;
  const property = fc.property(anyCase, (made) => {
    if (holds(made)) met++;
  });
  fc.assert(property, { numRuns: 5000, seed: SEED });
  expect(met).toBeGreaterThan(100);
}

describe('no rules, in whatever order,', () => {
  it.each(['destinations', 'websafe', 'guard'])('lift what is out of bounds by %s', (kind) => {
    always(({ given, rules, table }) => {
      const bare = decided(given, [], 'openssh');
      if (bare.effect !== 'deny' || bare.ground.kind !== kind) return false;
      expect(decided(given, rules, table)).toEqual(bare);
      return true;
    });
  });

  it('spare the question that a key was added with', () => {
    always(({ given, rules, table }) => {
      if (!given.entry.confirm) return false;
      const decision = decided(given, rules, table);
      expect(decision.effect).not.toBe('allow');
      if (decision.effect === 'ask') expect(decision.lasts).toBe('once');
      return decision.effect === 'ask';
    });
  });

  it('spare the question that a guard asks', () => {
    always(({ given, rules, table }) => {
      if (given.guard?.effect !== 'ask') return false;
      expect(decided(given, rules, table).effect).not.toBe('allow');
      return true;
    });
  });

  it('open other machines anything but logins, files and sudo, unless it is written out', () => {
    always(({ given, rules: written }) => {
      if (!given.forwarded || PLAIN_PURPOSES.includes(purposeOf(given))) return false;
      const rules = written.map(({ purpose: _, ...rule }) => rule);
      const isFreeOfGuards = given.guard?.effect !== 'allow';
      if (isFreeOfGuards) expect(decided(given, rules, 'latchkey').effect).toBe('deny');
      return isFreeOfGuards;
    });
  });
});

describe('a rule that denies', () => {
  it('put in front never makes a decision weaker', () => {
    always(({ given, rules, rule, table }) => {
      const before = decided(given, rules, table);
      const after = decided(given, [{ ...rule, effect: 'deny' }, ...rules], table);
      if (after.effect !== before.effect) expect(after.effect).toBe('deny');
      return after.effect !== before.effect;
    });
  });

  it('without conditions leaves nothing', () => {
    always(({ given, rules, table }) => {
      const all: Rule = { name: 'all', line: 1, effect: 'deny', lasts: 'once' };
      expect(decided(given, [all, ...rules], table).effect).toBe('deny');
      return true;
    });
  });

  it('matches whatever a rule that allows would match with the same conditions', () => {
    always(({ given, rule }) => {
      const isAllowed = firstMatch([{ ...rule, effect: 'allow' }], given) !== undefined;
      const isAskedFor = firstMatch([{ ...rule, effect: 'ask' }], given) !== undefined;
      const isDenied = firstMatch([{ ...rule, effect: 'deny' }], given) !== undefined;
      const takesOut = [rule.host, rule.via, rule.program].some((list) => list?.some((one) => one.startsWith('!')));
      if (isAllowed && !takesOut) expect([isAskedFor, isDenied]).toEqual([true, true]);
      if (isAllowed) expect(isAskedFor).toBe(isDenied);
      return isAllowed;
    });
  });
});

it('a key that is not listed would be denied by a rule', () => {
  always(({ given, rules }) => {
    const { entry, ...circumstances } = given;
    if (mayBeUsed(rules, entry, circumstances)) return false;
    const isBoundToLogin = given.hosts.at(-1)?.binding.forwarded === false;
    if (isBoundToLogin && purposeOf(given) !== 'login') return false;
    expect(firstMatch(rules, given)?.effect).toBe('deny');
    return true;
  });
});

it('a rule that is said never to decide never does', () => {
  always(({ given, rule, other }) => {
    // What the other says, less some conditions: two made up at random hardly ever cover each other.
    const left = Object.entries(other).filter(([name]) => rule[name as keyof Rule] === undefined);
    const first: Rule = { ...Object.fromEntries(left), name: 'earlier', line: 1, effect: rule.effect, lasts: 'once' };
    if (!covers(first, other) || firstMatch([other], given) === undefined) return false;
    expect(firstMatch([first, other], given)).toBe(first);
    return true;
  });
});
