/** Records of the built agent, written while real programs use it, and read by the built `latchkey`. */
import { spawn, spawnSync } from 'node:child_process';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  type AgentProcess,
  cleanEnv,
  program,
  type StartOptions,
  startAgentProcess,
  until,
} from '../support/agentprocess.ts';

let home: string;
let state: string;
let folder: string;
let agents: AgentProcess[];

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'latchkey-records-'));
  state = join(home, 'state');
  folder = join(state, 'latchkey', 'records');
  agents = [];
  const made = spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'test@key', '-f', join(home, 'key')]);
  expect(made.status).toBe(0);
  writeFileSync(join(home, 'file'), 'content\n');
});

afterEach(async () => {
  for (const agent of agents) await agent.stop('SIGKILL');
  rmSync(home, { recursive: true, force: true });
});

const env = (agent?: AgentProcess): Record<string, string> =>
  cleanEnv(home, { XDG_STATE_HOME: state, ...(agent === undefined ? {} : { SSH_AUTH_SOCK: agent.socket }) });

/** The drop-in agent with a key, and records in `state`. */
async function start(options: StartOptions = {}): Promise<AgentProcess> {
  const agent = await startAgentProcess({ ...options, env: { XDG_STATE_HOME: state, ...options.env } });
  agents.push(agent);
  expect(spawnSync(program('ssh-add'), ['-q', join(home, 'key')], { env: env(agent) }).status).toBe(0);
  return agent;
}

/** Signs a file with ssh-keygen. @returns whether it could */
function sign(agent: AgentProcess, namespace: string): boolean {
  rmSync(join(home, 'file.sig'), { force: true });
  const args = ['-q', '-Y', 'sign', '-f', join(home, 'key.pub'), '-n', namespace, join(home, 'file')];
  return spawnSync('ssh-keygen', args, { env: env(agent) }).status === 0 && existsSync(join(home, 'file.sig'));
}

function latchkey(agent: AgentProcess | undefined, ...args: readonly string[]) {
  const { status, stdout, stderr } = spawnSync(program('latchkey'), args, { env: env(agent), encoding: 'utf8' });
  return { status, stdout, stderr };
}

type Line = Record<string, unknown>;
const files = (): string[] => (existsSync(folder) ? readdirSync(folder).sort() : []);
const linesOf = (name: string): Line[] =>
  readFileSync(join(folder, name), 'utf8')
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line));
const signatures = (): unknown[] =>
  files()
    .flatMap(linesOf)
    .filter(({ kind }) => kind === 'sign')
    .map(({ namespace, outcome }) => `${namespace} ${outcome}`);

describe('the records', () => {
  it('have each signature by the time it is there, with hashes that sha256sum finds', async () => {
    const agent = await start();
    for (const namespace of ['one', 'two', 'three']) {
      expect(sign(agent, namespace)).toBe(true);
      expect(signatures().at(-1)).toBe(`${namespace} allowed`);
    }
    expect(latchkey(agent, 'log', '--verify')).toMatchObject({
      status: 0,
      stdout: expect.stringContaining('is there'),
    });
    await agent.stop();
    const [name = ''] = files();
    const script = `while IFS= read -r line; do
      printf %s "$line" | sed 's/,"hash":"[0-9a-f]*"}$/}/' | tr -d '\\n' | sha256sum | cut -d' ' -f1
    done <"$1"`;
    const { stdout } = spawnSync('bash', ['-c', script, 'bash', join(folder, name)], { encoding: 'utf8' });
    const lines = linesOf(name);
    expect(stdout.trim().split('\n')).toEqual(lines.map(({ hash }) => hash));
    expect(lines.slice(1).map(({ previous }) => previous)).toEqual(lines.slice(0, -1).map(({ hash }) => hash));
    expect(lines.at(-1)).toMatchObject({ kind: 'end' });
    expect(latchkey(undefined, 'log', '--verify').stdout).toMatch(/^fine: /);
  });

  it('hold nothing of what was signed, nor of the key', async () => {
    const agent = await start();
    expect(sign(agent, 'one')).toBe(true);
    const all = files()
      .map((name) => readFileSync(join(folder, name), 'utf8'))
      .join('');
    const signature = readFileSync(join(home, 'file.sig'), 'utf8').split('\n')[1] ?? '';
    expect(all).not.toContain(signature.slice(0, 20));
    expect(all).not.toContain('PRIVATE');
    expect(all).not.toContain(readFileSync(join(home, 'key'), 'utf8').split('\n')[2]?.slice(0, 20));
  });

  it('outlive a killed agent and half a line, and the next agent says so', async () => {
    const first = await start();
    expect(sign(first, 'one')).toBe(true);
    await first.stop('SIGKILL');
    appendFileSync(join(folder, files()[0] ?? ''), '{"id":"half');
    expect(latchkey(undefined, 'log', '--verify')).toMatchObject({ status: 1, stdout: expect.stringContaining('cut') });
    const second = await start();
    expect(sign(second, 'two')).toBe(true);
    expect(linesOf(files()[1] ?? '')[0]).toMatchObject({ follows: files()[0], cut: true });
    expect(latchkey(second, 'log', '--verify')).toMatchObject({
      status: 0,
      stdout: expect.stringContaining('note: cut'),
    });
    expect(latchkey(second, 'log', '--json', '--kind', 'sign').stdout.match(/"namespace":"(one|two)"/g)).toHaveLength(
      2,
    );
  });

  it('of two agents at once stand apart, and are read as one', async () => {
    const [a, b] = [await start(), await start()];
    for (const namespace of ['one', 'two', 'three', 'four'])
      expect(sign(namespace.length === 3 ? a : b, namespace)).toBe(true);
    expect(files()).toHaveLength(2);
    const { stdout } = latchkey(a, 'log', '--json', '--kind', 'sign');
    const shown = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line).namespace);
    expect(shown).toEqual(['one', 'two', 'three', 'four']);
    for (const agent of [a, b]) expect(latchkey(agent, 'log', '--verify').status).toBe(0);
  });

  it('show an edited line while the agent runs, which goes on', async () => {
    const agent = await start();
    expect(sign(agent, 'one')).toBe(true);
    const path = join(folder, files()[0] ?? '');
    const text = readFileSync(path, 'utf8');
    const line = text.split('\n').findIndex((one) => one.includes('"namespace":"one"')) + 1;
    writeFileSync(path, text.replace('"namespace":"one"', '"namespace":"two"'));
    const { status, stdout } = latchkey(agent, 'log', '--verify');
    expect([status, stdout.split('\n')[0]]).toEqual([1, `${files()[0]}:${line}: was changed: its hash does not fit`]);
    expect(sign(agent, 'three')).toBe(true);
    expect(signatures()).toEqual(['two allowed', 'three allowed']);
  });

  it('begin anew where somebody removed them, and say so', async () => {
    const agent = await start();
    expect(sign(agent, 'one')).toBe(true);
    const [gone = ''] = files();
    rmSync(state, { recursive: true });
    // The agent looks once a second.
    await until('a new file', () => sign(agent, 'two') && files().length > 0);
    expect(linesOf(files()[0] ?? '')[0]).toMatchObject({
      follows: gone,
      reason: expect.stringContaining('by something else'),
    });
    const { status, stdout } = latchkey(agent, 'log', '--verify');
    expect([status, stdout]).toEqual([1, expect.stringContaining(`the file before it is missing: ${gone}`)]);
  });
});

