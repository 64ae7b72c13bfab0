/**
 * The one road to a signature (DESIGN, "One sign request"): find the key, decide, ask where due, look again, sign, and write
 * it down before the answer leaves.
 */

import { scopesFor } from '../policy/consent.ts';
import { type Decision, decide, dependsOnFacts, type Ground } from '../policy/decide.ts';
import type { Facts } from '../policy/facts.ts';
import { shown } from '../policy/names.ts';
import { opensshText } from '../policy/opensshtext.ts';
import { ruleFor } from '../policy/proposal.ts';
import { commandOf, type Description } from '../policy/sentence.ts';
import type { Entry } from '../store/entry.ts';
import { copy } from '../wire/bytes.ts';
import type { Request } from '../wire/requests.ts';
import { encodeResponse } from '../wire/responses.ts';
import { classify } from '../wire/signeddata.ts';
import { visible } from '../wire/visible.ts';
import { type Answer, failure } from './answers.ts';
import type { Offer, Use } from './ports.ts';
import { type Outcome, offerText } from './questions.ts';
import type { Session } from './session.ts';
import { keyOf, signedOf } from './uses.ts';

/** Characters of each name in what an answer is about: it has to fit a button. */
const MAX_PLACE = 24;

type SignRequest = Extract<Request, { kind: 'sign' }>;

function factsOf(session: Session, entry: Entry, data: Uint8Array): Facts {
  const nowSeconds = session.agent.ports.clock.wallSeconds();
  const signed = classify(data);
  return Object.freeze({ ...session.circumstances(signed), entry, signed, nowSeconds });
}

export function signData(session: Session, { blob, data, flags }: SignRequest): Answer {
  const { agent } = session;
  agent.expire();
  const entry = agent.keyring.find(blob);
  if (entry === undefined) {
    session.note({
      kind: 'sign',
      outcome: 'denied',
      sentence: 'sign with a key that is not held',
      reason: 'no such key',
    });
    return session.refuse('sign: no such key');
  }
  // Nothing to decide and nobody to tell: what is signed need not be looked at.
  if (agent.ports.records === undefined && session.guard === undefined && !dependsOnFacts(entry, agent.policy))
    return signWith(session, entry, data, flags, undefined);
  // The message is wiped as soon as this returns, and facts hold views of what is signed: a person, a device or another
  // thread takes longer.
  const kept = copy(data);
  const facts = factsOf(session, entry, kept);
  const decision = decide(facts, agent.policy);
  const request = new SignUse(session, facts, decision.ground);
  switch (decision.effect) {
    case 'allow':
      return signWith(session, entry, kept, flags, request);
    case 'deny':
      return request.deny(decision.reason);
    case 'ask':
      return askThenSign(session, kept, flags, decision, request);
    default:
      return decision satisfies never;
  }
}

/** One request to sign on its way: what it is for, and how it ends in the records. */
class SignUse {
  readonly session: Session;
  readonly facts: Facts;
  readonly ground: Ground;
  answer: Use['answer'];
  #description: Description | undefined;

  constructor(session: Session, facts: Facts, ground: Ground) {
    this.session = session;
    this.facts = facts;
    this.ground = ground;
  }

  get description(): Description {
    this.#description ??= this.session.describe(this.facts);
    return this.#description;
  }

  note(outcome: Use['outcome'], reason?: string): void {
    const { facts, ground, answer, session } = this;
    session.note(() => ({
      kind: 'sign',
      outcome,
      sentence: this.description.sentence,
      key: keyOf(facts.entry),
      ...signedOf(facts),
      ground,
      ...(reason === undefined ? {} : { reason }),
      ...(answer === undefined ? {} : { answer }),
    }));
  }

  deny(reason: string): Uint8Array {
    this.note('denied', reason);
    return this.session.refuse(`sign with ${visible(this.facts.entry.comment, 64)}: ${reason}`);
  }
}

function isOnDevice({ signer, provider }: Entry): boolean {
  return provider !== undefined || signer.publicKey.fields.application !== undefined;
}

/** What a device's touch is for: the sentence, and for OpenSSH's own table its words. */
function purposeText(session: Session, data: Uint8Array, use: SignUse | undefined): string | undefined {
  if (use !== undefined && session.agent.policy.table !== 'openssh') return use.description.sentence;
  const signed = classify(data);
  return signed.kind === 'login'
    ? `public key authentication request for user "${visible(signed.user, 64)}"`
    : undefined;
}

