/** What the custody test needs around the agent: a running one, a client that writes raw bytes, messages, needles. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { ml_dsa44 } from '@noble/post-quantum/ml-dsa.js';
import { type FreshKey, freshEcdsa, freshEd25519, freshMldsa, freshRsa } from '../support/keys.ts';
import { type Needle, type Scan, scanMemory } from '../support/memscan.ts';

export const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};

export const string = (value: string | Uint8Array): Buffer => {
  const bytes = Buffer.from(value as Uint8Array);
  return Buffer.concat([u32(bytes.length), bytes]);
};

const mpint = (value: Uint8Array): Buffer =>
  string((value[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.from([0]), value]) : value);

export const frame = (...parts: readonly Uint8Array[]): Buffer => string(Buffer.concat(parts));

/** A key of the test's, with its private half as it travels and its public one. */
export interface TestKey {
  readonly type: string;
  readonly comment: string;
  readonly blob: Buffer;
  /** The certificate's blob, where there is one. */
  readonly certificate?: Buffer;
  readonly fresh: FreshKey;
}

type Fields = FreshKey['key']['fields'];
const field = (fields: Fields, name: string): Uint8Array => fields[name] ?? new Uint8Array();

function publicBlob({ key: { type, fields } }: FreshKey): Buffer {
  if (type === 'ssh-rsa') return Buffer.concat([string(type), mpint(field(fields, 'e')), mpint(field(fields, 'n'))]);
  if (type.startsWith('ecdsa'))
    return Buffer.concat([string(type), string(field(fields, 'curve')), string(field(fields, 'q'))]);
  return Buffer.concat([string(type), string(field(fields, 'pk'))]);
}

/** The fields behind the type name in a request to add the plain key, and in a private key file. */
function plainBody({ key: { type, fields } }: FreshKey): Buffer {
  if (type === 'ssh-rsa')
    return Buffer.concat(['n', 'e', 'd', 'iqmp', 'p', 'q'].map((name) => mpint(field(fields, name))));
  if (type.startsWith('ecdsa'))
    return Buffer.concat([
      string(field(fields, 'curve')),
      string(field(fields, 'q')),
      mpint(field(fields, 'd')),
    ]);
  return Buffer.concat([string(field(fields, 'pk')), string(field(fields, 'sk'))]);
}

/** The same beside a certificate. */
function certificateBody({ key: { type, fields } }: FreshKey): Buffer {
  if (type === 'ssh-rsa') return Buffer.concat(['d', 'iqmp', 'p', 'q'].map((name) => mpint(field(fields, name))));
  if (type.startsWith('ecdsa')) return mpint(field(fields, 'd'));
  return Buffer.concat([string(field(fields, 'pk')), string(field(fields, 'sk'))]);
}

/** A request to add `key`; `constraints` are raw bytes at its end. */
export function addMessage(key: TestKey, constraints: Uint8Array = new Uint8Array()): Buffer {
  const body =
    key.certificate === undefined
      ? [string(key.type), plainBody(key.fresh)]
      : [string(`${key.type}-cert-v01@openssh.com`), string(key.certificate), certificateBody(key.fresh)];
  return frame(Buffer.from([constraints.length > 0 ? 25 : 17]), ...body, string(key.comment), constraints);
}

export const lifetime = (seconds: number): Buffer => Buffer.concat([Buffer.from([1]), u32(seconds)]);
export const lockMessage = (phrase: string): Buffer => frame(Buffer.from([22]), string(phrase));
export const unlockMessage = (phrase: string): Buffer => frame(Buffer.from([23]), string(phrase));
export const listMessage: Buffer = frame(Buffer.from([11]));
export const removeAllMessage: Buffer = frame(Buffer.from([19]));

export function signMessage(key: TestKey, data: string, flags = 0): Buffer {
  return frame(Buffer.from([13]), string(key.certificate ?? key.blob), string(data), u32(flags));
}

export function removeMessage(key: TestKey): Buffer {
  return frame(Buffer.from([18]), string(key.certificate ?? key.blob));
}

