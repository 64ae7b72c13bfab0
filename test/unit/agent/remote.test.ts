/** Sessions that come from another machine or through a guard, with Latchkey's table, and what is written down of them. */
import { describe, expect, test } from 'vitest';
import { createAgent } from '../../../src/agent/agent.ts';
import type { Records, Use } from '../../../src/agent/ports.ts';
import type { Session } from '../../../src/agent/session.ts';
import type { Guard } from '../../../src/policy/guard.ts';
import { FakeClock, ScriptedConfirm } from '../../../src/testing/fakes.ts';
import { bindingTo, type FreshKey, freshEd25519 } from '../../../src/testing/fixtures.ts';
import { raw, str, u32 } from '../wire/build.ts';
import { adding, signing } from './messages.ts';

const ed = freshEd25519();
const other = freshEd25519();
const bastion = freshEd25519();
const db = freshEd25519();
const FAILURE = raw(5);
const SUCCESS = raw(6);
const LIST = raw(11);

function binding(host: FreshKey, isForwarding: boolean, sessionId?: Uint8Array) {
  const bound = bindingTo(host, { isForwarding, ...(sessionId === undefined ? {} : { sessionId }) });
  const body = raw(str(bound.hostKey), str(bound.sessionId), str(bound.signature), isForwarding ? 1 : 0);
  return { message: raw(27, str('session-bind@openssh.com'), body), sessionId: bound.sessionId };
}

function login(key: FreshKey, sessionId: Uint8Array, host: FreshKey, user = 'root'): Uint8Array {
  const method = str('publickey-hostbound-v00@openssh.com');
  const rest = raw(str('ssh-connection'), method, 1, str('ssh-ed25519'), str(key.blob), str(host.blob));
  return raw(13, str(key.blob), str(raw(str(sessionId), 50, str(user), rest)), u32(0));
}

class Kept implements Records {
  readonly uses: Use[] = [];
  isWritable = true;

  append(use: Use): string {
    this.uses.push(use);
    return String(this.uses.length);
  }

  get hasUnwritten(): boolean {
    return this.uses.length > 0;
  }

  flush(): boolean {
    return this.isWritable;
  }

  last(): Use {
    return this.uses.at(-1) as Use;
  }
}

async function agentWith(table: 'latchkey' | 'openssh' = 'latchkey') {
  const records = new Kept();
  const person = new ScriptedConfirm();
  const clock = new FakeClock();
  const agent = createAgent({ table, ports: { records, confirm: person, clock } });
  const here = agent.openSession();
  expect(await here.handle(adding(ed, 'work'))).toEqual(SUCCESS);
  /** A session from bastion, and one that goes on from there to db. */
  const afar = async (): Promise<{ session: Session; sessionId: Uint8Array }> => {
    const session = agent.openSession();
    expect(await session.handle(binding(bastion, true).message)).toEqual(SUCCESS);
    const onward = binding(db, false);
    expect(await session.handle(onward.message)).toEqual(SUCCESS);
    return { session, sessionId: onward.sessionId };
  };
  return { agent, records, person, here, afar };
}

const count = (list: Uint8Array): number => new DataView(list.buffer, list.byteOffset).getUint32(1);

