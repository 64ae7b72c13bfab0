/**
 * The text around key files: lines, and base64 (RFC 4648 section 4) straight from bytes to bytes. What it decodes is
 * secret, and a string could not be wiped.
 */
import { KeyError } from './error.ts';

const NEWLINE = 10;
const CARRIAGE_RETURN = 13;
const PADDING = 61;

const values = new Int8Array(256).fill(-1);
for (let i = 0; i < 64; i++)
  values['ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'.charCodeAt(i)] = i;

export function isSpace(byte: number | undefined): boolean {
  return byte === 32 || byte === 9 || byte === CARRIAGE_RETURN || byte === NEWLINE;
}

export interface Line {
  /** Where the line begins in the file, and where the next one does. */
  readonly start: number;
  readonly next: number;
  /** Without the line's end; a view. */
  readonly bytes: Uint8Array;
}

/** The lines of a file that ends each with LF or CR LF. */
export function* lines(content: Uint8Array): Generator<Line, undefined> {
  for (let start = 0; start < content.length; ) {
    const newline = content.indexOf(NEWLINE, start);
    const next = newline < 0 ? content.length : newline + 1;
    let end = newline < 0 ? next : newline;
    if (end > start && content[end - 1] === CARRIAGE_RETURN) end--;
    yield { start, next, bytes: content.subarray(start, end) };
    start = next;
  }
}

/** `bytes` without white space at its end, as a view. */
export function trimEnd(bytes: Uint8Array): Uint8Array {
  let end = bytes.length;
  while (end > 0 && isSpace(bytes[end - 1])) end--;
  return bytes.subarray(0, end);
}

/** Whether `bytes` holds the ASCII text `prefix` at `at`. */
export function startsWith(bytes: Uint8Array, prefix: string, at = 0): boolean {
  if (bytes.length - at < prefix.length) return false;
  for (let i = 0; i < prefix.length; i++) if (bytes[at + i] !== prefix.charCodeAt(i)) return false;
  return true;
}

/** The text of a line that is known to be no secret (a marker, a header); each byte one character. */
export function latin1(bytes: Uint8Array): string {
  let out = '';
  for (const byte of bytes) out += String.fromCharCode(byte);
  return out;
}

/**
 * Bytes of base64 with white space anywhere. The result has its own memory, for the caller to wipe.
 * @throws KeyError 'malformed'
 */
export function decodeBase64(text: Uint8Array, what: string): Uint8Array {
  const out = new Uint8Array(Math.floor((text.length * 3) / 4));
  let length = 0;
  let bits = 0;
  let held = 0;
  let digits = 0;
  let padding = 0;
  let valid = true;
  for (const byte of text) {
    if (isSpace(byte)) continue;
    if (byte === PADDING) {
      padding++;
      continue;
    }
    const value = values[byte] as number;
    if (value < 0 || padding > 0) {
      valid = false;
      break;
    }
    digits++;
    held = ((held << 6) | value) & 0xfff;
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      out[length++] = held >>> bits;
    }
  }
  if (!valid || padding > 2 || (digits + padding) % 4 !== 0 || (held & ((1 << bits) - 1)) !== 0) {
    out.fill(0);
    throw new KeyError('malformed', `${what}: not base64`);
  }
  return out.subarray(0, length);
}
