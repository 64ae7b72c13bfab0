// A hostile host with the agent forwarded to it sends much of everything, and nags: here lists, signatures, logins, new keys
// and questions go on meanwhile, and what it did is written down. And one thing that the owner does agree to stays one.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ask, signMessage } from '../support/agentprocess.ts';
import { fromPub, raw, str } from '../unit/wire/build.ts';
import { type Chain, openScene, type Scene, seenHere } from './fixtures/hostilescene.ts';
import { type Expected, Owner } from './fixtures/owner.ts';

const WHERE = 'echo "$LATCHKEY_HOST"';
const MANY = 300;
const no = 5;
const bound = 6;
const list = 12;

let scene: Scene;
let owner: Owner;
let chain: Chain;

beforeAll(async () => {
  scene = await openScene((setting) => setting.latchkeyAgent());
  owner = await Owner.of(scene);
});

afterAll(async () => {
  owner?.close();
  await scene?.setting.end();
});

beforeEach(async () => {
  owner.decide = () => 'no';
  chain = await scene.chain();
  owner.forget();
});

afterEach(() => chain.close());

const brokenOff = (reason: RegExp | string): Expected => ({ kind: 'connection', outcome: 'failed', reason });
const fileData = raw('SSHSIG', str('file'), str(''), str('sha256'), str(new Uint8Array(32)));

/** Does what the owner does all day, again and again until `work` is over. */
async function undisturbed<T>(work: Promise<T>): Promise<T> {
  let isOver = false;
  let rounds = 0;
  const ended = work.finally(() => {
    isOver = true;
  });
  const login = async (): Promise<void> => {
    const run = await scene.setting.run('/usr/bin/ssh', scene.ssh(scene.keys.free, 'a', WHERE), {
      env: { SSH_AUTH_SOCK: scene.agent.path },
    });
    expect(run).toMatchObject({ status: 0, stdout: `${scene.hosts.a.word}\n` });
  };
  do {
    expect(await seenHere(scene)).toEqual({ keys: 3, signs: true });
    if (rounds++ % 20 === 0) await login();
  } while (!isOver);
  return ended;
}

/** A local signature with the key that is to be confirmed, which the owner is asked for and agrees to. */
async function confirmedHere(): Promise<void> {
  const before = owner.decide;
  owner.decide = (question) => (question.forwarded ? before(question) : 'yes');
  const answer = await ask(scene.agent.path, signMessage(fromPub(scene.keys.confirmed.line), fileData));
  expect(answer?.[0]).toBe(14);
  owner.decide = before;
}

/** Which of the two comes first, and which are merged into it, hangs on how fast ssh closes its channels. */
const HALF = /^half a message held for long|^it ended in the middle of a message/;

describe('the owner is not disturbed by', () => {
  it('a thousand lists, which show what is of use there alone', async () => {
    const told = await undisturbed(chain.attack('listing a thousand times'));
    const useful = [scene.keys.free, scene.keys.confirmed].map(({ line }) => line.split(' ')[1]);
    expect(told).toEqual({ answers: useful, signatures: 0 });
    await owner.expectRecords(chain, [{ kind: 'list', outcome: 'allowed' }]);
    await scene.setting.until(() => {
      const lists = owner.records(chain).filter(({ kind }) => kind === 'list');
      return lists.reduce((sum, { repeated = 0 }) => sum + 1 + repeated, 0) >= 1000;
    }, 10_000);
  });

  it('hundreds of connections', async () => {
    const told = await undisturbed(chain.attack('hundreds of connections', { count: MANY }));
    expect(told).toEqual({ answers: [list], signatures: 0 });
    await undisturbed(chain.attack('end of a flood'));
    await owner.expectRecords(chain, [{ kind: 'list', outcome: 'allowed' }]);
  });

  it('halves of frames on many connections', async () => {
    await undisturbed(chain.attack('halves of frames on many connections', { count: 100 }));
    await owner.expectRecords(chain, [brokenOff(HALF)]);
    await confirmedHere();
    await undisturbed(chain.attack('end of a flood'));
  });

  it('halves of keys on many connections, not even when it adds one', async () => {
    await undisturbed(chain.attack('halves of keys on many connections', { count: 60 }));
    await owner.expectRecords(chain, [brokenOff(HALF)]);
    await scene.agent.hold([scene.keys.free]);
    expect(await seenHere(scene)).toEqual({ keys: 3, signs: true });
    await undisturbed(chain.attack('end of a flood'));
  });

  it('lengths that no frame has', async () => {
    const told = await undisturbed(chain.attack('frames without an end, and without a beginning'));
    expect(told).toEqual({ answers: new Array(5).fill('closed'), signatures: 0 });
    const [long, empty] = [brokenOff('a message that is too long'), brokenOff('a message without a number')];
    await owner.expectRecords(chain, [long, long, long, empty, empty]);
  });

  it('answers that are not read', async () => {
    await undisturbed(chain.attack('answers that it does not read'));
    await owner.expectRecords(chain, [{ kind: 'list', outcome: 'allowed' }]);
    await undisturbed(chain.attack('end of a flood'));
  });

  it.each([1, 2, 3])('noise %i', async (seed) => {
    const { answers, signatures } = await undisturbed(chain.attack('noise', { seed }));
    expect(signatures).toBe(0);
    expect([no, 28]).toEqual(expect.arrayContaining([...answers]));
    await owner.expectRecords(chain, [{ kind: 'malformed', outcome: 'failed' }]);
    expect(chain.signatures).toBe(0);
  });

  it('as many questions as there is room for', async () => {
    owner.decide = (question) => (question.forwarded ? 'wait' : 'yes');
    const attack = chain.attack('as many questions as there is room for');
    await scene.setting.until(() => owner.questions.length === 4);
    await scene.setting.until(() => owner.records(chain).length >= 36);
    await confirmedHere();
    expect(owner.questions.filter(({ forwarded }) => forwarded)).toHaveLength(4);
    for (const { id } of owner.questions) await owner.answer(id, 'no');
    expect(await attack).toEqual({ answers: [bound, no], signatures: 0 });
    await owner.expectRecords(chain, [{ kind: 'sign', outcome: 'denied', reason: /4 questions of this process wait/ }]);
  });

  it('questions that are withdrawn and asked again', async () => {
    owner.decide = () => 'wait';
    await undisturbed(chain.attack('asking and hanging up, again and again', { times: 12 }));
    await owner.expectRecords(chain, [
      { kind: 'sign', outcome: 'denied', reason: 'not confirmed: the client hung up' },
    ]);
    expect(owner.questions.length).toBeLessThan(12);
  });
});

