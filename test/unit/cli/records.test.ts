import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Use } from '../../../src/agent/ports.ts';
import { createRecords, type FileRecords } from '../../../src/backends/records.ts';
import { type Command, Usage } from '../../../src/cli/command.ts';
import { loadConfiguration } from '../../../src/cli/configuration.ts';
import { keysCommand } from '../../../src/cli/keys.ts';
import { logCommand } from '../../../src/cli/log.ts';
import type { Output } from '../../../src/cli/output.ts';
import { sinceGiven } from '../../../src/cli/recordfilter.ts';
import { recordLines } from '../../../src/cli/recordwords.ts';
import { whyCommand } from '../../../src/cli/why.ts';

let home: string;
let records: FileRecords;
let time: number;
let servers: Server[];

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'latchkey-log-'));
  time = Date.UTC(2026, 10, 20, 12);
  servers = [];
  records = createRecords(join(home, 'latchkey', 'records'), { unwritable: 'refuse', now: () => time });
});

afterEach(() => {
  records.close();
  for (const server of servers) server.close();
  rmSync(home, { recursive: true, force: true });
});

const key = {
  fingerprint: 'SHA256:uNiVztksCsDhcc0u9e8BrrJXVGDxlUkDYzaZe1rRmMY',
  type: 'ssh-ed25519',
  comment: 'carl@laptop',
};
const other = { fingerprint: 'SHA256:AAAVztksCsDhcc0u9e8BrrJXVGDxlUkDYzaZe1rRmMY', type: 'ssh-rsa', comment: 'old' };
const github = {
  fingerprint: 'SHA256:gggVztksCsDhcc0u9e8BrrJXVGDxlUkDYzaZe1rRmMY',
  names: ['github.com'],
  forwards: false,
};
const bastion = {
  fingerprint: 'SHA256:bbbVztksCsDhcc0u9e8BrrJXVGDxlUkDYzaZe1rRmMY',
  names: ['bastion'],
  forwards: true,
};
const db1 = {
  fingerprint: 'SHA256:dddVztksCsDhcc0u9e8BrrJXVGDxlUkDYzaZe1rRmMY',
  names: ['db1', 'db1.lan'],
  forwards: false,
};
const peer = {
  uid: 1000,
  pid: 4711,
  programs: ['/usr/bin/ssh', '/usr/bin/git'],
  claimedCommand: 'git push in ~/src/x',
};
const login = { kind: 'sign', outcome: 'allowed', key, purpose: 'login', forwarded: false, peer } as const;
const push: Use = { ...login, sentence: 'log in as git on github.com', user: 'git', hosts: [github] };
const viaBastion: Use = {
  ...login,
  sentence: 'via bastion: log in as root on db1',
  user: 'root',
  hosts: [bastion, db1],
  forwarded: true,
  outcome: 'denied',
  ground: { kind: 'default', text: 'a login, forwarded' },
  reason: 'not confirmed: refused by the owner',
  answer: { by: 'watch', scope: 'once', seconds: 4.2 },
};
const commit: Use = { ...login, key: other, sentence: 'sign a git commit', purpose: 'sshsig', namespace: 'git' };

/** Records `uses`, an hour apart. @returns their ids */
function record(...uses: readonly Use[]): string[] {
  return uses.map((use) => {
    time += 3_600_000;
    const id = records.append(use);
    expect(records.flush()).toBe(true);
    return id;
  });
}

async function run(command: Command, ...argv: readonly string[]) {
  const lines: string[] = [];
  const errors: string[] = [];
  const output: Output = {
    line: (text) => lines.push(text),
    lines: (texts) => lines.push(...texts),
    error: (text) => errors.push(text),
    prompt: () => {},
    hint: () => {},
    debug: () => {},
    setDetail: () => {},
  };
  const env = { HOME: home, XDG_STATE_HOME: home, XDG_CONFIG_HOME: home, SSH_AUTH_SOCK: join(home, 'agent') };
  return { code: await command.run(argv, env, output), lines, errors };
}

