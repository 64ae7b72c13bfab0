/** Questions that wait, and answers that last, with a fake clock and a scripted person. */
import { describe, expect, test } from 'vitest';
import type { Confirm, Question, Reply } from '../../../src/agent/ports.ts';
import {
  type Asked,
  MAX_FORWARDED_QUESTIONS,
  MAX_QUESTIONS_OF_ONE,
  MAX_REFUSALS,
  MAX_WAITING_QUESTIONS,
  type Outcome,
  QUESTION_MS,
  Questions,
  SILENCE_MS,
} from '../../../src/agent/questions.ts';
import { parsePublicKey } from '../../../src/keys/publickey.ts';
import { bind, noBindings } from '../../../src/policy/bindings.ts';
import { DESTINATION_MS, scopesFor } from '../../../src/policy/consent.ts';
import type { Facts, PeerProcess } from '../../../src/policy/facts.ts';
import type { Entry } from '../../../src/store/entry.ts';
import { FakeClock } from '../../../src/testing/fakes.ts';
import { bindingTo, type FreshKey, freshEd25519 } from '../../../src/testing/fixtures.ts';
import { classify } from '../../../src/wire/signeddata.ts';
import { raw, str } from '../wire/build.ts';

const key = freshEd25519();
const entry: Entry = {
  signer: { publicKey: parsePublicKey(key.blob), sign: () => new Uint8Array(), rest: () => {}, dispose: () => {} },
  comment: 'comment',
  confirm: true,
  expiresAt: undefined,
  provider: undefined,
  destinations: undefined,
};
const never = (): AbortSignal => new AbortController().signal;

function processOf(pid: number, startTime = '1'): PeerProcess {
  return {
    pid,
    startTime,
    program: '/usr/bin/ssh',
    group: pid,
    session: pid,
    hasTerminal: false,
    folder: '/',
    isInOurNamespace: true,
    claimedArguments: ['ssh'],
  };
}

function loginTo(host: FreshKey, user = 'git', more: Partial<Facts> = {}): Facts {
  const binding = bindingTo(host);
  const { bindings } = bind(noBindings, binding);
  const end = raw(str('ssh-connection'), str('publickey'), 1, str('ssh-ed25519'), str(key.blob));
  return {
    entry,
    signed: classify(raw(str(binding.sessionId), 50, str(user), end)),
    bindings,
    hosts: bindings.list.map((one) => ({ binding: one, fingerprint: 'SHA256:x', names: ['host'], hidden: 0 })),
    guard: undefined,
    relay: undefined,
    forwarded: false,
    peer: undefined,
    nowSeconds: 0,
    ...more,
  };
}

const asked: Asked = {
  opensshText: 'Allow use of key comment?',
  sentence: 'log in as git on host (verified)',
  verified: [],
  claimed: [],
  key: { fingerprint: 'SHA256:y', comment: 'comment' },
  forwarded: false,
  offers: [
    { scope: 'once', text: 'this once' },
    { scope: 'command', text: 'until it ends' },
    { scope: 'destination', text: '15 min' },
  ],
  lasts: 'once',
  rule: undefined,
  mayMerge: true,
};
const sentence = (text: string): Asked => ({ ...asked, sentence: text });

function room(confirm: Confirm['confirm'] = () => new Promise(() => {})) {
  const clock = new FakeClock();
  const living = new Set<number>();
  const log: string[] = [];
  const questions = new Questions({
    clock,
    confirm: { confirm },
    log: (_level, text) => void log.push(text),
    lives: ({ pid }) => living.has(pid),
  });
  return { clock, living, log, questions };
}

const yes = (scope: Reply['scope'] = 'once'): Reply => ({ allow: true, scope, by: 'test' });
const no: Reply = { allow: false, scope: 'once', by: 'test' };

/** The id of the only question that waits. */
function only(questions: Questions): string {
  const [first, ...others] = questions.waiting();
  expect(others).toEqual([]);
  return (first as { question: Question }).question.id;
}

const kindOf = async (outcome: Promise<Outcome>): Promise<string> => {
  const ended = await outcome;
  return ended.kind === 'answered' ? (ended.reply.allow ? 'yes' : 'no') : ended.reason;
};

