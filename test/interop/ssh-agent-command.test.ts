/** `ssh-agent COMMAND`: the command must not notice that it was started by us, but for its two variables. */
import { type SpawnSyncReturns, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { cleanEnv, program, until } from '../support/agentprocess.ts';
import { runOnTerminal } from './ssh-add-programs.ts';

const REFERENCE = '/usr/bin/ssh-agent';
const ours = program('ssh-agent');
let home = '';

beforeEach(() => {
  home = realpathSync(mkdtempSync(join(tmpdir(), 'latchkey-command-')));
});

afterEach(async () => {
  // The agent looks every second whether its command has ended; then it must leave nothing.
  const folder = join(home, '.ssh/agent');
  if (existsSync(folder)) await until('the end of the agents', () => readdirSync(folder).length === 0);
  rmSync(home, { recursive: true, force: true });
});

type Env = Readonly<Record<string, string>>;

function run(file: string, args: readonly string[], env: Env = {}): SpawnSyncReturns<string> {
  return spawnSync(file, args, { env: cleanEnv(home, env), cwd: home, encoding: 'utf8' });
}

/** The same script with our agent as its `$0` (or `$0 "$@"`, where more words follow), and with OpenSSH's. */
function both(script: string, agent: readonly string[] = [ours]): readonly [string, string] {
  const under = ([file = '', ...args]: readonly string[]): string => {
    const { stdout, stderr, status, signal } = run('/bin/bash', ['-c', script, file, ...args]);
    return JSON.stringify([stdout, stderr, status, signal]);
  };
  return [under(agent), under([REFERENCE])];
}

describe('a command', () => {
  it('ends the whole with its own exit status', () => {
    for (const code of [0, 1, 43, 255]) expect(run(ours, ['sh', '-c', `exit ${code}`]).status).toBe(code);
    expect(run(ours, ['true']).status).toBe(0);
    for (const signal of ['TERM', 'KILL', 'PIPE', 'HUP', 'USR1', 'INT', 'QUIT', 'XFSZ', 'USR2', 'ALRM']) {
      const { status, signal: died } = run(ours, ['sh', '-c', `ulimit -c 0; kill -${signal} $$`]);
      expect([status, died], signal).toEqual([null, `SIG${signal}`]);
    }
  });

  it('has the pid that was started, and an agent that answers at once', async () => {
    const child = spawn(ours, ['sh', '-c', 'echo $$ $SSH_AGENT_PID; ssh-add -l; :'], { env: cleanEnv(home) });
    let text = '';
    child.stdout.on('data', (chunk) => {
      text += chunk;
    });
    await until('its end', () => child.exitCode !== null);
    const [, pid, agent, list] = /^(\d+) (\d+)\n(.*)\n$/.exec(text) ?? [];
    expect(Number(pid)).toBe(child.pid);
    expect(agent).not.toBe(pid);
    expect(list).toBe('The agent has no identities.');
    await until('the end of the agent', () => !existsSync(`/proc/${agent}/exe`));
  });

  it('gets its words as they are', () => {
    const words = ['a b', '', '*', "it's", '--', '-x', 'line\nbreak', '$HOME', '\\', 'ü'];
    expect(run(ours, ['printf', '<%s>', ...words]).stdout).toBe(run('/usr/bin/printf', ['<%s>', ...words]).stdout);
    expect(run(ours, ['--', 'printf', '%s', '-t']).stdout).toBe('-t');
    expect(run(ours, ['-t', '5', 'printf', '%s', '-D']).stdout).toBe('-D');
  });

  it('gets its environment as it is, what concerns Node and odd names included', () => {
    const env = {
      NODE_OPTIONS: '--inspect --require=/nonexistent',
      NODE_PATH: '/x',
      LD_BIND_NOW: '1',
      OPENSSL_CONF: '/nonexistent',
      SHLVL: '7',
      PWD: '/somewhere/else',
      OLDPWD: '/x',
      IFS: ':',
      'odd.name-1': 'x\ny',
      'BASH_FUNC_f%%': '() { :; }',
      EMPTY: '',
      _: '/x',
      TERM: 'dumb',
      SSH_AUTH_SOCK: '/old',
      SSH_AGENT_PID: '1',
    };
    const { stdout } = run(ours, ['/usr/bin/env', '-0'], env);
    const got = new Map(
      stdout
        .split('\0')
        .filter((entry) => entry !== '')
        .map((entry) => [entry.slice(0, entry.indexOf('=')), entry.slice(entry.indexOf('=') + 1)]),
    );
    expect(got.get('SSH_AUTH_SOCK')).toMatch(/\/agent\/s\./);
    expect(got.get('SSH_AGENT_PID')).toMatch(/^\d+$/);
    const { SSH_AUTH_SOCK: _1, SSH_AGENT_PID: _2, ...rest } = cleanEnv(home, env);
    got.delete('SSH_AUTH_SOCK');
    got.delete('SSH_AGENT_PID');
    expect(Object.fromEntries(got)).toEqual(rest);
  });

  it('is looked for on PATH, and where there is none the agent goes too', () => {
    writeFileSync(join(home, 'mine'), '#!/bin/sh\necho mine\n', { mode: 0o755 });
    expect(run(ours, ['mine'], { PATH: `${home}:/usr/bin:/bin` }).stdout).toBe('mine\n');
    const missing = run(ours, ['no-such-command']);
    expect([missing.stdout, missing.stderr, missing.status]).toEqual([
      '',
      'no-such-command: No such file or directory\n',
      1,
    ]);
    const plain = run(ours, [join(home, '.ssh')]);
    expect([plain.stderr, plain.status]).toEqual([`${join(home, '.ssh')}: Permission denied\n`, 1]);
  });

  it('has the terminal: its input, its window, Ctrl-C and job control', () => {
    const env = cleanEnv(home);
    const script = 'test -t 0 && test -t 1 && test -t 2 && read -r word && echo "got $word"; ps -o stat= -p $$';
    const talked = runOnTerminal([ours, 'sh', '-c', `echo ready; ${script}`], [['ready', 'hello\n']], {
      cwd: home,
      env,
    });
    expect(talked.output).toContain('got hello');
    // A plus: in the foreground of its terminal.
    expect(talked.output).toMatch(/^[SR]\S*\+/m);
    expect([talked.status, talked.signal]).toEqual([0, null]);
    const broken = runOnTerminal([ours, 'sh', '-c', 'echo ready; sleep 20; echo late'], [['ready', '\x03']], {
      cwd: home,
      env,
    });
    expect(broken.output).not.toContain('late');
    expect([broken.status, broken.signal]).toEqual([null, 2]);
    const trapped = runOnTerminal(
      [ours, 'sh', '-c', "trap 'ssh-add -l; exit 7' INT; echo ready; sleep 20 & wait"],
      [['ready', '\x03']],
      { cwd: home, env },
    );
    // Ctrl-C reached the command, and not the agent.
    expect(trapped.output).toContain('The agent has no identities.');
    expect(trapped.status).toBe(7);
  });

  it('has the default action for every signal, and none blocked', () => {
    const [mine, theirs] = both('"$0" grep -E "^Sig(Blk|Ign|Cgt)" /proc/self/status');
    expect(mine).toBe(theirs);
  });

  it('has the limit of open files that it would have without us', () => {
    const [mine, theirs] = both('ulimit -Sn 500; "$0" sh -c "ulimit -Sn; ulimit -Hn"');
    expect(mine).toBe(theirs);
  });

  it('goes on ignoring what was ignored before, as under nohup', () => {
    const [mine, theirs] = both('trap "" HUP INT; "$0" grep SigIgn /proc/self/status');
    expect(mine).toBe(theirs);
    const [quiet, reference] = both('trap "" PIPE QUIT TERM USR1 XFSZ; "$0" grep SigIgn /proc/self/status');
    expect(quiet).toBe(reference);
  });

  it('has the signals blocked that were blocked before', () => {
    const python =
      'import os, signal, sys; signal.pthread_sigmask(0, [1, 12, 15, 40]); os.execvp(sys.argv[1], sys.argv[1:])';
    const [mine, theirs] = both(`python3 -c '${python}' "$0" grep -E 'Sig(Blk|Ign)' /proc/self/status`);
    expect(mine).toBe(theirs);
    expect(mine).toContain('8000004801');
  });

  it('has the open files that its starter left it', () => {
    const [mine, theirs] = both('"$0" bash -c "cat <&3; cat <&7; cat <&20" 3<<<three 7<<<seven 20<<<twenty');
    expect(mine).toBe(theirs);
  });

  it('has no other open files, and shares those that have no gap after the first 16', () => {
    const many = Array.from({ length: 30 }, (_, i) => `${i + 3}</dev/null`).join(' ');
    for (const files of ['', '4</dev/null 10</dev/null', many]) {
      const [mine, theirs] = both(`"$0" ls /proc/self/fd ${files}`);
      expect(mine, files).toBe(theirs);
    }
  });

  it('gets words that are not UTF-8 as they are', () => {
    const [mine, theirs] = both(`"$0" printf '%s' $'a\\xff\\xc3b' | od -c`);
    expect(mine).toBe(theirs);
    const long = `x=$(head -c 90000 /dev/zero | tr '\\0' '\\377')`;
    const [longer, reference] = both(`${long}; "$0" -t 5 -- printf '<%s>' $'\\x81' '' "$x" "$x" '' | od -c`);
    expect(longer).toBe(reference);
  });

  it('gets entries that are not UTF-8 as they are', () => {
    const names = ['plain', 'NODE_PATH', 'PWD', 'odd.name', 'n\\xff'].map((name) => `$'${name}=a\\xff\n\\xc3'`);
    const [mine, theirs] = both(`env ${names.join(' ')} "$0" env -0 | grep -az '=a' | sort -z | od -c`);
    expect(mine).toBe(theirs);
    expect(mine.split('303')).toHaveLength(names.length + 1);
  });

  it('gets all that from latchkey agent, too', () => {
    const files = '3<<<three 7<<<seven 20<<<twenty';
    const look = `'ulimit -Sn; grep Sig[BI] /proc/self/status; cat <&3; cat <&7; cat <&20; printf %s "$@" "$NODE_PATH"'`;
    const start = `ulimit -Sn 500; trap "" HUP INT; export NODE_PATH=$'\\xff'`;
    const script = `${start}; "$0" "$@" bash -c ${look} bash $'a\\xff\\xc3b' ${files} | od -c`;
    const [mine, theirs] = both(script, [program('latchkey'), 'agent', '--']);
    expect(mine).toBe(theirs);
    expect(mine).toContain('377');
  });
});

it('ends with its agent when the agent is killed first, without harm', () => {
  const { stdout, status } = run(ours, ['sh', '-c', 'kill $SSH_AGENT_PID; sleep 0.3; ssh-add -l 2>/dev/null; echo $?']);
  expect([stdout, status]).toEqual(['2\n', 0]);
});
