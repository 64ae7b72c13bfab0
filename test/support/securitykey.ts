/** The software security key for tests: built from softsk.c, and keys on it made by the system's ssh-keygen. */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type PrivateKeyFile, readPrivateKeyFile } from '../../src/keys/keyfile.ts';
import { type PublicKey, parsePublicKey } from '../../src/keys/publickey.ts';

/** Debian's. */
export const SK_HELPER = '/usr/lib/openssh/ssh-sk-helper';

export interface SecurityKeyFolder {
  readonly folder: string;
  /** The provider, a library. */
  readonly provider: string;
  /** Environment of programs that use the provider, with more of it. */
  env(more?: Readonly<Record<string, string>>): Record<string, string>;
  /** Runs a program there. @throws Error where it fails */
  run(program: string, args: readonly string[], env?: Readonly<Record<string, string>>, input?: string): string;
  /** A key of `type` without a passphrase; the PIN is 1234. */
  keygen(name: string, type: string, ...args: readonly string[]): void;
  remove(): void;
}

/** A fresh folder with the provider. @throws Error with the compiler's words */
export function securityKeyFolder(): SecurityKeyFolder {
  const folder = mkdtempSync(join(tmpdir(), 'latchkey-sk-'));
  const provider = join(folder, 'softsk.so');
  const askpass = join(folder, 'askpass');
  writeFileSync(askpass, '#!/bin/sh\nprintf 1234\n');
  chmodSync(askpass, 0o700);
  const env = (more: Readonly<Record<string, string>> = {}): Record<string, string> => ({
    PATH: '/usr/bin:/bin',
    HOME: folder,
    SSH_SK_PROVIDER: provider,
    SSH_ASKPASS: askpass,
    SSH_ASKPASS_REQUIRE: 'force',
    ...more,
  });
  const run: SecurityKeyFolder['run'] = (program, args, more = {}, input = '') => {
    const done = spawnSync(program, args, { cwd: folder, env: env(more), encoding: 'utf8', input });
    if (done.status !== 0) throw new Error(`${program} ${args.join(' ')}: ${done.error ?? done.stderr + done.stdout}`);
    return done.stdout;
  };
  run('gcc', ['-shared', '-fPIC', join(import.meta.dirname, 'softsk.c'), '-lcrypto', '-o', provider]);
  return {
    folder,
    provider,
    env,
    run,
    keygen(name, type, ...args) {
      const sk = { SOFTSK_PIN: '1234', SOFTSK_STORE: join(folder, 'store') };
      run('ssh-keygen', ['-q', '-t', type, '-N', '', '-C', name, '-f', name, ...args], sk);
    },
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

export interface SecurityKey {
  readonly publicKey: PublicKey;
  readonly file: PrivateKeyFile;
}

/** The key in the file `path`, or its certificate with the key's private part. */
export async function securityKeyIn(path: string, certificate = false): Promise<SecurityKey> {
  const file = await readPrivateKeyFile(readFileSync(path), undefined);
  const line = readFileSync(`${path}${certificate ? '-cert' : ''}.pub`, 'utf8');
  const publicKey = parsePublicKey(new Uint8Array(Buffer.from(line.split(' ')[1] ?? '', 'base64')));
  return { publicKey, file };
}

export interface Child {
  readonly pid: number;
  readonly name: string;
  readonly state: string;
}

function processOf(pid: string): (Child & { readonly parent: number }) | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return undefined;
  }
  const [, name = '', state = '', parent = ''] = /^\d+ \((.*)\) (\S) (\d+)/s.exec(stat) ?? [];
  return { pid: Number(pid), name, state, parent: Number(parent) };
}

/** The processes that this one, or another, has started, zombies among them. */
export function children(of: number = process.pid): readonly Child[] {
  const found: Child[] = [];
  for (const entry of readdirSync('/proc')) {
    const one = /^\d+$/.test(entry) ? processOf(entry) : undefined;
    if (one?.parent === of) found.push(one);
  }
  return found;
}

/** Whether the process is there, and no zombie. */
export const isRunning = (pid: number): boolean => (processOf(String(pid))?.state ?? 'Z') !== 'Z';
