/**
 * Names of others within our own sentences: made safe, cut, and put in quotes unless they are plain words, so that none of
 * them can end the quote, hold our brackets, and so say '(verified)' or anything else in our name.
 */
import { escaped, visible } from '../wire/visible.ts';
import { lookAlike } from './lookalikes.ts';

/** Longest that `shown` makes of a name beyond its bound: quotes, the mark of a cut, and a warning. */
export const MAX_DECORATION = 26;
/** Combining marks on one letter; more would paint over its neighbours. */
const MAX_STACKED_MARKS = 4;

// Brackets and quotes of any writing, our own mark of a cut, and blanks that are none or are wider than one.
const FORGING =
  /["\u2026\u2800\u02ba\u02dd\u02ee\u02f6\u05f2\u05f4\u2033\u2036\u3003\uff02\u1cd3]|(?![[\]{}])[\p{Ps}\p{Pe}\p{Pi}\p{Pf}]|(?! )\p{Zs}/u;
/** What stands as it is: nearly all there is. */
const HARMLESS = /^[!#-'*-[\]-~]$/;
/** What needs no quotes. No comma, no semicolon: they are punctuation of the sentence. */
const PLAIN = /^[\p{L}\p{N}\p{M}_.\-@:/+~=%[\]#^\\]+$/u;
/** The same of ASCII, which needs none of Unicode's tables. */
const PLAIN_ASCII = /^[\w.\-@:/+~=%[\]#^\\]+$/;

interface Made {
  readonly text: string;
  /** The part of the name that is seen. */
  readonly seen: string;
}

function made(name: string, max: number): Made {
  let text = '';
  let seen = '';
  let marks = 0;
  for (const character of name) {
    let next = character;
    if (HARMLESS.test(character)) marks = 0;
    else {
      marks = /\p{M}/u.test(character) ? marks + 1 : 0;
      const isStray = marks > MAX_STACKED_MARKS || (marks > 0 && seen === '');
      next = isStray || FORGING.test(character) ? escaped(character) : visible(character);
    }
    if (text.length + next.length > max) return { text: `${text}…`, seen };
    text += next;
    seen += character;
  }
  return { text, seen };
}

/** Foreign `text` for a line of its own: safe and cut, without quotes. At most `max` characters and the mark of a cut. */
export function safe(text: string, max: number): string {
  return made(text, max).text;
}

/** `name` for the middle of a sentence. At most `max` and MAX_DECORATION characters. */
export function shown(name: string, max: number): string {
  const { text, seen } = made(name, max);
  const quoted = PLAIN_ASCII.test(seen) || PLAIN.test(seen) ? text : `"${text}"`;
  const warning = lookAlike(seen);
  return warning === undefined ? quoted : `${quoted} (${warning})`;
}

/** A path with the owner's home as ~, cut at its front: the last folder says most. */
export function shownFolder(path: string, home: string | undefined, max: number): string {
  const isInHome = home !== undefined && home !== '/' && (path === home || path.startsWith(`${home}/`));
  const short = isInHome ? `~${path.slice(home.length)}` : path;
  const whole = shown(short, max);
  if (!whole.includes('…')) return whole;
  const folders = short.split('/');
  while (folders.length > 1) {
    folders.shift();
    const rest = shown(folders.join('/'), max - 2);
    if (!rest.includes('…')) return `…/${rest}`;
  }
  return whole;
}
