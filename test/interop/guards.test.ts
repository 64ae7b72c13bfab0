// Guards with the real ssh and sshd: what one forwards, lets through and ends with, and the lines of `latchkey ssh-config`.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { user } from '../support/sshd.ts';
import { type Agent, bin, type Run, type RunOptions } from './fixtures/setting.ts';
import { LIST, quote, stopped, ThreeHosts } from './fixtures/threehosts.ts';

const there = new ThreeHosts();
const { setting, key, other, hosts } = there;

beforeAll(() => there.start());
afterEach(() => there.forget());
afterAll(() => setting.end());

const knownHosts = ['--known-hosts', `${there.config}.known_hosts`];

/** Opens a guard and returns its path. */
async function guard(...args: readonly string[]): Promise<string> {
  const { status, stdout, stderr } = await there.latchkey('guard', ...args);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return stdout.trim();
}

interface Shown {
  readonly id: string;
  readonly path: string;
  readonly [field: string]: unknown;
}

async function open(): Promise<readonly Shown[]> {
  return JSON.parse((await there.latchkey('guard', '--list', '--json')).stdout).guards;
}

/** Runs `command` on a, with `forwarded` as the agent there. */
function onA(forwarded: string, command: string): Promise<Run> {
  return there.run('/usr/bin/ssh', ['-F', there.config, '-o', `ForwardAgent=${forwarded}`, 'a', command]);
}

describe('ForwardAgent to a guard', () => {
  it('shows the keys that it is for, and ssh itself logs in with the agent', async () => {
    const path = await guard('--key', other.comment);
    expect(await onA(path, LIST)).toMatchObject({ status: 0, stdout: `${other.line}\n` });
    expect(hosts.a.accepted().at(-1)).toBe(key.name);
    expect((await there.run('/usr/bin/ssh-add', ['-L'])).stdout).toBe(`${key.line}\n${other.line}\n`);
  });

  it('takes a key by its fingerprint, by its comment and by its file', async () => {
    const [, fingerprint = ''] = key.name.split(' ');
    for (const word of [fingerprint, key.comment, key.publicFile])
      expect(await onA(await guard('--key', word), LIST)).toMatchObject({ status: 0, stdout: `${key.line}\n` });
  });

  it('lets nobody on the other side add, remove or lock', async () => {
    const path = await guard('--allow');
    expect(
      (await onA(path, `echo x | ssh-add - 2>&1; ssh-add -D 2>&1; ssh-add -d ${key.publicFile} 2>&1`)).stdout,
    ).not.toMatch(/^(Identity|All identities)/m);
    expect((await onA(path, `SSH_ASKPASS_REQUIRE=force SSH_ASKPASS=/bin/echo DISPLAY=x ssh-add -x`)).status).not.toBe(
      0,
    );
    expect((await there.run('/usr/bin/ssh-add', ['-L'])).stdout).toContain(key.line);
  });

  it('asks for each use, unless it allows what fits', async () => {
    const asking = await guard();
    there.agree();
    expect(await onA(asking, there.next('b'))).toMatchObject(there.arrived('b'));
    expect(there.asked().length).toBe(1);
    there.disagree();
    expect(await onA(asking, there.next('b'))).toMatchObject(stopped);
    expect(there.asked().length).toBeGreaterThan(1);
    const before = there.asked().length;
    expect(await onA(await guard('--allow'), there.next('b'))).toMatchObject(there.arrived('b'));
    expect(there.asked().length).toBe(before);
  });

  it('lets logins through to the hosts of --to alone', async () => {
    const path = await guard('--allow', '--to', 'b', ...knownHosts);
    expect(await onA(path, there.next('b'))).toMatchObject(there.arrived('b'));
    expect(await onA(path, there.next('c'))).toMatchObject(stopped);
    expect(await onA(path, `printf text | ssh-keygen -Y sign -q -n git -f ${key.publicFile}`)).toMatchObject({
      status: 255,
      stdout: '',
    });
    const denied = (await there.records()).filter(({ outcome, guard: of }) => outcome === 'denied' && of !== undefined);
    expect(denied.map(({ reason }) => reason).join('\n')).toContain('the guard signs only logins to b');
    expect(there.asked()).toEqual([]);
  });

  it('lets logins through there from any host on the way, unless --via says which', async () => {
    const path = await guard('--allow', '--to', 'c', '--to', 'b', ...knownHosts);
    expect(await onA(path, `/usr/bin/ssh -A -F ${there.config} b ${quote(there.next('c'))}`)).toMatchObject(
      there.arrived('c'),
    );
    const viaB = await guard('--allow', '--via', 'b', ...knownHosts);
    expect(await onA(viaB, there.next('c'))).toMatchObject(stopped);
    expect(await onA(viaB, LIST)).toMatchObject({ stdout: 'The agent has no identities.\n' });
    const viaA = await guard('--allow', '--via', 'a', ...knownHosts);
    expect(await onA(viaA, there.next('c'))).toMatchObject(there.arrived('c'));
  });

  it('lets logins through as the users of --to alone', async () => {
    const mine = await guard('--allow', '--to', `${user}@b`, ...knownHosts);
    expect(await onA(mine, there.next('b'))).toMatchObject(there.arrived('b'));
    const others = await guard('--allow', '--to', 'somebody@b', ...knownHosts);
    expect(await onA(others, there.next('b'))).toMatchObject(stopped);
  });

  it('says which host known_hosts does not have, and which key nobody has', async () => {
    const unknown = await there.latchkey('guard', '--to', 'git@nowhere.example', ...knownHosts);
    expect(unknown).toMatchObject({ status: 1, stdout: '' });
    expect(unknown.stderr).toContain('--to git@nowhere.example: known_hosts has no key of nowhere.example');
    const nobody = await there.latchkey('guard', '--key', 'nobody has it');
    expect(nobody).toMatchObject({ status: 1, stdout: '' });
    expect(nobody.stderr).toContain('no key is called nobody has it');
    expect(await open()).toEqual([]);
  });
});

