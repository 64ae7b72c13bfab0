// git over ssh and git's signatures by ssh keys: the keys are in our agent, git is told of their public halves only.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Sshd, writeClientConfig } from '../support/sshd.ts';
import { type Agent, kinds, type Run, type RunOptions, Setting, type TestKey } from './fixtures/setting.ts';

const setting = new Setting();
const key: TestKey = setting.key('developer');
const repository = setting.path('shared.git');
let agent: Agent;
let server: Sshd;
let config: string;

const git = (cwd: string, args: readonly string[], options: RunOptions = {}): Promise<Run> =>
  setting.run('/usr/bin/git', args, {
    ...options,
    cwd,
    env: { GIT_CONFIG_NOSYSTEM: '1', GIT_TERMINAL_PROMPT: '0', SSH_AUTH_SOCK: agent.path, ...options.env },
  });

async function gitOk(cwd: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  const { status, stdout, stderr } = await git(cwd, args, options);
  expect({ status, stderr: status === 0 ? '' : stderr }).toEqual({ status: 0, stderr: '' });
  return stdout;
}

beforeAll(async () => {
  const lines = ['[user]', 'name = Alice', 'email = alice@example.org', '[init]', 'defaultBranch = main'];
  // The server's side of git runs as another process of the same user, with that user's own home.
  writeFileSync(join(setting.home, '.gitconfig'), [...lines, '[safe]', 'directory = *', ''].join('\n'));
  agent = await setting.agent();
  await agent.hold([key]);
  server = await setting.sshd({ name: 'forge', authorizedKeys: [key.line] });
  config = writeClientConfig(setting.path('ssh_config'), [server]);
  await gitOk(setting.folder, ['init', '-q', '--bare', repository]);
});

afterAll(() => setting.end());

describe('git over ssh', () => {
  it('clones, pushes and fetches with a key of our agent', async () => {
    const env = { GIT_SSH_COMMAND: `/usr/bin/ssh -F ${config}` };
    const first = setting.path('first');
    const second = setting.path('second');
    await gitOk(setting.folder, ['clone', '-q', `forge:${repository}`, first], { env });
    writeFileSync(join(first, 'file'), 'content\n');
    await gitOk(first, ['add', 'file']);
    await gitOk(first, ['commit', '-q', '-m', 'First']);
    await gitOk(first, ['push', '-q', 'origin', 'HEAD:main'], { env });
    await gitOk(setting.folder, ['clone', '-q', '-b', 'main', `forge:${repository}`, second], { env });
    expect(readFileSync(join(second, 'file'), 'utf8')).toBe('content\n');
    await gitOk(second, ['fetch', '-q'], { env });
    expect(server.accepted()).toEqual([key.name, key.name, key.name, key.name]);
  });

  it('is told the ssh to use by core.sshCommand, too, and gets nothing without the agent', async () => {
    const args = ['-c', `core.sshCommand=/usr/bin/ssh -F ${config}`, 'ls-remote', `forge:${repository}`];
    expect(await gitOk(setting.folder, args)).toContain('HEAD');
    const refused = await git(setting.folder, args, { env: { SSH_AUTH_SOCK: undefined } });
    expect(refused.status).toBe(128);
    expect(refused.stderr).toContain('Permission denied (publickey)');
  });
});

describe('git signing', () => {
  /** A repository in which `signer` signs. */
  async function signing(name: string, signer: TestKey, ...settings: readonly string[]): Promise<string> {
    const place = setting.path(name);
    mkdirSync(place);
    await gitOk(place, ['init', '-q']);
    const signers = `${place}.signers`;
    writeFileSync(signers, `alice@example.org ${signer.line}\n`);
    for (const entry of ['gpg.format=ssh', `gpg.ssh.allowedSignersFile=${signers}`, ...settings]) {
      const [variable = '', ...value] = entry.split('=');
      await gitOk(place, ['config', variable, value.join('=')]);
    }
    return place;
  }

  const commit = ['commit', '-q', '-S', '--allow-empty', '-m', 'Signed'];

  async function expectGood(place: string, signer: TestKey): Promise<void> {
    await gitOk(place, commit);
    const fingerprint = signer.name.split(' ')[1];
    const shown = await git(place, ['verify-commit', 'HEAD']);
    expect(shown.status).toBe(0);
    expect(shown.stderr).toContain('Good "git" signature for alice@example.org with');
    expect(shown.stderr).toContain(`key ${fingerprint}`);
  }

  it.each(kinds)('signs a commit with an %s key of our agent, which git verifies', async (kind) => {
    const signer = setting.key(`signer-${kind}`, kind);
    const place = await signing(`signed-${kind}`, signer, `user.signingKey=${signer.publicFile}`);
    expect((await git(place, commit)).status).toBe(128);
    await agent.holdOnly([signer]);
    await expectGood(place, signer);
  });

  it('signs a tag', async () => {
    const signer = setting.key('tagger');
    const place = await signing('tagged', signer, `user.signingKey=${signer.publicFile}`);
    await agent.holdOnly([signer]);
    await gitOk(place, commit);
    await gitOk(place, ['tag', '-s', '-m', 'Tag', 'v1']);
    expect((await git(place, ['verify-tag', 'v1'])).stderr).toContain('Good "git" signature for alice@example.org');
  });

  it('takes the key from its configuration', async () => {
    const signer = setting.key('literal');
    const place = await signing('literally', signer, `user.signingKey=key::${signer.line}`);
    await agent.holdOnly([signer]);
    await expectGood(place, signer);
  });

  it('takes the first key that our ssh-add lists', async () => {
    const signer = setting.key('default');
    const place = await signing('default-key', signer, 'gpg.ssh.defaultKeyCommand=ssh-add -L');
    await agent.holdOnly([signer, key]);
    await expectGood(place, signer);
  });
});
