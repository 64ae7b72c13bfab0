/**
 * The helper process of one provider from the agent's side: started on demand, one request after the other, killed when
 * an answer is late, started anew by the next request when it died, ended when idle. It leads a process group of its own,
 * so that a terminal's signals don't reach it and what it started ends with it. Nothing that it prints is read: a
 * provider's own diagnostics may hold PINs.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { encodeFrame, frameLength, LENGTH_BYTES } from '../wire/frame.ts';
import type { Environment } from './helper.ts';
import { MAX_ANSWER_BYTES } from './pkcs11protocol.ts';
import { Turns } from './turns.ts';

/** Requests that may wait for one provider. */
export const MAX_WAITING_REQUESTS = 64;

export type ProcessErrorCode =
  | 'not-started'
  | 'died' // before it answered; also when its answer could not be read
  | 'late' // no answer in time; it was killed
  | 'busy' // others' requests took all of the time
  | 'withdrawn' // the signal was aborted
  | 'closed';

export class HelperProcessError extends Error {
  readonly code: ProcessErrorCode;

  constructor(code: ProcessErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/**
 * Looks at an answer before the next request is sent, also at one that nobody waits for any more.
 * @param fresh the process was started for this request: starting another one would not help
 * @returns whether the process is to end
 */
export type Look = (answer: Uint8Array, fresh: boolean) => boolean;

export interface ProcessOptions {
  readonly command: readonly string[];
  readonly env: Environment;
  /** Milliseconds after the last answer; a process with `keep` set stays. */
  readonly idleMs: number;
  /** Milliseconds that it may take to end by itself, once told. */
  readonly endMs: number;
  /** Calls back once after `milliseconds`. @returns what cancels it */
  readonly after: (milliseconds: number, callback: () => void) => () => void;
  /** Told whenever the process is gone, in words. */
  readonly ended: (how: string) => void;
}

type Settle = (outcome: Uint8Array | HelperProcessError) => void;

interface Running {
  readonly child: ChildProcess;
  readonly gone: Promise<void>;
  served: number;
  settle: Settle | undefined;
  /** Why we killed it. */
  verdict: HelperProcessError | undefined;
}

const alive = new Set<ChildProcess>();
let endsWithUs = false;

function killGroup({ pid }: ChildProcess): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // Nobody is left in the group.
  }
}

/** An idle helper doesn't keep the process that it serves alive. */
function hold(child: ChildProcess, wanted: boolean): void {
  for (const one of [child, child.stdin, child.stdout] as unknown as ({ ref(): void; unref(): void } | null)[]) {
    if (wanted) one?.ref();
    else one?.unref();
  }
}

export class HelperProcess {
  readonly #options: ProcessOptions;
  readonly #turns = new Turns(MAX_WAITING_REQUESTS);
  #running: Running | undefined;
  #stopIdle: () => void = () => {};
  #closed = false;
  /** It holds what only a person can give again, such as a login: it does not end when idle. */
  keep = false;

  constructor(options: ProcessOptions) {
    this.#options = options;
  }

  /** Process id of the helper, where one runs. */
  get pid(): number | undefined {
    return this.#running?.child.pid;
  }

  /**
   * Sends `message`, which is wiped, and waits until its answer was looked at: `milliseconds` for its turn, and as long
   * for the answer.
   * @throws HelperProcessError
   */
  async request(message: Uint8Array, milliseconds: number, look: Look, signal?: AbortSignal): Promise<void> {
    const withdrawn = new HelperProcessError('withdrawn', 'the request was withdrawn');
    const seconds = milliseconds / 1000;
    try {
      const turn = await this.#turns.take('', milliseconds, signal);
      if (turn === 'withdrawn') throw withdrawn;
      if (typeof turn === 'string')
        throw new HelperProcessError('busy', `it was busy with other requests for ${seconds} s`);
      const answered = this.#answer(message, milliseconds, look).finally(turn);
      if (signal === undefined) return await answered;
      // The helper can't be told to stop: whoever comes next waits, this client needn't.
      const { promise, cancel } = aborted(signal);
      try {
        return await Promise.race([
          answered,
          promise.then(() => {
            throw withdrawn;
          }),
        ]);
      } finally {
        cancel();
        answered.catch(() => {});
      }
    } catch (error) {
      if (error !== withdrawn) message.fill(0);
      throw error;
    }
  }