describe('a question', () => {
  const facts = loginTo(freshEd25519());

  test('ends with the first answer, by whichever way', async () => {
    const { questions } = room();
    const outcome = questions.ask(asked, facts, undefined, never());
    const id = only(questions);
    expect(questions.answer(id, yes())).toBe(true);
    expect(questions.answer(id, no)).toBe(false);
    expect(await kindOf(outcome)).toBe('yes');
    expect(questions.size).toBe(0);
  });

  test('ends the other ways of asking with it', async () => {
    let signal = never();
    const { questions } = room((_question, given) => {
      signal = given;
      return new Promise(() => {});
    });
    const outcome = questions.ask(asked, facts, undefined, never());
    questions.answer(only(questions), no);
    await outcome;
    expect(signal.aborted).toBe(true);
  });

  test('ends after its time, and a late yes does not count', async () => {
    let say = (_reply: Reply): void => {};
    const { questions, clock } = room(
      () =>
        new Promise((resolve) => {
          say = resolve;
        }),
    );
    const outcome = questions.ask(asked, facts, undefined, never());
    clock.advance(QUESTION_MS);
    say(yes());
    expect(await kindOf(outcome)).toBe('no answer came in time');
  });

  test('ends when the last that waits for it hung up', async () => {
    const { questions } = room();
    const [one, other] = [new AbortController(), new AbortController()];
    const first = questions.ask(asked, facts, undefined, one.signal);
    const second = questions.ask(asked, facts, undefined, other.signal);
    expect(questions.waiting()).toMatchObject([{ requests: 2 }]);
    one.abort();
    expect(await kindOf(first)).toBe('the client hung up');
    expect(questions.size).toBe(1);
    other.abort();
    expect(await kindOf(second)).toBe('the client hung up');
    expect(questions.size).toBe(0);
    expect(await kindOf(questions.ask(asked, facts, undefined, one.signal))).toBe('the client hung up');
    expect(questions.size).toBe(0);
  });

  test('that reaches nobody is refused at once, but waits while somebody watches', async () => {
    const { questions } = room(async () => undefined);
    expect(await kindOf(questions.ask(asked, facts, undefined, never()))).toMatch(/^nobody to ask/);
    const stop = questions.watch(() => {});
    const outcome = questions.ask(asked, facts, undefined, never());
    await new Promise((done) => setImmediate(done));
    expect(questions.size).toBe(1);
    stop();
    expect(await kindOf(outcome)).toMatch(/^nobody to ask/);
    expect(questions.lastUnanswered).toMatch(/^\d{4}-/);
  });

  test('whose way of asking fails is refused, and the words of the failure are not logged', async () => {
    for (const fail of [
      () => Promise.reject(new Error('the secret')),
      () => {
        throw new Error('the secret');
      },
    ]) {
      const { questions, log } = room(fail);
      expect(await kindOf(questions.ask(asked, facts, undefined, never()))).toMatch(/^nobody to ask/);
      expect(log).toHaveLength(1);
      expect(log.join()).not.toContain('the secret');
    }
  });
});

describe('identical questions', () => {
  const facts = loginTo(freshEd25519());

  test('that wait are one, unless each is to be asked for', async () => {
    const { questions } = room();
    const both = [1, 2].map(() => questions.ask(asked, facts, undefined, never()));
    questions.answer(only(questions), yes());
    expect(await Promise.all(both.map(kindOf))).toEqual(['yes', 'yes']);
    void questions.ask({ ...asked, mayMerge: false }, facts, undefined, never());
    void questions.ask({ ...asked, mayMerge: false }, facts, undefined, never());
    expect(questions.size).toBe(2);
  });

  test('of several processes of one command here are one, and from afar are not', () => {
    const { questions } = room();
    const of = (pid: number, forwarded: boolean): Facts => {
      const peer = { uid: 0, pid, processes: () => [processOf(pid)] };
      return { ...facts, peer, forwarded };
    };
    for (const pid of [11, 12]) void questions.ask(asked, of(pid, false), processOf(9), never());
    expect(questions.size).toBe(1);
    for (const pid of [11, 12]) void questions.ask(asked, of(pid, true), processOf(9), never());
    expect(questions.size).toBe(3);
  });

  test('are not one where the key, the command or the sentence is another', () => {
    const { questions } = room();
    void questions.ask(asked, facts, undefined, never());
    void questions.ask(asked, { ...facts, entry: { ...entry } }, processOf(9), never());
    void questions.ask(asked, facts, processOf(8), never());
    void questions.ask(sentence('another'), facts, undefined, never());
    expect(questions.size).toBe(4);
  });
});

test('what no one sentence may stand for is asked for each time', () => {
  const { questions } = room();
  const facts: Facts = { ...loginTo(freshEd25519()), signed: { kind: 'unidentified' } };
  void questions.ask(asked, facts, undefined, never());
  void questions.ask(asked, facts, undefined, never());
  expect(questions.size).toBe(2);
});

describe('room', () => {
  test('is bounded, and what comes from afar can take only a part of it', async () => {
    const { questions } = room();
    const afar = (pid: number): Facts => {
      const peer = { uid: 0, pid, processes: () => [processOf(pid)] };
      return loginTo(freshEd25519(), 'root', { forwarded: true, peer });
    };
    for (let i = 0; i < MAX_QUESTIONS_OF_ONE; i++) void questions.ask(sentence(`a${i}`), afar(1), undefined, never());
    expect(await kindOf(questions.ask(sentence('more'), afar(1), undefined, never()))).toMatch(/of this process wait/);
    for (let i = MAX_QUESTIONS_OF_ONE; i < MAX_FORWARDED_QUESTIONS; i++)
      void questions.ask(sentence(`b${i}`), afar(2 + i), undefined, never());
    expect(await kindOf(questions.ask(sentence('more'), afar(99), undefined, never()))).toMatch(/other machines wait/);
    const here = loginTo(freshEd25519());
    for (let i = MAX_FORWARDED_QUESTIONS; i < MAX_WAITING_QUESTIONS; i++)
      void questions.ask(sentence(`c${i}`), here, undefined, never());
    expect(questions.size).toBe(MAX_WAITING_QUESTIONS);
    expect(await kindOf(questions.ask(sentence('more'), here, undefined, never()))).toMatch(/wait for an answer/);
  });

  test('is not given to who was refused again and again, for a time', async () => {
    const { questions, clock } = room();
    const facts = loginTo(freshEd25519(), 'root', { forwarded: true });
    for (let i = 0; i < MAX_REFUSALS; i++) {
      const outcome = questions.ask(asked, facts, undefined, never());
      questions.answer(only(questions), no);
      await outcome;
    }
    expect(await kindOf(questions.ask(asked, facts, undefined, never()))).toMatch(/^not asked/);
    void questions.ask(asked, { ...facts, forwarded: false }, undefined, never());
    expect(questions.size).toBe(1);
    clock.advance(SILENCE_MS);
    void questions.ask(sentence('later'), facts, undefined, never());
    expect(questions.size).toBe(1);
  });
});

