import { describe, expect, it } from 'vitest';
import { parsePublicKey } from '../../../src/keys/publickey.ts';
import { purposeOf } from '../../../src/policy/purpose.ts';
import {
  type Effect,
  firstMatch,
  MAX_MATCHED_CHARACTERS,
  mayBeUsed,
  namesInRules,
  type Rule,
} from '../../../src/policy/rules.ts';
import { classify, type SignedData } from '../../../src/wire/signeddata.ts';
import { fromPub, letters, raw, str } from '../wire/build.ts';
import { certify, makeHost } from './hosts.ts';
import { anyGuard, entryOf, facts, keyBlob, type Requested, rule, sshsig, unidentified } from './requested.ts';

const matches = (effect: Effect, conditions: Partial<Rule>, asked: Requested): boolean =>
  firstMatch([rule(effect, conditions)], facts(asked)) !== undefined;

/** What each effect's rule does: [allow, deny, ask]. */
const each = (conditions: Partial<Rule>, asked: Requested): readonly boolean[] =>
  (['allow', 'deny', 'ask'] as const).map((effect) => matches(effect, conditions, asked));

const ALL = [true, true, true];
const NONE = [false, false, false];
/** In doubt: nothing is allowed, and what denies or asks holds. */
const DOUBT = [false, true, true];

const other = (kind: 'certificate' | 'sudo' | 'webauthn'): SignedData =>
  ({ ...facts({ to: 'h' }).signed, kind }) as unknown as SignedData;

describe('the purpose', () => {
  const purpose = (asked: Requested): string => purposeOf(facts(asked));

  it('is a login for the session that was bound last', () => {
    expect(purpose({ to: 'web' })).toBe('login');
    expect(purpose({ via: ['bastion'], to: 'web' })).toBe('login');
  });

  it('is a blind login for any other session', () => {
    expect(purpose({ to: 'web', blind: true })).toBe('blind-login');
    expect(purpose({})).toBe('blind-login');
    expect(purpose({ via: ['bastion'] })).toBe('blind-login');
  });

  it('is a blind login for the very session that forwards', () => {
    const asked = facts({ via: ['bastion'] });
    const [binding] = asked.bindings.list;
    if (binding === undefined) throw new Error('not bound');
    const end = raw(1, str('ssh-ed25519'), str(keyBlob), str(binding.hostKeyBlob));
    const method = str('publickey-hostbound-v00@openssh.com');
    const signed = classify(raw(str(binding.sessionId), 50, str('git'), str('ssh-connection'), method, end));
    expect(signed).toMatchObject({ kind: 'login', hostKey: binding.hostKeyBlob });
    expect(purposeOf({ ...asked, signed })).toBe('blind-login');
  });

  it('is a login without its host key for this machine, and a blind one behind a guard or relay', () => {
    expect(purpose({ to: 'web', unnamed: true })).toBe('login');
    expect(purpose({ to: 'web', unnamed: true, guard: anyGuard })).toBe('blind-login');
    expect(purpose({ to: 'web', unnamed: true, relay: 'a relay' })).toBe('blind-login');
  });

  it('is what is signed, where that is no login', () => {
    expect(purpose({ signed: sshsig('git') })).toBe('sshsig');
    expect(purpose({ signed: unidentified, to: 'web' })).toBe('unidentified');
  });
});

describe('the first rule that matches', () => {
  it('decides, whatever follows', () => {
    const [narrow, wide, last] = [rule('deny', { host: ['db'] }), rule('allow', { user: ['git'] }), rule('ask')];
    const rules = [narrow, wide, last];
    expect(firstMatch(rules, facts({ to: 'db' }))).toBe(narrow);
    expect(firstMatch(rules, facts({ to: 'web' }))).toBe(wide);
    expect(firstMatch(rules, facts({ to: 'web', user: 'root' }))).toBe(last);
    expect(firstMatch([last, narrow], facts({ to: 'db' }))).toBe(last);
    expect(firstMatch([narrow], facts({ to: 'web' }))).toBeUndefined();
    expect(firstMatch([], facts({ to: 'web' }))).toBeUndefined();
  });

  it('has to match in all its conditions', () => {
    const conditions = { host: ['db'], user: ['root'], via: ['bastion'] };
    const asked = { to: 'db', user: 'root', via: ['bastion'] };
    expect(each(conditions, asked)).toEqual(ALL);
    expect(each(conditions, { ...asked, to: 'web' })).toEqual(NONE);
    expect(each(conditions, { ...asked, user: 'carl' })).toEqual(NONE);
    expect(each(conditions, { ...asked, via: ['gate'] })).toEqual(NONE);
  });
});

