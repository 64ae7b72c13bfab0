import { describe, expect, test } from 'vitest';
import type { AgentConnection } from '../../src/testing/connection.ts';
import { bindingTo, certified, type FreshKey, freshEcdsa, freshEd25519, freshRsa } from '../../src/testing/fixtures.ts';
import type { AgentUnderTest } from '../../src/testing/harness.ts';
import { encodeSessionBind, type SessionBind } from '../../src/wire/extensions.ts';
import { fill, raw, str, u32 } from '../unit/wire/build.ts';
import {
  EXTENSION_FAILURE,
  EXTENSION_RESPONSE,
  FAILURE,
  IDENTITIES,
  numberOf,
  onEachAgent,
  SIGNATURE,
  SUCCESS,
  where,
} from './agents.ts';

const host = freshEd25519();
const otherHost = freshEcdsa('nistp256');
const rsaHost = freshRsa();
const authority = freshEcdsa('nistp384');

const extension = async (connection: AgentConnection, name: string, body: Uint8Array = new Uint8Array()) =>
  numberOf(await connection.ask(raw(27, str(name), body)));
/** What a binding that is refused is answered with. */
const refused = (agent: AgentUnderTest): number =>
  where(agent, 'bind-refused', { openssh: FAILURE, ours: EXTENSION_FAILURE });
const bind = (connection: AgentConnection, binding: SessionBind): Promise<number | undefined> =>
  extension(connection, 'session-bind@openssh.com', encodeSessionBind(binding));

