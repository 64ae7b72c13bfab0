/**
 * Whether a request to sign is allowed, denied, or put to a person: a pure function over Facts. OpenSSH's defaults: a key
 * without constraints signs what it is asked to; destinations permit or refuse; a key added with -c asks each time.
 */
import { fingerprint } from '../keys/publickey.ts';
import type { Entry } from '../store/entry.ts';
import { visible } from '../wire/visible.ts';
import { maySign } from './destination.ts';
import type { Facts } from './facts.ts';
import { type WebsafeRules, websafe } from './websafe.ts';

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

export interface DecisionRules {
  /** Of fingerprints in questions, `ssh-agent -E`. */
  readonly fingerprintHash: string;
  readonly websafe: WebsafeRules;
}

/** Whether what is to be signed has a bearing on the decision; where not, it need not be looked at. */
export function dependsOnData({ signer, destinations }: Entry): boolean {
  return destinations !== undefined || signer.publicKey.fields.application !== undefined;
}

export function decide(facts: Facts, rules: DecisionRules): Decision {
  const { entry, bindings, signed, nowSeconds } = facts;
  if (entry.destinations !== undefined) {
    const { blob } = entry.signer.publicKey;
    const permission = maySign({ blob, destinations: entry.destinations }, bindings, signed, nowSeconds);
    if (!permission.ok) return { effect: 'deny', reason: permission.reason };
  }
  const verdict = websafe(entry.signer.publicKey, signed, rules.websafe);
  if (!verdict.ok) return { effect: 'deny', reason: verdict.reason };
  return entry.confirm ? { effect: 'ask', question: question(facts, rules.fingerprintHash) } : allow;
}
