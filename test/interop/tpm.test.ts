/** Keys in a TPM 2.0 (swtpm) through Debian's libtpm2-pkcs11, with no resource manager in between. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createPublicKey, type KeyObject, verify } from 'node:crypto';
import { mkdirSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { openProvider, type TokenProvider } from '../../src/backends/pkcs11.ts';
import { cleanEnv, until } from '../support/agentprocess.ts';
import { blobOf, bytes, noHelpers, run, testPorts } from '../support/pkcs11.ts';

const MODULE = realpathSync('/usr/lib/x86_64-linux-gnu/pkcs11/libtpm2_pkcs11.so');
const DATA = bytes('what a client wants signed');
const PIN = '123456';

let folder: string;
let tpm: ChildProcess;
let env: Record<string, string>;
let provider: TokenProvider | undefined;

const accepts = (port: number): Promise<boolean> =>
  new Promise((done) => {
    const socket = connect({ port, host: '127.0.0.1' });
    socket.once('connect', () => done(true)).once('error', () => done(false));
    socket.once('connect', () => socket.destroy());
  });

const isFree = (port: number): Promise<boolean> =>
  new Promise((done) => {
    const server = createServer();
    server.once('error', () => done(false));
    server.listen(port, '127.0.0.1', () => server.close(() => done(true)));
  });

/** Commands go to a port, control to the next one. */
async function twoPorts(): Promise<number> {
  return until('two free ports', async () => {
    const port = 20_000 + 2 * Math.floor(Math.random() * 20_000);
    return (await isFree(port)) && (await isFree(port + 1)) && port;
  });
}

const startTpm = async (port: number): Promise<void> => {
  const at = (n: number): string => `type=tcp,port=${n},bindaddr=127.0.0.1`;
  const state = `dir=${join(folder, 'state')}`;
  const flags = 'not-need-init,startup-clear';
  const args = [
    'socket',
    '--tpm2',
    '--tpmstate',
    state,
    '--server',
    at(port),
    '--ctrl',
    at(port + 1),
    '--flags',
    flags,
  ];
  tpm = spawn('swtpm', args, { stdio: 'ignore' });
  // Its command port takes one client, and ends with it: look at the other one.
  await until('the TPM', () => accepts(port + 1));
};

const tool = (...args: readonly string[]): string => run('pkcs11-tool', ['--module', MODULE, ...args], env);
const ofToken = ['--token-label', 'tpm'];

/** The public key as pkcs11-tool reads it. */
function publicKeyOf(label: string): KeyObject {
  const out = join(folder, 'public.der');
  tool(...ofToken, '--read-object', '--type', 'pubkey', '--label', label, '-o', out);
  return createPublicKey(run('openssl', ['pkey', '-pubin', '-inform', 'DER', '-in', out]));
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'latchkey-tpm-'));
  for (const name of ['state', 'store']) mkdirSync(join(folder, name));
  const port = await twoPorts();
  await startTpm(port);
  env = cleanEnv(folder, {
    TPM2_PKCS11_STORE: join(folder, 'store'),
    TPM2_PKCS11_TCTI: `swtpm:host=127.0.0.1,port=${port}`,
    TPM2_PKCS11_BACKEND: 'esysdb',
    TSS2_LOG: 'all+none',
  });
  tool('--slot-index', '0', '--init-token', '--label', 'tpm', '--so-pin', '87654321');
  tool(...ofToken, '--init-pin', '--so-pin', '87654321', '--pin', PIN);
  for (const [type, label, id] of [
    ['EC:prime256v1', 'login', '01'],
    ['rsa:2048', 'old', '02'],
  ] as const)
    tool(...ofToken, '--login', '--pin', PIN, '--keypairgen', '--key-type', type, '--label', label, '--id', id);
});

// A kernel flushes what a process left behind in a TPM; here nobody stands in between, and three objects fill it.
beforeEach(() => {
  run('tpm2_flushcontext', ['--transient-object'], { TPM2TOOLS_TCTI: env.TPM2_PKCS11_TCTI as string });
});

afterEach(async () => {
  provider?.close();
  await noHelpers();
});

afterAll(() => {
  tpm.kill();
  rmSync(folder, { recursive: true, force: true });
});

test('keys in a TPM are listed and sign', async () => {
  const opened = await openProvider(MODULE, bytes(PIN), testPorts(env));
  provider = opened.provider;
  expect(opened.keys.map(({ label, token }) => `${token} ${label}`).sort()).toEqual(['tpm login', 'tpm old']);
  for (const { signer, label } of opened.keys) {
    const publicKey = publicKeyOf(label);
    expect(Buffer.compare(signer.publicKey.blob, blobOf(publicKey))).toBe(0);
    const signature = Buffer.from(await signer.sign(DATA, 4));
    const made = signature.subarray(8 + signature.readUInt32BE());
    if (label === 'old') expect(verify('sha512', DATA, publicKey, made)).toBe(true);
    else expect(signature.toString('latin1', 4, 23)).toBe('ecdsa-sha2-nistp256');
  }
});

test('a wrong PIN of a TPM is said to be one', async () => {
  await expect(openProvider(MODULE, bytes('654321'), testPorts(env))).rejects.toMatchObject({
    code: 'wrong-passphrase',
  });
});

test('a PIN of a TPM is asked when the key is used', async () => {
  const ports = testPorts(env);
  const opened = await openProvider(MODULE, new Uint8Array(), ports);
  provider = opened.provider;
  ports.answers.push('000000', PIN);
  for (const { signer } of opened.keys) await signer.sign(DATA, 2);
  expect(ports.asked).toHaveLength(2);
});
