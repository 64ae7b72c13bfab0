/**
 * OpenSSH's own private key format (openssh-key-v1, OpenSSH's PROTOCOL.key): every cipher, bcrypt, one key. Not read:
 * files with several keys, which OpenSSH does not read either.
 *
 * Like OpenSSH we want the marker at byte 0; unlike it we take files with CR LF.
 */
import { WireError } from '../wire/error.ts';
import { type FieldValues, readFields } from '../wire/keyshapes.ts';
import { Reader } from '../wire/reader.ts';
import { visible } from '../wire/visible.ts';
import { decodeBase64, lines, startsWith } from './armour.ts';
import { bcryptPbkdf } from './bcrypt.ts';
import { KeyError } from './error.ts';
import { type FileCipher, fileCipher } from './filecipher.ts';
import {
  asKeyError,
  demandSame,
  MAX_TYPE_NAME_BYTES,
  type PrivateKeyFile,
  privateKeyFile,
  reading,
  readPublicFields,
  shapeOf,
  wipeAll,
} from './filecontent.ts';

export const OPENSSH_BEGIN = '-----BEGIN OPENSSH PRIVATE KEY-----';
const OPENSSH_END = '-----END OPENSSH PRIVATE KEY-----';
const MAGIC = 'openssh-key-v1\0';
const MAX_NAME_BYTES = 64;
const MAX_KDF_OPTIONS_BYTES = 4096;
const WHAT = 'OpenSSH private key';
/** What the private section of a file without encryption is a multiple of. */
const PLAIN_BLOCK_BYTES = 8;

interface Envelope {
  readonly cipher: string;
  readonly kdf: string;
  readonly kdfOptions: Uint8Array;
  readonly publicBlob: Uint8Array;
  readonly ciphertext: Uint8Array;
  readonly tag: Uint8Array;
}

/** What is between the markers. The caller wipes it: without encryption it holds the key. */
function decodeArmour(content: Uint8Array): Uint8Array {
  let body = -1;
  for (const { start, next, bytes } of lines(content)) {
    if (body < 0) body = next;
    else if (startsWith(bytes, OPENSSH_END)) return decodeBase64(content.subarray(body, start), WHAT);
  }
  throw new KeyError('malformed', `${WHAT}: the END line is missing`);
}

/** Views of `decoded`. @throws WireError, KeyError */
function readEnvelope(decoded: Uint8Array): Envelope {
  if (!startsWith(decoded, MAGIC)) throw new KeyError('malformed', `${WHAT}: it does not begin with openssh-key-v1`);
  const reader = new Reader(decoded.subarray(MAGIC.length));
  const cipher = reader.text('cipher', MAX_NAME_BYTES);
  const kdf = reader.text('kdf', MAX_NAME_BYTES);
  const kdfOptions = reader.string('kdf options', MAX_KDF_OPTIONS_BYTES);
  const count = reader.u32('number of keys');
  if (count !== 1)
    throw new KeyError('malformed', `${WHAT}: the file says that it holds ${count} keys, only one is served`);
  const publicBlob = reader.string('public key');
  const ciphertext = reader.string('private section');
  const tag = reader.rest();
  return { cipher, kdf, kdfOptions, publicBlob, ciphertext, tag };
}

/** The cipher, or undefined for 'none'; lengths that it demands hold afterwards. @throws KeyError */
function cipherOf(envelope: Envelope): FileCipher | undefined {
  const { cipher: name, kdf, ciphertext, tag } = envelope;
  const cipher = fileCipher(name);
  if (cipher === undefined && name !== 'none')
    throw new KeyError('unsupported', `${WHAT}: encrypted with "${visible(name)}", which is not served`);
  if (kdf !== 'bcrypt' && kdf !== 'none')
    throw new KeyError('unsupported', `${WHAT}: key derivation "${visible(kdf)}" is not served`);
  if ((kdf === 'none') !== (cipher === undefined))
    throw new KeyError('malformed', `${WHAT}: cipher "${visible(name)}" with key derivation "${kdf}"`);
  const block = cipher?.blockBytes ?? PLAIN_BLOCK_BYTES;
  if (ciphertext.length < block || ciphertext.length % block !== 0)
    throw new KeyError('malformed', `${WHAT}: the private section is not whole blocks`);
  if (tag.length !== (cipher?.tagBytes ?? 0))
    throw new KeyError('malformed', `${WHAT}: ${tag.length} bytes after the private section`);
  return cipher;
}

