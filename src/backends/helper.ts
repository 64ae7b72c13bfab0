/**
 * A helper process for one request: started, given one message on standard input, its one answer read from standard
 * output (each with a u32 length in front, at most a named bound), and gone afterwards, whatever it did. It has a process
 * group of its own, so that what it started ends with it. What it says on standard error comes back as its complaint.
 * Not served: helpers that stay for further requests.
 */
import { type ChildProcess, spawn } from 'node:child_process';

export type Environment = Readonly<Record<string, string | undefined>>;

/** A helper that said more than this on standard error has it closed; its last words are what counts. */
export const MAX_COMPLAINT_BYTES = 64 * 1024;
/** How long a helper may take to end after its answer, and its output to close after its end, in ms. */
export const END_GRACE_MS = 2000;
/** How long to wait for a killed process, in ms: one that hangs in the kernel is left for the system to reap. */
export const KILL_GRACE_MS = 1000;

const LENGTH_BYTES = 4;

export type HelperErrorCode =
  | 'not-started' // no such program, or not one that may be run
  | 'ended' // it ended, or closed its output, before the answer was whole
  | 'bad-reply' // more than the bound, or bytes after the answer
  | 'late' // no whole answer in time
  | 'withdrawn'; // the signal was aborted

export class HelperError extends Error {
  readonly code: HelperErrorCode;
  /** What the helper said on standard error: text of others. */
  readonly complaint: string;

  constructor(code: HelperErrorCode, message: string, complaint = '', options?: ErrorOptions) {
    super(message, options);
    this.name = 'HelperError';
    this.code = code;
    this.complaint = complaint;
  }
}

export interface HelperCall {
  /** A path, or a name that is looked for in PATH. */
  readonly program: string;
  readonly args?: readonly string[];
  readonly env: Environment;
  /** The message in parts, without its length. They may be wiped when the call is over, and not before. */
  readonly request: readonly Uint8Array[];
  readonly maxReplyBytes: number;
  /** From the start to the whole answer. */
  readonly milliseconds: number;
  readonly signal?: AbortSignal | undefined;
}

export interface HelperReply {
  /** The caller's, to wipe. */
  readonly message: Uint8Array;
  readonly complaint: string;
}

/** Helpers that run: they end with us. */
const running = new Set<ChildProcess>();
let endsWithUs = false;

function isReaped({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null;
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // Nobody is left in the group.
  }
}

/** @throws HelperError 'not-started' */
async function start({ program, args = [], env }: HelperCall): Promise<ChildProcess> {
  let child: ChildProcess;
  try {
    child = spawn(program, args, { env, stdio: 'pipe', detached: true });
  } catch (cause) {
    throw new HelperError('not-started', 'it could not be started', '', { cause });
  }
  const failure = new Promise((resolve) => child.once('error', resolve));
  const { pid } = child;
  if (pid === undefined) throw new HelperError('not-started', 'it could not be started', '', { cause: await failure });
  if (!endsWithUs) {
    endsWithUs = true;
    process.on('exit', () => {
      for (const one of running) if (!isReaped(one)) killGroup(one.pid);
    });
  }
  running.add(child);
  child.once('exit', () => {
    running.delete(child);
    // Whom it left behind. Process numbers go round in a circle, so this one is nobody else's yet.
    killGroup(pid);
  });
  return child;
}

/** Waits for `subscribe` to call back, but no longer than `milliseconds`; whether it did. */
function within(milliseconds: number, subscribe: (done: () => void) => void): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(false), milliseconds);
    subscribe(() => {
      clearTimeout(timer);
      resolve(true);
    });
  });
}

const ended = (child: ChildProcess, milliseconds: number): Promise<boolean> =>
  isReaped(child) ? Promise.resolve(true) : within(milliseconds, (done) => child.once('exit', done));

/** Sees to it that the process is gone, at the latest after `grace` ms; whether it went by itself. */
async function finish(child: ChildProcess, grace: number): Promise<boolean> {
  child.stdin?.destroy();
  const byItself = isReaped(child) || (grace > 0 && (await ended(child, grace)));
  if (!byItself) {
    // While it is not reaped nobody else can have its number.
    killGroup(child.pid);
    await ended(child, KILL_GRACE_MS);
  }
  const { stderr } = child;
  // Its last words may not be read yet; with nobody left to hold it open, it closes.
  if (stderr !== null && !stderr.closed) await within(KILL_GRACE_MS, (done) => stderr.once('close', done));
  child.stdout?.destroy();
  stderr?.destroy();
  return byItself;
}

/** Puts the answer together from chunks, which are wiped. */
class Answer {
  readonly #max: number;
  readonly #head = new Uint8Array(LENGTH_BYTES);
  #at = 0;
  #body: Uint8Array | undefined;

