/** Keys of tokens in the engine, with devices that are made up: constraints, certificates, lock, and who lets go when. */
import { beforeEach, describe, expect, test } from 'vitest';
import { type AgentOptions, createAgent } from '../../../src/agent/agent.ts';
import type { Devices, TokenKey } from '../../../src/agent/ports.ts';
import { KeyError } from '../../../src/keys/error.ts';
import { parsePublicKey } from '../../../src/keys/publickey.ts';
import { FakeClock, ScriptedConfirm } from '../../../src/testing/fakes.ts';
import { bindingTo, certified, type FreshKey, freshEd25519, signatureBy } from '../../../src/testing/fixtures.ts';
import { commentsOf } from '../../support/agentprocess.ts';
import { raw, str, u32 } from '../wire/build.ts';

const LIB = '/lib/token.so';
const SUCCESS = raw(6);
const FAILURE = raw(5);
const LIST = raw(11);
const DATA = raw('what is signed');
const ASSOCIATED = 'associated-certs-v00@openssh.com';

const first = freshEd25519();
const second = freshEd25519();
const authority = freshEd25519();

/** A token with two keys, and what was done to it. */
class FakeToken implements Devices {
  readonly keys: readonly FreshKey[] = [first, second];
  readonly pins: Uint8Array[] = [];
  readonly shown: string[] = [];
  opened = 0;
  disposed = 0;
  /** Held up for as long as the test wants. */
  wait: Promise<void> = Promise.resolve();

  provider(path: string): string {
    if (!path.startsWith('/lib/')) throw new KeyError('unsupported', 'not in the allowed list');
    return path;
  }

  securityKey(): never {
    throw new KeyError('unsupported', 'not here');
  }

  async tokenKeys(_: string, pin: Uint8Array): Promise<readonly TokenKey[]> {
    this.pins.push(pin);
    this.shown.push(Buffer.from(pin).toString());
    await this.wait;
    return this.keys.map((key, i) => {
      this.opened++;
      let disposed = false;
      return {
        label: `key ${i}`,
        signer: {
          publicKey: parsePublicKey(key.blob),
          sign: async (data) => {
            if (disposed) throw new KeyError('internal', 'the key was removed');
            return signatureBy(key, data);
          },
          rest: () => {},
          dispose: () => {
            if (disposed) throw new Error('disposed of twice');
            disposed = true;
            this.disposed++;
          },
        },
      };
    });
  }

  get open(): number {
    return this.opened - this.disposed;
  }
}

let token: FakeToken;
beforeEach(() => {
  token = new FakeToken();
});

const adding = (...constraints: readonly Uint8Array[]): Uint8Array => raw(26, str(LIB), str('1234'), ...constraints);
const removing = raw(21, str(LIB), str(''));
const signing = (blob: Uint8Array): Uint8Array => raw(13, str(blob), str(DATA), u32(0));
const associated = (only: boolean, ...blobs: readonly Uint8Array[]): Uint8Array =>
  raw(255, str(ASSOCIATED), only ? 1 : 0, str(...blobs.map((blob) => str(blob))));
const binding = (isForwarding: boolean): Uint8Array => {
  const { hostKey, sessionId, signature } = bindingTo(freshEd25519());
  return raw(27, str('session-bind@openssh.com'), str(hostKey), str(sessionId), str(signature), isForwarding ? 1 : 0);
};

function started(options: AgentOptions = {}) {
  const agent = createAgent({ ...options, ports: { devices: token, ...options.ports } });
  const session = agent.openSession();
  const kind = async (message: Uint8Array): Promise<number | undefined> => (await session.handle(message))[0];
  return { agent, session, kind, list: async () => commentsOf(await session.handle(LIST)) };
}

