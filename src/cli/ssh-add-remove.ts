/** ssh-add -d: removes keys by their public half, which a file, FILE.pub, or standard input (`-`) has. */

import { KeyError } from '../keys/error.ts';
import { type PublicKey, typeName } from '../keys/publickey.ts';
import { equal, text } from '../wire/bytes.ts';
import { parseKeyLine } from './anykey.ts';
import { errorText } from './errors.ts';
import { readKeyContent } from './keycontent.ts';
import { Fatal, shown } from './output.ts';
import { loadPublicKey, NO_PUBLIC_KEY } from './publicfiles.ts';
import { hintAt, hintAtProblems, type Session } from './ssh-add-session.ts';

const STDIN = 0;

async function removeOne(
  session: Session,
  key: PublicKey,
  comment: string | undefined,
  path: string,
): Promise<boolean> {
  const { agent, options, out } = session;
  try {
    await agent.remove(key.blob);
  } catch (error) {
    out.error(`Could not remove identity "${shown(path)}": ${errorText(error)}`);
    hintAt(session, error);
    return false;
  }
  if (!options.quiet)
    out.error(`Identity removed: ${shown(path)} ${typeName(key)} (${shown(comment ?? 'no comment')})`);
  return true;
}

/** Whether -k and -C leave this key to be removed. */
function wanted({ options }: Session, key: PublicKey): boolean {
  const { keysOnly, certificatesOnly } = options;
  if (!keysOnly && !certificatesOnly) return true;
  return key.certificate === undefined ? keysOnly : certificatesOnly;
}

async function removeFromStdin(session: Session): Promise<boolean> {
  const content = readKeyContent(STDIN);
  let removed = false;
  let number = 0;
  for (const line of text(content).split('\n')) {
    number++;
    if (/^[ \t]*(#|\r?$)/.test(line)) continue;
    try {
      const { key, comment } = await parseKeyLine(line);
      if (wanted(session, key)) removed = (await removeOne(session, key, comment, '(stdin)')) || removed;
    } catch (error) {
      // As OpenSSH, which knows a line of no type it has only as malformed.
      const isKey = error instanceof KeyError && error.code !== 'unknown-type';
      session.out.error(`(stdin):${number}: invalid key: ${isKey ? errorText(error) : 'invalid format'}`);
      hintAt(session, error);
    }
  }
  return removed;
}

/**
 * Removes the key that `path` names, and the certificate beside it. True where at least one was removed.
 * @throws Fatal for a certificate of another key
 */
export async function removeFile(session: Session, path: string): Promise<boolean> {
  const { options, out } = session;
  if (path === '-') return removeFromStdin(session);
  const file = await loadPublicKey(path);
  if (file.kind === 'missing') {
    // To standard output, as OpenSSH has it.
    out.line(`Bad key file ${shown(path)}: ${NO_PUBLIC_KEY}`);
    hintAtProblems(session, file.problems);
    return false;
  }
  const { key, comment } = file.loaded;
  let removed = false;
  if (wanted(session, key)) removed = await removeOne(session, key, comment, path);
  if (options.keysOnly) return removed;
  const certificatePath = `${path}-cert.pub`;
  const beside = await loadPublicKey(certificatePath);
  if (beside.kind === 'missing') {
    hintAtProblems(session, beside.problems);
    return removed;
  }
  if (!equal(beside.loaded.key.plainBlob, key.plainBlob))
    throw new Fatal(`Certificate ${shown(certificatePath)} does not match private key ${shown(path)}`);
  return (await removeOne(session, beside.loaded.key, beside.loaded.comment, certificatePath)) || removed;
}
