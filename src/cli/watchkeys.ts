/**
 * The questions that `latchkey watch` shows, which one has the focus, and what a key press means for it. Pure: the clock is
 * given. A key answers only what could be read before: for a moment after a question took the focus keys do nothing, and
 * as long as somebody goes on typing; several at once (a paste, a line typed ahead) are no answer either.
 */
import type { Scope } from '../agent/ports.ts';
import type { WatchQuestion } from './questions.ts';
import { KEYS } from './watchrows.ts';

/** How long a question must have been seen, without a key press, before a key answers it. */
export const UNREAD_MS = 500;

export type Action =
  | { readonly kind: 'approve'; readonly id: string; readonly scope: Scope }
  | { readonly kind: 'deny'; readonly id: string }
  | { readonly kind: 'quit' }
  | { readonly kind: 'suspend' }
  /** Something else is to be shown. */
  | { readonly kind: 'redraw' };

interface Entry {
  readonly question: WatchQuestion;
  /** Milliseconds of the given clock. */
  readonly endsAt: number;
}

const NEXT = new Set(['\t', '\x1b[B', '\x1bOB', 'j']);
const PREVIOUS = new Set(['\x1b[Z', '\x1b[A', '\x1bOA', 'k']);
const QUIT = new Set(['q', 'Q', '\x03', '\x04']);
const SUSPEND = '\x1a';
const REDRAW: Action = { kind: 'redraw' };

export class Watched {
  readonly #entries = new Map<string, Entry>();
  #focus: string | undefined;
  #readableAt = 0;
  /** Answers that are on their way. */
  readonly #answered = new Set<string>();
  confirmsRule = false;
  note: string | undefined;

  get focus(): Entry | undefined {
    return this.#focus === undefined ? undefined : this.#entries.get(this.#focus);
  }

  get waiting(): number {
    return this.#entries.size;
  }

  /** Of the focus, from 1. */
  get place(): number {
    return [...this.#entries.keys()].indexOf(this.#focus ?? '') + 1;
  }

  /** Takes a question, or what changed in it. */
  put(question: WatchQuestion, now: number): void {
    const old = this.#entries.get(question.id);
    this.#entries.set(question.id, { question, endsAt: old?.endsAt ?? now + question.secondsLeft * 1000 });
    if (this.#focus === undefined) this.#move(question.id, now);
  }

  end(id: string, now: number): void {
    const ids = [...this.#entries.keys()];
    const at = ids.indexOf(id);
    if (at < 0) return;
    this.#entries.delete(id);
    this.#answered.delete(id);
    if (id === this.#focus) this.#move(ids[at + 1] ?? ids[at - 1], now);
  }

  /** The answer did not arrive: the question waits on, if it does. */
  failed(id: string, why: string): void {
    this.#answered.delete(id);
    if (id === this.#focus) this.note = why;
  }

  /** Nothing that was typed until now was meant for what is shown. */
  unread(now: number): void {
    this.#readableAt = now + UNREAD_MS;
  }

  #move(id: string | undefined, now: number): void {
    this.#focus = id;
    this.confirmsRule = false;
    this.note = undefined;
    this.unread(now);
  }

  /**
   * @param bytes what came from the terminal at once
   * @param isWhole whether all of the question could be shown
   */
  press(bytes: string, now: number, isWhole: boolean): Action | undefined {
    if (QUIT.has(bytes)) return { kind: 'quit' };
    if (bytes === SUSPEND) return { kind: 'suspend' };
    if (NEXT.has(bytes)) return this.#step(1, now);
    if (PREVIOUS.has(bytes)) return this.#step(-1, now);
    const { focus } = this;
    if (focus === undefined || this.#answered.has(focus.question.id)) return undefined;
    if (now < this.#readableAt || bytes.length !== 1) {
      this.unread(now);
      this.note = 'Not taken: typed before this could be read. Once more, please.';
      return REDRAW;
    }
    this.note = undefined;
    return this.#answer(bytes.toLowerCase(), focus.question, now, isWhole);
  }

  #step(by: 1 | -1, now: number): Action | undefined {
    const ids = [...this.#entries.keys()];
    if (ids.length < 2) return undefined;
    this.#move(ids[(ids.indexOf(this.#focus ?? '') + by + ids.length) % ids.length], now);
    return REDRAW;
  }

  #answer(key: string, { id, offers, rule }: WatchQuestion, now: number, isWhole: boolean): Action | undefined {
    const approve = (scope: Scope): Action => {
      this.#answered.add(id);
      return { kind: 'approve', id, scope };
    };
    if (this.confirmsRule) {
      this.confirmsRule = false;
      return key === 'y' && isWhole ? approve('always') : REDRAW;
    }
    if (key === 'n') {
      this.#answered.add(id);
      return { kind: 'deny', id };
    }
    const scope = KEYS.find(([letter]) => letter === key)?.[1];
    if (scope === undefined || !isWhole || !offers.some((offer) => offer.scope === scope)) return REDRAW;
    if (scope !== 'always') return approve(scope);
    if (rule === undefined) return REDRAW;
    this.confirmsRule = true;
    this.unread(now);
    return REDRAW;
  }
}
