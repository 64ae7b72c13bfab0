/** Requests to sign as facts, for the tests of rules: bindings are signed by their hosts, data is built byte by byte. */
import { fingerprint, parsePublicKey } from '../../../src/keys/publickey.ts';
import type { Facts, PeerProcess, Host as VerifiedHost } from '../../../src/policy/facts.ts';
import type { Guard } from '../../../src/policy/guard.ts';
import type { Effect, Rule } from '../../../src/policy/rules.ts';
import type { Entry } from '../../../src/store/entry.ts';
import { classify, type SignedData } from '../../../src/wire/signeddata.ts';
import { fill, raw, str, u32 } from '../wire/build.ts';
import { bindTo, bound, type Host, loginData, makeHost, NOW, newSession } from './hosts.ts';

export const keyBlob = raw(str('ssh-ed25519'), str(fill(32, 9)));

export function entryOf(change: Partial<Entry> = {}, blob: Uint8Array = keyBlob): Entry {
  return {
    signer: { publicKey: parsePublicKey(blob), sign: () => new Uint8Array(), rest: () => {}, dispose: () => {} },
    ...{ comment: 'carl@laptop', confirm: false, expiresAt: undefined, provider: undefined, destinations: undefined },
    ...change,
  };
}

export function processes(...programs: readonly (string | undefined)[]): readonly PeerProcess[] {
  return programs.map((program, i) => ({
    ...{ pid: 100 + i, startTime: `${i}`, program, group: 100, session: 100, hasTerminal: true, folder: '/' },
    ...{ isInOurNamespace: true, claimedArguments: ['claude', 'git'] },
  }));
}

export const anyGuard: Guard = {
  ...{ id: 'g1', keys: undefined, to: undefined, via: undefined },
  ...{ effect: 'ask', expiresAt: undefined, count: undefined },
};

const known = new Map<string, Host>();

/** The host of that name, the same each time. */
export function hostOf(name: string): Host {
  const host = known.get(name) ?? makeHost(name);
  known.set(name, host);
  return host;
}

export interface Requested {
  readonly entry?: Partial<Entry>;
  /** Hosts that the connection is forwarded by, nearest first. */
  readonly via?: readonly string[];
  /** A login there, with what is signed fitting its session. */
  readonly to?: string;
  readonly user?: string;
  /** The login is for a session that nobody bound. */
  readonly blind?: boolean;
  /** The login names no host key, as with sshd before 8.9. */
  readonly unnamed?: boolean;
  readonly signed?: SignedData;
  /** What known_hosts has for each host, where that is not its name alone. */
  readonly names?: Readonly<Record<string, readonly string[]>>;
  readonly hidden?: number;
  readonly programs?: readonly (string | undefined)[];
  readonly failed?: boolean;
  readonly relay?: string;
  readonly guard?: Guard;
}

export function sshsig(namespace: string): SignedData {
  const rest = raw(str(''), str('sha512'), str(fill(64)));
  return classify(raw('SSHSIG', str(namespace), rest));
}

export const unidentified = classify(raw(u32(0xffffffff)));

/** As sshd and ssh put it together; facts are true to each other. */
export function facts(asked: Requested): Facts {
  const { via = [], to, user = 'git', blind, unnamed, names = {}, hidden = 0, relay, guard } = asked;
  const requests = via.map((name) => bindTo(hostOf(name), true));
  const last = to === undefined ? undefined : bindTo(hostOf(to), false);
  const list = bound(...requests, ...(last === undefined ? [] : [last]));
  const bindings = { ...list, failed: asked.failed ?? false };
  const change = { user, ...(blind ? { sessionId: newSession() } : {}), ...(unnamed ? { hostKey: null } : {}) };
  const login = (): SignedData => classify(loginData(keyBlob, last ?? bindTo(hostOf('nowhere'), false), change));
  const hosts: VerifiedHost[] = bindings.list.map((binding, i) => {
    const name = [...via, to ?? ''][i] ?? '';
    return { binding, fingerprint: fingerprint(binding.hostKey), names: names[name] ?? [name], hidden };
  });
  return {
    entry: entryOf(asked.entry),
    signed: asked.signed ?? login(),
    peer: { uid: 1000, pid: 100, processes: () => processes(...(asked.programs ?? [])) },
    ...{ guard, bindings, hosts, relay },
    forwarded: via.length > 0 || bindings.failed || relay !== undefined || guard !== undefined,
    nowSeconds: NOW,
  };
}

let rules = 0;

export function rule(effect: Effect, conditions: Partial<Rule> = {}): Rule {
  rules++;
  return { name: `test ${rules}`, line: rules, effect, lasts: 'once', ...conditions };
}
