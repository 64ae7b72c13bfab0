/** Words of questions, the same whatever shows them; with bounds, and with text of others made safe to show. */
import type { Offer, Question, Scope } from '../agent/ports.ts';
import { visible } from '../wire/visible.ts';

/** Of a question's sentence, and of each line below it, in characters. */
export const MAX_SENTENCE = 400;
export const MAX_LINE = 200;
/** Lines of one kind that are shown. */
export const MAX_LINES = 8;
/** Of what a button says, in characters: more is cut off by dialogs, without a mark. */
export const MAX_BUTTON = 48;

export const TITLE = 'Use your SSH key?';
export const FORWARDED_TITLE = 'Use your SSH key, over a forwarded connection?';
export const ALLOW_ONCE = 'Allow once';
export const REFUSE = 'Refuse';

/**
 * `text` as one safe line of at most `max` characters. Sentences come with the names in them made visible already: what
 * is safe stays as it is.
 */
export function line(text: string, max: number): string {
  const flat = text.replace(/[\r\n\t]+/g, ' ').trim();
  const safe = visible(flat, max);
  // A backslash alone is no danger.
  return safe === flat.replaceAll('\\', '\\\\') ? flat : safe;
}

export function titleOf({ forwarded }: Question): string {
  return forwarded ? FORWARDED_TITLE : TITLE;
}

/** Verified and claimed lines, told apart, and the key. */
export function detailsOf({ verified, claimed, key }: Question): readonly string[] {
  const lines = verified.slice(0, MAX_LINES).map((text) => `Verified: ${line(text, MAX_LINE)}`);
  lines.push(...claimed.slice(0, MAX_LINES).map((text) => `Claimed: ${line(text, MAX_LINE)}`));
  lines.push(`Key: ${[line(key.comment, 64), line(key.fingerprint, 80)].filter((part) => part !== '').join(', ')}`);
  return lines;
}

/** In this order dialogs look for the one lasting answer that they have room for. Never `always`: its rule is shown first. */
const lasting: readonly Scope[] = ['command', 'destination', 'path'];

/** The lasting answer of a dialog with three buttons: what the rule says a yes means, else the one that ends soonest. */
export function lastingOffer({ offers, lasts }: Question): Offer | undefined {
  for (const scope of [lasts, ...lasting]) {
    const offer = lasting.includes(scope) ? offers.find((one) => one.scope === scope) : undefined;
    if (offer !== undefined) return offer;
  }
  return undefined;
}

export function buttonOf(offer: Offer): string {
  return line(`Allow ${offer.text}`, MAX_BUTTON);
}

/** What a plain yes means where it means more than once; undefined: once. */
export function yesMeans({ offers, lasts }: Question): string | undefined {
  if (lasts === 'once') return undefined;
  const text = offers.find(({ scope }) => scope === lasts)?.text ?? lasts;
  return `Yes allows it ${line(text, MAX_LINE)}.`;
}
