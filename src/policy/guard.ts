/**
 * A restricted socket (DESIGN section 5, "Guards"): what may be done through it. Everything through it counts as forwarded.
 * Its time, its count and its end are kept by who opened it; these functions are pure.
 */
import { fingerprint } from '../keys/publickey.ts';
import type { Entry } from '../store/entry.ts';
import type { Hop } from '../wire/constraints.ts';
import type { SignedData } from '../wire/signeddata.ts';
import { visible } from '../wire/visible.ts';
import type { Bindings } from './bindings.ts';
import { loginFitsBindings, matchesHop, matchesUser, type Permission } from './destination.ts';

export interface Guard {
  /** 'g1', 'g2', ... */
  readonly id: string;
  /** SHA256 fingerprints of the keys that are seen through it; undefined: all. */
  readonly keys: readonly string[] | undefined;
  /** Where to logins may lead, users and host keys, from whatever host; undefined: anywhere. */
  readonly to: readonly Hop[] | undefined;
  /** The host that the connection has to come from; undefined: any, also clients that bind to none. */
  readonly via: Hop | undefined;
  /** Whether what fits is allowed without a question, or asked for each time. */
  readonly effect: 'allow' | 'ask';
  /** Milliseconds of the agent's clock. */
  readonly expiresAt: number | undefined;
  /** Signatures in all; undefined: no bound. The engine counts. */
  readonly count: number | undefined;
}

/** What this file has to know of a request. */
export interface GuardedFacts {
  readonly entry: Entry;
  readonly signed: SignedData;
  readonly bindings: Bindings;
  /** Seconds since 1970, for host certificates. */
  readonly nowSeconds: number;
}

const MAX_SHOWN = 128;
/** Hosts that a reason names. */
const MAX_NAMED = 3;

const fits: Permission = Object.freeze({ ok: true });
const refused = (reason: string): Permission => ({ ok: false, reason });

/** 'git@github.com', safe to show. */
export function hopText({ user, hostname }: Hop): string {
  return visible(user === '' ? hostname : `${user}@${hostname}`, MAX_SHOWN);
}

function hopsText(hops: readonly Hop[]): string {
  const named = hops.slice(0, MAX_NAMED).map(hopText).join(', ');
  return hops.length > MAX_NAMED ? `${named} and ${hops.length - MAX_NAMED} more` : named;
}

function isKeyOf({ keys }: Guard, entry: Entry): boolean {
  return keys === undefined || keys.includes(fingerprint(entry.signer.publicKey));
}

function comesBy(guard: Guard, { failed, list }: Bindings, nowSeconds: number): Permission {
  const { via } = guard;
  if (via === undefined) return fits;
  const name = hopText(via);
  // Whoever spoils a binding wants something else believed than what it says.
  if (failed) return refused(`a host on the way did not prove itself, and the guard is for ${name}`);
  const first = list.find(({ forwarded }) => forwarded);
  if (first === undefined) return refused(`the connection does not prove that it comes from ${name}`);
  return matchesHop(via, first.hostKey, nowSeconds)
    ? fits
    : refused(`the connection comes from another host than ${name}`);
}

function leadsWhereAllowed(guard: Guard, { signed, bindings, nowSeconds }: GuardedFacts): Permission {
  const { to } = guard;
  if (to === undefined) return fits;
  const names = hopsText(to);
  if (signed.kind !== 'login') return refused(`the guard signs only logins to ${names}`);
  if (bindings.failed) return refused(`a host on the way did not prove itself, and the guard is for ${names}`);
  const fitting = loginFitsBindings(signed, bindings);
  if (!fitting.ok) return fitting;
  // A host may sign a session that it has not, to stand for the one that the login is really for.
  if (signed.hostKey === undefined) return refused('the login does not name its host key, as it must through a guard');
  const last = bindings.list.at(-1);
  if (last === undefined || last.forwarded) return refused('a signature was asked for on a session that only forwards');
  const hops = to.filter((hop) => matchesHop(hop, last.hostKey, nowSeconds));
  if (hops.length === 0) return refused(`the login leads to another host than ${names}`);
  return hops.some((hop) => matchesUser(hop.user, signed.user))
    ? fits
    : refused(`the guard does not let user ${visible(signed.user, MAX_SHOWN)} log in there`);
}

/** Whether a request fits the guard that it came through; what fits is still decided on. */
export function guardPermits(guard: Guard, facts: GuardedFacts): Permission {
  if (!isKeyOf(guard, facts.entry)) return refused('the guard is for other keys');
  const path = comesBy(guard, facts.bindings, facts.nowSeconds);
  return path.ok ? leadsWhereAllowed(guard, facts) : path;
}

/**
 * Whether a key is seen through the guard.
 * @param from the connection that lists: known, keys that are of no use on it are not seen either
 */
export function seenThrough(
  guard: Guard,
  entry: Entry,
  from?: { readonly bindings: Bindings; readonly nowSeconds: number },
): boolean {
  if (!isKeyOf(guard, entry)) return false;
  if (from === undefined) return true;
  const { bindings, nowSeconds } = from;
  if (!comesBy(guard, bindings, nowSeconds).ok) return false;
  const last = bindings.list.at(-1);
  if (guard.to === undefined || last === undefined || last.forwarded) return true;
  return guard.to.some((hop) => matchesHop(hop, last.hostKey, nowSeconds));
}
