/** The system's ssh-add and ours in the same situations: what they say, how they end, what the agent holds afterwards. */
import { copyFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connectAgent } from '../../src/client/connect.ts';
import { freshEd25519 } from '../support/keys.ts';
import { env, folder, HSM, keygen, makeFiles, read, removeFolder } from './ssh-add-files.ts';
import { type Agent, buildSshAdd, type Outcome, REFERENCE, run, startAgent } from './ssh-add-programs.ts';
import { better, failed, type Situation, same, USAGE } from './ssh-add-situations.ts';

const agents: Agent[] = [];
let ours: readonly string[] = [];

beforeAll(async () => {
  makeFiles();
  ours = await buildSshAdd(join(folder, 'bundle'));
  for (const name of ['reference', 'ours']) agents.push(startAgent(folder, name, env));
});

afterAll(() => {
  for (const agent of agents) agent.stop();
  removeFolder();
});

/** Empties the agent, whatever the situation before left in it. */
async function clean(agent: Agent): Promise<void> {
  const client = await connectAgent(agent.socket);
  await client.unlock(Buffer.from('pw')).catch(() => {});
  await client.removeToken(HSM, new Uint8Array()).catch(() => {});
  await client.removeAll();
  client.close();
}

async function outcomeOf(program: readonly string[], agent: Agent, situation: Situation): Promise<Outcome> {
  const base = { ...env, SSH_AUTH_SOCK: agent.socket };
  await clean(agent);
  for (const args of situation.before ?? [])
    await run([...REFERENCE, ...args], { cwd: folder, env: base, input: situation.beforeInput ?? '' });
  const own: Record<string, string | undefined> = { ...base, ...situation.env };
  const set = Object.entries(own).filter((entry): entry is [string, string] => entry[1] !== undefined);
  const options = { cwd: folder, env: Object.fromEntries(set), input: situation.input ?? '' };
  return run([...program, ...situation.args], options);
}

/** The keys in the agent: blob and comment, one line each. */
async function held(agent: Agent): Promise<string> {
  const client = await connectAgent(agent.socket);
  const identities = await client.list();
  client.close();
  return identities.map(({ blob, comment }) => `${Buffer.from(blob).toString('base64')} ${comment}\n`).join('');
}

async function both(situation: Situation): Promise<{ ours: Outcome; reference: Outcome }> {
  const [forReference, forOurs] = agents as [Agent, Agent];
  const first = outcomeOf(REFERENCE, forReference, situation);
  // Two agents at once on one token disturb each other.
  if (situation.args.includes(HSM)) await first;
  const [reference, own] = await Promise.all([first, outcomeOf(ours, forOurs, situation)]);
  expect(await held(forOurs)).toBe(await held(forReference));
  return { ours: own, reference };
}

/** 9.2 says seconds where 10 and later write as fmt_timeframe does. */
const lifetimes: Readonly<Record<string, string>> = {
  '90': '00:01:30',
  '3600': '01:00:00',
  '93780': '1d02h03m',
  '1814400': '03w0d00h',
};

function asLaterReleases(outcome: Outcome): Outcome {
  const stderr = outcome.stderr.replace(
    /(?<=Lifetime set to )(\d+) seconds/g,
    (all, seconds) => lifetimes[seconds] ?? all,
  );
  return { ...outcome, stderr };
}

