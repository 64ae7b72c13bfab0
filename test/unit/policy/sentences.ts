/** Facts for the tests of sentences: three hosts, and whatever a test says of a connection. */
import { fingerprint, parsePublicKey } from '../../../src/keys/publickey.ts';
import { type Bindings, isForwarded, noBindings } from '../../../src/policy/bindings.ts';
import type { Facts, Host, PeerProcess } from '../../../src/policy/facts.ts';
import type { Guard } from '../../../src/policy/guard.ts';
import { describe } from '../../../src/policy/sentence.ts';
import type { Entry } from '../../../src/store/entry.ts';
import { classify, type SignedData } from '../../../src/wire/signeddata.ts';
import { fill, raw, str } from '../wire/build.ts';
import { bindTo, loginData, type Host as MadeHost, makeHost, NOW } from './hosts.ts';
import { peerOf, process, shell } from './processes.ts';

export const [bastion, middle, db1] = [makeHost('bastion'), makeHost('middle'), makeHost('db1')];
export const keyBlob = raw(str('ssh-ed25519'), str(fill(32)));
/** Sentences do not speak of the key. */
export const entry = Object.freeze({}) as Entry;

export interface Given {
  readonly bindings?: Bindings;
  readonly signed?: SignedData;
  /** Names in known_hosts, by the name of the host. */
  readonly names?: Readonly<Record<string, readonly string[]>>;
  readonly host?: Partial<Host>;
  readonly processes?: readonly PeerProcess[];
  readonly guard?: string;
  readonly relay?: string;
}

export const made: readonly MadeHost[] = [bastion, middle, db1];

function hostsOf(bindings: Bindings, names: Given['names'], change: Partial<Host>): readonly Host[] {
  return bindings.list.map((binding) => {
    const name = made.find(({ blob }) => Buffer.from(blob).equals(binding.hostKeyBlob))?.name ?? '';
    const listed = names?.[name] ?? [name];
    return { binding, fingerprint: fingerprint(binding.hostKey), names: listed, hidden: 0, ...change };
  });
}

export function factsOf(given: Given): Facts {
  const { bindings = noBindings, signed = { kind: 'unidentified' }, names, host = {}, processes, guard, relay } = given;
  return {
    entry,
    signed,
    bindings,
    hosts: hostsOf(bindings, names, host),
    peer: processes === undefined ? undefined : peerOf(processes),
    guard: guard === undefined ? undefined : ({ id: guard } as Guard),
    relay,
    forwarded: guard !== undefined || relay !== undefined || isForwarded(bindings),
    nowSeconds: NOW,
  };
}

export const words = { home: '/home/me' };
export const sentence = (given: Given): string => describe(factsOf(given), words).sentence;
export const printOf = ({ blob }: MadeHost): string => fingerprint(parsePublicKey(blob));

export const toDb = bindTo(db1, false);
export const byBastion = bindTo(bastion, true);
export const login = (user = 'root', request = toDb): SignedData => classify(loginData(keyBlob, request, { user }));
export const sshsig = (namespace: string): SignedData =>
  classify(raw('SSHSIG', str(namespace), str(''), str('sha512'), str(fill(64))));
export const git = (line: string): readonly PeerProcess[] => [
  process(300, '/usr/bin/ssh', { line: 'ssh git@github.com', group: 200 }),
  process(200, '/usr/bin/git', { line, group: 200 }),
  shell,
];