describe('host', () => {
  it('is the verified host of a login, by pattern, in either case', () => {
    expect(each({ host: ['*.example.com'] }, { to: 'web.example.com' })).toEqual(ALL);
    expect(each({ host: ['WEB?.Example.com'] }, { to: 'web1.example.com' })).toEqual(ALL);
    expect(each({ host: ['example.com'] }, { to: 'web.example.com' })).toEqual(NONE);
    expect(each({ host: ['a', 'b'] }, { to: 'b' })).toEqual(ALL);
  });

  it('is no forwarding host, and of nothing but logins', () => {
    expect(each({ host: ['bastion'] }, { via: ['bastion'], to: 'db' })).toEqual(NONE);
    expect(each({ host: ['*'] }, { via: ['bastion'], signed: sshsig('git') })).toEqual(NONE);
    expect(each({ host: ['*'] }, { to: 'web', signed: sshsig('git') })).toEqual(NONE);
  });

  it('is any of the names that share a key', () => {
    const names = { web: ['web', 'admin.example.com', '192.0.2.7'] };
    expect(each({ host: ['192.0.2.*'] }, { to: 'web', names })).toEqual(ALL);
    expect(each({ host: ['*', '!admin.*'] }, { to: 'web', names })).toEqual(NONE);
    expect(each({ host: ['*', '!db'] }, { to: 'web', names })).toEqual(ALL);
  });

  it('without a name that is known is allowed nothing, and denied by whatever means all', () => {
    const names = { web: [] };
    expect(each({ host: ['*'] }, { to: 'web', names })).toEqual(DOUBT);
    expect(each({ host: ['!github.com'] }, { to: 'web', names })).toEqual(DOUBT);
    expect(each({ host: ['web'] }, { to: 'web', names })).toEqual(NONE);
    expect(each({ host: ['*'], purpose: ['blind-login'] }, { to: 'web', blind: true })).toEqual(DOUBT);
    expect(each({ host: ['web'], purpose: ['blind-login'] }, { to: 'web', blind: true })).toEqual(NONE);
  });

  it('on another port is not allowed by its bare name, but denied by it', () => {
    expect(each({ host: ['web'] }, { to: '[web]:2222' })).toEqual(DOUBT);
    expect(each({ host: ['[web]:2222'] }, { to: '[web]:2222' })).toEqual(ALL);
    expect(matches('allow', { host: ['*', '!web'] }, { to: '[web]:2222' })).toBe(false);
    expect(matches('deny', { host: ['*', '!web'] }, { to: '[web]:2222' })).toBe(true);
  });

  it('with names that nobody could read is not allowed by "all but"', () => {
    expect(each({ host: ['*', '!db'] }, { to: 'web', hidden: 1 })).toEqual(DOUBT);
    expect(each({ host: ['web'] }, { to: 'web', hidden: 1 })).toEqual(ALL);
  });
});

