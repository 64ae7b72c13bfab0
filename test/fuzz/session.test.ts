/**
 * One agent that lives through everything: valid, broken, joined and random messages from several sessions at once, and
 * a smaller share over the real socket in random pieces. Its first key must still be there and sign at the end, and
 * custody must hold what its keys need and no more. FUZZ_RUNS asks for more than 100,000 inputs, FUZZ_SEED says where
 * the generator starts. Keys are fresh each time; what fails is shown in hex.
 */
import { verify } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Agent, createAgent } from '../../src/agent/agent.ts';
import type { Session } from '../../src/agent/session.ts';
import { Custody } from '../../src/keys/custody.ts';
import { FakeClock } from '../../src/testing/fakes.ts';
import { bindingTo, certified } from '../../src/testing/fixtures.ts';
import { encodeSessionBind } from '../../src/wire/extensions.ts';
import { encodeRequest } from '../../src/wire/requests.ts';
import { type AgentProcess, addMessage, ask, RawClient, startAgentProcess } from '../support/agentprocess.ts';
import { status } from '../support/control.ts';
import { type FreshKey, freshEcdsa, freshEd25519, freshMldsa, freshRsa } from '../support/keys.ts';
import { raw, str, u32 } from '../unit/wire/build.ts';
import { vectors } from '../unit/wire/vectorfiles.ts';

function setting(name: string, fallback: number): number {
  const value = Number(process.env[name] || fallback);
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`${name} is no count`);
  return value;
}

const MIN_RUNS = 100_000;
const RUNS = Math.max(MIN_RUNS, setting('FUZZ_RUNS', MIN_RUNS));
const SEED = setting('FUZZ_SEED', 20260822);
const SOCKET_RUNS = Math.ceil(RUNS / 25);
/** After so many inputs custody is counted. */
const CHECK_EVERY = 5_000;
const PHRASE = 'a known phrase';
const ANSWERS = [5, 6, 12, 14, 28, 29];
const [REMOVE_ALL_V1, ADD, REMOVE, REMOVE_ALL, LOCK, UNLOCK, ADD_CONSTRAINED] = [9, 17, 18, 19, 22, 23, 25] as const;

type Random = (below: number) => number;

/** xorshift32 of Marsaglia: never 0. */
function generator(seed: number): Random {
  let state = seed >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state % below;
  };
}

const EXTREMES = [0, 1, 2, 0x7f, 0xff, 0xffff, 262144, 262145, 0x7fffffff, 0x80000000, 0xffffffff];
const pick = <T>(from: readonly T[], random: Random): T => from[random(from.length)] as T;

const mutations: readonly ((bytes: Uint8Array, random: Random) => Uint8Array)[] = [
  function flip(bytes, random) {
    const at = random(bytes.length || 1);
    return raw(bytes.subarray(0, at), (bytes[at] ?? 0) ^ (1 << random(8)), bytes.subarray(at + 1));
  },
  function overwrite(bytes, random) {
    const at = random(bytes.length || 1);
    return raw(bytes.subarray(0, at), random(256), bytes.subarray(at + 1));
  },
  function cut(bytes, random) {
    return bytes.slice(0, random(bytes.length + 1));
  },
  function remove(bytes, random) {
    const at = random(bytes.length + 1);
    return raw(bytes.subarray(0, at), bytes.subarray(at + 1 + random(8)));
  },
  function insert(bytes, random) {
    const at = random(bytes.length + 1);
    return raw(
      bytes.subarray(0, at),
      Uint8Array.from({ length: 1 + random(8) }, () => random(256)),
      bytes.subarray(at),
    );
  },
  function append(bytes, random) {
    return raw(bytes, pick([raw(1, u32(random(100))), raw(2), raw(3, u32(1)), raw(255, str('x')), raw(0)], random));
  },
  function length(bytes, random) {
    const at = 1 + random(Math.max(1, bytes.length - 4));
    return raw(bytes.subarray(0, at), u32(pick(EXTREMES, random)), bytes.subarray(at + 4));
  },
  function renumber(bytes, random) {
    return raw(pick([11, 13, 17, 18, 20, 21, 22, 23, 25, 26, 27], random), bytes.subarray(1));
  },
];

