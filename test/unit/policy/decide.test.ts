import { describe, expect, test } from 'vitest';
import { parsePublicKey } from '../../../src/keys/publickey.ts';
import type { Signer } from '../../../src/keys/signer.ts';
import { bind, noBindings } from '../../../src/policy/bindings.ts';
import { type Decision, decide, type Policy } from '../../../src/policy/decide.ts';
import type { Facts } from '../../../src/policy/facts.ts';
import { opensshText } from '../../../src/policy/opensshtext.ts';
import { defaultWebsafe } from '../../../src/policy/websafe.ts';
import type { Entry } from '../../../src/store/entry.ts';
import { bindingTo, freshEd25519 } from '../../../src/testing/fixtures.ts';
import { classify } from '../../../src/wire/signeddata.ts';
import { fill, raw, str } from '../wire/build.ts';

const host = freshEd25519();
const key = freshEd25519();
const signer: Signer = {
  publicKey: parsePublicKey(key.blob),
  sign: () => new Uint8Array(),
  rest: () => {},
  dispose: () => {},
};
const toHost = [
  {
    from: { user: '', hostname: '', keys: [] },
    to: { user: '', hostname: 'host', keys: [{ blob: host.blob, isAuthority: false }] },
  },
];

function login(sessionId: Uint8Array, user = 'user'): Facts['signed'] {
  const end = raw(str('ssh-connection'), str('publickey'), 1, str('ssh-ed25519'), str(key.blob));
  return classify(raw(str(sessionId), 50, str(user), end));
}

const policy: Policy = {
  fingerprintHash: 'sha256',
  websafe: defaultWebsafe,
  table: 'openssh',
  rules: [],
  lasts: 'once',
};
const plain: Entry = {
  signer,
  comment: 'comment',
  confirm: false,
  expiresAt: undefined,
  provider: undefined,
  destinations: undefined,
};

function factsOf(entry: Partial<Entry>, facts: Partial<Facts>): Facts {
  return {
    entry: { ...plain, ...entry },
    signed: { kind: 'unidentified' },
    bindings: noBindings,
    hosts: [],
    guard: undefined,
    relay: undefined,
    forwarded: false,
    peer: undefined,
    nowSeconds: 1_800_000_000,
    ...facts,
  };
}

function decided(entry: Partial<Entry>, facts: Partial<Facts> = {}, given: Partial<Policy> = {}): Decision {
  return decide(factsOf(entry, facts), { ...policy, ...given });
}

const effect = (...args: Parameters<typeof decided>): string => decided(...args).effect;

describe('a key without destinations', () => {
  test('signs whatever it is given', () => {
    expect(effect({})).toBe('allow');
    expect(effect({}, { signed: login(fill(32)) })).toBe('allow');
  });

  test('that wants confirmation asks', () => {
    expect(decided({ confirm: true })).toMatchObject({ effect: 'ask', lasts: 'once', ground: { kind: 'confirm' } });
  });
});

describe("OpenSSH's question", () => {
  test('names the comment and the fingerprint', () => {
    const facts = factsOf({}, {});
    expect(opensshText(facts, 'sha256')).toMatch(
      /^Allow use of key comment\?\nKey fingerprint SHA256:[A-Za-z0-9+/]{43}\.$/,
    );
    expect(opensshText(facts, 'md5')).toMatch(/Key fingerprint MD5:([0-9a-f]{2}:){15}[0-9a-f]{2}\.$/);
  });

  test('has one line of comment, whatever the comment says', () => {
    const comment = `x?\nKey fingerprint SHA256:forged.\u001b[2J${'y'.repeat(1000)}`;
    const question = opensshText(factsOf({ comment }, {}), 'sha256');
    expect(question.split('\n')).toHaveLength(2);
    expect(question).not.toContain('\u001b');
    expect(question.length).toBeLessThan(400);
  });

  test('names the user where the key has destinations', () => {
    const facts = factsOf({ destinations: toHost }, { signed: login(fill(32), 'root\u0007') });
    const line = 'public key authentication request for user "root\\x07" to listed host';
    expect(opensshText(facts, 'sha256').split('\n')[2]).toBe(line);
  });
});

