/**
 * Tokens for tests: SoftHSM2 with its own folder, filled by node:crypto's keys and by OpenSC's pkcs11-tool; and providers
 * of our own, built from provider.c and noprovider.c, that do what a token should not.
 */
import { spawnSync } from 'node:child_process';
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import {
  openProvider,
  type Pkcs11Limits,
  type Pkcs11Ports,
  type TokenKey,
  type TokenProvider,
} from '../../src/backends/pkcs11.ts';
import { raw, str } from '../unit/wire/build.ts';
import { BUILD, cleanEnv, until } from './agentprocess.ts';

export const SOFTHSM = '/usr/lib/softhsm/libsofthsm2.so';
export const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

/** @throws Error with what the program said */
export function run(program: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): string {
  const ran = spawnSync(program, args, { env: cleanEnv('/nonexistent', env), encoding: 'utf8', input: '' });
  if (ran.status !== 0) throw new Error(`${program} ${args.join(' ')}: ${ran.stdout}${ran.stderr}${ran.error ?? ''}`);
  return ran.stdout;
}

export type KeyKind = 'rsa' | 'nistp256' | 'nistp384' | 'nistp521' | 'ed25519';

export interface ImportedKey {
  readonly kind: KeyKind;
  readonly publicKey: KeyObject;
  /** Put together from node:crypto's own export. */
  readonly blob: Uint8Array;
}

function fresh(kind: KeyKind): { publicKey: KeyObject; privateKey: KeyObject } {
  if (kind === 'rsa') return generateKeyPairSync('rsa', { modulusLength: 2048 });
  if (kind === 'ed25519') return generateKeyPairSync('ed25519');
  return generateKeyPairSync('ec', { namedCurve: `P-${kind.slice(5)}` });
}

const fromJwk = (value: string | undefined): Uint8Array => new Uint8Array(Buffer.from(value ?? '', 'base64url'));
const mpint = (number: Uint8Array): Uint8Array => ((number[0] ?? 0) & 0x80 ? str(0, number) : str(number));

/** An SSH public key blob, byte by byte. */
export function blobOf(publicKey: KeyObject): Uint8Array {
  const jwk = publicKey.export({ format: 'jwk' });
  if (jwk.kty === 'RSA') return raw(str('ssh-rsa'), mpint(fromJwk(jwk.e)), mpint(fromJwk(jwk.n)));
  if (jwk.kty === 'OKP') return raw(str('ssh-ed25519'), str(fromJwk(jwk.x)));
  const curve = `nistp${jwk.crv?.slice(2)}`;
  return raw(str(`ecdsa-sha2-${curve}`), str(curve), str(4, fromJwk(jwk.x), fromJwk(jwk.y)));
}

export interface SoftHsm {
  readonly folder: string;
  /** Where the tokens lie, a folder each. */
  readonly tokens: string;
  readonly env: Record<string, string>;
  initialise(label: string, pin: string): void;
  /** Puts a fresh key on a token. `id` is hexadecimal. */
  importKey(token: string, pin: string, kind: KeyKind, label: string, id: string): ImportedKey;
  /** OpenSC's pkcs11-tool, logged in. */
  tool(token: string, pin: string, ...args: readonly string[]): string;
  remove(): void;
}

