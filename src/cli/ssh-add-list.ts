/** ssh-add -l and -L: one line for each key that the agent holds. */
import { sha256 } from '@noble/hashes/sha2.js';
import { KeyError } from '../keys/error.ts';
import { fingerprint, publicKeyText, typeName } from '../keys/publickey.ts';
import type { Identity } from '../wire/responses.ts';
import { parseKey } from './anykey.ts';
import { errorText } from './errors.ts';
import { shown } from './output.ts';
import { type Asked, hintAt } from './ssh-add-session.ts';

/** Keys up to which hashing them in JavaScript takes less time than loading node:crypto, which is two milliseconds. */
const FEW_KEYS = 50;

/** -l and -L. Keys of types that we don't know are passed over, as OpenSSH does. */
export async function list(session: Asked, fingerprints: boolean): Promise<boolean> {
  const { agent, options, out } = session;
  let identities: readonly Identity[];
  try {
    identities = await agent.list();
  } catch (error) {
    out.error(`error fetching identities: ${errorText(error)}`);
    hintAt(session, error);
    return false;
  }
  if (identities.length === 0) {
    out.line('The agent has no identities.');
    return false;
  }
  const hashOfFew = identities.length <= FEW_KEYS ? sha256 : undefined;
  const lines: string[] = [];
  let broken: unknown;
  for (const { blob, comment } of identities) {
    try {
      const key = await parseKey(blob);
      lines.push(
        fingerprints
          ? `${key.bits} ${fingerprint(key, options.hash, hashOfFew)} ${shown(comment)} (${typeName(key)})`
          : `${publicKeyText(key)} ${shown(comment)}`,
      );
    } catch (error) {
      if (error instanceof KeyError && error.code === 'unknown-type')
        out.debug(1, 'a key of an unknown type is left out');
      else broken = error;
    }
  }
  // OpenSSH shows no key at all where one is malformed; the others are still worth seeing.
  out.lines(lines);
  if (broken === undefined) return true;
  out.error(`error fetching identities: ${errorText(broken)}`);
  hintAt(session, broken);
  return false;
}