describe('a key for one destination', () => {
  const session = bindingTo(host);
  const { bindings } = bind(noBindings, session);

  test('signs the login to that host', () => {
    expect(effect({ destinations: toHost }, { bindings, signed: login(session.sessionId) })).toBe('allow');
  });

  test('signs nothing else, and says why not', () => {
    const elsewhere = bindingTo(freshEd25519());
    for (const facts of [
      { signed: login(session.sessionId) },
      { bindings, signed: login(fill(32)) },
      { bindings },
      { bindings: bind(noBindings, elsewhere).bindings, signed: login(elsewhere.sessionId) },
    ]) {
      const decision = decided({ destinations: toHost, confirm: true }, facts);
      expect(decision.effect === 'deny' && decision.reason).toMatch(/\w+ \w+/);
    }
  });

  test('that wants confirmation as well asks', () => {
    const facts = { bindings, signed: login(session.sessionId) };
    expect(effect({ destinations: toHost, confirm: true }, facts)).toBe('ask');
  });
});

describe("what comes from another machine, by DESIGN's table", () => {
  const via = bindingTo(freshEd25519(), { isForwarding: true });
  const to = bindingTo(host);
  const forwarding = bind(noBindings, via).bindings;
  const { bindings } = bind(forwarding, to);
  const hostbound = (sessionId: Uint8Array): Facts['signed'] => {
    const method = str('publickey-hostbound-v00@openssh.com');
    const rest = raw(str('ssh-connection'), method, 1, str('ssh-ed25519'), str(key.blob), str(host.blob));
    return classify(raw(str(sessionId), 50, str('root'), rest));
  };
  const signed: Readonly<Record<string, Facts['signed']>> = {
    login: hostbound(to.sessionId),
    'blind login': hostbound(fill(32)),
    sshsig: classify(raw(new TextEncoder().encode('SSHSIG'), str('git'), str(''), str('sha512'), str(fill(64)))),
    unidentified: classify(fill(40)),
  };
  test('the bytes of this test are what they are called', () => {
    expect(Object.values(signed).map(({ kind }) => kind)).toEqual(['login', 'login', 'sshsig', 'unidentified']);
  });

  test.each([
    ['login', 'allow', 'ask', 'allow'],
    ['blind login', 'allow', 'deny', 'allow'],
    ['sshsig', 'allow', 'ask', 'allow'],
    ['unidentified', 'allow', 'deny', 'allow'],
  ])('%s: %s here, %s from afar, %s with OpenSSH', (name, here, afar, openssh) => {
    const what = signed[name] as Facts['signed'];
    const forwarded = { signed: what, bindings, forwarded: true };
    expect(effect({}, { signed: what }, { table: 'latchkey' })).toBe(here);
    expect(effect({}, forwarded, { table: 'latchkey' })).toBe(afar);
    expect(effect({}, forwarded, { table: 'openssh' })).toBe(openssh);
  });

  test('a path that the key was bound to is consent, but not behind a relay', () => {
    const path = [
      {
        from: { user: '', hostname: '', keys: [] },
        to: { user: '', hostname: 'via', keys: [{ blob: via.hostKey, isAuthority: false }] },
      },
      {
        from: { user: '', hostname: 'via', keys: [{ blob: via.hostKey, isAuthority: false }] },
        to: { user: '', hostname: 'host', keys: [{ blob: host.blob, isAuthority: false }] },
      },
    ];
    const facts = { signed: signed.login as Facts['signed'], bindings, forwarded: true };
    expect(effect({ destinations: path }, facts, { table: 'latchkey' })).toBe('allow');
    expect(effect({ destinations: path }, { ...facts, relay: 'socat' }, { table: 'latchkey' })).toBe('ask');
  });

  test('a rule of the owner comes first, but never lifts what the key is bound to', () => {
    const rules = [{ name: 'all', line: 3, effect: 'allow' as const, lasts: 'once' as const }];
    const facts = { signed: signed.login as Facts['signed'], bindings, forwarded: true };
    expect(decided({}, facts, { table: 'latchkey', rules })).toMatchObject({
      effect: 'allow',
      ground: { kind: 'rule', text: 'all', line: 3 },
    });
    expect(effect({ destinations: toHost }, facts, { table: 'latchkey', rules })).toBe('deny');
    expect(effect({ confirm: true }, facts, { table: 'latchkey', rules })).toBe('ask');
    expect(effect({}, { ...facts, signed: signed.unidentified as Facts['signed'] }, { table: 'latchkey', rules })).toBe(
      'deny',
    );
  });
});