interface Corpus {
  /** Those that cost the agent little, and those that make it work: chosen far less often. */
  readonly cheap: readonly Uint8Array[];
  readonly dear: readonly Uint8Array[];
}

function corpusOf(): Corpus {
  const message = (request: Parameters<typeof encodeRequest>[0]): Uint8Array => encodeRequest(request).finish();
  const bindMessage = (forwarding: boolean): Uint8Array =>
    raw(
      27,
      str('session-bind@openssh.com'),
      encodeSessionBind(bindingTo(freshEd25519(), { isForwarding: forwarding })),
    );
  const hop = raw(str(), str('host'), str(), str(freshEd25519().blob), 0);
  const destinations = raw(
    255,
    str('restrict-destination-v00@openssh.com'),
    str(str(str(raw(str(), str(), str())), str(hop), str())),
  );
  const keyMessages = (fresh: FreshKey): Uint8Array[] => {
    const plain = message({ kind: 'add', key: fresh.key, comment: fresh.key.type, constraints: {} });
    const constrained = (tail: Uint8Array): Uint8Array => raw(ADD_CONSTRAINED, plain.subarray(1), tail);
    return [
      plain,
      constrained(raw(1, u32(60))),
      constrained(raw(2)),
      constrained(destinations),
      raw(13, str(fresh.blob), str('data'), u32(0)),
      raw(13, str(fresh.blob), str('data'), u32(6)),
      raw(REMOVE, str(fresh.blob)),
    ];
  };
  const ed = freshEd25519();
  const curves = [freshEcdsa('nistp256'), freshEcdsa('nistp384')];
  const cheap = [
    ...vectors.filter(({ direction }) => direction === 'request').map(({ message: bytes }) => bytes),
    ...[ed, freshEd25519(), freshEd25519()].flatMap(keyMessages),
    ...Array.from({ length: 6 }, () => raw(11)),
    raw(11, 0),
    raw(1),
    raw(27, str('query')),
    raw(27, str('unknown@example.com'), 'body'),
    raw(20, str('/usr/lib/libx.so'), str('1234')),
    raw(21, str('/usr/lib/libx.so'), str('1234')),
    raw(LOCK, str(PHRASE)),
    raw(UNLOCK, str(PHRASE)),
    raw(UNLOCK, str('wrong')),
    raw(REMOVE_ALL),
    raw(REMOVE_ALL_V1),
  ];
  const dear = [
    ...[...curves, freshEcdsa('nistp521'), freshRsa(1024), freshMldsa()].flatMap(keyMessages),
    ...keyMessages(certified(ed, freshEd25519())),
    bindMessage(false),
    bindMessage(true),
  ];
  return { cheap, dear };
}

/** One message in ten makes the agent work. */
const DEAR_ONE_IN = 8;

function nextMessage({ cheap, dear }: Corpus, random: Random): Uint8Array {
  const one = (): Uint8Array => pick(random(DEAR_ONE_IN) === 0 ? dear : cheap, random);
  let bytes = one();
  const kind = random(8);
  if (kind < 4) return bytes.slice();
  if (kind === 4) return Uint8Array.from({ length: random(64) }, () => random(256));
  if (kind === 5) {
    const other = one();
    bytes = raw(bytes.subarray(0, random(bytes.length + 1)), other.subarray(random(other.length + 1)));
  }
  for (let count = 1 + random(3); count > 0; count--) bytes = pick(mutations, random)(bytes, random);
  return bytes;
}

/** The string of a message that is a number and a string, less one NUL at its end: a pass phrase as the agent reads it. */
function phraseOf(message: Uint8Array): string {
  const phrase = Buffer.from(message.subarray(5));
  return (phrase.at(-1) === 0 ? phrase.subarray(0, -1) : phrase).toString('latin1');
}

function isSignedBy(fresh: FreshKey, answer: Uint8Array | undefined, data: string): boolean {
  const bytes = Buffer.from(answer ?? []);
  if (bytes[0] !== 14 || fresh.publicKey === undefined) return false;
  return verify(null, Buffer.from(data), fresh.publicKey, bytes.subarray(-64));
}

