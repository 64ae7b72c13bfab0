/**
 * Whether a request to sign is allowed, denied, or put to a person: a pure function over Facts (DESIGN section 5). Three
 * steps, and each can only make the outcome stricter than OpenSSH's: what the key and the guard are bound to; the owner's
 * rules, the first that matches, or else the table of defaults; and last the key's own `-c`.
 */
import type { Entry } from '../store/entry.ts';
import { maySign } from './destination.ts';
import type { Facts } from './facts.ts';
import { guardPermits } from './guard.ts';
import { purposeOf } from './purpose.ts';
import { firstMatch, type Rule, type Scope } from './rules.ts';
import { type WebsafeRules, websafe } from './websafe.ts';

/** What decided, in words that the owner can look up. */
export interface Ground {
  readonly kind: 'default' | 'rule' | 'destinations' | 'websafe' | 'confirm' | 'guard' | 'consent';
  readonly text: string;
  /** Of a rule: its line in the configuration file. */
  readonly line?: number;
}

export type Decision =
  | { readonly effect: 'allow'; readonly ground: Ground }
  | { readonly effect: 'deny'; readonly ground: Ground; readonly reason: string }
  /** `lasts`: what a plain yes means. */
  | { readonly effect: 'ask'; readonly ground: Ground; readonly lasts: Scope };

export interface Policy {
  /** Of fingerprints in OpenSSH's questions, `ssh-agent -E`. */
  readonly fingerprintHash: string;
  readonly websafe: WebsafeRules;
  /** Which defaults hold for what comes from afar: OpenSSH's, which allow it, or Latchkey's. */
  readonly table: 'openssh' | 'latchkey';
  readonly rules: readonly Rule[];
  /** What a plain yes means where no rule says. */
  readonly lasts: Scope;
}

const ground = (kind: Ground['kind'], text: string): Ground => Object.freeze({ kind, text });

const local: Decision = Object.freeze({ effect: 'allow', ground: ground('default', 'requests of this machine') });
const asOpenssh: Decision = Object.freeze({ effect: 'allow', ground: ground('default', "OpenSSH's defaults") });
const permittedPath: Decision = Object.freeze({
  effect: 'allow',
  ground: ground('destinations', 'the destinations that the key was added with'),
});
const confirmed: Decision = Object.freeze({
  effect: 'ask',
  ground: ground('confirm', 'the key was added with -c'),
  lasts: 'once',
});

function deny(of: Ground, reason: string): Decision {
  return { effect: 'deny', ground: of, reason };
}

/** What the key and the guard are bound to: no rule lifts it. Undefined: nothing stands against it. */
function outOfBounds(facts: Facts, policy: Policy): Decision | undefined {
  const { entry, bindings, signed, nowSeconds, guard } = facts;
  if (entry.destinations !== undefined) {
    const { blob } = entry.signer.publicKey;
    const permission = maySign({ blob, destinations: entry.destinations }, bindings, signed, nowSeconds);
    if (!permission.ok) return deny(permittedPath.ground, permission.reason);
  }
  const verdict = websafe(entry.signer.publicKey, signed, policy.websafe);
  if (!verdict.ok) return deny(ground('websafe', 'security keys that may be for web sites'), verdict.reason);
  if (guard !== undefined) {
    const permission = guardPermits(guard, facts);
    if (!permission.ok) return deny(ground('guard', `guard ${guard.id}`), permission.reason);
  }
  return undefined;
}

/** The table of DESIGN section 5 for what may come from another machine. */
function fromAfar(facts: Facts, { lasts }: Policy): Decision {
  const { entry, guard, relay } = facts;
  const purpose = purposeOf(facts);
  const row = (text: string): Ground => ground('default', `${text}, forwarded`);
  switch (purpose) {
    case 'login':
      // The owner agreed to this path when the key was added. Behind a relay it may be another.
      if (entry.destinations !== undefined && relay === undefined && guard === undefined) return permittedPath;
      return { effect: 'ask', ground: row('a login'), lasts };
    case 'sshsig':
      return { effect: 'ask', ground: row('a signature for a file or commit'), lasts };
    case 'sudo':
      return { effect: 'ask', ground: row('sudo'), lasts };
    case 'blind-login':
      return deny(row('a login'), 'no verified host stands behind the session that it is for');
    case 'certificate':
      return deny(row('a certificate to be signed'), 'certificates are not signed for other machines');
    case 'webauthn':
      return deny(row('a web login'), 'web logins are not signed for other machines');
    case 'unidentified':
      return deny(row('unidentified bytes'), 'nobody can tell what the signature would be for');
    default:
      return purpose satisfies never;
  }
}

function byRule(rule: Rule): Decision {
  const of: Ground = { kind: 'rule', text: rule.name, line: rule.line };
  switch (rule.effect) {
    case 'allow':
      return { effect: 'allow', ground: of };
    case 'deny':
      return deny(of, `denied by ${rule.name}`);
    case 'ask':
      return { effect: 'ask', ground: of, lasts: rule.lasts };
    default:
      return rule.effect satisfies never;
  }
}

function byDefault(facts: Facts, policy: Policy): Decision {
  if (!facts.forwarded) return local;
  return policy.table === 'openssh' && facts.guard === undefined ? asOpenssh : fromAfar(facts, policy);
}

/** Who opened a guard agreed to what fits it, or wants to be asked, whatever the rules allow. */
function throughGuard(facts: Facts, decision: Decision, isRule: boolean): Decision {
  const { guard } = facts;
  if (guard === undefined || decision.effect === 'deny') return decision;
  const of = ground('guard', `guard ${guard.id}`);
  if (guard.effect === 'ask')
    return decision.effect === 'ask' ? decision : { effect: 'ask', ground: of, lasts: 'once' };
  return isRule ? decision : { effect: 'allow', ground: of };
}

/** @returns frozen or fresh; never keeps `facts` */
export function decide(facts: Facts, policy: Policy): Decision {
  const bound = outOfBounds(facts, policy);
  if (bound !== undefined) return bound;
  const rule = policy.rules.length === 0 ? undefined : firstMatch(policy.rules, facts);
  const wish = rule === undefined ? byDefault(facts, policy) : byRule(rule);
  const decision = throughGuard(facts, wish, rule !== undefined);
  if (!facts.entry.confirm || decision.effect === 'deny') return decision;
  // Each use is to be confirmed, so that a plain yes is for this one.
  return decision.effect === 'allow' ? confirmed : { ...decision, lasts: 'once' };
}

/** Whether decisions may differ with who asks and where from: OpenSSH's defaults without rules do not. */
export function dependsOnAsker({ table, rules }: Policy): boolean {
  return table !== 'openssh' || rules.length > 0;
}

/** Whether a decision may differ with what is to be signed, or with where from: if not, nobody need look. */
export function dependsOnFacts({ signer, destinations, confirm }: Entry, policy: Policy): boolean {
  return (
    dependsOnAsker(policy) || confirm || destinations !== undefined || signer.publicKey.fields.application !== undefined
  );
}
