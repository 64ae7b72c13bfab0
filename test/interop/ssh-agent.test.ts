/**
 * bin/ssh-agent as a daemon: its eval forms, where its sockets lie, its process, its end. Against OpenSSH 10.5's words, and
 * against the system's 9.2 where the two are the same.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ask, cleanEnv, commentsOf, LIST, until } from '../support/agentprocess.ts';
import { status as controlStatus } from '../support/control.ts';
import { AgentHome, type Env, isGone, ours, outcome, REFERENCE } from './ssh-agent-program.ts';

let place: AgentHome;
let home = '';
const run = (args: readonly string[], env?: Env, file?: string) => place.run(args, env, file);
const daemon = (args?: readonly string[], env?: Env) => place.daemon(args, env);

beforeEach(() => {
  place = new AgentHome();
  home = place.path;
});

afterEach(() => place.remove());

describe('the eval forms', () => {
  it('are exactly those of OpenSSH for sh and csh, chosen by flag or by SHELL', () => {
    for (const [args, shell, csh] of [
      [['-s'], '/bin/tcsh', false],
      [['-c'], '/bin/sh', true],
      [[], '/bin/sh', false],
      [[], '/bin/csh', true],
      [[], '/usr/bin/tcsh', true],
      [[], 'csh', true],
      [[], 'sh', false],
      [[], '', false],
      [['-U', '-s', '-s'], '/bin/sh', false],
    ] as const) {
      const { text, pid, socket } = daemon(args, { SHELL: shell });
      const expected = csh
        ? `setenv SSH_AUTH_SOCK ${socket};\nsetenv SSH_AGENT_PID ${pid};\necho Agent pid ${pid};\n`
        : `SSH_AUTH_SOCK=${socket}; export SSH_AUTH_SOCK;\nSSH_AGENT_PID=${pid}; export SSH_AGENT_PID;\necho Agent pid ${pid};\n`;
      expect(text, `${args} ${shell}`).toBe(expected);
    }
  });

  it('name a socket that an odd home cannot break', () => {
    const odd = join(home, `a b'c"d$(e)\`f\\ ü`);
    mkdirSync(odd);
    const script =
      'eval "$("$0" -s)" >/dev/null; /usr/bin/ssh-add -l; printf "%s\\n" "$SSH_AUTH_SOCK"; eval "$("$0" -k)"';
    const { stdout, stderr, status } = spawnSync('/bin/sh', ['-c', script, ours], {
      env: cleanEnv(odd),
      encoding: 'utf8',
    });
    const [list, socket = '', killed] = stdout.split('\n');
    expect([stderr, status, list]).toEqual(['', 0, 'The agent has no identities.']);
    expect(socket.startsWith(`${odd}/.ssh/agent/s.`)).toBe(true);
    expect(killed).toMatch(/^Agent pid \d+ killed$/);
  });

  it('lie in a private folder under any umask, named after the host', () => {
    const letters = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789';
    const digest = createHash('sha512').update(hostname()).digest();
    const host = Array.from(digest.subarray(0, 10), (byte) => letters[byte % 62]).join('');
    for (const umask of ['000', '022', '077']) {
      rmSync(join(home, '.ssh'), { recursive: true, force: true });
      const words = ['-c', `umask ${umask}; exec "$0" -s`, ours];
      const { socket } = place.daemonBy('/bin/sh', words);
      expect(socket.slice(home.length)).toMatch(new RegExp(`^/\\.ssh/agent/s\\.${host}\\.agent\\.[a-zA-Z0-9]{10}$`));
      expect(statSync(join(home, '.ssh')).mode & 0o777).toBe(0o700);
      expect(statSync(join(home, '.ssh/agent')).mode & 0o777).toBe(0o700);
      expect(statSync(socket).mode & 0o777).toBe(0o600);
      expect(statSync(`${socket}.control`).mode & 0o777).toBe(0o600);
    }
  });

  it('leave the modes of folders that are there alone', () => {
    mkdirSync(join(home, '.ssh'));
    chmodSync(join(home, '.ssh'), 0o750);
    daemon();
    expect(statSync(join(home, '.ssh')).mode & 0o777).toBe(0o750);
  });
});

describe('a daemon', () => {
  it('has its own session, / as its folder, /dev/null as its three descriptors, and nothing of its starter', async () => {
    const other = join(home, 'other');
    writeFileSync(other, '');
    const words = ['-c', 'exec "$0" -s -a "$1" 20<"$2" 5<"$2"', ours, join(home, 'sock'), other];
    const { pid } = place.daemonBy('/bin/bash', words);
    expect(readlinkSync(`/proc/${pid}/cwd`)).toBe('/');
    const linkOf = (fd: number | string): string => readlinkSync(`/proc/${pid}/fd/${fd}`);
    const links = readdirSync(`/proc/${pid}/fd`).map(linkOf);
    expect([0, 1, 2].map(linkOf)).toEqual(['/dev/null', '/dev/null', '/dev/null']);
    expect(links).not.toContain(other);
    // Fields 5 to 7 of stat: process group, session, terminal.
    const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]?.split(' ') ?? [];
    expect(fields.slice(2, 5)).toEqual([String(pid), String(pid), '0']);
    expect(readFileSync(`/proc/${pid}/cmdline`, 'utf8')).toContain('ssh-agent');
  });

  it('ignores SIGINT, and goes with both sockets on SIGTERM and SIGHUP', async () => {
    for (const signal of ['SIGTERM', 'SIGHUP'] as const) {
      const { pid, socket } = daemon();
      process.kill(pid, 'SIGINT');
      expect(commentsOf(await ask(socket, LIST))).toEqual([]);
      expect(existsSync(`${socket}.control`)).toBe(true);
      process.kill(pid, signal);
      await isGone(pid);
      expect(readdirSync(join(home, '.ssh/agent'))).toEqual([]);
    }
  });

  it('is there when its starter has ended: a signal at once leaves no socket behind', async () => {
    for (let i = 0; i < 5; i++) {
      const { pid } = daemon();
      process.kill(pid, 'SIGTERM');
      await isGone(pid);
      expect(readdirSync(join(home, '.ssh/agent'))).toEqual([]);
    }
  });

  it('starts where no memory may be locked, and says in what its keys lie', async () => {
    const socket = join(home, 's');
    spawnSync('chown', ['65534', home]);
    const own = ['--reuid=65534', '--regid=65534', '--clear-groups'];
    for (const [kilobytes, pages] of [
      [0, 'plain'],
      [600, 'plain'],
      [8192, 'memfd_secret'],
    ] as const) {
      const words = ['-c', `ulimit -l ${kilobytes}; exec setpriv "$@"`, 'sh', ...own, ours, '-s', '-a', socket];
      const done = spawnSync('/bin/sh', words, { env: cleanEnv(home), encoding: 'utf8' });
      expect([done.stderr, done.status]).toEqual(['', 0]);
      expect((await controlStatus(socket)).custody.pages).toBe(pages);
      process.kill(Number(/SSH_AGENT_PID=(\d+)/.exec(done.stdout)?.[1]), 'SIGTERM');
      await until('the end of the agent', () => !existsSync(socket));
    }
  });

  it('says how many open files it needs, with no socket left', () => {
    const socket = join(home, 's');
    const words = ['-c', 'ulimit -n 26; exec "$0" -s -a "$1"', ours, socket];
    const done = spawnSync('/bin/sh', words, { env: cleanEnv(home), encoding: 'utf8' });
    expect([done.stdout, done.status]).toEqual(['', 255]);
    expect(done.stderr).toMatch(/^ssh-agent: at most 26 open files .*ulimit -n/);
    expect(existsSync(socket)).toBe(false);
  });
});

describe('-a', () => {
  it('binds there and makes no folder', async () => {
    const socket = join(home, 'my.sock');
    expect(daemon(['-a', socket]).socket).toBe(socket);
    expect(commentsOf(await ask(socket, LIST))).toEqual([]);
    expect(existsSync(join(home, '.ssh'))).toBe(false);
  });

  it('leaves an existing file and a living socket alone, and says so as OpenSSH does', () => {
    const file = join(home, 'file');
    writeFileSync(file, 'content');
    const living = daemon(['-a', join(home, 'living')]).socket;
    for (const path of [file, living, home, join(home, 'no/folder')]) {
      const words = ['-s', '-a', path];
      expect(outcome(run(words)), path).toEqual(outcome(run(words, {}, REFERENCE)));
      expect(outcome(run(['-s', `-a${path}`])), path).toEqual(outcome(run(words, {}, REFERENCE)));
    }
    expect(readFileSync(file, 'utf8')).toBe('content');
  });

  it('takes the place of a dead socket, where OpenSSH refuses', async () => {
    const socket = join(home, 'dead');
    const { pid } = daemon(['-a', socket]);
    process.kill(pid, 'SIGKILL');
    await isGone(pid);
    expect(lstatSync(socket).isSocket()).toBe(true);
    daemon(['-a', socket]);
    expect(commentsOf(await ask(socket, LIST))).toEqual([]);
    expect(existsSync(`${socket}.control`)).toBe(true);
  });

  it('refuses a path that is too long, and takes the longest', () => {
    const fits = 107 - home.length - 1;
    const long = join(home, 'x'.repeat(fits + 1));
    const expected = `unix_listener: path "${long}" too long for Unix domain socket\n`;
    expect(outcome(run(['-a', long]))).toEqual(['', expected, 1]);
    expect(daemon(['-a', join(home, 'x'.repeat(fits))]).pid).toBeGreaterThan(1);
  });

  it('gives way to -T', () => {
    const tmp = join(home, 'tmp');
    mkdirSync(tmp);
    const { socket } = daemon(['-T', '-a', join(home, 'ignored')], { TMPDIR: tmp });
    expect(socket.slice(tmp.length)).toMatch(/^\/ssh-[a-zA-Z0-9]{12}\/agent\.\d+$/);
    expect(statSync(join(socket, '..')).mode & 0o777).toBe(0o700);
    expect(existsSync(join(home, 'ignored'))).toBe(false);
  });
});

describe('-T', () => {
  it('removes its folder at the end', async () => {
    const { pid } = daemon(['-T'], { TMPDIR: home });
    expect(readdirSync(home).length).toBe(1);
    process.kill(pid, 'SIGTERM');
    await isGone(pid);
    expect(readdirSync(home)).toEqual([]);
  });

  it('says that a folder cannot be made', () => {
    const { stderr, status } = run(['-T'], { TMPDIR: '/nonexistent' });
    expect(status).toBe(255);
    expect(stderr).toMatch(/^main: Couldn't prepare agent socket/);
  });
});

describe('-k', () => {
  it('ends the agent and prints what unsets its variables', async () => {
    for (const [flag, lines] of [
      ['-s', 'unset SSH_AUTH_SOCK;\nunset SSH_AGENT_PID;\n'],
      ['-c', 'unsetenv SSH_AUTH_SOCK;\nunsetenv SSH_AGENT_PID;\n'],
    ] as const) {
      const { pid, socket } = daemon();
      const words = outcome(run([flag, '-k'], { SSH_AGENT_PID: String(pid) }));
      expect(words).toEqual([`${lines}echo Agent pid ${pid} killed;\n`, '', 0]);
      await isGone(pid);
      expect(existsSync(socket)).toBe(false);
    }
  });

  it.each([undefined, '', 'xyz', '0', '1', '-5', '12x', '0x5', '99999999999', '999999999'])(
    'says what is wrong with SSH_AGENT_PID=%s as OpenSSH does',
    (pid) => {
      const env: Env = pid === undefined ? {} : { SSH_AGENT_PID: pid };
      const result = outcome(run(['-k'], env));
      expect(result).toEqual(outcome(run(['-k'], env, REFERENCE)));
      expect(result[2]).toBe(1);
    },
  );
});
