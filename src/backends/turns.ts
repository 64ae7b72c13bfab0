/** Turns at something that serves one at a time, such as a device: in the order of asking, with bounds on how many wait. */

/** Why there is no turn: too many wait, it took too long, or the signal was aborted. */
export type NotTaken = 'full' | 'late' | 'withdrawn';

interface Line {
  /** Called when it is their turn. */
  readonly waiting: (() => void)[];
}

export class Turns {
  readonly #maxWaiting: number;
  /** One for each name that is taken. */
  readonly #lines = new Map<string, Line>();

  /** @param maxWaiting how many may wait for one name */
  constructor(maxWaiting: number) {
    this.#maxWaiting = maxWaiting;
  }

  /**
   * Waits for `name` to be free, `milliseconds` at most.
   * @returns what frees it again, to be called once; or why it was not to be had
   */
  async take(name: string, milliseconds: number, signal?: AbortSignal): Promise<(() => void) | NotTaken> {
    if (signal?.aborted) return 'withdrawn';
    const line = this.#lines.get(name);
    if (line === undefined) this.#lines.set(name, { waiting: [] });
    else {
      if (line.waiting.length >= this.#maxWaiting) return 'full';
      const outcome = await waitIn(line, milliseconds, signal);
      if (outcome !== 'ours') return outcome;
    }
    return () => this.#release(name);
  }

  #release(name: string): void {
    const next = this.#lines.get(name)?.waiting.shift();
    if (next === undefined) this.#lines.delete(name);
    else next();
  }
}

function waitIn(
  { waiting }: Line,
  milliseconds: number,
  signal: AbortSignal | undefined,
): Promise<'ours' | 'late' | 'withdrawn'> {
  return new Promise((resolve) => {
    const end = (outcome: 'ours' | 'late' | 'withdrawn'): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', withdraw);
      const at = waiting.indexOf(enter);
      if (at >= 0) waiting.splice(at, 1);
      resolve(outcome);
    };
    const enter = (): void => end('ours');
    const withdraw = (): void => end('withdrawn');
    const timer = setTimeout(() => end('late'), milliseconds);
    signal?.addEventListener('abort', withdraw, { once: true });
    waiting.push(enter);
  });
}
