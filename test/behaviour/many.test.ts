import { describe, expect, test } from 'vitest';
import { type FreshKey, freshEd25519, verifiedName } from '../../src/testing/fixtures.ts';
import { encodeRequest } from '../../src/wire/requests.ts';
import { raw, str, u32 } from '../unit/wire/build.ts';
import { FAILURE, numberOf, onEachAgent, SIGNATURE, SUCCESS } from './agents.ts';

const MANY = 10_000;
/** Requests that are sent before their answers are read. */
const BATCH = 500;
/** OpenSSH's agent takes a millisecond for each, and is not on trial here. */
const FEWER = 1000;
const all: readonly FreshKey[] = Array.from({ length: MANY }, freshEd25519);
const data = raw('data');

const frame = (message: Uint8Array): Uint8Array => raw(u32(message.length), message);

onEachAgent((start) => {
  describe('ten thousand keys', () => {
    test('are all listed and all sign, and one that is removed is the only one to go', async () => {
      const agent = await start();
      const keys = agent.kind === 'openssh' ? all.slice(0, FEWER) : all;
      const middle = keys.length / 2;
      const connection = await agent.open();
      const askAll = async (some: readonly FreshKey[], message: (key: FreshKey) => Uint8Array) => {
        const answers: Uint8Array[] = [];
        for (let at = 0; at < some.length; at += BATCH) {
          const batch = some.slice(at, at + BATCH);
          connection.send(raw(...batch.map((key) => frame(message(key)))));
          for (let i = 0; i < batch.length; i++) answers.push((await connection.answer()) ?? raw(0));
        }
        return answers;
      };

      const added = await askAll(keys, ({ key }) =>
        encodeRequest({ kind: 'add', key, comment: 'k', constraints: {} }).finish(),
      );
      expect(added.every((answer) => numberOf(answer) === SUCCESS)).toBe(true);

      const list = raw(12, u32(keys.length), ...keys.map(({ blob }) => raw(str(blob), str('k'))));
      expect(Buffer.compare((await connection.ask(raw(11))) ?? raw(0), list)).toBe(0);

      const signed = await askAll(keys, ({ blob }) => raw(13, str(blob), str(data), u32(0)));
      expect(signed.every((answer) => numberOf(answer) === SIGNATURE)).toBe(true);
      for (let i = 0; i < keys.length; i += 100)
        expect(verifiedName(keys[i] as FreshKey, data, (signed[i] ?? raw(0)).subarray(5))).toBe('ssh-ed25519');

      const { blob } = keys[middle] as FreshKey;
      expect(numberOf(await connection.ask(raw(18, str(blob))))).toBe(SUCCESS);
      expect(numberOf(await connection.ask(raw(13, str(blob), str(data), u32(0))))).toBe(FAILURE);
      const left = raw(
        12,
        u32(keys.length - 1),
        ...keys.flatMap((k, i) => (i === middle ? [] : [raw(str(k.blob), str('k'))])),
      );
      expect(Buffer.compare((await connection.ask(raw(11))) ?? raw(0), left)).toBe(0);

      expect(numberOf(await connection.ask(raw(19)))).toBe(SUCCESS);
      expect(await connection.ask(raw(11))).toEqual(raw(12, u32(0)));
    });
  });
});
