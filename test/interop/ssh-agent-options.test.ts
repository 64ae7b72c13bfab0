/** The other options of bin/ssh-agent: stale sockets, errors in OpenSSH's words, the foreground, sockets handed over. */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { addMessage, ask, cleanEnv, commentsOf, LIST, SUCCESS, until } from '../support/agentprocess.ts';
import { freshEd25519 } from '../support/keys.ts';
import { raw } from '../unit/wire/build.ts';
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

describe('stale sockets', () => {
  async function deadSocket(name: string, hours: number): Promise<string> {
    const path = join(home, '.ssh/agent', name);
    const { pid } = daemon(['-a', path]);
    process.kill(pid, 'SIGKILL');
    await isGone(pid);
    rmSync(`${path}.control`);
    utimesSync(path, Date.now() / 1000 - hours * 3600, Date.now() / 1000 - hours * 3600);
    return path;
  }

  it('are cleaned at the start unless -U, of this host alone, by -u, and by -uu of any host', async () => {
    const live = daemon();
    const old = Date.now() / 1000 - 7200;
    utimesSync(live.socket, old, old);
    const prefix = /s\.[^.]+\./.exec(live.socket)?.[0] ?? '';
    const stale = await deadSocket(`${prefix}sshd.aaaaaaaaaa`, 2);
    const young = await deadSocket(`${prefix}agent.bbbbbbbbbb`, 0.5);
    const foreign = await deadSocket('s.otherhost1.agent.cccccccccc', 2);
    const unrelated = await deadSocket('something', 2);
    const file = join(home, '.ssh/agent', `${prefix}agent.dddddddddd`);
    writeFileSync(file, '');
    utimesSync(file, old, old);
    daemon(['-U']);
    expect(existsSync(stale)).toBe(true);
    expect(outcome(run(['-u']))).toEqual(['Deleted stale agent sockets in ~/.ssh/agent\n', '', 0]);
    expect([stale, young, foreign, unrelated, file, live.socket].map(existsSync)).toEqual([
      false,
      true,
      true,
      true,
      true,
      true,
    ]);
    const again = await deadSocket(`${prefix}agent.eeeeeeeeee`, 2);
    daemon();
    expect(existsSync(again)).toBe(false);
    expect(outcome(run(['-uu']))).toEqual(['Deleted stale agent sockets in ~/.ssh/agent\n', '', 0]);
    expect([young, foreign, unrelated, file, live.socket].map(existsSync)).toEqual([true, false, true, true, true]);
    expect(commentsOf(await ask(live.socket, LIST))).toEqual([]);
  });

  it('are none where there is no folder', () => {
    expect(outcome(run(['-u']))).toEqual(['Deleted stale agent sockets in ~/.ssh/agent\n', '', 0]);
    expect(existsSync(join(home, '.ssh'))).toBe(false);
  });
});