export function softHsm(): SoftHsm {
  const folder = mkdtempSync(join(tmpdir(), 'latchkey-hsm-'));
  const tokens = join(folder, 'tokens');
  const config = join(folder, 'softhsm2.conf');
  mkdirSync(tokens);
  writeFileSync(config, `directories.tokendir = ${tokens}\nobjectstore.backend = file\nlog.level = ERROR\n`);
  const env = cleanEnv(folder, { SOFTHSM2_CONF: config });
  const tool: SoftHsm['tool'] = (token, pin, ...args) =>
    run('pkcs11-tool', ['--module', SOFTHSM, '--token-label', token, '--login', '--pin', pin, ...args], env);
  return {
    folder,
    tokens,
    env,
    tool,
    initialise(label, pin) {
      run('softhsm2-util', ['--init-token', '--free', '--label', label, '--pin', pin, '--so-pin', '87654321'], env);
    },
    importKey(token, pin, kind, label, id) {
      const { publicKey, privateKey } = fresh(kind);
      const file = join(folder, 'key.pem');
      writeFileSync(file, privateKey.export({ type: 'pkcs8', format: 'pem' }));
      const what = ['--import', file, '--token', token, '--pin', pin, '--label', label, '--id', id];
      run('softhsm2-util', what, env);
      return { kind, publicKey, blob: blobOf(publicKey) };
    },
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

export interface FakeProvider {
  readonly folder: string;
  readonly path: string;
  /** Environment of its helper: it signs `data` right and nothing else, unless `more` says otherwise. */
  env(data: Uint8Array, more?: Readonly<Record<string, string>>): Record<string, string>;
  readonly blob: Uint8Array;
  /** Builds noprovider.c with a name defined; its path. */
  noProvider(define: string): string;
  /** Tries that the PIN has left, in the file that env() with FAKE_STATE names. */
  readonly state: string;
  tries(left?: number): number;
  /** The mark of a constructor that ran. */
  readonly mark: string;
  remove(): void;
}

/** Its PIN. */
export const FAKE_PIN = '123456';

export function fakeProvider(): FakeProvider {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'latchkey-p11-')));
  const path = join(folder, 'provider.so');
  const build = (source: string, out: string, ...args: readonly string[]): void => {
    const file = join(import.meta.dirname, source);
    run('gcc', ['-shared', '-fPIC', '-o', out, ...args, file], { TMPDIR: folder });
  };
  build('provider.c', path);
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const state = join(folder, 'tries');
  return {
    folder,
    path,
    state,
    mark: join(folder, 'mark'),
    blob: blobOf(publicKey),
    env: (data, more = {}) =>
      cleanEnv(folder, {
        FAKE_PUBLIC: `0420${Buffer.from(fromJwk(publicKey.export({ format: 'jwk' }).x)).toString('hex')}`,
        FAKE_SIGNATURE: sign(null, data, privateKey).toString('hex'),
        FAKE_STATE: state,
        ...more,
      }),
    noProvider(define) {
      const out = join(folder, `no-${define}.so`);
      build('noprovider.c', out, `-D${define}`);
      return out;
    },
    tries(left) {
      if (left !== undefined) writeFileSync(state, String(left));
      return Number(readFileSync(state, 'utf8'));
    },
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

export interface TestPorts extends Pkcs11Ports {
  /** Prompts, in order. */
  readonly asked: string[];
  /** Answers that are still to be given; undefined where nobody is there. */
  readonly answers: (string | undefined)[];
  readonly logged: string[];
}

/** Ports with the built helper, and a person who gives `answers` in order. */
export function testPorts(env: Readonly<Record<string, string>>, limits: Partial<Pkcs11Limits> = {}): TestPorts {
  const asked: string[] = [];
  const answers: (string | undefined)[] = [];
  const logged: string[] = [];
  return {
    env,
    helper: [process.execPath, join(BUILD, 'dist/pkcs11-helper.cjs')],
    askPin: async (prompt) => {
      asked.push(prompt);
      const answer = answers.shift();
      return answer === undefined ? undefined : bytes(answer);
    },
    log: (level, text) => void logged.push(`${level} ${text}`),
    limits,
    asked,
    answers,
    logged,
  };
}

/** Our own children: their process ids and states. */
export function children(): readonly { pid: number; state: string; command: string }[] {
  const tasks = readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8').trim();
  return tasks
    .split(' ')
    .filter((word) => word !== '')
    .flatMap((word) => {
      try {
        const stat = readFileSync(`/proc/${word}/stat`, 'utf8');
        const state = /\) (\S)/.exec(stat)?.[1] ?? '?';
        return [{ pid: Number(word), state, command: readFileSync(`/proc/${word}/cmdline`, 'utf8') }];
      } catch {
        return [];
      }
    });
}

/** Waits until no helper is left, not even as a zombie. */
export async function noHelpers(): Promise<void> {
  await until('every helper to be gone', () =>
    children().every(({ state, command }) => state !== 'Z' && !command.includes('pkcs11-helper')),
  );
}

/** What the tests of tokens have signed. */
export const DATA: Uint8Array = bytes('what a client wants signed');

const opened: TokenProvider[] = [];

/** As openProvider; closeProviders ends what it opened. */
export async function openAt(...args: Parameters<typeof openProvider>): ReturnType<typeof openProvider> {
  const got = await openProvider(...args);
  opened.push(got.provider);
  return got;
}

/** After each test: no provider stays open, and no helper is left. */
export async function closeProviders(): Promise<void> {
  for (const provider of opened.splice(0)) provider.close();
  await noHelpers();
}

/** The key with this blob. @throws Error where it is not listed */
export const find = (keys: readonly TokenKey[], blob: Uint8Array): TokenKey => {
  const found = keys.find(({ signer }) => Buffer.compare(signer.publicKey.blob, blob) === 0);
  if (found === undefined) throw new Error('the key is not listed');
  return found;
};

/** The strings in an SSH signature blob: the algorithm and what it made. */
export function parts(signature: Uint8Array): readonly [string, Buffer] {
  const all = Buffer.from(signature);
  const name = all.readUInt32BE();
  const length = all.readUInt32BE(4 + name);
  expect(8 + name + length).toBe(all.length);
  return [all.toString('latin1', 4, 4 + name), all.subarray(8 + name)];
}
