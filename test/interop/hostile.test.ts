// A host that is root's, and hostile, with the agent forwarded to it: what it tries yields no signature that the owner did
// not agree to, does not disturb what happens here, and is written down.
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Chain, openScene, type Scene, seenHere } from './fixtures/hostilescene.ts';
import { type Expected, Owner } from './fixtures/owner.ts';
import { bin } from './fixtures/setting.ts';

/** Whoever was refused so often is asked about no more. */
const MAX_REFUSALS = 3;

let scene: Scene;
let owner: Owner;
let chain: Chain;
let refusedOfChain = 0;

beforeAll(async () => {
  scene = await openScene((setting) => setting.latchkeyAgent());
  owner = await Owner.of(scene);
  chain = await scene.chain();
});

afterAll(async () => {
  owner?.close();
  await scene?.setting.end();
});

/** Runs an attack while the owner refuses whatever is asked. */
async function attacked(name: string, questions: number, given: Readonly<Record<string, unknown>> = {}) {
  if (refusedOfChain + questions > MAX_REFUSALS) {
    await chain.close();
    chain = await scene.chain();
    refusedOfChain = 0;
  }
  refusedOfChain += questions;
  owner.forget();
  const told = await chain.attack(name, given);
  expect(chain.signatures).toBe(0);
  expect(await seenHere(scene)).toEqual({ keys: 3, signs: true });
  return told;
}

const VIA = 'via a, b (verified): ';
const sign = (purpose: string, reason: RegExp | string): Expected => ({
  kind: 'sign',
  outcome: 'denied',
  purpose,
  reason,
});
const refused = (purpose: string): Expected => sign(purpose, 'not confirmed: refused by the owner');
const unproven = sign('blind-login', 'no verified host stands behind the session that it is for');
const bindings = (reason: RegExp | string): Expected => ({ kind: 'bind', outcome: 'denied', reason });
const ownersAlone = (kind: string): Expected => ({ kind, outcome: 'denied', reason: 'not for other machines' });

interface Row {
  readonly attack: string;
  readonly answers: readonly (number | string)[];
  readonly records: readonly Expected[];
  readonly questions?: readonly (string | RegExp)[];
}

const LOGIN_ON_C = `${VIA}log in as root on c (verified)`;
const no = 5;
const bound = 6;
const unbound = 28;

