/** The words of OpenSSH's confirm_key (ssh-agent.c), which askpass programs and scripts know. */
import { fingerprint } from '../keys/publickey.ts';
import { visible } from '../wire/visible.ts';
import type { Facts } from './facts.ts';

/** Longest comment in a question, in characters: the rest of the question must stay in sight. */
const MAX_COMMENT = 256;

/** @param hash of the fingerprint. @throws KeyError 'unsupported' for an unknown one */
export function opensshText({ entry, signed }: Pick<Facts, 'entry' | 'signed'>, hash: string): string {
  const comment = visible(entry.comment, MAX_COMMENT);
  const lines = [`Allow use of key ${comment}?`, `Key fingerprint ${fingerprint(entry.signer.publicKey, hash)}.`];
  if (entry.destinations !== undefined && signed.kind === 'login')
    lines.push(`public key authentication request for user "${visible(signed.user, MAX_COMMENT)}" to listed host`);
  return lines.join('\n');
}
