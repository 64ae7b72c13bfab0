/**
 * OpenSSH's single patterns (match_pattern): * for any run, ? for any one byte, all else for itself, case and all. No
 * lists and no negation. OpenSSH matches bytes, not characters, so "?" is half of an "é" here as well.
 */
import { utf8 } from '../wire/bytes.ts';

const STAR = 0x2a;
const ANY = 0x3f;

/**
 * Whether `pattern` matches the whole of `text`. Only the last star met is ever tried again, so the work is bounded by
 * the product of both lengths, however many stars there are; between two stars it is one pass.
 */
export function matchGlob(text: string, pattern: string): boolean {
  const bytes = utf8(text);
  const glob = utf8(pattern);
  let at = 0;
  let inGlob = 0;
  let star = -1;
  let resume = 0;
  while (at < bytes.length) {
    const wanted = glob[inGlob];
    if (wanted === STAR) {
      star = inGlob++;
      resume = at;
    } else if (wanted === ANY || wanted === bytes[at]) {
      inGlob++;
      at++;
    } else if (star >= 0) {
      // What came before the last star fits already, and a longer run for an earlier star gains nothing.
      inGlob = star + 1;
      at = ++resume;
    } else return false;
  }
  while (glob[inGlob] === STAR) inGlob++;
  return inGlob === glob.length;
}
