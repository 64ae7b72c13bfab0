/** The system's programs and ours in further situations; ssh-add.test.ts has the usual ones. */
import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, mkdirSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connectAgent } from '../../src/client/connect.ts';
import {
  type AgentKind,
  type Expected,
  type Situation,
  sshAddDiffers,
  sshAddSame,
} from './compatibility-situations.ts';
import { env, folder, makeFiles, read, removeFolder, write } from './ssh-add-files.ts';
import { type Agent, type Outcome, REFERENCE, run, startAgent } from './ssh-add-programs.ts';

const bin = join(process.env.LATCHKEY_BUILD ?? resolve(import.meta.dirname, '../..'), 'bin');
const SSH_ADD = [join(bin, 'ssh-add')];
const SSH_AGENT = [join(bin, 'ssh-agent')];
const REFERENCE_AGENT = ['/usr/bin/ssh-agent'];

const agents: Agent[] = [];
const servers: Server[] = [];

const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};
const string = (value: string | Uint8Array): Buffer =>
  Buffer.concat([u32(Buffer.from(value).length), Buffer.from(value)]);

/** As ssh-keygen would write it, if there were a device: nobody but a device can make a signature with it. */
function securityKeyFile(): { privateKey: string; publicKey: string } {
  const publicBlob = Buffer.concat([string('sk-ssh-ed25519@openssh.com'), string(Buffer.alloc(32, 1)), string('ssh:')]);
  const secret = [u32(7), u32(7), publicBlob, Buffer.from([1]), string('handle'), string(''), string('sk comment')];
  const body = Buffer.concat(secret);
  const padding = Buffer.from([1, 2, 3, 4, 5, 6, 7].slice(0, (8 - (body.length % 8)) % 8));
  const outside = [Buffer.from('openssh-key-v1\0'), string('none'), string('none'), string(''), u32(1)];
  const whole = Buffer.concat([...outside, string(publicBlob), string(Buffer.concat([body, padding]))]);
  const lines = whole.toString('base64').replaceAll(/.{70}/g, '$&\n');
  return {
    privateKey: `-----BEGIN OPENSSH PRIVATE KEY-----\n${lines}\n-----END OPENSSH PRIVATE KEY-----\n`,
    publicKey: `sk-ssh-ed25519@openssh.com ${publicBlob.toString('base64')} sk comment\n`,
  };
}

const answers: Readonly<Record<Exclude<AgentKind, 'agent' | 'hangs-up'>, () => Buffer>> = {
  refuses: () => Buffer.from([5]),
  'signs-nonsense': () =>
    Buffer.concat([Buffer.from([14]), string(Buffer.concat([string('ssh-ed25519'), string(Buffer.alloc(64, 1))]))]),
  'many-keys': () => {
    const key = Buffer.concat([string(Buffer.from(read('id.pub').split(' ')[1] ?? '', 'base64')), string('x')]);
    return Buffer.concat([Buffer.from([12]), u32(2049), ...Array.from({ length: 2049 }, () => key)]);
  },
};

/** An agent that reads whole requests and gives each the same answer, or none and ends. */
function startFake(kind: Exclude<AgentKind, 'agent'>): Promise<void> {
  const server = createServer((connection) => {
    let pending = Buffer.alloc(0);
    connection.on('error', () => {});
    connection.on('data', (chunk) => {
      pending = Buffer.concat([pending, chunk]);
      while (pending.length >= 4 && pending.length >= 4 + pending.readUInt32BE()) {
        pending = pending.subarray(4 + pending.readUInt32BE());
        if (kind === 'hangs-up') connection.destroy();
        else connection.write(string(answers[kind]()));
      }
    });
  });
  servers.push(server);
  return new Promise((done) => server.listen(join(folder, kind), done));
}

beforeAll(async () => {
  makeFiles();
  for (const [name, mode] of [
    ['group', 0o640],
    ['world', 0o602],
    ['setuid', 0o4644],
  ] as const) {
    copyFileSync(join(folder, 'id'), join(folder, name));
    chmodSync(join(folder, name), mode);
  }
  const { privateKey, publicKey } = securityKeyFile();
  write('security', privateKey);
  write('security.pub', publicKey, 0o644);
  for (const name of ['reference', 'ours']) agents.push(startAgent(folder, name, env));
  for (const kind of ['hangs-up', 'refuses', 'many-keys', 'signs-nonsense'] as const) await startFake(kind);
});

afterAll(() => {
  for (const agent of agents) agent.stop();
  for (const server of servers) server.close();
  removeFolder();
});

