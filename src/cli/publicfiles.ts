/**
 * Public keys by file name, looked for as OpenSSH's programs do: in the file itself, in FILE.pub, and last in the public
 * half of a private key file that has it in the clear. Whatever is wrong with all three, OpenSSH says that there is no such file; what was
 * really found goes into `problems`.
 */
import { closeSync, openSync } from 'node:fs';
import { startsWith } from '../keys/armour.ts';
import { KeyError } from '../keys/error.ts';
import type { PublicKey } from '../keys/publickey.ts';
import { text } from '../wire/bytes.ts';
import { parseKey, parseKeyLine } from './anykey.ts';
import { readKeyContent } from './keycontent.ts';

export interface LoadedPublicKey {
  readonly key: PublicKey;
  /** The name of the file where its line has none; undefined where it came from a private key file. */
  readonly comment: string | undefined;
}

export interface PublicKeyProblem {
  readonly path: string;
  readonly error: unknown;
}

export type PublicKeyFile =
  | { readonly kind: 'found'; readonly loaded: LoadedPublicKey }
  | { readonly kind: 'missing'; readonly problems: readonly PublicKeyProblem[] };

/** How private keys in PEM and OpenSSH's form begin, and PuTTY's. */
const BEGINNINGS = ['-----BEGIN', 'PuTTY-User-Key-File-'];
const LF = 10;

function read(path: string): Uint8Array {
  const fd = openSync(path, 'r');
  try {
    return readKeyContent(fd);
  } finally {
    closeSync(fd);
  }
}

/** The lines before a private key begins, if one does: nothing secret becomes a string. */
function publicLines(content: Uint8Array): string[] {
  let end = 0;
  const begins = (at: number): boolean => BEGINNINGS.some((beginning) => startsWith(content, beginning, at));
  while (end < content.length && !begins(end)) {
    const newline = content.indexOf(LF, end);
    end = newline < 0 ? content.length : newline + 1;
  }
  return text(content.subarray(0, end)).split('\n');
}

async function fromLines(content: Uint8Array, path: string): Promise<LoadedPublicKey> {
  let problem: unknown = new KeyError('malformed', 'no line of it is a public key');
  for (const line of publicLines(content)) {
    if (line.trim() === '' || line.startsWith('#')) continue;
    try {
      const { key, comment } = await parseKeyLine(line);
      return { key, comment: comment === '' ? path : comment };
    } catch (error) {
      problem = error;
    }
  }
  throw problem;
}

async function fromPrivateKey(content: Uint8Array): Promise<LoadedPublicKey | undefined> {
  const { publicBlobOfKeyFile } = await import('../keys/keyfile.ts');
  const blob = publicBlobOfKeyFile(content);
  return blob === undefined ? undefined : { key: await parseKey(blob), comment: undefined };
}

/** The public key that `path` names. */
export async function loadPublicKey(path: string): Promise<PublicKeyFile> {
  const problems: PublicKeyProblem[] = [];
  const attempt = async (
    file: string,
    parse: (content: Uint8Array) => Promise<LoadedPublicKey | undefined>,
  ): Promise<LoadedPublicKey | undefined> => {
    let content: Uint8Array | undefined;
    try {
      content = read(file);
      return await parse(content);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') problems.push({ path: file, error });
      return undefined;
    } finally {
      content?.fill(0);
    }
  };
  const isPrivate = (content: Uint8Array): boolean => BEGINNINGS.some((beginning) => startsWith(content, beginning));
  const loaded =
    (await attempt(path, async (content) => (isPrivate(content) ? undefined : fromLines(content, path)))) ??
    (await attempt(`${path}.pub`, (content) => fromLines(content, `${path}.pub`))) ??
    (await attempt(path, async (content) => (isPrivate(content) ? fromPrivateKey(content) : undefined)));
  return loaded === undefined ? { kind: 'missing', problems } : { kind: 'found', loaded };
}

/** What OpenSSH says of a file that loadPublicKey found nothing in. */
export const NO_PUBLIC_KEY = 'No such file or directory';