describe('a constraint of a request to add a token', () => {
  test('of a lifetime ends each of its keys, and lets go of the token', async () => {
    const clock = new FakeClock();
    const { session, list } = started({ ports: { clock } });
    expect(await session.handle(adding(raw(1, u32(60))))).toEqual(SUCCESS);
    expect(await list()).toEqual(['key 0', 'key 1']);
    clock.advance(60_000);
    expect(token.open).toBe(0);
    expect(await list()).toEqual([]);
  });

  test('of a lifetime is that of the agent where it has none of its own', async () => {
    const clock = new FakeClock();
    const { session } = started({ ports: { clock }, defaultLifetime: 30 });
    await session.handle(adding());
    clock.advance(30_000);
    expect(token.open).toBe(0);
  });

  test('that each use is confirmed holds for each of its keys and certificates', async () => {
    const confirm = new ScriptedConfirm();
    const certificates = [first, second].map((key) => certified(key, authority).blob);
    const { session, kind } = started({ ports: { confirm } });
    expect(await session.handle(adding(raw(2), associated(false, ...certificates)))).toEqual(SUCCESS);
    const blobs = [first.blob, second.blob, ...certificates];
    for (const blob of blobs) expect(await kind(signing(blob))).toBe(14);
    confirm.will('no');
    for (const blob of blobs) expect(await session.handle(signing(blob))).toEqual(FAILURE);
    expect(confirm.questions()).toHaveLength(2 * blobs.length);
  });

  test('is not loosened when the token is added again without it', async () => {
    const clock = new FakeClock();
    const confirm = new ScriptedConfirm();
    const { session, list } = started({ ports: { clock, confirm } });
    await session.handle(adding(raw(1, u32(60)), raw(2)));
    expect(await session.handle(adding())).toEqual(SUCCESS);
    expect(token.open).toBe(2);
    confirm.will('no');
    for (const { blob } of token.keys) expect(await session.handle(signing(blob))).toEqual(FAILURE);
    clock.advance(60_000);
    expect(await list()).toEqual([]);
    expect(token.open).toBe(0);
  });

  test('that is not known refuses the token, and its library is not even opened', async () => {
    const { session } = started();
    for (const unknown of [raw(3, u32(1)), raw(255, str('limit@example.org'))])
      expect(await session.handle(adding(unknown))).toEqual(FAILURE);
    expect(token.opened).toBe(0);
  });
});

describe('certificates that come with a token', () => {
  const mine = certified(first, authority).blob;
  const others = certified(freshEd25519(), authority).blob;

  test('stand beside the keys that they are for; what is for none, or is none, is passed over', async () => {
    const { agent, session, list } = started();
    expect(await session.handle(adding(associated(false, others, second.blob, raw('rubbish'), mine)))).toEqual(SUCCESS);
    expect(await list()).toEqual(['key 0', 'key 0', 'key 1']);
    expect(agent.keyring.find(mine)?.provider).toBe(LIB);
    expect(agent.keyring.find(others)).toBeUndefined();
  });

  test('stand alone where the request says so', async () => {
    const { agent, session, list } = started();
    expect(await session.handle(adding(associated(true, mine)))).toEqual(SUCCESS);
    expect(await list()).toEqual(['key 0']);
    expect(agent.keyring.find(first.blob)).toBeUndefined();
    expect(token.open).toBe(1);
  });

  test('are a failure where none is left to stand alone, and the token is let go', async () => {
    const { session } = started();
    expect(await session.handle(adding(associated(true, others)))).toEqual(FAILURE);
    expect(token.open).toBe(0);
  });

  test('that come twice are held once', async () => {
    const { session, list } = started();
    await session.handle(adding(associated(false, mine, mine)));
    await session.handle(adding(associated(false, mine)));
    expect(await list()).toEqual(['key 0', 'key 0', 'key 1']);
    expect(token.open).toBe(2);
  });

  test('sign until they are removed themselves, whatever becomes of the plain key', async () => {
    const { session, kind } = started();
    await session.handle(adding(associated(false, mine)));
    expect(await session.handle(raw(18, str(first.blob)))).toEqual(SUCCESS);
    expect(await kind(signing(mine))).toBe(14);
    expect(token.open).toBe(2);
    await session.handle(raw(18, str(mine)));
    expect(token.open).toBe(1);
  });
});