describe('a guard ends', () => {
  it('when it is revoked, also for who is connected', async () => {
    const path = await guard('--allow');
    const far = `${LIST}; read go; ${LIST}`;
    const child = spawn('/usr/bin/ssh', ['-F', there.config, '-o', `ForwardAgent=${path}`, 'a', far], {
      env: { ...setting.env, SSH_AUTH_SOCK: there.socket },
    });
    let said = '';
    child.stdout.on('data', (chunk: Buffer) => {
      said += chunk.toString();
    });
    await setting.until(() => said.includes(other.line));
    const [shown] = await open();
    expect(shown).toMatchObject({ path });
    expect(await there.latchkey('guard', '--revoke', shown?.id ?? '')).toMatchObject({ status: 0 });
    expect(existsSync(path)).toBe(false);
    child.stdin.end('go\n');
    await once(child, 'close');
    expect(said).toBe(`${key.line}\n${other.line}\n`);
    expect((await there.latchkey('guard', '--revoke', 'g0')).status).toBe(1);
  });

  it('when its time is over', async () => {
    const path = await guard('--for', '1');
    await setting.until(() => !existsSync(path));
    expect(await open()).toEqual([]);
    const { stdout, stderr } = await onA(path, LIST);
    expect(stdout).toBe('');
    expect(stderr).toContain('Cannot forward agent socket path');
  });

  it('after so many signatures', async () => {
    const path = await guard('--allow', '--count', '2');
    const { stdout } = await onA(path, `${there.next('b')}; ${there.next('b')}; ${there.next('b')}`);
    expect(stdout).toBe(`${hosts.b.word}\n${hosts.b.word}\n`);
    await setting.until(() => !existsSync(path));
  });

  it('with its command', async () => {
    const { status, stdout } = await there.latchkey(
      'guard',
      '--',
      'sh',
      '-c',
      `echo "$SSH_AUTH_SOCK"; ${LIST}; exit 7`,
    );
    expect(status).toBe(7);
    const [path = '', ...lines] = stdout.trim().split('\n');
    expect(lines).toEqual([key.line, other.line]);
    await setting.until(() => !existsSync(path));
  });

  it('with the agent', async () => {
    const second: Agent = await setting.agent();
    const env = { SSH_AUTH_SOCK: second.path };
    const { stdout } = await there.run(join(bin, 'latchkey'), ['guard'], { env });
    expect(stdout.replace(/-[0-9a-z]+\.sock\n$/, '')).toBe(`${second.path}.guards/g1`);
    await second.stop();
    expect(existsSync(`${second.path}.guards`)).toBe(false);
  });
});