export const SUCCESS = 6;
export const FAILURE = 5;
export const SIGNATURE = 14;

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
  writeFileSync(join(folder, 'subject.pub'), `${key.type} ${key.blob.toString('base64')} subject\n`);
  keygen(folder, '-s', 'ca', '-I', 'custody test', '-n', 'alice', 'subject.pub');
  const [, text = ''] = readFileSync(join(folder, 'subject-cert.pub'), 'utf8').split(' ');
  return { ...key, certificate: Buffer.from(text, 'base64') };
}

/** Writes the private key file of `key` without a pass phrase (OpenSSH's PROTOCOL.key). */
export function writeKeyFile(key: TestKey, path: string): void {
  const check = u32(0x01020304);
  const inner = [check, check, string(key.type), plainBody(key.fresh), string(key.comment)];
  const length = Buffer.concat(inner).length;
  inner.push(Buffer.from([1, 2, 3, 4, 5, 6, 7].slice(0, (8 - (length % 8)) % 8)));
  const content = Buffer.concat([
    Buffer.from('openssh-key-v1\0'),
    string('none'),
    string('none'),
    string(''),
    u32(1),
    string(key.blob),
    frame(...inner),
  ]);
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
    for (const at of starts)
      needles.push({ name: `${name}${order} [${at}]`, bytes: bytes.slice(at, at + WINDOW) });
  }
  return needles;
}

const text = (name: string, value: Uint8Array): Needle[] => [
  { name: `${name} in hexadecimal`, bytes: Buffer.from(Buffer.from(value).toString('hex')) },
  { name: `${name} in base64`, bytes: Buffer.from(Buffer.from(value).toString('base64').replace(/=+$/, '').slice(0, -1)) },
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
  for (let at = 0; at + 32 <= 768; at += 96) needles.push({ name: `${label}s1, s2 [${at}]`, bytes: rest.slice(at, at + 32) });
  const shake = createHash('shake256', { outputLength: 128 }).update(seed).update(Buffer.from([4, 4])).digest();
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

/** A connection that writes what it is told to and takes one answer after another. */
export class RawClient {
  readonly #socket: Socket;
  #pending: Buffer = Buffer.alloc(0);
  readonly #waiting: ((answer: Buffer) => void)[] = [];

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => {
      this.#pending = Buffer.concat([this.#pending, chunk]);
      while (this.#pending.length >= 4 && this.#pending.length >= 4 + this.#pending.readUInt32BE()) {
        const end = 4 + this.#pending.readUInt32BE();
        this.#waiting.shift()?.(this.#pending.subarray(4, end));
        this.#pending = this.#pending.subarray(end);
      }
    });
  }

  write(bytes: Uint8Array): void {
    this.#socket.write(bytes);
  }

  /** The next answer that nobody waits for yet. */
  answer(): Promise<Buffer> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** @returns the number of the answer's message */
  async ask(message: Uint8Array): Promise<number> {
    const answer = this.answer();
    this.write(message);
    return (await answer)[0] as number;
  }

  hangUp(): void {
    this.#socket.destroy();
  }
}

export interface RunningAgent {
  readonly pid: number;
  readonly socket: string;
  connect(): Promise<RawClient>;
  status(): Promise<Record<string, unknown>>;
  scan(needles: readonly Needle[]): Scan;
  stop(): Promise<void>;
}

const pause = (milliseconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds));

function connected(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(path, () => resolve(socket));
    socket.once('error', reject);
  });
}

/** Starts `program` (an ssh-agent) in the foreground on a socket in `folder`. */
export async function startAgent(program: string, folder: string): Promise<RunningAgent> {
  const path = join(folder, 'agent.sock-under-test');
  const child: ChildProcess = spawn(program, ['-D', '-a', path], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { PATH: '/usr/bin:/bin', HOME: folder },
  });
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  while (!existsSync(`${path}.control`)) {
    if (child.exitCode !== null) throw new Error(`the agent ended with ${child.exitCode}`);
    await pause(20);
  }
  return {
    pid: child.pid as number,
    socket: path,
    connect: async () => new RawClient(await connected(path)),
    async status() {
      const socket = await connected(`${path}.control`);
      socket.write('{"version":1,"command":"status"}\n');
      let line = '';
      for await (const chunk of socket) {
        line += String(chunk);
        if (line.endsWith('\n')) break;
      }
      return JSON.parse(line).result;
    },
    scan: (needles) => scanMemory(child.pid as number, needles),
    async stop() {
      child.kill('SIGTERM');
      await ended;
    },
  };
}