/** An agent's control socket that gives `results`, by command. */
function control(results: Readonly<Record<string, unknown>>): Promise<void> {
  const server = createServer((socket) => {
    socket.on('data', (bytes) => {
      const { command } = JSON.parse(bytes.toString());
      const found = results[command];
      const answer = found === undefined ? { ok: false, error: 'no such record' } : { ok: true, result: found };
      socket.end(`${JSON.stringify({ version: 1, ...answer })}\n`);
    });
    socket.on('error', () => {});
  });
  servers.push(server);
  return new Promise((done) => server.listen(join(home, 'agent.control'), done));
}

const sentencesOf = (lines: readonly string[]): unknown[] => lines.map((line) => JSON.parse(line).sentence);

describe('latchkey log', () => {
  it('shows a line for each use, with local time and id', async () => {
    const [id] = record(push, viaBastion);
    const { code, lines, errors } = await run(logCommand);
    expect([code, errors]).toEqual([0, []]);
    expect(lines).toHaveLength(2);
    expect(lines[0]).toMatch(
      /^2026-11-20 \d\d:00:00 {2}allowed {2}log in as git on github\.com {2}\[[0-9a-z]{4}-\d+\]$/,
    );
    expect(lines[0]).toContain(`[${id}]`);
    expect(lines[1]).toContain(
      'denied   via bastion: log in as root on db1: not confirmed: refused by the owner (by watch)',
    );
  });

  it.each<[readonly string[], readonly unknown[]]>([
    [[], [push, viaBastion, commit]],
    [['--denied'], [viaBastion]],
    [['--forwarded'], [viaBastion]],
    [['--key', 'SHA256:AAAV'], [commit]],
    [
      ['--key', key.fingerprint],
      [push, viaBastion],
    ],
    [
      ['--key', 'carl@*'],
      [push, viaBastion],
    ],
    [['--key', 'carl'], []],
    [['--host', 'db1.lan'], [viaBastion]],
    [['--host', 'bast*'], [viaBastion]],
    [['--host', github.fingerprint], [push]],
    [
      ['--kind', 'sign'],
      [push, viaBastion, commit],
    ],
    [['--kind', 'add'], []],
    [
      ['--since', '2026-11-20T14:00:00Z'],
      [viaBastion, commit],
    ],
    [
      ['-n', '2'],
      [viaBastion, commit],
    ],
    [['-n1', '--host', 'github.com'], [push]],
    [['-n', '5', '--since', '2026-11-20T15:00:00Z'], [commit]],
    [['-n', '0'], []],
  ])('with %j finds what is meant', async (argv, uses) => {
    record(push, viaBastion, commit);
    const { lines } = await run(logCommand, '--json', ...argv);
    expect(sentencesOf(lines)).toEqual((uses as readonly Use[]).map(({ sentence }) => sentence));
  });

  it('leaves out lists and the beginnings of files unless they are asked for', async () => {
    record(push, { kind: 'list', outcome: 'allowed', sentence: 'list', forwarded: false });
    expect(sentencesOf((await run(logCommand, '--json')).lines)).toEqual([push.sentence]);
    expect(sentencesOf((await run(logCommand, '--json', '--kind', 'list')).lines)).toEqual(['list']);
    expect(sentencesOf((await run(logCommand, '--json', '--kind', 'records')).lines)).toEqual([
      'records of an agent begin',
    ]);
  });

  it.each([
    ['--since', 'soon'],
    ['--kind', 'x'],
    ['--host'],
    ['-n', 'x'],
    ['--what'],
    ['--verify', '-n', '1'],
    ['file'],
  ])('refuses %s %s', async (...argv) => {
    await expect(run(logCommand, ...argv.filter((word) => word !== undefined))).rejects.toThrow(Usage);
  });

  it('shows nothing that a terminal would act upon, as text and as JSON', async () => {
    const evil = 'a\u001b[31m\u009b1m\u202eb\u2028c\u200b\u0007';
    record({
      ...viaBastion,
      sentence: evil,
      reason: evil,
      key: { ...key, comment: evil },
      answer: { by: evil, scope: 'once', seconds: 1 },
    });
    const [id = ''] = (await run(logCommand, '--json')).lines.map((line) => JSON.parse(line).id);
    for (const words of [
      [logCommand],
      [logCommand, '--json'],
      [whyCommand, id],
      [whyCommand, id, '--json'],
      [keysCommand],
      [keysCommand, '--json'],
    ] as const) {
      const [command, ...argv] = words;
      const { lines } = await run(command, ...argv);
      expect(lines.join('')).toContain('a');
      expect(lines.join('')).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}]/u);
    }
    expect(sentencesOf((await run(logCommand, '--json')).lines)).toEqual([evil]);
  });

  it('shows what it can of a damaged file, and says that there is more', async () => {
    record(push);
    const [name = ''] = readdirSync(join(home, 'latchkey', 'records'));
    writeFileSync(join(home, 'latchkey', 'records', name), 'rubbish\n{"half', { flag: 'a' });
    const { lines, errors } = await run(logCommand);
    expect(lines).toHaveLength(1);
    expect(errors).toEqual(["latchkey: 1 lines can't be read: latchkey log --verify tells where"]);
  });

  it('and the other commands take whatever somebody wrote into a record', async () => {
    record(viaBastion);
    const folder = join(home, 'latchkey', 'records');
    const name = readdirSync(folder)[0] as string;
    const last = JSON.parse(readFileSync(join(folder, name), 'utf8').split('\n')[1] as string);
    const junk = [
      null,
      0,
      'x',
      true,
      [],
      {},
      [null],
      [[]],
      [{ names: [null, 1] }],
      { fingerprint: 1, by: [], programs: [{}] },
    ];
    const broken = Object.keys(last).flatMap((field) => junk.map((value) => ({ ...last, [field]: value })));
    writeFileSync(join(folder, name), broken.map((one) => `${JSON.stringify(one)}\n`).join(''));
    for (const argv of [[], ['--json'], ['--host', '*'], ['--key', '*'], ['-n', '1000'], ['--since', '1h']])
      expect((await run(logCommand, ...argv)).code).toBe(0);
    expect((await run(logCommand, '--verify')).code).toBe(1);
    expect((await run(keysCommand)).code).toBe(0);
    for (const one of broken) {
      writeFileSync(join(folder, name), `${JSON.stringify({ ...one, id: last.id })}\n`);
      expect([0, 1]).toContain((await run(whyCommand, last.id)).code);
    }
  });

  it('has nothing to say without records', async () => {
    expect(await run(logCommand)).toEqual({ code: 0, lines: [], errors: [] });
  });
});