describe('an answer that lasts', () => {
  const host = freshEd25519();

  test('until the command ends covers whatever the command does of that kind, and ends with it', async () => {
    const { questions, living } = room();
    const command = processOf(4711);
    living.add(4711);
    const waiting = questions.ask(asked, loginTo(host), command, never());
    const other = questions.ask(sentence('another host'), loginTo(freshEd25519()), command, never());
    const [first] = questions.waiting();
    questions.answer((first as { question: Question }).question.id, yes('command'));
    // The one that waits for another host of the same command is answered too.
    expect(await Promise.all([waiting, other].map(kindOf))).toEqual(['yes', 'yes']);
    const elsewhere = loginTo(freshEd25519(), 'root');
    expect(questions.consentFor(elsewhere, command)?.scope).toBe('command');
    expect(questions.consentFor(elsewhere, processOf(4711, '2'))).toBeUndefined();
    expect(questions.consentFor(elsewhere, undefined)).toBeUndefined();
    expect(questions.consentFor({ ...elsewhere, forwarded: true }, command)).toBeUndefined();
    expect(questions.consentFor({ ...elsewhere, entry: { ...entry } }, command)).toBeUndefined();
    expect(questions.consentFor({ ...elsewhere, signed: { kind: 'unidentified' } }, command)).toBeUndefined();
    living.delete(4711);
    expect(questions.consentFor(elsewhere, command)).toBeUndefined();
    living.add(4711);
    expect(questions.consentFor(elsewhere, command)).toBeUndefined();
  });

  test('is not on offer for a login from afar that nothing proves: it would be one to anywhere', () => {
    const command = processOf(4711);
    const proven = loginTo(host);
    expect(scopesFor(proven, command)).toEqual(['command', 'destination']);
    const blind = { ...proven, bindings: noBindings, hosts: [] };
    expect(scopesFor(blind, command)).toEqual(['command']);
    expect(scopesFor({ ...blind, forwarded: true }, command)).toEqual([]);
  });

  test('for a destination covers that host and user for its time', async () => {
    const { questions, clock } = room();
    const waiting = questions.ask(asked, loginTo(host), undefined, never());
    questions.answer(only(questions), yes('destination'));
    await waiting;
    expect(questions.consentFor(loginTo(host), undefined)?.scope).toBe('destination');
    expect(questions.consentFor(loginTo(host, 'root'), undefined)).toBeUndefined();
    expect(questions.consentFor(loginTo(freshEd25519()), undefined)).toBeUndefined();
    clock.advance(DESTINATION_MS);
    expect(questions.consentFor(loginTo(host), undefined)).toBeUndefined();
  });

  test('to what one relay passes on, or behind a host that failed, is none to another way', async () => {
    const { questions } = room();
    const facts = loginTo(host, 'git', { forwarded: true, relay: 'docker hands the agent to containers' });
    const waiting = questions.ask(asked, facts, undefined, never());
    questions.answer(only(questions), yes('destination'));
    await waiting;
    expect(questions.consentFor(facts, undefined)?.scope).toBe('destination');
    expect(questions.consentFor({ ...facts, relay: 'it comes from a container' }, undefined)).toBeUndefined();
    expect(questions.consentFor({ ...facts, relay: undefined }, undefined)).toBeUndefined();
    const failed = { ...facts, bindings: { ...facts.bindings, failed: true } };
    expect(questions.consentFor(failed, undefined)).toBeUndefined();
  });

  test('is not taken where it was not on offer, and goes when answers are forgotten', async () => {
    const { questions } = room();
    const facts = loginTo(host);
    const waiting = questions.ask({ ...asked, offers: [] }, facts, undefined, never());
    questions.answer(only(questions), yes('destination'));
    await waiting;
    expect(questions.consents).toBe(0);
    const second = questions.ask(asked, facts, undefined, never());
    questions.answer(only(questions), yes('destination'));
    await second;
    expect(questions.consents).toBe(1);
    questions.forgetConsents();
    expect(questions.consentFor(facts, undefined)).toBeUndefined();
  });
});
