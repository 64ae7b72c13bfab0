/** `latchkey watch`, `approve` and `deny` on real terminals (tmux) and off them, against the real control socket's server. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { build } from 'esbuild';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { UNREAD_MS } from '../../src/cli/watchkeys.ts';
import { openScreen, type Screen } from '../support/tmux.ts';
import { forwardedQuestion, localQuestion, type Questions, serveQuestions } from '../support/watched.ts';

const root = resolve(import.meta.dirname, '../..');
const folder = mkdtempSync(join(tmpdir(), 'latchkey-watch-'));
const program = join(folder, 'watching.cjs');
// The bundle lies outside of the checkout, and finds koffi there.
const env = { NODE_PATH: join(root, 'node_modules') };
const IDLE = 'Nothing waits for an answer. q quits.';

let questions: Questions;
let screen: Screen | undefined;
const children: ChildProcess[] = [];

beforeAll(() =>
  build({
    entryPoints: [join(import.meta.dirname, 'fixtures/watching.ts')],
    bundle: true,
    platform: 'node',
    format: 'cjs',
    outfile: program,
    external: ['koffi'],
    logLevel: 'error',
  }),
);
beforeEach(async () => {
  questions = await serveQuestions(mkdtempSync(join(folder, 'agent-')));
});
afterEach(() => {
  screen?.close();
  screen = undefined;
  questions.stop();
  for (const child of children.splice(0)) child.kill('SIGKILL');
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const words = (...args: readonly string[]): readonly string[] => [
  process.execPath,
  program,
  ...args,
  '--socket',
  questions.socket,
];

/** Opens `latchkey watch` in a shell, so that what is left of the terminal can be seen afterwards. */
async function watch(columns = 80, rows = 30, more: Readonly<Record<string, string>> = {}): Promise<Screen> {
  const shell = [
    '/bin/sh',
    '-c',
    `"$@"; echo "exit code $?"; stty -a | grep -o -- '-\\?echo\\>'; exec sleep 600`,
    'sh',
  ];
  // tmux would set TERM itself.
  const settings = Object.entries(more).map(([name, value]) => `${name}=${value}`);
  const argv = ['/usr/bin/env', ...settings, ...shell, ...words('watch')];
  screen = openScreen(folder, argv, { columns, rows, env });
  if (more.TERM !== 'dumb') await screen.shows(IDLE);
  return screen;
}

/** As long as a person takes to begin reading. */
const read = (): Promise<void> => new Promise((done) => setTimeout(done, UNREAD_MS + 200));

async function answered(count: number): Promise<Questions['answered']> {
  while (questions.answered.length < count) await new Promise((done) => setTimeout(done, 20));
  return questions.answered;
}

const use = {
  record: { time: '2026-01-02T03:04:05Z', kind: 'sign', outcome: 'allowed', sentence: 'log in as git on github.com' },
};