describe('latchkey log --verify', () => {
  const path = (): string => {
    const folder = join(home, 'latchkey', 'records');
    return join(folder, readdirSync(folder)[0] as string);
  };

  it('ends with 0 where nothing was done, and says what the last line is', async () => {
    record(push, { kind: 'end', outcome: 'allowed', sentence: 'the agent ends', forwarded: false });
    const { code, lines } = await run(logCommand, '--verify');
    expect(code).toBe(0);
    expect(lines[0]).toMatch(/^fine: 3 records in 1 file since 2026-11-20 /);
    expect(lines[1]).toBe(`last line: ${records.status().head}`);
  });

  it('ends with 1 where something was, with file and line', async () => {
    record(push, viaBastion);
    writeFileSync(path(), readFileSync(path(), 'utf8').replace('root on db1', 'root on db2'));
    const { code, lines } = await run(logCommand, '--verify');
    expect(code).toBe(1);
    expect(lines[0]).toMatch(/^\d{8}T\S+\.jsonl:3: was changed: its hash does not fit$/);
    expect(lines.join('\n')).toContain('DAMAGED');
    const { lines: json } = await run(logCommand, '--verify', '--json');
    expect(JSON.parse(json[0] ?? '')).toMatchObject({ ok: false, problemCount: 1, problems: [{ line: 3 }] });
  });

  it('asks the running agent what it wrote last', async () => {
    record(push, viaBastion);
    await control({ log: records.status() });
    expect((await run(logCommand, '--verify')).lines.at(-1)).toMatch(/what the running agent wrote is there$/);
    const lines = readFileSync(path(), 'utf8').split('\n');
    writeFileSync(path(), `${lines.slice(0, 2).join('\n')}\n`);
    const { code, lines: told } = await run(logCommand, '--verify');
    expect(code).toBe(1);
    expect(told[0]).toMatch(/the last line that the running agent wrote is missing, or was changed$/);
  });
});

