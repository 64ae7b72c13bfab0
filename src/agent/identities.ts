/** Listing, adding and removing keys, seen from one session: a key that may not be used there is not shown there. */

import { algorithm } from '../keys/algorithms.ts';
import { KeyError } from '../keys/error.ts';
import { createSigner, publicKeyOf } from '../keys/privatekey.ts';
import type { Signer } from '../keys/signer.ts';
import { isRemote } from '../policy/bindings.ts';
import { permitted } from '../policy/destination.ts';
import { seenThrough } from '../policy/guard.ts';
import { mayBeUsed } from '../policy/rules.ts';
import type { Entry } from '../store/entry.ts';
import type { Keyring } from '../store/keyring.ts';
import type { Constraints } from '../wire/constraints.ts';
import type { Request } from '../wire/requests.ts';
import { encodeResponse, type Identity } from '../wire/responses.ts';
import { visible } from '../wire/visible.ts';
import type { Agent } from './agent.ts';
import { success } from './answers.ts';
import type { Session } from './session.ts';
import { describeKey } from './uses.ts';

/** Only what may be used from there is seen there. */
function isVisible(session: Session, entry: Entry): boolean {
  const { agent, guard, bindings } = session;
  const nowSeconds = (): number => agent.ports.clock.wallSeconds();
  if (guard !== undefined && !seenThrough(guard, entry, { bindings, nowSeconds: nowSeconds() })) return false;
  if (session.isRestricted && !mayBeUsed(agent.policy.rules, entry, session.circumstances())) return false;
  if (entry.destinations === undefined) return true;
  return permitted(entry.destinations, bindings, undefined, nowSeconds()).ok;
}

/** The whole list of an agent whose keys may all be seen everywhere, until a key comes or goes. */
const wholeLists = new WeakMap<Keyring, { readonly version: number; readonly answer: Uint8Array }>();

export function listKeys(session: Session): Uint8Array {
  const { agent } = session;
  const { keyring } = agent;
  agent.expire();
  const { isRestricted } = session;
  if (isRestricted || session.bindings.list.some(({ forwarded }) => forwarded)) session.noteAbout('list', 'allowed');
  const known = isRestricted ? undefined : wholeLists.get(keyring);
  if (known?.version === keyring.version) return known.answer;
  const identities: Identity[] = [];
  for (const entry of agent.keyring.entries())
    if (isVisible(session, entry)) identities.push({ blob: entry.signer.publicKey.blob, comment: entry.comment });
  const answer = encodeResponse({ kind: 'identities', identities });
  if (!isRestricted && keyring.entries().every(({ destinations }) => destinations === undefined))
    wholeLists.set(keyring, { version: keyring.version, answer });
  return answer;
}

export function removeKey(session: Session, blob: Uint8Array): Uint8Array {
  const { agent } = session;
  agent.expire();
  const entry = agent.keyring.find(blob);
  if (entry === undefined || !isVisible(session, entry)) return session.deny('remove', 'no such key here');
  const key = describeKey(entry);
  agent.keyring.remove(blob);
  agent.ports.log('info', `removed ${visible(entry.comment, 64)}`);
  session.note({ kind: 'remove', outcome: 'allowed', sentence: `remove the key ${key.comment}`, key });
  return success;
}

type AddRequest = Extract<Request, { kind: 'add' }>;

/** Security keys name the library that talks to their device; OpenSSH's own is "internal". */
const INTERNAL_PROVIDER = 'internal';

function signerOf(session: Session, { key, constraints }: AddRequest): Signer {
  const { custody, ports, allowRemoteProviders } = session.agent;
  const family = algorithm(key.type)?.family;
  if (family !== 'sk-ed25519' && family !== 'sk-ecdsa') {
    if (constraints.skProvider !== undefined) throw new KeyError('unsupported', 'a provider for a key that needs none');
    return createSigner(custody, key);
  }
  // OpenSSH stores a security key without a provider, and it then never signs.
  const given = constraints.skProvider ?? INTERNAL_PROVIDER;
  const internal = given.toLowerCase() === INTERNAL_PROVIDER;
  if (!internal && isRemote(session.bindings) && !allowRemoteProviders)
    throw new KeyError('unsupported', 'a connection from a host may not name a library to load');
  const provider = internal ? INTERNAL_PROVIDER : ports.devices.provider(given);
  return ports.devices.securityKey(publicKeyOf(key), key.fields, provider, custody);
}

export function addKey(session: Session, request: AddRequest): Uint8Array {
  const signer = signerOf(session, request);
  try {
    return storeKey(session, request, signer);
  } catch (error) {
    signer.dispose();
    throw error;
  }
}

/** The entry for a key that is added now. */
export function entryOf(
  agent: Agent,
  signer: Signer,
  comment: string,
  constraints: Constraints,
  provider?: string,
): Entry {
  const lifetime = constraints.lifetime ?? agent.defaultLifetime;
  return Object.freeze({
    signer,
    comment,
    confirm: constraints.confirm === true,
    expiresAt: lifetime === undefined ? undefined : agent.ports.clock.now() + lifetime * 1000,
    provider,
    destinations: constraints.destinations,
  });
}

function storeKey(session: Session, { comment, constraints }: AddRequest, signer: Signer): Uint8Array {
  const { agent } = session;
  const { log } = agent.ports;
  agent.expire();
  const held = agent.keyring.find(signer.publicKey.blob);
  if (held !== undefined && !isVisible(session, held)) {
    signer.dispose();
    return session.deny('add', 'the key is held and not for use from here');
  }
  const entry = entryOf(agent, signer, comment, constraints);
  agent.keyring.add(entry);
  agent.expire();
  const key = describeKey(entry);
  session.note({ kind: 'add', outcome: 'allowed', sentence: `add the key ${key.comment}`, key });
  log('info', `added ${signer.publicKey.algorithm.type} ${visible(comment, 64)}`);
  return success;
}