describe('user and namespace', () => {
  it('are what the signed bytes say, with their case', () => {
    expect(each({ user: ['gi?'] }, { to: 'web' })).toEqual(ALL);
    expect(each({ user: ['Git'] }, { to: 'web' })).toEqual(NONE);
    expect(each({ user: ['!root'] }, { to: 'web' })).toEqual(ALL);
    expect(each({ user: ['!root'] }, { to: 'web', user: 'root' })).toEqual(NONE);
    expect(each({ namespace: ['git', 'file'] }, { signed: sshsig('file') })).toEqual(ALL);
    expect(each({ namespace: ['git'] }, { signed: sshsig('github') })).toEqual(NONE);
  });

  it('match nothing that has none', () => {
    expect(each({ user: ['*'] }, { signed: sshsig('git') })).toEqual(NONE);
    expect(each({ user: ['*'] }, { signed: unidentified })).toEqual(NONE);
    expect(each({ namespace: ['*'] }, { to: 'web' })).toEqual(NONE);
  });

  it('of absurd length are allowed nothing', () => {
    const user = letters(MAX_MATCHED_CHARACTERS + 1);
    expect(each({ user: ['*'] }, { to: 'web', user })).toEqual(DOUBT);
    expect(each({ user: ['a*'] }, { to: 'web', user })).toEqual(NONE);
    expect(each({ user: ['a*'] }, { to: 'web', user: user.slice(1) })).toEqual(ALL);
    expect(each({ namespace: ['*'] }, { signed: sshsig(user) })).toEqual(DOUBT);
  });
});

describe('via', () => {
  it('is of forwarded requests alone', () => {
    expect(each({ via: ['*'] }, { to: 'web' })).toEqual(NONE);
    expect(each({ via: ['*', '!web'] }, { signed: sshsig('git') })).toEqual(NONE);
  });

  it('allows where every host on the way matches, and denies where any does', () => {
    expect(each({ via: ['bastion'] }, { via: ['bastion'], signed: sshsig('git') })).toEqual(ALL);
    expect(each({ via: ['bastion'] }, { via: ['bastion', 'evil'], to: 'db' })).toEqual(DOUBT);
    expect(each({ via: ['bastion'] }, { via: ['evil', 'bastion'], to: 'db' })).toEqual(DOUBT);
    expect(each({ via: ['bastion', 'inner'] }, { via: ['bastion', 'inner'], to: 'db' })).toEqual(ALL);
    expect(each({ via: ['!bastion'] }, { via: ['bastion', 'evil'], to: 'db' })).toEqual(DOUBT);
    expect(each({ via: ['!bastion'] }, { via: ['bastion'], to: 'db' })).toEqual(NONE);
  });

  it('allows nothing where the way is not known as a whole', () => {
    for (const asked of [{ failed: true }, { relay: 'a relay' }, { guard: anyGuard }]) {
      expect(each({ via: ['*'] }, { ...asked, to: 'db' })).toEqual(DOUBT);
      expect(each({ via: ['bastion'] }, { ...asked, to: 'db' })).toEqual(NONE);
    }
    expect(each({ via: ['bastion'] }, { failed: true, via: ['bastion'], to: 'db' })).toEqual(DOUBT);
    expect(each({ via: ['bastion'] }, { relay: 'a relay', via: ['bastion'], to: 'db' })).toEqual(DOUBT);
    expect(each({ via: ['bastion'] }, { guard: anyGuard, via: ['bastion'], to: 'db' })).toEqual(ALL);
  });
});

describe('program', () => {
  const programs = ['/usr/bin/ssh', '/usr/bin/git', '/bin/bash'];

  it('is the path of the one that asks or of an ancestor, or its bare name', () => {
    expect(each({ program: ['/usr/bin/git'] }, { to: 'web', programs })).toEqual(ALL);
    expect(each({ program: ['git'] }, { to: 'web', programs })).toEqual(ALL);
    expect(each({ program: ['/usr/*/ssh'] }, { to: 'web', programs })).toEqual(ALL);
    expect(each({ program: ['bin'] }, { to: 'web', programs })).toEqual(NONE);
    expect(each({ program: ['git*'] }, { to: 'web', programs: ['/opt/git/ssh'] })).toEqual(NONE);
  });

  it('is not what a process says of itself', () => {
    expect(each({ program: ['claude'] }, { to: 'web', programs })).toEqual(NONE);
  });

  it('behind "!" takes out whatever it runs', () => {
    expect(each({ program: ['!git'] }, { to: 'web', programs })).toEqual(NONE);
    expect(each({ program: ['*', '!claude'] }, { to: 'web', programs })).toEqual(ALL);
  });

  it('that hides is not allowed by "all but", nor is one that is gone', () => {
    expect(each({ program: ['!claude'] }, { to: 'web', programs: ['/usr/bin/ssh', undefined] })).toEqual(DOUBT);
    expect(each({ program: ['!claude'] }, { to: 'web', programs: [] })).toEqual(DOUBT);
    expect(each({ program: ['*'] }, { to: 'web', programs: [] })).toEqual(DOUBT);
    expect(each({ program: ['git'] }, { to: 'web', programs: [] })).toEqual(NONE);
  });

  it('whose file was removed is denied as before, and not allowed', () => {
    expect(each({ program: ['git'] }, { to: 'web', programs: ['/usr/bin/git (deleted)'] })).toEqual(DOUBT);
  });

  it('allows nothing from afar, where it only carries', () => {
    expect(each({ program: ['git'] }, { via: ['evil'], to: 'web', programs })).toEqual(DOUBT);
    expect(each({ program: ['!claude'] }, { via: ['evil'], to: 'web', programs })).toEqual(DOUBT);
  });
});

