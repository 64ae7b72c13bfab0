/**
 * Destination constraints (OpenSSH's PROTOCOL.agent section 2, ssh-agent.c's identity_permitted and the checks of a sign
 * request): whether the sessions that a connection is bound to are a path that the key's owner allowed. Pure: the time is
 * an argument. Reasons are for the key's owner; hosts are named by the owner's own constraints, others by fingerprint.
 */
import { isHostCertificateFor } from '../keys/certificate.ts';
import { matchGlob } from '../keys/glob.ts';
import { fingerprint, type PublicKey, typeName } from '../keys/publickey.ts';
import { equal } from '../wire/bytes.ts';
import type { DestinationConstraint, Hop } from '../wire/constraints.ts';
import type { Login, SignedData } from '../wire/signeddata.ts';
import { visible } from '../wire/visible.ts';
import type { Bindings } from './bindings.ts';

export type Permission = { readonly ok: true } | { readonly ok: false; readonly reason: string };

/** What this file has to know of a held key. */
export interface ConstrainedKey {
  readonly blob: Uint8Array;
  /** Undefined: the key may go anywhere. An empty list permits nothing beyond this machine. */
  readonly destinations?: readonly DestinationConstraint[];
}

const allowed: Permission = Object.freeze({ ok: true });
const refused = (reason: string): Permission => ({ ok: false, reason });

/** Characters of a foreign name in a reason. */
const MAX_SHOWN = 128;

/**
 * Whether a key with `constraints` may be seen (`user` undefined: to list, remove or replace it) or used to log in as
 * `user` over a connection with `bindings`.
 */
export function permitted(
  constraints: readonly DestinationConstraint[] | undefined,
  bindings: Bindings,
  user: string | undefined,
  nowSeconds: number,
): Permission {
  if (constraints === undefined) return allowed;
  const { list } = bindings;
  const last = list.at(-1);
  if (last === undefined)
    return bindings.attempted ? refused('the connection failed to prove which host it leads to') : allowed;

  let from: PublicKey | undefined;
  for (const [i, binding] of list.entries()) {
    const isLast = i === list.length - 1;
    if (isLast && binding.forwarded && user !== undefined)
      return refused('a signature was asked for on a session that only forwards');
    if (!isLast && !binding.forwarded) return refused('a session that does not forward lies on the path');
    const stepUser = isLast ? user : undefined;
    if (!constraints.some((constraint) => permitsStep(constraint, from, binding.hostKey, stepUser, nowSeconds)))
      return refused(describeStep(constraints, from, binding.hostKey, stepUser, nowSeconds));
    from = binding.hostKey;
  }

  // A key that ends at a host is of no use beyond it, and those beyond need not learn that it exists.
  if (last.forwarded && user === undefined) {
    const leadsOn = constraints.some((constraint) => matchesHop(constraint.from, last.hostKey, nowSeconds));
    if (!leadsOn) return refused(`no destination is permitted beyond ${nameOf(constraints, last.hostKey, nowSeconds)}`);
  }
  return allowed;
}

/** Whether `entry` may sign `signed` over a connection with `bindings`, as far as its destinations are concerned. */
export function maySign(entry: ConstrainedKey, bindings: Bindings, signed: SignedData, nowSeconds: number): Permission {
  if (entry.destinations === undefined) return allowed;
  if (bindings.list.length === 0)
    return refused('a key with destinations signs only over a connection that is bound to a session');
  if (signed.kind !== 'login') return refused('a key with destinations signs only logins');
  if (!equal(signed.keyBlob, entry.blob)) return refused('the login names another key');
  const path = permitted(entry.destinations, bindings, signed.user, nowSeconds);
  return path.ok ? loginFitsBindings(signed, bindings) : path;
}

/** Whether `login` is for the session that the connection was bound to last, and for its host. */
export function loginFitsBindings(login: Login, bindings: Bindings): Permission {
  const last = bindings.list.at(-1);
  if (last === undefined) return refused('the connection is not bound to a session');
  if (!equal(login.sessionId, last.sessionId)) return refused('the login is for another session than the last bound');
  if (login.hostKey === undefined) {
    // Nearer to us ssh itself made the binding; farther off only the host key inside the login ties it to its host.
    if (bindings.list.length > 1)
      return refused('the login does not name its host key, as it must beyond the first host');
  } else if (!equal(login.hostKey, last.hostKeyBlob))
    return refused('the login names another host key than the last bound');
  return allowed;
}

function permitsStep(
  constraint: DestinationConstraint,
  from: PublicKey | undefined,
  to: PublicKey,
  user: string | undefined,
  nowSeconds: number,
): boolean {
  const fromHere = constraint.from.hostname === '' && constraint.from.keys.length === 0;
  if (from === undefined ? !fromHere : !matchesHop(constraint.from, from, nowSeconds)) return false;
  return matchesHop(constraint.to, to, nowSeconds) && matchesUser(constraint.to.user, user);
}

/** Whether `user` fits a hop's pattern; an empty one, and no user, fit anything. */
export function matchesUser(pattern: string, user: string | undefined): boolean {
  if (pattern === '' || user === undefined) return true;
  // What was not UTF-8 came out as this character: two such names may look the same and not be.
  if (pattern.includes('\ufffd')) return false;
  return matchGlob(user, pattern);
}

/** Whether `key` is one of the hop's keys, or certified for it by one of its authorities. */
export function matchesHop(hop: Hop, key: PublicKey, nowSeconds: number): boolean {
  const { certificate } = key;
  return hop.keys.some((listed) => {
    if (certificate === undefined) return !listed.isAuthority && equal(listed.blob, key.plainBlob);
    return (
      listed.isAuthority &&
      equal(listed.blob, certificate.authority.plainBlob) &&
      isHostCertificateFor(certificate, hop.hostname, nowSeconds)
    );
  });
}

/** The owner's own name for the host of `key`, or its fingerprint. */
function nameOf(constraints: readonly DestinationConstraint[], key: PublicKey, nowSeconds: number): string {
  for (const { from, to } of constraints)
    for (const hop of [to, from]) if (matchesHop(hop, key, nowSeconds)) return visible(hop.hostname, MAX_SHOWN);
  return `a host with ${typeName(key)} key ${fingerprint(key)}`;
}

function describeStep(
  constraints: readonly DestinationConstraint[],
  from: PublicKey | undefined,
  to: PublicKey,
  user: string | undefined,
  nowSeconds: number,
): string {
  const start = from === undefined ? 'here' : nameOf(constraints, from, nowSeconds);
  const end = nameOf(constraints, to, nowSeconds);
  const login = user === undefined ? '' : ` as user ${visible(user, MAX_SHOWN)}`;
  return `no destination permits the step from ${start} to ${end}${login}`;
}
