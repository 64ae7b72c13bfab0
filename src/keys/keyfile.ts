/**
 * Private key files: finds out what a file is and gives it to the reader of its format (OpenSSH's own, PEM, PuTTY's).
 * What is no private key is refused in words that say what it is instead.
 */
import { keyShape } from '../wire/keyshapes.ts';
import { isSpace, latin1, startsWith, trimEnd } from './armour.ts';
import { KeyError } from './error.ts';
import type { PrivateKeyFile } from './filecontent.ts';
import { commentOfOpensshFile, OPENSSH_BEGIN, publicBlobOfOpensshFile, readOpensshFile } from './opensshfile.ts';
import { type PemBlock, pemBlocks, privatePemBlock, readPemBlock } from './pemfile.ts';
import { publicPartOfPpkFile, readPpkFile } from './ppkfile.ts';
import { PPK_BEGIN } from './ppklines.ts';

export type { PrivateKeyFile } from './filecontent.ts';

/** OpenSSH reads up to 128 MiB; the largest real key file (RSA of 16384 bits) has 13 KiB. */
export const MAX_KEY_FILE_BYTES = 1024 * 1024;

/** How far a line is looked at to tell what it is. */
const MAX_FIRST_LINE_BYTES = 200;

const ssh1Begin = 'SSH PRIVATE KEY FILE FORMAT 1.1';

function isOpenssh(content: Uint8Array): boolean {
  return startsWith(content, OPENSSH_BEGIN);
}

/** What a file without a private key begins with, as a sentence about it. */
function describeFirstLine(line: string): string | undefined {
  if (/^-{4,5} ?BEGIN SSH2 ENCRYPTED PRIVATE KEY/.test(line))
    return "this is a private key in ssh.com's form, which is not served";
  if (/^-{4,5} ?BEGIN SSH2 PUBLIC KEY/.test(line)) return 'this is a public key (RFC 4716), not a private key';
  if (line.startsWith('-----BEGIN PGP ')) return 'this is an OpenPGP file, not an SSH private key';
  for (const word of line.split(/\s+/).slice(0, 3)) {
    const known = keyShape(word);
    if (known !== undefined)
      return known.certificate ? 'this is a certificate, not a private key' : 'this is a public key, not a private key';
    if (word === 'ssh-dss') return 'this is a public key, not a private key';
  }
  return undefined;
}

function describeBlock({ label }: PemBlock): string {
  if (label === 'OPENSSH PRIVATE KEY') return 'there is text before the BEGIN line of the private key';
  if (label.endsWith('CERTIFICATE REQUEST')) return 'this is a PEM certificate request, not a private key';
  if (label.endsWith('CERTIFICATE')) return 'this is a PEM certificate, not a private key';
  if (label.endsWith('PUBLIC KEY')) return 'this is a PEM public key, not a private key';
  if (label === 'SSH SIGNATURE') return 'this is an SSH signature, not a private key';
  return 'this is a PEM file without a private key that is served';
}

/** A sentence about what `content` is, since it is no private key file. */
function describe(content: Uint8Array, blocks: readonly PemBlock[]): string {
  let start = 0;
  while (start < content.length && isSpace(content[start])) start++;
  if (start === content.length) return 'the file is empty';
  const rest = content.subarray(start);
  if (start > 0 && (startsWith(rest, '-----BEGIN ') || startsWith(rest, PPK_BEGIN)))
    return 'there is white space before the first line of the key: remove it';
  if (content[0] === 0xef && content[1] === 0xbb && content[2] === 0xbf)
    return 'the file begins with a byte order mark: save it as plain text without one';
  if ((content[0] === 0xff && content[1] === 0xfe) || (content[0] === 0xfe && content[1] === 0xff))
    return 'the file is UTF-16: save it as plain text (ASCII or UTF-8 without a byte order mark)';
  if (content[0] === 0x30 && content[1] !== undefined && content[1] >= 0x80)
    return 'this is a binary (DER or PKCS#12) file: convert it to PEM';
  const newline = rest.indexOf(10);
  const length = newline < 0 ? rest.length : newline;
  const firstLine = latin1(trimEnd(rest.subarray(0, Math.min(length, MAX_FIRST_LINE_BYTES))));
  const told = describeFirstLine(firstLine);
  if (told !== undefined) return told;
  const [block] = blocks;
  return block === undefined ? 'this is no private key in a form that is known here' : describeBlock(block);
}

/**
 * Reads the private key of a file. Neither argument is kept; both are the caller's to wipe.
 * @param passphrase undefined or empty: none, which an encrypted file answers with 'needs-passphrase'; a file that is not
 *   encrypted does not look at it
 * @throws KeyError (the promise is rejected)
 */
export async function readPrivateKeyFile(
  content: Uint8Array,
  passphrase: Uint8Array | undefined,
): Promise<PrivateKeyFile> {
  if (content.length > MAX_KEY_FILE_BYTES)
    throw new KeyError('out-of-bounds', `the file is larger than ${MAX_KEY_FILE_BYTES} bytes: no private key is`);
  if (isOpenssh(content)) return readOpensshFile(content, passphrase);
  if (startsWith(content, PPK_BEGIN)) return readPpkFile(content, passphrase);
  if (startsWith(content, ssh1Begin))
    throw new KeyError(
      'unknown-type',
      'this is a key of SSH protocol 1, which OpenSSH dropped in 7.6; it is not served',
    );
  const blocks = pemBlocks(content);
  const block = privatePemBlock(blocks);
  if (block === undefined) throw new KeyError('malformed', describe(content, blocks));
  return readPemBlock(block, passphrase);
}

/**
 * The public blob of a private key file whose format keeps it in the clear (OpenSSH's and PuTTY's), without passphrase;
 * undefined for any other file.
 * @throws KeyError for a file of these formats that is damaged
 */
export function publicBlobOfKeyFile(content: Uint8Array): Uint8Array | undefined {
  if (content.length > MAX_KEY_FILE_BYTES) return undefined;
  if (isOpenssh(content)) return publicBlobOfOpensshFile(content);
  return startsWith(content, PPK_BEGIN) ? publicPartOfPpkFile(content).blob : undefined;
}

/**
 * The comment of a private key file as far as it can be read without passphrase; undefined where it is encrypted or the
 * format has none.
 * @throws KeyError for a damaged file
 */
export function commentOfKeyFile(content: Uint8Array): string | undefined {
  if (content.length > MAX_KEY_FILE_BYTES) return undefined;
  if (isOpenssh(content)) return commentOfOpensshFile(content);
  return startsWith(content, PPK_BEGIN) ? publicPartOfPpkFile(content).comment : undefined;
}
