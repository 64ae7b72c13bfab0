/**
 * How many columns text takes on a terminal, and lines that fit. As terminals count (wcwidth): wide characters of East Asia
 * and pictographs take two, combining marks none. What joins or changes characters never comes here: `shown` spells it out.
 */

const MARK = /^[\p{Mn}\p{Me}\u1160-\u11ff]$/u;
const PICTOGRAPH = /^\p{Emoji_Presentation}$/u;

/** Blocks of Unicode whose characters are wide or full-width (EastAsianWidth.txt), first and last of each. */
const WIDE: readonly (readonly [number, number])[] = [
  [0x1100, 0x115f],
  [0x2329, 0x232a],
  [0x2e80, 0x303e],
  [0x3041, 0xa4cf],
  [0xa960, 0xa97f],
  [0xac00, 0xd7a3],
  [0xf900, 0xfaff],
  [0xfe10, 0xfe19],
  [0xfe30, 0xfe6f],
  [0xff00, 0xff60],
  [0xffe0, 0xffe6],
  [0x16fe0, 0x18dff],
  [0x1aff0, 0x1b2ff],
  [0x1f200, 0x1f265],
  [0x20000, 0x3fffd],
];
const FIRST_WIDE = 0x1100;

function columnsOfCharacter(character: string): number {
  const code = character.codePointAt(0) as number;
  if (code < 0x300) return 1;
  if (MARK.test(character)) return 0;
  if (code < FIRST_WIDE) return 1;
  return WIDE.some(([first, last]) => code >= first && code <= last) || PICTOGRAPH.test(character) ? 2 : 1;
}

export function columnsOf(text: string): number {
  let columns = 0;
  for (const character of text) columns += columnsOfCharacter(character);
  return columns;
}

/** `text` in two, the first part at most `columns` wide, marks with their letter. */
function splitAt(text: string, columns: number): readonly [string, string] {
  let taken = 0;
  let at = 0;
  for (const character of text) {
    const width = columnsOfCharacter(character);
    if (taken + width > columns && at > 0) break;
    taken += width;
    at += character.length;
  }
  return [text.slice(0, at), text.slice(at)];
}

/**
 * `text` in lines of at most `columns`, cut between words where that goes. A terminal narrower than one wide character
 * gets one character a line.
 * @param indent columns that lines after the first leave free
 */
export function wrapped(text: string, columns: number, indent = 0): readonly string[] {
  const lines: string[] = [];
  const margin = ' '.repeat(indent);
  let line = '';
  let used = 0;
  const next = (): void => {
    lines.push(line.trimEnd());
    line = margin;
    used = indent;
  };
  for (const word of text.split(/(?<= )(?=[^ ])/)) {
    let rest = word;
    const isFresh = (): boolean => used === (lines.length === 0 ? 0 : indent);
    if (!isFresh() && used + columnsOf(rest.trimEnd()) > columns) next();
    while (used + columnsOf(rest.trimEnd()) > columns) {
      const [head, tail] = splitAt(rest, Math.max(columns - used, 1));
      if (tail === '') break;
      line += head;
      next();
      rest = tail;
    }
    line += rest;
    used += columnsOf(rest);
  }
  if (line.trim() !== '' || lines.length === 0) lines.push(line.trimEnd());
  return lines;
}
