import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { BUILD } from './agents.ts';

const run = promisify(execFile);
const root = join(import.meta.dirname, '../..');
let folder: string;
const children: ChildProcess[] = [];

/** The examples as a user has them: in a folder where `latchkey` is installed. */
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'latchkey-examples-'));
  const installed = join(folder, 'node_modules/latchkey');
  mkdirSync(installed, { recursive: true });
  cpSync(join(root, 'package.json'), join(installed, 'package.json'));
  symlinkSync(join(BUILD, 'dist'), join(installed, 'dist'));
  cpSync(join(root, 'examples'), folder, { recursive: true });
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'an example', '-f', join(folder, 'key')]);
});

afterAll(async () => {
  for (const child of children) {
    const exit = new Promise((resolve) => child.once('exit', resolve));
    if (child.exitCode === null && child.kill()) await exit;
  }
  rmSync(folder, { recursive: true, force: true });
});

/** Starts a program that stays. @returns when it has said something */
async function started(program: string, ...args: string[]): Promise<string> {
  const child = spawn(program, args, { cwd: folder, stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  return new Promise((resolve, reject) => {
    child.stdout.once('data', (text: Buffer) => resolve(text.toString()));
    child.once('exit', (code) => reject(new Error(`${program} ended with ${code}`)));
  });
}

const environment = (socket: string): NodeJS.ProcessEnv => ({ ...process.env, SSH_AUTH_SOCK: socket });

const listed = async (socket: string): Promise<string> =>
  (await run(process.execPath, ['list-and-sign.mjs'], { cwd: folder, env: environment(socket) })).stdout;

/** The program that the README shows, to the letter. */
async function readmeProgram(socket: string): Promise<string> {
  const [, program] = /```js\n([\s\S]*?)```/.exec(readFileSync(join(root, 'README.md'), 'utf8')) ?? [];
  expect(program?.trim().split('\n').length).toBeLessThanOrEqual(10);
  writeFileSync(join(folder, 'readme.mjs'), program ?? '');
  return (await run(process.execPath, ['readme.mjs'], { cwd: folder, env: environment(socket) })).stdout;
}

function fingerprintOf(key: string): string {
  return execFileSync('ssh-keygen', ['-lf', key], { encoding: 'utf8' }).split(' ')[1] ?? '';
}

test('an agent in ten lines serves a key to ssh-add and to our client', async () => {
  const socket = join(folder, 'ours.sock');
  const key = join(folder, 'key');
  expect(await started(process.execPath, 'agent.mjs', socket, key)).toBe(`export SSH_AUTH_SOCK=${socket}\n`);
  const { stdout } = await run('ssh-add', ['-l'], { env: environment(socket) });
  expect(stdout).toBe(`256 ${fingerprintOf(key)} an example (ED25519)\n`);
  await run('ssh-add', ['-T', `${key}.pub`], { env: environment(socket) });
  expect(await listed(socket)).toBe(`${fingerprintOf(key)} an example signs\n`);
  expect(await readmeProgram(socket)).toBe(`ED25519 ${fingerprintOf(key)} an example 83 bytes signed\n`);
});

test("a client in ten lines lists the keys of OpenSSH's agent and has them sign", async () => {
  const socket = join(folder, 'theirs.sock');
  await started('ssh-agent', '-D', '-a', socket);
  const keys = [join(folder, 'key')];
  for (const type of ['ecdsa', 'rsa']) {
    const path = join(folder, type);
    execFileSync('ssh-keygen', ['-q', '-t', type, '-N', '', '-C', type, '-f', path]);
    keys.push(path);
  }
  await run('ssh-add', ['-q', ...keys], { env: environment(socket) });
  const names = ['an example', 'ecdsa', 'rsa'];
  expect((await readmeProgram(socket)).split('\n').length).toBe(keys.length + 1);
  expect(await listed(socket)).toBe(keys.map((key, i) => `${fingerprintOf(key)} ${names[i]} signs\n`).join(''));
});

test('without an agent, the client says so', async () => {
  await expect(listed('')).rejects.toThrow(/no agent is named/);
  await expect(listed(join(folder, 'nothing'))).rejects.toThrow(/no agent can be reached at/);
});
