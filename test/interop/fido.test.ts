/**
 * Security keys through the system's ssh-sk-helper and a provider of our own (test/support/softsk.c): keys made by the
 * system's ssh-keygen, signatures verified by it, and devices and helpers that fail.
 * LATCHKEY_HELPER_KILLS says how often the helper is killed.
 */
import { spawn, spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { copyFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type FidoPorts, type FidoTimes, loadResidentKeys, securityKeySigner } from '../../src/backends/fido.ts';
import { connectAgent } from '../../src/client/connect.ts';
import { Custody } from '../../src/keys/custody.ts';
import { KeyError } from '../../src/keys/error.ts';
import { fingerprint } from '../../src/keys/publickey.ts';
import { verifySignature } from '../../src/keys/signature.ts';
import {
  type Child,
  children,
  isRunning,
  type SecurityKey,
  type SecurityKeyFolder,
  SK_HELPER,
  securityKeyFolder,
  securityKeyIn,
} from '../support/securitykey.ts';
import { raw, str, u32 } from '../unit/wire/build.ts';
import { buildSshAdd, type Outcome, REFERENCE, run, startRecorder } from './ssh-add-programs.ts';

const KILLS = Number(process.env.LATCHKEY_HELPER_KILLS ?? 1000);
const PIN = '1234';

let sk: SecurityKeyFolder;
const custody = new Custody();
const path = (name: string): string => join(sk.folder, name);
const trace = (): string[] => readFileSync(path('trace'), 'utf8').trim().split('\n');

beforeAll(() => {
  sk = securityKeyFolder();
  for (const type of ['ed25519-sk', 'ecdsa-sk']) {
    sk.keygen(type, type);
    sk.keygen(`${type}-quiet`, type, '-O', 'no-touch-required');
    sk.keygen(`${type}-pin`, type, '-O', 'verify-required');
    sk.keygen(`${type}-resident`, type, '-O', 'resident', '-O', `application=ssh:${type}`);
    sk.keygen(`${type}-certified`, type);
  }
  sk.keygen('web', 'ed25519-sk', '-O', 'resident', '-O', 'application=ssh:web');
  sk.run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', 'ca']);
  for (const type of ['ed25519-sk', 'ecdsa-sk'])
    sk.run('ssh-keygen', ['-q', '-s', 'ca', '-I', 'an id', '-n', 'alice', `${type}-certified.pub`]);
});

afterAll(() => sk.remove());
beforeEach(() => {
  for (const name of ['trace', 'busy']) rmSync(path(name), { force: true });
});

interface Setting {
  readonly env?: Readonly<Record<string, string>>;
  readonly provider?: string;
  readonly times?: Partial<FidoTimes>;
  readonly pin?: string;
}

interface Told {
  readonly notices: string[];
  readonly prompts: string[];
}

/** A signer for `key`, and what a person is told. */
function signerFor({ publicKey, file }: SecurityKey, setting: Setting = {}) {
  const told: Told = { notices: [], prompts: [] };
  const ports: FidoPorts = {
    env: sk.env({ SOFTSK_TRACE: path('trace'), ...setting.env }),
    notify: (text) => {
      told.notices.push(text);
      return () => told.notices.push('end');
    },
    askPin: async (prompt) => {
      told.prompts.push(prompt);
      return setting.pin === undefined ? undefined : new Uint8Array(Buffer.from(setting.pin));
    },
    log: () => {},
  };
  const times = { device: 50_000, turn: 50_000, pin: 50_000, ...setting.times };
  const provider = setting.provider ?? sk.provider;
  const signer = securityKeySigner(publicKey, file.key.fields, provider, custody, ports, times);
  return { signer, told };
}

async function failure(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    if (error instanceof KeyError) return `${error.code}: ${error.message}`;
    throw error;
  }
  return 'no failure';
}

/** What ssh-keygen -Y sign has signed for `message` (PROTOCOL.sshsig section 3). */
const sshsigData = (message: string): Uint8Array =>
  raw(
    'SSHSIG',
    str('file'),
    str(''),
    str('sha512'),
    str(new Uint8Array(createHash('sha512').update(message).digest())),
  );

