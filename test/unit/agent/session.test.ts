import { expect, test } from 'vitest';
import { createAgent } from '../../../src/agent/agent.ts';
import { ScriptedConfirm } from '../../../src/testing/fakes.ts';
import { freshEd25519, freshRsa, verifiedName } from '../../../src/testing/fixtures.ts';
import { encodeRequest } from '../../../src/wire/requests.ts';
import { freshMldsa } from '../../support/keys.ts';
import { fill, raw, str } from '../wire/build.ts';
import { adding, signing } from './messages.ts';

const ed = freshEd25519();
const data = raw('what is signed');

test('quick answers are given at once, slow ones are promised', async () => {
  const session = createAgent().openSession();
  const rsa = freshRsa();
  expect(session.handle(adding(ed, ''))).toEqual(raw(6));
  expect(session.handle(signing(ed))).toBeInstanceOf(Uint8Array);
  const request = { kind: 'add', key: rsa.key, comment: '', constraints: {} } as const;
  expect(session.handle(encodeRequest(request).finish())).toEqual(raw(6));
  expect(session.handle(signing(rsa))).toBeInstanceOf(Promise);
  expect(session.handle(raw(22, str('phrase')))).toBeInstanceOf(Promise);
});

test('nothing of a message is needed once the call is made', async () => {
  const session = createAgent({ ports: { confirm: new ScriptedConfirm() } }).openSession();
  const rsa = freshRsa();
  const mldsa = freshMldsa();
  const wiped = async (message: Uint8Array): Promise<Uint8Array> => {
    const answer = session.handle(message);
    message.fill(0);
    return answer;
  };
  for (const { key } of [ed, rsa, mldsa]) {
    const constraints = { confirm: true } as const;
    const answer = await wiped(encodeRequest({ kind: 'add', key, comment: '', constraints }).finish());
    expect(answer).toEqual(raw(6));
  }
  for (const [key, name] of [
    [ed, 'ssh-ed25519'],
    [rsa, 'rsa-sha2-512'],
  ] as const)
    expect(verifiedName(key, data, (await wiped(signing(key, 4))).subarray(5))).toBe(name);
  expect(await wiped(raw(22, str('phrase')))).toEqual(raw(6));
  expect(await wiped(raw(23, str('phrase')))).toEqual(raw(6));
  expect((await wiped(signing(ed)))[0]).toBe(14);
});

test('whatever is sent is answered, and nothing is thrown', async () => {
  const session = createAgent().openSession();
  expect(await session.handle(new Uint8Array())).toEqual(raw(5));
  for (let number = 0; number < 256; number++) {
    const body = fill(40, number);
    expect((await session.handle(raw(number, body))).length).toBeGreaterThan(0);
    expect((await session.handle(raw(number, str(body), str(body)))).length).toBeGreaterThan(0);
  }
});

test('a session that is closed says so to whoever listens, once', () => {
  const session = createAgent().openSession();
  let times = 0;
  session.closed.addEventListener('abort', () => {
    times++;
  });
  session.close();
  session.close();
  expect([times, session.closed.aborted]).toEqual([1, true]);
});

test('a composite key that waits for its code is refused when the agent is locked meanwhile', async () => {
  const agent = createAgent();
  const [one, other] = [agent.openSession(), agent.openSession()];
  const request = { kind: 'add', key: freshMldsa().key, comment: '', constraints: {} } as const;
  const adding = one.handle(encodeRequest(request).finish());
  const locking = other.handle(raw(22, str('phrase')));
  expect([await adding, await locking]).toEqual([raw(5), raw(6)]);
  expect(await other.handle(raw(23, str('phrase')))).toEqual(raw(6));
  expect(agent.status().keys).toBe(0);
});
