import { createECDH, generateKeyPairSync, sign } from 'node:crypto';
import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Certificate, isHostCertificateFor } from '../../../src/keys/certificate.ts';
import { fingerprint, type PublicKey, parsePublicKey, typeName } from '../../../src/keys/publickey.ts';
import { text } from '../../../src/wire/bytes.ts';
import { FOREVER } from '../../../src/wire/certificatebody.ts';
import {
  blobOf,
  codeOf,
  flipped,
  join8,
  keygen,
  makeKey,
  publicLine,
  string,
  strings,
  temporaryFolder,
  u32,
  u64,
} from './keygen.ts';

const folder = temporaryFolder();

const authorities = {
  ed25519: makeKey(folder, 'ca-ed25519', '-t', 'ed25519'),
  ecdsa256: makeKey(folder, 'ca-ecdsa256', '-t', 'ecdsa', '-b', '256'),
  ecdsa521: makeKey(folder, 'ca-ecdsa521', '-t', 'ecdsa', '-b', '521'),
  rsa: makeKey(folder, 'ca-rsa', '-t', 'rsa', '-b', '2048'),
} as const;

function securityKey(name: string, type: string, ...fields: readonly (string | Uint8Array)[]): string {
  const blob = Buffer.concat([string(type), ...fields.map((field) => string(field))]);
  writeFileSync(join(folder, `${name}.pub`), `${type} ${blob.toString('base64')} made by hand\n`);
  return join(folder, name);
}

const subjects = {
  ed25519: makeKey(folder, 'ed25519', '-t', 'ed25519'),
  ecdsa256: makeKey(folder, 'ecdsa256', '-t', 'ecdsa', '-b', '256'),
  ecdsa384: makeKey(folder, 'ecdsa384', '-t', 'ecdsa', '-b', '384'),
  ecdsa521: makeKey(folder, 'ecdsa521', '-t', 'ecdsa', '-b', '521'),
  rsa: makeKey(folder, 'rsa', '-t', 'rsa', '-b', '2048'),
  'sk ed25519': securityKey('sked', 'sk-ssh-ed25519@openssh.com', Buffer.alloc(32, 7), 'ssh:'),
  'sk ecdsa': securityKey(
    'skec',
    'sk-ecdsa-sha2-nistp256@openssh.com',
    'nistp256',
    createECDH('prime256v1').generateKeys(),
    'ssh:',
  ),
} as const;

let made = 0;
/** Has ssh-keygen sign `subject`, and tells the path of the certificate without its "-cert.pub". */
function certify(subject: string, authority: string, ...options: string[]): string {
  const path = join(folder, `subject${made++}`);
  copyFileSync(`${subject}.pub`, `${path}.pub`);
  keygen('-q', '-s', authority, ...options, `${path}.pub`);
  return `${path}-cert`;
}

/** What ssh-keygen -L says of a certificate, from our reading of it. */
function described(key: PublicKey): string[] {
  const { certificate } = key;
  if (certificate === undefined) return [];
  const time = (seconds: bigint): string => new Date(Number(seconds) * 1000).toISOString().slice(0, 19);
  const { validAfter, validBefore, authority } = certificate;
  const from = validAfter === 0n ? '' : time(validAfter);
  const to = validBefore === FOREVER ? '' : time(validBefore);
  const valid = from && to ? `from ${from} to ${to}` : from ? `after ${from}` : to ? `before ${to}` : 'forever';
  const listed = (title: string, rows: readonly string[]): string[] =>
    rows.length === 0 ? [`${title}: (none)`] : [`${title}:`, ...rows];
  const options = (map: ReadonlyMap<string, Uint8Array>): string[] =>
    [...map].map(([name, data]) => [name, ...strings(data).map((value) => text(value))].join(' '));
  return [
    `Type: ${key.algorithm.certificateType} ${certificate.kind} certificate`,
    `Public key: ${typeName(key)} ${fingerprint(key)}`,
    `Signing CA: ${typeName(authority)} ${fingerprint(authority)} (using ${certificate.signatureAlgorithm})`,
    `Key ID: "${certificate.keyId}"`,
    `Serial: ${certificate.serial}`,
    `Valid: ${valid}`,
    ...listed('Principals', certificate.principals),
    ...listed('Critical Options', options(certificate.criticalOptions)),
    ...listed('Extensions', options(certificate.extensions)),
  ];
}

const shown = (path: string): string[] =>
  keygen('-L', '-f', `${path}.pub`)
    .split('\n')
    .slice(1)
    .map((line) => line.trim())
    .filter((line) => line !== '');

const read = (path: string): PublicKey => parsePublicKey(blobOf(publicLine(path)));