const rows: readonly Row[] = [
  {
    attack: 'logins of sessions that it invents',
    answers: [no, no, no],
    records: [unproven, sign('blind-login', /only forwards/), unproven],
  },
  {
    attack: 'a login of its own session, once more',
    answers: [no, no, no],
    records: [unproven, sign('blind-login', /only forwards/), unproven],
  },
  { attack: 'its own binding again, as if for a login', answers: [bound, no], records: [unproven] },
  {
    attack: "another connection's binding, sent again",
    answers: [bound, no],
    records: [refused('login')],
    questions: [LOGIN_ON_C],
  },
  {
    attack: "another connection's binding, behind one that ends the way",
    answers: [bound, unbound, no],
    records: [bindings('the connection is bound to a login already'), unproven],
  },
  {
    attack: "another connection's binding, behind a hop that it makes up",
    answers: [bound, bound, no],
    records: [sign('login', /^no destination permits the step from b to b/)],
  },
  {
    attack: 'bindings with the keys of other hosts',
    answers: [unbound, no, unbound, no],
    records: [
      bindings(/^host key SHA256:\S+ did not sign this session$/),
      unproven,
      bindings(/did not sign/),
      unproven,
    ],
  },
  {
    attack: 'a binding of another session under a signature that is real',
    answers: [unbound, no],
    records: [bindings(/did not sign this session/), unproven],
  },
  { attack: 'its own key under a session with c, for c', answers: [bound, no], records: [unproven] },
  {
    attack: 'its own key under a session with c, for whoever does not look',
    answers: [bound, no, no],
    records: [unproven, unproven],
  },
  {
    attack: 'its own key under a session with c, for itself',
    answers: [bound, no],
    records: [refused('login')],
    questions: [`${VIA}log in as root on b (verified)`],
  },
  {
    attack: 'a session with c that nobody asked for',
    answers: [bound, no, ''],
    records: [refused('login')],
    questions: [LOGIN_ON_C],
  },
  {
    attack: 'a session with c, for a key that is to be confirmed',
    answers: [bound, no],
    records: [refused('login')],
    questions: [LOGIN_ON_C],
  },
  {
    attack: 'a session with c, for a key that may not go there',
    answers: [bound, no],
    records: [sign('login', /^no destination permits the step from b to a host/)],
  },
  { attack: 'a session with c, without its host key in what is signed', answers: [bound, no], records: [unproven] },
  {
    attack: 'more hops than a way may have',
    answers: [...new Array(6).fill(unbound), no],
    records: [bindings('more than 16 sessions on one connection'), refused('sshsig')],
    questions: [/^via .*: sign a git commit or tag \(namespace git\)$/],
  },
  {
    attack: 'bindings that cannot be read',
    answers: [unbound, unbound, unbound, unbound, unbound, no],
    records: [bindings(/^malformed session binding/), bindings(/empty|longer|not usable/), unproven],
  },
  {
    attack: 'two bindings and two logins in one write',
    answers: [bound, no, unbound, no, no],
    records: [unproven, bindings('the connection is bound to a login already'), unproven, unproven],
  },
  {
    attack: 'another host while the owner thinks',
    answers: [bound, no, unbound, no],
    records: [refused('login'), bindings('the connection is bound to a login already'), unproven],
    questions: [LOGIN_ON_C],
  },
  {
    attack: 'a signature for git',
    answers: [no],
    records: [refused('sshsig')],
    questions: [`${VIA}sign a git commit or tag (namespace git)`],
  },
  {
    attack: 'a signature for sudo',
    answers: [no],
    records: [refused('sudo')],
    questions: [`${VIA}sudo rm -rf / on laptop (host and command claimed)`],
  },
  {
    attack: 'a web login',
    answers: [no, no, no],
    records: [sign('webauthn', 'web logins are not signed for other machines')],
  },
  {
    attack: 'a certificate',
    answers: [no, no, no],
    records: [sign('certificate', 'certificates are not signed for other machines')],
  },
  {
    attack: 'blind bytes',
    answers: [no, no, no, no, no, no, no],
    records: [sign('unidentified', 'nobody can tell what the signature would be for')],
  },
  {
    attack: 'a key that is not held',
    answers: [no],
    records: [{ kind: 'sign', outcome: 'denied', reason: 'no such key' }],
  },
  { attack: 'adding keys', answers: [no, no, no, no, no], records: [ownersAlone('add')] },
  { attack: 'adding the held keys with less', answers: [no, no, no, no, no, no], records: [ownersAlone('add')] },
  { attack: 'removing keys', answers: [no, no, no], records: [ownersAlone('remove')] },
  { attack: 'removing all keys', answers: [no, no], records: [ownersAlone('remove-all'), ownersAlone('remove-all')] },
  { attack: 'locking', answers: [no, no], records: [ownersAlone('lock'), ownersAlone('lock')] },
  {
    attack: 'loading libraries',
    answers: [no, no, no, no],
    records: [ownersAlone('add-token'), ownersAlone('remove-token')],
  },
  {
    attack: 'extensions that nobody serves',
    answers: [no, no, no, no, no, no],
    records: [{ kind: 'extension', outcome: 'denied', reason: /^lock@latchkey is not served$/ }],
  },
  { attack: 'a look at what is served', answers: [29], records: [] },
  {
    attack: 'message numbers that nobody serves',
    answers: new Array(12).fill(no),
    records: [ownersAlone('extension')],
  },
  {
    attack: 'half a request in a whole frame',
    answers: [no, no, no],
    records: [{ kind: 'malformed', outcome: 'failed', reason: /./ }],
  },
  {
    attack: 'a crafted namespace',
    answers: [no],
    records: [refused('sshsig')],
    questions: [/^via a, b \(verified\): sign data \(namespace "git\\x29?[^()]*\)$/],
  },
  {
    attack: 'a crafted command',
    answers: [no],
    records: [refused('sudo')],
    questions: [/^via a, b \(verified\): sudo "ls [^()]*" on laptop \(host and command claimed\)$/],
  },
  {
    attack: 'a program in between, to seem local',
    answers: [no, no],
    records: [unproven, refused('sshsig')],
    questions: [`${VIA}sign a git commit or tag (namespace git)`],
  },
];

describe('a hostile host on the way gets nothing by', () => {
  it.each(rows)('$attack', async ({ attack, answers, records, questions = [] }) => {
    const told = await attacked(attack, questions.length);
    expect(told).toEqual({ answers, signatures: 0 });
    expect(owner.sentences()).toEqual(
      questions.map((text) => (typeof text === 'string' ? text : expect.stringMatching(text))),
    );
    await owner.expectRecords(chain, records);
    // A session that was real stays one that nobody was let in by.
    expect(scene.hosts.c.accepted()).toEqual([]);
  });
});

it('is asked about by names that are not taken for ours', async () => {
  for (let which = 0; which < 8; which++) {
    const { answers } = await attacked('one crafted name', 1, { which });
    expect(answers).toEqual([bound, no]);
    const [sentence = ''] = owner.sentences();
    expect(sentence).toMatch(/^via a, b \(verified\): log in as ("[^"]*"|\S+)( \([^()]*\))? on c \(verified\)$/u);
    expect(sentence).not.toMatch(/[\p{Cc}\p{Cf}\uff08\uff09\u201d]/u);
    expect(sentence.match(/\(verified\)/g)).toHaveLength(2);
  }
});

it('is asked about three times, then not for a while', async () => {
  const { answers, signatures } = await attacked('asking again and again', MAX_REFUSALS);
  expect({ answers, signatures }).toEqual({ answers: new Array(8).fill([bound, no]).flat(), signatures: 0 });
  expect(owner.sentences()).toHaveLength(MAX_REFUSALS);
  await owner.expectRecords(chain, [refused('login'), sign('login', /^not confirmed: not asked: it was refused/)]);
});

it('cannot unlock a locked agent, nor keep the owner from it', async () => {
  const phrase = "the owner's own phrase";
  await owner.lock(phrase);
  owner.forget();
  const guesses = await chain.attack('unlocking by many guesses', { phrase });
  expect(guesses).toEqual({ answers: new Array(20).fill(no), signatures: 0 });
  const told = await chain.attack('listing and signing while it is locked');
  expect(told).toEqual({ answers: [12, no, bound, no], signatures: 0 });
  await owner.expectRecords(chain, [
    ownersAlone('unlock'),
    { kind: 'sign', outcome: 'denied', reason: 'the agent is locked' },
  ]);
  expect(await owner.unlock(phrase)).toBe(6);
  expect(await seenHere(scene)).toEqual({ keys: 3, signs: true });
});

it('left all this in records whose chain holds', async () => {
  const { setting, agent } = scene;
  const latchkey = (...args: readonly string[]) =>
    setting.run(join(bin, 'latchkey'), args, { env: { SSH_AUTH_SOCK: agent.path } });
  const ids = new Set<string>();
  for (const args of [[], ['--kind', 'list']]) {
    const { stdout } = await latchkey('log', '--json', ...args);
    for (const line of stdout.trim().split('\n')) ids.add(JSON.parse(line).id);
  }
  expect(owner.all.filter(({ id }) => !ids.has(id))).toEqual([]);
  expect(await latchkey('log', '--verify')).toMatchObject({ status: 0 });
  // The way from a to b, which the owner allowed when the key was added.
  for (const { purpose, sentence, ground, hosts } of owner.signedForOthers())
    expect({ purpose, sentence, ground: ground?.kind, way: hosts?.map(({ names }) => names[0]) }).toEqual({
      purpose: 'login',
      sentence: 'via a (verified): log in as root on b (verified)',
      ground: 'destinations',
      way: ['a', 'b'],
    });
});