describe('in the same situation', () => {
  it.each(same)('%s: both say and do the same', async (_name, situation) => {
    const { ours: own, reference } = await both(situation);
    expect(own).toEqual(asLaterReleases(reference));
  });

  it.each(better)('%s: ours differs, since %s', async (_name, _reason, situation, expected) => {
    expect(await outcomeOf(ours, agents[1] as Agent, situation)).toEqual(expected);
  });

  it('-C adds the certificate alone and succeeds, where OpenSSH says that it failed', async () => {
    const agent = agents[1] as Agent;
    const outcome = await outcomeOf(ours, agent, { args: ['-C', 'cid'] });
    expect(outcome).toEqual({ stdout: '', stderr: 'Certificate added: cid-cert.pub (keyid of cid)\n', code: 0 });
    expect(await held(agent)).toBe(`${read('cid-cert.pub').split(' ')[1]} my comment\n`);
    const none = await outcomeOf(ours, agent, { args: ['-C', 'id'] });
    expect(none).toEqual(failed('No certificate added: id-cert.pub: No such file or directory\n'));
    const removed = await outcomeOf(ours, agent, { args: ['-dC', 'cid'], before: [['cid']] });
    expect(removed.stderr).toMatch(/^Identity removed: cid-cert.pub ED25519-CERT \(my comment\)\n$/);
    expect(await held(agent)).toBe(`${read('id.pub').split(' ')[1]} my comment\n`);
  });

  it('an expired certificate is left out, unless -N is given', async () => {
    const agent = agents[1] as Agent;
    expect(await outcomeOf(ours, agent, { args: ['old'] })).toEqual({
      stdout: '',
      stderr: 'Identity added: old (my comment)\nCertificate old-cert.pub has already expired; ignored\n',
      code: 0,
    });
    expect(await outcomeOf(ours, agent, { args: ['-N', 'old'] })).toEqual({
      stdout: '',
      stderr: 'Identity added: old (my comment)\nCertificate added: old-cert.pub (old id)\n',
      code: 0,
    });
  });

  it('a certificate gets the rest of its validity and five minutes as lifetime, or -t if that is less', async () => {
    copyFileSync(join(folder, 'id'), join(folder, 'hour'));
    copyFileSync(join(folder, 'id.pub'), join(folder, 'hour.pub'));
    keygen('-s', 'ca', '-I', 'hour id', '-n', 'alice', '-V', '-1m:+1h', 'hour.pub');
    const agent = agents[1] as Agent;
    const { stderr } = await outcomeOf(ours, agent, { args: ['hour'] });
    expect(stderr).toMatch(
      /^Identity added: hour \(my comment\)\nCertificate added: \S+ \(hour id\)\nLifetime set to 01:0[345]:\d\d\n$/,
    );
    const short = await outcomeOf(ours, agent, { args: ['-t', '90', 'hour'] });
    expect(short.stderr).toMatch(/\(hour id\)\nLifetime set to 00:01:30\n$/);
    const endless = await outcomeOf(ours, agent, { args: ['-N', 'hour'] });
    expect(endless.stderr).toMatch(/\(hour id\)\n$/);
  });

  it('says that there is no default key, and exits 1', async () => {
    const { stdout, stderr, code } = await outcomeOf(ours, agents[1] as Agent, { args: [] });
    // Whoever runs this may have keys in the home folder of the password file: then the file is named.
    expect({ stdout, code: typeof code }).toEqual({ stdout: '', code: 'number' });
    expect(stderr).toMatch(/No key to add: |\.ssh\/id_/);
  });

  it('--help has the usage and examples on standard output, --version a line', async () => {
    const help = await outcomeOf(ours, agents[1] as Agent, { args: ['--help'], env: { SSH_AUTH_SOCK: undefined } });
    expect({ ...help, stdout: '' }).toEqual({ stdout: '', stderr: '', code: 0 });
    expect(help.stdout.startsWith(USAGE)).toBe(true);
    expect(help.stdout).toContain('ssh-add -t 1h');
    const version = await outcomeOf(ours, agents[1] as Agent, { args: ['--version'] });
    expect(version.stdout).toMatch(/^ssh-add \(Latchkey\) \d+\.\d+\.\d+\n$/);
  });

  it('lists 1000 keys as the reference does', async () => {
    const agent = agents[0] as Agent;
    const names: string[] = [];
    mkdirSync(join(folder, 'many'));
    keygen('-t', 'ecdsa', '-N', '', '-C', 'x', '-f', 'many/0');
    const client = await connectAgent(agent.socket);
    await client.removeAll();
    for (let i = 0; i < 1000; i++) names.push(`key ${i}`);
    await Promise.all(names.map((name) => client.add(freshEd25519().key, name)));
    const options = { cwd: folder, env: { ...env, SSH_AUTH_SOCK: agent.socket } };
    for (const flag of ['-l', '-L']) {
      const reference = await run([...REFERENCE, flag], options);
      expect(reference.stdout.split('\n')).toHaveLength(1001);
      expect(await run([...ours, flag], options)).toEqual(reference);
    }
    await client.removeAll();
    client.close();
  });

  it('shows what a comment would do to the terminal, and leaves other comments as they are', async () => {
    const agent = agents[1] as Agent;
    await clean(agent);
    const client = await connectAgent(agent.socket);
    for (const comment of ['\x1b]0;title\x07', 'two\nlines', 'DOMAIN\\user', 'Ключ 鍵'])
      await client.add(freshEd25519().key, comment);
    client.close();
    const options = { cwd: folder, env: { ...env, SSH_AUTH_SOCK: agent.socket } };
    const lines = (await run([...ours, '-l'], options)).stdout
      .split('\n')
      .map((line) => line.replace(/^256 SHA256:\S{43} /, ''));
    expect(lines).toEqual([
      '\\x1b]0;title\\x07 (ED25519)',
      'two\\x0alines (ED25519)',
      'DOMAIN\\user (ED25519)',
      'Ключ 鍵 (ED25519)',
      '',
    ]);
    expect((await run([...ours, '-L'], options)).stdout).toMatch(/^ssh-ed25519 \S+ \\x1b]0;title\\x07\n/);
  });

  it('ends quietly when nobody reads its list any more', async () => {
    const agent = agents[1] as Agent;
    await outcomeOf(REFERENCE, agent, { args: ['id'] });
    const command = ['/bin/sh', '-c', '("$@"; echo "code $?" >&2) | :', 'sh', ...ours, '-L'];
    const { stderr } = await run(command, { cwd: folder, env: { ...env, SSH_AUTH_SOCK: agent.socket } });
    // 0 where the line was written before the reader was gone.
    expect(stderr).toMatch(/^code (141|0)\n$/);
  });
});