describe('a session that is forwarded', () => {
  test('signs a login beyond the host when the owner agrees, and it is written down', async () => {
    const { afar, person, records } = await agentWith();
    const { session, sessionId } = await afar();
    person.will('no');
    expect(await session.handle(login(ed, sessionId, db))).toEqual(FAILURE);
    expect(records.last()).toMatchObject({ kind: 'sign', outcome: 'denied', purpose: 'login', forwarded: true });
    person.will('yes');
    expect((await session.handle(login(ed, sessionId, db)))[0]).toBe(14);
    expect(records.last()).toMatchObject({
      kind: 'sign',
      outcome: 'allowed',
      user: 'root',
      answer: { by: 'script', scope: 'once' },
      ground: { kind: 'default' },
      hosts: [{ forwards: true }, { forwards: false }],
    });
  });

  test('signs no login for another session or host, no unknown bytes, and nobody is asked', async () => {
    const { afar, person, records } = await agentWith();
    person.will('yes');
    const { session, sessionId } = await afar();
    for (const message of [login(ed, new Uint8Array(32).fill(7), db), login(ed, sessionId, bastion), signing(ed)]) {
      expect(await session.handle(message)).toEqual(FAILURE);
      expect(records.last()).toMatchObject({ kind: 'sign', outcome: 'denied', reason: expect.any(String) });
    }
    expect(person.questions()).toEqual([]);
  });

  test('lists, and is refused all that is the owner’s alone, each with its record', async () => {
    const { afar, records, agent, here } = await agentWith();
    const { session } = await afar();
    expect(count(await session.handle(LIST))).toBe(1);
    expect(records.last()).toMatchObject({ kind: 'list', outcome: 'allowed', forwarded: true });
    const token = raw(str('/usr/lib/x.so'), str('1234'));
    for (const [message, kind] of [
      [adding(other, ''), 'add'],
      [raw(18, str(ed.blob)), 'remove'],
      [raw(19), 'remove-all'],
      [raw(9), 'remove-all'],
      [raw(20, token), 'add-token'],
      [raw(21, token), 'remove-token'],
      [raw(22, str('phrase')), 'lock'],
      [raw(23, str('phrase')), 'unlock'],
      [raw(27, str('other@example.com')), 'extension'],
      [raw(200), 'extension'],
    ] as const) {
      const before = records.uses.length;
      expect((await session.handle(message))[0], kind).toBe(5);
      expect(records.uses.slice(before)).toMatchObject([{ kind, outcome: 'denied', forwarded: true }]);
    }
    expect(agent.status()).toMatchObject({ keys: 1, locked: false });
    expect((await here.handle(signing(ed)))[0]).toBe(14);
  });

  test('is one from the first binding that forwards, or that fails, and stays one', async () => {
    const { agent, person } = await agentWith();
    person.will('no');
    const forged = agent.openSession();
    const { message } = binding(bastion, false);
    message.set([(message.at(-2) as number) ^ 1], message.length - 2);
    expect((await forged.handle(message))[0]).toBe(28);
    expect((await forged.handle(raw(19)))[0]).toBe(5);
    expect(await forged.handle(binding(db, false).message)).toEqual(SUCCESS);
    expect((await forged.handle(raw(19)))[0]).toBe(5);
    expect(await forged.handle(signing(ed))).toEqual(FAILURE);
  });

  test('with OpenSSH’s table is served as by OpenSSH, and written down', async () => {
    const { afar, records } = await agentWith('openssh');
    const { session } = await afar();
    expect((await session.handle(signing(ed)))[0]).toBe(14);
    expect(records.last()).toMatchObject({
      kind: 'sign',
      outcome: 'allowed',
      purpose: 'unidentified',
      forwarded: true,
    });
    expect(await session.handle(adding(other, ''))).toEqual(SUCCESS);
  });
});

test('a signature whose record cannot be written does not leave, and what is no signature does', async () => {
  const { here, records } = await agentWith();
  records.isWritable = false;
  expect(await here.handle(signing(ed))).toEqual(FAILURE);
  expect(count(await here.handle(LIST))).toBe(1);
  records.isWritable = true;
  expect((await here.handle(signing(ed)))[0]).toBe(14);
});

