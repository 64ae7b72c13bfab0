/** Public keys of any type from bytes or a line: the composite type needs a library, which is loaded only where it is met. */
import { KeyError } from '../keys/error.ts';
import { loadMldsa, needsMldsa } from '../keys/mldsa.ts';
import { type PublicKey, parsePublicKey, parsePublicKeyLine } from '../keys/publickey.ts';

/** parsePublicKey for any type: the composite one needs a library that is loaded only then. */
export async function parseKey(blob: Uint8Array): Promise<PublicKey> {
  if (needsMldsa(blob)) await loadMldsa();
  return parsePublicKey(blob);
}

/** parsePublicKeyLine for any type, as above. */
export async function parseKeyLine(line: string): Promise<{ readonly key: PublicKey; readonly comment: string }> {
  try {
    return parsePublicKeyLine(line);
  } catch (error) {
    if (!(error instanceof KeyError) || error.code !== 'unsupported') throw error;
    await loadMldsa();
    return parsePublicKeyLine(line);
  }
}
