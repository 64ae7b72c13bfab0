/** Keys on tokens, added and removed by their provider (RFC 9987 sections 3.2.6 and 3.4; OpenSSH's associated-certs). */
import { KeyError } from '../keys/error.ts';
import { type PublicKey, parsePublicKey } from '../keys/publickey.ts';
import type { Signer } from '../keys/signer.ts';
import { isRemote } from '../policy/bindings.ts';
import type { Entry } from '../store/entry.ts';
import { equal } from '../wire/bytes.ts';
import type { Constraints } from '../wire/constraints.ts';
import type { Request } from '../wire/requests.ts';
import { visible } from '../wire/visible.ts';
import { success } from './answers.ts';
import { entryOf } from './identities.ts';
import type { TokenKey } from './ports.ts';
import type { Session } from './session.ts';

/** One key under several public keys, its certificates among them; let go with the last. */
function shared(signer: Signer, publicKeys: readonly PublicKey[]): readonly Signer[] {
  let users = publicKeys.length;
  if (users === 0) signer.dispose();
  return publicKeys.map((publicKey) => {
    let disposed = false;
    return {
      publicKey,
      sign: (data, flags, signal, purpose) => signer.sign(data, flags, signal, purpose),
      rest: () => signer.rest(),
      dispose: () => {
        if (disposed) return;
        disposed = true;
        if (--users === 0) signer.dispose();
      },
    };
  });
}

/** The certificates among `blobs` over this very key. What is no certificate is passed over, as by OpenSSH. */
function certificatesOf(key: PublicKey, blobs: readonly Uint8Array[]): readonly PublicKey[] {
  return blobs.flatMap((blob) => {
    try {
      const parsed = parsePublicKey(blob);
      return parsed.certificate !== undefined && equal(parsed.plainBlob, key.plainBlob) ? [parsed] : [];
    } catch (error) {
      if (error instanceof KeyError) return [];
      throw error;
    }
  });
}

/**
 * Puts a token's keys into the keyring; one that is held already stays as it is.
 * @returns how many are held now
 * @throws KeyError 'full'; then none of them was added, and all are let go
 */
function storeKeys(session: Session, provider: string, keys: readonly TokenKey[], constraints: Constraints): number {
  const { keyring } = session.agent;
  const { associatedCertificates } = constraints;
  const entries = keys.flatMap(({ signer, label }) => {
    const { publicKey } = signer;
    const plain = associatedCertificates?.certificatesOnly ? [] : [publicKey];
    const all = [...plain, ...certificatesOf(publicKey, associatedCertificates?.blobs ?? [])];
    return shared(signer, all).map((one) => entryOf(session.agent, one, label, constraints, provider));
  });
  const added: Entry[] = [];
  try {
    for (const entry of entries) {
      // Adding a token again must not loosen what its keys were bound to.
      if (keyring.find(entry.signer.publicKey.blob) !== undefined) entry.signer.dispose();
      else {
        keyring.add(entry);
        added.push(entry);
      }
    }
  } catch (error) {
    for (const { signer } of added) keyring.remove(signer.publicKey.blob);
    for (const { signer } of entries) signer.dispose();
    throw error;
  }
  session.agent.expire();
  return entries.length;
}

type AddTokenRequest = Extract<Request, { kind: 'addToken' }>;

/** Loads a provider and adds the keys of its tokens. What is kept of the request is copied before the first await. */
export async function addToken(session: Session, request: AddTokenRequest): Promise<Uint8Array> {
  const { agent } = session;
  const { devices, log } = agent.ports;
  if (isRemote(session.bindings) && !agent.allowRemoteProviders)
    return session.deny('addToken', 'a connection from a host may not name a library to load');
  const provider = devices.provider(request.provider);
  const { constraints } = request;
  const pin = agent.custody.passing(Math.max(1, request.pin.length));
  const given = pin.bytes.subarray(0, request.pin.length);
  given.set(request.pin);
  try {
    const keys = await devices.tokenKeys(provider, given);
    if (agent.lock.locked) {
      for (const { signer } of keys) signer.dispose();
      return session.refuse('add a token: the agent was locked meanwhile');
    }
    const held = storeKeys(session, provider, keys, constraints);
    if (held === 0) return session.refuse(`${visible(provider, 256)} has no key to add`);
    log('info', `added ${held} keys of ${visible(provider, 256)}`);
    const sentence = `load ${held} keys of ${visible(provider, 256)}`;
    session.note({ kind: 'add-token', outcome: 'allowed', sentence });
    return success;
  } finally {
    pin.free();
  }
}

export function removeToken(session: Session, path: string): Uint8Array {
  const { keyring, ports } = session.agent;
  let provider = path;
  // A library that is gone by now may still have keys here, under the path that it had.
  if (!keyring.entries().some((entry) => entry.provider === path)) provider = ports.devices.provider(path);
  const count = keyring.removeOf(provider);
  if (count === 0) return session.deny('removeToken', 'no keys of it are held');
  ports.log('info', `removed ${count} keys of ${visible(provider, 256)}`);
  const sentence = `remove ${count} keys of ${visible(provider, 256)}`;
  session.note({ kind: 'remove-token', outcome: 'allowed', sentence });
  return success;
}
