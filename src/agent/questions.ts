/**
 * Questions that wait for a person, and answers that last. Every way of asking gets a question at once and the first
 * answer counts; identical questions are one; what is asked from afar can fill only a part of the room; and whoever was
 * refused again and again is no longer asked about.
 */
import { type Consent, consentTo, covers, identityOf } from '../policy/consent.ts';
import type { Facts, PeerProcess } from '../policy/facts.ts';
import type { Scope } from '../policy/rules.ts';
import type { Clock, Confirm, Log, Question, Reply } from './ports.ts';

/** Questions that may wait for a person at one time; further ones are refused. */
export const MAX_WAITING_QUESTIONS = 16;
/** Of these, questions from afar: the owner's own requests always find room. */
export const MAX_FORWARDED_QUESTIONS = 8;
/** Of these, from one process. */
export const MAX_QUESTIONS_OF_ONE = 4;
/** Requests that may wait for one answer. */
export const MAX_REQUESTS_OF_QUESTION = 256;
/** A question ends after this long at the latest: sshd gives up on a login after 120 s. */
export const QUESTION_MS = 90_000;
/** Answers that last and are kept at one time; the oldest goes first. */
export const MAX_CONSENTS = 256;
/** A process that comes from afar and was refused this often in a row is asked about no more... */
export const MAX_REFUSALS = 3;
/** The same for one that hung up before it was answered, which a person may do, too. */
export const MAX_HANG_UPS = 9;
/** ...for this long, in milliseconds. */
export const SILENCE_MS = 5 * 60 * 1000;
/** Processes whose refusals are remembered. */
const MAX_REFUSED = 256;

/** What became of a question. */
export type Outcome =
  | { readonly kind: 'answered'; readonly reply: Reply; readonly seconds: number }
  /** Refused without an answer: nobody to ask, no room, no time left, or nobody waits for it any more. */
  | { readonly kind: 'unanswered'; readonly reason: string };

export type QuestionEvent =
  | { readonly kind: 'question'; readonly question: Question; readonly requests: number }
  | { readonly kind: 'ended'; readonly id: string; readonly outcome: Outcome };

/** A question as the engine puts it; this room adds its number and its end. */
export interface Asked extends Omit<Question, 'id' | 'endsAt'> {
  /** Whether identical ones that wait are one: OpenSSH asks for each. */
  readonly mayMerge: boolean;
}

interface Waiting {
  readonly question: Question;
  readonly since: number;
  readonly facts: Facts;
  readonly command: PeerProcess | undefined;
  readonly ended: Promise<Outcome>;
  requests: number;
  /** A yes for one request was used by one. */
  isUsed: boolean;
  end(outcome: Outcome): void;
}

const NO_ANSWER = 'no answer came in time';
const HUNG_UP = 'the client hung up';
const COUNTED: ReadonlySet<string> = new Set([NO_ANSWER, HUNG_UP]);
/** A refusal weighs as many hang-ups as make up one. */
const REFUSAL_WEIGHT = MAX_HANG_UPS / MAX_REFUSALS;
const unanswered = (reason: string): Outcome => ({ kind: 'unanswered', reason });

/** Names a process for good where the system tells when it started. */
function nameOf({ peer }: Facts): string {
  const process = peer?.processes()[0];
  return `${peer?.pid ?? 'unknown'} ${process?.startTime ?? ''}`;
}

export class Questions {
  readonly #clock: Clock;
  readonly #confirm: Confirm;
  readonly #log: Log;
  readonly #lives: (process: PeerProcess) => boolean;
  readonly #waiting = new Map<string, Waiting>();
  #consents: Consent[] = [];
  readonly #refused = new Map<string, { count: number; at: number }>();
  readonly #listeners = new Set<(event: QuestionEvent) => void>();
  #count = 0;
  /** How long a question waits, in milliseconds. */
  limitMs = QUESTION_MS;
  /** When a question last reached nobody. */
  lastUnanswered: string | undefined;

  constructor(ports: {
    readonly clock: Clock;
    readonly confirm: Confirm;
    readonly log: Log;
    readonly lives: (process: PeerProcess) => boolean;
  }) {
    this.#clock = ports.clock;
    this.#confirm = ports.confirm;
    this.#log = ports.log;
    this.#lives = ports.lives;
  }

  get size(): number {
    return this.#waiting.size;
  }

  /** People who look at a screen: while there are some, a question waits for them. */
  get watchers(): number {
    return this.#listeners.size;
  }

