/**
 * What a FIDO key that was made for something else than SSH may sign (OpenSSH's restrict_websafe): its application does
 * not match the allow list, so it may be a key for web sites, whose login challenges are to be had from no agent. Such a
 * key signs logins with itself and SSHSIG, and nothing else: no certificates, no sudo, no unidentified bytes.
 */
import type { PublicKey } from '../keys/publickey.ts';
import { equal, text } from '../wire/bytes.ts';
import type { SignedData } from '../wire/signeddata.ts';
import { matchPatternList } from './patternlist.ts';

/** Applications that are free, unless `-O websafe-allow` names others. */
export const DEFAULT_WEBSAFE_ALLOW = 'ssh:*';

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
