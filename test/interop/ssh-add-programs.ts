/** Our ssh-add, bundled as the build does, beside the system's: how tests run either one. */
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { build } from 'esbuild';

export const REFERENCE: readonly string[] = ['/usr/bin/ssh-add'];

const root = resolve(import.meta.dirname, '../..');

/** Bundles our ssh-add into `folder`; the words that run it. */
export async function buildSshAdd(folder: string): Promise<readonly string[]> {
  mkdirSync(folder, { recursive: true });
  await build({
    entryPoints: [join(root, 'src/cli/ssh-add.main.ts')],
    bundle: true,
    platform: 'node',
    target: 'node20',
    format: 'esm',
    splitting: true,
    outdir: folder,
    outExtension: { '.js': '.mjs' },
    external: ['koffi'],
    logLevel: 'error',
  });
  return [process.execPath, join(folder, 'ssh-add.main.mjs')];
}

export interface Outcome {
  readonly stdout: string;
  /** Without carriage returns. */
  readonly stderr: string;
  readonly code: number | null;
}

export interface RunOptions {
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  readonly input?: string;
}

/** Runs a program without a terminal: in a session of its own, so that no developer's terminal is asked either. */
export function run(command: readonly string[], { cwd, env, input = '' }: RunOptions): Promise<Outcome> {
  return new Promise((done, failed) => {
    const [program = '', ...args] = command;
    const child = spawn(program, args, { cwd, env, detached: true, stdio: ['pipe', 'pipe', 'pipe'] });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.on('error', failed);
    child.on('close', (code) => done({ stdout, stderr: stderr.replaceAll('\r', ''), code }));
    // A program that ends without reading what it was given breaks the pipe; that is its right.
    child.stdin.on('error', () => {});
    child.stdin.end(input);
  });
}

export interface TerminalOutcome {
  readonly output: string;
  readonly status: number | null;
  readonly signal: number | null;
  /** Whether the terminal echoed at each step, and after the end. */
  readonly echo: readonly boolean[];
  readonly echo_after: boolean;
}

/** Runs a program on a terminal of its own; each step waits for its first text and types its second. */
export function runOnTerminal(
  argv: readonly string[],
  steps: readonly (readonly [string, string])[],
  { cwd, env }: RunOptions,
): TerminalOutcome {
  const result = spawnSync('python3', [join(import.meta.dirname, 'terminal.py')], {
    cwd,
    encoding: 'utf8',
    input: JSON.stringify({ argv, env, steps }),
  });
  if (result.status !== 0) throw new Error(result.stderr);
  return JSON.parse(result.stdout) as TerminalOutcome;
}

export interface Agent {
  readonly socket: string;
  stop(): void;
}

/** The system's ssh-agent on a socket of its own. */
export function startAgent(folder: string, name: string, env: Readonly<Record<string, string>>): Agent {
  const socket = join(folder, name);
  const { stdout, stderr } = spawnSync('/usr/bin/ssh-agent', ['-s', '-a', socket], { encoding: 'utf8', env });
  const pid = Number(/SSH_AGENT_PID=(\d+)/.exec(stdout)?.[1]);
  if (!(pid > 1)) throw new Error(`no agent: ${stderr}`);
  return { socket, stop: () => process.kill(pid) };
}

/** An agent that says yes to everything and remembers what it was asked, in hexadecimal, one string a request. */
export function startRecorder(socket: string): Promise<{ readonly requests: string[]; stop(): void }> {
  const requests: string[] = [];
  const server = createServer((connection) => {
    let pending = Buffer.alloc(0);
    connection.on('error', () => {});
    connection.on('data', (chunk) => {
      pending = Buffer.concat([pending, chunk]);
      while (pending.length >= 4 && pending.length >= 4 + pending.readUInt32BE()) {
        const end = 4 + pending.readUInt32BE();
        requests.push(pending.subarray(4, end).toString('hex'));
        pending = pending.subarray(end);
        connection.write(Buffer.from([0, 0, 0, 1, 6]));
      }
    });
  });
  return new Promise((done) => server.listen(socket, () => done({ requests, stop: () => server.close() })));
}