const isLocking = ([number]: Uint8Array): boolean => number === LOCK || number === UNLOCK;
const canary = freshEd25519();
const addCanary = addMessage(canary, 'canary');
const signCanary = raw(13, str(canary.blob), str('still here'), u32(0));
const corpus = corpusOf();

describe(`a session, ${RUNS} inputs from seed ${SEED}`, () => {
  const clock = new FakeClock();
  const random = generator(SEED);
  const people = generator(SEED + 1);
  const custody = new Custody({ lockCost: { n: 16, r: 1, p: 1 } });
  const agent: Agent = createAgent({
    custody,
    ports: {
      clock,
      confirm: {
        async confirm() {
          if (people(2) === 0) await new Promise((done) => setImmediate(done));
          return { allow: people(2) === 0, scope: 'once', by: 'script' };
        },
      },
    },
  });
  const sessions: Session[] = Array.from({ length: 4 }, () => agent.openSession());
  const counts = new Map<string, number>();
  const count = (what: string): void => {
    counts.set(what, (counts.get(what) ?? 0) + 1);
  };
  /** Undefined: not locked. */
  let phrase: string | undefined;
  let baseline = 0;

  /** Hands over a message as the server does: it is wiped as soon as handle returns. */
  async function handle(session: Session, message: Uint8Array): Promise<Uint8Array> {
    const given = message.slice();
    const answer = session.handle(given);
    given.fill(0);
    if (answer instanceof Uint8Array) return answer;
    let settled = false;
    const waiting = answer.finally(() => {
      settled = true;
    });
    // A guesser's delay passes as fast as we say.
    while (!settled) {
      await new Promise((done) => setImmediate(done));
      clock.advance(100);
    }
    return waiting;
  }

  /** @param alone no other message is being answered meanwhile */
  async function feed(message: Uint8Array, alone = true): Promise<void> {
    const shown = (what: string): Error => new Error(`${what}: ${Buffer.from(message).toString('hex')}`);
    let answer: Uint8Array;
    try {
      answer = await handle(pick(sessions, random), message);
    } catch (error) {
      throw shown(`threw ${error}`);
    }
    const [number] = message;
    const [kind] = answer;
    if (!(answer instanceof Uint8Array) || kind === undefined || !ANSWERS.includes(kind)) throw shown('no answer');
    count(`${kind}`);
    if (kind === 6 && number !== undefined) count(`done ${number}`);
    if (alone && kind === 12 && phrase === undefined && !Buffer.from(answer).includes('canary'))
      throw shown('a key was lost');
    if (number === LOCK && kind === 6) phrase = phraseOf(message);
    if (number === UNLOCK && kind === 6) phrase = undefined;
    const removedAll = (number === REMOVE_ALL || number === REMOVE_ALL_V1) && kind === 6;
    if (removedAll && (await handle(agent.openSession(), addCanary))[0] !== 6)
      throw shown('nothing can be added after');
  }

  async function unlock(): Promise<void> {
    if (phrase === undefined) return;
    // A new session is a new guesser.
    expect((await handle(agent.openSession(), raw(UNLOCK, str(Buffer.from(phrase, 'latin1')))))[0]).toBe(6);
    phrase = undefined;
  }

  async function check(): Promise<void> {
    await unlock();
    const session = agent.openSession();
    expect(Buffer.from(await handle(session, raw(11))).includes('canary')).toBe(true);
    expect(isSignedBy(canary, await handle(session, signCanary), 'still here')).toBe(true);
    expect((await handle(session, raw(REMOVE_ALL)))[0]).toBe(6);
    expect(agent.status().keys).toBe(0);
    expect(custody.status().usedBytes).toBe(0);
    expect((await handle(session, addCanary))[0]).toBe(6);
    expect(custody.status().usedBytes).toBe(baseline);
    session.close();
  }

  it('never throws, answers every message, loses no key and leaks no custody', async () => {
    expect((await handle(sessions[0] as Session, addCanary))[0]).toBe(6);
    baseline = custody.status().usedBytes;
    expect(baseline).toBeGreaterThan(0);
    for (let run = 1, locked = 0, nextCheck = CHECK_EVERY; run <= RUNS; run++) {
      const known = phrase !== undefined && random(8) === 0;
      await feed(known ? raw(UNLOCK, str(Buffer.from(phrase ?? '', 'latin1'))) : nextMessage(corpus, random));
      if (random(10) === 0) {
        // From several sessions at once; what locks is left to the others, so that we know the phrase.
        const more = Array.from({ length: 3 }, () => nextMessage(corpus, random)).filter(
          (message) => !isLocking(message),
        );
        await Promise.all(more.map((message) => feed(message, false)));
        run += more.length;
      }
      clock.advance(random(50));
      locked = phrase === undefined ? 0 : locked + 1;
      if (locked > 8) await unlock();
      if (random(50) === 0) {
        const at = random(sessions.length);
        sessions[at]?.close();
        sessions[at] = agent.openSession();
      }
      if (run >= nextCheck) {
        nextCheck += CHECK_EVERY;
        await check();
      }
    }
    await check();
    expect(agent.status().waitingQuestions).toBe(0);
  });

  it('met every answer and did every kind of thing, so that the inputs are worth something', () => {
    console.log('answers and deeds:', Object.fromEntries([...counts].sort()));
    const least = RUNS / 1000;
    for (const what of [...ANSWERS.map(String), ...[9, 17, 18, 19, 22, 23, 25, 27].map((number) => `done ${number}`)])
      expect(counts.get(what) ?? 0, what).toBeGreaterThan(least);
    expect(counts.get(`done ${ADD}`)).toBeGreaterThan(RUNS / 200);
  });
});

