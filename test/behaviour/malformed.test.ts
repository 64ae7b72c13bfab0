import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { AgentConnection } from '../../src/testing/connection.ts';
import { certified, type FreshKey, freshEcdsa, freshEd25519, freshRsa } from '../../src/testing/fixtures.ts';
import { fill, raw, str, u32 } from '../unit/wire/build.ts';
import { FAILURE, IDENTITIES, numberOf, onEachAgent, SIGNATURE, SUCCESS, where } from './agents.ts';

const ed = freshEd25519();
const stranger = freshEd25519();
const p256 = freshEcdsa('nistp256');
const rsa = freshRsa();
const otherRsa = freshRsa();
const authority = freshEd25519();

type Fields = Readonly<Record<string, Uint8Array>>;
const fieldsOf = ({ key }: FreshKey): Record<string, Uint8Array> => ({ ...key.fields });
const mpint = (magnitude: Uint8Array): Uint8Array => str((magnitude[0] ?? 0) >= 0x80 ? raw(0, magnitude) : magnitude);

const addEd = ({ pk, sk }: Fields, type = 'ssh-ed25519'): Uint8Array =>
  raw(17, str(type), str(pk ?? ''), str(sk ?? ''), str('comment'));
const addEcdsa = ({ curve, q, d }: Fields, type: string): Uint8Array =>
  raw(17, str(type), str(curve ?? ''), str(q ?? ''), mpint(d ?? fill(0)), str('comment'));
const addRsa = (fields: Fields): Uint8Array =>
  raw(17, str('ssh-rsa'), ...['n', 'e', 'd', 'iqmp', 'p', 'q'].map((n) => mpint(fields[n] ?? fill(0))), str('comment'));
const addEdCertificate = (certificate: Uint8Array, { pk, sk }: Fields, type = 'ssh-ed25519-cert-v01@openssh.com') =>
  raw(17, str(type), str(certificate), str(pk ?? ''), str(sk ?? ''), str('comment'));

const edFields = fieldsOf(ed);
const signing = raw(13, str(ed.blob), str('data'), u32(0));

async function opened(connection: AgentConnection): Promise<AgentConnection> {
  expect(numberOf(await connection.ask(addEd(edFields)))).toBe(SUCCESS);
  return connection;
}

/** After whatever was sent, the key that was there before is there and signs. */
async function unharmed(connection: AgentConnection): Promise<void> {
  expect(await connection.ask(raw(11))).toEqual(raw(IDENTITIES, u32(1), str(ed.blob), str('comment')));
  expect(numberOf(await connection.ask(signing))).toBe(SIGNATURE);
}

const changed = (bytes: Uint8Array | undefined, at: number): Uint8Array => {
  const copy = Uint8Array.from(bytes ?? []);
  const index = at < 0 ? copy.length + at : at;
  copy[index] = (copy[index] ?? 0) ^ 2;
  return copy;
};