describe.each(Object.entries(subjects))('a certificate over an %s key', (_, subject) => {
  it.each(Object.entries(authorities))('signed by %s says what ssh-keygen reads in it', (_name, authority) => {
    const path = certify(
      subject,
      authority,
      ...['-I', 'who is this', '-n', 'alice,bob', '-z', '18446744073709551615', '-V', '20200102030405:20390102'],
      ...['-O', 'force-command=ls -l', '-O', 'source-address=10.0.0.0/8', '-O', 'no-pty'],
    );
    expect(described(read(path))).toEqual(shown(path));
  });

  it('is of the same key, which the certificate does not change', () => {
    const key = read(certify(subject, authorities.ed25519, '-I', 'x'));
    const plain = read(subject);
    expect(fingerprint(key)).toBe(fingerprint(plain));
    expect(key.plainBlob).toEqual(plain.blob);
    expect(key.fields).toEqual(plain.fields);
    expect(key.bits).toBe(plain.bits);
    expect(typeName(key)).toBe(`${typeName(plain)}-CERT`);
  });

  it('is refused when cut at any place, or with a byte too many', () => {
    const { blob } = read(certify(subject, authorities.ed25519, '-I', 'x'));
    for (let length = 0; length < blob.length; length++)
      expect(codeOf(() => parsePublicKey(blob.subarray(0, length)))).not.toBe('no error');
    expect(codeOf(() => parsePublicKey(join8(blob, Uint8Array.of(0))))).toBe('malformed');
  });
});

describe('a certificate of ssh-keygen', () => {
  it.each([
    ['for hosts and for ever', ['-h', '-n', 'h*.example.org']],
    ['from a day on', ['-V', '20200101:forever']],
    ['until a day', ['-V', 'always:20200101']],
    ['with no principals', []],
    ['with no extensions', ['-O', 'clear']],
  ])('%s says what ssh-keygen reads in it', (_, options) => {
    const path = certify(subjects.ed25519, authorities.ed25519, '-I', 'é ü', ...options);
    expect(described(read(path))).toEqual(shown(path));
  });

  it.each(['ssh-rsa', 'rsa-sha2-256', 'rsa-sha2-512'])('may be signed by RSA with %s', (name) => {
    const path = certify(subjects.ed25519, authorities.rsa, '-t', name, '-I', 'x', '-h', '-n', 'host');
    const { certificate } = read(path);
    expect(described(read(path))).toEqual(shown(path));
    // SHA-1 is read, and then counts for nothing.
    expect(certificate && isHostCertificateFor(certificate, 'host', 2e9)).toBe(name !== 'ssh-rsa');
  });

  it.each(Object.entries(authorities))('signed by %s is refused with a bit turned in any byte', (name, authority) => {
    const { blob } = read(certify(subjects.ed25519, authority, '-I', 'x', '-n', 'alice'));
    // Each verification over P-521 takes milliseconds, and what precedes it is the same for all.
    const step = name === 'ecdsa521' ? 5 : 1;
    for (let index = 0; index < blob.length; index += step)
      expect(codeOf(() => parsePublicKey(flipped(blob, index)))).not.toBe('no error');
    expect(codeOf(() => parsePublicKey(flipped(blob, blob.length - 1)))).toBe('bad-signature');
  });
});

// From here on certificates made by hand, as ssh-keygen makes no bad ones.
const ca = generateKeyPairSync('ed25519');
const caRaw = Buffer.from(ca.publicKey.export({ format: 'jwk' }).x ?? '', 'base64url');
const caBlob = join8(string('ssh-ed25519'), string(caRaw));

interface Parts {
  readonly prefix?: Uint8Array;
  readonly type?: number;
  readonly keyId?: string | Uint8Array;
  readonly principals?: readonly (string | Uint8Array)[];
  readonly after?: bigint;
  readonly before?: bigint;
  readonly critical?: Uint8Array;
  readonly extensions?: Uint8Array;
  readonly reserved?: string;
  readonly authority?: Uint8Array;
  readonly signatureType?: string;
}

const plainSubject = join8(string('ssh-ed25519-cert-v01@openssh.com'), string('nonce'), string(Buffer.alloc(32, 9)));

function forge(parts: Parts = {}): Uint8Array {
  const signed = join8(
    parts.prefix ?? plainSubject,
    u64(1n),
    u32(parts.type ?? 2),
    string(parts.keyId ?? 'id'),
    string(...(parts.principals ?? ['host.example.org']).map((name) => string(name))),
    u64(parts.after ?? 1000n),
    u64(parts.before ?? 2000n),
    string(parts.critical ?? ''),
    string(parts.extensions ?? ''),
    string(parts.reserved ?? ''),
    string(parts.authority ?? caBlob),
  );
  const signature = sign(null, signed, ca.privateKey);
  return join8(signed, string(string(parts.signatureType ?? 'ssh-ed25519'), string(signature)));
}

function certificate(parts: Parts = {}): Certificate {
  const found = parsePublicKey(forge(parts)).certificate;
  if (found === undefined) throw new Error('no certificate');
  return found;
}

