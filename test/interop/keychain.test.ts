// How people start an agent: by eval in a shell, by keychain, around an X session, by systemd's socket activation, in
// tmux. Each agent then serves a real log-in.
import { existsSync, readFileSync, readlinkSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Sshd, writeClientConfig } from '../support/sshd.ts';
import { bin, fixtures, type Run, Setting, type TestKey } from './fixtures/setting.ts';

const setting = new Setting();
const key: TestKey = setting.key('person');
const file = key.publicFile.slice(0, -'.pub'.length);
let server: Sshd;
/** A command that logs in and prints where. */
let login: string;

/** Runs a shell script; the private key is there for it to add. */
function script(text: string, env: Record<string, string | undefined> = {}): Promise<Run> {
  return setting.withFile(file, key.privateText, () => setting.run('/bin/sh', ['-c', `set -eu\n${text}`], { env }));
}

const isAlive = (pid: number): boolean => existsSync(`/proc/${pid}`) && !/^State:\s+Z/m.test(status(pid));

function status(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/status`, 'utf8');
  } catch {
    return 'State: Z';
  }
}

/** Sees to it that an agent that a test started on its own ends with the tests. */
function endLater(pid: number): void {
  setting.atEnd(() => {
    if (isAlive(pid)) process.kill(pid, 'SIGTERM');
  });
}

beforeAll(async () => {
  server = await setting.sshd({ name: 'server', authorizedKeys: [key.line] });
  const config = writeClientConfig(setting.path('ssh_config'), [server]);
  login = `/usr/bin/ssh -F ${config} server 'echo "$LATCHKEY_HOST"'`;
});

afterAll(() => setting.end());

describe('a shell', () => {
  it('starts our agent by eval, uses it and ends it', async () => {
    const run = await script(`
      eval "$(ssh-agent -s)" >/dev/null
      ssh-add -q '${file}'
      ${login}
      echo "$SSH_AGENT_PID $SSH_AUTH_SOCK"
      test -S "$SSH_AUTH_SOCK"
      eval "$(ssh-agent -k)"
      echo "[\${SSH_AUTH_SOCK-}]"`);
    const [where, place = '', ended, unset] = run.stdout.split('\n');
    const [pid = '', socket = ''] = place.split(' ');
    expect(run).toMatchObject({ status: 0, stderr: '' });
    expect([where, ended, unset]).toEqual([server.word, `Agent pid ${pid} killed`, '[]']);
    await setting.until(() => !isAlive(Number(pid)) && !existsSync(socket));
  });
});

describe('keychain', () => {
  const start = (): Promise<Run> =>
    script(`
      eval "$(keychain --eval --quiet --agents ssh --host here '${file}')"
      ${login}
      echo "$SSH_AGENT_PID $SSH_AUTH_SOCK"`);

  it('starts our agent, finds it again at the next log-in, and again without the key file', async () => {
    const first = await start();
    expect(first).toMatchObject({ status: 0, stdout: expect.stringContaining(server.word) });
    const [, place = ''] = first.stdout.split('\n');
    const pid = Number(place.split(' ')[0]);
    endLater(pid);
    // It is ours that it started, and not the system's.
    expect(readlinkSync(`/proc/${pid}/exe`)).toMatch(/node$/);
    expect(await start()).toEqual(first);
    const again = `. ~/.keychain/here-sh; ${login}; keychain --nocolor --agents ssh --host here -l`;
    const found = await setting.run('/bin/sh', ['-c', again]);
    expect(found).toMatchObject({ status: 0, stdout: expect.stringContaining(`${server.word}\n`) });
    expect(found.stdout).toContain(key.name.split(' ')[1]);
  });

  it('inherits an agent of the session', async () => {
    const agent = await setting.agent();
    await agent.hold([key]);
    const env = { SSH_AUTH_SOCK: agent.path, SSH_AGENT_PID: String(agent.pid) };
    const run = await script(
      `eval "$(keychain --eval --quiet --agents ssh --host other --inherit any)"\n${login}\necho "$SSH_AUTH_SOCK"`,
      env,
    );
    expect(run).toMatchObject({ status: 0, stdout: `${server.word}\n${agent.path}\n` });
  });
});

describe('an X session', () => {
  it('runs under our agent as .xsession has it, with the exit status of its own, and the agent ends after it', async () => {
    const session = setting.path('session');
    const program = `ssh-add -q '${file}'\n${login}\necho "$SSH_AGENT_PID $SSH_AUTH_SOCK"\nexit 7\n`;
    writeFileSync(session, `#!/bin/sh\n${program}`, { mode: 0o700 });
    const run = await script(`STARTUP="ssh-agent '${session}'"\neval exec $STARTUP`);
    expect(run).toMatchObject({ status: 7, stderr: '' });
    const [where, place = ''] = run.stdout.split('\n');
    const [pid = '', socket = ''] = place.split(' ');
    expect(where).toBe(server.word);
    endLater(Number(pid));
    await setting.until(() => !isAlive(Number(pid)) && !existsSync(socket));
  });
});

