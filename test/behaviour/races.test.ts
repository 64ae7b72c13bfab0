/** What happens at the same time, on several connections of our agent; OpenSSH's does one thing at a time. */
import { getEventListeners } from 'node:events';
import { describe, expect, test } from 'vitest';
import { createAgent } from '../../src/agent/agent.ts';
import { MAX_WAITING_QUESTIONS, QUESTION_MS } from '../../src/agent/questions.ts';
import type { AgentConnection } from '../../src/testing/connection.ts';
import { FakeClock, ScriptedConfirm } from '../../src/testing/fakes.ts';
import { type FreshKey, freshEd25519, freshRsa, verifiedName } from '../../src/testing/fixtures.ts';
import { type OwnAgent, startSocketAgent, until } from '../../src/testing/harness.ts';
import type { Constraints } from '../../src/wire/constraints.ts';
import { encodeRequest } from '../../src/wire/requests.ts';
import { raw, str, u32 } from '../unit/wire/build.ts';
import { FAILURE, numberOf, OUR_KINDS, onEachAgent, SIGNATURE, SUCCESS } from './agents.ts';

const ed = freshEd25519();
const rsa = freshRsa(4096);
const data = raw('data');
const frame = (message: Uint8Array): Uint8Array => raw(u32(message.length), message);
const signing = ({ blob }: FreshKey): Uint8Array => raw(13, str(blob), str(data), u32(4));

async function add(connection: AgentConnection, { key }: FreshKey, constraints: Constraints = {}): Promise<void> {
  expect((await connection.request({ kind: 'add', key, comment: '', constraints })).kind).toBe('success');
}

