/**
 * The client's side of Assuan (libassuan's manual, "The Assuan protocol") with a program that we start: a command, its
 * answer, one at a time. Not served: inquiries, which are declined, and options of ours that are commands of the other.
 * Data is collected outside of strings, and what it passed through is wiped: it may be a PIN.
 */
import type { ChildProcess } from 'node:child_process';
import { type Environment, endProgram, startProgram } from './program.ts';

/** The protocol's own bound on a line, without its end. */
export const MAX_LINE_BYTES = 1000;
/** Of a command with its options, in characters. */
const MAX_COMMAND = 250;
/** A secret of more bytes is cut, as OpenSSH does. */
export const MAX_DATA_BYTES = 1023;
/** Lines of status and comment before an answer. */
const MAX_LINES_BEFORE_ANSWER = 256;

const LF = 10;
const SPACE = 0x20;
const PERCENT = 0x25;
const LETTER_D = 0x44;

// Numbers of libgpg-error, without the source of the error above them.
const CANCELLED = 99;
const NOT_CONFIRMED = 114;

export class AssuanError extends Error {}

export type Outcome =
  /** `data` is the caller's, to wipe; undefined: none came. */
  | { readonly kind: 'ok'; readonly data: Uint8Array | undefined }
  | { readonly kind: 'cancelled' }
  | { readonly kind: 'not-confirmed' }
  /** `code`: of libgpg-error. */
  | { readonly kind: 'error'; readonly code: number };

/** `text` as an argument, cut between two characters where the line would grow too long. */
function escaped(text: string, room: number): string {
  let escapedText = '';
  let length = 0;
  for (const character of text.replaceAll('\0', '')) {
    const part = /[%\r\n]/.test(character) ? encodeURIComponent(character) : character;
    length += Buffer.byteLength(part);
    if (length > room) return escapedText;
    escapedText += part;
  }
  return escapedText;
}

export class Assuan {
  readonly #child: ChildProcess;
  readonly #signal: AbortSignal;
  readonly #stop: () => void;
  readonly #line = new Uint8Array(MAX_LINE_BYTES);
  #length = 0;
  #data: Uint8Array | undefined;
  #dataLength = 0;
  #lines = 0;
  #failure: AssuanError | undefined;
  #waiting: { resolve(outcome: Outcome): void; reject(error: AssuanError): void } | undefined;
  /** An answer that came before it was waited for: the greeting. */
  #early: Outcome | undefined;

