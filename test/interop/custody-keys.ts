/** Keys for the custody test: how they travel, their certificates and files, and what must not be found of them. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ml_dsa44 } from '@noble/post-quantum/ml-dsa.js';
import { type FreshKey, freshEcdsa, freshEd25519, freshMldsa, freshRsa } from '../support/keys.ts';
import type { Needle } from '../support/memscan.ts';
import { raw, str, u32 } from '../unit/wire/build.ts';

const mpint = (value: Uint8Array): Uint8Array => ((value[0] ?? 0) >= 0x80 ? str(0, value) : str(value));

/** A key of the test's, with its private half as it travels and its public one. */
export interface TestKey {
  readonly type: string;
  readonly comment: string;
  readonly blob: Uint8Array;
  /** The certificate's blob, where there is one. */
  readonly certificate?: Uint8Array;
  readonly fresh: FreshKey;
}

type Fields = FreshKey['key']['fields'];
const field = (fields: Fields, name: string): Uint8Array => fields[name] ?? new Uint8Array();

function publicBlob({ key: { type, fields } }: FreshKey): Uint8Array {
  if (type === 'ssh-rsa') return raw(str(type), mpint(field(fields, 'e')), mpint(field(fields, 'n')));
  if (type.startsWith('ecdsa')) return raw(str(type), str(field(fields, 'curve')), str(field(fields, 'q')));
  return raw(str(type), str(field(fields, 'pk')));
}

/** The fields behind the type name in a request to add the plain key, and in a private key file. */
function plainBody({ key: { type, fields } }: FreshKey): Uint8Array {
  if (type === 'ssh-rsa') return raw(...['n', 'e', 'd', 'iqmp', 'p', 'q'].map((name) => mpint(field(fields, name))));
  if (type.startsWith('ecdsa'))
    return raw(str(field(fields, 'curve')), str(field(fields, 'q')), mpint(field(fields, 'd')));
  return raw(str(field(fields, 'pk')), str(field(fields, 'sk')));
}

/** The same beside a certificate. */
function certificateBody({ key: { type, fields } }: FreshKey): Uint8Array {
  if (type === 'ssh-rsa') return raw(...['d', 'iqmp', 'p', 'q'].map((name) => mpint(field(fields, name))));
  if (type.startsWith('ecdsa')) return mpint(field(fields, 'd'));
  return raw(str(field(fields, 'pk')), str(field(fields, 'sk')));
}

/** A request to add `key`; `constraints` are raw bytes at its end. */
export function addMessage(key: TestKey, constraints: Uint8Array = raw()): Uint8Array {
  const body =
    key.certificate === undefined
      ? raw(str(key.type), plainBody(key.fresh))
      : raw(str(`${key.type}-cert-v01@openssh.com`), str(key.certificate), certificateBody(key.fresh));
  return raw(constraints.length > 0 ? 25 : 17, body, str(key.comment), constraints);
}

export const lifetime = (seconds: number): Uint8Array => raw(1, u32(seconds));
export const lockMessage = (phrase: string): Uint8Array => raw(22, str(phrase));
export const unlockMessage = (phrase: string): Uint8Array => raw(23, str(phrase));

export function signMessage(key: TestKey, data: string, flags = 0): Uint8Array {
  return raw(13, str(key.certificate ?? key.blob), str(data), u32(flags));
}

export const removeMessage = (key: TestKey): Uint8Array => raw(18, str(key.certificate ?? key.blob));

/** Keys of every type; `rsaBits` says how many of RSA's sizes. */
export function testKeys(rsaBits: readonly number[], note = ''): TestKey[] {
  const fresh = [
    freshEd25519(),
    freshEcdsa('nistp256'),
    freshEcdsa('nistp384'),
    freshEcdsa('nistp521'),
    ...rsaBits.map((bits) => freshRsa(bits)),
    freshMldsa(),
  ];
  return fresh.map((one, i) => ({
    type: one.key.type,
    comment: `${note} key ${i} of the custody test`,
    blob: publicBlob(one),
    fresh: one,
  }));
}

