/**
 * The list of jobs that two threads sign (crew.ts), in shared memory. A job says where libcrypto finds what it needs: addresses,
 * no bytes. Each thread takes the next one until there is none, so that neither waits for the other for longer than one
 * signature.
 */
import { unmapZeros, wipeCallStack } from './libc.ts';
import { type SigningContext, type SignKind, type SignSlot, signAt } from './signing.ts';

/** Jobs from the first that is not done to the last; a power of two. Further signatures are made on this thread. */
export const MAX_JOBS = 64;
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
export const LAYOUT: string = process.env.LATCHKEY_LAYOUT ?? '';

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