  constructor(max: number) {
    this.#max = max;
  }

  /** @returns the answer when it is whole, undefined while it is not. @throws HelperError 'bad-reply' */
  push(chunk: Uint8Array): Uint8Array | undefined {
    try {
      return this.#take(chunk);
    } finally {
      chunk.fill(0);
    }
  }

  #take(chunk: Uint8Array): Uint8Array | undefined {
    const head = chunk.subarray(0, Math.max(0, LENGTH_BYTES - this.#at));
    if (head.length > 0) {
      this.#head.set(head, this.#at);
      this.#at += head.length;
    }
    if (this.#at < LENGTH_BYTES) return undefined;
    if (this.#body === undefined) {
      const length = new DataView(this.#head.buffer).getUint32(0);
      if (length > this.#max)
        throw new HelperError('bad-reply', `its answer would have ${length} bytes, and ${this.#max} are the most`);
      this.#body = new Uint8Array(length);
    }
    const rest = chunk.subarray(head.length);
    const at = this.#at - LENGTH_BYTES;
    if (at + rest.length > this.#body.length) throw new HelperError('bad-reply', 'there are bytes after its answer');
    this.#body.set(rest, at);
    this.#at += rest.length;
    return at + rest.length === this.#body.length ? this.#body : undefined;
  }

  wipe(): void {
    this.#body?.fill(0);
  }
}

function send({ stdin }: ChildProcess, parts: readonly Uint8Array[]): void {
  if (stdin === null) return;
  // A helper that does not read what it is given breaks the pipe; what counts is whether it answers.
  stdin.on('error', () => {});
  const length = new Uint8Array(LENGTH_BYTES);
  new DataView(length.buffer).setUint32(
    0,
    parts.reduce((sum, part) => sum + part.length, 0),
  );
  stdin.cork();
  for (const part of [length, ...parts]) stdin.write(part);
  stdin.uncork();
}

function howItEnded({ exitCode, signalCode }: ChildProcess): string {
  return signalCode === null
    ? `it ended with ${exitCode} and no answer`
    : `it was ended by ${signalCode} before it answered`;
}

/**
 * Runs a helper for one request. When the promise settles the process has ended and is reaped (but for one that hangs in
 * the kernel, see KILL_GRACE_MS). A whole answer counts, however the helper ends after it.
 * @throws HelperError
 */
export async function callHelper(call: HelperCall): Promise<HelperReply> {
  const { signal } = call;
  const withdrawn = (): HelperError => new HelperError('withdrawn', 'the request was withdrawn');
  if (signal?.aborted) throw withdrawn();
  const child = await start(call);
  const complaints: Uint8Array[] = [];
  let complained = 0;
  child.stderr?.on('data', (chunk: Uint8Array) => {
    complaints.push(chunk);
    complained += chunk.length;
    if (complained > MAX_COMPLAINT_BYTES) child.stderr?.destroy();
  });
  const complaint = (): string => new TextDecoder().decode(Buffer.concat(complaints)).slice(0, MAX_COMPLAINT_BYTES);
  const answer = new Answer(call.maxReplyBytes);
  let cleanUp = (): void => {};
  const outcome = await new Promise<Uint8Array | HelperError | 'ended'>((resolve) => {
    const timer = setTimeout(
      () => resolve(new HelperError('late', `no answer within ${call.milliseconds / 1000} s`)),
      call.milliseconds,
    );
    const stop = (): void => resolve(withdrawn());
    signal?.addEventListener('abort', stop, { once: true });
    if (signal?.aborted) stop();
    cleanUp = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', stop);
    };
    child.stdout?.on('data', (chunk: Uint8Array) => {
      try {
        const whole = answer.push(chunk);
        if (whole !== undefined) resolve(whole);
      } catch (error) {
        resolve(error as HelperError);
      }
    });
    child.stdout?.once('close', () => resolve('ended'));
    // Somebody whom it started, and who left its group, may hold its output open.
    child.once('exit', () => setTimeout(() => resolve('ended'), END_GRACE_MS).unref());
    send(child, call.request);
  });
  cleanUp();
  const whole = outcome instanceof Uint8Array;
  const byItself = await finish(child, whole || outcome === 'ended' ? END_GRACE_MS : 0);
  if (whole) return { message: outcome, complaint: complaint() };
  answer.wipe();
  if (outcome === 'ended') {
    const how = byItself ? howItEnded(child) : 'it closed its output and said nothing';
    throw new HelperError('ended', how, complaint());
  }
  throw new HelperError(outcome.code, outcome.message, complaint());
}
