import { describe, expect, test } from 'vitest';
import { freshEd25519, freshRsa } from '../../src/testing/fixtures.ts';
import { fill, raw, str, u32 } from '../unit/wire/build.ts';
import { FAILURE, IDENTITIES, numberOf, onEachAgent, SIGNATURE, SUCCESS } from './agents.ts';

const ed = freshEd25519();
const rsa = freshRsa();
const { pk, sk } = ed.key.fields as { pk: Uint8Array; sk: Uint8Array };
const adding = raw(17, str('ssh-ed25519'), str(pk), str(sk), str('comment'));
const signing = raw(13, str(ed.blob), str('data'), u32(0));
const frame = (message: Uint8Array): Uint8Array => raw(u32(message.length), message);
const moment = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 1));

onEachAgent((start) => {
  describe('frames', () => {
    test('sent in one piece are answered in order', async () => {
      const connection = await (await start()).open();
      expect((await connection.request({ kind: 'add', key: rsa.key, comment: '', constraints: {} })).kind).toBe(
        'success',
      );
      const signingRsa = raw(13, str(rsa.blob), str('data'), u32(2));
      const wanted: [Uint8Array, number][] = [
        [adding, SUCCESS],
        [signingRsa, SIGNATURE],
        [raw(200), FAILURE],
        [signing, SIGNATURE],
        [raw(22, str('phrase')), SUCCESS],
        [signing, FAILURE],
        [raw(23, str('phrase')), SUCCESS],
        [signingRsa, SIGNATURE],
        [raw(11), IDENTITIES],
        [raw(18, str(ed.blob)), SUCCESS],
        [signing, FAILURE],
      ];
      for (let round = 0; round < 3; round++) {
        connection.send(raw(...wanted.map(([message]) => frame(message))));
        for (const [, number] of wanted) expect(numberOf(await connection.answer())).toBe(number);
      }
    });

    test('split at any place are one message', async () => {
      const connection = await (await start()).open();
      const bytes = raw(frame(adding), frame(signing));
      for (let at = 1; at < bytes.length; at++) {
        connection.send(bytes.subarray(0, at));
        await moment();
        connection.send(bytes.subarray(at));
        expect([numberOf(await connection.answer()), numberOf(await connection.answer())]).toEqual([
          SUCCESS,
          SIGNATURE,
        ]);
      }
    });

    test('sent byte by byte are one message', async () => {
      const connection = await (await start()).open();
      for (const byte of raw(frame(adding), frame(signing))) {
        connection.send(raw(byte));
        await moment();
      }
      expect([numberOf(await connection.answer()), numberOf(await connection.answer())]).toEqual([SUCCESS, SIGNATURE]);
    });

    test('of 256 KiB are served, and a longer one closes its connection alone', async () => {
      const agent = await start();
      const connection = await agent.open();
      expect(numberOf(await connection.ask(adding))).toBe(SUCCESS);
      const long = 262_144;
      expect(numberOf(await connection.ask(raw(200, fill(long - 1))))).toBe(FAILURE);
      const data = fill(long - 1 - 4 - ed.blob.length - 4 - 4);
      expect(numberOf(await connection.ask(raw(13, str(ed.blob), str(data), u32(0))))).toBe(SIGNATURE);
      const other = await agent.open();
      other.send(raw(u32(long + 1), 11));
      expect(await other.answer()).toBeUndefined();
      for (const length of [0x7fffffff, 0xffffffff]) {
        const huge = await agent.open();
        huge.send(raw(u32(length), fill(100)));
        expect(await huge.answer()).toBeUndefined();
      }
      expect(numberOf(await connection.ask(signing))).toBe(SIGNATURE);
    });

    test('without a message close their connection alone', async () => {
      const agent = await start();
      const connection = await agent.open();
      expect(numberOf(await connection.ask(adding))).toBe(SUCCESS);
      const other = await agent.open();
      other.send(raw(u32(0), frame(raw(11))));
      expect(await other.answer()).toBeUndefined();
      expect(numberOf(await connection.ask(signing))).toBe(SIGNATURE);
    });

    test('that never end, and connections without a word, harm nobody', async () => {
      const agent = await start();
      const connection = await agent.open();
      expect(numberOf(await connection.ask(adding))).toBe(SUCCESS);
      const waiting = [];
      for (let length = 0; length < adding.length; length += 7) {
        const half = await agent.open();
        half.send(frame(adding).subarray(0, length));
        waiting.push(half);
        if (length % 2 === 0) half.end();
      }
      (await agent.open()).close();
      expect(numberOf(await connection.ask(signing))).toBe(SIGNATURE);
      for (const half of waiting) half.close();
      expect(numberOf(await connection.ask(signing))).toBe(SIGNATURE);
    });
  });
});
