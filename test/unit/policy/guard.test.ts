import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { parsePublicKey } from '../../../src/keys/publickey.ts';
import type { Signer } from '../../../src/keys/signer.ts';
import { type Bindings, bind, noBindings } from '../../../src/policy/bindings.ts';
import { type Guard, guardPermits, hopText, seenThrough } from '../../../src/policy/guard.ts';
import type { Entry } from '../../../src/store/entry.ts';
import type { SessionBind } from '../../../src/wire/extensions.ts';
import { classify, type SignedData } from '../../../src/wire/signeddata.ts';
import { raw } from '../wire/build.ts';
import {
  bindTo,
  bound,
  certify,
  hop,
  type LoginChange,
  loginData,
  makeHost,
  NOW,
  newSession,
  signWith,
} from './hosts.ts';

const bastion = makeHost('bastion');
const db = makeHost('db1');
const other = makeHost('other');
const keyHost = makeHost('the key of the owner');
const otherKey = makeHost('another key');

const fingerprintOf = ({ plainBlob }: { readonly plainBlob: Uint8Array }): string =>
  `SHA256:${createHash('sha256').update(plainBlob).digest('base64').replace(/=+$/, '')}`;

function entryOf(blob: Uint8Array): Entry {
  const signer: Signer = { publicKey: parsePublicKey(blob), sign: () => raw(), rest: () => {}, dispose: () => {} };
  const none = { expiresAt: undefined, provider: undefined, destinations: undefined };
  return { signer, comment: 'a key', confirm: false, ...none };
}

const entry = entryOf(keyHost.plainBlob);
const sshsig: SignedData = {
  kind: 'sshsig',
  namespace: 'git',
  reserved: raw(),
  hashAlgorithm: 'sha512',
  hash: raw(),
};

function guard(bounds: Partial<Guard>): Guard {
  const none = { keys: undefined, to: undefined, via: undefined, expiresAt: undefined, count: undefined };
  return { id: 'g1', effect: 'ask', ...none, ...bounds };
}

function login(request: SessionBind, change: LoginChange = {}): SignedData {
  return classify(loginData(keyHost.plainBlob, request, change));
}

function permits(of: Guard, bindings: Bindings, signed: SignedData = sshsig, key = entry): string | true {
  const found = guardPermits(of, { entry: key, signed, bindings, nowSeconds: NOW });
  return found.ok || found.reason;
}

const fromBastion = bindTo(bastion, true);
const onDb = bindTo(db, false);
const path = bound(fromBastion, onDb);

describe('a guard without bounds', () => {
  it('lets everything be decided on', () => {
    expect(permits(guard({}), noBindings)).toBe(true);
    expect(permits(guard({}), path, login(onDb))).toBe(true);
    expect(seenThrough(guard({}), entry)).toBe(true);
  });
});

describe('a guard for some keys', () => {
  const one = guard({ keys: [fingerprintOf(keyHost)] });

  it('is for these, and for their certificates', () => {
    expect(permits(one, noBindings)).toBe(true);
    expect(seenThrough(one, entry)).toBe(true);
    const certified = entryOf(certify(keyHost, other, { kind: 1 }).blob);
    expect(seenThrough(one, certified)).toBe(true);
  });

  it('neither shows nor uses others', () => {
    const key = entryOf(otherKey.plainBlob);
    expect(permits(one, noBindings, sshsig, key)).toBe('the guard is for other keys');
    expect(seenThrough(one, key)).toBe(false);
  });
});

