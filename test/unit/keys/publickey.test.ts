import { createECDH, generateKeyPairSync, randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  fingerprint,
  parsePublicKey,
  parsePublicKeyLine,
  publicKeyText,
  typeName,
} from '../../../src/keys/publickey.ts';
import { blobOf, codeOf, join8, keygen, makeKey, mpint, publicLine, string, temporaryFolder } from './keygen.ts';

const folder = temporaryFolder();

/** A security key's public half, which ssh-keygen makes only with a device at hand, but reads without one. */
function securityKeyFile(name: string, type: string, ...fields: Uint8Array[]): string {
  const path = join(folder, name);
  const blob = Buffer.concat([string(type), ...fields.map((field) => string(field))]);
  writeFileSync(`${path}.pub`, `${type} ${blob.toString('base64')} comment of ${name}\n`);
  return path;
}

const point = createECDH('prime256v1').generateKeys();
const ed25519 = Buffer.from(generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' }).x ?? '', 'base64url');

const files = {
  ed25519: makeKey(folder, 'ed25519', '-t', 'ed25519'),
  'ecdsa 256': makeKey(folder, 'ecdsa256', '-t', 'ecdsa', '-b', '256'),
  'ecdsa 384': makeKey(folder, 'ecdsa384', '-t', 'ecdsa', '-b', '384'),
  'ecdsa 521': makeKey(folder, 'ecdsa521', '-t', 'ecdsa', '-b', '521'),
  'rsa 1024': makeKey(folder, 'rsa1024', '-t', 'rsa', '-b', '1024'),
  'rsa 2048': makeKey(folder, 'rsa2048', '-t', 'rsa', '-b', '2048'),
  'sk ed25519': securityKeyFile('sked25519', 'sk-ssh-ed25519@openssh.com', ed25519, Buffer.from('ssh:')),
  'sk ecdsa': securityKeyFile(
    'skecdsa',
    'sk-ecdsa-sha2-nistp256@openssh.com',
    Buffer.from('nistp256'),
    point,
    Buffer.from('ssh:work'),
  ),
} as const;

const rsaBlob = (e: Uint8Array, n: Uint8Array): Uint8Array => join8(string('ssh-rsa'), mpint(e), mpint(n));

/** A number of exactly `bits` bits; odd unless told. */
function number(bits: number, odd = true): Uint8Array {
  const bytes = new Uint8Array(Math.ceil(bits / 8)).fill(0x55);
  const top = (bits - 1) % 8;
  bytes[0] = (1 << top) | ((bytes[0] ?? 0) & ((1 << top) - 1));
  const last = bytes.length - 1;
  bytes[last] = odd ? (bytes[last] ?? 0) | 1 : (bytes[last] ?? 0) & 0xfe;
  return bytes;
}

const F4 = Uint8Array.of(1, 0, 1);

describe.each(Object.entries(files))('an %s key of ssh-keygen', (_, path) => {
  const line = publicLine(path);
  const { key, comment } = parsePublicKeyLine(line);

  it('shows size, fingerprint, comment and type as ssh-keygen does', () => {
    const shown = (hash: string): string => `${key.bits} ${fingerprint(key, hash)} ${comment} (${typeName(key)})\n`;
    expect(shown('sha256')).toBe(keygen('-l', '-f', `${path}.pub`));
    expect(shown('md5')).toBe(keygen('-l', '-E', 'md5', '-f', `${path}.pub`));
    expect(shown('SHA512')).toBe(keygen('-l', '-E', 'sha512', '-f', `${path}.pub`));
    expect(fingerprint(key)).toBe(fingerprint(key, 'sha256'));
  });

  it('is written as it was read', () => {
    expect(`${publicKeyText(key)} ${comment}\n`).toBe(line);
    expect(Buffer.from(key.plainBlob).equals(blobOf(line))).toBe(true);
    expect(key.certificate).toBeUndefined();
  });

  it('is a copy of what it was read from', () => {
    const blob = blobOf(line);
    const copied = parsePublicKey(blob);
    blob.fill(0);
    expect(fingerprint(copied)).toBe(fingerprint(key));
    expect(Object.values(copied.fields).every((field) => field.some((byte) => byte !== 0))).toBe(true);
  });

  it('is malformed when cut at any place, or with a byte too many', () => {
    const blob = blobOf(line);
    for (let length = 0; length < blob.length; length++)
      expect(codeOf(() => parsePublicKey(blob.subarray(0, length)))).toMatch(/^(malformed|unknown-type)$/);
    expect(codeOf(() => parsePublicKey(join8(blob, Uint8Array.of(0))))).toBe('malformed');
  });
});

describe('the composite key', () => {
  const type = 'ssh-mldsa44-ed25519@openssh.com';

  it('is two public keys of fixed length in one string', () => {
    const key = parsePublicKey(join8(string(type), string(randomBytes(1312 + 32))));
    expect(typeName(key)).toBe('MLDSA44-ED25519');
    expect(key.bits).toBe(256);
    expect(publicKeyText(key).startsWith(`${type} AAAA`)).toBe(true);
    for (const length of [0, 32, 1312, 1343, 1345])
      expect(codeOf(() => parsePublicKey(join8(string(type), string(randomBytes(length)))))).toBe('malformed');
  });
});

describe('RSA numbers', () => {
  it.each([
    ['of 1024 bits', F4, number(1024)],
    ['of 16384 bits', F4, number(16384)],
    ['with the exponent 3', Uint8Array.of(3), number(2048)],
    ['with an exponent of 64 bits beside 4096', number(64), number(4096)],
    ['with a large exponent beside 3072', number(3071), number(3072)],
  ])('%s are taken', (_, e, n) => {
    const key = parsePublicKey(rsaBlob(e, n));
    expect(key.bits).toBe((n.length - 1) * 8 + (32 - Math.clz32(n[0] ?? 0)));
    expect(typeName(key)).toBe('RSA');
  });

  it.each([
    ['of 1023 bits', F4, number(1023)],
    ['of 512 bits', F4, number(512)],
    ['of no bits', F4, new Uint8Array()],
    ['with an even modulus', F4, number(2048, false)],
    ['with the exponent 0', new Uint8Array(), number(2048)],
    ['with the exponent 1', Uint8Array.of(1), number(2048)],
    ['with the exponent 2', Uint8Array.of(2), number(2048)],
    ['with an even exponent', Uint8Array.of(1, 0), number(2048)],
    ['with an exponent of 65 bits beside 3073', number(65), number(3073)],
    ['with the modulus as exponent', number(2048), number(2048)],
    ['with an exponent above the modulus', number(2049), number(2048)],
  ])('%s are refused', (_, e, n) => {
    expect(codeOf(() => parsePublicKey(rsaBlob(e, n)))).toBe('out-of-bounds');
  });

  it('of 16385 bits, or below zero, are refused', () => {
    expect(codeOf(() => parsePublicKey(rsaBlob(F4, number(16385))))).toMatch(/^(malformed|out-of-bounds)$/);
    const negative = join8(string('ssh-rsa'), mpint(F4), string(Buffer.alloc(256, 0x81)));
    expect(codeOf(() => parsePublicKey(negative))).toBe('malformed');
  });

  it('with zeros in front make the same key', () => {
    const plain = parsePublicKey(rsaBlob(F4, number(2048)));
    const padded = parsePublicKey(join8(string('ssh-rsa'), string(Buffer.from([0, 0, 1, 0, 1])), mpint(number(2048))));
    expect(fingerprint(padded)).toBe(fingerprint(plain));
    expect(padded.plainBlob).toEqual(plain.blob);
    expect(padded.blob).not.toEqual(plain.blob);
  });
});

describe('elliptic curve points', () => {
  const ecdsa = (curve: string, q: Uint8Array, type = `ecdsa-sha2-${curve}`): Uint8Array =>
    join8(string(type), string(curve), string(q));
  const compressed = createECDH('prime256v1');
  compressed.generateKeys();
  const offCurve = Uint8Array.from(point);
  offCurve[64] = (offCurve[64] ?? 0) ^ 1;
  const hybrid = Uint8Array.from(point);
  hybrid[0] = 6 + ((hybrid[64] ?? 0) & 1);

  it.each([
    ['compressed', Uint8Array.from(compressed.getPublicKey(null, 'compressed')), 'malformed'],
    ['hybrid', hybrid, 'malformed'],
    ['infinite', Uint8Array.of(0), 'malformed'],
    ['empty', new Uint8Array(), 'malformed'],
    ['short', point.subarray(0, 64), 'malformed'],
    ['long', join8(point, Uint8Array.of(0)), 'malformed'],
    ['off the curve', offCurve, 'out-of-bounds'],
    ['0, 0', Uint8Array.from([4, ...new Uint8Array(64)]), 'out-of-bounds'],
    ['beyond the field', Uint8Array.from([4, ...new Uint8Array(64).fill(0xff)]), 'out-of-bounds'],
    ['of another curve', Uint8Array.from(createECDH('secp384r1').generateKeys()), 'malformed'],
    ['of another curve of the same size', Uint8Array.from(createECDH('secp256k1').generateKeys()), 'out-of-bounds'],
  ])('that are %s are refused', (_, q, code) => {
    expect(codeOf(() => parsePublicKey(ecdsa('nistp256', q)))).toBe(code);
    const sk = join8(string('sk-ecdsa-sha2-nistp256@openssh.com'), string('nistp256'), string(q), string('ssh:'));
    expect(codeOf(() => parsePublicKey(sk))).toBe(code);
  });

  it('must be of the curve in the type name', () => {
    expect(codeOf(() => parsePublicKey(ecdsa('nistp256', point, 'ecdsa-sha2-nistp384')))).toBe('malformed');
    expect(codeOf(() => parsePublicKey(ecdsa('nistp384', point, 'ecdsa-sha2-nistp256')))).toBe('malformed');
    expect(codeOf(() => parsePublicKey(ecdsa('nistp256', point)))).toBe('no error');
  });
});

describe('what is no key of ours', () => {
  it.each([
    ['ssh-dss', 'unknown-type'],
    ['ssh-ed448', 'unknown-type'],
    ['rsa-sha2-256', 'unknown-type'],
    ['', 'unknown-type'],
    ['ssh-ed25519\0', 'unknown-type'],
    ['\u001b[2J', 'unknown-type'],
    ['x'.repeat(100_000), 'unknown-type'],
  ])('is refused by its type', (type, code) => {
    expect(codeOf(() => parsePublicKey(join8(string(type), string(ed25519))))).toBe(code);
  });

  it('is an Ed25519 key of 31 or 33 bytes', () => {
    for (const length of [0, 31, 33, 64])
      expect(codeOf(() => parsePublicKey(join8(string('ssh-ed25519'), string(Buffer.alloc(length, 1)))))).toBe(
        'malformed',
      );
  });

  it('is a security key with a NUL in its application', () => {
    const blob = join8(string('sk-ssh-ed25519@openssh.com'), string(ed25519), string('ssh:\0evil'));
    expect(codeOf(() => parsePublicKey(blob))).toBe('malformed');
  });

  it('has no fingerprint by an unknown hash', () => {
    const { key } = parsePublicKeyLine(publicLine(files.ed25519));
    for (const hash of ['sha3-256', '', 'md4', 'SHA-256'])
      expect(codeOf(() => fingerprint(key, hash))).toBe('unsupported');
  });
});

describe('a line', () => {
  const text = publicLine(files.ed25519).trim().split(' ').slice(0, 2).join(' ');

  it.each([
    [`${text}`, ''],
    [`${text}\n`, ''],
    [`${text}\r\n`, ''],
    [`  ${text}\t a  b \n`, 'a  b '],
    [`${text} \u001b[1mX`, '\u001b[1mX'],
    [text.replace(' ', ' \t'), ''],
  ])('%j is a key with the comment %j', (line, comment) => {
    expect(parsePublicKeyLine(line).comment).toBe(comment);
    expect(publicKeyText(parsePublicKeyLine(line).key)).toBe(text);
  });

  it.each([
    ['', 'malformed'],
    ['\n', 'malformed'],
    ['ssh-ed25519', 'malformed'],
    ['ssh-ed25519 ', 'malformed'],
    ['ssh-ed25519 AAAA!', 'malformed'],
    ['ssh-ed25519 AAAA', 'malformed'],
    ['ssh-dss AAAAB3NzaC1kc3M=', 'unknown-type'],
    [text.replace('ssh-ed25519', 'ssh-rsa'), 'malformed'],
    [text.replace('ssh-ed25519', 'ssh-ed25519-cert-v01@openssh.com'), 'malformed'],
    [`no-pty ${text}`, 'malformed'],
    [`${text} a\n${text} b`, 'malformed'],
    ['-----BEGIN OPENSSH PRIVATE KEY-----', 'malformed'],
    [`${' '.repeat(100_000)}\n${' '.repeat(100_000)}`, 'malformed'],
  ])('%j is none', (line, code) => {
    expect(codeOf(() => parsePublicKeyLine(line))).toBe(code);
  });
});
