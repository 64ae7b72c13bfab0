/**
 * Runs of bytes cut from chunks of pages: the bookkeeping under custody. A run is wiped when it is given back and then
 * serves a later one of the same size; runs are not split or joined, but an arena that nobody uses starts anew.
 */
import { type Pages, unmapPages } from '../native/libc.ts';

/** Numbers alone: a view for each of thousands of runs would take more memory than most of them. */
export interface Run {
  readonly pages: Pages;
  /** In bytes, within the pages. */
  readonly at: number;
  readonly size: number;
}

interface Chunk {
  readonly pages: Pages;
  used: number;
}

export class Arena {
  readonly #map: () => Pages;
  readonly #unmapped: (pages: Pages) => void;
  readonly #free = new Map<number, Run[]>();
  #chunks: [Chunk, ...Chunk[]];
  #live = 0;

  /**
   * Maps its first chunk at once and keeps it.
   * @param map makes one more chunk, always of the same size; what it throws, `take` throws
   * @param unmapped told of each chunk that went back to the system
   */
  constructor(map: () => Pages, unmapped: (pages: Pages) => void) {
    this.#map = map;
    this.#unmapped = unmapped;
    this.#chunks = [{ pages: map(), used: 0 }];
  }

  /** A zeroed run of `size` bytes, at most a chunk's. Callers use few sizes, each a multiple of the alignment they want. */
  take(size: number): Run {
    const reused = this.#free.get(size)?.pop();
    const run = reused ?? this.#cut(size);
    this.#live++;
    return run;
  }

  #cut(size: number): Run {
    let chunk = this.#chunks.at(-1) as Chunk;
    if (chunk.used + size > chunk.pages.bytes.length) {
      chunk = { pages: this.#map(), used: 0 };
      this.#chunks.push(chunk);
    }
    const { pages, used } = chunk;
    chunk.used += size;
    return { pages, at: used, size };
  }

  /** Wipes a run and takes it back, once. */
  give(run: Run): void {
    const { pages, at, size } = run;
    pages.bytes.fill(0, at, at + size);
    this.#live--;
    if (this.#live === 0) {
      this.#reset();
      return;
    }
    const list = this.#free.get(size);
    if (list === undefined) this.#free.set(size, [run]);
    else list.push(run);
  }

  /** All chunks but the first go back to the system. */
  #reset(): void {
    this.#free.clear();
    const [first, ...others] = this.#chunks;
    first.used = 0;
    this.#chunks = [first];
    for (const { pages } of others) {
      unmapPages(pages);
      this.#unmapped(pages);
    }
  }
}
