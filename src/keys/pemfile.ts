/**
 * PEM private keys as OpenSSL writes them: PKCS#1 (RSA), SEC1 (EC), PKCS#8 plain and encrypted (RSA, EC, Ed25519), and
 * the older encryption by a Proc-Type header. Not read: DSA, Ed448, explicit curve parameters, several primes.
 *
 * Node's createPrivateKey decrypts and checks; it leaves a copy in OpenSSL's heap until it is collected, which is why
 * this runs in ssh-add and never in the agent. As for OpenSSH, text before the key's first line is no harm.
 */
import { createPrivateKey, createPublicKey, ECDH, getCiphers, type KeyObject } from 'node:crypto';
import { hex, utf8 } from '../wire/bytes.ts';
import type { FieldValues } from '../wire/keyshapes.ts';
import { visible } from '../wire/visible.ts';
import { decodeBase64, latin1, lines, startsWith, trimEnd } from './armour.ts';
import { DER, type DerValue, derContent, derSequence, derValues } from './der.ts';
import { KeyError } from './error.ts';
import { magnitude, type PrivateKeyFile, privateKeyFile, shapeOf, wipeAll } from './filecontent.ts';

/** PBKDF2 takes some seconds for so many; OpenSSL writes 2048, careful people a million. */
export const MAX_PBKDF2_ITERATIONS = 10_000_000;
/** Product of scrypt's N, r and p; OpenSSL writes 2^17. */
export const MAX_SCRYPT_COST = 2 ** 22;
/** Longest marker line looked at. */
const MAX_MARKER_BYTES = 100;
const COLON = 58;
/** OpenSSL nests four deep. */
const MAX_ALGORITHM_DEPTH = 8;

const privateLabels: ReadonlySet<string> = new Set([
  'PRIVATE KEY',
  'ENCRYPTED PRIVATE KEY',
  'RSA PRIVATE KEY',
  'EC PRIVATE KEY',
  'DSA PRIVATE KEY',
]);
const curveNames: Readonly<Record<string, string>> = {
  prime256v1: 'nistp256',
  secp384r1: 'nistp384',
  secp521r1: 'nistp521',
};
/** 1.3.6.1.4.1.11591.4.11 */
const SCRYPT_OID = '2b06010401da47040b';

export interface PemBlock {
  /** What stands after BEGIN. */
  readonly label: string;
  /** From the BEGIN line to the end of the END line, which may be missing; a view. */
  readonly text: Uint8Array;
  /** Between the header lines and the END line; a view. */
  readonly body: Uint8Array;
  /** Lines such as `Proc-Type: 4,ENCRYPTED`. */
  readonly headers: readonly string[];
  readonly complete: boolean;
}

/** The label of a line `-----BEGIN LABEL-----`, or undefined. */
export function beginLabel(line: Uint8Array): string | undefined {
  if (line.length > MAX_MARKER_BYTES || !startsWith(line, '-----BEGIN ')) return undefined;
  return /^-----BEGIN ([ -~]+)-----\s*$/.exec(latin1(line))?.[1];
}

/** The PEM blocks of a file, in order; what is between them is passed over. */
export function pemBlocks(content: Uint8Array): readonly PemBlock[] {
  const blocks: PemBlock[] = [];
  let open: { label: string; start: number; body: number; headers: string[]; inHeaders: boolean } | undefined;
  const close = (bodyEnd: number, end: number, complete: boolean): void => {
    if (open === undefined) return;
    const { label, headers, start, body } = open;
    blocks.push({
      label,
      headers,
      text: content.subarray(start, end),
      body: content.subarray(body, bodyEnd),
      complete,
    });
    open = undefined;
  };
  for (const { start, next, bytes } of lines(content)) {
    const line = trimEnd(bytes);
    const label = beginLabel(line);
    if (label !== undefined) {
      close(start, start, false);
      open = { label, start, body: next, headers: [], inHeaders: true };
    } else if (open === undefined) continue;
    else if (startsWith(line, `-----END ${open.label}-----`)) close(start, next, true);
    else if (open.inHeaders && line.includes(COLON)) {
      if (line.length <= MAX_MARKER_BYTES) open.headers.push(latin1(line));
      open.body = next;
    } else open.inHeaders = false;
  }
  close(content.length, content.length, false);
  return blocks;
}

/** The first block that holds a private key in a form that OpenSSL reads. */
export function privatePemBlock(blocks: readonly PemBlock[]): PemBlock | undefined {
  return blocks.find((block) => privateLabels.has(block.label));
}

function integersIn(values: readonly DerValue[], depth = 0): number[] {
  if (depth > MAX_ALGORITHM_DEPTH) throw new KeyError('malformed', 'DER: nested too deeply');
  return values.flatMap(({ tag, content }) => {
    if (tag === DER.integer) return [magnitude(content).reduce((number, byte) => number * 256 + byte, 0)];
    return tag === DER.sequence ? integersIn(derValues(content), depth + 1) : [];
  });
}

/** OpenSSL would work on a file's say-so for days; no other bound stands in its way. */
function boundCost(block: PemBlock): void {
  const [algorithm] = derSequence(decodeBase64(block.body, 'PEM'));
  const parameters = derContent(algorithm, DER.sequence);
  const integers = integersIn(derValues(parameters));
  const tooMuch = hex(parameters).includes(SCRYPT_OID)
    ? integers.reduce((product, one) => product * one, 1) > MAX_SCRYPT_COST
    : integers.some((one) => one > MAX_PBKDF2_ITERATIONS);
  if (tooMuch) throw new KeyError('out-of-bounds', 'PEM: deriving the key from the passphrase would take too long');
}

