// config.toml as its owner meets it: latchkey check and try, and an agent that obeys it and follows its changes.
import { spawn } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Agent, bin, type Run, type RunOptions, Setting, type TestKey } from './fixtures/setting.ts';

const setting = new Setting();
const key: TestKey = setting.key('developer');
const print = key.name.split(' ')[1] ?? '';
const config = setting.path('config');
const file = join(config, 'latchkey', 'config.toml');
const env = { XDG_CONFIG_HOME: config };
let agent: Agent;

const latchkey = (args: readonly string[], options: RunOptions = {}): Promise<Run> =>
  setting.run('latchkey', args, { ...options, env: { ...env, SSH_AUTH_SOCK: agent.path, ...options.env } });

/** In place of the file, at once, as editors do. */
function put(content: string): void {
  writeFileSync(`${file}.new`, content);
  renameSync(`${file}.new`, file);
}

/** Whether the agent signs for that namespace. */
async function signs(namespace: string): Promise<boolean> {
  const data = setting.path('data');
  writeFileSync(data, 'data');
  const args = ['-q', '-Y', 'sign', '-n', namespace, '-f', key.publicFile, data];
  const { status } = await setting.run('/usr/bin/ssh-keygen', args, { env: { SSH_AUTH_SOCK: agent.path } });
  rmSync(`${data}.sig`, { force: true });
  return status === 0;
}

const denial = (namespace: string): string => `[[rule]]\neffect = "deny"\nnamespace = "${namespace}"\n`;

beforeAll(async () => {
  mkdirSync(join(config, 'latchkey'), { recursive: true });
  agent = await setting.agent({ env });
  await agent.hold([key]);
});

afterAll(() => setting.end());

describe('latchkey check', () => {
  it('is content without a file, unless that one was named', async () => {
    expect(await latchkey(['check'])).toEqual({ status: 0, stdout: `no ${file}: the defaults hold\n`, stderr: '' });
    const named = await latchkey(['check', setting.path('none.toml')]);
    expect(named).toEqual({ status: 1, stdout: '', stderr: 'none.toml: No such file or directory\n' });
    const tried = await latchkey(['try', '--to', 'a', '--file', '/none.toml']);
    expect(tried.stderr).toBe('latchkey: /none.toml: No such file or directory\n');
  });

  it('tells every error with its line, and fails', async () => {
    const path = setting.path('wrong.toml');
    writeFileSync(path, '[ask]\nsecnds = 5\n\n[[rule]]\neffect = "denny"\n');
    const errors = [
      'wrong.toml:2: [ask] unknown key secnds: did you mean seconds?',
      'wrong.toml:5: [rule 1] effect: must be "allow", "deny" or "ask": did you mean "deny"?',
    ];
    expect(await latchkey(['check', path])).toEqual({ status: 1, stdout: '', stderr: `${errors.join('\n')}\n` });
    const { status, stdout } = await latchkey(['check', '--json', path]);
    expect(status).toBe(1);
    expect(JSON.parse(stdout)).toEqual({
      ...{ file: path, ok: false, missing: false, rules: 0, warnings: [] },
      errors: [
        { line: 2, text: errors[0] },
        { line: 5, text: errors[1] },
      ],
    });
  });

  it('warns of rules that are hardly meant, and does not fail for them', async () => {
    const path = setting.path('doubtful.toml');
    const rules = [
      'effect = "deny"\nvia = ["evil", "*.net"]',
      'effect = "ask"\nvia = "www.net"',
      'effect = "allow"',
      'name = "agents"\neffect = "allow"\nkey = "work*"\nprogram = "git"\norigin = "local"',
      'effect = "deny"\nhost = "web"\nnamespace = "git"',
      'effect = "allow"\nhost = "db"\npurpose = "blind-login"',
    ];
    writeFileSync(path, rules.map((rule) => `[[rule]]\n${rule}\n`).join(''));
    const { status, stdout, stderr } = await latchkey(['check', path]);
    expect([status, stdout]).toEqual([0, `${path}: no errors, 6 rules\n`]);
    expect(stderr.replaceAll('doubtful.toml:', '').split('\n')).toEqual([
      '4: warning: rule 2 never decides: the rule on line 1 matches all that it does, and comes first',
      '7: warning: rule 3 allows without a question, whichever key, host and program: nothing narrows it',
      expect.stringMatching(/^9: warning: rule 4, agents, goes by the comment of a key/),
      expect.stringMatching(/^9: warning: rule 4, agents, goes by the name of a program/),
      expect.stringMatching(/^15: warning: rule 5 never matches: host is of logins/),
      expect.stringMatching(/^19: warning: rule 6 lets other machines have signed .*: blind-login$/),
      '',
    ]);
  });

  it('has no objections to what the documentation shows', async () => {
    const manual = readFileSync(new URL('../../docs/configuration.md', import.meta.url), 'utf8');
    const examples = [...manual.matchAll(/```toml\n([\s\S]*?)```/g)].map(([, text]) => text ?? '');
    expect(examples.length).toBeGreaterThan(5);
    for (const [i, example] of examples.entries()) {
      const path = setting.path(`example${i}.toml`);
      writeFileSync(path, example);
      const { status, stderr } = await latchkey(['check', path]);
      expect({ example, status, stderr }).toEqual({ example, status: 0, stderr: '' });
    }
  });
});