describe('a guard with a command', () => {
  it('is what its ssh forwards', async () => {
    const bounds = ['--allow', '--to', 'b', ...knownHosts];
    const ssh = ['/usr/bin/ssh', '-F', there.config, '-A', 'a'];
    expect(await there.latchkey('guard', ...bounds, '--', ...ssh, there.next('b'))).toMatchObject(there.arrived('b'));
    expect(await there.latchkey('guard', ...bounds, '--', ...ssh, there.next('c'))).toMatchObject(stopped);
  });

  it('is where {} stands, and nothing else is changed', async () => {
    const { stdout } = await there.latchkey('guard', '--', 'sh', '-c', 'echo "$1 $SSH_AUTH_SOCK"', 'sh', 'default={}');
    expect(stdout).toMatch(/^default=\/.*\/guards\/g\d+-[0-9a-z]+\.sock /);
    expect(stdout).toContain(` ${there.socket}\n`);
  });

  it('is not left behind where the command cannot be started', async () => {
    const failed = await there.latchkey('guard', '--', '/no/such/\x1b[31mprogram');
    expect([failed.status, failed.stdout, failed.stderr]).toEqual([1, '', expect.stringContaining('\\x1b[31mprogram')]);
    await setting.until(async () => (await open()).length === 0);
  });
});