describe('a session through a guard', () => {
  const guard = (more: Partial<Guard> = {}): Guard => ({
    id: 'g1',
    keys: undefined,
    to: undefined,
    via: undefined,
    effect: 'ask',
    expiresAt: undefined,
    count: undefined,
    ...more,
  });

  test.each(['latchkey', 'openssh'] as const)('of an agent with the table %s is restricted', async (table) => {
    const { agent, person, records } = await agentWith(table);
    const session = agent.openSession(undefined, guard());
    person.will('yes');
    expect((await session.handle(adding(other, '')))[0]).toBe(5);
    expect((await session.handle(raw(19)))[0]).toBe(5);
    expect((await session.handle(signing(ed)))[0]).toBe(5);
    expect(records.last()).toMatchObject({ outcome: 'denied', guard: 'g1', forwarded: true });
    const bound = binding(db, false);
    await session.handle(bound.message);
    expect((await session.handle(login(ed, bound.sessionId, db)))[0]).toBe(14);
    expect(person.questions()).toHaveLength(1);
  });

  test('that allows asks nothing for what fits it, and shows no other keys', async () => {
    const { agent, person, here } = await agentWith();
    await here.handle(adding(other, 'other'));
    let used = 0;
    agent.useGuard = () => ++used <= 1;
    const { fingerprint, parsePublicKey } = await import('../../../src/keys/publickey.ts');
    const keys = [fingerprint(parsePublicKey(ed.blob))];
    const to = [{ user: 'git', hostname: 'db', keys: [{ blob: db.blob, isAuthority: false }] }];
    const session = agent.openSession(undefined, guard({ effect: 'allow', keys, to }));
    expect(count(await session.handle(LIST))).toBe(1);
    const bound = binding(db, false);
    await session.handle(bound.message);
    expect((await session.handle(login(ed, bound.sessionId, db, 'git')))[0]).toBe(14);
    expect((await session.handle(login(ed, bound.sessionId, db, 'root')))[0]).toBe(5);
    expect((await session.handle(login(other, bound.sessionId, db, 'git')))[0]).toBe(5);
    expect(used).toBe(1);
    expect((await session.handle(login(ed, bound.sessionId, db, 'git')))[0]).toBe(5);
    expect(person.questions()).toEqual([]);
  });
});

test('an answer that lasts is forgotten when the agent is locked or the rules change', async () => {
  const { agent, afar, person } = await agentWith();
  agent.setPolicy({ lasts: 'destination' });
  const { session, sessionId } = await afar();
  person.will('yes');
  for (let i = 0; i < 3; i++) expect((await session.handle(login(ed, sessionId, db)))[0]).toBe(14);
  expect(person.questions()).toHaveLength(1);
  const here = agent.openSession();
  expect(await here.handle(raw(22, str('phrase')))).toEqual(SUCCESS);
  expect(await here.handle(raw(23, str('phrase')))).toEqual(SUCCESS);
  expect((await session.handle(login(ed, sessionId, db)))[0]).toBe(14);
  expect(person.questions()).toHaveLength(2);
  agent.setPolicy({ rules: [] });
  expect((await session.handle(login(ed, sessionId, db)))[0]).toBe(14);
  expect(person.questions()).toHaveLength(3);
});

test('a rule that is new is obeyed on connections that are there, also for names that were hidden until it spoke of them', async () => {
  const records = new Kept();
  // As with hashed lines of known_hosts: a name is found where somebody says which it may be.
  const hosts = {
    namesOf: (_key: unknown, candidates: readonly string[]) =>
      candidates.includes('bastion') ? { names: ['bastion'], hidden: 0 } : { names: [], hidden: 1 },
  };
  const agent = createAgent({ table: 'latchkey', ports: { records, hosts } });
  expect(await agent.openSession().handle(adding(ed, 'work'))).toEqual(SUCCESS);
  const session = agent.openSession();
  expect(await session.handle(binding(bastion, true).message)).toEqual(SUCCESS);
  expect(count((await session.handle(LIST)) as Uint8Array)).toBe(1);
  const rule = { name: 'not by bastion', line: 1, effect: 'deny', lasts: 'once', via: ['bastion'] } as const;
  agent.setPolicy({ rules: [rule] });
  expect(count((await session.handle(LIST)) as Uint8Array)).toBe(0);
});

test('a request that waits when the agent ends is written down', async () => {
  const { agent, afar, person, records } = await agentWith();
  const { session, sessionId } = await afar();
  person.will('wait');
  const waiting = session.handle(login(ed, sessionId, db));
  agent.questions.endAll('the agent ends');
  expect((await waiting)[0]).toBe(5);
  expect(records.last()).toMatchObject({ kind: 'sign', outcome: 'denied', reason: 'not confirmed: the agent ends' });
});

test('what an answer is about is known also after the message was wiped', async () => {
  const { agent, afar, person } = await agentWith();
  agent.setPolicy({ lasts: 'path' });
  const { session, sessionId } = await afar();
  person.will('wait');
  const message = login(ed, sessionId, db);
  const waiting = session.handle(message);
  message.fill(0);
  person.settle('yes');
  expect((await waiting)[0]).toBe(14);
  // The answer holds for the same login, which it would not if it had been read from wiped bytes.
  expect((await session.handle(login(ed, sessionId, db)))[0]).toBe(14);
  expect(person.questions()).toHaveLength(1);
});