describe('other options', () => {
  it.each([['-E', 'x'], ['-O', 'x'], ['-P', 'a', '-P', 'b'], ['/nonexistent/x'], ['no-such-command'], ['/']])(
    'fail with the words and the exit code of OpenSSH: %s %s',
    (...words) => {
      expect(outcome(run(words))).toEqual(outcome(run(words, {}, REFERENCE)));
    },
  );

  it.each([
    ['-z'],
    ['-t'],
    ['-t', 'x'],
    ['-t', '1.5h'],
    ['-t', ''],
    ['-t', '99999999999'],
    ['-c', '-s'],
    ['-d', '-D'],
    ['-D', '-D'],
    ['-s', 'true'],
    ['-c', 'true'],
    ['-d', 'true'],
    ['-D', 'true'],
    ['-k', 'true'],
  ])('are a usage error as with OpenSSH: %s %s', (...words) => {
    const [stdout, stderr, status] = outcome(run(words)) as [string, string, number];
    const [, reference, referenceStatus] = outcome(run(words, {}, REFERENCE)) as [string, string, number];
    expect([stdout, status, referenceStatus]).toEqual(['', 1, 1]);
    const head = (text: string): string => text.slice(0, text.indexOf('usage: ssh-agent [-c | -s] ['));
    expect(head(stderr)).toBe(head(reference));
    expect(stderr).toContain('usage: ssh-agent');
  });

  it('-O and -P of OpenSSH 10.5 are taken, each in its bounds', async () => {
    daemon(['-O', 'no-restrict-websafe', '-O', 'allow-remote-pkcs11', '-O', 'websafe-allow=ssh:*', '-P', '/usr/lib/*']);
    const twice = ['-O', 'websafe-allow=a', '-O', 'websafe-allow=b'];
    expect(outcome(run(twice))).toEqual(['', 'websafe-allow already set\n', 255]);
  });

  it('-t gives keys a lifetime unless they bring their own', async () => {
    const { socket } = daemon(['-t', '1s']);
    const long = raw(1, 0, 0, 0x0e, 0x10);
    expect((await ask(socket, addMessage(freshEd25519(), 'short')))?.toString('hex')).toBe(SUCCESS);
    expect((await ask(socket, addMessage(freshEd25519(), 'long', long)))?.toString('hex')).toBe(SUCCESS);
    expect(commentsOf(await ask(socket, LIST))).toEqual(['short', 'long']);
    await until('its expiry', async () => commentsOf(await ask(socket, LIST)).length === 1);
    expect(commentsOf(await ask(socket, LIST))).toEqual(['long']);
  });

  it('-V tells the version on standard error, --help the usage on standard output', () => {
    const version = run(['-V']);
    expect([version.stdout, version.status]).toEqual(['', 0]);
    expect(version.stderr).toMatch(/^Latchkey_\S+, OpenSSL \S+.*\n$/);
    const help = run(['--help']);
    expect([help.stderr, help.status]).toEqual(['', 0]);
    expect(help.stdout).toMatch(/^usage: ssh-agent/);
  });

  it('-D and -d print two lines and stay; -d tells more', async () => {
    for (const flag of ['-D', '-d']) {
      const socket = join(home, `sock${flag}`);
      const child = spawn(ours, [flag, '-a', socket], { env: cleanEnv(home) });
      let text = '';
      child.stdout.on('data', (chunk) => {
        text += chunk;
      });
      await until('both lines', () => text.includes('\necho'));
      expect(text).toBe(`SSH_AUTH_SOCK=${socket}; export SSH_AUTH_SOCK;\necho Agent pid ${child.pid};\n`);
      child.kill('SIGINT');
      await until('its end', () => child.exitCode !== null);
      expect(child.exitCode).toBe(2);
      expect(existsSync(socket)).toBe(false);
    }
  });

  it('serves a socket that it is handed, and fails where there is none', async () => {
    const activate = `import os, socket, sys
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(8)
os.dup2(s.fileno(), 3); os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], [sys.argv[2], "-D"])`;
    const socket = join(home, 'handed');
    const child = spawn('/usr/bin/python3', ['-c', activate, socket, ours], { env: cleanEnv(home) });
    let text = '';
    child.stdout.on('data', (chunk) => {
      text += chunk;
    });
    await until('the agent', () =>
      ask(socket, LIST).then(
        (answer) => answer !== undefined,
        () => false,
      ),
    );
    child.kill('SIGTERM');
    await until('its end', () => child.exitCode !== null);
    expect([text, child.exitCode, existsSync(socket)]).toEqual(['', 0, true]);
    const none = spawnSync('/bin/sh', ['-c', 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" -D 3</dev/null', ours], {
      env: cleanEnv(home),
      encoding: 'utf8',
      timeout: 20_000,
    });
    expect([none.stdout, none.status]).toEqual(['', 255]);
    expect(none.stderr).toContain('descriptor 3 is no listening socket');
    const wrong = spawnSync('/bin/sh', ['-c', 'LISTEN_PID=1 LISTEN_FDS=1 exec "$0" -D', ours], {
      env: cleanEnv(home),
      encoding: 'utf8',
    });
    expect(wrong.stderr).toMatch(/^bad LISTEN_PID: 1 vs pid \d+\n$/);
    expect(wrong.status).toBe(255);
  });

  it('work through links, from elsewhere and with an empty environment', () => {
    const link = join(home, 'link');
    symlinkSync(ours, link);
    symlinkSync('link', join(home, 'second'));
    for (const file of [link, join(home, 'second'), './second']) {
      const { stdout, status } = spawnSync(file, ['-a', join(home, 's'), 'sh', '-c', 'echo $SSH_AUTH_SOCK'], {
        env: {},
        cwd: home,
        encoding: 'utf8',
      });
      expect([stdout, status]).toEqual([`${join(home, 's')}\n`, 0]);
      // The agent goes within seconds; the next needs the place now.
      rmSync(join(home, 's'), { force: true });
      rmSync(join(home, 's.control'), { force: true });
    }
  });
});