describe('key', () => {
  // ssh-keygen -lf, of the line below.
  const line = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1LQfPwbTSvTUB8XmGqXq4lCWcRrOZi5ZmR1Zk9Vh6c';
  const print = 'SHA256:zoOZXzpx3U/McvKnQ3QmsrkqNexBAQXH1GOEbiN6MDM';
  const entry = { signer: entryOf({}, fromPub(line)).signer, comment: 'work@laptop' };

  it('is a whole fingerprint, with no wildcards in it', () => {
    expect(each({ key: [print] }, { to: 'web', entry })).toEqual(ALL);
    expect(each({ key: [print] }, { to: 'web' })).toEqual(NONE);
    expect(each({ key: [`${print.slice(0, -1)}*`] }, { to: 'web', entry })).toEqual(NONE);
    expect(each({ key: ['SHA256:*'] }, { to: 'web', entry })).toEqual(NONE);
    expect(each({ key: ['*', `!${print}`] }, { to: 'web', entry })).toEqual(NONE);
  });

  it('is not a comment that looks like a fingerprint', () => {
    expect(each({ key: [print] }, { to: 'web', entry: { comment: print } })).toEqual(NONE);
  });

  it('is a comment by pattern', () => {
    expect(each({ key: ['work@*'] }, { to: 'web', entry })).toEqual(ALL);
    expect(each({ key: ['Work@*'] }, { to: 'web', entry })).toEqual(NONE);
    expect(each({ key: ['a*'] }, { to: 'web', entry: { comment: letters(MAX_MATCHED_CHARACTERS + 1) } })).toEqual(NONE);
  });

  it('is the same with a certificate', () => {
    const plain = { ...makeHost('u'), plainBlob: fromPub(line) };
    const { blob } = certify(plain, makeHost('ca'), { kind: 1 });
    expect(parsePublicKey(blob).certificate).toBeDefined();
    expect(each({ key: [print] }, { to: 'web', entry: { signer: entryOf({}, blob).signer } })).toEqual(ALL);
  });
});

describe('purpose', () => {
  const afar = { via: ['bastion'], to: 'db' };

  it('left out is any for this machine', () => {
    for (const signed of [sshsig('git'), unidentified, other('certificate'), other('sudo'), other('webauthn')])
      expect(each({}, { signed })).toEqual(ALL);
    expect(each({}, { to: 'web', blind: true })).toEqual(ALL);
  });

  it('left out opens nothing from afar but logins, files and sudo', () => {
    expect(each({}, afar)).toEqual(ALL);
    expect(each({}, { ...afar, signed: sshsig('git') })).toEqual(ALL);
    expect(each({}, { ...afar, signed: other('sudo') })).toEqual(ALL);
    const closed = [false, true, false];
    for (const signed of [unidentified, other('certificate'), other('webauthn')])
      expect(each({}, { ...afar, signed })).toEqual(closed);
    expect(each({}, { ...afar, blind: true })).toEqual(closed);
    expect(each({ key: ['*'], user: ['*'] }, { ...afar, blind: true })).toEqual(closed);
  });

  it('written out is what it says', () => {
    expect(each({ purpose: ['unidentified'] }, { ...afar, signed: unidentified })).toEqual(ALL);
    expect(each({ purpose: ['blind-login'] }, { ...afar, blind: true })).toEqual(ALL);
    expect(each({ purpose: ['login'] }, { ...afar, blind: true })).toEqual(NONE);
    expect(each({ purpose: ['login', 'sudo'] }, { signed: sshsig('git') })).toEqual(NONE);
  });
});