/** Whether ssh-keygen finds `signature` good for `message`. */
function isGood(key: string, blob: Uint8Array, message: string, signature: Uint8Array): boolean {
  const armed = raw('SSHSIG', u32(1), str(blob), str('file'), str(''), str('sha512'), str(signature));
  const lines =
    Buffer.from(armed)
      .toString('base64')
      .match(/.{1,70}/g) ?? [];
  writeFileSync(path('m.sig'), `-----BEGIN SSH SIGNATURE-----\n${lines.join('\n')}\n-----END SSH SIGNATURE-----\n`);
  const words = readFileSync(path(`${key}.pub`), 'utf8').split(' ');
  writeFileSync(path('signers'), `alice ${words[0]} ${words[1]}\n`);
  const args = ['-Y', 'verify', '-f', path('signers'), '-I', 'alice', '-n', 'file', '-s', path('m.sig')];
  const { status, stdout } = spawnSync('/usr/bin/ssh-keygen', args, { input: message, encoding: 'utf8' });
  return status === 0 && stdout.startsWith('Good "file" signature');
}

describe.each(['ed25519-sk', 'ecdsa-sk'])('a key of type %s', (type) => {
  it.each(['', '-quiet', '-resident'])('made with "%s" signs what ssh-keygen verifies', async (kind) => {
    const key = await securityKeyIn(path(type + kind));
    const { signer, told } = signerFor(key);
    const signature = await signer.sign(sshsigData('a message'), 0);
    expect(isGood(type + kind, key.publicKey.blob, 'a message', signature)).toBe(true);
    expect(isGood(type + kind, key.publicKey.blob, 'another', signature)).toBe(false);
    const text = `Confirm user presence for key ${type.toUpperCase()} ${fingerprint(key.publicKey)}`;
    expect(told).toEqual({ notices: kind === '-quiet' ? [] : [text, 'end'], prompts: [] });
    signer.dispose();
  });

  it('made with verify-required asks for the PIN once', async () => {
    const key = await securityKeyIn(path(`${type}-pin`));
    const env = { SOFTSK_PIN: PIN };
    const { signer, told } = signerFor(key, { env, pin: PIN });
    const signature = await signer.sign(sshsigData('a message'), 0);
    expect(isGood(`${type}-pin`, key.publicKey.blob, 'a message', signature)).toBe(true);
    const name = `${type.toUpperCase()} key ${fingerprint(key.publicKey)}`;
    expect(told.prompts).toEqual([`Enter PIN and confirm user presence for ${name}: `]);
    const wrong = signerFor(key, { env, pin: '4321' });
    expect(await failure(wrong.signer.sign(raw('x'), 0))).toMatch(/^wrong-passphrase: wrong PIN/);
    expect(wrong.told.prompts).toHaveLength(1);
    expect(await failure(signerFor(key, { env }).signer.sign(raw('x'), 0))).toMatch(/^needs-passphrase: /);
  });

  it('signs with its certificate by its plain name', async () => {
    const key = await securityKeyIn(path(`${type}-certified`), true);
    expect(key.publicKey.certificate?.keyId).toBe('an id');
    const { signer, told } = signerFor(key);
    const signature = await signer.sign(raw('what is signed'), 0);
    expect(verifySignature(key.publicKey, raw('what is signed'), signature)).toBe(true);
    expect(told.notices[0]).toMatch(/ (ED25519|ECDSA)-SK-CERT SHA256:/);
  });
});