onEachAgent((start) => {
  const own = async (): Promise<OwnAgent> => (await start()) as OwnAgent;

  describe('while another thread signs', () => {
    /** Eight connections whose signatures are under way. */
    async function busy(agent: OwnAgent): Promise<readonly AgentConnection[]> {
      const connections = await Promise.all(Array.from({ length: 8 }, () => agent.open()));
      for (const connection of connections) connection.send(frame(signing(rsa)));
      return connections;
    }

    /** Each answer is a good signature or a failure. */
    async function settled(connections: readonly AgentConnection[]): Promise<void> {
      for (const connection of connections) {
        const answer = (await connection.answer()) ?? raw(0);
        if (numberOf(answer) !== FAILURE) expect(verifiedName(rsa, data, answer.subarray(5))).toBe('rsa-sha2-512');
      }
    }

    test.each<[string, Uint8Array]>([
      ['its key is removed', raw(18, str(rsa.blob))],
      ['all keys are removed', raw(19)],
    ])('and %s, nothing of the key is left', async (_name, message) => {
      const agent = await own();
      const connection = await agent.open();
      const { usedBytes } = agent.agent.custody.status();
      await add(connection, rsa);
      const connections = await busy(agent);
      expect(numberOf(await connection.ask(message))).toBe(SUCCESS);
      await settled(connections);
      expect(numberOf(await connection.ask(signing(rsa)))).toBe(FAILURE);
      expect(agent.agent.custody.status().usedBytes).toBe(usedBytes);
    });

    test('and the agent is locked, nothing leaves it; unlocked, the key signs again', async () => {
      const agent = await own();
      const connection = await agent.open();
      await add(connection, rsa);
      const connections = await busy(agent);
      expect(numberOf(await connection.ask(raw(22, str('phrase'))))).toBe(SUCCESS);
      await settled(connections);
      expect(numberOf(await connection.ask(signing(rsa)))).toBe(FAILURE);
      expect(numberOf(await connection.ask(raw(23, str('phrase'))))).toBe(SUCCESS);
      expect(verifiedName(rsa, data, ((await connection.ask(signing(rsa))) ?? raw(0)).subarray(5))).toBe(
        'rsa-sha2-512',
      );
    });

    test('and the key is added again, every signature is given', async () => {
      const agent = await own();
      const connection = await agent.open();
      await add(connection, rsa);
      const connections = await busy(agent);
      for (let i = 0; i < 4; i++) await add(connection, rsa, { lifetime: 1000 });
      for (const one of connections) expect(numberOf(await one.answer())).toBe(SIGNATURE);
    });

    test('and the client hangs up, the agent goes on', async () => {
      const agent = await own();
      const connection = await agent.open();
      await add(connection, rsa);
      for (const one of await busy(agent)) one.close();
      expect(numberOf(await connection.ask(signing(rsa)))).toBe(SIGNATURE);
      await until(() => agent.agent.status().sessions === 1, 'the sessions are closed');
    });
  });

  describe('while a person is asked', () => {
    /** A connection whose question waits. */
    async function asking(agent: OwnAgent, constraints: Constraints = {}): Promise<AgentConnection> {
      const connection = await agent.open();
      await add(connection, ed, { confirm: true, ...constraints });
      agent.person.will('wait');
      const { waiting } = agent.person;
      connection.send(frame(signing(ed)));
      await until(() => agent.person.waiting === waiting + 1, 'the question waits');
      return connection;
    }

    test.each<[string, Uint8Array[]]>([
      ['its key is removed', [raw(18, str(ed.blob))]],
      ['all keys are removed', [raw(19)]],
      ['the agent is locked', [raw(22, str('phrase'))]],
    ])('and %s, the answer comes too late', async (_name, messages) => {
      const agent = await own();
      const connection = await asking(agent);
      const other = await agent.open();
      for (const message of messages) expect(numberOf(await other.ask(message))).toBe(SUCCESS);
      agent.person.settle('yes');
      expect(numberOf(await connection.answer())).toBe(FAILURE);
    });

    test('and its key expires, the answer comes too late', async () => {
      const agent = await own();
      const connection = await asking(agent, { lifetime: 60 });
      agent.clock.advance(60_000);
      agent.person.settle('yes');
      expect(numberOf(await connection.answer())).toBe(FAILURE);
    });

    test('and its key is added again, the answer is for another', async () => {
      const agent = await own();
      const connection = await asking(agent);
      await add(await agent.open(), ed, { confirm: true });
      agent.person.settle('yes');
      expect(numberOf(await connection.answer())).toBe(FAILURE);
    });

    test('and the client hangs up, the question is withdrawn', async () => {
      const agent = await own();
      const connection = await asking(agent);
      connection.close();
      await until(() => agent.person.withdrawn === 1, 'the question is withdrawn');
      await until(() => agent.agent.status().waitingQuestions === 0, 'no question waits');
      expect(agent.agent.status().sessions).toBe(0);
      expect(agent.clock.pending()).toEqual([]);
    });

    test('and nobody answers, it ends after a minute and a half', async () => {
      const agent = await own();
      const connection = await asking(agent);
      agent.clock.advance(QUESTION_MS - 1);
      expect(agent.person.waiting).toBe(1);
      agent.clock.advance(1);
      expect(numberOf(await connection.answer())).toBe(FAILURE);
      expect(agent.person.withdrawn).toBe(1);
    });

    test('many at once are refused without asking', async () => {
      const agent = await own();
      const waiting = [await asking(agent)];
      while (waiting.length < MAX_WAITING_QUESTIONS) {
        const connection = await agent.open();
        connection.send(frame(signing(ed)));
        waiting.push(connection);
        await until(() => agent.person.waiting === waiting.length, 'the question waits');
      }
      expect(numberOf(await (await agent.open()).ask(signing(ed)))).toBe(FAILURE);
      agent.person.settle('yes');
      for (const connection of waiting) expect(numberOf(await connection.answer())).toBe(SIGNATURE);
      expect(agent.agent.status().waitingQuestions).toBe(0);
    });
  });

  describe('guesses', () => {
    test('on many connections at once open the lock for the right one alone', async () => {
      const agent = await own();
      const connection = await agent.open();
      await add(connection, ed);
      expect(numberOf(await connection.ask(raw(22, str('phrase'))))).toBe(SUCCESS);
      const { usedBytes } = agent.agent.custody.status();
      const guessers = await Promise.all(Array.from({ length: 15 }, () => agent.open()));
      const guesses = guessers.map((guesser, i) => guesser.ask(raw(23, str(i === 7 ? 'phrase' : 'wrong'))));
      const running = setInterval(() => agent.clock.advance(100), 1);
      const answers = (await Promise.all(guesses)).map(numberOf);
      clearInterval(running);
      expect(answers.map((number) => number === SUCCESS)).toEqual(answers.map((_, i) => i === 7));
      expect(numberOf(await connection.ask(signing(ed)))).toBe(SIGNATURE);
      expect(agent.agent.custody.status().usedBytes).toBe(usedBytes);
    });

    test('that come while the agent is being locked are looked at afterwards', async () => {
      const agent = await own();
      const connection = await agent.open();
      const other = await agent.open();
      await add(connection, ed);
      connection.send(frame(raw(22, str('phrase'))));
      await until(() => agent.agent.lock.locked, 'the lock is asked for');
      expect(numberOf(await other.ask(raw(23, str('phrase'))))).toBe(SUCCESS);
      expect(numberOf(await connection.answer())).toBe(SUCCESS);
      expect(numberOf(await connection.ask(signing(ed)))).toBe(SIGNATURE);
    });
  });

  describe('connections', () => {
    test('leave nothing behind when they end', async () => {
      const agent = await own();
      const first = await agent.open();
      await add(first, ed, { confirm: true });
      for (let i = 0; i < 200; i++) {
        const connection = await agent.open();
        expect(numberOf(await connection.ask(signing(ed)))).toBe(SIGNATURE);
        connection.close();
      }
      await until(() => agent.agent.status().sessions === 1, 'the sessions are closed');
      expect(agent.clock.pending()).toEqual([]);
    });
  });
}, OUR_KINDS);

test('connections that have ended make room for others', async () => {
  const agent = await startSocketAgent({ maxConnections: 4 });
  try {
    for (let i = 0; i < 12; i++) {
      const connection = await agent.open();
      expect(await connection.ask(raw(11))).toEqual(raw(12, u32(0)));
      connection.close();
      await until(() => agent.agent.status().sessions === 0, 'the session is closed');
    }
  } finally {
    await agent.stop();
  }
});

test('a session that asks again and again gathers no listeners', async () => {
  const clock = new FakeClock();
  const agent = createAgent({ ports: { clock, confirm: new ScriptedConfirm() } });
  const session = agent.openSession();
  const request = { kind: 'add', key: ed.key, comment: '', constraints: { confirm: true } } as const;
  expect(await session.handle(encodeRequest(request).finish())).toEqual(raw(SUCCESS));
  for (let i = 0; i < 50; i++) expect(numberOf(await session.handle(signing(ed)))).toBe(SIGNATURE);
  expect(getEventListeners(session.closed, 'abort')).toHaveLength(0);
  expect(clock.pending()).toEqual([]);
});
