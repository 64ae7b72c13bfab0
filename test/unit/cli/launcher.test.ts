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
import { DROPPED, dropKept, restoreKept, SHELLS_OWN } from '../../../src/cli/environment.ts';

// A folder name with what shells stumble over.
const base = realpathSync(mkdtempSync(join(tmpdir(), "latchkey launcher's ")));
const home = join(base, 'home');
const marker = join(base, 'marker');
const program = join(home, 'bin/ssh-agent');

const PROBE = `
const { readFileSync } = require('node:fs');
const { restoreKept } = require('./environment.cjs');
if (process.argv[2] === 'wait') { console.log(process.pid); setInterval(() => {}, 1000); }
else {
  const own = { ...process.env };
  const restored = { ...process.env };
  restoreKept(restored);
  console.log(JSON.stringify({ args: process.argv.slice(2), file: process.argv[1], pid: process.pid, own, restored,
    title: process.title, comm: readFileSync('/proc/self/comm', 'utf8').trim(), execArgv: process.execArgv }));
}
`;

interface Seen {
  readonly args: string[];
  readonly file: string;
  readonly pid: number;
  readonly own: Record<string, string>;
  readonly restored: Record<string, string>;
  readonly title: string;
  readonly comm: string;
  readonly execArgv: string[];
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
  const env = { LATCHKEY_KEPT_NODE_OPTIONS: '--inspect', LATCHKEY_KEPT_ENTRIES: btoa('EVIL=1'), A: '1' };
  expect(seen(program, ['command'], env).restored).toEqual({ A: '1' });
  expect(seen(program, ['-s'], env).restored.EVIL).toBeUndefined();
  const plain = { LATCHKEY_KEPT_BASH_ENV: '/x' };
  restoreKept(plain);
  expect(plain).toEqual({ LATCHKEY_KEPT_BASH_ENV: '/x' });
});

it('drops what was kept for a program that wants none of it', () => {
  const env = { LATCHKEY_KEPT_NODE_OPTIONS: '--inspect', LATCHKEY_KEPT_ENTRIES: '', A: '1' };
  dropKept(env);
  expect(env).toEqual({ A: '1' });
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