describe('a device that fails', () => {
  it.each<[string, Setting, string]>([
    ['is not there', { env: { SOFTSK_FAIL: '-4' } }, 'internal: no security key with this key is plugged in'],
    ['cannot do it', { env: { SOFTSK_FAIL: '-2' } }, 'unsupported: the security key or its provider cannot do this'],
    ['fails', { env: { SOFTSK_FAIL: '-1' } }, 'internal: the security key or its provider refused'],
    ['signs other bytes', { env: { SOFTSK_WRONG: '1' } }, 'internal: the security key gave a wrong signature'],
    [
      'crashes',
      { env: { SOFTSK_CRASH: 'sign' } },
      'internal: security key: it was ended by SIGABRT before it answered',
    ],
    ['crashes on load', { env: { SOFTSK_CRASH: 'load' } }, 'internal: security key: it was ended by SIGABRT'],
    [
      'hangs',
      { env: { SOFTSK_DELAY_MS: '100000' }, times: { device: 400 } },
      'internal: security key: no answer within 0.4 s',
    ],
    ['has no such provider', { provider: '/missing.so' }, 'internal: '],
    ['has a library for a provider', { provider: '/usr/lib/x86_64-linux-gnu/libc.so.6' }, 'internal: '],
    ['has a file for a provider', { provider: '/etc/passwd' }, 'internal: '],
    ['has no helper', { env: { SSH_SK_HELPER: '/missing' } }, "unsupported: ssh-sk-helper can't be started"],
    [
      'has another program for a helper',
      { env: { SSH_SK_HELPER: '/bin/true' } },
      'internal: security key: it ended with 0 and no answer',
    ],
    [
      'has one that prints garbage',
      { env: { SSH_SK_HELPER: '/usr/bin/env' } },
      'internal: security key: its answer would have',
    ],
  ])('because it %s: a clear error, and nothing is left', async (_, setting, words) => {
    const before = custody.status().usedBytes;
    const { signer, told } = signerFor(await securityKeyIn(path('ed25519-sk')), setting);
    expect((await failure(signer.sign(raw('x'), 0))).slice(0, words.length)).toBe(words);
    expect(told.notices.at(-1)).toBe('end');
    signer.dispose();
    expect(children()).toEqual([]);
    expect(custody.status().usedBytes).toBe(before);
  });

  it('says which provider is none', async () => {
    const { signer } = signerFor(await securityKeyIn(path('ed25519-sk')), { provider: '/etc/passwd' });
    expect(await failure(signer.sign(raw('x'), 0))).toContain('/etc/passwd');
  });

  it('lets go of a request that is withdrawn, and serves the next', async () => {
    const key = await securityKeyIn(path('ecdsa-sk'));
    const controller = new AbortController();
    const slow = signerFor(key, { env: { SOFTSK_DELAY_MS: '100000' } });
    const waiting = failure(slow.signer.sign(raw('x'), 0, controller.signal));
    while (!existsSync(path('trace'))) await new Promise((resolve) => setTimeout(resolve, 5));
    const next = signerFor(key).signer.sign(raw('x'), 0);
    controller.abort();
    expect(await waiting).toBe('internal: security key: the request was withdrawn');
    expect(verifySignature(key.publicKey, raw('x'), await next)).toBe(true);
  });

  it('holds up nobody at another provider', async () => {
    const key = await securityKeyIn(path('ed25519-sk'));
    copyFileSync(sk.provider, path('other.so'));
    const controller = new AbortController();
    const hung = failure(
      signerFor(key, { env: { SOFTSK_DELAY_MS: '100000' } }).signer.sign(raw('x'), 0, controller.signal),
    );
    const { signer } = signerFor(key, { provider: path('other.so') });
    expect(verifySignature(key.publicKey, raw('y'), await signer.sign(raw('y'), 0))).toBe(true);
    controller.abort();
    expect(await hung).toContain('withdrawn');
  });

  it('is asked one thing at a time', async () => {
    const keys = await Promise.all(['ed25519-sk', 'ecdsa-sk'].map((name) => securityKeyIn(path(name))));
    const setting = { env: { SOFTSK_BUSY: path('busy'), SOFTSK_DELAY_MS: '20' } };
    const signers = keys.map((key) => signerFor(key, setting).signer);
    const data = Array.from({ length: 4 }, () => new Uint8Array(randomBytes(100)));
    const work = data.map(async (one, i) => {
      const signer = signers[i % 2];
      if (signer === undefined) throw new Error('no signer');
      return verifySignature(signer.publicKey, one, await signer.sign(one, 0));
    });
    expect(await Promise.all(work)).toEqual([true, true, true, true]);
    expect(trace().map((line) => line.split(' ')[0])).toEqual(Array(4).fill(['begin', 'end']).flat());
  });
});

describe('a helper that is killed', () => {
  const descriptors = (): number => readdirSync('/proc/self/fd').length;
  const helpers = () => children().filter(({ name }) => name === 'ssh-sk-helper');

  it(`in the middle of a signature, ${KILLS} times: a clear failure or a signature, and nothing is left`, async () => {
    const key = await securityKeyIn(path('ed25519-sk'));
    const { signer } = signerFor(key, { env: { SOFTSK_DELAY_MS: '4' } });
    const data = raw('what is signed');
    expect(verifySignature(key.publicKey, data, await signer.sign(data, 0))).toBe(true);
    const before = { used: custody.status().usedBytes, descriptors: descriptors() };
    const ends = new Map<string, number>();
    for (let i = 0; i < KILLS; i++) {
      const outcome = signer.sign(data, 0).then(
        (signature) => (verifySignature(key.publicKey, data, signature) ? 'a signature' : 'a wrong signature'),
        (error: unknown) => (error as Error).message,
      );
      // From before the library is loaded until after the answer.
      await new Promise((resolve) => setTimeout(resolve, (i * 7) % 30));
      for (const child of helpers()) {
        try {
          process.kill(child.pid, 'SIGKILL');
        } catch {
          // It was quicker.
        }
      }
      const how = await outcome;
      ends.set(how, (ends.get(how) ?? 0) + 1);
    }
    const killed = 'security key: it was ended by SIGKILL before it answered';
    expect(ends.get(killed)).toBeGreaterThan(0);
    expect((ends.get(killed) ?? 0) + (ends.get('a signature') ?? 0)).toBe(KILLS);
    expect(helpers()).toEqual([]);
    expect({ used: custody.status().usedBytes, descriptors: descriptors() }).toEqual(before);
    expect(verifySignature(key.publicKey, data, await signer.sign(data, 0))).toBe(true);
  }, 600_000);
});

