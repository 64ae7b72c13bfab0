// The drop-in ssh-agent and OpenSSH's own, each forwarded to a hostile host that does the same to both: what is signed,
// refused and bound is the same. Ours writes it down.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ask } from '../support/agentprocess.ts';
import { raw, str } from '../unit/wire/build.ts';
import { type Chain, openScene, type Scene } from './fixtures/hostilescene.ts';
import { Agent, bin, type Setting } from './fixtures/setting.ts';

const BEFORE = [
  'logins of sessions that it invents',
  'a login of its own session, once more',
  'its own binding again, as if for a login',
  "another connection's binding, sent again",
  "another connection's binding, behind one that ends the way",
  "another connection's binding, behind a hop that it makes up",
  'bindings with the keys of other hosts',
  'a binding of another session under a signature that is real',
  'its own key under a session with c, for c',
  'its own key under a session with c, for whoever does not look',
  'a session with c, for a key that is to be confirmed',
  'a session with c, for a key that may not go there',
  'more hops than a way may have',
  'two bindings and two logins in one write',
  'a signature for git',
  'a signature for sudo',
  'a web login',
  'a certificate',
  'blind bytes',
  'a key that is not held',
  'half a request in a whole frame',
  'listing a thousand times',
] as const;
const AFTER = ['removing keys', 'removing all keys'] as const;

async function openssh(setting: Setting): Promise<Agent> {
  const path = setting.path('openssh.sock');
  const child = spawn('/usr/bin/ssh-agent', ['-D', '-a', path], { env: setting.env, stdio: 'ignore' });
  const agent = new Agent(path, setting, child);
  setting.atEnd(() => agent.stop());
  await setting.until(() => existsSync(path));
  return agent;
}

const scenes: Scene[] = [];
const chains: Chain[] = [];

beforeAll(async () => {
  for (const start of [(setting: Setting) => setting.agent(), openssh]) {
    const scene = await openScene(start);
    scenes.push(scene);
    chains.push(await scene.chain());
  }
});

afterAll(async () => {
  for (const chain of chains) await chain.close();
  for (const { setting } of scenes) await setting.end();
});

/** Keys differ: the first, second and third are what is the same. */
function comparable({ keys }: Scene, answers: readonly (number | string)[]): readonly (number | string)[] {
  const names = Object.entries(keys).map(([name, { line }]) => [line.split(' ')[1] ?? '', name] as const);
  // OpenSSH 9.2 has not the failure that later ones have for extensions.
  return answers.map((answer) => names.find(([blob]) => blob === answer)?.[1] ?? (answer === 28 ? 5 : answer));
}

async function same(attack: string): Promise<void> {
  const [ours, theirs] = await Promise.all(
    chains.map(async (chain, i) => {
      const { answers, signatures } = await chain.attack(attack);
      return { answers: comparable(scenes[i] as Scene, answers), signatures };
    }),
  );
  expect(ours).toEqual(theirs);
}

it.each(BEFORE)('%s', same);

it('adding the held keys with less is refused where the halves are not of one key', async () => {
  const { answers } = await (chains[0] as Chain).attack('adding the held keys with less');
  expect(answers).toEqual(new Array(6).fill(5));
});

it('locking, and signing and removing behind it', async () => {
  await same('locking');
  await same('a signature for git');
  await same('removing keys');
  // As OpenSSH since 10.5: where a connection leads has to be known later.
  const told = await (chains[0] as Chain).attack('listing and signing while it is locked');
  expect(told).toEqual({ answers: [12, 5, 6, 5], signatures: 0 });
  for (const { agent } of scenes) expect((await ask(agent.path, raw(23, str('mine'))))?.[0]).toBe(6);
});

it.each(AFTER)('%s', same);

it('all of it is written down', async () => {
  const [scene] = scenes;
  const env = { SSH_AUTH_SOCK: scene?.agent.path };
  const latchkey = (...words: readonly string[]) => scene?.setting.run(join(bin, 'latchkey'), words, { env });
  const log = await latchkey('log', '--json', '--forwarded');
  const kinds = new Set((log?.stdout.trim().split('\n') ?? []).map((line) => JSON.parse(line).kind));
  expect([...kinds].sort()).toEqual(
    expect.arrayContaining(['bind', 'lock', 'malformed', 'remove', 'remove-all', 'sign']),
  );
  expect(await latchkey('log', '--verify')).toMatchObject({ status: 0 });
});
