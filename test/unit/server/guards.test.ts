import { chmodSync, existsSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { AgentClient } from '../../../src/client/client.ts';
import { connectAgent } from '../../../src/client/connect.ts';
import { type ControlCommand, ControlRefusal } from '../../../src/server/control.ts';
import { guardCommands } from '../../../src/server/guardcommands.ts';
import { createGuards, type Guards, guardsFolder, MAX_GUARD_SECONDS, MAX_GUARDS } from '../../../src/server/guards.ts';
import { processOf } from '../../../src/server/peer.ts';
import { MAX_GUARD_CONNECTIONS } from '../../../src/server/server.ts';
import { freshEd25519 } from '../../../src/testing/fixtures.ts';
import { type OwnAgent, startMemoryAgent, until } from '../../../src/testing/harness.ts';
import { utf8 } from '../../../src/wire/bytes.ts';

let folder: string;
let place: string;
let own: OwnAgent;
let guards: Guards;
let dead: Set<number>;
let clients: AgentClient[];
const key = freshEd25519();
const itself = processOf(process.pid);

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'latchkey-guards-'));
  place = join(folder, 'guards');
  own = await startMemoryAgent();
  dead = new Set();
  clients = [];
  guards = createGuards(own.agent, { folder: place, log: () => {}, lives: ({ pid }) => !dead.has(pid) });
  const owner = await own.connect();
  await owner.add(key.key, 'a key');
});

afterEach(async () => {
  for (const client of clients) client.close();
  guards.close();
  await own.stop();
  rmSync(folder, { recursive: true, force: true });
});

async function through(path: string): Promise<AgentClient> {
  const client = await connectAgent(path);
  clients.push(client);
  return client;
}

const names = async (client: AgentClient): Promise<string[]> => (await client.list()).map(({ comment }) => comment);
const data = utf8('SSHSIG would be better');

describe('a guard', () => {
  it('is a private socket in a private folder, through which keys are seen', async () => {
    const { guard, path } = await guards.open({ effect: 'ask' });
    expect(guard.id).toBe('g1');
    expect(path).toMatch(/\/guards\/g1-[0-9a-z]+\.sock$/);
    expect(dirname(path)).toBe(place);
    expect(lstatSync(place).mode & 0o777).toBe(0o700);
    expect(lstatSync(path).mode & 0o777).toBe(0o600);
    expect(await names(await through(path))).toEqual(['a key']);
    expect(guards.list()).toMatchObject([{ path, used: 0, connections: 1, secondsLeft: undefined }]);
  });

  it('lets nothing be added, removed or locked', async () => {
    const client = await through((await guards.open({ effect: 'allow' })).path);
    await expect(client.add(freshEd25519().key, 'more')).rejects.toThrow();
    await expect(client.remove(key.blob)).rejects.toThrow();
    await expect(client.removeAll()).rejects.toThrow();
    await expect(client.lock(utf8('x'))).rejects.toThrow();
    await expect(client.unlock(utf8('x'))).rejects.toThrow();
    expect(await names(client)).toEqual(['a key']);
    expect(own.agent.lock.locked).toBe(false);
  });

  it('signs nothing that nobody can tell the meaning of, whatever it allows', async () => {
    const client = await through((await guards.open({ effect: 'allow' })).path);
    await expect(client.sign(key.blob, data)).rejects.toThrow();
  });

  it('shows the keys that it is for', async () => {
    const none = await guards.open({ effect: 'ask', keys: [`SHA256:${'A'.repeat(43)}`] });
    expect(await names(await through(none.path))).toEqual([]);
  });

  it('has so many connections and no more; the others of the agent go on', async () => {
    const { path } = await guards.open({ effect: 'ask' });
    const open = await Promise.all(Array.from({ length: MAX_GUARD_CONNECTIONS }, () => through(path)));
    for (const client of open) expect(await names(client)).toEqual(['a key']);
    const more = await through(path);
    await expect(more.list()).rejects.toThrow();
    open[0]?.close();
    await until(() => guards.list()[0]?.connections === MAX_GUARD_CONNECTIONS - 1, 'a connection is gone');
    expect(await names(await through(path))).toEqual(['a key']);
  });
});

