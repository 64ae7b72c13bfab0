/**
 * A second thread for quick signatures that are asked for together. Both threads take jobs from one list in shared memory
 * (joblist.ts). This one publishes them as requests are read, hands on what is done at the end of each turn of the loop, and
 * makes a signature itself where it would wait. The other one runs while there is work for it and ends soon after.
 */
import { Worker } from 'node:worker_threads';
import { type CrewStart, JobList, LAYOUT, MAX_JOBS } from './joblist.ts';
import { LibcryptoError } from './libcrypto.ts';
import { freeSlot, type SigningContext, type SignKind, type SignSlot, signAt, signatureIn } from './signing.ts';

/** After one to two of these without work for two threads, in milliseconds, the second is told to end. */
export const CREW_IDLE_MS = 500;
/** Turns of the loop with several signatures before the thread is started: it costs as much as some hundred of them. */
const STARTS_AFTER_TURNS = 32;

interface Waiting {
  readonly number: number;
  readonly kind: SignKind;
  readonly ctx: SigningContext;
  readonly slot: SignSlot;
  readonly length: number;
  readonly resolve: (signature: Uint8Array) => void;
  readonly reject: (error: Error) => void;
}

/** What this thread knows of the other one. */
class Crew {
  readonly #program: string;
  #jobs = new JobList();
  #worker: Worker | undefined;
  #waiting: Waiting[] = [];
  /** Signatures in this turn of the loop, with and without the crew, and jobs that were under way before it. */
  #inTurn = 0;
  #before = 0;
  #busyTurns = 0;
  #wasTogether = false;
  #isUsed = false;
  #timer: NodeJS.Timeout | undefined;
  #isBroken = false;

  constructor(program: string) {
    this.#program = program;
  }

  /** Told of each quick signature. @returns whether the crew should make it */
  wants(): boolean {
    if (this.#inTurn++ === 0 && this.#waiting.length === 0) setImmediate(this.#endTurn);
    return this.#wasTogether && this.#worker !== undefined && this.#hasRoom && this.#jobs.isReady;
  }

  /** Later jobs may be done before the first one, whose place is still its own. */
  get #hasRoom(): boolean {
    const [first] = this.#waiting;
    return first === undefined || ((this.#jobs.next - first.number) | 0) < MAX_JOBS;
  }

  sign(kind: SignKind, own: SigningContext, away: SigningContext, slot: SignSlot, length: number): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      const number = this.#jobs.publish(kind, away, slot, length);
      this.#waiting.push({ number, kind, ctx: own, slot, length, resolve, reject });
    });
  }

  wipe(): void {
    // One that is only just starting has nothing to wipe, and would be waited for.
    if (this.#worker !== undefined && this.#jobs.isReady) this.#jobs.wipe();
  }

  readonly #endTurn = (): void => {
    const asked = this.#inTurn;
    const isTogether = asked + this.#before > 1;
    this.#inTurn = 0;
    if (this.#waiting.length > 0 && !this.#collect() && asked === 0) this.#help();
    this.#before = this.#waiting.length;
    if (this.#before > 0) setImmediate(this.#endTurn);
    this.#wasTogether = isTogether;
    if (!isTogether) return;
    this.#isUsed = true;
    if (this.#worker === undefined && ++this.#busyTurns > STARTS_AFTER_TURNS) this.#start();
  };

  /** Hands on what is done. @returns whether anything was */
  #collect(): boolean {
    const left: Waiting[] = [];
    for (const one of this.#waiting) {
      const outcome = this.#jobs.outcome(one.number);
      if (outcome === undefined) {
        left.push(one);
        continue;
      }
      if (outcome) one.resolve(signatureIn(one.slot));
      else one.reject(new LibcryptoError('a signature'));
      freeSlot(one.slot);
    }
    const isAnyDone = left.length < this.#waiting.length;
    this.#waiting = left;
    return isAnyDone;
  }

  /** Nothing came and nothing is done: makes a signature here, or waits for one. */
  #help(): void {
    const number = this.#jobs.take();
    const first = this.#waiting[0] as Waiting;
    if (number === undefined) {
      this.#jobs.wait(first.number);
      return;
    }
    this.#makeHere(number);
  }

  #makeHere(number: number): void {
    const mine = this.#waiting.find((one) => one.number === number);
    if (mine !== undefined) this.#jobs.done(number, signAt(mine.kind, mine.ctx, mine.slot.address, mine.length));
  }

  #start(): void {
    this.#busyTurns = 0;
    if (this.#isBroken) return;
    // A thread that was told to end may still be looking at the list before.
    this.#jobs = new JobList();
    let worker: Worker;
    try {
      const workerData: CrewStart = { memory: this.#jobs.memory, layout: LAYOUT };
      worker = new Worker(this.#program, { workerData, env: {}, execArgv: [] });
    } catch {
      // No more threads to be had: as without it.
      this.#isBroken = true;
      return;
    }
    this.#worker = worker;
    worker.unref();
    // It says why in 'exit' as well; without it all goes on, on one thread.
    worker.on('error', () => {});
    worker.on('exit', () => this.#ended(worker));
    this.#timer ??= setInterval(() => this.#look(), CREW_IDLE_MS).unref();
  }

  /** It ended by itself, which it should not: what it had will never be done. */
  #ended(worker: Worker): void {
    if (this.#worker !== worker) return;
    this.#worker = undefined;
    this.#isBroken = true;
    for (let number = this.#jobs.take(); number !== undefined; number = this.#jobs.take()) this.#makeHere(number);
    this.#collect();
    // Slots that it may have been writing to are not used again.
    for (const { reject } of this.#waiting.splice(0)) reject(new LibcryptoError('a signature'));
  }

  #look(): void {
    if (this.#isUsed || this.#waiting.length > 0) {
      this.#isUsed = false;
      return;
    }
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#wasTogether = false;
    this.#busyTurns = 0;
    this.#worker = undefined;
    this.#jobs.stop();
  }
}

let crew: Crew | undefined;

/** @param program the absolute path of the file that the other thread runs: it calls workInCrew */
export function useCrew(program: string): void {
  crew = new Crew(program);
}

/** The crew, where it should make the next quick signature. To be asked once for each. */
export function crewForNext(): Crew | undefined {
  return crew?.wants() === true ? crew : undefined;
}

/** After a key was freed: see wipeCallStack. */
export function wipeCrew(): void {
  crew?.wipe();
}