describe('a certificate made by hand', () => {
  it('over the composite key is read', () => {
    const pk = Buffer.alloc(1312 + 32, 3);
    const prefix = join8(string('ssh-mldsa44-ed25519-cert-v01@openssh.com'), string('nonce'), string(pk));
    const key = parsePublicKey(forge({ prefix }));
    expect(typeName(key)).toBe('MLDSA44-ED25519-CERT');
    expect(Buffer.from(key.plainBlob)).toEqual(
      Buffer.from(join8(string('ssh-mldsa44-ed25519@openssh.com'), string(pk))),
    );
  });

  it('may hold any text', () => {
    const odd = Uint8Array.from([0xff, 0x1b, 0x5b, 0x0a, 0xe2, 0x80]);
    const found = certificate({
      keyId: odd,
      principals: [odd, '', '\u202e'],
      critical: join8(string(odd), string('x'), string('nul\0nul'), string('')),
      reserved: 'anything',
    });
    expect(found.keyId).toContain('\u001b[\n');
    expect(found.principals.slice(1)).toEqual(['', '\u202e']);
    expect([...found.criticalOptions.keys()]).toContain('nul\0nul');
  });

  it('keeps options that are not in order', () => {
    const option = (name: string): Uint8Array => join8(string(name), string(''));
    const found = certificate({ extensions: join8(option('z'), option('a'), option('m')) });
    expect([...found.extensions.keys()]).toEqual(['z', 'a', 'm']);
  });

  it('has 256 principals and not one more', () => {
    const names = Array.from({ length: 257 }, (_, i) => `p${i}`);
    expect(certificate({ principals: names.slice(1) }).principals).toEqual(names.slice(1));
    expect(codeOf(() => certificate({ principals: names }))).toBe('out-of-bounds');
  });

  it.each<[string, Parts, string]>([
    ['for neither user nor host', { type: 0 }, 'malformed'],
    ['of type 3', { type: 3 }, 'malformed'],
    ['with a NUL in its key id', { keyId: 'a\0b' }, 'malformed'],
    ['with a NUL in a principal', { principals: ['root\0.example.org'] }, 'malformed'],
    ['with half an option', { critical: join8(string('force-command')) }, 'malformed'],
    ['with a byte after its options', { extensions: join8(string('a'), string(''), Uint8Array.of(0)) }, 'malformed'],
    ['with the name of an algorithm that the authority has not', { signatureType: 'rsa-sha2-512' }, 'bad-signature'],
    [
      'with a name of a certificate as algorithm',
      { signatureType: 'ssh-ed25519-cert-v01@openssh.com' },
      'bad-signature',
    ],
    [
      'by an authority that did not sign',
      { authority: join8(string('ssh-ed25519'), string(Buffer.alloc(32, 1))) },
      'bad-signature',
    ],
    ['by an authority of unknown type', { authority: join8(string('ssh-dss'), string('x')) }, 'unknown-type'],
    ['by an authority with a byte too many', { authority: join8(caBlob, Uint8Array.of(0)) }, 'malformed'],
    ['by a certificate', { authority: forge() }, 'malformed'],
    [
      'with more than 1024 extensions',
      { extensions: join8(...Array.from({ length: 1025 }, (_, i) => join8(string(`e${i}`), string('')))) },
      'out-of-bounds',
    ],
  ])('%s is refused', (_, parts, code) => {
    expect(codeOf(() => certificate(parts))).toBe(code);
  });
});

describe('a host certificate', () => {
  it.each<[string, Parts, string, number, boolean]>([
    ['is good for its principal, within its dates', {}, 'host.example.org', 1500, true],
    ['is good from its first second', {}, 'host.example.org', 1000, true],
    ['is not good before', {}, 'host.example.org', 999.9, false],
    ['is good until its last second', {}, 'host.example.org', 1999.9, true],
    ['is not good from its end on', {}, 'host.example.org', 2000, false],
    ['is good for ever', { after: 0n, before: FOREVER }, 'host.example.org', 1e12, true],
    ['is not good at no time', { after: 0n, before: FOREVER }, 'host.example.org', Number.NaN, false],
    ['is not good for another name', {}, 'other.example.org', 1500, false],
    ['is not good in another case', {}, 'HOST.example.org', 1500, false],
    ['takes its principals for patterns', { principals: ['x', '*.example.org'] }, 'host.example.org', 1500, true],
    ['takes no name for a pattern', {}, '*', 1500, false],
    ['is good for nothing without principals', { principals: [] }, 'host.example.org', 1500, false],
    [
      'is good for nothing with a critical option',
      { critical: join8(string('x'), string('')) },
      'host.example.org',
      1500,
      false,
    ],
    ['may have extensions', { extensions: join8(string('x'), string('')) }, 'host.example.org', 1500, true],
    ['is not one for users', { type: 1 }, 'host.example.org', 1500, false],
    ['is not matched by what is not UTF-8', { principals: [Uint8Array.of(0xff)] }, '\ufffd', 1500, false],
  ])('%s', (_, parts, hostname, now, expected) => {
    expect(isHostCertificateFor(certificate(parts), hostname, now)).toBe(expected);
  });
});