describe('origin', () => {
  it('is here, another machine, or a guard, which is another machine too', () => {
    const origins = ['local', 'forwarded', 'guard'] as const;
    const of = (asked: Requested): readonly string[] =>
      origins.filter((one) => matches('ask', { origin: [one] }, { ...asked, signed: sshsig('git') }));
    expect(of({})).toEqual(['local']);
    expect(of({ via: ['bastion'] })).toEqual(['forwarded']);
    expect(of({ relay: 'a relay' })).toEqual(['forwarded']);
    expect(of({ failed: true })).toEqual(['forwarded']);
    expect(of({ guard: anyGuard })).toEqual(['forwarded', 'guard']);
  });
});

describe('a key is listed', () => {
  const listed = (rules: readonly Rule[], asked: Requested): boolean => {
    const { entry, ...circumstances } = facts(asked);
    return mayBeUsed(rules, entry, circumstances);
  };
  const deny = (conditions: Partial<Rule> = {}): Rule => rule('deny', conditions);

  it('where no rule denies everything', () => {
    expect(listed([], {})).toBe(true);
    expect(listed([deny({ user: ['root'] })], { to: 'web' })).toBe(true);
    expect(listed([deny({ namespace: ['git'] }), deny({ host: ['web'] })], {})).toBe(true);
    expect(listed([deny({ via: ['bastion'] })], {})).toBe(true);
  });

  it('not where one does', () => {
    expect(listed([deny()], {})).toBe(false);
    expect(listed([deny({ via: ['bastion'] })], { via: ['bastion'] })).toBe(false);
    expect(listed([deny({ via: ['bastion'] })], { via: ['bastion'], to: 'db' })).toBe(false);
    expect(listed([deny({ key: ['carl@*'] })], {})).toBe(false);
    expect(listed([deny({ program: ['claude'] })], { programs: ['/opt/claude'] })).toBe(false);
  });

  it('not on the way to a host that is denied, but elsewhere', () => {
    const rules = [deny({ host: ['web'] })];
    expect(listed(rules, { to: 'web' })).toBe(false);
    expect(listed(rules, { to: 'db' })).toBe(true);
    expect(listed(rules, { via: ['web'] })).toBe(true);
  });

  it('where a rule before may let something pass', () => {
    expect(listed([rule('ask', { user: ['git'] }), deny()], { to: 'web' })).toBe(true);
    expect(listed([rule('allow', { host: ['web'] }), deny()], { to: 'web' })).toBe(true);
    expect(listed([rule('allow', { host: ['web'] }), deny()], { to: 'db' })).toBe(false);
    expect(listed([rule('allow', { host: ['web'] }), deny()], {})).toBe(true);
    expect(listed([rule('allow', { namespace: ['git'] }), deny()], {})).toBe(true);
    expect(listed([rule('allow', { namespace: ['git'] }), deny()], { to: 'web' })).toBe(false);
  });

  it('not where rules deny one purpose after the other', () => {
    const all = ['login', 'blind-login', 'sshsig', 'sudo', 'certificate', 'webauthn', 'unidentified'] as const;
    expect(listed([deny({ purpose: all.slice(0, 3) }), deny({ purpose: all.slice(3) })], {})).toBe(false);
    expect(listed([deny({ purpose: all.slice(0, 3) }), deny({ purpose: all.slice(4) })], {})).toBe(true);
  });
});

describe('names in rules', () => {
  it('are those without wildcards, of hosts and of hosts on the way', () => {
    const rules = [rule('deny', { host: ['Web', '*.net'] }), rule('ask', { via: ['!bastion', 'web'], user: ['git'] })];
    expect(namesInRules(rules)).toEqual(['web', 'bastion']);
  });
});
