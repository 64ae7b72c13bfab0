/**
 * Stand-ins for the agent's ports: a clock that goes only when it is told to, and a person whose answers are a script.
 * None of them waits or reads anything from outside.
 */
import type { Clock, Confirm, Question, Reply } from '../agent/ports.ts';

interface Timer {
  readonly at: number;
  readonly callback: () => void;
}

/** Time stands still between two calls of `advance`. */
export class FakeClock implements Clock {
  #now = 0;
  readonly #wallSeconds: number;
  readonly #timers = new Set<Timer>();

  /** @param wallSeconds the time of day at the start, in seconds since 1970 */
  constructor(wallSeconds = 1_800_000_000) {
    this.#wallSeconds = wallSeconds;
  }

  now(): number {
    return this.#now;
  }

  wallSeconds(): number {
    return this.#wallSeconds + Math.floor(this.#now / 1000);
  }

  after(milliseconds: number, callback: () => void): () => void {
    const timer = { at: this.#now + milliseconds, callback };
    this.#timers.add(timer);
    return () => {
      this.#timers.delete(timer);
    };
  }

  /** Milliseconds from now to each timer that is set, soonest first. */
  pending(): readonly number[] {
    return [...this.#timers].map(({ at }) => at - this.#now).sort((a, b) => a - b);
  }

  /** Lets time pass; timers go off in their order, each at its own time. */
  advance(milliseconds: number): void {
    const end = this.#now + milliseconds;
    for (;;) {
      let next: Timer | undefined;
      for (const timer of this.#timers) if (timer.at <= end && (next === undefined || timer.at < next.at)) next = timer;
      if (next === undefined) break;
      this.#timers.delete(next);
      this.#now = Math.max(this.#now, next.at);
      next.callback();
    }
    this.#now = end;
  }
}

/** What a person does with questions: `wait` leaves them open until `settle`. */
export type Answer = 'yes' | 'no' | 'wait';

/** A person as tests see one, whatever carries the question there. */
export interface Person {
  /** How the questions that come from now on are answered. Default: yes. */
  will(answer: Answer): void;
  /** Answers every question that waits. */
  settle(answer: 'yes' | 'no'): void;
  /** All questions up to now, in order. */
  questions(): readonly string[];
}

interface Open {
  readonly settle: (answer: boolean) => void;
}

/** A person for an agent in this process. */
export class ScriptedConfirm implements Confirm, Person {
  readonly #questions: string[] = [];
  readonly #open = new Set<Open>();
  #answer: Answer = 'yes';
  #withdrawn = 0;

  /** Questions that wait for an answer now. */
  get waiting(): number {
    return this.#open.size;
  }

  /** Questions that the agent took back before they were answered. */
  get withdrawn(): number {
    return this.#withdrawn;
  }

  will(answer: Answer): void {
    this.#answer = answer;
  }

  settle(answer: 'yes' | 'no'): void {
    for (const open of [...this.#open]) open.settle(answer === 'yes');
  }

  questions(): readonly string[] {
    return [...this.#questions];
  }

  confirm({ opensshText, lasts }: Question, signal: AbortSignal): Promise<Reply> {
    this.#questions.push(opensshText);
    const reply = (allow: boolean): Reply => ({ allow, scope: lasts, by: 'script' });
    if (this.#answer !== 'wait') return Promise.resolve(reply(this.#answer === 'yes'));
    return new Promise((resolve) => {
      const aborted = (): void => {
        this.#withdrawn++;
        open.settle(false);
      };
      const open: Open = {
        settle: (answer) => {
          this.#open.delete(open);
          signal.removeEventListener('abort', aborted);
          resolve(reply(answer));
        },
      };
      this.#open.add(open);
      if (signal.aborted) aborted();
      else signal.addEventListener('abort', aborted, { once: true });
    });
  }
}
