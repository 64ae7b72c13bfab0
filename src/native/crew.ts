/**
 * A second thread for quick signatures that are asked for together. Both threads take jobs from one list in shared memory
 * until it is empty, so that neither waits for the other for longer than one signature. A job says where libcrypto finds
 * what it needs: addresses, no bytes. The thread runs while there is work for it and ends soon after (CREW_IDLE_MS).
 */
import { Worker } from 'node:worker_threads';
import { unmapZeros, wipeCallStack } from './libc.ts';
import { LibcryptoError } from './libcrypto.ts';
import { freeSlot, type SigningContext, type SignKind, type SignSlot, signAt, signatureIn } from './signing.ts';

/** After one to two of these without work for two threads, in milliseconds, the second is told to end. */
export const CREW_IDLE_MS = 500;
/** Turns of the loop with several signatures before the thread is started: it costs as much as some hundred of them. */
const STARTS_AFTER_TURNS = 32;
/** Jobs from the first that is not done to the last; a power of two. Further signatures are made on this thread. */
const MAX_JOBS = 64;
/** Longest that this thread sleeps for one signature before it looks again, in milliseconds. */
const LOOK_MS = 1000;
/** Longest wait for a wipe, in milliseconds: a thread that the system does not let run holds up nobody for longer. */
const WIPE_MS = 20;
/** Looks at a word before a thread sleeps until it changes: some 50 microseconds. Waking it costs as much as a signature. */
const LOOKS = 5000;

/** Words of the shared memory. Counters only grow, and wrap: a number that was seen does not soon come again. */
const [PUBLISHED, TAKEN, SIGNAL, WIPE, STOP, READY, ASLEEP, STATES] = [0, 1, 2, 3, 4, 5, 6, 8];
const [PENDING, SIGNED, FAILED] = [0, 1, 2];
const WORD_BYTES = 4;
/** Of a job: its kind, the address of its context, that of its slot, and a length. */
const FIELDS = 4;
const FIELDS_AT = (STATES + MAX_JOBS) * WORD_BYTES;

/** What both threads have to agree on: the build puts a hash of the sources here that say where things lie. */
const LAYOUT: string = process.env.LATCHKEY_LAYOUT ?? '';

/** What the other thread is started with. */
export interface CrewStart {
  readonly memory: SharedArrayBuffer;
  /** A program of a later build, put in the place of the one that belongs to this agent, has another. */
  readonly layout: string;
}

/** The whole life of the other thread. One that does not belong to the agent that started it ends at once. */
export function workInCrew({ memory, layout }: CrewStart): void {
  if (layout === LAYOUT) new JobList(memory).work();
}

/** The list of jobs, seen from either thread. */
export class JobList {
  readonly memory: SharedArrayBuffer;
  readonly #words: Int32Array;
  readonly #fields: Float64Array;

  constructor(memory: SharedArrayBuffer = new SharedArrayBuffer(FIELDS_AT + MAX_JOBS * FIELDS * 8)) {
    this.memory = memory;
    this.#words = new Int32Array(memory, 0, STATES + MAX_JOBS);
    this.#fields = new Float64Array(memory, FIELDS_AT);
  }

  get isReady(): boolean {
    return Atomics.load(this.#words, READY) === 1;
  }

  /** The number of the job that is published next. */
  get next(): number {
    return Atomics.load(this.#words, PUBLISHED);
  }

  /** Adds a job, where fewer than MAX_JOBS are under way, and wakes the other thread. @returns its number */
  publish(kind: SignKind, ctx: SigningContext, slot: SignSlot, length: number): number {
    const number = this.next;
    const place = number & (MAX_JOBS - 1);
    Atomics.store(this.#words, STATES + place, PENDING);
    this.#fields[place * FIELDS] = kind;
    this.#fields[place * FIELDS + 1] = Number(ctx);
    this.#fields[place * FIELDS + 2] = slot.address;
    this.#fields[place * FIELDS + 3] = length;
    Atomics.add(this.#words, PUBLISHED, 1);
    this.#wake();
    return number;
  }

  #wake(): void {
    Atomics.add(this.#words, SIGNAL, 1);
    if (Atomics.load(this.#words, ASLEEP) === 1) Atomics.notify(this.#words, SIGNAL);
  }

  /** The next job that nobody has; undefined: there is none. */
  take(): number | undefined {
    for (;;) {
      const number = Atomics.load(this.#words, TAKEN);
      if (((Atomics.load(this.#words, PUBLISHED) - number) | 0) <= 0) return undefined;
      if (Atomics.compareExchange(this.#words, TAKEN, number, (number + 1) | 0) === number) return number;
    }
  }

  done(number: number, signed: boolean): void {
    const word = STATES + (number & (MAX_JOBS - 1));
    Atomics.store(this.#words, word, signed ? SIGNED : FAILED);
    Atomics.notify(this.#words, word);
  }

  /** Whether a job was signed; undefined: it is under way. */
  outcome(number: number): boolean | undefined {
    const state = Atomics.load(this.#words, STATES + (number & (MAX_JOBS - 1)));
    return state === PENDING ? undefined : state === SIGNED;
  }

  /** Waits for a job that the other thread has, or LOOK_MS. */
  wait(number: number): void {
    const word = STATES + (number & (MAX_JOBS - 1));
    for (let i = 0; i < LOOKS; i++) if (Atomics.load(this.#words, word) !== PENDING) return;
    Atomics.wait(this.#words, word, PENDING, LOOK_MS);
  }

  /** Has the other thread wipe what its calls left behind, and waits until it has: for one signature at most. */
  wipe(): void {
    Atomics.store(this.#words, WIPE, 1);
    this.#wake();
    for (let i = 0; i < LOOKS; i++) if (Atomics.load(this.#words, WIPE) === 0) return;
    Atomics.wait(this.#words, WIPE, 1, WIPE_MS);
  }

  #wipeWhereAsked(): void {
    if (Atomics.load(this.#words, WIPE) === 0) return;
    wipeCallStack();
    Atomics.store(this.#words, WIPE, 0);
    Atomics.notify(this.#words, WIPE);
  }

  stop(): void {
    Atomics.store(this.#words, STOP, 1);
    this.#wake();
  }

  /** The other thread's whole life: works until it is told to stop. */
  work(): void {
    Atomics.store(this.#words, READY, 1);
    while (Atomics.load(this.#words, STOP) === 0) {
      const signal = Atomics.load(this.#words, SIGNAL);
      for (let number = this.take(); number !== undefined; number = this.take()) {
        const at = (number & (MAX_JOBS - 1)) * FIELDS;
        const [kind, ctx, address, length] = this.#fields.subarray(at, at + FIELDS) as unknown as [0 | 1, ...number[]];
        this.done(number, signAt(kind, ctx as number, address as number, length as number));
        this.#wipeWhereAsked();
      }
      this.#wipeWhereAsked();
      for (let i = 0; i < LOOKS; i++) if (Atomics.load(this.#words, SIGNAL) !== signal) break;
      if (Atomics.load(this.#words, SIGNAL) !== signal) continue;
      Atomics.store(this.#words, ASLEEP, 1);
      Atomics.wait(this.#words, SIGNAL, signal);
      Atomics.store(this.#words, ASLEEP, 0);
    }
    wipeCallStack();
    unmapZeros();
  }
}

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
    if (this.#worker !== undefined) this.#jobs.wipe();
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
