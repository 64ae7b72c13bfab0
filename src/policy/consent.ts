/**
 * Answers that last: what a person agreed to beyond the one request, and whether it covers another. Each is tied to the key
 * as it was added, to what the signature is for, and to the hosts on the way; a key that is added again, or a lock, ends it.
 */
import { base64, equal } from '../wire/bytes.ts';
import type { Facts, PeerProcess, Purpose } from './facts.ts';
import { purposeOf } from './purpose.ts';
import type { Scope } from './rules.ts';

/** How long "this destination" holds, in milliseconds. */
export const DESTINATION_MS = 15 * 60 * 1000;
/** How long "this via-host and destination" holds at most. */
export const PATH_MS = 8 * 60 * 60 * 1000;

export interface Consent {
  readonly scope: Exclude<Scope, 'once' | 'always'>;
  readonly entry: Facts['entry'];
  readonly purpose: Purpose;
  readonly guardId: string | undefined;
  /** One given to this machine does not hold for what is relayed through it. */
  readonly forwarded: boolean;
  readonly way: string;
  readonly namespace: string | undefined;
  /** The command that it holds for: until it ends. */
  readonly process: PeerProcess | undefined;
  /** Where a login leads, and as whom; undefined: anywhere. */
  readonly destination: { readonly hostKey: Uint8Array; readonly user: string } | undefined;
  /** Milliseconds of the agent's clock. */
  readonly until: number;
}

/** By which way it comes: the forwarding hosts, and what else is known of it. One relay is not another. */
function wayOf({ hosts, relay, bindings }: Facts): string {
  const via = hosts.flatMap(({ binding, fingerprint }) => (binding.forwarded ? [fingerprint] : []));
  return JSON.stringify([via, relay, bindings.failed]);
}

function destinationOf({ signed, bindings }: Facts): Consent['destination'] {
  const last = bindings.list.at(-1);
  return signed.kind === 'login' && last !== undefined && !last.forwarded
    ? { hostKey: last.hostKeyBlob, user: signed.user }
    : undefined;
}

/**
 * What one yes may stand for where the same is asked for twice: all that a sentence may have cut short. Undefined: each
 * request is to be asked about by itself.
 */
export function identityOf(facts: Facts): string | undefined {
  const { signed, entry } = facts;
  const key = base64(entry.signer.publicKey.blob);
  if (signed.kind === 'sshsig') return JSON.stringify([key, wayOf(facts), signed.namespace]);
  const to = destinationOf(facts);
  return to === undefined ? undefined : JSON.stringify([key, wayOf(facts), base64(to.hostKey), to.user]);
}

/** The lasting answers that make sense for a request. */
export function scopesFor(facts: Facts, command: PeerProcess | undefined): readonly Consent['scope'][] {
  const purpose = purposeOf(facts);
  if (purpose !== 'login' && purpose !== 'blind-login' && purpose !== 'sshsig') return [];
  // Nothing proves where one from afar leads: a yes that lasts would be for anywhere.
  if (purpose === 'blind-login' && facts.forwarded) return [];
  const scopes: Consent['scope'][] = [];
  if (command?.startTime !== undefined) scopes.push('command');
  if (purpose === 'blind-login') return scopes;
  if (purpose === 'sshsig' || destinationOf(facts) !== undefined) {
    scopes.push('destination');
    if (facts.forwarded && facts.hosts.length > 0) scopes.push('path');
  }
  return scopes;
}

/** What a yes with this scope agrees to. */
export function consentTo(
  facts: Facts,
  scope: Consent['scope'],
  command: PeerProcess | undefined,
  nowMs: number,
): Consent {
  const { signed } = facts;
  const until = { command: Number.POSITIVE_INFINITY, destination: nowMs + DESTINATION_MS, path: nowMs + PATH_MS }[
    scope
  ];
  return Object.freeze({
    scope,
    entry: facts.entry,
    purpose: purposeOf(facts),
    guardId: facts.guard?.id,
    forwarded: facts.forwarded,
    way: wayOf(facts),
    namespace: signed.kind === 'sshsig' ? signed.namespace : undefined,
    process: scope === 'command' ? command : undefined,
    // A command here may do as it likes; what comes by it from afar may not.
    destination: scope === 'command' && !facts.forwarded ? undefined : destinationOf(facts),
    until,
  });
}

function isSame(a: PeerProcess, b: PeerProcess | undefined): boolean {
  return b !== undefined && a.pid === b.pid && a.startTime !== undefined && a.startTime === b.startTime;
}

/** Whether `consent` holds for another request. */
export function covers(consent: Consent, facts: Facts, command: PeerProcess | undefined, nowMs: number): boolean {
  const { signed } = facts;
  if (consent.entry !== facts.entry || consent.until <= nowMs) return false;
  if (consent.purpose !== purposeOf(facts) || consent.guardId !== facts.guard?.id) return false;
  if (consent.forwarded !== facts.forwarded || consent.way !== wayOf(facts)) return false;
  if (consent.namespace !== (signed.kind === 'sshsig' ? signed.namespace : undefined)) return false;
  if (consent.scope === 'command') {
    if (consent.process === undefined || !isSame(consent.process, command)) return false;
    if (!consent.forwarded) return true;
  }
  const agreed = consent.destination;
  const asked = destinationOf(facts);
  if (agreed === undefined || asked === undefined) return agreed === asked;
  return equal(agreed.hostKey, asked.hostKey) && agreed.user === asked.user;
}