describe('a token', () => {
  test('that is added twice is let go once all is removed, and can be added again', async () => {
    const { session, kind } = started();
    for (const removal of [removing, raw(19), raw(9)]) {
      for (const _ of [1, 2]) expect(await session.handle(adding())).toEqual(SUCCESS);
      expect(token.open).toBe(2);
      for (const { blob } of token.keys) expect(await kind(signing(blob))).toBe(14);
      expect(await session.handle(removal)).toEqual(SUCCESS);
      expect(token.open).toBe(0);
    }
  });

  test('is removed with its own keys alone', async () => {
    const { session, list } = started();
    const soft = freshEd25519();
    const { pk, sk } = soft.key.fields as { pk: Uint8Array; sk: Uint8Array };
    await session.handle(raw(17, str('ssh-ed25519'), str(pk), str(sk), str('soft')));
    await session.handle(adding());
    await session.handle(removing);
    expect(await list()).toEqual(['soft']);
  });

  test('without keys is a failure', async () => {
    Object.assign(token, { keys: [] });
    const { session } = started();
    expect(await session.handle(adding())).toEqual(FAILURE);
  });

  test('whose library is not allowed is neither opened nor removed', async () => {
    const { session } = started();
    expect(await session.handle(raw(20, str('/tmp/token.so'), str('1234')))).toEqual(FAILURE);
    expect(await session.handle(raw(21, str('/tmp/token.so'), str('')))).toEqual(FAILURE);
    expect(token.opened).toBe(0);
  });

  test('is given the PIN, which is gone afterwards, also after a failure', async () => {
    const { session } = started();
    const message = adding();
    const answer = session.handle(message);
    message.fill(0);
    expect(await answer).toEqual(SUCCESS);
    token.wait = Promise.reject(new KeyError('wrong-passphrase', 'wrong PIN'));
    expect(await session.handle(adding())).toEqual(FAILURE);
    expect(token.shown).toEqual(['1234', '1234']);
    for (const pin of token.pins) expect([...pin]).toEqual([0, 0, 0, 0]);
  });

  test('whose keys come when the agent is locked by then is let go', async () => {
    let go = (): void => {};
    token.wait = new Promise((resolve) => {
      go = resolve;
    });
    const { agent, session, list } = started();
    const answer = session.handle(adding());
    expect(await agent.openSession().handle(raw(22, str('phrase')))).toEqual(SUCCESS);
    go();
    expect(await answer).toEqual(FAILURE);
    expect(token.open).toBe(0);
    await session.handle(raw(23, str('phrase')));
    expect(await list()).toEqual([]);
  });

  test('of a locked agent is neither added, removed nor used', async () => {
    const { session, kind } = started();
    await session.handle(adding());
    await session.handle(raw(22, str('phrase')));
    for (const message of [adding(), removing, signing(first.blob)])
      expect(await session.handle(message)).toEqual(FAILURE);
    await session.handle(raw(23, str('phrase')));
    expect(await kind(signing(first.blob))).toBe(14);
    expect(token.opened).toBe(2);
  });

  test('that does not fit whole is not added at all, and is let go', async () => {
    const { agent, session, list } = started();
    const { add } = agent.keyring;
    let room = 1;
    agent.keyring.add = (entry) => {
      if (room-- === 0) throw new KeyError('full', 'full');
      add.call(agent.keyring, entry);
    };
    expect(await session.handle(adding(associated(false, certified(first, authority).blob)))).toEqual(FAILURE);
    expect(await list()).toEqual([]);
    expect(token.open).toBe(0);
  });
});

describe('a connection that is bound to a host', () => {
  test.each([[true], [false]])('may not name a library (forwarding: %s)', async (forwarding) => {
    const logged: string[] = [];
    const { session } = started({ ports: { log: (_, text) => void logged.push(text) } });
    expect(await session.handle(binding(forwarding))).toEqual(SUCCESS);
    expect(await session.handle(adding())).toEqual(FAILURE);
    expect(token.opened).toBe(0);
    expect(logged.join('\n')).toContain('a connection from a host may not name a library to load');
  });

  test('may where the agent was told so', async () => {
    const { session } = started({ allowRemoteProviders: true });
    await session.handle(binding(true));
    expect(await session.handle(adding())).toEqual(SUCCESS);
  });
});
