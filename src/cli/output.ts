/**
 * Every word a person sees goes through here, but for questions on the terminal itself (passphrase.ts). The rules:
 * - OpenSSH's line comes first, exact and alone, since scripts match it. Results go to standard output, the rest to
 *   standard error; lines end in LF (OpenSSH's log lines in CR LF).
 * - A line that says why, or what to do next, is a hint: only where standard error is a terminal.
 * - Text from others (comments, file names, answers of an agent) is made visible first, with `shown`.
 * - No colours, no progress, no time stamps. Nothing secret, at any level of detail.
 */
import { writeSync } from 'node:fs';
import { isatty } from 'node:tty';
import { visible } from '../wire/visible.ts';

/** The version of this package. */
export const VERSION = '0.1.0';

const STDOUT = 1;
const STDERR = 2;
/** How long to wait for a pipe that is full and non-blocking, in ms. */
const FULL_PIPE_MS = 10;

/** Whoever read our output is gone: nothing is left to say. A C program would have died of SIGPIPE. */
export class OutputClosed extends Error {}

/** The exit code that a shell shows for a program that died of SIGPIPE. */
export const OUTPUT_CLOSED_EXIT = 128 + 13;

/** Ends a command as OpenSSH's fatal() does, with `text` on standard error. */
export class Fatal extends Error {
  readonly exitCode: number;

  constructor(text: string, exitCode = 255) {
    super(text);
    this.exitCode = exitCode;
  }
}

/** Where a command's words go: results to standard output, all else to standard error. */
export interface Output {
  /** A line of results, on standard output. */
  line(text: string): void;
  /** Whole lines of results, in one write. */
  lines(text: readonly string[]): void;
  error(text: string): void;
  /** A question on standard error, with no line end. */
  prompt(text: string): void;
  hint(text: string): void;
  /** Shown where `-v` was given `detail` times or more. */
  debug(detail: 1 | 2 | 3, text: string): void;
  setDetail(detail: number): void;
}

/**
 * `text` of others, safe to show. Left as it is unless it holds something unsafe: a lone backslash (`DOMAIN\user`) is no
 * danger, and scripts compare comments.
 */
export function shown(text: string): string {
  // Nearly all text: spares `ssh-add -l` the pattern of visible(), whose tables take V8 a quarter of a millisecond.
  if (/^[ -~]*$/.test(text)) return text;
  const safe = visible(text, Number.MAX_SAFE_INTEGER);
  return safe.length === text.length || safe === text.replaceAll('\\', '\\\\') ? text : safe;
}

/** `value` as JSON that a terminal can show: what could drive it, or turn its text around, is escaped. Of `indent`, or one line. */
export function jsonText(value: unknown, indent?: number): string {
  return JSON.stringify(value, undefined, indent).replace(/[\u007f-\u{10ffff}]/gu, (character) =>
    shown(character) === character
      ? character
      : [...Array(character.length).keys()]
          .map((at) => `\\u${character.charCodeAt(at).toString(16).padStart(4, '0')}`)
          .join(''),
  );
}

function writeAll(fd: number, text: string): void {
  const bytes = Buffer.from(text);
  let at = 0;
  while (at < bytes.length) {
    try {
      at += writeSync(fd, bytes, at);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EAGAIN') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, FULL_PIPE_MS);
      else throw error;
    }
  }
}

/** Output on this process's own standard streams. */
export function standardOutput(): Output {
  let shownDetail = 0;
  const result = (text: string): void => {
    try {
      writeAll(STDOUT, text);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EPIPE') throw new OutputClosed();
      throw new Fatal(`cannot write to standard output: ${(error as Error).message}`, 1);
    }
  };
  const prompt = (text: string): void => {
    try {
      writeAll(STDERR, text);
    } catch {
      // Nobody can be told; what was asked for is still done.
    }
  };
  const error = (text: string): void => prompt(`${text}\n`);
  return {
    line: (text) => result(`${text}\n`),
    lines: (texts) => {
      if (texts.length > 0) result(`${texts.join('\n')}\n`);
    },
    error,
    prompt,
    hint: (text) => {
      if (isatty(STDERR)) error(`  ${text}`);
    },
    debug: (detail, text) => {
      if (detail <= shownDetail) error(`debug${detail}: ${text}`);
    },
    setDetail: (detail) => {
      shownDetail = detail;
    },
  };
}
