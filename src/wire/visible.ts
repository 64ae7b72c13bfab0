/**
 * Text that somebody else supplied (comments, key ids, host names, paths), made safe to show: control characters could
 * drive a terminal, and bidirectional or invisible ones could make a prompt say something else than it does.
 */

/** Longest foreign text shown in one place, in characters. */
export const MAX_VISIBLE = 1024;

// C0 and C1 controls; format characters (bidirectional, zero-width, byte order mark, tags); what fonts leave out
// (fillers, variation selectors); line and paragraph separators; unpaired surrogates; code points that are no characters.
const UNSAFE =
  /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Surrogate}\p{Default_Ignorable_Code_Point}\p{Bidi_Control}\p{Noncharacter_Code_Point}\ufff0-\ufffb\u{e0000}-\u{e0fff}]/gu;

/** Nearly all there is. Classes of Unicode cost some 70 KB of tables once they are first looked at. */
const PLAIN = /^[ -[\]-~]*$/;

/** A character as \xHH or \u{HHHH}. */
export function escaped(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`;
}

/** `text` with each unsafe character as \xHH or \u{HHHH}, a backslash doubled, and cut with a mark after `max` characters. */
export function visible(text: string, max: number = MAX_VISIBLE): string {
  if (text.length <= max && PLAIN.test(text)) return text;
  const characters = text.length > max ? [...text.slice(0, max * 2 + 2)] : undefined;
  const cut = characters !== undefined && characters.length > max;
  const shown = cut ? characters.slice(0, max).join('') : text;
  const safe = shown.replace(/\\/g, '\\\\').replace(UNSAFE, escaped);
  return cut ? `${safe}…` : safe;
}
