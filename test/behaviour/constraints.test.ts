import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { fingerprint, parsePublicKey } from '../../src/keys/publickey.ts';
import type { AgentConnection } from '../../src/testing/connection.ts';
import { type FreshKey, freshEcdsa, freshEd25519 } from '../../src/testing/fixtures.ts';
import { until } from '../../src/testing/harness.ts';
import type { Constraints } from '../../src/wire/constraints.ts';
import { fill, letters, type Part, raw, str, u32 } from '../unit/wire/build.ts';
import { FAILURE, numberOf, onEachAgent, SIGNATURE, SUCCESS, where } from './agents.ts';

const ed = freshEd25519();
const p256 = freshEcdsa('nistp256');

async function add(
  connection: AgentConnection,
  { key }: FreshKey,
  constraints: Constraints,
  comment = '',
): Promise<void> {
  expect((await connection.request({ kind: 'add', key, comment, constraints })).kind).toBe('success');
}

async function comments(connection: AgentConnection): Promise<readonly string[]> {
  const answer = await connection.request({ kind: 'list' });
  return answer.kind === 'identities' ? answer.identities.map(({ comment }) => comment) : [answer.kind];
}

const signing = ({ blob }: FreshKey): Uint8Array => raw(13, str(blob), str('data'), u32(0));
const sign = async (connection: AgentConnection, key: FreshKey): Promise<number | undefined> =>
  numberOf(await connection.ask(signing(key)));

/** A little more than two seconds: OpenSSH counts whole ones. */
const OVER_ONE_SECOND = 2100;

onEachAgent((start) => {
  describe('a lifetime', () => {
    test('of one second ends the key within two, and no other', async () => {
      const agent = await start();
      const connection = await agent.open();
      await add(connection, ed, { lifetime: 1 }, 'short');
      await add(connection, p256, {}, 'long');
      expect(await comments(connection)).toEqual(['short', 'long']);
      expect(await sign(connection, ed)).toBe(SIGNATURE);
      await agent.pass(OVER_ONE_SECOND);
      expect(await sign(connection, ed)).toBe(FAILURE);
      expect(await comments(connection)).toEqual(['long']);
      expect(await sign(connection, p256)).toBe(SIGNATURE);
    });

    test('of no seconds ends it at once', async () => {
      const connection = await (await start()).open();
      await add(connection, ed, { lifetime: 0 });
      expect(await comments(connection)).toEqual([]);
      expect(await sign(connection, ed)).toBe(FAILURE);
    });

    test('of 2^32-1 seconds keeps it', async () => {
      const connection = await (await start()).open();
      await add(connection, ed, { lifetime: 0xffffffff });
      expect(await sign(connection, ed)).toBe(SIGNATURE);
    });

    test('is lifted when the key is added again without one, and set when it is added again with one', async () => {
      const agent = await start();
      const connection = await agent.open();
      await add(connection, ed, { lifetime: 1 }, 'lifted');
      await add(connection, ed, {}, 'lifted');
      await add(connection, p256, {}, 'set');
      await add(connection, p256, { lifetime: 1 }, 'set');
      await agent.pass(OVER_ONE_SECOND);
      expect(await comments(connection)).toEqual(['lifted']);
    });

    test('that the agent gives all keys holds for those that bring none', async () => {
      const agent = await start({ defaultLifetime: 1 });
      const connection = await agent.open();
      await add(connection, ed, {}, 'default');
      await add(connection, p256, { lifetime: 1000 }, 'own');
      await agent.pass(OVER_ONE_SECOND);
      expect(await comments(connection)).toEqual(['own']);
    });
  });

  describe('malformed constraints', () => {
    const { pk, sk } = ed.key.fields as { pk: Uint8Array; sk: Uint8Array };
    const withConstraints = (number: number, ...parts: Part[]): Uint8Array =>
      raw(number, str('ssh-ed25519'), str(pk), str(sk), str('comment'), ...parts);
    const lifetime = raw(1, u32(1000));

    test.each<[string, Uint8Array]>([
      ['a lifetime cut short', raw(1, 0, 0, 3)],
      ['a lifetime twice', raw(lifetime, lifetime)],
      ['confirmation twice', raw(2, 2)],
      ['an unknown number', raw(4)],
      ['number 0', raw(0)],
      ['a number of signatures, which is for XMSS', raw(3, u32(5))],
      ['something after the lifetime', raw(lifetime, 77)],
      ['an extension without a name', raw(255)],
      ['an extension with an empty name', raw(255, str(''))],
      ['an unknown extension', raw(255, str('nobody-knows@example.org'), str('x'))],
      ['a name cut short', raw(255, u32(40), 'restrict')],
      ['destinations cut short', raw(255, str('restrict-destination-v00@openssh.com'), u32(9))],
      ['destinations that are none', raw(255, str('restrict-destination-v00@openssh.com'), str(fill(7)))],
      ['a provider for a key that needs none', raw(255, str('sk-provider@openssh.com'), str('internal'))],
      ['a provider with a NUL', raw(255, str('sk-provider@openssh.com'), str('inter\0nal'))],
      ['certificates, which go with tokens', raw(255, str('associated-certs-v00@openssh.com'), 0, str(''))],
    ])('%s: the key is refused', async (_name, constraints) => {
      const connection = await (await start()).open();
      for (const number of [17, 25]) {
        expect(numberOf(await connection.ask(withConstraints(number, constraints)))).toBe(FAILURE);
        expect(await comments(connection)).toEqual([]);
      }
      expect(numberOf(await connection.ask(withConstraints(25, lifetime, 2)))).toBe(SUCCESS);
    });

    test('messages 17 and 25 read constraints alike', async () => {
      const connection = await (await start()).open();
      for (const number of [17, 25]) {
        expect(numberOf(await connection.ask(withConstraints(number, raw(1, u32(0)))))).toBe(SUCCESS);
        expect(await comments(connection)).toEqual([]);
      }
    });

    test('an empty list of destinations', async () => {
      const agent = await start();
      const connection = await agent.open();
      const empty = raw(255, str('restrict-destination-v00@openssh.com'), str(''));
      const answer = numberOf(await connection.ask(withConstraints(25, empty)));
      expect(answer).toBe(where(agent, 'empty-destinations', { openssh: SUCCESS, ours: FAILURE }));
      expect(await sign(connection, ed)).toBe(
        where(agent, 'empty-destinations', { openssh: SIGNATURE, ours: FAILURE }),
      );
    });
  });
});