describe('latchkey keys', () => {
  it('counts by key and place, the last used first', async () => {
    record(commit, push, push, viaBastion);
    const { code, lines, errors } = await run(keysCommand);
    expect(code).toBe(0);
    expect(lines[0]).toBe(`${key.fingerprint} carl@laptop (ssh-ed25519)`);
    expect(lines[1]).toMatch(/^ {2}last used 2026-11-20 \d\d:00:00.*; 2 signatures, 1 refused$/);
    expect(lines[2]).toBe('  for github.com 2');
    expect(lines.slice(3)).toEqual([
      `${other.fingerprint} old (ssh-rsa)`,
      expect.stringMatching(/; 1 signature$/),
      '  for namespace git 1',
    ]);
    expect(errors).toEqual([expect.stringContaining('only keys of the records are shown')]);
  });

  it('finds those that nobody used', async () => {
    time = Date.now() - 100 * 86_400_000;
    record(commit);
    time = Date.now() - 3_700_000;
    record(push);
    const { lines } = await run(keysCommand, '--unused', '90', '--json');
    expect(JSON.parse(lines[0] ?? '').keys).toMatchObject([
      { fingerprint: other.fingerprint, allowed: 1, inAgent: null },
    ]);
    const { errors } = await run(keysCommand, '--unused', '200');
    expect(errors.at(-1)).toMatch(/^latchkey: the records only go back to /);
    await expect(run(keysCommand, '--unused', 'long')).rejects.toThrow(Usage);
  });
});

describe('latchkey why', () => {
  it('tells verified from claimed, and what decided', async () => {
    const [id = ''] = record(viaBastion);
    const { code, lines } = await run(whyCommand, id);
    expect(code).toBe(0);
    const text = lines.join('\n');
    expect(lines.slice(1, 5)).toEqual([
      '  outcome     refused',
      '  decided by  the default for a login, forwarded',
      '  asked       answered no, by watch, after 4 s',
      '  because     not confirmed: refused by the owner',
    ]);
    const [verified = '', claimed = ''] = text.split('Only claimed');
    expect(verified).toContain(`via         bastion, key ${bastion.fingerprint}`);
    expect(verified).toContain(`host        db1, db1.lan, key ${db1.fingerprint}`);
    expect(verified).toContain('pid 4711, uid 1000: /usr/bin/ssh < /usr/bin/git');
    expect(verified).not.toContain('git push');
    expect(claimed).toContain('command     git push in ~/src/x');
  });

  it.each<[string, Use, string]>([
    ['a refused login from afar', viaBastion, 'allow'],
    ['a commit that was asked about', { ...commit, answer: { by: 'askpass', scope: 'once', seconds: 1 } }, 'allow'],
    ['what was allowed', push, 'deny'],
  ])('shows a rule for %s that the configuration takes', async (_what, use, effect) => {
    const [id = ''] = record(use);
    const { lines } = await run(whyCommand, id);
    const rule = lines.slice(lines.indexOf('  [[rule]]')).map((line) => line.slice(2));
    const file = join(home, 'config.toml');
    writeFileSync(file, rule.join('\n'));
    const loaded = await loadConfiguration(file);
    if ('errors' in loaded) throw new Error(JSON.stringify(loaded.errors));
    const [read] = loaded.configuration.rules;
    expect(read).toMatchObject({ effect, key: [use.key?.fingerprint], purpose: [use.purpose] });
    if (use === viaBastion)
      expect(read).toMatchObject({ via: ['bastion'], host: ['db1', 'db1.lan'], user: ['root'], origin: ['forwarded'] });
  });

  it.each<[string, Use]>([
    ['with a pattern for a name', { ...viaBastion, hosts: [bastion, { ...db1, names: ['*'] }] }],
    ['with nothing verified', { ...viaBastion, hosts: [] }],
    ['over two hosts', { ...viaBastion, hosts: [bastion, bastion, db1] }],
    ['with a crafted user', { ...viaBastion, user: '"]\neffect = "allow' }],
    ['of sudo', { ...viaBastion, purpose: 'sudo' }],
    ['of a key with destinations', { ...viaBastion, ground: { kind: 'destinations', text: 'x' } }],
    ['of unidentified bytes', { ...viaBastion, purpose: 'unidentified' }],
    ['to add a key', { kind: 'add', outcome: 'denied', sentence: 'add', forwarded: true }],
  ])('shows no rule for a request %s', async (_what, use) => {
    const [id = ''] = record(use);
    const { code, lines } = await run(whyCommand, id);
    expect(code).toBe(0);
    expect(lines.join('\n')).not.toContain('[[rule]]');
  });

  it('asks the agent first, and looks into the files then', async () => {
    const [id = ''] = record(push);
    await control({ why: { ...push, id, time: '2026-11-20T13:00:00.000Z', sentence: 'as the agent knows it' } });
    expect((await run(whyCommand, id)).lines[0]).toContain('as the agent knows it');
    servers.splice(0).map((server) => server.close());
    rmSync(join(home, 'agent.control'), { force: true });
    expect((await run(whyCommand, `[${id}]`)).lines[0]).toContain(push.sentence);
  });

  it('says where there is no such record, or no such id', async () => {
    expect(await run(whyCommand, 'abcd-1')).toMatchObject({
      code: 1,
      errors: [expect.stringContaining('no record abcd-1')],
    });
    for (const argv of [[], ['x'], ['abcd-1', 'abcd-2'], ['--what']])
      await expect(run(whyCommand, ...argv)).rejects.toThrow(Usage);
  });
});