/** A DSA key that ssh-keygen made, from its PEM file. */
const addDsa = ((): Uint8Array => {
  const folder = mkdtempSync(join(tmpdir(), 'latchkey-dsa-'));
  try {
    const path = join(folder, 'dsa');
    execFileSync('ssh-keygen', ['-q', '-t', 'dsa', '-m', 'PEM', '-N', '', '-f', path]);
    const der = Buffer.from(readFileSync(path, 'utf8').replace(/-----[^-]+-----|\s/g, ''), 'base64');
    const numbers: Uint8Array[] = [];
    // SEQUENCE with a length of two bytes, then INTEGERs with lengths of one or two.
    for (let at = 4; at < der.length; ) {
      const long = (der[at + 1] ?? 0) >= 0x80 ? (der[at + 1] ?? 0) - 0x80 : 0;
      const length = long === 0 ? (der[at + 1] ?? 0) : der.readUIntBE(at + 2, long);
      at += 2 + long;
      numbers.push(str(der.subarray(at, at + length)));
      at += length;
    }
    // Version, p, q, g, y, x.
    return raw(17, str('ssh-dss'), ...numbers.slice(1), str('comment'));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
})();

onEachAgent((start) => {
  describe('messages', () => {
    const { pk, sk } = fieldsOf(stranger);
    test.each<[string, Uint8Array]>([
      ['to sign', signing],
      ['to add an Ed25519 key', addEd(fieldsOf(stranger))],
      ['to add an ECDSA key', addEcdsa(fieldsOf(p256), 'ecdsa-sha2-nistp256')],
      ['to add a certificate', addEdCertificate(certified(stranger, authority).blob, { pk, sk } as Fields)],
      ['to remove', raw(18, str(ed.blob))],
      ['to add a token', raw(20, str('/no/such/library.so'), str('1234'))],
      ['to remove a token', raw(21, str('/no/such/library.so'), str('1234'))],
      ['of an extension', raw(27, str('nobody-knows@example.org'))],
    ])('%s that are cut short anywhere are a failure and change nothing', async (_name, message) => {
      const connection = await opened(await (await start()).open());
      for (let length = 1; length < message.length; length++)
        expect(numberOf(await connection.ask(message.subarray(0, length)))).toBe(FAILURE);
      await unharmed(connection);
    });

    test.each([22, 23])('to lock and unlock that are cut short: %i', async (number) => {
      const agent = await start();
      const connection = await opened(await agent.open());
      const answer = numberOf(await connection.ask(raw(number, u32(6), 'short')));
      expect(answer).toBe(where(agent, 'malformed-lock', { openssh: undefined, ours: FAILURE }));
      if (agent.kind === 'openssh') await expect(agent.open()).rejects.toThrow();
      else await unharmed(connection);
    });

    test.each([0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 15, 16, 24, 28, 29, 100, 200, 255])(
      'of the number %i, which is no request, are a failure, with whatever comes after it',
      async (number) => {
        const connection = await opened(await (await start()).open());
        for (const body of [fill(0), str('body'), fill(5000)])
          expect(numberOf(await connection.ask(raw(number, body)))).toBe(FAILURE);
        await unharmed(connection);
      },
    );

    test.each<[string, Uint8Array, number]>([
      ['list', raw(11), IDENTITIES],
      ['sign', signing, SIGNATURE],
      ['remove', raw(18, str(ed.blob)), SUCCESS],
      ['remove all', raw(19), SUCCESS],
      ['lock', raw(22, str('phrase')), SUCCESS],
    ])('to %s that go on after their end', async (_name, message, openssh) => {
      const agent = await start();
      const connection = await opened(await agent.open());
      const answer = numberOf(await connection.ask(raw(message, 'more')));
      expect(answer).toBe(where(agent, 'trailing-bytes', { openssh, ours: FAILURE }));
      if (agent.kind !== 'openssh') await unharmed(connection);
    });

    test('with lengths beyond all bounds are a failure', async () => {
      const connection = await opened(await (await start()).open());
      for (const length of [0x7fffffff, 0x80000000, 0xffffffff, 0xfffffffc])
        for (const number of [13, 17, 18, 20, 21, 25, 26, 27])
          expect(numberOf(await connection.ask(raw(number, u32(length), fill(100))))).toBe(FAILURE);
      await unharmed(connection);
    });
  });

  describe('keys', () => {
    const p256Fields = fieldsOf(p256);
    const rsaFields = fieldsOf(rsa);
    const certificate = certified(stranger, authority).blob;
    const strangerFields = fieldsOf(stranger);
    const point = changed(p256Fields.q, -1);

    test.each<[string, Uint8Array]>([
      ['without a type', raw(17, str(''), fill(100))],
      ['of a type that nobody knows', addEd(fieldsOf(stranger), 'ssh-ed448')],
      ['of the type of a signature', addRsa(rsaFields).map((byte, at) => (at === 5 ? 0x72 : byte))],
      ['Ed25519 with a public half of 31 bytes', addEd({ ...strangerFields, pk: fill(31) })],
      ['Ed25519 with a private half of 32 bytes', addEd({ ...strangerFields, sk: fill(32) })],
      ['Ed25519 with a private half of 65 bytes', addEd({ ...strangerFields, sk: fill(65) })],
      ['ECDSA with a point that is not on the curve', addEcdsa({ ...p256Fields, q: point }, 'ecdsa-sha2-nistp256')],
      ['ECDSA with the point at infinity', addEcdsa({ ...p256Fields, q: raw(0) }, 'ecdsa-sha2-nistp256')],
      ['ECDSA with half a point', addEcdsa({ ...p256Fields, q: fill(33, 4) }, 'ecdsa-sha2-nistp256')],
      ['ECDSA with no point', addEcdsa({ ...p256Fields, q: fill(0) }, 'ecdsa-sha2-nistp256')],
      ['ECDSA with the name of another curve', addEcdsa(p256Fields, 'ecdsa-sha2-nistp384')],
      ['ECDSA with a private number of 0', addEcdsa({ ...p256Fields, d: fill(0) }, 'ecdsa-sha2-nistp256')],
      [
        'ECDSA with a private number above the order',
        addEcdsa({ ...p256Fields, d: fill(32, 0xff) }, 'ecdsa-sha2-nistp256'),
      ],
      [
        'ECDSA with a curve that nobody knows',
        addEcdsa({ ...p256Fields, curve: raw('nistp999') }, 'ecdsa-sha2-nistp999'),
      ],
      ['RSA with a modulus of 1016 bits', addRsa({ ...rsaFields, n: fill(127, 0xff) })],
      ['RSA with an even modulus', addRsa({ ...rsaFields, n: (rsaFields.n ?? fill(0)).with(-1, 0) })],
      ['RSA without numbers', addRsa({})],
      ['a certificate that its authority did not sign', addEdCertificate(changed(certificate, -1), strangerFields)],
      ['a certificate that was changed', addEdCertificate(changed(certificate, 120), strangerFields)],
      ['a certificate of another key', addEdCertificate(certificate, edFields)],
      ['a certificate that goes on after its end', addEdCertificate(raw(certificate, 0), strangerFields)],
      ['a plain key in the place of a certificate', addEdCertificate(stranger.blob, strangerFields)],
      ['a certificate in the place of a plain key', addEd({ ...strangerFields, pk: certificate })],
      [
        'a certificate by a certificate',
        addEdCertificate(
          certified(stranger, { ...authority, blob: certified(authority, authority).blob }).blob,
          strangerFields,
        ),
      ],
      [
        'a certificate of another type',
        raw(17, str('ecdsa-sha2-nistp256-cert-v01@openssh.com'), str(certificate), str(fill(32)), str('comment')),
      ],
    ])('%s: refused, and nothing else is lost', async (_name, message) => {
      const connection = await opened(await (await start()).open());
      expect(numberOf(await connection.ask(message))).toBe(FAILURE);
      await unharmed(connection);
    });

    test.each<[string, Uint8Array]>([
      [
        'Ed25519, whose seed makes another public half',
        addEd({ ...strangerFields, sk: raw(fill(32), strangerFields.pk ?? '') }),
      ],
      ['Ed25519, whose halves are of two keys', addEd({ ...strangerFields, sk: edFields.sk ?? fill(64) })],
      ['ECDSA', addEcdsa({ ...p256Fields, d: changed(p256Fields.d, -1) }, 'ecdsa-sha2-nistp256')],
      ['RSA, whose private exponent is another', addRsa({ ...rsaFields, d: changed(rsaFields.d, -1) })],
      ['RSA, whose prime is another', addRsa({ ...rsaFields, p: fieldsOf(otherRsa).p ?? fill(0) })],
      ['RSA, whose coefficient is another', addRsa({ ...rsaFields, iqmp: changed(rsaFields.iqmp, -1) })],
      ['RSA with an exponent of 1', addRsa({ ...rsaFields, e: raw(1) })],
      ['RSA with an exponent as long as its modulus', addRsa({ ...rsaFields, e: changed(rsaFields.n, -2) })],
    ])('whose halves do not fit: %s', async (_name, message) => {
      const agent = await start();
      const connection = await opened(await agent.open());
      const answer = numberOf(await connection.ask(message));
      expect(answer).toBe(where(agent, 'mismatched-halves', { openssh: SUCCESS, ours: FAILURE }));
      if (agent.kind !== 'openssh') await unharmed(connection);
    });

    test('of DSA', async () => {
      const agent = await start();
      const connection = await opened(await agent.open());
      const answer = numberOf(await connection.ask(addDsa));
      expect(answer).toBe(where(agent, 'dsa', { openssh: SUCCESS, ours: FAILURE }));
    });

    test('of hardware', async () => {
      const agent = await start();
      const connection = await opened(await agent.open());
      const handle = raw(1, str(fill(64)), str(''), str('comment'));
      const message = raw(
        17,
        str('sk-ssh-ed25519@openssh.com'),
        str(stranger.key.fields.pk ?? ''),
        str('ssh:'),
        handle,
      );
      const answer = numberOf(await connection.ask(message));
      expect(answer).toBe(where(agent, 'security-keys', { openssh: SUCCESS, ours: FAILURE }));
      const blob = raw(str('sk-ssh-ed25519@openssh.com'), str(stranger.key.fields.pk ?? ''), str('ssh:'));
      expect(numberOf(await connection.ask(raw(13, str(blob), str('data'), u32(0))))).toBe(FAILURE);
    });
  });
});
