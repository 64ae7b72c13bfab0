/**
 * Lifetimes as OpenSSH's command lines write and show them: `90`, `15m`, `1h30m`, `2w`. Groups add up; only seconds may
 * have a fraction, which is cut off, and come once. Older releases than 10.5 take blanks and a plus sign in front;
 * so do we.
 */

/** The longest lifetime, in seconds: OpenSSH keeps it in an int. */
export const MAX_LIFETIME = 2 ** 31 - 1;

const unitSeconds: Readonly<Record<string, number>> = { '': 1, s: 1, m: 60, h: 3600, d: 86_400, w: 604_800 };

/** Seconds, from 0 to MAX_LIFETIME, or undefined where `text` is no lifetime. */
export function convtime(text: string): number | undefined {
  const body = text.replace(/^[ \t\n\v\f\r]*\+?/, '');
  if (body === '') return undefined;
  const group = /(\d+|\d*\.\d+)([smhdw]|$)/giy;
  let total = 0;
  let seconds = 0;
  while (group.lastIndex < body.length) {
    const found = group.exec(body);
    if (found === null) return undefined;
    const [, digits = '', letter = ''] = found;
    const unit = unitSeconds[letter.toLowerCase()] as number;
    if (unit === 1 && ++seconds > 1) return undefined;
    if (unit > 1 && digits.includes('.')) return undefined;
    total += Number(digits) * unit;
    if (total > MAX_LIFETIME) return undefined;
  }
  return Math.trunc(total);
}

/** `seconds` as OpenSSH shows a span of time: `00:01:30`, `1d02h03m`, `03w0d00h`. */
export function fmtTimeframe(seconds: number): string {
  const two = (n: number): string => String(Math.floor(n)).padStart(2, '0');
  const weeks = Math.floor(seconds / 604_800);
  const days = Math.floor(seconds / 86_400) % 7;
  const hours = Math.floor(seconds / 3600) % 24;
  const minutes = Math.floor(seconds / 60) % 60;
  if (weeks > 0) return `${two(weeks)}w${days}d${two(hours)}h`;
  if (days > 0) return `${days}d${two(hours)}h${two(minutes)}m`;
  return `${two(hours)}:${two(minutes)}:${two(seconds % 60)}`;
}