describe('ssh-config', () => {
  const GREEDY = ['Host *', '  ForwardAgent yes', ''];
  const far = `echo "[$SSH_AUTH_SOCK]"; ${LIST}; true`;

  /** Logs in by an ssh_config that begins with the printed lines, and would forward everything to everybody. */
  async function login(host: string, args: readonly string[], env: RunOptions['env'] = {}): Promise<Run> {
    const { status, stdout } = await there.latchkey('ssh-config', ...args);
    expect(status).toBe(0);
    const file = setting.path('guarded_config');
    writeFileSync(file, `${stdout}${GREEDY.join('\n')}${readFileSync(there.config, 'utf8')}`);
    return there.run('/usr/bin/ssh', ['-F', file, host, far], { env });
  }

  it('opens a guard for each host, once, and forwards that', async () => {
    for (let i = 0; i < 2; i++) {
      const { stdout, stderr } = await login('a', ['--key', other.comment, 'a', 'b']);
      expect({ stderr, lines: stdout.trim().split('\n').slice(1) }).toEqual({ stderr: '', lines: [other.line] });
    }
    expect((await login('b', ['--key', other.comment, 'a', 'b'])).stdout).toContain(other.line);
    const shown = await open();
    expect(shown.map(({ name, effect, path }) => [name, effect, path])).toEqual([
      ['a', 'ask', join(setting.folder, 'guards/for-a.sock')],
      ['b', 'ask', join(setting.folder, 'guards/for-b.sock')],
    ]);
  });

  it('leaves hosts alone that it does not name', async () => {
    expect((await login('c', ['a', 'b'])).stdout).toContain(key.line);
    expect(await open()).toEqual([]);
  });

  it('opens guards for hosts that a pattern fits, and for none with an odd name', async () => {
    expect((await login('c', ['--key', other.comment, '*'])).stdout).toContain(other.line);
    expect(await open()).toMatchObject([{ name: 'c' }]);
    const odd = await login('../c', ['*']);
    expect(odd.stderr).toContain('no guard for ../c');
    expect(existsSync(setting.path('c.sock'))).toBe(false);
    expect((await open()).length).toBe(1);
  });

  it('forwards nothing where no guard can be opened', async () => {
    const { stdout, stderr } = await login('a', ['--via', 'nowhere.example', 'a']);
    expect(stdout).not.toContain('ssh-ed25519');
    expect(stderr).toContain('known_hosts has no key of nowhere.example');
    expect(stderr).toContain('Cannot forward agent socket path');
    const insisting = await there.run('/usr/bin/ssh', ['-F', setting.path('guarded_config'), '-A', 'a', LIST]);
    // ssh 9.2 ends with ssh-add's status, or with 255 where the refused channel ends the session first.
    expect(insisting.stdout).toBe('');
    expect(insisting.status).not.toBe(0);
  });

  it('forwards nothing where ssh has no agent for itself (its comments tell)', async () => {
    const file = setting.path('identity');
    await setting.withFile(file, key.privateText, async () => {
      const { stdout } = await there.latchkey('ssh-config', 'a');
      const path = setting.path('agentless_config');
      writeFileSync(
        path,
        `${stdout}${readFileSync(there.config, 'utf8').replace('IdentityFile none', `IdentityFile ${file}`)}`,
      );
      const args = ['-F', path, 'a', far];
      expect(await there.run('/usr/bin/ssh', args, { env: { SSH_AUTH_SOCK: undefined } })).toMatchObject({
        stdout: '[]\n',
      });
      expect((await there.run('/usr/bin/ssh', args)).stdout).toContain(other.line);
    });
  });

  it('goes on through a master that began without these lines (its comments tell)', async () => {
    const control = ['-o', `ControlPath=${setting.path('control')}`];
    await there.run('/usr/bin/ssh', [
      '-F',
      there.config,
      ...control,
      '-M',
      '-o',
      'ControlPersist=60',
      '-A',
      'a',
      'true',
    ]);
    try {
      await login('a', ['--key', other.comment, 'a']);
      const file = setting.path('guarded_config');
      const shared = await there.run('/usr/bin/ssh', ['-F', file, ...control, 'a', LIST]);
      expect(shared.stdout).toContain(key.line);
    } finally {
      await there.run('/usr/bin/ssh', ['-F', there.config, ...control, '-O', 'exit', 'a']);
    }
    const fresh = await there.run('/usr/bin/ssh', ['-F', setting.path('guarded_config'), ...control, 'a', LIST]);
    expect(fresh.stdout).toBe(`${other.line}\n`);
  });

  it('names an agent whose place changes by the variable that tells it', async () => {
    const second = await setting.agent();
    await second.hold([key]);
    const { stdout } = await there.run(join(bin, 'latchkey'), ['ssh-config', 'a'], {
      env: { SSH_AUTH_SOCK: second.path },
    });
    // biome-ignore lint/suspicious/noTemplateCurlyInString: ssh reads it.
    expect(stdout).toContain('  ForwardAgent ${SSH_AUTH_SOCK}.guards/for-%n.sock\n');
    const file = setting.path('moving_config');
    writeFileSync(file, `${stdout}${readFileSync(there.config, 'utf8')}`);
    const env = { SSH_AUTH_SOCK: second.path };
    expect((await there.run('/usr/bin/ssh', ['-F', file, 'a', LIST], { env })).stdout).toBe(`${key.line}\n`);
    await second.stop();
  });

  it.each(["a'b", 'a"b', 'a b', '$(x)', 'a;b', '../x', '-x', '!a'])('refuses the host %j', async (host) => {
    expect(await there.latchkey('ssh-config', '--', host)).toMatchObject({ status: 1, stdout: '' });
  });
});