  /** Starts the program in a session of its own: a dialog on a terminal is not stopped as a shell's background job. */
  constructor(program: string, env: Environment, signal: AbortSignal) {
    this.#signal = signal;
    try {
      this.#child = startProgram(program, [], { env, stdio: ['pipe', 'pipe', 'ignore'], detached: true });
    } catch {
      throw new AssuanError(`exec(${program}): not possible`);
    }
    const child = this.#child;
    this.#stop = () => this.#fail('withdrawn');
    signal.addEventListener('abort', this.#stop, { once: true });
    child.on('error', (error: NodeJS.ErrnoException) => this.#fail(`exec(${program}): ${error.code ?? 'failed'}`));
    child.on('close', () => this.#fail('the program ended'));
    child.stdin?.on('error', () => this.#fail('the program ended'));
    child.stdout?.on('data', (chunk: Buffer) => {
      for (const byte of chunk) this.#take(byte);
      chunk.fill(0);
    });
    if (signal.aborted) this.#stop();
  }

  #fail(why: string): void {
    this.#failure ??= new AssuanError(why);
    this.#waiting?.reject(this.#failure);
    this.#waiting = undefined;
    this.close();
  }

  #take(byte: number): void {
    if (this.#failure !== undefined) return;
    if (byte !== LF) {
      if (this.#length === MAX_LINE_BYTES) this.#fail('a line of the program is too long');
      else this.#line[this.#length++] = byte;
      return;
    }
    const line = this.#line.subarray(0, this.#length);
    this.#length = 0;
    try {
      this.#read(line);
    } finally {
      line.fill(0);
    }
  }

  #read(line: Uint8Array): void {
    if (line[0] === LETTER_D && line[1] === SPACE) {
      this.#collect(line.subarray(2));
      return;
    }
    const text = new TextDecoder().decode(line);
    const code = /^ERR (\d{1,10})(?: |$)/.exec(text)?.[1];
    if (/^OK( |$)/.test(text)) this.#answer({ kind: 'ok', data: this.#takeData() });
    else if (code !== undefined) {
      const number = Number(code) & 0xffff;
      if (number === CANCELLED) this.#answer({ kind: 'cancelled' });
      else if (number === NOT_CONFIRMED) this.#answer({ kind: 'not-confirmed' });
      else this.#answer({ kind: 'error', code: number });
    } else if (/^INQUIRE /.test(text)) this.#child.stdin?.write('CAN\n');
    else if (!/^[S#]/.test(text) && text !== '') this.#fail('the program does not speak Assuan');
    if (++this.#lines > MAX_LINES_BEFORE_ANSWER) this.#fail('the program says too much');
  }

  #collect(escapedData: Uint8Array): void {
    this.#data ??= new Uint8Array(new ArrayBuffer(MAX_DATA_BYTES));
    for (let i = 0; i < escapedData.length && this.#dataLength < MAX_DATA_BYTES; i++) {
      let byte = escapedData[i] as number;
      if (byte === PERCENT) {
        byte = (hexadecimal(escapedData[i + 1]) << 4) | hexadecimal(escapedData[i + 2]);
        i += 2;
      }
      this.#data[this.#dataLength++] = byte;
    }
  }

  #takeData(): Uint8Array | undefined {
    if (this.#data === undefined) return undefined;
    const data = new Uint8Array(new ArrayBuffer(this.#dataLength));
    data.set(this.#data.subarray(0, this.#dataLength));
    this.#dropData();
    return data;
  }

  #dropData(): void {
    this.#data?.fill(0);
    this.#data = undefined;
    this.#dataLength = 0;
  }

  #answer(outcome: Outcome): void {
    this.#lines = 0;
    this.#dropData();
    if (this.#waiting === undefined) {
      if (this.#early !== undefined) this.#fail('an answer to nothing');
      else this.#early = outcome;
      return;
    }
    this.#waiting.resolve(outcome);
    this.#waiting = undefined;
  }

  #wait(): Promise<Outcome> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== undefined) reject(this.#failure);
      else if (this.#early !== undefined) resolve(this.#early);
      else this.#waiting = { resolve, reject };
      this.#early = undefined;
    });
  }

  /** What the program says first. @throws AssuanError where it does not welcome us */
  async greeting(): Promise<void> {
    const { kind } = await this.#wait();
    if (kind !== 'ok') throw new AssuanError('the program refuses to serve');
  }

  /**
   * Gives `command` and waits for its answer, however long a person takes.
   * @param argument is escaped, and cut to what a line may hold
   * @throws AssuanError where the program ends, talks nonsense, or the signal is aborted
   */
  command(command: string, argument?: string): Promise<Outcome> {
    if (this.#early !== undefined) this.#fail('an answer to nothing');
    const words = command.replace(/[\0\r\n]/g, ' ').slice(0, MAX_COMMAND);
    const room = MAX_LINE_BYTES - Buffer.byteLength(words) - 1;
    const answer = this.#wait();
    this.#child.stdin?.write(argument === undefined ? `${words}\n` : `${words} ${escaped(argument, room)}\n`);
    return answer;
  }

  /** Ends the program, its dialog included. */
  close(): void {
    this.#signal.removeEventListener('abort', this.#stop);
    this.#failure ??= new AssuanError('closed');
    this.#line.fill(0);
    this.#dropData();
    endProgram(this.#child);
  }
}

function hexadecimal(byte: number | undefined): number {
  const digit = Number.parseInt(String.fromCharCode(byte ?? 0), 16);
  return Number.isNaN(digit) ? 0 : digit;
}
