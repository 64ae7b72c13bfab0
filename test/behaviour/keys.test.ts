import { beforeAll, describe, expect, test } from 'vitest';
import { loadMldsa } from '../../src/keys/mldsa.ts';
import { parsePublicKey } from '../../src/keys/publickey.ts';
import { signatureName, verifySignature } from '../../src/keys/signature.ts';
import type { AgentConnection } from '../../src/testing/connection.ts';
import { certified, type FreshKey, verifiedName } from '../../src/testing/fixtures.ts';
import { freshEcdsa, freshEd25519, freshMldsa, freshRsa } from '../support/keys.ts';
import { raw, str, u32 } from '../unit/wire/build.ts';
import { FAILURE, numberOf, onEachAgent, SIGNATURE, SUCCESS, where } from './agents.ts';

const ed = freshEd25519();
const p256 = freshEcdsa('nistp256');
const p384 = freshEcdsa('nistp384');
const p521 = freshEcdsa('nistp521');
const rsa = freshRsa();
const mldsa = freshMldsa();
const authority = freshEd25519();
const everyType = [rsa, ed, p521, p256, p384];
const every = [...everyType, ...everyType.map((key) => certified(key, authority))];
const data = raw('what is to be signed');

beforeAll(loadMldsa);

/** The answer to a list request, put together by hand. */
function listOf(...identities: readonly (readonly [Uint8Array, string | Uint8Array])[]): Uint8Array {
  return raw(12, u32(identities.length), ...identities.flatMap(([blob, comment]) => [str(blob), str(comment)]));
}

const list = (connection: AgentConnection): Promise<Uint8Array | undefined> => connection.ask(raw(11));

async function add(connection: AgentConnection, { key }: FreshKey, comment: string): Promise<void> {
  const { kind } = await connection.request({ kind: 'add', key, comment, constraints: {} });
  expect(kind).toBe('success');
}

const sign = (connection: AgentConnection, blob: Uint8Array, flags = 0, what = data): Promise<Uint8Array | undefined> =>
  connection.ask(raw(13, str(blob), str(what), u32(flags)));

/** The signature in an answer. */
function signatureOf(answer: Uint8Array | undefined): Uint8Array {
  expect(numberOf(answer)).toBe(SIGNATURE);
  const signature = (answer as Uint8Array).subarray(5);
  expect((answer as Uint8Array).subarray(1, 5)).toEqual(u32(signature.length));
  return signature;
}

