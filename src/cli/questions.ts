/** Questions as the control socket tells them, for `latchkey watch`, `approve` and `deny`: read, and put into words. */
import type { Offer, Scope } from '../agent/ports.ts';
import { SCOPES } from '../policy/rules.ts';
import { ControlError } from './control.ts';
import type { WatchQuestion } from './controlcommands.ts';
import { shown } from './output.ts';

export type { WatchQuestion } from './controlcommands.ts';

function texts(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.filter((one): one is string => typeof one === 'string') : [];
}

function offersOf(value: unknown): readonly Offer[] {
  if (!Array.isArray(value)) return [];
  return value.filter((one): one is Offer => SCOPES.includes(one?.scope) && typeof one.text === 'string');
}

/** @throws ControlError where `value` is no question */
export function questionOf(value: unknown): WatchQuestion {
  const given = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>;
  const { id, sentence, key, forwarded, lasts, rule, secondsLeft, requests } = given;
  const { fingerprint, comment } = (key ?? {}) as Record<string, unknown>;
  if (typeof id !== 'string' || typeof sentence !== 'string' || typeof secondsLeft !== 'number')
    throw new ControlError('the answer is no question');
  return {
    id,
    sentence,
    verified: texts(given.verified),
    claimed: texts(given.claimed),
    key: { fingerprint: String(fingerprint ?? ''), comment: String(comment ?? '') },
    forwarded: forwarded === true,
    offers: offersOf(given.offers),
    lasts: SCOPES.includes(lasts as Scope) ? (lasts as Scope) : 'once',
    rule: typeof rule === 'string' ? rule : undefined,
    secondsLeft,
    requests: typeof requests === 'number' ? requests : 1,
  };
}

/** The questions in what `watch` answers. @throws ControlError */
export function questionsOf(result: unknown): readonly WatchQuestion[] {
  const { questions } = (result ?? {}) as { questions?: unknown };
  if (!Array.isArray(questions)) throw new ControlError('the answer has no questions');
  return questions.map(questionOf);
}

/** What a question says below its sentence: a word for what kind of line it is, and the line. */
export function detailsOf({ verified, claimed, key, requests }: WatchQuestion): readonly (readonly [string, string])[] {
  const details: (readonly [string, string])[] = verified.map((text) => ['verified', flat(text)]);
  details.push(...claimed.map((text) => ['claimed', flat(text)] as [string, string]));
  details.push(['key', flat([key.comment, key.fingerprint].filter((part) => part !== '').join(' '))]);
  if (requests > 1) details.push(['waiting', `${requests} requests get this answer`]);
  return details;
}

/** `text` on one line, safe to show. */
export function flat(text: string): string {
  return shown(text.replace(/[\r\n\t]+/g, ' '));
}
