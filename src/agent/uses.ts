/** What the agent was used for, as its records tell it. Nothing that was signed is in them, and no whole command line. */
import { fingerprint } from '../keys/publickey.ts';
import type { Circumstances, Facts } from '../policy/facts.ts';
import { purposeOf } from '../policy/purpose.ts';
import { commandOf, type Words } from '../policy/sentence.ts';
import type { Entry } from '../store/entry.ts';
import { visible } from '../wire/visible.ts';
import type { Use } from './ports.ts';

/** Programs of ancestors in a record. */
const MAX_PROGRAMS = 8;
/** Characters of a foreign text in a record. */
const MAX_TEXT = 256;

type Surroundings = Pick<Use, 'hosts' | 'forwarded' | 'relay' | 'guard' | 'peer'>;

/** The part of a record that is the same for all that one connection asks for. */
export function surroundingsOf(circumstances: Circumstances, words: Words): Surroundings {
  const { peer, guard, hosts, relay, forwarded } = circumstances;
  const processes = peer?.processes() ?? [];
  const command = commandOf(processes, words);
  return Object.freeze({
    forwarded,
    ...(hosts.length === 0
      ? {}
      : {
          hosts: hosts.map(({ fingerprint: key, names, binding }) => ({
            fingerprint: key,
            names,
            forwards: binding.forwarded,
          })),
        }),
    ...(relay === undefined ? {} : { relay }),
    ...(guard === undefined ? {} : { guard: guard.id }),
    ...(peer === undefined
      ? {}
      : {
          peer: {
            uid: peer.uid,
            pid: peer.pid ?? null,
            programs: processes.slice(0, MAX_PROGRAMS).map(({ program }) => visible(program ?? '?', MAX_TEXT)),
            ...(command === undefined ? {} : { claimedCommand: command.claimedText }),
          },
        }),
  });
}

const keys = new WeakMap<Entry, NonNullable<Use['key']>>();

/** How a record names a key that comes or goes. */
export function describeKey({ signer: { publicKey }, comment }: Entry): NonNullable<Use['key']> {
  return Object.freeze({
    fingerprint: fingerprint(publicKey),
    type: publicKey.algorithm.type,
    comment: visible(comment, MAX_TEXT),
  });
}

/** The same for a key that is used, and will be again. */
export function keyOf(entry: Entry): NonNullable<Use['key']> {
  let known = keys.get(entry);
  if (known === undefined) {
    known = describeKey(entry);
    keys.set(entry, known);
  }
  return known;
}

/** What a signature is for, in a record. */
export function signedOf(facts: Facts): Pick<Use, 'purpose' | 'user' | 'namespace'> {
  const { signed } = facts;
  const purpose = purposeOf(facts);
  if (signed.kind === 'login') return { purpose, user: visible(signed.user, MAX_TEXT) };
  if (signed.kind === 'sshsig') return { purpose, namespace: visible(signed.namespace, MAX_TEXT) };
  return { purpose };
}