describe('latchkey try', () => {
  const path = setting.path('try.toml');
  const attempt = async (...args: readonly string[]): Promise<string> => {
    const { status, stdout, stderr } = await latchkey(['try', '--file', path, ...args]);
    expect([status, stderr]).toEqual([0, '']);
    return stdout;
  };

  beforeAll(() => {
    writeFileSync(
      path,
      `[[rule]]
name = "agents"
effect = "deny"
program = "claude"

[[rule]]
name = "work"
effect = "allow"
key = "${print}"
host = "github.com"
via = "bastion"
`,
    );
  });

  it('shows the rule that decides, with its line', async () => {
    const work = ['--to', 'git@github.com', '--via', 'bastion'];
    const said = 'log in as git on github.com, forwarded by bastion\n  allow  rule "work", try.toml:6\n';
    expect(await attempt(...work, '--key', print)).toBe(said);
    expect(await attempt(...work, '--key', key.publicFile)).toBe(said);
    expect(await attempt(...work, '--key', print, '--program', '/usr/bin/ssh', '--program', '/opt/claude')).toBe(
      'log in as git on github.com, forwarded by bastion\n  deny   rule "agents", try.toml:1\n',
    );
  });

  it('shows the default that decides', async () => {
    expect(await attempt('--to', 'root@db')).toMatch(/^log in as root on db, from here\n {2}allow {2}default: /);
    expect(await attempt('--namespace', 'git', '--forwarded')).toMatch(
      /, forwarded\n {2}ask {4}default: .*\n .* once\n$/,
    );
    expect(await attempt('--purpose', 'unidentified', '--via', 'bastion')).toMatch(
      /\n {2}deny {3}default: .*\n +nobody/,
    );
    expect(await attempt('--purpose', 'unidentified', '--via', 'b', '--table', 'openssh')).toMatch(/ allow {2}default/);
    expect(await attempt('--to', 'db', '--confirm')).toMatch(/ ask {4}the key was added with -c\n/);
  });

  it('says the same to programs', async () => {
    const decision = JSON.parse(await attempt('--to', 'git@github.com', '--via', 'bastion', '--key', print, '--json'));
    expect(decision).toMatchObject({ effect: 'allow', ground: { kind: 'rule', text: 'work', line: 6 }, file: path });
  });

  it('refuses what makes no sense, with its usage', async () => {
    for (const args of [[], ['--to'], ['--purpose', 'log-in'], ['--purpose', 'login'], ['--to', 'a', '--to', 'b']]) {
      const { status, stdout, stderr } = await latchkey(['try', ...args]);
      expect({ args, status, stdout }).toEqual({ args, status: 1, stdout: '' });
      expect(stderr).toMatch(/usage/);
    }
  });
});

describe('a running agent', () => {
  it('obeys a file that comes, changes and goes', async () => {
    expect(await signs('git')).toBe(true);
    put(denial('git'));
    await setting.until(async () => !(await signs('git')));
    expect(await signs('file')).toBe(true);
    put(denial('file'));
    await setting.until(async () => await signs('git'));
    expect(await signs('file')).toBe(false);
    rmSync(file);
    await setting.until(async () => await signs('file'));
  });

  it('keeps the old rules where the new ones have errors, and says so', async () => {
    put(denial('git'));
    await setting.until(async () => !(await signs('git')));
    put('[[rule]]\neffect = "alow"\nhots = "a"\n');
    const refused = await latchkey(['reload']);
    expect(refused.status).toBe(1);
    expect(refused.stderr).toContain('\nconfig.toml:3: [rule 1] unknown key hots');
    expect(refused.stderr).toContain('config.toml:2: [rule 1] effect: must be "allow", "deny" or "ask"');
    expect(await signs('git')).toBe(false);
    expect((await latchkey(['status'])).stdout).toContain('config.toml:2: [rule 1] effect');
    put(denial('file'));
    expect((await latchkey(['reload'])).stdout).toBe(`1 rules in force, from ${file}\n`);
    expect(await signs('git')).toBe(true);
  });

  it('does not obey a file that others may write', async () => {
    put(denial('file'));
    await setting.until(async () => !(await signs('file')));
    put('');
    await setting.until(async () => await signs('file'));
    chmodSync(file, 0o666);
    const refused = await latchkey(['reload']);
    expect([refused.status, refused.stderr]).toEqual([1, expect.stringMatching(/may be written by others/)]);
    chmodSync(file, 0o600);
  });

  it('reads its file on SIGHUP, as latchkey agent', async () => {
    put(denial('git'));
    const path = setting.path('own.sock');
    const child = spawn(join(bin, 'latchkey'), ['agent', '-a', path], {
      env: { ...setting.env, ...env },
      stdio: 'ignore',
    });
    setting.atEnd(() => child.kill());
    const since = async (): Promise<string | undefined> => {
      const { status, stdout } = await latchkey(['status', '--json', '--socket', path]);
      return status === 0 ? JSON.parse(stdout).configuration.since : undefined;
    };
    await setting.until(async () => (await since()) !== undefined);
    const before = await since();
    child.kill('SIGHUP');
    await setting.until(async () => (await since()) !== before);
    expect(child.exitCode).toBeNull();
  });
});

describe('an agent that starts with a broken file', () => {
  beforeAll(() => put('[agent]\ngarded = true\n'));

  it('does not start as latchkey agent, and says why', async () => {
    const { status, stderr } = await latchkey(['agent', '-a', setting.path('broken.sock')]);
    expect(status).toBe(1);
    expect(stderr).toContain('config.toml:2: [agent] unknown key garded: did you mean guarded?');
  });

  it('starts as ssh-agent, so that nobody is locked out', async () => {
    const other = await setting.agent({ env });
    const { stdout } = await other.add(['-l']);
    expect(stdout).toBe('The agent has no identities.\n');
  });
});
