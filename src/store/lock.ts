/**
 * Locking: custody is sealed under the pass phrase, which is not kept. A wrong guess costs its guesser a growing delay
 * before the next is looked at, and nobody else anything: OpenSSH's agent answers no client while it waits.
 */
import type { Custody } from '../keys/custody.ts';

/** A guesser's next guess waits this long for each wrong one before, in milliseconds: OpenSSH's figures. */
export const DELAY_STEP_MS = 100;
export const MAX_DELAY_MS = 10_000;
/** Guessers whose count is remembered; the oldest is forgotten first. A new process is a new guesser in any case. */
export const MAX_GUESSERS = 1024;
/** A longer pass phrase is refused, in bytes; askpass programs give at most 1023. */
export const MAX_PASSPHRASE_BYTES = 1024;
/** Guesses of one guesser that may wait; more are refused at once. */
export const MAX_WAITING_GUESSES = 16;

interface Guesser {
  failures: number;
  waiting: number;
  last: Promise<unknown>;
}

/** Waits; the agent's clock. */
export type Pause = (milliseconds: number) => Promise<void>;

export class Lock {
  readonly #custody: Custody;
  readonly #pause: Pause;
  readonly #guessers = new Map<unknown, Guesser>();
  /** One derivation at a time: each takes 32 MiB. */
  #turn: Promise<unknown> = Promise.resolve();
  #locked = false;

  constructor(custody: Custody, pause: Pause) {
    this.#custody = custody;
    this.#pause = pause;
  }

  /** True from the moment that a lock is asked for. */
  get locked(): boolean {
    return this.#locked;
  }

  /**
   * Locks under `passphrase`, which is copied before the first await. Signers must be at rest.
   * @returns false for an empty pass phrase, and where it is locked already
   */
  async lock(passphrase: Uint8Array): Promise<boolean> {
    if (this.#locked || passphrase.length === 0 || passphrase.length > MAX_PASSPHRASE_BYTES) return false;
    this.#locked = true;
    try {
      const sealing = this.#custody.seal(passphrase);
      // A guess that comes while custody is being sealed is looked at afterwards: it may be the right one.
      this.#turn = Promise.allSettled([this.#turn, sealing]);
      await sealing;
      return true;
    } catch (error) {
      this.#locked = this.#custody.sealed;
      throw error;
    }
  }

  #guesser(who: unknown): Guesser {
    let guesser = this.#guessers.get(who);
    if (guesser === undefined) {
      guesser = { failures: 0, waiting: 0, last: Promise.resolve() };
      if (this.#guessers.size >= MAX_GUESSERS) {
        for (const [key, { waiting }] of this.#guessers)
          if (waiting === 0) {
            this.#guessers.delete(key);
            break;
          }
      }
      this.#guessers.set(who, guesser);
    }
    return guesser;
  }

  /**
   * Unlocks with `passphrase`, which is copied before the first await. Guesses of one guesser are looked at one after
   * another, each after its delay, so that many connections of one process gain nothing.
   * @param who the process that guesses, by whatever tells it from others
   * @returns false for a wrong pass phrase, and where nothing is locked
   */
  async unlock(passphrase: Uint8Array, who: unknown): Promise<boolean> {
    if (!this.#locked) return false;
    const guesser = this.#guesser(who);
    if (guesser.waiting >= MAX_WAITING_GUESSES) return false;
    // Too long to be right; it still counts as a guess.
    const length = passphrase.length > MAX_PASSPHRASE_BYTES ? 0 : passphrase.length;
    const phrase = this.#custody.passing(Math.max(1, length));
    const guess = phrase.bytes.subarray(0, length);
    guess.set(passphrase.subarray(0, length));
    guesser.waiting++;
    const attempt = guesser.last.then(() => this.#guess(guesser, guess));
    guesser.last = attempt.catch(() => undefined);
    try {
      return await attempt;
    } finally {
      guesser.waiting--;
      phrase.free();
    }
  }

  async #guess(guesser: Guesser, guess: Uint8Array): Promise<boolean> {
    await this.#pause(Math.min(guesser.failures * DELAY_STEP_MS, MAX_DELAY_MS));
    const turn = this.#turn.then(() => guess.length > 0 && this.#custody.unseal(guess));
    this.#turn = turn.catch(() => undefined);
    const open = await turn;
    if (open) {
      this.#locked = false;
      this.#guessers.clear();
    } else guesser.failures++;
    return open;
  }
}
