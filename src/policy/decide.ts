/**
 * Whether a request to sign is allowed, denied, or put to a person: a pure function over Facts. OpenSSH's defaults: a key
 * without constraints signs what it is asked to; destinations permit or refuse; a key added with -c asks each time.
 */
import { fingerprint } from '../keys/publickey.ts';
import { visible } from '../wire/visible.ts';
import { maySign } from './destination.ts';
import type { Facts } from './facts.ts';

export type Decision =
  | { readonly effect: 'allow' }
  | { readonly effect: 'deny'; readonly reason: string }
  | { readonly effect: 'ask'; readonly question: string };

const allow: Decision = Object.freeze({ effect: 'allow' });

/** Longest comment in a question, in characters: the rest of the question must stay in sight. */
const MAX_COMMENT = 256;

/** The words of OpenSSH's confirm_key, which askpass programs and scripts know. */
function question(facts: Facts, hash: string): string {
  const { entry, signed } = facts;
  const comment = visible(entry.comment, MAX_COMMENT);
  const lines = [`Allow use of key ${comment}?`, `Key fingerprint ${fingerprint(entry.signer.publicKey, hash)}.`];
  if (entry.destinations !== undefined && signed.kind === 'login')
    lines.push(`public key authentication request for user "${visible(signed.user, MAX_COMMENT)}" to listed host`);
  return lines.join('\n');
}

/** @param hash of fingerprints in questions, `ssh-agent -E` */
export function decide(facts: Facts, hash: string): Decision {
  const { entry, bindings, signed, nowSeconds } = facts;
  if (entry.destinations !== undefined) {
    const { blob } = entry.signer.publicKey;
    const permission = maySign({ blob, destinations: entry.destinations }, bindings, signed, nowSeconds);
    if (!permission.ok) return { effect: 'deny', reason: permission.reason };
  }
  return entry.confirm ? { effect: 'ask', question: question(facts, hash) } : allow;
}
