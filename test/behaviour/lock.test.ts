import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import type { AgentConnection } from '../../src/testing/connection.ts';
import { type BindingOptions, bindingTo, freshEd25519, freshRsa } from '../../src/testing/fixtures.ts';
import { type AgentUnderTest, type OwnAgent, until } from '../../src/testing/harness.ts';
import { encodeSessionBind } from '../../src/wire/extensions.ts';
import { type Part, raw, str, u32 } from '../unit/wire/build.ts';
import { FAILURE, numberOf, OUR_KINDS, onEachAgent, SIGNATURE, SUCCESS, where } from './agents.ts';

const ed = freshEd25519();
const rsa = freshRsa();
const host = freshEd25519();
const empty = raw(12, u32(0));
const signing = raw(13, str(ed.blob), str('data'), u32(0));

const lock = async (connection: AgentConnection, phrase: Part): Promise<number | undefined> =>
  numberOf(await connection.ask(raw(22, str(phrase))));
const unlock = async (connection: AgentConnection, phrase: Part): Promise<number | undefined> =>
  numberOf(await connection.ask(raw(23, str(phrase))));
const sign = async (connection: AgentConnection): Promise<number | undefined> =>
  numberOf(await connection.ask(signing));

async function opened(agent: AgentUnderTest): Promise<AgentConnection> {
  const connection = await agent.open();
  for (const { key } of [ed, rsa])
    expect((await connection.request({ kind: 'add', key, comment: '', constraints: {} })).kind).toBe('success');
  return connection;
}

const binding = (options: BindingOptions): Uint8Array =>
  raw(27, str('session-bind@openssh.com'), encodeSessionBind(bindingTo(host, options)));