describe('a disk that takes nothing', () => {
  const FULL = ['/bin/sh', '-c', 'ulimit -f 0; exec "$@"', 'sh'];

  function configure(agentHome: string, unwritable: string): Record<string, string> {
    const config = join(agentHome, 'config');
    mkdirSync(join(config, 'latchkey'), { recursive: true });
    writeFileSync(join(config, 'latchkey', 'config.toml'), `[records]\nunwritable = "${unwritable}"\n`);
    return { XDG_CONFIG_HOME: config };
  }

  it('costs the signature where the owner wants no use without a record', async () => {
    const agent = await start({ wrapper: FULL, env: configure(home, 'refuse') });
    expect(sign(agent, 'one')).toBe(false);
    expect(latchkey(agent, 'status', '--json').stdout).toMatch(/"unwritable": "EFBIG, since /);
  });

  it('costs only the record where the owner wants a warning', async () => {
    const agent = await start({ wrapper: FULL, env: configure(home, 'warn') });
    expect(sign(agent, 'one')).toBe(true);
    expect(latchkey(agent, 'status', '--json').stdout).toContain('signatures go on WITHOUT A RECORD');
    expect(signatures()).toEqual([]);
  });
});

describe('the commands', () => {
  it('follow what comes', async () => {
    const agent = await start();
    const follow = spawn(program('latchkey'), ['log', '--follow', '-n', '0', '--json'], { env: env(agent) });
    let shown = '';
    follow.stdout.setEncoding('utf8').on('data', (text: string) => {
      shown += text;
    });
    try {
      await until('the line of a new signature', () => sign(agent, 'one') && shown.includes('"namespace":"one"'));
      for (const line of shown.trim().split('\n'))
        expect(JSON.parse(line)).toMatchObject({ kind: 'sign', outcome: 'allowed' });
    } finally {
      follow.kill();
    }
  });

  it('join the agent with its records, and explain one of them', async () => {
    const agent = await start();
    expect(sign(agent, 'one')).toBe(true);
    const keys = JSON.parse(latchkey(agent, 'keys', '--json').stdout);
    expect(keys).toMatchObject({
      agent: true,
      keys: [{ comment: 'test@key', inAgent: true, allowed: 1, places: [{ name: 'one', uses: 1 }] }],
    });
    expect(spawnSync(program('ssh-add'), ['-D'], { env: env(agent) }).status).toBe(0);
    expect(latchkey(agent, 'keys').stdout).toContain('not in the agent now');
    const { id } = JSON.parse(latchkey(agent, 'log', '--json', '--kind', 'sign').stdout);
    const { status, stdout } = latchkey(agent, 'why', id);
    expect([status, stdout]).toEqual([
      0,
      expect.stringMatching(/outcome +allowed[\s\S]*test@key[\s\S]*\/usr\/bin\/ssh-keygen/),
    ]);
    await agent.stop();
    expect(latchkey(undefined, 'why', id).stdout).toBe(stdout);
  });
});
