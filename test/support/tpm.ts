/** A TPM 2.0 in software (swtpm) with one token of Debian's libtpm2-pkcs11 on it, and no resource manager in between. */
import { spawn } from 'node:child_process';
import { createPublicKey, type KeyObject } from 'node:crypto';
import { mkdirSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cleanEnv, until } from './agentprocess.ts';
import { run } from './pkcs11.ts';

export const TPM_PIN = '123456';

export interface SoftTpm {
  /** The provider's real path. */
  readonly module: string;
  readonly env: Record<string, string>;
  /** Makes a key on the token; `type` as pkcs11-tool has it. */
  generate(type: string, label: string, id: string): void;
  /** The public key as pkcs11-tool reads it. */
  publicKeyOf(label: string): KeyObject;
  /** A kernel flushes what a process left behind in a TPM; here nobody stands in between, and three objects fill it. */
  flush(): void;
  remove(): void;
}

const accepts = (port: number): Promise<boolean> =>
  new Promise((done) => {
    const socket = connect({ port, host: '127.0.0.1' });
    socket.once('error', () => done(false));
    socket.once('connect', () => {
      socket.destroy();
      done(true);
    });
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
    const port = 20_000 + 2 * Math.floor(Math.random() * 6_000);
    return (await isFree(port)) && (await isFree(port + 1)) && port;
  });
}

export async function softTpm(): Promise<SoftTpm> {
  const module = realpathSync('/usr/lib/x86_64-linux-gnu/pkcs11/libtpm2_pkcs11.so');
  const folder = mkdtempSync(join(tmpdir(), 'latchkey-tpm-'));
  for (const name of ['state', 'store']) mkdirSync(join(folder, name));
  const port = await twoPorts();
  const at = (n: number): string => `type=tcp,port=${n},bindaddr=127.0.0.1`;
  const where = ['--tpmstate', `dir=${join(folder, 'state')}`, '--server', at(port), '--ctrl', at(port + 1)];
  const flags = ['--flags', 'not-need-init,startup-clear'];
  const tpm = spawn('swtpm', ['socket', '--tpm2', ...where, ...flags], { stdio: 'ignore' });
  // Its command port takes one client, and ends with it: look at the other one.
  await until('the TPM', () => accepts(port + 1));
  const tcti = `swtpm:host=127.0.0.1,port=${port}`;
  const env = cleanEnv(folder, {
    TPM2_PKCS11_STORE: join(folder, 'store'),
    TPM2_PKCS11_TCTI: tcti,
    TPM2_PKCS11_BACKEND: 'esysdb',
    TSS2_LOG: 'all+none',
  });
  const tool = (...args: readonly string[]): string => run('pkcs11-tool', ['--module', module, ...args], env);
  const token = ['--token-label', 'tpm'];
  tool('--slot-index', '0', '--init-token', '--label', 'tpm', '--so-pin', '87654321');
  tool(...token, '--init-pin', '--so-pin', '87654321', '--pin', TPM_PIN);
  return {
    module,
    env,
    generate(type, label, id) {
      const login = ['--login', '--pin', TPM_PIN];
      tool(...token, ...login, '--keypairgen', '--key-type', type, '--label', label, '--id', id);
    },
    publicKeyOf(label) {
      const out = join(folder, 'public.der');
      tool(...token, '--read-object', '--type', 'pubkey', '--label', label, '-o', out);
      return createPublicKey(run('openssl', ['pkey', '-pubin', '-inform', 'DER', '-in', out]));
    },
    flush: () => void run('tpm2_flushcontext', ['--transient-object'], { TPM2TOOLS_TCTI: tcti }),
    remove() {
      tpm.kill();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