describe('a guard to a host', () => {
  const toDb = guard({ to: [hop(db)] });

  it('permits a login there, from here or through other hosts', () => {
    expect(permits(toDb, path, login(onDb))).toBe(true);
    expect(permits(toDb, bound(onDb), login(onDb))).toBe(true);
    const far = bindTo(other, true);
    expect(permits(toDb, bound(fromBastion, far, onDb), login(onDb))).toBe(true);
  });

  it('permits one that an authority of hosts vouches for, as long as it does', () => {
    const authority = makeHost('authority');
    const certified = certify(db, authority);
    const toCertified = guard({ to: [hop(db, '', authority)] });
    const request = bindTo(certified, false);
    expect(permits(toCertified, bound(request), login(request))).toBe(true);
    const stale = bindTo(certify(db, authority, { validBefore: BigInt(NOW - 1) }), false);
    expect(permits(toCertified, bound(stale), login(stale))).toBe('the login leads to another host than db1');
    expect(permits(toDb, bound(request), login(request))).toBe('the login leads to another host than db1');
  });

  it('permits no login elsewhere', () => {
    const elsewhere = bindTo(other, false);
    expect(permits(toDb, bound(fromBastion, elsewhere), login(elsewhere))).toBe(
      'the login leads to another host than db1',
    );
  });

  it('permits no login for another session than that of the last binding', () => {
    expect(permits(toDb, path, login(onDb, { sessionId: newSession() }))).toMatch(/another session/);
    expect(permits(toDb, bound(fromBastion), login(onDb))).toMatch(/another session/);
    expect(permits(toDb, noBindings, login(onDb))).toMatch(/not bound/);
  });

  it('permits no login on a session that forwards', () => {
    const forwarding = bindTo(db, true);
    expect(permits(toDb, bound(forwarding), login(forwarding))).toMatch(/only forwards/);
  });

  it('permits no login that does not name its host key: another host could have signed its session', () => {
    expect(permits(toDb, bound(onDb), login(onDb, { hostKey: null }))).toMatch(/does not name its host key/);
    expect(permits(toDb, path, login(onDb, { hostKey: other.blob }))).toMatch(/another host key/);
  });

  it('permits nothing but logins', () => {
    expect(permits(toDb, path, sshsig)).toBe('the guard signs only logins to db1');
    expect(permits(toDb, path, { kind: 'unidentified' })).toBe('the guard signs only logins to db1');
  });

  it('permits nothing once a binding failed', () => {
    const forged = { ...bindTo(other, true), signature: signWith(db, newSession()) };
    const spoilt = bind(bound(fromBastion), forged).bindings;
    const { bindings } = bind(spoilt, onDb);
    expect(bindings.list.length).toBe(2);
    expect(permits(toDb, bindings, login(onDb))).toMatch(/did not prove itself/);
  });

  it('permits the users that its pattern names', () => {
    const toGit = guard({ to: [hop(db, 'git'), hop(db, 'dep*')] });
    expect(permits(toGit, path, login(onDb, { user: 'git' }))).toBe(true);
    expect(permits(toGit, path, login(onDb, { user: 'deploy' }))).toBe(true);
    expect(permits(toGit, path, login(onDb, { user: 'root' }))).toBe('the guard does not let user root log in there');
  });

  it('shows its keys where they may be of use', () => {
    const seen = (bindings: Bindings): boolean => seenThrough(toDb, entry, { bindings, nowSeconds: NOW });
    expect(seen(noBindings)).toBe(true);
    expect(seen(bound(fromBastion))).toBe(true);
    expect(seen(path)).toBe(true);
    expect(seen(bound(fromBastion, bindTo(other, false)))).toBe(false);
  });

  it('names some of many hosts, safely', () => {
    const hops = ['a', 'b\u202e', 'c', 'd', 'e'].map((name) => ({ ...hop(db), hostname: name }));
    expect(permits(guard({ to: hops }), path, sshsig)).toBe(
      'the guard signs only logins to a, b\\u{202e}, c and 2 more',
    );
    expect(hopText(hop(db, 'root'))).toBe('root@db1');
  });
});

describe('a guard via a host', () => {
  const viaBastion = guard({ via: hop(bastion) });

  it('permits what comes from there, whatever lies behind', () => {
    expect(permits(viaBastion, bound(fromBastion))).toBe(true);
    expect(permits(viaBastion, path, login(onDb))).toBe(true);
    expect(permits(viaBastion, bound(fromBastion, bindTo(other, true), onDb), login(onDb))).toBe(true);
  });

  it('permits nothing that comes from elsewhere, or does not say from where', () => {
    const elsewhere = 'the connection comes from another host than bastion';
    const unproven = 'the connection does not prove that it comes from bastion';
    expect(permits(viaBastion, bound(bindTo(other, true), onDb), login(onDb))).toBe(elsewhere);
    expect(permits(viaBastion, bound(bindTo(other, true), bindTo(bastion, true)))).toBe(elsewhere);
    expect(permits(viaBastion, noBindings)).toBe(unproven);
    expect(permits(viaBastion, bound(bindTo(bastion, false)))).toBe(unproven);
  });

  it('shows its keys there alone', () => {
    const seen = (bindings: Bindings): boolean => seenThrough(viaBastion, entry, { bindings, nowSeconds: NOW });
    expect(seen(bound(fromBastion))).toBe(true);
    expect(seen(bound(bindTo(other, true)))).toBe(false);
    expect(seen(noBindings)).toBe(false);
  });

  it('needs both to fit where it is to a host as well', () => {
    const both = guard({ via: hop(bastion), to: [hop(db)] });
    expect(permits(both, path, login(onDb))).toBe(true);
    expect(permits(both, bound(onDb), login(onDb))).toMatch(/does not prove/);
  });
});