  waiting(): readonly { readonly question: Question; readonly requests: number }[] {
    return [...this.#waiting.values()];
  }

  /** Tells `listener` of every question from now on. @returns what ends that */
  watch(listener: (event: QuestionEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size === 0) for (const waiting of this.#waiting.values()) this.#endIfUnseen(waiting);
    };
  }

  /** Answers the question `id`. @returns false where it no longer waits */
  answer(id: string, reply: Reply): boolean {
    for (const waiting of this.#waiting.values()) {
      if (waiting.question.id !== id) continue;
      waiting.end({ kind: 'answered', reply, seconds: this.#secondsSince(waiting.since) });
      return true;
    }
    return false;
  }

  /** Refuses all that waits: the agent ends. */
  endAll(reason: string): void {
    for (const waiting of [...this.#waiting.values()]) waiting.end(unanswered(reason));
  }

  /** The lasting answer that covers a request, if there is one. */
  consentFor(facts: Facts, command: PeerProcess | undefined): Consent | undefined {
    if (this.#consents.length === 0) return undefined;
    const now = this.#clock.now();
    this.#consents = this.#consents.filter(
      ({ until, process }) => until > now && (process === undefined || this.#lives(process)),
    );
    return this.#consents.find((consent) => covers(consent, facts, command, now));
  }

  get consents(): number {
    return this.#consents.length;
  }

  /** Ends every lasting answer: the agent was locked, or the rules were read anew. */
  forgetConsents(): void {
    this.#consents = [];
  }

  /**
   * Puts a question to whoever can be reached, and remembers an answer that lasts.
   * @param command the process that "until the command ends" is about
   * @param hangUp aborted when the client is gone
   */
  async ask(asked: Asked, facts: Facts, command: PeerProcess | undefined, hangUp: AbortSignal): Promise<Outcome> {
    const name = nameOf(facts);
    const apart = asked.mayMerge ? '' : String(this.#count);
    const what = identityOf(facts) ?? this.#count;
    // Here the parts of one command ask as one; from afar one process speaks for who knows whom.
    const who = facts.forwarded || command === undefined ? [name, command?.pid] : [command.pid, command.startTime];
    const identity = JSON.stringify([apart, asked.sentence, what, facts.guard?.id, facts.forwarded, who]);
    let waiting = this.#waiting.get(identity);
    if (waiting === undefined || waiting.facts.entry !== facts.entry) {
      const refusal = this.#noRoom(facts, name);
      if (refusal !== undefined) return unanswered(refusal);
      waiting = this.#put(asked, facts, command, identity, name);
    } else if (waiting.requests >= MAX_REQUESTS_OF_QUESTION) return unanswered('too many requests wait for one answer');
    const { ended } = waiting;
    waiting.requests++;
    this.#tell({ kind: 'question', question: waiting.question, requests: waiting.requests });
    const mine = waiting;
    let leave = (): void => {};
    const left = new Promise<Outcome>((resolve) => {
      leave = () => {
        mine.requests--;
        if (mine.requests === 0) mine.end(unanswered(HUNG_UP));
        resolve(unanswered(HUNG_UP));
      };
    });
    if (hangUp.aborted) leave();
    else hangUp.addEventListener('abort', leave, { once: true });
    let outcome: Outcome;
    try {
      outcome = await Promise.race([ended, left]);
    } finally {
      hangUp.removeEventListener('abort', leave);
    }
    // Whoever is on the way can ask in the words of somebody else's question: the one who agreed to it saw one.
    if (!facts.forwarded || outcome.kind !== 'answered' || !outcome.reply.allow || outcome.reply.scope !== 'once')
      return outcome;
    if (mine.isUsed) return this.ask(asked, facts, command, hangUp);
    mine.isUsed = true;
    return outcome;
  }

  #noRoom(facts: Facts, name: string): string | undefined {
    const { size } = this.#waiting;
    if (size >= MAX_WAITING_QUESTIONS) return `${size} questions wait for an answer already`;
    if (!facts.forwarded) return undefined;
    const refused = this.#refused.get(name);
    if (refused !== undefined && refused.count >= MAX_HANG_UPS) {
      if (this.#clock.now() - refused.at < SILENCE_MS) return 'not asked: it was refused again and again';
      this.#refused.delete(name);
    }
    const afar = [...this.#waiting.values()].filter((other) => other.facts.forwarded);
    if (afar.length >= MAX_FORWARDED_QUESTIONS) return `${afar.length} questions from other machines wait already`;
    const ofOne = afar.filter((other) => nameOf(other.facts) === name).length;
    return ofOne >= MAX_QUESTIONS_OF_ONE ? `${ofOne} questions of this process wait already` : undefined;
  }

  #put(asked: Asked, facts: Facts, command: PeerProcess | undefined, identity: string, name: string): Waiting {
    const since = this.#clock.now();
    this.#count++;
    const { mayMerge: _, ...told } = asked;
    const question: Question = Object.freeze({ ...told, id: `q${this.#count}`, endsAt: since + this.limitMs });
    const over = new AbortController();
    let settle = (_outcome: Outcome): void => {};
    const ended = new Promise<Outcome>((resolve) => {
      settle = resolve;
    });
    const cancel = this.#clock.after(this.limitMs, () => waiting.end(unanswered(NO_ANSWER)));
    const waiting: Waiting = {
      question,
      since,
      facts,
      command,
      ended,
      requests: 0,
      isUsed: false,
      end: (outcome) => {
        if (over.signal.aborted) return;
        over.abort();
        cancel();
        if (this.#waiting.get(identity) === waiting) this.#waiting.delete(identity);
        this.#learn(waiting, outcome, name);
        settle(outcome);
        this.#tell({ kind: 'ended', id: question.id, outcome });
      },
    };
    this.#waiting.set(identity, waiting);
    const asking = async (): Promise<Reply | undefined> => this.#confirm.confirm(question, over.signal);
    asking().then(
      (reply) => {
        if (reply !== undefined) waiting.end({ kind: 'answered', reply, seconds: this.#secondsSince(since) });
        else this.#endIfUnseen(waiting, true);
      },
      (error: unknown) => {
        this.#log('error', `asking failed: ${error instanceof Error ? error.name : 'unknown error'}`);
        this.#endIfUnseen(waiting, true);
      },
    );
    return waiting;
  }

  readonly #unreached = new WeakSet<Waiting>();

  /** Ends a question that no way of asking shows to anybody. */
  #endIfUnseen(waiting: Waiting, unreached = false): void {
    if (unreached) this.#unreached.add(waiting);
    if (!this.#unreached.has(waiting) || this.#listeners.size > 0) return;
    this.lastUnanswered = new Date(this.#clock.wallSeconds() * 1000).toISOString();
    waiting.end(unanswered('nobody to ask: no SSH_ASKPASS, no desktop, no latchkey watch'));
  }

  /** What an answer means for later requests, and for those that wait. */
  #learn(waiting: Waiting, outcome: Outcome, name: string): void {
    const isYes = outcome.kind === 'answered' && outcome.reply.allow;
    if (isYes) this.#refused.delete(name);
    else if (waiting.facts.forwarded && (outcome.kind === 'answered' || COUNTED.has(outcome.reason))) {
      const isHungUp = outcome.kind === 'unanswered' && outcome.reason === HUNG_UP;
      const count = (this.#refused.get(name)?.count ?? 0) + (isHungUp ? 1 : REFUSAL_WEIGHT);
      this.#refused.delete(name);
      this.#refused.set(name, { count, at: this.#clock.now() });
      const oldest = this.#refused.keys().next();
      if (this.#refused.size > MAX_REFUSED && !oldest.done) this.#refused.delete(oldest.value);
    }
    if (!isYes) return;
    const { scope } = outcome.reply;
    if (scope === 'once' || scope === 'always' || !waiting.question.offers.some((offer) => offer.scope === scope))
      return;
    const consent = consentTo(waiting.facts, scope, waiting.command, this.#clock.now());
    this.#consents.push(consent);
    if (this.#consents.length > MAX_CONSENTS) this.#consents.shift();
    for (const other of [...this.#waiting.values()])
      if (covers(consent, other.facts, other.command, this.#clock.now()))
        other.end({ ...outcome, seconds: this.#secondsSince(other.since) });
  }

  #secondsSince(since: number): number {
    return Math.round((this.#clock.now() - since) / 100) / 10;
  }

  #tell(event: QuestionEvent): void {
    for (const listener of this.#listeners) listener(event);
  }
}

/** How long a scope lasts, in words for the one who answers. */
export function offerText(scope: Scope, commandText: string, place: string): string {
  switch (scope) {
    case 'once':
      return 'this once';
    case 'command':
      return `until ${commandText} ends`;
    case 'destination':
      return `${place} for 15 min`;
    case 'path':
      return `${place} by this way for 8 h`;
    case 'always':
      return 'always, by a rule';
    default:
      return scope satisfies never;
  }
}