describe(`the server, ${SOCKET_RUNS} inputs from seed ${SEED}`, () => {
  let agent: AgentProcess;
  beforeAll(async () => {
    agent = await startAgentProcess();
  });
  afterAll(() => agent.stop());

  it('answers every message, however its bytes are cut', async () => {
    const random = generator(SEED + 2);
    expect((await ask(agent.socket, addCanary))?.[0]).toBe(6);
    const { usedBytes } = (await status(agent.socket)).custody;
    // Every guess from this process costs time, growing: only the known phrase is tried here.
    for (let sent = 0; sent < SOCKET_RUNS; ) {
      const client = await RawClient.connect(agent.socket);
      const messages = Array.from({ length: 40 }, () => nextMessage(corpus, random)).filter(
        (message) => message.length > 0 && !isLocking(message),
      );
      if (sent % 1000 === 0) messages.push(raw(LOCK, str(PHRASE)), raw(11), raw(UNLOCK, str(PHRASE)));
      const bytes = raw(...messages.map((message) => str(message)));
      for (let at = 0; at < bytes.length; ) {
        const end = at + 1 + random(random(4) === 0 ? 5 : 3000);
        client.send(bytes.subarray(at, end));
        at = end;
        if (random(4) === 0) await new Promise((done) => setImmediate(done));
      }
      const answers = await client.answers(messages.length);
      if (answers.length !== messages.length)
        throw new Error(`${answers.length} answers to ${messages.length}: ${Buffer.from(bytes).toString('hex')}`);
      for (const [kind = -1] of answers) expect(ANSWERS).toContain(kind);
      client.close();
      sent += messages.length;
      if (messages.some(([number]) => number === REMOVE_ALL || number === REMOVE_ALL_V1))
        await ask(agent.socket, addCanary);
    }
    expect(agent.isAlive()).toBe(true);
    expect((await ask(agent.socket, raw(11)))?.includes('canary')).toBe(true);
    expect(isSignedBy(canary, await ask(agent.socket, signCanary), 'still here')).toBe(true);
    expect((await ask(agent.socket, raw(REMOVE_ALL)))?.[0]).toBe(6);
    expect((await ask(agent.socket, addCanary))?.[0]).toBe(6);
    expect((await status(agent.socket)).custody.usedBytes).toBe(usedBytes);
  });
});