/** The older encryption names its cipher in a header. */
function demandKnownCipher(block: PemBlock): void {
  const name = block.headers.map((header) => /^DEK-Info:\s*([^,]+)/.exec(header)?.[1]).find((found) => found);
  if (name === undefined) throw new KeyError('malformed', 'PEM: encrypted, but no DEK-Info line says how');
  if (!getCiphers().includes(name.toLowerCase()))
    throw new KeyError('unsupported', `PEM: encrypted with "${visible(name)}", which is not served`);
}

function openKey(block: PemBlock, passphrase: Uint8Array | undefined): KeyObject {
  const inPkcs8 = block.label === 'ENCRYPTED PRIVATE KEY';
  const encrypted = inPkcs8 || block.headers.some((header) => /^Proc-Type:.*ENCRYPTED/.test(header));
  if (encrypted) {
    if (inPkcs8) boundCost(block);
    else demandKnownCipher(block);
    if (passphrase === undefined || passphrase.length === 0)
      throw new KeyError('needs-passphrase', 'the key is encrypted: it needs its passphrase');
  }
  // Node reads any view, its types only know Buffer.
  const asBuffer = (bytes: Uint8Array): Buffer => bytes as Buffer;
  try {
    return createPrivateKey({
      key: asBuffer(block.text),
      format: 'pem',
      ...(encrypted && passphrase !== undefined ? { passphrase: asBuffer(passphrase) } : {}),
    });
  } catch (cause) {
    // OpenSSL can't tell a wrong passphrase from a damaged file, and OpenSSH doesn't try.
    if (encrypted) throw new KeyError('wrong-passphrase', 'wrong passphrase, or the file is damaged', { cause });
    throw new KeyError('malformed', `PEM: no ${block.label} that OpenSSL can read`, { cause });
  }
}

function view(buffer: Uint8Array): Uint8Array {
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.length);
}

/** What its public half's bit string holds: a point, or an Ed25519 key. */
function publicBits(key: KeyObject): Uint8Array {
  const spki = derSequence(view(createPublicKey(key).export({ type: 'spki', format: 'der' })));
  return derContent(spki[1], DER.bitString).subarray(1);
}

function integer(values: readonly DerValue[], at: number): Uint8Array {
  return magnitude(derContent(values[at], DER.integer));
}

function rsaFields(der: Uint8Array): FieldValues {
  const values = derSequence(der);
  if (integer(values, 0).length > 0) throw new KeyError('unsupported', 'PEM: an RSA key of more than two primes');
  const [n, e, d, p, q] = [1, 2, 3, 4, 5].map((at) => integer(values, at));
  if (!n || !e || !d || !p || !q) throw new KeyError('malformed', 'PEM: a number is missing');
  return { n, e, d, iqmp: integer(values, 8), p, q };
}

function ecdsaKey(key: KeyObject, der: Uint8Array): { type: string; fields: FieldValues } {
  const openssl = key.asymmetricKeyDetails?.namedCurve ?? 'explicit parameters';
  const curve = curveNames[openssl];
  if (curve === undefined) throw new KeyError('unknown-type', `PEM: EC keys on "${visible(openssl)}" are not served`);
  let q = publicBits(key);
  if (q[0] !== 4) q = view(ECDH.convertKey(q, openssl, undefined, undefined, 'uncompressed') as Buffer);
  const d = magnitude(derContent(derSequence(der)[1], DER.octetString));
  return { type: `ecdsa-sha2-${curve}`, fields: { curve: utf8(curve), q, d } };
}

/** The seed of PKCS#8 with the public key after it, as OpenSSH has it. */
function ed25519Secret(der: Uint8Array, pk: Uint8Array): Uint8Array {
  const [inner] = derValues(derContent(derSequence(der)[2], DER.octetString));
  const seed = derContent(inner, DER.octetString);
  const sk = new Uint8Array(seed.length + pk.length);
  sk.set(seed);
  sk.set(pk, seed.length);
  return sk;
}

function filed(key: KeyObject, owned: Uint8Array[]): PrivateKeyFile {
  const exported = (type: 'pkcs1' | 'sec1' | 'pkcs8'): Uint8Array => {
    const der = view(key.export({ type, format: 'der' }));
    owned.push(der);
    return der;
  };
  switch (key.asymmetricKeyType) {
    case 'rsa':
      return privateKeyFile('ssh-rsa', rsaFields(exported('pkcs1')), '', owned);
    case 'ec': {
      const { type, fields } = ecdsaKey(key, exported('sec1'));
      return privateKeyFile(type, fields, '', owned);
    }
    case 'ed25519': {
      const pk = publicBits(key);
      const sk = ed25519Secret(exported('pkcs8'), pk);
      wipeAll(owned);
      owned.push(sk);
      return privateKeyFile('ssh-ed25519', { pk, sk }, '', owned);
    }
    case 'dsa':
      shapeOf('ssh-dss');
      break;
    case 'ed448':
      shapeOf('ssh-ed448');
      break;
  }
  throw new KeyError('unknown-type', `PEM: keys of type "${key.asymmetricKeyType}" are not served`);
}

/**
 * Reads one block that `privatePemBlock` found. The arguments are not kept.
 * @throws KeyError; 'wrong-passphrase' for anything that goes wrong with an encrypted block
 */
export function readPemBlock(block: PemBlock, passphrase: Uint8Array | undefined): PrivateKeyFile {
  if (block.label === 'DSA PRIVATE KEY') shapeOf('ssh-dss');
  if (!block.complete) throw new KeyError('malformed', 'PEM: the END line is missing');
  const key = openKey(block, passphrase);
  const owned: Uint8Array[] = [];
  try {
    return filed(key, owned);
  } catch (error) {
    wipeAll(owned);
    throw error;
  }
}
