/** The agent's process: its signals, and what others of the same user can learn of it or do to it (DESIGN section 4). */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  type AgentProcess,
  addMessage,
  ask,
  blobOf,
  cleanEnv,
  commentsOf,
  LIST,
  program,
  type StartOptions,
  SUCCESS,
  signMessage,
  startAgentProcess,
  until,
} from '../support/agentprocess.ts';
import { status } from '../support/control.ts';
import { freshEd25519 } from '../support/keys.ts';
import { raw, str } from '../unit/wire/build.ts';

const NOBODY = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];
const key = freshEd25519();
const running: AgentProcess[] = [];

async function start(options?: StartOptions): Promise<AgentProcess> {
  const agent = await startAgentProcess(options);
  running.push(agent);
  expect((await ask(agent.socket, addMessage(key, 'key')))?.toString('hex')).toBe(SUCCESS);
  return agent;
}

afterEach(async () => {
  for (const agent of running.splice(0)) await agent.stop();
});

beforeAll(() => expect(process.geteuid?.(), 'run as root: another user is played').toBe(0));

/** What `field` of /proc/PID/status says. */
const procStatus = (pid: number, field: string): string =>
  new RegExp(`^${field}:\\s*(.*)$`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? '';

describe('signals', () => {
  it.each(['SIGTERM', 'SIGHUP', 'SIGINT'] as const)(
    '%s in the foreground: exit 2, and both sockets gone',
    async (signal) => {
      const agent = await startAgentProcess();
      const folder = join(agent.folder, 'kept');
      mkdirSync(folder);
      expect(existsSync(`${agent.socket}.control`)).toBe(true);
      agent.process.kill(signal);
      await until('its end', () => !agent.isAlive());
      expect(agent.process.exitCode).toBe(2);
      expect(readdirSync(agent.folder)).toEqual(['kept']);
      expect(agent.stderr()).toContain(`exiting on ${signal}`);
      await agent.stop();
    },
  );

  it('SIGPIPE is ignored, and SIGUSR1 opens no debugger but drops all keys, also while locked', async () => {
    const agent = await start();
    expect(BigInt(`0x${procStatus(agent.pid, 'SigIgn')}`) & (1n << 12n)).toBe(1n << 12n);
    agent.process.kill('SIGPIPE');
    expect(commentsOf(await ask(agent.socket, LIST))).toEqual(['key']);
    agent.process.kill('SIGUSR1');
    await until('no keys', async () => commentsOf(await ask(agent.socket, LIST)).length === 0);
    await ask(agent.socket, addMessage(key, 'again'));
    expect((await ask(agent.socket, raw(22, str('phrase'))))?.toString('hex')).toBe(SUCCESS);
    expect((await status(agent.socket)).keys).toBe(1);
    agent.process.kill('SIGUSR1');
    await until('no keys', async () => (await status(agent.socket)).keys === 0);
    expect((await ask(agent.socket, raw(23, str('phrase'))))?.toString('hex')).toBe(SUCCESS);
    expect(commentsOf(await ask(agent.socket, LIST))).toEqual([]);
    // No socket but the two: nothing listens for a debugger.
    const sockets = readdirSync(`/proc/${agent.pid}/fd`)
      .map((fd) => {
        try {
          return readlinkSync(`/proc/${agent.pid}/fd/${fd}`);
        } catch {
          return '';
        }
      })
      .map((link) => /^socket:\[(\d+)\]$/.exec(link)?.[1])
      .filter((inode) => inode !== undefined);
    const internet = ['tcp', 'tcp6', 'udp', 'udp6'].map((kind) => readFileSync(`/proc/net/${kind}`, 'utf8')).join('');
    for (const inode of sockets) expect(internet).not.toMatch(new RegExp(`\\s${inode}\\s`));
    expect(agent.stderr()).not.toMatch(/debugger/i);
  });

  it('SIGUSR1 while it starts never leads to an agent that serves beside a debugger', async () => {
    // Node opens its debugger on this signal until somebody listens for it: then the agent must end, and say why.
    const { folder } = await start();
    const outcomes = new Map<string, number>();
    for (let delay = 0; delay < 100; delay += 4) {
      const socket = join(folder, `at-${delay}`);
      const child = spawn(program('ssh-agent'), ['-D', '-a', socket], { env: cleanEnv(folder) });
      let said = '';
      for (const stream of [child.stdout, child.stderr]) {
        stream.setEncoding('utf8').on('data', (text: string) => {
          said += text;
        });
      }
      let ended = false;
      child.once('close', () => {
        ended = true;
      });
      setTimeout(() => child.kill('SIGUSR1'), delay);
      await until('a decision', () => ended || said.includes('Agent pid'));
      // Time for a debugger that would come late.
      if (!ended) await new Promise((done) => setTimeout(done, 100));
      const debuggerOpened = /debugger listening/i.test(said);
      const outcome = ended
        ? debuggerOpened
          ? 'ended'
          : 'died'
        : debuggerOpened
          ? 'served with a debugger'
          : 'served';
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      if (outcome === 'ended') expect(said).toContain('a debugger listens on this process');
      child.kill('SIGKILL');
      await until('its end', () => ended);
    }
    console.log('SIGUSR1 during the start:', Object.fromEntries(outcomes));
    expect(outcomes.has('served with a debugger')).toBe(false);
    expect(outcomes.has('served')).toBe(true);
  });
});

describe('others of the same user', () => {
  it('may not read its memory, its environment or trace it', async () => {
    const agent = await start({ wrapper: NOBODY, uid: 65534 });
    const script = 'for f in mem environ maps auxv; do cat /proc/$1/$f >/dev/null 2>&1 && echo $f; done; echo end';
    const seen = spawnSync('setpriv', [...NOBODY.slice(1), 'sh', '-c', script, 'sh', String(agent.pid)], {
      encoding: 'utf8',
    });
    expect(seen.stdout).toBe('end\n');
    const traced = spawnSync('setpriv', [...NOBODY.slice(1), 'gdb', '-p', String(agent.pid), '-batch'], {
      encoding: 'utf8',
      env: cleanEnv(agent.folder),
    });
    expect(traced.stderr + traced.stdout).toMatch(/ptrace: (Operation not permitted|Inappropriate)/);
    expect(procStatus(agent.pid, 'TracerPid')).toBe('0');
    // The same look at a process that does not defend itself works, so this test can fail.
    const plain = spawnSync(
      'setpriv',
      [...NOBODY.slice(1), 'sh', '-c', `sh -c 'cat /proc/$PPID/environ >/dev/null && echo read; :'`],
      { encoding: 'utf8' },
    );
    expect(plain.stdout).toBe('read\n');
    expect((await status(agent.socket)).process).toEqual({ undumpable: true, noCoreFiles: true });
  });

  it('get no core file of it', async () => {
    const agent = await start({ wrapper: ['/bin/sh', '-c', 'cd "$HOME"; ulimit -c unlimited; exec "$@"', 'sh'] });
    expect(readFileSync(`/proc/${agent.pid}/limits`, 'utf8')).toMatch(/^Max core file size +0 +0 /m);
    agent.process.kill('SIGSEGV');
    await until('its end', () => !agent.isAlive());
    expect(agent.process.signalCode).toBe('SIGSEGV');
    expect(readdirSync(agent.folder).filter((name) => name.startsWith('core'))).toEqual([]);
  });

  it('can tell Node nothing by its environment', async () => {
    const { folder } = await start();
    const marker = join(folder, 'loaded');
    writeFileSync(join(folder, 'preload.cjs'), `require('node:fs').writeFileSync(${JSON.stringify(marker)}, 'x');`);
    const agent = await start({
      env: {
        NODE_OPTIONS: `--require=${join(folder, 'preload.cjs')} --inspect=127.0.0.1:0`,
        NODE_EXTRA_CA_CERTS: '/nonexistent',
        NODE_V8_COVERAGE: join(folder, 'coverage'),
        NODE_DEBUG: 'net',
        LD_PRELOAD: '/nonexistent.so',
      },
    });
    expect((await ask(agent.socket, signMessage(blobOf(key), 'x')))?.[0]).toBe(14);
    await agent.stop('SIGINT');
    expect(existsSync(marker)).toBe(false);
    expect(existsSync(join(folder, 'coverage'))).toBe(false);
    expect(agent.stderr()).not.toMatch(/debugger|inspector|NET /i);
  });
});