describe('latchkey watch on a terminal', () => {
  it.each([80, 40])('shows uses and a question in %i columns, and answers it', async (columns) => {
    const { shows, type } = await watch(columns);
    questions.send('use', use);
    questions.ask(forwardedQuestion);
    const shown = await shows('n  refuse');
    expect(shown).toMatch(/^\d\d:04:05 allowed +log in as git/m);
    expect(shown).toMatch(/^ q2 {2}FORWARDED +\d+ s$/m);
    expect(shown).not.toContain(IDLE);
    await read();
    type('d');
    expect(await answered(1)).toEqual([{ command: 'approve', given: { id: 'q2', by: 'watch', scope: 'destination' } }]);
    const after = await shows(IDLE);
    expect(after).toContain('q2 allowed by watch: destination');
    expect(after).not.toContain('FORWARDED');
  });

  it('takes no key that was typed before the question could be read', async () => {
    const { shows, type } = await watch();
    type('y', 'y', 'y');
    questions.ask(localQuestion);
    await shows('allow this once');
    type('y');
    await shows('Not taken');
    await read();
    type('n');
    expect(await answered(1)).toEqual([{ command: 'deny', given: { id: 'q1', by: 'watch' } }]);
  });

  it('goes through several questions, and shows a rule before it is written', async () => {
    const { shows, type } = await watch();
    questions.ask(localQuestion);
    questions.ask(forwardedQuestion);
    await shows('1 of 2');
    type('Down');
    await shows('2 of 2');
    await read();
    type('a');
    await shows('host = ["db1.example.org"]');
    await read();
    type('y');
    expect(await answered(1)).toEqual([{ command: 'approve', given: { id: 'q2', by: 'watch', scope: 'always' } }]);
    await shows('git rebase (pid 4711)');
  });

  it('follows the size of its window, and leaves no rubbish', async () => {
    const { shows, resize, text, history } = await watch(100, 40);
    questions.send('use', use);
    questions.ask(forwardedQuestion);
    await shows('n  refuse');
    for (const columns of [60, 30, 45, 90]) {
      resize(columns, 40);
      await read();
      const bars = text()
        .split('\n')
        .filter((line) => line.startsWith(' q2  FORWARDED'));
      expect(bars.length, `${columns} columns:\n${text()}`).toBe(1);
      expect(history()).toContain('04:05 allowed');
    }
  });

  it('counts down, and says when a question is over', async () => {
    const { shows } = await watch();
    questions.ask({ ...localQuestion, secondsLeft: 30 });
    await shows('30 s');
    await shows('28 s');
    questions.withdraw('q1', 'the client hung up');
    expect(await shows(IDLE)).toContain('q1 is over: the client hung up');
  });

  it('says why an answer did not arrive', async () => {
    const { shows, type } = await watch();
    questions.send('question', { question: localQuestion });
    await shows('allow this once');
    await read();
    type('y');
    await shows('Not answered: no question q1 waits');
  });

  it('ends with q and with Ctrl-C, and gives the terminal back', async () => {
    for (const key of ['q', 'C-c']) {
      const { shows, type, format, close } = await watch();
      expect(format('#{cursor_flag}')).toBe('0');
      type(key);
      const shown = await shows('exit code 0');
      expect(shown).not.toContain(IDLE);
      expect(await shows('echo')).toMatch(/^echo$/m);
      expect(format('#{cursor_flag} #{wrap_flag}')).toBe('1 1');
      close();
      screen = undefined;
    }
  });

  it('gives the terminal back when the agent ends, which it says', async () => {
    const { shows, format } = await watch();
    questions.ask(localQuestion);
    await shows('allow this once');
    questions.stop();
    const shown = await shows('exit code 2');
    expect(shown).toContain('latchkey: the agent has ended');
    expect(shown).not.toContain('allow this once');
    expect(await shows('echo')).toMatch(/^echo$/m);
    expect(format('#{cursor_flag} #{wrap_flag}')).toBe('1 1');
  });

  it.each(['TERM', 'HUP', 'INT', 'QUIT'])('gives the terminal back when SIG%s ends it', async (signal) => {
    const { shows, format } = await watch();
    spawnSync('pkill', [`-${signal}`, '-P', format('#{pane_pid}')]);
    expect(await shows('exit code')).toMatch(/^exit code (130|131|143|129)$/m);
    expect(await shows('echo')).toMatch(/^echo$/m);
    expect(format('#{cursor_flag} #{wrap_flag}')).toBe('1 1');
  });

  it('is stopped by Ctrl-Z and goes on as before, with nothing taken for an answer', async () => {
    screen = openScreen(folder, ['/bin/bash', '--norc', '-i'], { columns: 80, rows: 30, env: { ...env, PS1: '$ ' } });
    screen.type(words('watch').join(' '), 'Enter');
    await screen.shows(IDLE);
    questions.ask(localQuestion);
    await screen.shows('allow this once');
    screen.type('C-z');
    const stopped = await screen.shows('Stopped');
    expect(stopped).not.toContain('allow this once');
    expect(screen.format('#{cursor_flag}')).toBe('1');
    screen.type('fg', 'Enter');
    await screen.shows('allow this once');
    screen.type('y');
    await screen.shows('Not taken');
    await read();
    screen.type('y');
    expect(await answered(1)).toMatchObject([{ command: 'approve' }]);
  });

  it('has colours, none with NO_COLOR, and nothing at all on a dumb terminal', async () => {
    const COLOUR = /\x1b\[(?:\d+;)*[34][1-7](?:;\d+)*m/;
    for (const [more, isColoured] of [
      [{}, true],
      [{ NO_COLOR: '1' }, false],
    ] as const) {
      const { shows, coloured, close } = await watch(80, 30, more);
      questions.ask(localQuestion);
      await shows('allow this once');
      expect(COLOUR.test(coloured())).toBe(isColoured);
      close();
      screen = undefined;
      questions.withdraw('q1', 'the test goes on');
    }
    questions.ask(localQuestion);
    const { shows, coloured, type } = await watch(80, 30, { TERM: 'dumb' });
    await shows('allow this once');
    expect(coloured()).not.toContain('\x1b[');
    await read();
    type('y');
    expect(await answered(1)).toMatchObject([{ command: 'approve' }]);
    await shows('q1 allowed by watch');
  });

  it('draws names of others and wide characters where they belong', async () => {
    const { shows } = await watch(40);
    questions.ask({ ...localQuestion, sentence: `sign for \x1b[2J\u202e${'鍵'.repeat(40)}é` });
    const shown = await shows('allow this once');
    expect(shown).toContain('\\x1b[2J\\u{202e}');
    expect(shown.replaceAll('\n', '')).toContain(`${'鍵'.repeat(40)}é`);
  });
});

describe('latchkey watch off a terminal', () => {
  function lines(...args: readonly string[]): { next(): Promise<string>; readonly child: ChildProcess } {
    const [node = '', ...rest] = words('watch', ...args);
    const child = spawn(node, rest, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    children.push(child);
    const iterator = createInterface(child.stdout)[Symbol.asyncIterator]();
    return { next: async () => (await iterator.next()).value, child };
  }

  it('prints one event a line as JSON, those first that wait already', async () => {
    questions.ask(localQuestion);
    const { next, child } = lines('--json');
    expect(JSON.parse(await next())).toEqual({
      event: 'question',
      question: JSON.parse(JSON.stringify(localQuestion)),
    });
    questions.send('use', use);
    expect(JSON.parse(await next())).toEqual({ version: 1, event: 'use', ...use });
    questions.withdraw('q1', '\u009b31m');
    const line = await next();
    expect(line).toContain('\\u009b31m');
    questions.stop();
    expect(await new Promise((done) => child.once('exit', done))).toBe(2);
  });

  it('prints lines for people', async () => {
    const { next } = lines();
    await new Promise((done) => setTimeout(done, 500));
    questions.ask(localQuestion);
    expect(await next()).toBe('q1  sign a git commit (namespace git), for git rebase in ~/src/latchkey (90 s left)');
    expect(await next()).toBe('  verified  program /usr/bin/ssh-keygen, pid 4712');
    questions.send('use', use);
    let line = '';
    while (!line.includes('allowed')) line = await next();
    expect(line).toMatch(/^\d\d:04:05 allowed {2}log in as git on github.com$/);
  });
});

describe('latchkey approve and deny', () => {
  const run = (...args: readonly string[]): Promise<{ code: number | null; stdout: string; stderr: string }> =>
    new Promise((done) => {
      const [node = '', ...rest] = words(...args);
      const child = spawn(node, rest, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
      let stdout = '';
      let stderr = '';
      child.stdout.on('data', (chunk) => {
        stdout += chunk;
      });
      child.stderr.on('data', (chunk) => {
        stderr += chunk;
      });
      child.once('close', (code) => done({ code, stdout, stderr }));
    });

  it('list what waits', async () => {
    expect(await run('approve')).toMatchObject({ code: 0, stdout: 'Nothing waits for an answer.\n' });
    questions.ask(localQuestion);
    expect(await run('deny')).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(
        /^q1 {2}sign a git commit .*--for command {6}until git rebase \(pid 4711\) ends\n$/s,
      ),
    });
    questions.ask(forwardedQuestion);
    expect((await run('approve')).stdout).toContain(
      '--for always       always, by a rule\n      [[rule]]\n      name = ',
    );
    questions.withdraw('q2', 'the test goes on');
    expect(JSON.parse((await run('approve', '--json')).stdout)).toEqual({
      questions: [JSON.parse(JSON.stringify(localQuestion))],
    });
  });

  it('answer', async () => {
    questions.ask(localQuestion);
    questions.ask(forwardedQuestion);
    expect(await run('approve', 'q1', '--for', 'command')).toEqual({
      code: 0,
      stdout: 'q1: allowed (command)\n',
      stderr: '',
    });
    expect(await run('deny', 'q2', '--json')).toEqual({ code: 0, stdout: '{"id":"q2"}\n', stderr: '' });
    expect(questions.answered).toEqual([
      { command: 'approve', given: { id: 'q1', by: 'approve', scope: 'command' } },
      { command: 'deny', given: { id: 'q2', by: 'deny' } },
    ]);
  });

  it('fail in words', async () => {
    expect(await run('approve', 'q9')).toEqual({ code: 1, stdout: '', stderr: 'latchkey: no question q9 waits\n' });
    expect(await run('approve', 'q1', '--for', 'ever')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('--for takes'),
    });
    expect(await run('approve', '--for', 'once')).toMatchObject({ code: 1 });
    expect(await run('deny', 'q1', 'q2')).toMatchObject({ code: 1, stderr: 'unknown word: q2\n' });
    expect(await run('deny', 'q1', '--for', 'once')).toMatchObject({ code: 1 });
    questions.stop();
    expect(await run('approve')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('no Latchkey agent answers'),
    });
  });
});