  async #answer(message: Uint8Array, milliseconds: number, look: Look): Promise<void> {
    this.#stopIdle();
    try {
      if (this.#closed) throw new HelperProcessError('closed', 'the provider was removed');
      this.#running ??= this.#start();
    } catch (error) {
      message.fill(0);
      throw error;
    }
    const running = this.#running;
    hold(running.child, true);
    const fresh = running.served++ === 0;
    const stop = this.#options.after(milliseconds, () =>
      this.#kill(running, new HelperProcessError('late', `no answer within ${milliseconds / 1000} s`)),
    );
    const outcome = await new Promise<Uint8Array | HelperProcessError>((settle) => {
      running.settle = settle;
      const frame = encodeFrame(message);
      message.fill(0);
      running.child.stdin?.write(frame, () => frame.fill(0));
    });
    stop();
    running.settle = undefined;
    try {
      if (outcome instanceof HelperProcessError) throw outcome;
      if (look(outcome, fresh)) await this.end();
    } finally {
      if (this.#running === running) {
        hold(running.child, false);
        this.#stopIdle = this.#options.after(this.#options.idleMs, () => {
          if (!this.keep) this.end();
        });
      }
    }
  }

  /** @throws HelperProcessError 'not-started' */
  #start(): Running {
    const [program = '', ...args] = this.#options.command;
    let child: ChildProcess;
    try {
      const { env } = this.#options;
      child = spawn(program, args, { env, cwd: '/', stdio: ['pipe', 'pipe', 'ignore'], detached: true });
    } catch {
      throw new HelperProcessError('not-started', 'its helper process could not be started');
    }
    if (!endsWithUs) {
      endsWithUs = true;
      process.on('exit', () => {
        for (const one of alive) killGroup(one);
      });
    }
    alive.add(child);
    let gone = (): void => {};
    const running: Running = {
      child,
      gone: new Promise((resolve) => {
        gone = resolve;
      }),
      served: 0,
      settle: undefined,
      verdict: undefined,
    };
    const over = (error: HelperProcessError): void => {
      alive.delete(child);
      if (this.#running === running) {
        this.#running = undefined;
        this.keep = false;
        this.#stopIdle();
      }
      child.stdout?.destroy();
      running.settle?.(running.verdict ?? error);
      gone();
    };
    child.once('error', () => {
      if (child.pid === undefined)
        over(new HelperProcessError('not-started', 'its helper process could not be started'));
    });
    child.once('exit', (code, signal) => {
      // Whom it left behind. Process numbers go round in a circle, so this one is nobody else's yet.
      killGroup(child);
      const how = signal === null ? `ended with ${code}` : `was ended by ${signal}`;
      over(new HelperProcessError('died', `its helper process ${how} before it answered`));
      this.#options.ended(`helper process ${child.pid} ${how}`);
    });
    // A pipe that breaks means that it ends; its end is what counts.
    child.stdin?.on('error', () => {});
    child.stdout?.on('error', () => {});
    this.#read(running);
    return running;
  }

  #read(running: Running): void {
    let pending: Uint8Array = new Uint8Array();
    running.child.stdout?.on('data', (chunk: Buffer) => {
      pending = pending.length === 0 ? new Uint8Array(chunk) : new Uint8Array(Buffer.concat([pending, chunk]));
      const length = frameLength(pending);
      if (length === undefined) return;
      const end = LENGTH_BYTES + length;
      if (length > MAX_ANSWER_BYTES || pending.length > end || running.settle === undefined)
        this.#kill(running, new HelperProcessError('died', 'its helper process said what is no answer'));
      else if (pending.length === end) {
        const { settle } = running;
        const answer = pending.slice(LENGTH_BYTES);
        pending = new Uint8Array();
        running.settle = undefined;
        settle(answer);
      }
    });
  }

  #kill(running: Running, verdict: HelperProcessError): void {
    running.verdict ??= verdict;
    // A process that hangs in the kernel dies later; nobody waits for it, and the next request gets another one.
    if (this.#running === running) {
      this.#running = undefined;
      this.keep = false;
    }
    killGroup(running.child);
    running.settle?.(verdict);
  }

  /** Lets the process end: it logs its tokens out. @returns when it is gone, or can't be killed */
  async end(): Promise<void> {
    this.#stopIdle();
    const running = this.#running;
    if (running === undefined) return;
    this.#running = undefined;
    this.keep = false;
    running.child.stdin?.end();
    const { endMs, after } = this.#options;
    const closed = new HelperProcessError('closed', 'the provider was removed');
    const stop = after(endMs, () => this.#kill(running, closed));
    const limit = new Promise<void>((resolve) => after(2 * endMs, resolve));
    await Promise.race([running.gone, limit]);
    stop();
  }

  /** Ends the process and fails what waits for it and whatever comes later. */
  close(): Promise<void> {
    this.#closed = true;
    return this.end();
  }
}

function aborted(signal: AbortSignal): { promise: Promise<void>; cancel: () => void } {
  let cancel = (): void => {};
  const promise = new Promise<void>((resolve) => {
    const listener = (): void => resolve();
    signal.addEventListener('abort', listener, { once: true });
    if (signal.aborted) resolve();
    cancel = () => signal.removeEventListener('abort', listener);
  });
  return { promise, cancel };
}