onEachAgent((start) => {
  describe('listing and adding', () => {
    test('an agent without keys lists none', async () => {
      const connection = await (await start()).open();
      expect(await list(connection)).toEqual(raw(12, u32(0)));
    });

    test('keys and certificates of every type are listed in the order in which they came, on every connection', async () => {
      const agent = await start();
      const connection = await agent.open();
      for (const [i, key] of every.entries()) await add(connection, key, `key ${i}`);
      const expected = listOf(...every.map(({ blob }, i) => [blob, `key ${i}`] as const));
      expect(await list(connection)).toEqual(expected);
      expect(await list(await agent.open())).toEqual(expected);
    });

    test('a key that is added again stays in its place and takes the new comment', async () => {
      const connection = await (await start()).open();
      await add(connection, ed, 'first');
      await add(connection, p256, 'second');
      await add(connection, ed, 'first, again');
      expect(await list(connection)).toEqual(listOf([ed.blob, 'first, again'], [p256.blob, 'second']));
    });

    test('comments may be empty, long, or hold line ends and control characters', async () => {
      const connection = await (await start()).open();
      const comments = ['', 'x'.repeat(10_000), 'two\nlines', '\u001b[31mred\u0007', 'zwölf Äpfel 🍎'];
      const keys = comments.map(() => freshEd25519());
      for (const [i, key] of keys.entries()) await add(connection, key, comments[i] ?? '');
      expect(await list(connection)).toEqual(listOf(...keys.map(({ blob }, i) => [blob, comments[i] ?? ''] as const)));
    });

    test('a comment may end in a NUL and hold no other', async () => {
      const connection = await (await start()).open();
      const { pk, sk } = ed.key.fields as { pk: Uint8Array; sk: Uint8Array };
      const withComment = (comment: Uint8Array): Uint8Array =>
        raw(17, str('ssh-ed25519'), str(pk), str(sk), str(comment));
      expect(numberOf(await connection.ask(withComment(raw('a\0b'))))).toBe(FAILURE);
      expect(await list(connection)).toEqual(listOf());
      expect(numberOf(await connection.ask(withComment(raw('end\0'))))).toBe(SUCCESS);
      expect(await list(connection)).toEqual(listOf([ed.blob, 'end']));
    });

    test('bytes of a comment that are not UTF-8', async () => {
      const agent = await start();
      const connection = await agent.open();
      const { pk, sk } = ed.key.fields as { pk: Uint8Array; sk: Uint8Array };
      const comment = raw('caf', 0xe9);
      expect(numberOf(await connection.ask(raw(17, str('ssh-ed25519'), str(pk), str(sk), str(comment))))).toBe(SUCCESS);
      const shown = where<string | Uint8Array>(agent, 'comment-not-utf8', { openssh: comment, ours: 'caf\ufffd' });
      expect(await list(connection)).toEqual(listOf([ed.blob, shown]));
    });

    test('the composite of ML-DSA and Ed25519', async () => {
      const agent = await start();
      const connection = await agent.open();
      const { kind } = await connection.request({ kind: 'add', key: mldsa.key, comment: '', constraints: {} });
      expect(kind).toBe(where(agent, 'mldsa', { openssh: 'failure', ours: 'success' }));
      if (kind === 'failure') return;
      const signature = signatureOf(await sign(connection, mldsa.blob, 4));
      expect(signatureName(signature)).toBe('ssh-mldsa44-ed25519@openssh.com');
      expect(verifySignature(parsePublicKey(mldsa.blob), data, signature)).toBe(true);
      expect(verifySignature(parsePublicKey(mldsa.blob), raw('something else'), signature)).toBe(false);
      const certificate = certified(mldsa, authority);
      await add(connection, certificate, 'with a certificate');
      const other = signatureOf(await sign(connection, certificate.blob));
      expect(signatureName(other)).toBe('ssh-mldsa44-ed25519@openssh.com');
      expect(verifySignature(parsePublicKey(certificate.blob), data, other)).toBe(true);
    });
  });

  describe('signing', () => {
    const rsaNames = {
      0: 'ssh-rsa',
      1: 'ssh-rsa',
      2: 'rsa-sha2-256',
      4: 'rsa-sha2-512',
      6: 'rsa-sha2-256',
      8: 'ssh-rsa',
    };

    test.each(Object.entries(rsaNames))('RSA with flags %s makes a signature named %s', async (flags, name) => {
      const connection = await (await start()).open();
      const certificate = certified(rsa, authority);
      await add(connection, rsa, 'plain');
      await add(connection, certificate, 'with a certificate');
      for (const { blob } of [rsa, certificate])
        expect(verifiedName(rsa, data, signatureOf(await sign(connection, blob, Number(flags))))).toBe(name);
    });

    test('flags mean nothing to other types, and a certificate signs under the name of its plain type', async () => {
      const connection = await (await start()).open();
      for (const key of [ed, p256, p384, p521]) {
        const certificate = certified(key, authority);
        await add(connection, key, 'plain');
        await add(connection, certificate, 'with a certificate');
        for (const flags of [0, 1, 2, 4, 6])
          for (const { blob } of [key, certificate])
            expect(verifiedName(key, data, signatureOf(await sign(connection, blob, flags)))).toBe(key.key.type);
      }
    });

    test('nothing, and two hundred kilobytes, can be signed', async () => {
      const connection = await (await start()).open();
      for (const key of [ed, p256, rsa]) {
        await add(connection, key, '');
        for (const what of [new Uint8Array(), new Uint8Array(200_000).fill(0x5a)])
          expect(verifiedName(key, what, signatureOf(await sign(connection, key.blob, 2, what)))).toBeDefined();
      }
    });

    test('RSA keys of 1024 and 4096 bits, and of odd lengths, sign', async () => {
      const connection = await (await start()).open();
      for (const bits of [1024, 1031, 2047, 4096]) {
        const key = freshRsa(bits);
        await add(connection, key, String(bits));
        for (const flags of [0, 2, 4]) {
          const signature = signatureOf(await sign(connection, key.blob, flags));
          expect(verifiedName(key, data, signature)).toBeDefined();
          // Padded to the modulus: u32, name, u32, number.
          expect(signature.length - (signatureName(signature)?.length ?? 0) - 8).toBe(Math.ceil(bits / 8));
        }
      }
    });

    test('a key that is not held, or is no key, signs nothing', async () => {
      const connection = await (await start()).open();
      await add(connection, ed, '');
      for (const blob of [freshEd25519().blob, certified(ed, authority).blob, new Uint8Array(), raw('no key at all')])
        expect(numberOf(await sign(connection, blob))).toBe(FAILURE);
      expect(numberOf(await sign(connection, ed.blob))).toBe(SIGNATURE);
    });
  });

  describe('removing', () => {
    const remove = (connection: AgentConnection, blob: Uint8Array): Promise<Uint8Array | undefined> =>
      connection.ask(raw(18, str(blob)));

    test('the exact blob goes: a certificate and its plain key are two', async () => {
      const connection = await (await start()).open();
      const certificate = certified(ed, authority);
      const other = certified(ed, authority, { keyId: 'another' });
      for (const key of [ed, certificate, other]) await add(connection, key, '');
      expect(numberOf(await remove(connection, certificate.blob))).toBe(SUCCESS);
      expect(await list(connection)).toEqual(listOf([ed.blob, ''], [other.blob, '']));
      expect(numberOf(await remove(connection, ed.blob))).toBe(SUCCESS);
      expect(await list(connection)).toEqual(listOf([other.blob, '']));
      expect(numberOf(await sign(connection, ed.blob))).toBe(FAILURE);
      expect(numberOf(await sign(connection, other.blob))).toBe(SIGNATURE);
    });

    test('a key that is not held is a failure, and nothing goes', async () => {
      const connection = await (await start()).open();
      await add(connection, ed, '');
      for (const blob of [p256.blob, new Uint8Array(), ed.blob.subarray(1)])
        expect(numberOf(await remove(connection, blob))).toBe(FAILURE);
      expect(await list(connection)).toEqual(listOf([ed.blob, '']));
    });

    test.each([19, 9])('message %i removes all keys, also where there are none', async (number) => {
      const connection = await (await start()).open();
      expect(numberOf(await connection.ask(raw(number)))).toBe(SUCCESS);
      for (const key of [ed, p256, certified(ed, authority)]) await add(connection, key, '');
      expect(numberOf(await connection.ask(raw(number)))).toBe(SUCCESS);
      expect(await list(connection)).toEqual(listOf());
    });
  });
});