async function outcomeOf(program: readonly string[], agent: Agent, situation: Situation): Promise<Outcome> {
  const client = await connectAgent(agent.socket);
  for (const password of ['pw', 'secret']) await client.unlock(Buffer.from(password)).catch(() => {});
  await client.removeAll();
  client.close();
  const { args, before = [], input = '', agent: kind = 'agent' } = situation;
  const own = { ...env, SSH_AUTH_SOCK: agent.socket };
  for (const [words, typed] of before) await run([...REFERENCE, ...words], { cwd: folder, env: own, input: typed });
  const socket = kind === 'agent' ? agent.socket : join(folder, kind);
  return run([...program, ...args], { cwd: folder, env: { ...own, SSH_AUTH_SOCK: socket, ...situation.env }, input });
}

/** What the agent holds: the public lines by the system's own program. */
const held = (agent: Agent): string =>
  spawnSync('/usr/bin/ssh-add', ['-L'], { env: { SSH_AUTH_SOCK: agent.socket }, encoding: 'utf8' }).stdout;

/** 9.2 writes seconds where 10 and later write hours, minutes and seconds. */
const asLaterReleases = (outcome: Outcome): Outcome => ({
  ...outcome,
  stderr: outcome.stderr.replace(/(?<=Lifetime set to )(\d) seconds/g, '00:00:0$1'),
});

const whole = ({ stdout = '', stderr = '', code }: Expected): Outcome => ({ stdout, stderr, code });

describe('ssh-add', () => {
  it.each(sshAddSame)('%s: both say and do the same', async (_name, situation) => {
    const [first, second] = agents as [Agent, Agent];
    const [reference, own] = await Promise.all([
      outcomeOf(REFERENCE, first, situation),
      outcomeOf(SSH_ADD, second, situation),
    ]);
    expect(own).toEqual(asLaterReleases(reference));
    expect(held(second)).toBe(held(first));
  });
});

describe('ssh-add, otherwise than 9.2', () => {
  it.each(sshAddDiffers)('%s: since %s', async (_name, _reason, situation, expected) => {
    expect(await outcomeOf(SSH_ADD, agents[1] as Agent, situation)).toEqual(whole(expected));
  });

  it('lists more than 2048 keys, where OpenSSH takes the list for malformed', async () => {
    const situation: Situation = { args: ['-l'], agent: 'many-keys' };
    const reference = await outcomeOf(REFERENCE, agents[0] as Agent, situation);
    expect(reference.stderr).toBe('error fetching identities: invalid format\n');
    const own = await outcomeOf(SSH_ADD, agents[1] as Agent, situation);
    expect(own.code).toBe(0);
    expect(own.stdout.trimEnd().split('\n')).toHaveLength(2049);
  });
});

describe('ssh-agent', () => {
  it('-k ends an agent of either kind, with the words of either shell', async () => {
    for (const [args, words] of [
      [['-k'], 'unset SSH_AUTH_SOCK;\nunset SSH_AGENT_PID;\necho Agent pid PID killed;\n'],
      [['-kc'], 'unsetenv SSH_AUTH_SOCK;\nunsetenv SSH_AGENT_PID;\necho Agent pid PID killed;\n'],
    ] as const)
      for (const [starter, killer] of [
        [REFERENCE_AGENT, SSH_AGENT],
        [SSH_AGENT, REFERENCE_AGENT],
      ] as const) {
        const socket = join(folder, 'to-be-killed');
        const { stdout } = await run([...starter, '-s', '-a', socket], { cwd: folder, env });
        const pid = /SSH_AGENT_PID=(\d+)/.exec(stdout)?.[1] ?? '';
        const killed = await run([...killer, ...args], { cwd: folder, env: { ...env, SSH_AGENT_PID: pid } });
        expect({ ...killed, stdout: killed.stdout.replace(pid, 'PID') }).toEqual({
          stdout: words,
          stderr: '',
          code: 0,
        });
        while (existsSync(socket)) await new Promise((done) => setTimeout(done, 20));
      }
  });

  it.each(["blank and apostro'phe", 'dollar $HOME and `id`', 'semicolon; exclamation!', 'a " and a \\'])(
    'a home folder called %s gives words that csh reads right',
    async (name) => {
      const home = join(folder, name);
      mkdirSync(home, { recursive: true });
      const { stdout } = await run([...SSH_AGENT, '-c'], { cwd: folder, env: { ...env, HOME: home } });
      const pid = Number(/^setenv SSH_AGENT_PID (\d+);$/m.exec(stdout)?.[1]);
      const read = await run(['tcsh', '-f'], { cwd: folder, env, input: `${stdout}printenv SSH_AUTH_SOCK\n` });
      process.kill(pid);
      expect(read.stdout.startsWith(`Agent pid ${pid}\n${home}/.ssh/agent/s.`)).toBe(true);
    },
  );
});
