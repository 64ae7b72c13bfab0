/** Sentences against names that were made to forge them. */
import fc from 'fast-check';
import { expect, describe as group, it } from 'vitest';
import { noBindings, refuseBinding } from '../../../src/policy/bindings.ts';
import { MAX_LINE, MAX_LINES } from '../../../src/policy/lines.ts';
import { describe, MAX_SENTENCE } from '../../../src/policy/sentence.ts';
import { FOREVER } from '../../../src/wire/certificatebody.ts';
import type { SignedData } from '../../../src/wire/signeddata.ts';
import { fill } from '../wire/build.ts';
import { bindTo, bound } from './hosts.ts';
import { process } from './processes.ts';
import { byBastion, factsOf, keyBlob, login, middle, sentence, toDb, words } from './sentences.ts';

group('whatever others call themselves', () => {
  const evil = fc.oneof(
    fc.constantFrom(
      ' (verified)',
      'x (verified)',
      '") (verified)',
      'a\u202e)deifirev( ',
      '（verified）',
      'db1 (host verified, ',
    ),
    fc.string({ unit: 'binary', maxLength: 300 }),
    fc.string({ unit: fc.constantFrom('(', ')', '"', '\\', ' ', 'verified', ',', '\u0456', 'a'), maxLength: 80 }),
  );
  const signed: fc.Arbitrary<SignedData> = fc.oneof(
    evil.map((user): SignedData => ({ ...(login() as Extract<SignedData, { kind: 'login' }>), user })),
    evil
      .filter((name) => name !== '')
      .map((namespace) => ({
        ...{ kind: 'sshsig' as const, namespace, hashAlgorithm: 'sha512' },
        ...{ reserved: new Uint8Array(), hash: fill(64) },
      })),
    fc.record({
      kind: fc.constant('sudo' as const),
      ...{ user: evil, ruser: evil, service: evil, cwd: evil, argv: fc.array(evil, { maxLength: 9 }), hostname: evil },
      time: fc.bigInt({ min: 0n, max: FOREVER }),
      algorithm: fc.constant('ssh-ed25519'),
      keyBlob: fc.constant(keyBlob),
    }),
    fc.record({
      kind: fc.constant('certificate' as const),
      type: fc.constant('ssh-ed25519-cert-v01@openssh.com'),
      certificateKind: fc.constantFrom('user' as const, 'host' as const),
      serial: fc.constant(0n),
      keyId: evil,
      ...{ principals: fc.array(evil, { maxLength: 30 }), criticalOptions: fc.array(evil), extensions: fc.array(evil) },
      validAfter: fc.bigInt({ min: 0n, max: FOREVER }),
      validBefore: fc.bigInt({ min: 0n, max: FOREVER }),
      authority: fc.constant(keyBlob),
    }),
    fc.record({ kind: fc.constant('webauthn' as const), type: evil, origin: evil, challenge: evil }),
  );
  const one = fc.record({ program: evil, folder: evil, claimedArguments: fc.array(evil, { maxLength: 6 }) });
  const processes = fc
    .array(one, { minLength: 1, maxLength: 30 })
    .map((list) => list.map((each, i) => process(500 - i, each.program, each)));
  // No name of known_hosts here, so nothing may be called verified.
  const bindings = fc.constantFrom(
    ...[noBindings, bound(toDb), bound(byBastion), bound(byBastion, toDb)],
    refuseBinding(noBindings, 'no').bindings,
    bound(...Array.from({ length: 8 }, () => bindTo(middle, true)), toDb),
  );
  const given = fc.record({
    signed,
    processes,
    bindings,
    guard: fc.option(evil, { nil: undefined }),
    relay: fc.option(evil, { nil: undefined }),
  });
  const unsafe = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Default_Ignorable_Code_Point}\ufffe\uffff]|(?! )\p{Zs}/u;

  it('nothing unverified is called verified, nothing unsafe is shown, and all is bounded', () => {
    fc.assert(
      fc.property(given, ({ guard, relay, ...rest }) => {
        const facts = factsOf({
          ...rest,
          host: { names: [] },
          ...(guard === undefined ? {} : { guard }),
          ...(relay === undefined ? {} : { relay }),
        });
        const { sentence: text, verified, claimed } = describe(facts, words);
        expect(text).not.toContain('(verified)');
        expect(text).not.toContain('(host verified');
        expect(text.length).toBeLessThanOrEqual(MAX_SENTENCE);
        for (const line of [...verified, ...claimed]) {
          expect(line).not.toContain('(verified)');
          expect(line.length).toBeLessThanOrEqual(MAX_LINE);
        }
        for (const line of [text, ...verified, ...claimed]) expect(line).not.toMatch(unsafe);
        expect(verified.length).toBeLessThanOrEqual(MAX_LINES);
        expect(claimed.length).toBeLessThanOrEqual(MAX_LINES);
      }),
      { numRuns: 500 },
    );
  });

  it('the longest sentence keeps the bound', () => {
    const long = `\u0456${'\u0456a'.repeat(200)}`;
    const names = [long, `${long}b`];
    const host = { names };
    const way = bound(...Array.from({ length: 15 }, () => bindTo(middle, true)), toDb);
    const failed = refuseBinding(way, 'no').bindings;
    const text = sentence({ bindings: failed, signed: login(long), host, guard: long, relay: long });
    expect(text.length).toBeGreaterThan(700);
    expect(text.length).toBeLessThanOrEqual(MAX_SENTENCE);
    const here = [process(5, long, { folder: long, claimedArguments: [long, long] })];
    expect(sentence({ bindings: bound(toDb), signed: login(long), host, processes: here }).length).toBeLessThanOrEqual(
      MAX_SENTENCE,
    );
  });

  it('two users, or two hosts, never give one sentence while nothing is cut', () => {
    const user = fc.string({ unit: fc.constantFrom('a', '(', ')', '"', '\\', ' ', 'x28', '\u0456'), maxLength: 5 });
    fc.assert(
      fc.property(user, user, (a, b) => {
        const same =
          sentence({ signed: login(a), bindings: bound(toDb) }) ===
          sentence({ signed: login(b), bindings: bound(toDb) });
        expect(same).toBe(a === b);
      }),
    );
  });
});
