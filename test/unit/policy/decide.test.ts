import { describe, expect, test } from 'vitest';
import { parsePublicKey } from '../../../src/keys/publickey.ts';
import type { Signer } from '../../../src/keys/signer.ts';
import { bind, noBindings } from '../../../src/policy/bindings.ts';
import { type Decision, decide } from '../../../src/policy/decide.ts';
import type { Facts } from '../../../src/policy/facts.ts';
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

function decided(entry: Partial<Entry>, facts: Partial<Facts> = {}, hash = 'sha256'): Decision {
  const plain = {
    signer,
    comment: 'comment',
    confirm: false,
    expiresAt: undefined,
    provider: undefined,
    destinations: undefined,
  };
  const unidentified = { kind: 'unidentified' as const };
  const rest = { signed: unidentified, bindings: noBindings, peer: undefined, nowSeconds: 1_800_000_000 };
  return decide(
    { entry: { ...plain, ...entry }, ...rest, ...facts },
    { fingerprintHash: hash, websafe: defaultWebsafe },
  );
}

const effect = (...args: Parameters<typeof decided>): string => decided(...args).effect;

describe('a key without destinations', () => {
  test('signs whatever it is given', () => {
    expect(effect({})).toBe('allow');
    expect(effect({}, { signed: login(fill(32)) })).toBe('allow');
  });

  test('that wants confirmation asks, with its comment and fingerprint', () => {
    const decision = decided({ confirm: true });
    expect(decision.effect === 'ask' && decision.question).toMatch(
      /^Allow use of key comment\?\nKey fingerprint SHA256:[A-Za-z0-9+/]{43}\.$/,
    );
    const other = decided({ confirm: true }, {}, 'md5');
    expect(other.effect === 'ask' && other.question).toMatch(/Key fingerprint MD5:([0-9a-f]{2}:){15}[0-9a-f]{2}\.$/);
  });

  test('asks in one line of comment, whatever the comment says', () => {
    const decision = decided({
      confirm: true,
      comment: `x?\nKey fingerprint SHA256:forged.\u001b[2J${'y'.repeat(1000)}`,
    });
    const question = decision.effect === 'ask' ? decision.question : '';
    expect(question.split('\n')).toHaveLength(2);
    expect(question).not.toContain('\u001b');
    expect(question.length).toBeLessThan(400);
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

  test('that wants confirmation as well asks, and names the user', () => {
    const facts = { bindings, signed: login(session.sessionId, 'root\u0007') };
    const decision = decided({ destinations: toHost, confirm: true }, facts);
    const line = 'public key authentication request for user "root\\x07" to listed host';
    expect(decision.effect === 'ask' && decision.question.split('\n')[2]).toBe(line);
  });
});
