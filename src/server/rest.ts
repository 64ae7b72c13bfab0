/**
 * What an agent that nobody asks gives back to the system: garbage that the engine would keep for its next burst, the
 * allocator's free pages, and clean pages of the program file, which come back when they are touched. Only for a process
 * of the agent's own: a program that has an agent inside decides on its memory itself.
 */
import { readFileSync } from 'node:fs';
import { queryObjects, setFlagsFromString } from 'node:v8';
import { isLinux } from '../native/libc.ts';
import { dropPages, trimAllocator } from '../native/memory.ts';

/** Without work for this long, in milliseconds, it rests. Longer than libcrypto's keys stay made (softsigner). */
export const QUIET_MS = 1000;
/** After little work, which leaves little to give back: resting and waking cost as much as some hundred signatures. */
export const QUIET_AFTER_LITTLE_MS = 10_000;
/** Fewer pieces of work than this are little. */
const LITTLE = 64;
/** So long after one collection comes another: what it frees is given back by tasks that run after it. */
const AGAIN_MS = 100;
/** When it rests, in milliseconds without work. The last ones forget what is quick to have again, as compiled code. */
const RESTS = [QUIET_MS, QUIET_MS + AGAIN_MS, QUIET_AFTER_LITTLE_MS, QUIET_AFTER_LITTLE_MS + AGAIN_MS] as const;
const FORGETTING = 2;
/** Mappings of fewer bytes are not worth a call. */
const SMALLEST_MAPPING = 64 * 1024;

/**
 * Collects all garbage, in some 25 ms, and empties pages that are half empty. The young generation goes back to its least,
 * which no smaller collection does.
 * @param forgets compiled code that is not running right now, too: the next request takes some milliseconds longer
 */
function collectGarbage(forgets: boolean): void {
  const flags = ['compact-on-every-full-gc', ...(forgets ? ['stress-flush-code'] : [])];
  for (const flag of flags) setFlagsFromString(`--${flag}`);
  try {
    // Documented for finding leaks; it begins with the one collection of V8's that keeps nothing back.
    queryObjects(Idler);
  } catch {
    // A Node without it collects when it wants to.
  } finally {
    for (const flag of flags) setFlagsFromString(`--no-${flag}`);
  }
}

interface Range {
  readonly address: number;
  readonly length: number;
}

/**
 * Mappings of files that this process has not written to: their pages can be read from the file again. What the linker
 * has relocated is read-only as well but differs from its file, and is told by its anonymous pages.
 */
function cleanMappings(): readonly Range[] {
  const found: Range[] = [];
  let range: Range | undefined;
  // No patterns: the engine keeps the text that the last one matched, here 100 KB.
  for (const line of readFileSync('/proc/self/smaps', 'latin1').split('\n')) {
    const [head = '', access, , , inode] = line.split(' ', 5);
    if (head === 'Anonymous:') {
      if (range !== undefined && Number.parseInt(line.slice(head.length), 10) === 0) found.push(range);
    } else if (!head.endsWith(':')) {
      const [address = 0, end = 0] = head.split('-').map((digits) => Number.parseInt(digits, 16));
      const clean = inode !== '0' && (access === 'r-xp' || access === 'r--p') && end - address >= SMALLEST_MAPPING;
      range = clean ? { address, length: end - address } : undefined;
    }
  }
  return found;
}

let clean: readonly Range[] | undefined;

/** Gives back at once what can be had. */
export function rest(forgets: boolean): void {
  collectGarbage(forgets);
  if (!isLinux) return;
  trimAllocator();
  clean ??= cleanMappings();
  for (const { address, length } of clean) dropPages(address, length);
}

/**
 * Has this process rest when it is idle, and its young generation stay small: nearly all that a request leaves behind is
 * garbage when it is answered. No timer runs while it rests.
 * @returns what is to be called for each piece of work
 */
export function restWhenIdle(): () => void {
  const idler = new Idler();
  idler.worked();
  return () => idler.worked();
}

class Idler {
  /** Pieces of work since it last rested, and how many of them the last look had seen. What starting left is much. */
  #works = LITTLE;
  #seen = 0;
  /** Milliseconds without work. */
  #quiet = 0;
  /** The next of RESTS. */
  #next = 0;
  #isWatching = false;
  #staysSmall = false;

  worked(): void {
    this.#works++;
    if (!this.#isWatching) this.#lookIn(QUIET_MS);
  }

  #lookIn(milliseconds: number): void {
    this.#isWatching = true;
    setTimeout(() => this.#look(milliseconds), milliseconds).unref();
  }

  #look(waited: number): void {
    // Not when it starts: the engine takes no code of Node's or ours from a cache that was made under other flags.
    if (!this.#staysSmall) setFlagsFromString('--semi-space-growth-factor=1');
    this.#staysSmall = true;
    const isQuiet = this.#works === this.#seen;
    this.#quiet = isQuiet ? this.#quiet + waited : 0;
    if (!isQuiet) this.#next = this.#works < LITTLE ? FORGETTING : 0;
    this.#seen = this.#works;
    if (this.#quiet >= (RESTS[this.#next] as number)) {
      rest(this.#next >= FORGETTING);
      this.#next++;
      [this.#works, this.#seen] = [0, 0];
    }
    const next = RESTS[this.#next];
    if (next === undefined) [this.#isWatching, this.#quiet, this.#next] = [false, 0, 0];
    else this.#lookIn(Math.min(QUIET_MS, next - this.#quiet));
  }
}
