// Answers that last, with the real git and ansible: a rebase that signs 50 commits and a playbook over 20 hosts cost the
// owner at most two questions each, here and through a forwarded agent.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { askControl, type ControlStream, openControl } from '../../src/cli/control.ts';
import type { WatchQuestion } from '../../src/cli/controlcommands.ts';
import type { Scope } from '../../src/policy/rules.ts';
import { controlSocketPath } from '../../src/server/listen.ts';
import { type Sshd, user, writeClientConfig } from '../support/sshd.ts';
import { type Agent, Setting, type TestKey } from './fixtures/setting.ts';

const HOSTS = 20;
const COMMITS = 50;
const MAX_QUESTIONS = 2;

const setting = new Setting();
const key: TestKey = setting.key('owner');
let agent: Agent;
let hosts: readonly Sshd[];
let config: string;
/** What the owner answers a question with. */
let answer: Scope = 'once';
let asked: WatchQuestion[] = [];
let answered = 0;
let watch: ControlStream;

beforeAll(async () => {
  hosts = await Promise.all(
    Array.from({ length: HOSTS }, (_, i) => setting.sshd({ name: `host${i}`, authorizedKeys: [key.line] })),
  );
  config = writeClientConfig(setting.path('ssh_config'), hosts);
  mkdirSync(join(setting.home, '.ssh'), { mode: 0o700 });
  writeFileSync(join(setting.home, '.ssh', 'known_hosts'), readFileSync(`${config}.known_hosts`));
  const lines = ['[user]', 'name = Alice', 'email = alice@example.org', `signingKey = key::${key.line}`];
  lines.push('[gpg]', 'format = ssh', '[init]', 'defaultBranch = main', '[safe]', 'directory = *');
  const signers = setting.path('signers');
  writeFileSync(signers, `alice@example.org ${key.line}\n`);
  lines.push('[gpg "ssh"]', `allowedSignersFile = ${signers}`, '');
  writeFileSync(join(setting.home, '.gitconfig'), lines.join('\n'));
  agent = await setting.latchkeyAgent();
  const control = controlSocketPath(agent.path);
  const seen = new Set<string>();
  watch = await openControl(control, 'watch', {}, (event) => {
    if (event.event !== 'question') return;
    const question = event.question as WatchQuestion;
    if (seen.has(question.id)) return;
    seen.add(question.id);
    asked.push(question);
    // It may have been answered already, together with another.
    askControl(control, 'approve', { id: question.id, scope: answer }).then(
      () => {
        answered++;
      },
      () => {},
    );
  });
});

afterAll(async () => {
  watch.close();
  await setting.end();
});

/** Runs a command as a shell does that was started from a terminal: as a job of its own. */
async function job(words: readonly string[], cwd = setting.folder, env: Readonly<Record<string, string>> = {}) {
  asked = [];
  answered = 0;
  const run = await setting.run('/usr/bin/setsid', ['--wait', ...words], {
    cwd,
    env: { SSH_AUTH_SOCK: agent.path, GIT_CONFIG_NOSYSTEM: '1', ...env },
  });
  expect(run.status, `${run.stdout}${run.stderr}`).toBe(0);
  return run.stdout;
}

async function repositoryOf(name: string): Promise<string> {
  const folder = setting.path(name);
  mkdirSync(folder);
  const stream = ['reset refs/heads/main'];
  for (let i = 0; i < COMMITS; i++)
    stream.push(
      'commit refs/heads/main',
      `committer Alice <alice@example.org> ${1_700_000_000 + i} +0000`,
      'data 1',
      'x',
    );
  await job(['/usr/bin/git', 'init', '-q', folder]);
  const filled = await setting.run('/usr/bin/git', ['fast-import', '--quiet'], {
    cwd: folder,
    input: `${stream.join('\n')}\n`,
  });
  expect(filled.status, filled.stderr).toBe(0);
  return folder;
}

const signatures = async (folder: string): Promise<string> =>
  (await job(['/usr/bin/git', 'log', '--format=%G?'], folder)).replaceAll('\n', '');

const REBASE = ['-c', 'core.commentChar=;', 'rebase', '-q', '--root', '--force-rebase', '--keep-empty', '-S'];

it('a rebase that signs 50 commits with a key that is to be confirmed asks at most twice', async () => {
  await agent.holdOnly([key], '-c');
  answer = 'command';
  const folder = await repositoryOf('here');
  await job(['/usr/bin/git', ...REBASE], folder);
  expect(asked.length).toBeGreaterThan(0);
  expect(asked.length).toBeLessThanOrEqual(MAX_QUESTIONS);
  expect(asked[0]?.sentence).toMatch(/^sign a git commit.* \(namespace git\), for git rebase in /);
  const made = asked.length;
  expect(await signatures(folder)).toBe('G'.repeat(COMMITS));
  // The answer was for that command: the next one is asked about again.
  await job(['/usr/bin/git', ...REBASE], folder);
  expect(asked.length).toBe(made);
});

it('a rebase on another machine, by the forwarded agent, asks at most twice', async () => {
  await agent.holdOnly([key]);
  answer = 'destination';
  const folder = await repositoryOf('afar');
  const command = `cd ${folder} && HOME=${setting.home} git ${REBASE.join(' ').replace(';', '\\;')}`;
  await job(['/usr/bin/ssh', '-A', '-F', config, 'host0', command]);
  expect(asked.length).toBeGreaterThan(0);
  expect(asked.length).toBeLessThanOrEqual(MAX_QUESTIONS);
  expect(asked[0]?.sentence).toMatch(/^via host0 \(verified\): sign a git commit/);
  expect(await signatures(folder)).toBe('G'.repeat(COMMITS));
});

it('a playbook over 20 hosts with a key that is to be confirmed asks at most twice', async () => {
  await agent.holdOnly([key], '-c');
  answer = 'command';
  const place = setting.path('ansible');
  mkdirSync(place);
  writeFileSync(join(place, 'ansible.cfg'), '');
  writeFileSync(join(place, 'inventory'), hosts.map(({ name }) => `${name}\n`).join(''));
  const task = '    - ansible.builtin.raw: echo "$LATCHKEY_HOST"';
  writeFileSync(join(place, 'play.yml'), ['- hosts: all', '  gather_facts: false', '  tasks:', task, ''].join('\n'));
  const env = {
    ANSIBLE_HOME: place,
    ANSIBLE_LOCAL_TEMP: join(place, 'local'),
    ANSIBLE_CONFIG: join(place, 'ansible.cfg'),
    ANSIBLE_NOCOLOR: '1',
    ANSIBLE_FORKS: '10',
    ANSIBLE_SSH_ARGS: `-F ${config} -o ControlMaster=no`,
  };
  const said = await job(['/usr/bin/ansible-playbook', '-v', '-i', 'inventory', '-u', user, 'play.yml'], place, env);
  for (const host of hosts) {
    expect(said).toContain(host.word);
    expect(host.accepted().at(-1)).toBe(key.name);
  }
  expect(asked.length).toBeGreaterThan(0);
  // Those that waited when the first answer came were answered with it.
  expect(answered).toBeLessThanOrEqual(MAX_QUESTIONS);
  expect(asked[0]?.sentence).toMatch(/, for ansible-playbook play\.yml in /);
});