describe('it ends', () => {
  const gone = async (path: string, client: AgentClient): Promise<void> => {
    expect(existsSync(path)).toBe(false);
    expect(guards.list()).toEqual([]);
    await expect(client.list()).rejects.toThrow();
    await expect(connectAgent(path)).rejects.toThrow();
  };

  it('when it is revoked', async () => {
    const { guard, path } = await guards.open({ effect: 'ask' });
    const client = await through(path);
    expect(guards.revoke('g2')).toBe(false);
    expect(guards.revoke(guard.id)).toBe(true);
    await gone(path, client);
    expect(guards.revoke(guard.id)).toBe(false);
  });

  it('when its time is over, by the clock of the agent', async () => {
    const { path } = await guards.open({ effect: 'ask', seconds: 60 });
    const client = await through(path);
    await own.pass(59_000);
    expect(guards.list()).toMatchObject([{ secondsLeft: 1 }]);
    expect(await names(client)).toEqual(['a key']);
    await own.pass(1000);
    await gone(path, client);
    expect(own.clock.pending()).toEqual([]);
  });

  it('when its signatures are used up, but not before the last one could arrive', async () => {
    const { guard, path } = await guards.open({ effect: 'ask', count: 2 });
    const client = await through(path);
    expect([guards.use(guard.id), guards.use(guard.id), guards.use(guard.id)]).toEqual([true, true, false]);
    expect(await names(client)).toEqual(['a key']);
    expect(guards.list()).toMatchObject([{ used: 2 }]);
    await own.pass(2000);
    await gone(path, client);
    expect(guards.use(guard.id)).toBe(false);
  });

  it('when its process has ended', async () => {
    if (itself === undefined) throw new Error('no process');
    const { path } = await guards.open({ effect: 'ask', process: itself });
    const client = await through(path);
    await own.pass(5000);
    expect(await names(client)).toEqual(['a key']);
    dead.add(process.pid);
    await own.pass(1000);
    await gone(path, client);
  });

  it('with the agent, which leaves no folder behind', async () => {
    const { path } = await guards.open({ effect: 'ask' });
    const client = await through(path);
    await guards.open({ effect: 'ask', name: 'bastion' });
    guards.close();
    await gone(path, client);
    expect(existsSync(place)).toBe(false);
    await expect(guards.open({ effect: 'ask' })).rejects.toThrow();
    expect(existsSync(path)).toBe(false);
  });
});

describe('a guard with a name', () => {
  it('is opened once, and its time begins anew', async () => {
    const options = { effect: 'ask', name: 'bastion', seconds: 60, keys: [`SHA256:${'A'.repeat(43)}`] } as const;
    const [first, second] = await Promise.all([guards.open(options), guards.open(options)]);
    expect(first.path).toBe(join(place, 'for-bastion.sock'));
    expect([second.guard.id, second.path]).toEqual(['g1', first.path]);
    const client = await through(first.path);
    await own.pass(59_000);
    expect((await guards.open(options)).secondsLeft).toBe(60);
    await own.pass(59_000);
    expect(await names(client)).toEqual([]);
  });

  it('is replaced, and its connections cut, where the bounds are others', async () => {
    const wide = await guards.open({ effect: 'allow', name: 'bastion' });
    const client = await through(wide.path);
    const narrow = await guards.open({ effect: 'ask', name: 'bastion', keys: [`SHA256:${'A'.repeat(43)}`] });
    expect([narrow.guard.id, narrow.path]).toEqual(['g2', wide.path]);
    await expect(client.list()).rejects.toThrow();
    expect(await names(await through(narrow.path))).toEqual([]);
    expect(guards.list().length).toBe(1);
  });

  it.each(['', '.'.repeat(65), '../x', 'a/b', "a'b", 'a b', 'a%b', 'a\nb', 'é'])('is not called %j', async (name) => {
    await expect(guards.open({ effect: 'ask', name })).rejects.toThrow(/name of a guard/);
  });
});

describe('it is not opened', () => {
  it.each([
    ['to nowhere', { to: [] }],
    ['without keys', { keys: [] }],
    ['for no time', { seconds: 0 }],
    ['for no number', { seconds: Number.NaN }],
    ['for too long', { seconds: MAX_GUARD_SECONDS + 1 }],
    ['for no signature', { count: 0 }],
    ['for half a signature', { count: 1.5 }],
  ])('%s', async (_, options) => {
    await expect(guards.open({ effect: 'ask', ...options })).rejects.toThrow(/a guard/);
    expect(guards.list()).toEqual([]);
  });

  it('beyond so many', async () => {
    for (let i = 0; i < MAX_GUARDS; i++) await guards.open({ effect: 'ask' });
    await expect(guards.open({ effect: 'ask' })).rejects.toThrow(/64 guards are open/);
    guards.revoke('g1');
    expect((await guards.open({ effect: 'ask' })).guard.id).toBe(`g${MAX_GUARDS + 1}`);
  });

  it('in a folder that others may write to, or that is none', async () => {
    mkdirSync(place, { mode: 0o700 });
    chmodSync(place, 0o770);
    await expect(guards.open({ effect: 'ask' })).rejects.toThrow(/not a folder of ours alone/);
    rmSync(place, { recursive: true });
    writeFileSync(place, '');
    await expect(guards.open({ effect: 'ask' })).rejects.toThrow(/not a folder of ours alone/);
    rmSync(place);
    expect((await guards.open({ effect: 'ask' })).guard.id).toBe('g1');
  });

  it('where its path would be too long', async () => {
    const long = createGuards(own.agent, { folder: join(folder, 'x'.repeat(90)), log: () => {} });
    await expect(long.open({ effect: 'ask' })).rejects.toThrow(/too long/);
    long.close();
  });

  it('where it could not be written down', async () => {
    const kept: string[] = [];
    const records = { append: ({ sentence }: { sentence: string }) => String(kept.push(sentence)), flush: () => false };
    Object.assign(own.agent.ports, { records });
    await expect(guards.open({ effect: 'ask' })).rejects.toThrow(/record/);
    expect(guards.list()).toEqual([]);
    Object.assign(records, { flush: () => true });
    const { guard } = await guards.open({ effect: 'ask' });
    guards.revoke(guard.id);
    expect(kept.slice(1)).toEqual(['open guard g2', 'end guard g2: revoked']);
  });
});

