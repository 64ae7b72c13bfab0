/**
 * What a FIDO key that was made for something else than SSH may sign (OpenSSH's restrict_websafe): its application does
 * not match the allow list, so it may be a key for web sites, whose login challenges are to be had from no agent. Such a
 * key signs logins with itself and SSHSIG, and nothing else: no certificates, no sudo, no unidentified bytes.
 */
import { matchGlob } from '../keys/glob.ts';
import type { PublicKey } from '../keys/publickey.ts';
import { equal, text, utf8 } from '../wire/bytes.ts';
import type { SignedData } from '../wire/signeddata.ts';

/** Applications that are free, unless `-O websafe-allow` names others. */
export const DEFAULT_WEBSAFE_ALLOW = 'ssh:*';
/** OpenSSH's bound for one pattern of a list: one that is longer makes the whole list match nothing. */
export const MAX_LISTED_PATTERN_BYTES = 1022;

export interface WebsafeRules {
  /** False after `-O no-restrict-websafe`. */
  readonly restrict: boolean;
  /** A pattern list; undefined: DEFAULT_WEBSAFE_ALLOW. */
  readonly allow?: string;
}

export const defaultWebsafe: WebsafeRules = Object.freeze({ restrict: true });

export type WebsafeVerdict = { readonly ok: true } | { readonly ok: false; readonly reason: string };

const fine: WebsafeVerdict = Object.freeze({ ok: true });

/**
 * OpenSSH's match_pattern_list, with case: patterns with * and ? between commas, a `!` before one forbids what it matches,
 * wherever it stands. True where one matches and none forbids.
 */
export function matchPatternList(value: string, list: string): boolean {
  const items = list.split(',');
  // As OpenSSH reads it, nothing follows the last comma, while between two there is an empty pattern.
  if (items.at(-1) === '') items.pop();
  let matched = false;
  for (const item of items) {
    const negated = item.startsWith('!');
    const pattern = negated ? item.slice(1) : item;
    if (utf8(pattern).length > MAX_LISTED_PATTERN_BYTES) return false;
    if (!matchGlob(value, pattern)) continue;
    if (negated) return false;
    matched = true;
  }
  return matched;
}

/**
 * The rules after the value of one `-O`.
 * @returns undefined where the option is none of ours; 'already-set' for a second `websafe-allow`
 */
export function withWebsafeOption(rules: WebsafeRules, option: string): WebsafeRules | 'already-set' | undefined {
  if (option === 'no-restrict-websafe') return { ...rules, restrict: false };
  const name = 'websafe-allow=';
  if (!option.startsWith(name)) return undefined;
  return rules.allow === undefined ? { ...rules, allow: option.slice(name.length) } : 'already-set';
}

/** Whether `key` may sign `signed`; a key that is no FIDO key always may. */
export function websafe(key: PublicKey, signed: SignedData, rules: WebsafeRules): WebsafeVerdict {
  const { application } = key.fields;
  if (application === undefined || !rules.restrict) return fine;
  if (matchPatternList(text(application), rules.allow ?? DEFAULT_WEBSAFE_ALLOW)) return fine;
  if (signed.kind === 'sshsig') return fine;
  if (signed.kind === 'login' && equal(signed.keyBlob, key.blob)) return fine;
  return { ok: false, reason: 'a security key that may be one for web sites signs logins and SSHSIG alone' };
}