function signWith(session: Session, entry: Entry, data: Uint8Array, flags: number, use: SignUse | undefined): Answer {
  const { agent, guard } = session;
  const { signer } = entry;
  let signature: Uint8Array | Promise<Uint8Array>;
  try {
    // Only a device takes so long that it matters whether somebody still waits.
    signature = isOnDevice(entry)
      ? signer.sign(data, flags, session.closed, purposeText(session, data, use))
      : signer.sign(data, flags);
  } catch (error) {
    use?.note('failed', 'the key could not sign');
    throw error;
  }
  const done = (made: Uint8Array): Uint8Array => {
    if (guard !== undefined && !agent.useGuard(guard)) return use?.deny('the guard has come to its end') ?? failure;
    use?.note('allowed');
    return encodeResponse({ kind: 'signature', signature: made });
  };
  if (signature instanceof Uint8Array) return done(signature);
  return signature.then(
    (made) => {
      // The agent may have been locked, or the key removed, while another thread was signing. One that was added again
      // meanwhile is not gone: it was permitted when it was asked for, as with an agent that does one thing at a time.
      agent.expire();
      if (!agent.lock.locked && agent.keyring.find(entry.signer.publicKey.blob) !== undefined) return done(made);
      use?.note('failed', 'the key is gone');
      return session.refuse('sign: the key is gone');
    },
    (error: unknown) => {
      use?.note('failed', 'the key could not sign');
      throw error;
    },
  );
}

/** What an answer that lasts is about: 'root on db1', 'signatures for git'. */
function placeOf({ signed, hosts }: Facts): string {
  if (signed.kind === 'sshsig') return `signatures for ${shown(signed.namespace, MAX_PLACE)}`;
  const host = hosts.at(-1)?.names[0];
  if (signed.kind !== 'login' || host === undefined) return 'this destination';
  return `${shown(signed.user, MAX_PLACE)} on ${shown(host, MAX_PLACE)}`;
}

function askPerson(session: Session, decision: Extract<Decision, { effect: 'ask' }>, use: SignUse): Promise<Outcome> {
  const { agent } = session;
  const { facts, description } = use;
  const command = commandOf(facts.peer?.processes() ?? [], agent.words);
  const offers: Offer[] = [{ scope: 'once', text: offerText('once', '', '') }];
  for (const scope of scopesFor(facts, command?.process)) {
    const claimed = command?.claimedText ?? '';
    const commandText = `${claimed} (pid ${command?.process.pid ?? 0})`;
    const text = offerText(scope, commandText, placeOf(facts));
    // From afar a command is no more than a way: the answer is for one place.
    offers.push({ scope, text: scope === 'command' && facts.forwarded ? `${placeOf(facts)}, ${text}` : text });
  }
  const rule = facts.entry.confirm ? undefined : ruleFor(facts);
  if (rule !== undefined) offers.push({ scope: 'always', text: offerText('always', '', '') });
  // A plain yes can't last longer than what is on offer.
  const lasts = offers.some(({ scope }) => scope === decision.lasts) ? decision.lasts : 'once';
  return agent.questions.ask(
    {
      opensshText: opensshText(facts, agent.policy.fingerprintHash),
      sentence: description.sentence,
      verified: description.verified,
      claimed: description.claimed,
      key: keyOf(facts.entry),
      forwarded: facts.forwarded,
      offers,
      lasts,
      rule,
      mayMerge: agent.policy.table !== 'openssh',
    },
    facts,
    command?.process,
    session.closed,
  );
}

async function askThenSign(
  session: Session,
  data: Uint8Array,
  flags: number,
  decision: Extract<Decision, { effect: 'ask' }>,
  use: SignUse,
): Promise<Uint8Array> {
  const { agent } = session;
  const { entry } = use.facts;
  const command = commandOf(use.facts.peer?.processes() ?? [], agent.words)?.process;
  const consent = agent.questions.consentFor(use.facts, command);
  if (consent !== undefined) use.answer = { by: 'an earlier answer', scope: consent.scope, seconds: 0 };
  else {
    const outcome = await askPerson(session, decision, use);
    if (outcome.kind === 'unanswered') return use.deny(`not confirmed: ${outcome.reason}`);
    const { reply, seconds } = outcome;
    use.answer = { by: reply.by, scope: reply.scope, seconds };
    if (!reply.allow) return use.deny('not confirmed: refused by the owner');
    if (reply.scope === 'always') await addRule(session, use);
  }
  // While a person thought, the key may have expired or gone, the agent locked, or the connection bound to another host.
  agent.expire();
  if (session.closed.aborted || agent.lock.locked || !agent.keyring.has(entry)) {
    use.note('failed', 'the key is gone');
    return failure;
  }
  const again = decide(factsOf(session, entry, data), agent.policy);
  if (again.effect === 'deny') return use.deny(`no longer permitted: ${again.reason}`);
  return signWith(session, entry, data, flags, use);
}

async function addRule(session: Session, use: SignUse): Promise<void> {
  const { ports } = session.agent;
  const rule = ruleFor(use.facts);
  if (rule === undefined || !(await ports.addRule(rule, use.ground.line)))
    ports.log('error', 'the rule of an answer "always" was not written');
}