function keygen(folder: string, ...args: readonly string[]): void {
  const { status, stderr } = spawnSync('/usr/bin/ssh-keygen', ['-q', ...args], { cwd: folder, encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
}

/** `key` with a certificate by ssh-keygen, which knows no composite type: undefined for that. */
export function certified(key: TestKey, folder: string): TestKey | undefined {
  if (key.type.startsWith('ssh-mldsa')) return undefined;
  if (!existsSync(join(folder, 'ca'))) keygen(folder, '-t', 'ed25519', '-N', '', '-C', 'ca', '-f', 'ca');
  writeFileSync(join(folder, 'subject.pub'), `${key.type} ${Buffer.from(key.blob).toString('base64')} subject\n`);
  keygen(folder, '-s', 'ca', '-I', 'custody test', '-n', 'alice', 'subject.pub');
  const [, text = ''] = readFileSync(join(folder, 'subject-cert.pub'), 'utf8').split(' ');
  return { ...key, certificate: Buffer.from(text, 'base64') };
}

/** Writes the private key file of `key` without a pass phrase (OpenSSH's PROTOCOL.key). */
export function writeKeyFile(key: TestKey, path: string): void {
  const check = u32(0x01020304);
  const inner = raw(check, check, str(key.type), plainBody(key.fresh), str(key.comment));
  const padding = Uint8Array.from([1, 2, 3, 4, 5, 6, 7]).subarray(0, (8 - (inner.length % 8)) % 8);
  const head = raw('openssh-key-v1\0', str('none'), str('none'), str(''), u32(1), str(key.blob));
  const content = Buffer.from(raw(head, str(inner, padding)));
  const lines = content.toString('base64').match(/.{1,70}/g) ?? [];
  const text = ['-----BEGIN OPENSSH PRIVATE KEY-----', ...lines, '-----END OPENSSH PRIVATE KEY-----', ''].join('\n');
  writeFileSync(path, text, { mode: 0o600 });
}

const WINDOW = 16;

/** The whole of `value` in both byte orders, and every 16 bytes of it: partial copies count too. */
function windows(name: string, value: Uint8Array): Needle[] {
  const needles: Needle[] = [];
  const orders = [
    ['', value],
    [' reversed', Uint8Array.from(value).reverse()],
  ] as const;
  for (const [order, bytes] of orders) {
    const starts = new Set([bytes.length - WINDOW]);
    for (let at = 0; at + WINDOW <= bytes.length; at += WINDOW) starts.add(at);
    for (const at of starts) needles.push({ name: `${name}${order} [${at}]`, bytes: bytes.slice(at, at + WINDOW) });
  }
  return needles;
}

const text = (name: string, value: Uint8Array): Needle[] => [
  { name: `${name} in hexadecimal`, bytes: Buffer.from(Buffer.from(value).toString('hex')) },
  {
    name: `${name} in base64`,
    bytes: Buffer.from(Buffer.from(value).toString('base64').replace(/=+$/, '').slice(0, -1)),
  },
];

/** All that must not be found of `key`: its private values, and what is as good as they are. */
export function needlesOf(key: TestKey): Needle[] {
  const label = `${key.type}: `;
  const needles: Needle[] = [];
  for (const [name, value] of Object.entries(key.fresh.secrets)) {
    needles.push(...windows(label + name, value), ...text(label + name, value));
    if (name === 'seed') needles.push(...ed25519Needles(label, value));
    if (name === 'mldsaSeed') needles.push(...mldsaNeedles(label, value));
  }
  return needles;
}

/** Ed25519 signs with the two halves of SHA-512 of the seed (RFC 8032); the first loses some bits at its ends. */
function ed25519Needles(label: string, seed: Uint8Array): Needle[] {
  const expanded = createHash('sha512').update(seed).digest();
  return [
    { name: `${label}scalar`, bytes: expanded.subarray(1, 31) },
    { name: `${label}prefix`, bytes: expanded.subarray(32, 48) },
  ];
}

/** FIPS 204: secret key = rho, K, tr, s1, s2, t0, all but rho and tr secret. */
function mldsaNeedles(label: string, seed: Uint8Array): Needle[] {
  const { secretKey } = ml_dsa44.keygen(seed);
  const rest = secretKey.subarray(128);
  const needles = [...windows(`${label}K`, secretKey.subarray(32, 64))];
  for (let at = 0; at + 32 <= 768; at += 96)
    needles.push({ name: `${label}s1, s2 [${at}]`, bytes: rest.slice(at, at + 32) });
  const shake = createHash('shake256', { outputLength: 128 })
    .update(seed)
    .update(Buffer.from([4, 4]))
    .digest();
  needles.push({ name: `${label}rho prime`, bytes: shake.subarray(32, 48) });
  // s1 as the library works with it: 32-bit numbers, in their ordinary form.
  const numbers = new Int32Array(32);
  for (let i = 0; i < 32; i++) {
    const bit = i * 3;
    const word = (rest[bit >> 3] as number) | ((rest[(bit >> 3) + 1] as number) << 8);
    numbers[i] = 2 - ((word >> (bit & 7)) & 7);
  }
  needles.push({ name: `${label}s1 as numbers`, bytes: new Uint8Array(numbers.buffer) });
  return needles;
}

export function phraseNeedles(phrase: string): Needle[] {
  return [
    { name: 'pass phrase', bytes: Buffer.from(phrase) },
    { name: 'pass phrase, first half', bytes: Buffer.from(phrase.slice(0, 16)) },
    { name: 'pass phrase as UTF-16', bytes: Buffer.from(phrase, 'utf16le') },
  ];
}

const ORDERS: Readonly<Record<string, readonly [bigint, string, number]>> = {
  nistp256: [0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n, 'sha256', 32],
  nistp384: [
    0xffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973n,
    'sha384',
    48,
  ],
};
const ED25519_ORDER = 2n ** 252n + 27742317777372353535851937790883648493n;

const number = (bytes: Uint8Array): bigint => BigInt(`0x${Buffer.from(bytes).toString('hex')}`);
const bytesOf = (value: bigint, length: number): Uint8Array =>
  Uint8Array.from(Buffer.from(value.toString(16).padStart(2 * length, '0'), 'hex'));

function inverse(value: bigint, modulus: bigint): bigint {
  let [a, b, x, y] = [modulus, value % modulus, 0n, 1n];
  while (b > 0n) [a, b, x, y] = [b, a % b, y, x - (a / b) * y];
  return ((x % modulus) + modulus) % modulus;
}

function parts(bytes: Uint8Array): Uint8Array[] {
  const found: Uint8Array[] = [];
  const view = Buffer.from(bytes);
  for (let at = 0; at < view.length; at += 4 + view.readUInt32BE(at))
    found.push(view.subarray(at + 4, at + 4 + view.readUInt32BE(at)));
  return found;
}

/** The number of use in one signature (RFC 6979's k, RFC 8032's r), which tells the key to whoever has the signature. */
export function nonceNeedles(key: TestKey, data: string, answer: Uint8Array): Needle[] {
  const [, signature = raw()] = parts(parts(answer.subarray(1))[0] ?? raw());
  const label = `${key.type}: nonce for ${data}`;
  if (key.type === 'ssh-ed25519') {
    const prefix = createHash('sha512')
      .update(key.fresh.secrets.seed as Uint8Array)
      .digest()
      .subarray(32);
    const r = createHash('sha512').update(prefix).update(data).digest();
    return windows(label, bytesOf(number(Uint8Array.from(r).reverse()) % ED25519_ORDER, 32));
  }
  const [order, hash = '', length = 0] = ORDERS[key.type.split('-').at(-1) ?? ''] ?? [];
  if (order === undefined) return [];
  const [r = raw(), s = raw()] = parts(signature);
  const digest = number(createHash(hash).update(data).digest());
  const k = ((digest + number(r) * number(key.fresh.secrets.d as Uint8Array)) * inverse(number(s), order)) % order;
  const inverted = windows(`${label}, inverse`, bytesOf(inverse(k, order), length));
  return [...windows(label, bytesOf(k, length)), ...inverted];
}