onEachAgent((start) => {
  describe('a lock', () => {
    test('hides the keys on every connection, and the right phrase brings all back', async () => {
      const agent = await start();
      const connection = await opened(agent);
      const before = await connection.ask(raw(11));
      expect(await lock(connection, 'correct')).toBe(SUCCESS);
      for (const one of [connection, await agent.open()]) {
        expect(await one.ask(raw(11))).toEqual(empty);
        expect(await sign(one)).toBe(FAILURE);
      }
      expect(await unlock(await agent.open(), 'correct')).toBe(SUCCESS);
      expect(await connection.ask(raw(11))).toEqual(before);
      expect(await sign(connection)).toBe(SIGNATURE);
      const other = raw(13, str(rsa.blob), str('data'), u32(2));
      expect(numberOf(await connection.ask(other))).toBe(SIGNATURE);
    });

    test('refuses what uses or changes keys', async () => {
      const connection = await opened(await start());
      expect(await lock(connection, 'correct')).toBe(SUCCESS);
      const { pk, sk } = freshEd25519().key.fields as { pk: Uint8Array; sk: Uint8Array };
      for (const message of [
        signing,
        raw(17, str('ssh-ed25519'), str(pk), str(sk), str('')),
        raw(25, str('ssh-ed25519'), str(pk), str(sk), str(''), 2),
        raw(18, str(ed.blob)),
        raw(19),
        raw(9),
        raw(20, str('/usr/lib/none.so'), str('')),
        raw(21, str('/usr/lib/none.so'), str('')),
        raw(26, str('/usr/lib/none.so'), str(''), 2),
        raw(22, str('correct')),
        raw(27, str('query')),
        raw(27, str('nobody-knows@example.org')),
        raw(1),
        raw(200),
      ])
        expect(numberOf(await connection.ask(message))).toBe(FAILURE);
      expect(await unlock(connection, 'correct')).toBe(SUCCESS);
      expect(await sign(connection)).toBe(SIGNATURE);
    });

    test('takes session bindings, which are known afterwards', async () => {
      const agent = await start();
      const connection = await opened(agent);
      expect(await lock(connection, 'correct')).toBe(SUCCESS);
      const other = await agent.open();
      const bound = numberOf(await other.ask(binding({})));
      expect(bound).toBe(where(agent, 'bind-while-locked', { openssh: FAILURE, ours: SUCCESS }));
      expect(await unlock(connection, 'correct')).toBe(SUCCESS);
      // A login: no second session on that connection.
      const again = numberOf(await other.ask(binding({})));
      expect(again).toBe(where(agent, 'bind-while-locked', { openssh: SUCCESS, ours: 28 }));
    });

    test('with an empty phrase, or a second one, is refused', async () => {
      const agent = await start();
      const connection = await opened(agent);
      expect(await lock(connection, '')).toBe(FAILURE);
      expect(await sign(connection)).toBe(SIGNATURE);
      expect(await lock(connection, 'first')).toBe(SUCCESS);
      expect(await lock(connection, 'second')).toBe(FAILURE);
      const paced = pace(agent);
      expect(await unlock(connection, 'second')).toBe(FAILURE);
      expect(await unlock(connection, 'first')).toBe(SUCCESS);
      paced();
    });

    test('that is not there cannot be opened', async () => {
      const connection = await opened(await start());
      for (const phrase of ['', 'some phrase']) expect(await unlock(connection, phrase)).toBe(FAILURE);
      expect(await sign(connection)).toBe(SIGNATURE);
    });

    test('does not open to a wrong phrase, one more or one less letter, or none', async () => {
      const agent = await start();
      const connection = await opened(agent);
      expect(await lock(connection, 'phrase')).toBe(SUCCESS);
      for (const wrong of ['phras', 'phrase ', 'Phrase', '']) {
        const paced = pace(agent);
        expect(await unlock(await agent.open(), wrong)).toBe(FAILURE);
        paced();
        expect(await sign(connection)).toBe(FAILURE);
      }
      const paced = pace(agent);
      expect(await unlock(connection, 'phrase')).toBe(SUCCESS);
      paced();
      expect(await sign(connection)).toBe(SIGNATURE);
    });

    test('can be set and opened again, with phrases of any bytes but NUL', async () => {
      const agent = await start();
      const connection = await opened(agent);
      for (const phrase of ['one', raw(0xff, 0x80, 0x0a), 'x'.repeat(1000)]) {
        expect(await lock(connection, phrase)).toBe(SUCCESS);
        expect(await sign(connection)).toBe(FAILURE);
        expect(await unlock(connection, phrase)).toBe(SUCCESS);
        expect(await sign(connection)).toBe(SIGNATURE);
      }
      expect(await lock(connection, 'phrase\0')).toBe(SUCCESS);
      const opens = await unlock(connection, 'phrase');
      expect(opens).toBe(where(agent, 'phrase-ends-in-nul', { openssh: FAILURE, ours: SUCCESS }));
    });

    test('does not stop lifetimes', async () => {
      const agent = await start();
      const connection = await agent.open();
      const added = { kind: 'add', key: ed.key, comment: '', constraints: { lifetime: 1 } } as const;
      expect((await connection.request(added)).kind).toBe('success');
      expect(await lock(connection, 'phrase')).toBe(SUCCESS);
      await agent.pass(2100);
      expect(await unlock(connection, 'phrase')).toBe(SUCCESS);
      expect(await connection.ask(raw(11))).toEqual(empty);
    });

    test('a wrong guess delays its guesser, and others', async () => {
      const agent = await start();
      const connection = await opened(agent);
      expect(await lock(connection, 'phrase')).toBe(SUCCESS);
      const guesser = await agent.open();
      const paced = pace(agent);
      for (let i = 0; i < 3; i++) expect(await unlock(guesser, 'wrong')).toBe(FAILURE);
      paced();
      let order = '';
      const guess = unlock(guesser, 'wrong').then(() => {
        order += 'guess ';
      });
      await sleep(50);
      expect(await connection.ask(raw(11))).toEqual(empty);
      order += 'list ';
      const last = pace(agent);
      await guess;
      last();
      expect(order).toBe(where(agent, 'unlock-delay', { openssh: 'guess list ', ours: 'list guess ' }));
    });
  });
});

/** Lets the fake clock of an agent of ours run until it is told to stop; OpenSSH's has real time. */
function pace(agent: AgentUnderTest): () => void {
  const timer = setInterval(() => void (agent.kind === 'openssh' || agent.pass(100)), 1);
  return () => clearInterval(timer);
}

onEachAgent((start) => {
  describe('the delay of guesses', () => {
    test('grows by a tenth of a second for each wrong one, and ends with a right one', async () => {
      const agent = (await start()) as OwnAgent;
      const connection = await opened(agent);
      expect(await lock(connection, 'phrase')).toBe(SUCCESS);
      for (let wrong = 0; wrong < 4; wrong++) {
        const guess = unlock(connection, 'wrong');
        if (wrong > 0) {
          await until(() => agent.clock.pending().length > 0, 'the guess is delayed');
          expect(agent.clock.pending()).toEqual([wrong * 100]);
          agent.clock.advance(wrong * 100);
        }
        expect(await guess).toBe(FAILURE);
      }
      const right = unlock(connection, 'phrase');
      await until(() => agent.clock.pending().length > 0, 'the right guess is delayed as well');
      agent.clock.advance(400);
      expect(await right).toBe(SUCCESS);
      // The count is forgotten: no delay for the next lock.
      expect(await lock(connection, 'other')).toBe(SUCCESS);
      expect(await unlock(connection, 'wrong')).toBe(FAILURE);
    });
  });
}, OUR_KINDS);