describe('resident keys', () => {
  it('are those of the device that are for SSH', async () => {
    const env = sk.env({ SOFTSK_STORE: path('store'), SOFTSK_PIN: PIN });
    const keys = await loadResidentKeys(sk.provider, new Uint8Array(Buffer.from(PIN)), env);
    expect(keys.map(({ key, comment }) => [key.type, comment])).toEqual([
      ['sk-ssh-ed25519@openssh.com', 'ssh:ed25519-sk'],
      ['sk-ecdsa-sha2-nistp256@openssh.com', 'ssh:ecdsa-sk'],
      ['sk-ssh-ed25519@openssh.com', 'ssh:web'],
    ]);
    for (const [i, name] of ['ed25519-sk-resident', 'ecdsa-sk-resident', 'web'].entries()) {
      const { file } = await securityKeyIn(path(name));
      const plain = (fields: unknown): unknown => JSON.parse(JSON.stringify(fields));
      expect(plain(keys[i]?.key.fields)).toEqual(plain(file.key.fields));
    }
  });
});

describe('ssh-add', () => {
  let ours: readonly string[] = [];
  let agentPid = 0;
  let base: Record<string, string> = {};

  beforeAll(async () => {
    ours = await buildSshAdd(path('bundle'));
    const socket = path('agent');
    const env = sk.env();
    const args = ['-s', '-a', socket, '-P', `${sk.folder}/*`];
    const { stdout } = spawnSync('/usr/bin/ssh-agent', args, { encoding: 'utf8', env });
    agentPid = Number(/SSH_AGENT_PID=(\d+)/.exec(stdout)?.[1]);
    // Without askpass, what is typed comes from standard input.
    const { SSH_ASKPASS: _, SSH_ASKPASS_REQUIRE: __, ...plain } = sk.env({ SOFTSK_STORE: path('store') });
    base = { ...plain, SSH_AUTH_SOCK: socket };
  });
  afterAll(() => {
    if (agentPid > 1) process.kill(agentPid);
  });
  beforeEach(async () => {
    const client = await connectAgent(path('agent'));
    await client.removeAll();
    client.close();
  });

  const add = (
    program: readonly string[],
    args: readonly string[],
    input = '',
    env: Readonly<Record<string, string>> = {},
  ): Promise<Outcome> => run([...program, ...args], { cwd: sk.folder, env: { ...base, ...env }, input });
  const withPin = { SOFTSK_PIN: PIN };

  it('-K says and does what the system does', async () => {
    for (const [args, input, env] of [
      [['-K'], `${PIN}\n`, withPin],
      [['-K'], '\n', {}],
      [['-qK'], `${PIN}\n`, withPin],
      [['-Kc', '-t', '93780'], `${PIN}\n`, withPin],
      [['-K', '-E', 'md5'], '\n', {}],
      [['-K'], '4321\n', withPin],
      [['-K'], '\n', { SOFTSK_FAIL: '-4' }],
      [['-K'], '\n', { SOFTSK_FAIL: '-2' }],
      [['-K', '-S', '/bin/ls'], '\n', {}],
    ] as const) {
      const reference = await add(REFERENCE, args, input, env);
      const own = await add(ours, args, input, env);
      // What the helper says of its own is a hint with us, for terminals.
      const said = reference.stderr.replace(/(?<=authenticator: ).*?(?=Unable|Resident|$)/s, '');
      expect(own).toEqual({ ...reference, stderr: said });
    }
  });

  it('-K gives keys that the agent signs with, named after their application', async () => {
    const { stderr, code } = await add(ours, ['-K'], `${PIN}\n`, withPin);
    expect(code).toBe(0);
    expect(stderr).toMatch(/^Enter PIN for authenticator: Resident identity added: ED25519-SK SHA256:\S{43}\n/);
    const listed = await add(REFERENCE, ['-L']);
    expect(listed.stdout.split('\n').map((line) => line.split(' ')[2])).toEqual([
      'ssh:ed25519-sk',
      'ssh:ecdsa-sk',
      'ssh:web',
      undefined,
    ]);
    expect(await add(REFERENCE, ['-T', 'ed25519-sk-resident.pub', 'ecdsa-sk-resident.pub'])).toHaveProperty('code', 0);
    expect(await add(ours, ['-T', 'ed25519-sk-resident.pub', 'ecdsa-sk-resident.pub'])).toHaveProperty('code', 0);
  });

  it('-K of a device without keys says so', async () => {
    expect(await add(ours, ['-K'], '\n', { SOFTSK_STORE: path('none') })).toEqual({
      stdout: '',
      stderr: 'Enter PIN for authenticator: Unable to load resident keys: key not found\n',
      code: 1,
    });
  });

  it('-K fails in words without a helper', async () => {
    const { stderr, code } = await add(ours, ['-K'], '\n', { SSH_SK_HELPER: '/missing' });
    expect({ stderr, code }).toEqual({
      stderr: 'Enter PIN for authenticator: Unable to load resident keys: agent refused operation\n',
      code: 1,
    });
  });

  it('-K takes the helper with it when it is interrupted', async () => {
    const [program = '', ...args] = ours;
    const env = { ...base, SOFTSK_DELAY_MS: '100000' };
    const child = spawn(program, [...args, '-K'], {
      cwd: sk.folder,
      env,
      detached: true,
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    const ended = new Promise((resolve) => child.once('exit', (_, signal) => resolve(signal)));
    child.stdin.end('\n');
    const helperOf = () => children(child.pid as number).find(({ name }) => name === 'ssh-sk-helper');
    while (helperOf() === undefined) await new Promise((resolve) => setTimeout(resolve, 10));
    const { pid } = helperOf() as Child;
    child.kill('SIGINT');
    expect(await ended).toBe('SIGINT');
    // Process 1, which would reap it, may be none that does.
    expect(isRunning(pid)).toBe(false);
  });

  it('-K says which key the agent refused', async () => {
    const elsewhere = mkdtempSync(join(tmpdir(), 'latchkey-elsewhere-'));
    const provider = join(elsewhere, 'softsk.so');
    copyFileSync(sk.provider, provider);
    try {
      const reference = await add(REFERENCE, ['-K', '-S', provider], '\n');
      const own = await add(ours, ['-K', '-S', provider], '\n');
      expect(own).toEqual(reference);
      expect(own.stderr).toMatch(/Unable to add key ED25519-SK SHA256:/);
      expect(own.code).toBe(1);
    } finally {
      rmSync(elsewhere, { recursive: true });
    }
  });

  it('asks the agent for the same, byte for byte, with a provider from -S, the environment, or none', async () => {
    const requestsOf = async (program: readonly string[], args: readonly string[], provider: string) => {
      const socket = path('recorder');
      const recorder = await startRecorder(socket);
      const { SSH_SK_PROVIDER: _, ...bare } = base;
      const env = { ...bare, SSH_AUTH_SOCK: socket, ...(provider === '' ? {} : { SSH_SK_PROVIDER: provider }) };
      try {
        await run([...program, ...args], { cwd: sk.folder, env, input: `${PIN}\n` });
      } finally {
        recorder.stop();
      }
      return recorder.requests;
    };
    for (const [args, provider] of [
      [['ed25519-sk', 'ecdsa-sk-pin'], ''],
      [['ed25519-sk-certified', 'ecdsa-sk-certified'], '/some/provider.so'],
      [['-S', '/another.so', '-c', '-t', '9', 'ecdsa-sk-quiet'], '/some/provider.so'],
    ] as const) {
      const reference = await requestsOf(REFERENCE, args, provider);
      const word = Buffer.from(args[0] === '-S' ? '/another.so' : provider || 'internal').toString('hex');
      expect(reference.filter((request) => request.includes(word)).length).toBeGreaterThan(0);
      expect(await requestsOf(ours, args, provider)).toEqual(reference);
    }
    const own = await requestsOf(ours, ['-K', '-ct', '90'], sk.provider);
    // 9.2 adds them without the comment that 10.3 gives them.
    const reference = await requestsOf(REFERENCE, ['-K', '-ct', '90'], sk.provider);
    const commented = (request: string, application: string): string => {
      const provider = Buffer.from(raw(1)).toString('hex') + Buffer.from(u32(90)).toString('hex');
      const at = request.lastIndexOf(`00000000${provider}`);
      return `${request.slice(0, at)}${Buffer.from(str(application)).toString('hex')}${request.slice(at + 8)}`;
    };
    expect(own).toHaveLength(3);
    expect(own[0]).toBe(commented(reference[0] ?? '', 'ssh:ed25519-sk'));
  });
});

it('the helper that is tested is the one of the system', () => {
  expect(existsSync(SK_HELPER)).toBe(true);
});
