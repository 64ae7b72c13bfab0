// Connections that hide that they come from afar (ssh -R, socat, containers) with the real programs, and honest ones.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Run } from './fixtures/setting.ts';
import { LIST, NAMES, quote, stopped, ThreeHosts, WHERE } from './fixtures/threehosts.ts';

const there = new ThreeHosts();
const { setting, key, other } = there;

beforeAll(() => there.start());
afterEach(() => there.forget());
afterAll(() => setting.end());

describe('relays', () => {
  const REMOTE = '/tmp';

  /** Runs `command` on a with a socket there that ssh -R leads to the agent, without a word about forwarding. */
  async function behind(command: string): Promise<Run> {
    const remote = join(REMOTE, `latchkey-${process.pid}-${Math.random().toString(36).slice(2)}`);
    const far = `SSH_AUTH_SOCK=${remote} sh -c ${quote(command)}; status=$?; rm -f ${remote}; exit $status`;
    return there.run('/usr/bin/ssh', ['-F', there.config, '-R', `${remote}:${there.socket}`, 'a', far]);
  }

  it('ssh -R is noticed when another session comes through it: the owner is asked', async () => {
    expect(await behind(there.next('b'))).toMatchObject(stopped);
    expect(there.asked().length).toBeGreaterThan(0);
    const denied = (await there.records()).filter(({ relay }) => relay !== undefined);
    expect(denied.at(-1)?.relay).toContain('speaks for two sessions');
    there.agree();
    expect(await behind(there.next('b'))).toMatchObject(there.arrived('b'));
  });

  it.each([
    ['ssh -f', ['-f', '-N']],
    ['a master, by -f', ['-f', '-M', '-N']],
    ['a master that persists', ['-o', 'ControlMaster=auto', '-o', 'ControlPersist=60', '-o', 'LogLevel=ERROR']],
  ])('ssh -R is noticed in the background as well: %s', async (way, args) => {
    const [control, remote] = [setting.path('detached'), setting.path(`${way.replaceAll(' ', '-')}.sock`)];
    const options = ['-F', there.config, '-o', `ControlPath=${control}`];
    const forward = ['-R', `${remote}:${there.socket}`, 'a'];
    await there.run('/usr/bin/ssh', [...options, ...args, ...forward, ...(args.includes('-N') ? [] : ['true'])]);
    try {
      await there.run('/usr/bin/ssh', ['-F', there.config, 'a', `SSH_AUTH_SOCK=${remote} ${there.next('b')}`]);
      expect((await there.records()).at(-1)?.relay).toMatch(/ssh -R/);
    } finally {
      if (existsSync(control)) await there.run('/usr/bin/ssh', [...options, '-O', 'exit', 'a']);
      const { stdout } = await there.run('/usr/bin/pgrep', ['-f', '--', `-R ${remote}:`]);
      for (const pid of stdout.split('\n').filter((line) => line !== '')) process.kill(Number(pid), 'SIGTERM');
    }
  });

  it('ssh -R is noticed when a commit is to be signed through it', async () => {
    const sign = `printf text | ssh-keygen -Y sign -q -n git -f ${key.publicFile}`;
    expect((await behind(sign)).status).not.toBe(0);
    expect(there.asked().length).toBe(1);
    expect((await there.records()).at(-1)?.relay).toContain('ssh -R');
  });

  it('nothing is removed or listed through ssh -R, once its ssh has logged in', async () => {
    const { stdout, stderr } = await behind(`${LIST}; ssh-add -D; ssh-add -d ${key.publicFile}; ssh-add -L`);
    expect(`${stdout}${stderr}`).not.toContain('removed');
    expect((await there.run('/usr/bin/ssh-add', ['-L'])).stdout).toBe(`${key.line}\n${other.line}\n`);
    expect((await there.records()).some(({ relay }) => relay?.includes('lists keys for no session'))).toBe(true);
  });

  it('socat is noticed whatever comes through it', async () => {
    const path = setting.path('socat.sock');
    const socat = spawn('/usr/bin/socat', [`UNIX-LISTEN:${path},fork`, `UNIX-CONNECT:${there.socket}`], {
      stdio: 'ignore',
    });
    try {
      await setting.until(() => existsSync(path));
      const env = { SSH_AUTH_SOCK: path };
      expect(await there.run('/usr/bin/ssh', ['-F', there.config, 'b', WHERE], { env })).toMatchObject(stopped);
      expect(there.asked().length).toBe(1);
      expect((await there.records()).at(-1)?.relay).toBe('socat passes on what others ask');
      expect((await there.run('/usr/bin/ssh-add', ['-D'], { env })).status).toBe(1);
    } finally {
      socat.kill('SIGTERM');
      await once(socat, 'exit');
    }
  });

  it('what comes from another pid namespace is noticed', async () => {
    const asOther = process.getuid?.() === 0 ? [] : ['--user', '--map-current-user'];
    const words = [...asOther, '--pid', '--fork', '/usr/bin/ssh', '-F', there.config, 'b', WHERE];
    expect(await there.run('/usr/bin/unshare', words)).toMatchObject(stopped);
    expect((await there.records()).at(-1)?.relay).toBe('it comes from a container');
  });

  it('honest clients are not: jumps, masters, git, one after another and all at once', async () => {
    const ssh = (...args: readonly string[]): Promise<Run> => there.run('/usr/bin/ssh', ['-F', there.config, ...args]);
    expect(await ssh('-J', 'a,b', 'c', WHERE)).toMatchObject(there.arrived('c'));
    const control = ['-o', `ControlPath=${setting.path('honest')}`];
    expect(await ssh(...control, '-M', '-o', 'ControlPersist=60', 'a', WHERE)).toMatchObject(there.arrived('a'));
    expect(await ssh(...control, '-A', 'a', WHERE)).toMatchObject(there.arrived('a'));
    await ssh(...control, '-O', 'exit', 'a');
    const runs = await Promise.all(NAMES.flatMap((name) => [ssh(name, WHERE), ssh('-A', name, LIST)]));
    expect(runs.map(({ status }) => status)).toEqual(runs.map(() => 0));
    const sign = ['-Y', 'sign', '-q', '-n', 'git', '-f', key.publicFile];
    expect((await there.run('/usr/bin/ssh-keygen', sign, { input: 'text' })).status).toBe(0);
    expect(there.asked()).toEqual([]);
  });
});
