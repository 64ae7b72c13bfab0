/**
 * PuTTY's private key format, versions 2 and 3 (PuTTY manual, appendix C): RSA, ECDSA and Ed25519, plain or encrypted.
 * Where the file holds a certificate, the key that it certifies is taken. Not read: version 1 (before 2002), DSA, Ed448.
 *
 * Nothing of the private half is looked at before the MAC fits, which covers all but the derivation's parameters.
 */
import { createDecipheriv, createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { equal, text, utf8 } from '../wire/bytes.ts';
import type { FieldValues } from '../wire/keyshapes.ts';
import { Reader } from '../wire/reader.ts';
import { visible } from '../wire/visible.ts';
import { Writer } from '../wire/writer.ts';
import { argon2 } from './argon2.ts';
import { KeyError } from './error.ts';
import {
  asKeyError,
  type PrivateKeyFile,
  privateKeyFile,
  publicBlobOf,
  reading,
  readPublicFields,
  wipeAll,
} from './filecontent.ts';
import { malformed, PPK, type PpkFile, readPpkLines } from './ppklines.ts';

const KEY_BYTES = 32;
const IV_BYTES = 16;
const MAC_KEY_BYTES = 32;
const SHA1_BYTES = 20;

interface DerivedKeys {
  readonly key: Uint8Array;
  readonly iv: Uint8Array;
  readonly macKey: Uint8Array;
}

function sha1(...parts: readonly Uint8Array[]): Uint8Array {
  const hash = createHash('sha1');
  for (const part of parts) hash.update(part);
  return hash.digest();
}

/** Version 2 derives from the bare passphrase, with no salt and no cost. */
function deriveV2(passphrase: Uint8Array): DerivedKeys {
  const halves = [0, 1].map((counter) => sha1(Uint8Array.of(0, 0, 0, counter), passphrase));
  const key = new Uint8Array(2 * SHA1_BYTES);
  halves.forEach((half, i) => {
    key.set(half, i * SHA1_BYTES);
    half.fill(0);
  });
  return {
    key: key.fill(0, KEY_BYTES).subarray(0, KEY_BYTES),
    iv: new Uint8Array(IV_BYTES),
    macKey: sha1(utf8('putty-private-key-file-mac-key'), passphrase),
  };
}

async function derive(file: PpkFile, passphrase: Uint8Array): Promise<DerivedKeys> {
  if (file.version === 2) return deriveV2(file.encrypted ? passphrase : new Uint8Array(0));
  const { derivation } = file;
  if (derivation === undefined) {
    const none = new Uint8Array(0);
    return { key: none, iv: none, macKey: none };
  }
  const all = await argon2(passphrase, derivation, KEY_BYTES + IV_BYTES + MAC_KEY_BYTES);
  return {
    key: all.subarray(0, KEY_BYTES),
    iv: all.subarray(KEY_BYTES, KEY_BYTES + IV_BYTES),
    macKey: all.subarray(KEY_BYTES + IV_BYTES),
  };
}

function macFits(file: PpkFile, plain: Uint8Array, macKey: Uint8Array): boolean {
  const covered = new Writer(4096);
  covered
    .string(file.type)
    .text(file.encrypted ? 'aes256-cbc' : 'none')
    .string(file.comment);
  covered.string(file.publicBlob).string(plain);
  const mac = createHmac(file.version === 2 ? 'sha1' : 'sha256', macKey)
    .update(covered.view())
    .digest();
  covered.wipe();
  return mac.length === file.mac.length && timingSafeEqual(mac, file.mac);
}

/** The private half, its MAC checked. The result is the caller's to wipe. */
async function openPrivate(file: PpkFile, passphrase: Uint8Array): Promise<Uint8Array> {
  const { key, iv, macKey } = await derive(file, passphrase);
  let plain = file.privateBlob;
  try {
    if (file.encrypted) {
      const decipher = createDecipheriv('aes-256-cbc', key, iv).setAutoPadding(false);
      const opened = decipher.update(plain);
      decipher.final();
      plain = new Uint8Array(opened.buffer, opened.byteOffset, opened.length);
    }
    if (macFits(file, plain, macKey)) return plain;
    plain.fill(0);
    if (file.encrypted) throw new KeyError('wrong-passphrase', 'wrong passphrase, or the file is damaged');
    throw malformed('its MAC does not fit: the file is damaged or was changed');
  } finally {
    wipeAll([key, iv, macKey]);
  }
}

/** Puts the private numbers in the places that the wire has for them. Views, but for Ed25519's new `sk`. */
function joinFields(type: string, open: FieldValues, plain: Uint8Array, owned: Uint8Array[]): FieldValues {
  // What follows the last field is PuTTY's padding, which the MAC covered.
  const reader = new Reader(plain);
  switch (type) {
    case 'ssh-rsa': {
      const [d, p, q, iqmp] = [reader.mpint('d'), reader.mpint('p'), reader.mpint('q'), reader.mpint('iqmp')];
      return { ...open, d, iqmp, p, q };
    }
    case 'ssh-ed25519': {
      const seed = reader.string('seed');
      const pk = open.pk ?? new Uint8Array(0);
      const sk = new Uint8Array(seed.length + pk.length);
      owned.push(sk);
      sk.set(seed);
      sk.set(pk, seed.length);
      return { ...open, sk };
    }
    case 'ecdsa-sha2-nistp256':
    case 'ecdsa-sha2-nistp384':
    case 'ecdsa-sha2-nistp521':
      return { ...open, d: reader.mpint('d') };
    default:
      throw new KeyError('unknown-type', `${PPK}: keys of type "${visible(type, 80)}" are not served`);
  }
}

function readPublic(file: PpkFile): { readonly type: string; readonly fields: FieldValues } {
  const name = new Reader(file.publicBlob).string('key type');
  if (!equal(name, file.type)) throw malformed('its first line names another type than its public half');
  return readPublicFields(file.publicBlob);
}

/**
 * Reads a file that begins with PPK_BEGIN. The arguments are not kept.
 * @throws KeyError
 */
export async function readPpkFile(content: Uint8Array, passphrase: Uint8Array | undefined): Promise<PrivateKeyFile> {
  const owned: Uint8Array[] = [];
  try {
    const file = readPpkLines(content);
    owned.push(file.privateBlob);
    const open = readPublic(file);
    if (file.encrypted && (file.privateBlob.length === 0 || file.privateBlob.length % IV_BYTES !== 0))
      throw malformed('the private half is not whole blocks');
    const given = passphrase ?? new Uint8Array(0);
    if (file.encrypted && given.length === 0)
      throw new KeyError('needs-passphrase', 'the key is encrypted: it needs its passphrase');
    const plain = await openPrivate(file, given);
    owned.push(plain);
    const fields = joinFields(open.type, open.fields, plain, owned);
    return privateKeyFile(open.type, fields, text(file.comment), owned);
  } catch (error) {
    wipeAll(owned);
    throw asKeyError(PPK, error);
  }
}

/** The plain public blob and the comment, neither of which is ever encrypted. @throws KeyError */
export function publicPartOfPpkFile(content: Uint8Array): { readonly blob: Uint8Array; readonly comment: string } {
  return reading(PPK, () => {
    const file = readPpkLines(content);
    file.privateBlob.fill(0);
    const { type, fields } = readPublic(file);
    return { blob: publicBlobOf(type, fields), comment: text(file.comment) };
  });
}
