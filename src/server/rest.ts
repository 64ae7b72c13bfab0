/**
 * What an agent that nobody asks gives back to the system: garbage that the engine would keep for its next burst, the
 * allocator's free pages, and clean pages of the program file, which come back when they are touched. Only for a process
 * of the agent's own: a program that has an agent inside decides on its memory itself.
 */
import { readFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInThisContext } from 'node:vm';
import { isLinux } from '../native/libc.ts';
import { dropPages, trimAllocator } from '../native/memory.ts';

/** Without work for this long, in milliseconds, it rests. Longer than libcrypto's keys stay made (softsigner). */
export const QUIET_MS = 1000;
/** After little work, which leaves little to give back: resting and waking cost as much as some hundred signatures. */
export const QUIET_AFTER_LITTLE_MS = 10_000;
/** Fewer pieces of work than this are little. */
const LITTLE = 64;
/** Further rests, each so long after the one before: the engine shrinks its young generation where little was taken of late. */
const AGAIN_MS = [1500, 5000];
/** Mappings of fewer bytes are not worth a call. */
const SMALLEST_MAPPING = 256 * 1024;

/** Collects all garbage: V8's own function for it, in the syntax that reaches those, which no other code is read with. */
function collectGarbage(): void {
  setFlagsFromString('--allow-natives-syntax');
  try {
    // A context made with --expose-gc has it as well, but costs more memory than there is to give back.
    runInThisContext('%CollectGarbage(0)');
  } catch {
    // An engine without it collects when it wants to.
  } finally {
    setFlagsFromString('--no-allow-natives-syntax');
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
  for (const line of readFileSync('/proc/self/smaps', 'latin1').split('\n')) {
    const head = /^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ (\d+)/.exec(line);
    if (head !== null) {
      const [, from = '', to = '', access, inode] = head;
      const address = Number.parseInt(from, 16);
      const length = Number.parseInt(to, 16) - address;
      const clean = inode !== '0' && (access === 'r-xp' || access === 'r--p') && length >= SMALLEST_MAPPING;
      range = clean ? { address, length } : undefined;
    } else if (range !== undefined && line.startsWith('Anonymous:')) {
      if (/^Anonymous:\s+0 kB/.test(line)) found.push(range);
      range = undefined;
    }
  }
  return found;
}

let clean: readonly Range[] | undefined;

/** Gives back at once what can be had. */
export function rest(): void {
  collectGarbage();
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
  setFlagsFromString('--semi-space-growth-factor=1');
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
  #rests = 0;
  #isWatching = false;

  worked(): void {
    this.#works++;
    if (!this.#isWatching) this.#lookIn(QUIET_MS);
  }

  #lookIn(milliseconds: number): void {
    this.#isWatching = true;
    setTimeout(() => this.#look(milliseconds), milliseconds).unref();
  }

  #look(waited: number): void {
    this.#quiet = this.#works === this.#seen ? this.#quiet + waited : 0;
    this.#seen = this.#works;
    if (this.#quiet === 0) this.#rests = 0;
    if (this.#quiet < (this.#works < LITTLE ? QUIET_AFTER_LITTLE_MS : QUIET_MS)) {
      this.#lookIn(QUIET_MS);
      return;
    }
    rest();
    const again = AGAIN_MS[this.#rests++];
    if (again !== undefined) {
      this.#lookIn(again);
      return;
    }
    [this.#works, this.#seen, this.#quiet, this.#rests] = [0, 0, 0, 0];
    this.#isWatching = false;
  }
}