describe('socket activation', () => {
  const activate = join(fixtures, 'activate.py');

  it('gives our agent a socket that clients already wait at, and that outlives it', async () => {
    const socket = setting.path('activated.sock');
    const run = await script(`
      python3 '${activate}' '${socket}' 1 '' ssh-agent -D >out 2>err &
      agent=$!
      trap 'kill $agent 2>/dev/null || :' EXIT
      while ! test -S '${socket}'; do sleep 0.05; done
      export SSH_AUTH_SOCK='${socket}'
      ssh-add -q '${file}'
      ${login}
      kill $agent
      status=0; wait $agent || status=$?
      echo "$status"; cat out; test -S '${socket}'`);
    expect(run).toMatchObject({ status: 0, stdout: `${server.word}\n0\n` });
  });

  it.each([
    ['two sockets', '2', ''],
    ['a pid that is not its own', '1', '1'],
  ])('is refused for %s', async (_, count, pid) => {
    const socket = setting.path(`refused${count}${pid}.sock`);
    const run = await setting.run('/usr/bin/python3', [activate, socket, count, pid, join(bin, 'ssh-agent'), '-D']);
    expect(run).toMatchObject({ status: 255, stdout: '' });
    expect(run.stderr).not.toBe('');
  });
});

describe('tmux', () => {
  const tmux = (...args: readonly string[]): Promise<Run> =>
    setting.run('/usr/bin/tmux', ['-S', setting.path('tmux.sock'), '-f', '/dev/null', ...args], {
      env: { SSH_AUTH_SOCK: setting.path('link'), TERM: 'screen' },
    });

  /** Runs `command` in a new window of the session. */
  async function inWindow(command: string): Promise<string> {
    const out = setting.path('window.out');
    writeFileSync(setting.path('window'), `${command} >'${out}' 2>&1\ntmux wait-for -S over\n`);
    const run = await tmux('new-window', '-d', '-t', 'session:', `sh '${setting.path('window')}'`);
    expect(run).toMatchObject({ status: 0, stderr: '' });
    await tmux('wait-for', 'over');
    return readFileSync(out, 'utf8');
  }

  it('has our agent in its windows, also a new one behind the same link', async () => {
    const link = setting.path('link');
    const first = await setting.agent();
    const second = await setting.agent();
    await first.hold([key]);
    await second.hold([key]);
    symlinkSync(first.path, link);
    expect(await tmux('new-session', '-d', '-s', 'session', 'cat')).toMatchObject({ status: 0, stderr: '' });
    setting.atEnd(() => tmux('kill-server'));
    expect(await inWindow(login)).toBe(`${server.word}\n`);
    await first.stop();
    expect(await inWindow(login)).not.toContain(server.word);
    unlinkSync(link);
    symlinkSync(second.path, link);
    expect(await inWindow(login)).toBe(`${server.word}\n`);
  });
});
