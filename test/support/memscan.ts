/**
 * Finds byte strings in the memory of a running process, as root sees it through /proc/PID/mem: every page of every
 * mapping that the kernel lets be read, also those that the process itself may not read just now. One pass for many
 * needles. Linux only.
 */
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';

export interface Needle {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** A needle that was found at `address`, in the mapping whose line of /proc/PID/maps is `mapping`. */
export interface Found {
  readonly name: string;
  readonly address: number;
  readonly mapping: string;
}

export interface Scan {
  readonly found: readonly Found[];
  readonly scannedBytes: number;
  /** Lines of /proc/PID/maps whose pages the kernel refuses: secretmem, vvar. */
  readonly refused: readonly string[];
}

interface Mapping {
  readonly from: number;
  readonly to: number;
  readonly line: string;
  readonly anonymous: boolean;
}

const PAGE = 4096;
const CHUNK_BYTES = 4 * 1024 * 1024;
/** Above the addresses of a process: a page of the kernel's that is the same for all. */
const VSYSCALL = '[vsyscall]';

function mappingsOf(pid: number): Mapping[] {
  const mappings: Mapping[] = [];
  for (const line of readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n')) {
    const match = /^([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ (\d+) *(.*)$/.exec(line);
    if (match === null || match[4] === VSYSCALL) continue;
    const [, from = '', to = '', inode] = match;
    mappings.push({ from: Number.parseInt(from, 16), to: Number.parseInt(to, 16), line, anonymous: inode === '0' });
  }
  return mappings;
}

/** The runs of pages of an anonymous mapping that hold something: in memory, or swapped out. All others read as zeros. */
function* heldRuns(pagemap: number, { from, to }: Mapping): Generator<readonly [number, number]> {
  const entries = Buffer.alloc(64 * 1024);
  let start: number | undefined;
  for (let at = from; at < to; ) {
    const wanted = Math.min(entries.length, ((to - at) / PAGE) * 8);
    const got = readSync(pagemap, entries, 0, wanted, (at / PAGE) * 8);
    if (got !== wanted) throw new Error('short read of pagemap');
    for (let i = 0; i < got; i += 8, at += PAGE) {
      const held = ((entries[i + 7] as number) & 0xc0) !== 0;
      if (held) start ??= at;
      else if (start !== undefined) {
        yield [start, at];
        start = undefined;
      }
    }
  }
  if (start !== undefined) yield [start, to];
}

/** The needles by their first bytes, so that memory is looked at once. */
class Index {
  readonly #starts = new Uint8Array(0x10000);
  readonly #needles = new Map<number, Needle[]>();
  readonly longest: number;

  constructor(needles: readonly Needle[]) {
    let longest = 0;
    for (const needle of needles) {
      const [a, b, c, d] = needle.bytes;
      if (a === undefined || b === undefined || c === undefined || d === undefined)
        throw new Error(`${needle.name} is too short to look for`);
      this.#starts[(a << 8) | b] = 1;
      const key = ((a << 24) | (b << 16) | (c << 8) | d) >>> 0;
      this.#needles.set(key, [...(this.#needles.get(key) ?? []), needle]);
      longest = Math.max(longest, needle.bytes.length);
    }
    this.longest = longest;
  }

  /** Calls back for each needle that begins in the first `length` bytes of `memory` and ends in it. */
  search(memory: Buffer, length: number, found: (needle: Needle, at: number) => void): void {
    const starts = this.#starts;
    const last = Math.min(length, memory.length - 3);
    for (let at = 0; at < last; at++) {
      if (starts[((memory[at] as number) << 8) | (memory[at + 1] as number)] === 0) continue;
      for (const needle of this.#needles.get(memory.readUInt32BE(at)) ?? []) {
        const end = at + needle.bytes.length;
        if (end <= memory.length && memory.compare(needle.bytes, 0, needle.bytes.length, at, end) === 0)
          found(needle, at);
      }
    }
  }
}

/**
 * Looks for `needles` (of at least 4 bytes) in the memory of process `pid`, which is stopped meanwhile, so that nothing
 * moves from where the scan has not been to where it has.
 */
export function scanMemory(pid: number, needles: readonly Needle[]): Scan {
  const index = new Index(needles);
  const overlap = index.longest - 1;
  const found: Found[] = [];
  const refused = new Set<string>();
  let scannedBytes = 0;
  const buffer = Buffer.alloc(CHUNK_BYTES + overlap);
  const memory = openSync(`/proc/${pid}/mem`, 'r');
  const pagemap = openSync(`/proc/${pid}/pagemap`, 'r');
  process.kill(pid, 'SIGSTOP');
  try {
    for (const mapping of mappingsOf(pid)) {
      const { from, to, line } = mapping;
      const runs = mapping.anonymous ? heldRuns(pagemap, mapping) : [[from, to] as const];
      for (const [start, end] of runs) {
        for (let at = start; at < end; ) {
          const wanted = Math.min(buffer.length, end - at);
          let got: number;
          try {
            got = readSync(memory, buffer, 0, wanted, at);
          } catch {
            refused.add(line);
            at += PAGE;
            continue;
          }
          // What lies behind the first CHUNK_BYTES is there for needles that begin before it.
          const fresh = got < wanted ? got : Math.min(got, CHUNK_BYTES);
          index.search(buffer.subarray(0, got), fresh, ({ name }, offset) =>
            found.push({ name, address: at + offset, mapping: line }),
          );
          scannedBytes += fresh;
          at += fresh;
        }
      }
    }
  } finally {
    process.kill(pid, 'SIGCONT');
    closeSync(pagemap);
    closeSync(memory);
    buffer.fill(0);
  }
  return { found, scannedBytes, refused: [...refused] };
}
