/** Keys, certificates and programs of OpenSSH in a temporary folder, with a proxy before its agent. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type AgentProxy, startProxy } from '../../vectors/proxy.mjs';

export interface Bench {
  readonly proxy: AgentProxy;
  path(name: string): string;
  read(name: string): string;
  /** Runs a program against the agent behind the proxy. @throws where it fails, with what it said */
  run(file: string, ...args: readonly string[]): Promise<string>;
  /** Makes a key `name` with ssh-keygen. */
  keygen(name: string, ...args: readonly string[]): Promise<void>;
  close(): Promise<void>;
}

function started(agent: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    agent.once('error', reject);
    agent.once('exit', () => reject(new Error('ssh-agent ended')));
    agent.stdout?.once('data', () => resolve());
  });
}

export async function openBench(): Promise<Bench> {
  const folder = mkdtempSync(join(tmpdir(), 'latchkey-wire-'));
  const path = (name: string): string => join(folder, name);
  const agent = spawn('/usr/bin/ssh-agent', ['-D', '-a', path('agent')], { stdio: ['ignore', 'pipe', 'ignore'] });
  await started(agent);
  const proxy = await startProxy(path('proxy'), path('agent'));
  const env = { PATH: process.env.PATH, HOME: folder, SSH_AUTH_SOCK: path('proxy') };
  const run = (file: string, ...args: readonly string[]): Promise<string> =>
    new Promise((resolve, reject) => {
      const child = execFile(file, args, { env }, (error, stdout, stderr) =>
        error === null ? resolve(stdout) : reject(new Error(`${file} ${args.join(' ')}: ${stderr}`)),
      );
      child.stdin?.end();
    });
  return {
    proxy,
    path,
    read: (name) => readFileSync(path(name), 'utf8'),
    run,
    keygen: async (name, ...args) => {
      await run('ssh-keygen', '-q', '-N', '', '-C', `${name} comment`, '-f', path(name), ...args);
    },
    close: async () => {
      await proxy.close();
      agent.removeAllListeners('exit');
      const ended = new Promise((resolve) => agent.once('exit', resolve));
      agent.kill();
      await ended;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