describe('what the owner agreed to', () => {
  const SENTENCE = 'via a, b (verified): log in as root on c (verified)';

  /** Somebody else on b, whose agent is forwarded as well, logs in to c. */
  async function honest(): Promise<{ readonly pid: number; socket(): Promise<string>; end(): Promise<string> }> {
    const quote = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
    const words = (...list: readonly string[]): string => ['/usr/bin/ssh', ...list].map(quote).join(' ');
    const onB = `echo "$SSH_AUTH_SOCK"; ${words(...scene.ssh(scene.keys.free, 'c', WHERE))}`;
    const onA = words(...scene.ssh(scene.keys.bound, '-A', 'b', onB));
    const child = spawn('/usr/bin/ssh', scene.ssh(scene.keys.bound, '-A', 'a', onA), {
      env: { ...scene.setting.env, SSH_AUTH_SOCK: scene.agent.path },
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    let said = '';
    child.stdout.on('data', (chunk: Buffer) => {
      said += chunk;
    });
    const ended = once(child, 'close');
    return {
      pid: child.pid ?? 0,
      socket: async () => {
        await scene.setting.until(() => said.includes('\n'));
        return said.split('\n')[0] ?? '';
      },
      end: async () => {
        await ended;
        return said.split('\n')[1] ?? '';
      },
    };
  }

  it('is what it gets, and nothing else, while attacks go on', async () => {
    let agreed = '';
    let expected = 0;
    owner.decide = ({ id, sentence, verified }) => {
      if (!verified.some((line) => line.includes(`pid ${expected},`))) return 'no';
      expect(sentence).toBe(SENTENCE);
      agreed = id;
      return 'wait';
    };
    const before = owner.signedForOthers().length;
    const person = await honest();
    expected = person.pid;
    await scene.setting.until(() => agreed !== '');
    const attacks = ['logins of sessions that it invents', 'a session with c that nobody asked for', 'blind bytes'];
    for (const attack of attacks) expect((await chain.attack(attack)).signatures).toBe(0);
    const noise = chain.attack('noise', { seed: 4 });
    await owner.answer(agreed, 'yes');
    expect(await person.end()).toBe(scene.hosts.c.word);
    expect((await noise).signatures).toBe(0);
    expect(chain.signatures).toBe(0);
    expect(scene.hosts.c.accepted()).toHaveLength(1);
    // Two on the way, from a to b, and the one.
    const signed = owner.signedForOthers().slice(before);
    expect(signed.map(({ ground, answer }) => [ground?.kind, answer?.by])).toEqual([
      ['destinations', undefined],
      ['default', 'approve'],
    ]);
  });

  it('is not shared with what asks in its shadow, on the same socket and in the same words', async () => {
    let shown: string | undefined;
    owner.decide = ({ id }) => {
      shown ??= id;
      return id === shown ? 'wait' : 'no';
    };
    const person = await honest();
    await scene.setting.until(() => shown !== undefined);
    const attack = chain.attack('another session with c, together with the one that the owner began', {
      socket: await person.socket(),
    });
    // It has been told that another one waits, or asks on its own.
    await scene.setting.until(async () => owner.requests(shown ?? '') > 1 || owner.questions.length > 1);
    await owner.answer(shown ?? '', 'yes');
    expect(await person.end()).toBe(scene.hosts.c.word);
    expect(await attack).toEqual({ answers: [bound, no], signatures: 0 });
  });

  it('until a command ends is for where it was asked, and not for other hosts behind it', async () => {
    const scopes: string[] = [];
    owner.decide = ({ id, offers }) => {
      const isOffered = offers.some(({ scope }) => scope === 'command');
      if (scopes.length > 0 || !isOffered) return 'no';
      scopes.push(id);
      return 'wait';
    };
    const first = chain.attack("another connection's binding, sent again");
    await scene.setting.until(() => owner.questions.length > 0);
    const [question] = owner.questions;
    if (scopes.length > 0) {
      await owner.approve(question?.id ?? '', 'command');
      expect((await first).answers).toEqual([bound, 14]);
    }
    expect(await chain.attack('its own key under a session with c, for itself')).toEqual({
      answers: [bound, no],
      signatures: 0,
    });
  });
});
