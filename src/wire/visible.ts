/**
 * Text that somebody else supplied (comments, key ids, host names, paths), made safe to show: control characters could
 * drive a terminal, and bidirectional or invisible ones could make a prompt say something else than it does.
 */

/** Longest foreign text shown in one place, in characters. */
export const MAX_VISIBLE = 1024;

// C0 and C1 controls, soft hyphen, zero-width and bidirectional marks, line separators, byte order mark, tags,
// variation selectors, unpaired surrogates.
const unsafe =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}]|\p{Surrogate}/gu;

/** `text` with each unsafe character as \xHH or \u{HHHH}, a backslash doubled, and cut with a mark after `max` characters. */
export function visible(text: string, max: number = MAX_VISIBLE): string {
  const characters = text.length > max ? [...text.slice(0, max * 2 + 2)] : undefined;
  const cut = characters !== undefined && characters.length > max;
  const shown = cut ? characters.slice(0, max).join('') : text;
  const safe = shown.replace(/\\/g, '\\\\').replace(unsafe, (character) => {
    const code = character.codePointAt(0) as number;
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`;
  });
  return cut ? `${safe}…` : safe;
}
