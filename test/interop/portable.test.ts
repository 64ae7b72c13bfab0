// The build that the package has: it knows neither place nor Node of this machine, and finds both, and koffi by its own loader.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { addMessage, ask, blobOf, cleanEnv, SUCCESS, signMessage, startAgentProcess } from '../support/agentprocess.ts';
import { freshEd25519 } from '../support/keys.ts';

const root = resolve(import.meta.dirname, '../..');
const folder = mkdtempSync(join(tmpdir(), 'latchkey-portable-'));
const program = (name: string): string => join(folder, 'bin', name);
const SIGNATURE = 14;

beforeAll(() => {
  const words = [join(root, 'scripts/build.mjs'), '--portable', '--out', folder];
  expect(spawnSync(process.execPath, words, { encoding: 'utf8' })).toMatchObject({ status: 0, stderr: '' });
}, 60_000);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

it('serves, adds, signs and lists', async () => {
  const path = `${dirname(process.execPath)}:/usr/bin:/bin`;
  const wrapper = ['/bin/sh', '-c', 'shift; exec "$0" "$@"', program('ssh-agent')];
  const agent = await startAgentProcess({ wrapper, env: { PATH: path } });
  try {
    const key = freshEd25519();
    expect((await ask(agent.socket, addMessage(key, 'portable')))?.toString('hex')).toBe(SUCCESS);
    expect((await ask(agent.socket, signMessage(blobOf(key), 'data')))?.[0]).toBe(SIGNATURE);
    const env = cleanEnv(agent.folder, { PATH: path, SSH_AUTH_SOCK: agent.socket });
    const run = (name: string, ...args: readonly string[]): unknown =>
      spawnSync(program(name), args, { env, encoding: 'utf8' });
    expect(run('ssh-add', '-l')).toMatchObject({ status: 0, stdout: expect.stringContaining('portable (ED25519)') });
    expect(run('latchkey', 'status', '--json')).toMatchObject({ status: 0, stdout: expect.stringContaining('"keys"') });
  } finally {
    await agent.stop();
  }
});