onEachAgent((start) => {
  describe('extensions', () => {
    test('query tells which are served', async () => {
      const agent = await start();
      const answer = await (await agent.open()).ask(raw(27, str('query')));
      const ours = raw(EXTENSION_RESPONSE, str('query'), str('session-bind@openssh.com'));
      expect(answer).toEqual(where(agent, 'query', { openssh: raw(FAILURE), ours }));
    });

    test.each(['', 'nobody-knows@example.org', 'session-bind@openssh.co', 'list-extended@putty.projects.tartarus.org'])(
      'that are not served are a plain failure: %j',
      async (name) => {
        const connection = await (await start()).open();
        expect(await extension(connection, name)).toBe(FAILURE);
        expect(await extension(connection, name, fill(1000))).toBe(FAILURE);
        expect(numberOf(await connection.ask(raw(11)))).toBe(IDENTITIES);
      },
    );

    test('without a name, or with a NUL in it, are a failure', async () => {
      const agent = await start();
      const connection = await agent.open();
      for (const message of [raw(27), raw(27, u32(9), 'short'), raw(27, str('que\0ry'))])
        expect(numberOf(await connection.ask(message))).toBe(FAILURE);
    });
  });

  describe('session-bind', () => {
    test.each<[string, FreshKey]>([
      ['Ed25519', host],
      ['ECDSA', otherHost],
      ['RSA', rsaHost],
    ])('takes a session that an %s host key signed, plain or with a certificate', async (_type, key) => {
      const agent = await start();
      expect(await bind(await agent.open(), bindingTo(key))).toBe(SUCCESS);
      const certificate = certified(key, authority, { kind: 'host', principals: ['host.example.org'] });
      expect(await bind(await agent.open(), { ...bindingTo(key), hostKey: certificate.blob })).toBe(SUCCESS);
    });

    test.each<[string, SessionBind]>([
      ['of another session', { ...bindingTo(host), sessionId: fill(32) }],
      ['by another key', { ...bindingTo(host), hostKey: freshEd25519().blob }],
      ['by a key of another type', { ...bindingTo(host), hostKey: otherHost.blob }],
      ['that is empty', { ...bindingTo(host), signature: new Uint8Array() }],
      ['that is cut short', { ...bindingTo(host), signature: bindingTo(host).signature.subarray(0, 80) }],
      ['by what is no key', { ...bindingTo(host), hostKey: fill(40) }],
    ])('refuses a signature %s', async (_name, binding) => {
      const agent = await start();
      const connection = await agent.open();
      expect(await bind(connection, binding)).toBe(refused(agent));
    });

    test('refuses what cannot be read', async () => {
      const agent = await start();
      const connection = await agent.open();
      const body = encodeSessionBind(bindingTo(host));
      for (let length = 0; length < body.length; length++)
        expect(await extension(connection, 'session-bind@openssh.com', body.subarray(0, length))).toBe(refused(agent));
    });

    test('takes an identifier of 128 bytes, and not of more', async () => {
      const agent = await start();
      expect(await bind(await agent.open(), bindingTo(host, { sessionId: fill(128) }))).toBe(SUCCESS);
      const longer = await bind(await agent.open(), bindingTo(host, { sessionId: fill(129) }));
      expect(longer).toBe(where(agent, 'session-id-length', { openssh: SUCCESS, ours: EXTENSION_FAILURE }));
    });

    test('of an empty identifier', async () => {
      const agent = await start();
      const answer = await bind(await agent.open(), bindingTo(host, { sessionId: new Uint8Array() }));
      expect(answer).toBe(where(agent, 'bind-empty-session', { openssh: SUCCESS, ours: EXTENSION_FAILURE }));
    });

    test('with bytes after its end', async () => {
      const agent = await start();
      const body = raw(encodeSessionBind(bindingTo(host)), 'more');
      const answer = await extension(await agent.open(), 'session-bind@openssh.com', body);
      expect(answer).toBe(where(agent, 'trailing-bytes', { openssh: SUCCESS, ours: EXTENSION_FAILURE }));
    });

    test('takes the same session twice, and refuses it with another key', async () => {
      const agent = await start();
      const connection = await agent.open();
      const sessionId = fill(32);
      const forwarded = { sessionId, isForwarding: true };
      expect(await bind(connection, bindingTo(host, forwarded))).toBe(SUCCESS);
      expect(await bind(connection, bindingTo(host, forwarded))).toBe(SUCCESS);
      expect(await bind(connection, bindingTo(otherHost, forwarded))).toBe(refused(agent));
      expect(await bind(connection, bindingTo(host))).toBe(SUCCESS);
    });

    test('refuses everything after a session that is not forwarded, on that connection alone', async () => {
      const agent = await start();
      const connection = await agent.open();
      const login = bindingTo(host);
      expect(await bind(connection, login)).toBe(SUCCESS);
      expect(await bind(connection, bindingTo(otherHost))).toBe(refused(agent));
      expect(await bind(connection, bindingTo(otherHost, { isForwarding: true }))).toBe(refused(agent));
      expect(await bind(connection, login)).toBe(refused(agent));
      expect(await bind(await agent.open(), login)).toBe(SUCCESS);
    });

    test('takes sixteen sessions of a path, and no more', async () => {
      const agent = await start();
      const connection = await agent.open();
      for (let i = 0; i < 16; i++)
        expect(await bind(connection, bindingTo(host, { isForwarding: true }))).toBe(SUCCESS);
      expect(await bind(connection, bindingTo(host, { isForwarding: true }))).toBe(refused(agent));
    });

    test('decides what a key that is bound to a destination does on that connection', async () => {
      const agent = await start();
      const key = freshEd25519();
      const connection = await agent.open();
      const here = { user: '', hostname: '', keys: [] };
      const there = { user: '', hostname: 'host', keys: [{ blob: host.blob, isAuthority: false }] };
      const constraints = { destinations: [{ from: here, to: there }] };
      await connection.request({ kind: 'add', key: key.key, comment: '', constraints });
      const login = (sessionId: Uint8Array): Uint8Array =>
        raw(
          13,
          str(key.blob),
          str(
            str(sessionId),
            50,
            str('user'),
            str('ssh-connection'),
            str('publickey'),
            1,
            str('ssh-ed25519'),
            str(key.blob),
          ),
          u32(0),
        );
      const listed = async (to: AgentConnection): Promise<number | undefined> => (await to.ask(raw(11)))?.[4];

      expect(await listed(connection)).toBe(1);
      expect(numberOf(await connection.ask(login(fill(32))))).toBe(FAILURE);

      const right = await agent.open();
      const session = bindingTo(host);
      expect(await bind(right, session)).toBe(SUCCESS);
      expect(await listed(right)).toBe(1);
      expect(numberOf(await right.ask(login(session.sessionId)))).toBe(SIGNATURE);
      expect(numberOf(await right.ask(login(fill(32))))).toBe(FAILURE);

      const wrong = await agent.open();
      const elsewhere = bindingTo(otherHost);
      expect(await bind(wrong, elsewhere)).toBe(SUCCESS);
      expect(await listed(wrong)).toBe(0);
      expect(numberOf(await wrong.ask(login(elsewhere.sessionId)))).toBe(FAILURE);
      expect(numberOf(await wrong.ask(raw(18, str(key.blob))))).toBe(FAILURE);

      const forged = await agent.open();
      expect(await bind(forged, { ...session, sessionId: fill(32) })).toBe(refused(agent));
      expect(await listed(forged)).toBe(where(agent, 'bind-attempted', { openssh: 1, ours: 0 }));
      expect(numberOf(await forged.ask(login(session.sessionId)))).toBe(FAILURE);
    });
  });
});
