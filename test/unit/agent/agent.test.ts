import { expect, test } from 'vitest';
import { type AgentOptions, createAgent } from '../../../src/agent/agent.ts';
import { FakeClock, ScriptedConfirm } from '../../../src/testing/fakes.ts';
import { type FreshKey, freshEd25519 } from '../../../src/testing/fixtures.ts';
import { adding, signing } from './messages.ts';

const ed = freshEd25519();

async function withKey(options: AgentOptions, key: FreshKey = ed, constraint: readonly number[] = []) {
  const agent = createAgent(options);
  const session = agent.openSession();
  expect(await session.handle(adding(key, 'comment', constraint))).toEqual(Uint8Array.of(6));
  return { agent, session };
}

test('an option that is not known is refused', () => {
  expect(() => createAgent({ lifetime: 5 } as never)).toThrow(/unknown option "lifetime"/);
});

test('status tells how many keys, sessions and questions there are', async () => {
  const { agent, session } = await withKey({});
  const other = agent.openSession();
  expect(agent.status()).toMatchObject({ keys: 1, locked: false, sessions: 2, waitingQuestions: 0 });
  other.close();
  other.close();
  expect(agent.status().sessions).toBe(1);
  session.close();
  expect(agent.status().sessions).toBe(0);
});

test('a key is wiped when its time is over, also where nobody asks', async () => {
  const clock = new FakeClock();
  const { agent } = await withKey({ ports: { clock } }, ed, [1, 0, 0, 0, 60]);
  const held = agent.custody.status().usedBytes;
  clock.advance(59_999);
  expect(agent.custody.status().usedBytes).toBe(held);
  clock.advance(1);
  expect(agent.custody.status().usedBytes).toBeLessThan(held);
  expect(clock.pending()).toEqual([]);
});

test('one timer is set, for the key that expires next', async () => {
  const clock = new FakeClock();
  const { session } = await withKey({ ports: { clock } }, ed, [1, 0, 0, 0, 60]);
  await session.handle(adding(freshEd25519(), '', [1, 0, 0, 0, 30]));
  await session.handle(adding(freshEd25519(), '', [1, 0, 0, 0, 90]));
  expect(clock.pending()).toEqual([30_000]);
  clock.advance(30_000);
  expect(clock.pending()).toEqual([30_000]);
  await session.handle(Uint8Array.of(19));
  expect(clock.pending()).toEqual([]);
});

test('without a port to ask, nobody consents', async () => {
  const { session } = await withKey({}, ed, [2]);
  expect(await session.handle(signing(ed))).toEqual(Uint8Array.of(5));
});

test('no private byte and nothing that was signed is logged', async () => {
  const lines: string[] = [];
  const log = (_level: string, text: string): void => void lines.push(text);
  const { session } = await withKey({ ports: { log, confirm: new ScriptedConfirm() } }, ed, [2]);
  await session.handle(signing(ed));
  await session.handle(Uint8Array.of(22, 0, 0, 0, 3, 0x61, 0x62, 0x63));
  await session.handle(Uint8Array.of(23, 0, 0, 0, 3, 0x78, 0x79, 0x7a));
  await session.handle(adding(ed, 'comment', [9]));
  const text = lines.join('\n');
  const secret = Buffer.from(ed.secrets.seed ?? []);
  for (const form of [secret.toString('hex'), secret.toString('base64'), 'abc', 'xyz', 'what is signed'])
    expect(text).not.toContain(form);
  expect(text).toContain('comment');
});
