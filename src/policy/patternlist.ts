/** OpenSSH's pattern lists (match_pattern_list, with case): `-P`, `-O websafe-allow`. A reader of one pattern is in keys. */
import { matchGlob } from '../keys/glob.ts';
import { utf8 } from '../wire/bytes.ts';

/** OpenSSH's bound for one pattern of a list: one that is longer makes the whole list match nothing. */
export const MAX_LISTED_PATTERN_BYTES = 1022;

/**
 * Patterns with * and ? between commas; a `!` before one forbids what it matches, wherever it stands. Blanks count. True
 * where one matches and none forbids.
 */
export function matchPatternList(value: string, list: string): boolean {
  const items = list.split(',');
  // As OpenSSH reads it, nothing follows the last comma, while between two there is an empty pattern.
  if (items.at(-1) === '') items.pop();
  let matched = false;
  for (const item of items) {
    const negated = item.startsWith('!');
    const pattern = negated ? item.slice(1) : item;
    if (utf8(pattern).length > MAX_LISTED_PATTERN_BYTES) return false;
    if (!matchGlob(value, pattern)) continue;
    if (negated) return false;
    matched = true;
  }
  return matched;
}