async function decrypt(envelope: Envelope, cipher: FileCipher, passphrase: Uint8Array): Promise<Uint8Array> {
  const options = new Reader(envelope.kdfOptions);
  const salt = options.string('salt');
  const rounds = options.u32('rounds');
  options.end('kdf options');
  const secret = await bcryptPbkdf(passphrase, salt, cipher.keyBytes + cipher.ivBytes, rounds);
  try {
    return cipher.decrypt(secret, envelope.ciphertext, envelope.tag);
  } finally {
    secret.fill(0);
  }
}

/** Reads a decrypted private section; the fields are views of it. @throws WireError, KeyError */
function readSection(section: Uint8Array, encrypted: boolean): { type: string; fields: FieldValues; comment: string } {
  const reader = new Reader(section);
  // Any section is at least a block of eight bytes, so these two never come short.
  const check = reader.u32('check');
  if (reader.u32('check') !== check) {
    if (encrypted) throw new KeyError('wrong-passphrase', 'wrong passphrase, or the file is damaged');
    throw new KeyError('malformed', `${WHAT}: the two check numbers differ`);
  }
  const type = reader.text('key type', MAX_TYPE_NAME_BYTES);
  const { shape, certificate } = shapeOf(type);
  if (certificate) throw new KeyError('unsupported', `${WHAT}: the private section holds a certificate`);
  const fields = readFields(reader, shape.addFields);
  const comment = reader.text('comment');
  for (let expected = 1; reader.remaining > 0; expected++)
    if (reader.u8('padding') !== (expected & 255)) throw new WireError('bad-value', 'padding');
  return { type, fields, comment };
}

/**
 * Reads a file that begins with OPENSSH_BEGIN. The arguments are not kept.
 * @throws KeyError
 */
export async function readOpensshFile(
  content: Uint8Array,
  passphrase: Uint8Array | undefined,
): Promise<PrivateKeyFile> {
  const decoded = decodeArmour(content);
  let section: Uint8Array | undefined;
  try {
    const envelope = readEnvelope(decoded);
    // Before any passphrase is asked for: a type that we can't serve, or a public half that is none.
    const open = readPublicFields(envelope.publicBlob);
    const cipher = cipherOf(envelope);
    if (cipher === undefined) section = envelope.ciphertext;
    else if (passphrase === undefined || passphrase.length === 0)
      throw new KeyError('needs-passphrase', 'the key is encrypted: it needs its passphrase');
    else section = await decrypt(envelope, cipher, passphrase);
    const { type, fields, comment } = readSection(section, cipher !== undefined);
    if (open.certificate || open.type !== type)
      throw new KeyError('mismatch', 'the private half of the file holds another key than its public half');
    demandSame(shapeOf(type).shape.publicFields, fields, open.fields);
    return privateKeyFile(type, fields, comment, [decoded, section]);
  } catch (error) {
    wipeAll([decoded, section]);
    throw asKeyError(WHAT, error);
  }
}

/** The public half, which is never encrypted. @throws KeyError */
export function publicBlobOfOpensshFile(content: Uint8Array): Uint8Array {
  const decoded = decodeArmour(content);
  try {
    return reading(WHAT, () => readEnvelope(decoded).publicBlob.slice());
  } finally {
    decoded.fill(0);
  }
}

/** The comment of a file without encryption, or undefined: it is encrypted with the key. @throws KeyError */
export function commentOfOpensshFile(content: Uint8Array): string | undefined {
  const decoded = decodeArmour(content);
  try {
    return reading(WHAT, () => {
      const envelope = readEnvelope(decoded);
      return cipherOf(envelope) === undefined ? readSection(envelope.ciphertext, false).comment : undefined;
    });
  } finally {
    decoded.fill(0);
  }
}
