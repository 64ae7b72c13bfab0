/**
 * Reads a pass phrase or PIN: by askpass where the rules say so (OpenSSH's readpass.c), else from the terminal without echo,
 * even when standard input is a pipe; without a terminal from standard input, with the prompt on standard error.
 *
 * The terminal stays in its line mode, so the person's own editing keys and job control work, and the bytes are read
 * straight into memory of ours. Echo is switched by stty: Node can only switch it off together with all of that.
 */
import { spawnSync } from 'node:child_process';
import { closeSync, openSync, read as readCallback, writeSync } from 'node:fs';
import { isatty } from 'node:tty';
import { promisify } from 'node:util';
import { askpassUse, askSecret } from '../backends/askpass.ts';
import type { Output } from './output.ts';

/** OpenSSH's buffer, without its NUL; what is typed beyond it is dropped. */
export const MAX_PASSPHRASE_BYTES = 1023;

const TERMINAL = '/dev/tty';
const STDIN = 0;
/** How long to wait for a standard input that somebody made non-blocking, in ms. */
const RETRY_MS = 20;

const LF = 10;
const CR = 13;

const read = promisify(readCallback);

const fatalSignals = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const;

/** stty on the terminal `fd`; its output, or undefined where it failed. */
function stty(fd: number, ...args: readonly string[]): string | undefined {
  // A caller may have left no PATH at all.
  const path = [process.env.PATH, '/usr/bin', '/bin'].filter((part) => part).join(':');
  const result = spawnSync('stty', args, {
    stdio: [fd, 'pipe', 'ignore'],
    encoding: 'utf8',
    env: { PATH: path, LC_ALL: 'C' },
  });
  return result.status === 0 ? result.stdout.trim() : undefined;
}

/** One line from `fd`, without its end. Read byte by byte: what follows the line belongs to the next question. */
async function readLine(fd: number): Promise<Uint8Array> {
  const line = new Uint8Array(MAX_PASSPHRASE_BYTES);
  const cell = new Uint8Array(1);
  let length = 0;
  try {
    for (;;) {
      let count: number;
      try {
        count = (await read(fd, cell, 0, 1, null)).bytesRead;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return new Uint8Array();
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
        continue;
      }
      const byte = cell[0] as number;
      if (count === 0 || byte === LF || byte === CR) break;
      if (length < line.length) line[length++] = byte;
    }
    const end = line.subarray(0, length).indexOf(0);
    return line.slice(0, end < 0 ? length : end);
  } finally {
    line.fill(0);
    cell.fill(0);
  }
}

async function readFromTerminal(fd: number, prompt: string): Promise<Uint8Array | undefined> {
  const before = stty(fd, '-g');
  let off = false;
  const echoOff = (): void => {
    off = before !== undefined && stty(fd, '-echo', '-echonl') !== undefined;
  };
  const restore = (): void => {
    if (off && before !== undefined) stty(fd, before);
    off = false;
  };
  const write = (text: string): void => {
    try {
      writeSync(fd, text);
    } catch {
      // A terminal that hung up: reading from it says so next.
    }
  };
  const died = (signal: NodeJS.Signals): void => {
    write('\n');
    restore();
    listen(false);
    process.kill(process.pid, signal);
  };
  const stopped = (): void => {
    write('\n');
    restore();
    process.kill(process.pid, 'SIGSTOP');
  };
  const continued = (): void => {
    echoOff();
    write(prompt);
  };
  const listen = (on: boolean): void => {
    const change = on ? process.on.bind(process) : process.off.bind(process);
    for (const signal of fatalSignals) change(signal, died);
    change('SIGTSTP', stopped);
    change('SIGCONT', continued);
  };
  // In the background this stops us until we are in the foreground, so it comes before the signals are ours.
  echoOff();
  if (!off) return undefined;
  listen(true);
  try {
    write(prompt);
    return await readLine(fd);
  } finally {
    write('\n');
    restore();
    listen(false);
  }
}

/**
 * The answer to `prompt`; empty where there is none. The caller wipes it. A signal that would end the program while the
 * terminal is ours restores the terminal first, and then ends it.
 */
export async function readPassphrase(
  prompt: string,
  env: Readonly<Record<string, string | undefined>>,
  out: Output,
): Promise<Uint8Array> {
  const use = askpassUse(env);
  if (use === 'always' || (use === 'instead' && !isatty(STDIN)))
    return (await askSecret(prompt, env, undefined, (line) => out.error(line))) ?? new Uint8Array();
  let terminal: number;
  try {
    terminal = openSync(TERMINAL, 'r+');
  } catch {
    out.prompt(prompt);
    return readLine(STDIN);
  }
  try {
    const answer = await readFromTerminal(terminal, prompt);
    if (answer !== undefined) return answer;
    out.error('The terminal would show what is typed (stty failed), so nothing is read from it.');
    return new Uint8Array();
  } finally {
    closeSync(terminal);
  }
}