it('sockets of an agent that died are cleared away, those of a living one are not', async () => {
  mkdirSync(place, { mode: 0o700 });
  const living = createServer().listen(join(place, 'g7.sock'));
  await until(() => living.listening, 'listening');
  writeFileSync(join(place, 'g3.sock'), '');
  writeFileSync(join(place, 'note'), '');
  const { path } = await guards.open({ effect: 'ask' });
  expect(readdirSync(place).sort()).toEqual([basename(path), 'g7.sock', 'note']);
  living.close();
});

it('a guard is never where one of an earlier agent was, which an ssh may still forward', async () => {
  const first = await guards.open({ effect: 'ask' });
  guards.close();
  guards = createGuards(own.agent, { folder: place, log: () => {} });
  const second = await guards.open({ effect: 'allow' });
  expect(second.guard.id).toBe(first.guard.id);
  expect(second.path).not.toBe(first.path);
});

it('guards lie beside the socket of their agent', () => {
  expect(guardsFolder('/run/user/1000/latchkey/agent.sock')).toBe('/run/user/1000/latchkey/guards');
  expect(guardsFolder('/home/a/.ssh/agent/s.x.agent.y')).toBe('/home/a/.ssh/agent/s.x.agent.y.guards');
});

describe('the commands of the control socket', () => {
  const nobody = { send: () => true, onClose: () => {} };
  const ask = async (name: string, given: Readonly<Record<string, unknown>>): Promise<unknown> => {
    const command = guardCommands(guards).get(name) as ControlCommand;
    return command(given, nobody);
  };
  const hostKey = { blob: Buffer.from(key.blob).toString('base64'), isAuthority: false };
  const toGithub = { user: 'git', hostname: 'github.com', keys: [hostKey] };

  it('open a guard, tell of it and end it', async () => {
    const bounds = { to: [toGithub], via: { hostname: 'bastion', keys: [hostKey] }, count: 3, seconds: 90 };
    const shown = {
      id: 'g1',
      name: null,
      path: expect.stringMatching(/\/guards\/g1-[0-9a-z]+\.sock$/),
      keys: null,
      to: ['git@github.com'],
      via: 'bastion',
      effect: 'allow',
      secondsLeft: 90,
      remaining: 3,
      used: 0,
      connections: 0,
      pid: process.pid,
    };
    expect(await ask('guard', { effect: 'allow', ...bounds, pid: process.pid })).toEqual(shown);
    expect(await ask('guards', {})).toEqual({ guards: [shown] });
    expect(await ask('revoke', { id: 'g1' })).toEqual({ id: 'g1' });
    expect(await ask('guards', {})).toEqual({ guards: [] });
  });

  it('end all guards at once', async () => {
    for (let i = 0; i < 3; i++) await ask('guard', { effect: 'ask' });
    expect(await ask('revoke', { id: 'all' })).toEqual({ id: 'all' });
    expect(guards.list()).toEqual([]);
  });

  it.each([
    [{}, /effect/],
    [{ effect: 'deny' }, /effect/],
    [{ effect: 'ask', hosts: ['a'] }, /guards know no "hosts"/],
    [{ effect: 'ask', keys: [] }, /keys/],
    [{ effect: 'ask', keys: ['MD5:00'] }, /fingerprint/],
    [{ effect: 'ask', to: toGithub }, /list/],
    [{ effect: 'ask', to: [{ ...toGithub, keys: [] }] }, /keys of to/],
    [{ effect: 'ask', to: [{ ...toGithub, hostname: '' }] }, /no host/],
    [{ effect: 'ask', to: [{ ...toGithub, keys: [{ ...hostKey, blob: '*' }] }] }, /base64/],
    [{ effect: 'ask', to: [{ ...toGithub, keys: [{ blob: hostKey.blob }] }] }, /isAuthority/],
    [{ effect: 'ask', via: toGithub }, /names a user/],
    [{ effect: 'ask', seconds: '90' }, /seconds/],
    [{ effect: 'ask', seconds: 0.5 }, /seconds/],
    [{ effect: 'ask', count: -1 }, /count/],
    [{ effect: 'ask', pid: 2 ** 30 }, /no such process/],
    [{ effect: 'ask', name: '../x' }, /name of a guard/],
  ])('refuse %j', async (given, reason) => {
    await expect(ask('guard', given)).rejects.toThrow(reason);
    await expect(ask('guard', given)).rejects.toThrow(ControlRefusal);
    expect(guards.list()).toEqual([]);
  });

  it('refuse to end what is not open', async () => {
    await expect(ask('revoke', { id: 'g9' })).rejects.toThrow('no such guard');
    await expect(ask('revoke', {})).rejects.toThrow('no such guard');
  });
});