/** The built program asks by an askpass program, as OpenSSH's does. */
onEachAgent(
  (start) => {
    const question = (key: FreshKey, comment: string): string =>
      `Allow use of key ${comment}?\nKey fingerprint ${fingerprint(parsePublicKey(key.blob))}.`;

    describe('confirmation', () => {
      test('is asked for each use, with the key and its fingerprint, and yes lets it sign', async () => {
        const agent = await start();
        const connection = await agent.open();
        await add(connection, ed, { confirm: true }, 'my key');
        expect(await comments(connection)).toEqual(['my key']);
        expect(agent.person.questions()).toEqual([]);
        for (let i = 0; i < 2; i++) expect(await sign(connection, ed)).toBe(SIGNATURE);
        expect(agent.person.questions()).toEqual([question(ed, 'my key'), question(ed, 'my key')]);
      });

      test('that is refused is a failure, and the key stays', async () => {
        const agent = await start();
        const connection = await agent.open();
        await add(connection, ed, { confirm: true }, 'my key');
        agent.person.will('no');
        expect(await sign(connection, ed)).toBe(FAILURE);
        agent.person.will('yes');
        expect(await sign(connection, ed)).toBe(SIGNATURE);
      });

      test('without anybody to ask is a failure', async () => {
        const agent = await start({ attended: false });
        const connection = await agent.open();
        await add(connection, ed, { confirm: true });
        expect(await sign(connection, ed)).toBe(FAILURE);
        expect(agent.person.questions()).toEqual([]);
      });

      test('is lifted when the key is added again without it', async () => {
        const agent = await start();
        const connection = await agent.open();
        await add(connection, ed, { confirm: true });
        await add(connection, ed, {});
        agent.person.will('no');
        expect(await sign(connection, ed)).toBe(SIGNATURE);
      });

      test('shows a comment that would take the terminal over', async () => {
        const agent = await start();
        const connection = await agent.open();
        await add(connection, ed, { confirm: true }, 'a\u001b[2Jb');
        expect(await sign(connection, ed)).toBe(SIGNATURE);
        const shown = where(agent, 'question-visible', { openssh: 'a\u001b[2Jb', ours: 'a\\x1b[2Jb' });
        expect(agent.person.questions()).toEqual([question(ed, shown)]);
      });

      test('of one client lets others be served', async () => {
        const agent = await start();
        const asking = await agent.open();
        const other = await agent.open();
        await add(asking, ed, { confirm: true });
        await add(other, p256, {}, letters(3));
        agent.person.will('wait');
        asking.send(raw(u32(signing(ed).length), signing(ed)));
        await until(() => agent.person.questions().length === 1, 'the question is asked');
        let order = '';
        const signed = asking.answer().then((answer) => {
          order += 'sign ';
          return answer;
        });
        const served = sign(other, p256).then((number) => {
          order += 'other ';
          return number;
        });
        // OpenSSH's gets the time in which it would have answered, ours answers in any case.
        await (agent.kind === 'openssh' ? Promise.race([served, sleep(300)]) : served);
        expect(order).toBe(where(agent, 'served-during-question', { openssh: '', ours: 'other ' }));
        agent.person.settle('yes');
        expect(numberOf(await signed)).toBe(SIGNATURE);
        expect(await served).toBe(SIGNATURE);
      });

      test('whose client hangs up leaves the agent and the key as they were', async () => {
        const agent = await start();
        const asking = await agent.open();
        await add(asking, ed, { confirm: true });
        agent.person.will('wait');
        asking.send(raw(u32(signing(ed).length), signing(ed)));
        await until(() => agent.person.questions().length === 1, 'the question is asked');
        asking.close();
        agent.person.settle('no');
        agent.person.will('yes');
        const connection = await agent.open();
        expect(await sign(connection, ed)).toBe(SIGNATURE);
        expect(agent.person.questions()).toHaveLength(2);
      });
    });
  },
  ['openssh', 'memory', 'socket', 'program'],
);
