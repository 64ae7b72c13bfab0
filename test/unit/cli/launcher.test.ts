// The launcher template, filled as the build fills it, before a program that only tells what it sees.
import { type SpawnSyncReturns, spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { DROPPED, dropKept, keptEntries, keptState, restoreKept, SHELLS_OWN } from '../../../src/cli/environment.ts';

// A folder name with what shells stumble over.
const base = realpathSync(mkdtempSync(join(tmpdir(), "latchkey launcher's ")));
const home = join(base, 'home');
const marker = join(base, 'marker');
const program = join(home, 'bin/ssh-agent');

const PROBE = `
const { readFileSync } = require('node:fs');
const { keptState, restoreKept } = require('./environment.cjs');
if (process.argv[2] === 'wait') { console.log(process.pid); setInterval(() => {}, 1000); }
else {
  const own = { ...process.env };
  const restored = { ...process.env };
  restoreKept(restored);
  const state = keptState(own);
  console.log(JSON.stringify({ args: process.argv.slice(2), file: process.argv[1], own, restored, title: process.title,
    state: { ...state, ignored: String(state.ignored), blocked: String(state.blocked) },
    line: readFileSync('/proc/self/cmdline', 'latin1') }));
}
`;

interface Seen {
  readonly args: string[];
  readonly file: string;
  readonly own: Record<string, string>;
  readonly restored: Record<string, string>;
  readonly title: string;
  readonly state: object & { readonly descriptors: number[] };
  /** Its command line, each byte a character. */
  readonly line: string;
}

let fill: (name: string, values: object) => string;

function install(node: string): void {
  writeFileSync(program, fill('ssh-agent', { home, node, DROPPED, SHELLS_OWN }));
  chmodSync(program, 0o755);
}

function run(file: string, args: string[], env: NodeJS.ProcessEnv = {}, cwd = '/'): SpawnSyncReturns<string> {
  return spawnSync(file, args, { env, cwd, encoding: 'utf8' });
}

function seen(file: string, args: string[] = [], env: NodeJS.ProcessEnv = {}, cwd = '/'): Seen {
  const { stdout, stderr, status } = run(file, args, env, cwd);
  expect({ stderr, status }).toEqual({ stderr: '', status: 0 });
  return JSON.parse(stdout);
}

beforeAll(async () => {
  const script = join(import.meta.dirname, '../../../scripts/build.mjs');
  fill = (await import(pathToFileURL(script).href)).launcher;
  const esbuild = await import('esbuild');
  mkdirSync(join(home, 'bin'), { recursive: true });
  mkdirSync(join(home, 'dist'));
  writeFileSync(join(home, 'dist/ssh-agent.cjs'), PROBE);
  const source = join(import.meta.dirname, '../../../src/cli/environment.ts');
  await esbuild.build({ entryPoints: [source], format: 'cjs', outfile: join(home, 'dist/environment.cjs') });
  install(process.execPath);
});

afterAll(() => rmSync(base, { recursive: true, force: true }));

it('hands its arguments on as they are', () => {
  const args = ['-a', 'a b', '', '*', "it's", '--', '-x', 'line\nbreak', '$HOME'];
  expect(seen(program, args).args).toEqual(args);
});

it('works with an empty environment, and with an empty PATH', () => {
  expect(seen(program).file).toBe(join(home, 'dist/ssh-agent.cjs'));
  expect(seen(program, ['cmd'], { PATH: '' }).restored).toEqual({ PATH: '' });
});

it('is found through a symbolic link, a link to a link, a linked folder, and from its own folder', () => {
  const links = join(base, 'links');
  mkdirSync(links);
  symlinkSync(program, join(links, 'one'));
  symlinkSync('one', join(links, 'two'));
  symlinkSync(join(home, 'bin'), join(base, 'linked'));
  const file = join(home, 'dist/ssh-agent.cjs');
  expect(seen(join(links, 'one')).file).toBe(file);
  expect(seen(join(links, 'two')).file).toBe(file);
  expect(seen(join(base, 'linked/ssh-agent')).file).toBe(file);
  expect(seen('./ssh-agent', [], {}, join(home, 'bin')).file).toBe(file);
  expect(seen('../bin/ssh-agent', [], {}, join(home, 'bin')).file).toBe(file);
  // found by a PATH whose empty entry means the working folder: $0 has no slash then
  expect(seen('/bin/sh', ['-c', 'exec ssh-agent'], { PATH: ':/usr/bin' }, join(home, 'bin')).file).toBe(file);
});

it('works after its folder was moved, also through a link, and as a copy elsewhere', () => {
  const moved = join(base, 'moved');
  mkdirSync(join(moved, 'bin'), { recursive: true });
  mkdirSync(join(moved, 'dist'));
  for (const file of ['bin/ssh-agent', 'dist/ssh-agent.cjs', 'dist/environment.cjs']) {
    copyFileSync(join(home, file), join(moved, file));
  }
  symlinkSync(join(moved, 'bin/ssh-agent'), join(base, 'to-moved'));
  expect(seen(join(moved, 'bin/ssh-agent')).file).toBe(join(moved, 'dist/ssh-agent.cjs'));
  expect(seen(join(base, 'to-moved'), [], { PATH: '' }).file).toBe(join(moved, 'dist/ssh-agent.cjs'));
  copyFileSync(program, join(base, 'a-copy'));
  expect(seen(join(base, 'a-copy')).file).toBe(join(home, 'dist/ssh-agent.cjs'));
});

it('lets nothing of the environment into Node: no preload, no debugger, no debug output', () => {
  const preload = join(base, 'preload.cjs');
  writeFileSync(preload, `require('node:fs').writeFileSync(${JSON.stringify(marker)}, 'x');`);
  const env = {
    NODE_OPTIONS: `--require "${preload}" --inspect=127.0.0.1:0`,
    NODE_DEBUG: 'fs,module',
    NODE_DEBUG_NATIVE: 'mksnapshot',
    NODE_V8_COVERAGE: join(base, 'coverage'),
    NODE_REDIRECT_WARNINGS: marker,
    OPENSSL_CONF: '/nonexistent',
    NODE_CHANNEL_FD: '0',
  };
  // The same variables do bite a Node that was started without the launcher.
  run(process.execPath, ['-e', '0'], { NODE_OPTIONS: env.NODE_OPTIONS });
  expect(existsSync(marker)).toBe(true);
  rmSync(marker);
  const { own, restored } = seen(program, ['command'], env);
  expect(existsSync(marker)).toBe(false);
  expect(existsSync(join(base, 'coverage'))).toBe(false);
  expect(Object.keys(own).filter((name) => DROPPED.includes(name))).toEqual([]);
  expect(restored).toEqual(env);
});

it('gives a command every variable back: odd names, what shells change, empty and long values', () => {
  const env = {
    ...Object.fromEntries(DROPPED.filter((name) => !/^(LD|DYLD|MALLOC|GLIBC)_/.test(name)).map((name) => [name, ''])),
    'BASH_FUNC_module%%': '() { eval "$@"\n}',
    'a.b-c': 'x',
    LD_LIBRARY_PATH: '/nonexistent',
    PWD: '/somewhere/else',
    IFS: ':',
    OPTIND: '7',
    SHLVL: '3',
    _: '/usr/bin/env',
    HOME: '/home/o\'"$`\n',
    LONG: 'x'.repeat(100_000),
    name: 'value',
  };
  expect(seen(program, ['command'], env).restored).toEqual(env);
});

it('keeps a stranger from slipping variables to a command under its prefix', () => {
  const env = {
    LATCHKEY_KEPT_NODE_OPTIONS: '--inspect',
    LATCHKEY_KEPT_ENTRIES: btoa('EVIL=1'),
    LATCHKEY_KEPT_STATE: '1\nSigBlk:\t01\nSigIgn:\t02',
    LATCHKEY_KEPT_DESCRIPTORS: '77',
    LATCHKEY_KEPT_WORDS: 'cmdline',
    A: '1',
  };
  const command = seen(program, ['command'], env);
  expect(command.restored).toEqual({ A: '1' });
  expect(command.state).toMatchObject({ ignored: '0', blocked: '0', words: false });
  expect(command.state.descriptors).not.toContain(77);
  const plain = seen(program, ['-s'], env);
  expect(plain.restored.EVIL).toBeUndefined();
  expect(plain.state).toEqual({ ignored: '0', blocked: '0', descriptors: [], words: false });
});

it('restores no variable that is not on the list', () => {
  const env = { LATCHKEY_KEPT_BASH_ENV: '/x' };
  restoreKept(env);
  expect(env).toEqual({ LATCHKEY_KEPT_BASH_ENV: '/x' });
});

it('drops what was kept for a program that wants none of it', () => {
  const env = {
    LATCHKEY_KEPT_NODE_OPTIONS: '--inspect',
    LATCHKEY_KEPT_ENTRIES: '',
    LATCHKEY_KEPT_STATE: '500',
    LATCHKEY_KEPT_DESCRIPTORS: '3',
    LATCHKEY_KEPT_WORDS: 'cmdline',
    A: '1',
  };
  dropKept(env);
  expect(env).toEqual({ A: '1' });
});

it('tells for a command which limit, signals and descriptors it was started with', () => {
  const script = 'ulimit -Sn 300; trap "" HUP PIPE QUIT; exec 3</dev/null 5<>/dev/null 17</dev/null; exec "$0" command';
  const { state } = seen('/bin/bash', ['--norc', '-c', script, program]);
  // HUP is 1, QUIT 3, PIPE 13.
  expect(state).toMatchObject({ openFiles: 300, ignored: String(0x1005), blocked: '0', words: false });
  // Who runs the tests may leave descriptors past 15 open to all its children.
  expect(state.descriptors.filter((fd) => fd < 16)).toEqual([3, 5]);
  expect(state.descriptors).toContain(17);
});

it('does not count its own script among the descriptors, wherever that is', () => {
  const files = [3, 4, 5, 6, 7, 8, 9];
  const script = `exec ${files.map((fd) => `${fd}</dev/null`).join(' ')}; exec "$0" command`;
  const { descriptors } = seen('/bin/bash', ['--norc', '-c', script, program]).state;
  expect(descriptors.filter((fd) => fd < 16)).toEqual(files);
});

it('leaves the command line as it is where it is not plain ASCII, and else shows the name of the program', () => {
  const odd = seen('/bin/bash', ['--norc', '-c', `exec "$0" command $'a\\xff\\xc3b' '' $'\\x81'`, program]);
  expect(odd.state).toMatchObject({ words: true });
  expect(odd.line.endsWith('\0command\0a\xff\xc3b\0\0\x81\0')).toBe(true);
  const plain = seen(program, ['command', 'a b', '~!']);
  expect(plain.state).toMatchObject({ words: false });
  expect(plain.title).toBe('ssh-agent');
});

it('takes what it cannot read as not known', () => {
  const unknown = { openFiles: undefined, ignored: 0n, blocked: 0n, descriptors: [], words: false };
  expect(keptState({})).toEqual(unknown);
  const state = 'unlimited\nSigBlk:\txyz\nSigIgn:\t00000000000000000001';
  expect(keptState({ LATCHKEY_KEPT_STATE: state, LATCHKEY_KEPT_DESCRIPTORS: ' 1 2 -3 x 4x 0x5 ' })).toEqual(unknown);
});

it('gives entries back byte for byte, and leaves out those that have no name', () => {
  const kept = Buffer.from('a.b=\xff\0\xc3\nc\xe4=\n=x\nlonely\nd=e=f', 'latin1').toString('base64');
  const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');
  const entries = keptEntries({ LATCHKEY_KEPT_ENTRIES: kept })?.map(({ name, value }) => [text(name), text(value)]);
  expect(entries).toEqual([
    ['a.b', '\xff\n\xc3'],
    ['c\xe4', ''],
    ['d', 'e=f'],
  ]);
  expect(keptEntries({})).toBeUndefined();
});

it('becomes Node: one process, which ps shows under the name of the program', async () => {
  const child = spawn(program, ['wait'], { env: {}, stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    const pid = await new Promise<string>((resolve) => child.stdout.once('data', (data) => resolve(String(data))));
    expect(Number(pid)).toBe(child.pid);
    const ps = spawnSync('ps', ['-o', 'comm=,args=', '-p', pid.trim()], { encoding: 'utf8' });
    // (Node 24 and later give the thread a name of their own; the build has the programs put that right.)
    expect(ps.stdout).toMatch(/^\S+\s+ssh-agent\n$/);
    expect(readFileSync(`/proc/${pid.trim()}/task/${pid.trim()}/children`, 'utf8')).toBe('');
  } finally {
    child.kill('SIGKILL');
  }
});

it('takes the node of PATH where the recorded one is gone, and says what to install where there is none', () => {
  install(join(base, 'no-such-node'));
  try {
    const path = join(base, 'path');
    mkdirSync(path);
    symlinkSync(process.execPath, join(path, 'node'));
    expect(seen(program, [], { PATH: path }).file).toBe(join(home, 'dist/ssh-agent.cjs'));
    for (const env of [{ PATH: '' }, { PATH: base }]) {
      const { status, stdout, stderr } = run(program, ['-l'], env);
      expect({ status, stdout }).toEqual({ status: 127, stdout: '' });
      expect(stderr).toContain('ssh-agent: no Node.js');
      expect(stderr).toContain('Install Node.js >=20.20');
    }
  } finally {
    install(process.execPath);
  }
});

it('says that it was never built, and exits 127', () => {
  const lonely = join(base, 'lonely');
  writeFileSync(lonely, fill('ssh-add', { home: join(base, 'nowhere'), node: process.execPath, DROPPED, SHELLS_OWN }));
  chmodSync(lonely, 0o755);
  const { status, stderr } = run(lonely, []);
  expect(status).toBe(127);
  expect(stderr).toContain('npm run build');
});