describe('a time', () => {
  const now = new Date(2026, 10, 22, 21, 50, 3);
  it.each([
    ['2h', new Date(2026, 10, 22, 19, 50, 3)],
    ['1h30m', new Date(2026, 10, 22, 20, 20, 3)],
    ['today', new Date(2026, 10, 22)],
    ['yesterday', new Date(2026, 10, 21)],
    ['2026-11-01', new Date(2026, 10, 1)],
    ['2026-11-01 07:30', new Date(2026, 10, 1, 7, 30)],
    ['2026-11-01T07:30:15', new Date(2026, 10, 1, 7, 30, 15)],
    ['2026-11-01T07:30:15Z', new Date(Date.UTC(2026, 10, 1, 7, 30, 15))],
    ['2026-11-01T07:30:15+02:00', new Date(Date.UTC(2026, 10, 1, 5, 30, 15))],
  ])('"%s" is understood', (text, date) => {
    expect(sinceGiven(text, now)).toBe(date.toISOString());
  });

  it.each(['', '90', 'x', '2026', '2026-02-30', '2026-13-01', '2026-11-01 7', '-2h'])('"%s" is not', (text) => {
    expect(() => sinceGiven(text, now)).toThrow(Usage);
  });
});

describe('lines for a terminal', () => {
  const shown = { ...viaBastion, id: 'k3f9-17', time: '2026-11-22T20:50:03.000Z', previous: null, hash: '' };

  it.each([200, 80, 60, 59, 40, 30])('of %d columns fit, and lose nothing', (columns) => {
    const lines = recordLines(shown, { columns, colour: false });
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(columns);
    expect(lines.join('').replaceAll(' ', '')).toContain('notconfirmed:refusedbytheowner(bywatch)[k3f9-17]');
  });

  it('have colour only where it is wanted', () => {
    const outcome = (colour: boolean): string => recordLines(shown, { columns: undefined, colour }).join('');
    expect(outcome(false)).not.toContain('\u001b');
    expect(outcome(true)).toContain('\u001b[1;31mdenied\u001b[0m');
  });
});
