/**
 * Lines that are appended to the records after they were listed, in files old and new. By looking, not by watching: that
 * works on every file system.
 */
import { linesForward, type RawLine, type RecordFile, recordFiles, timeOf } from './recordfiles.ts';

/** Longer than any line that an agent is just writing. */
const TAIL_BYTES = 64 * 1024;

/** Where the last whole line of a file ends. */
function endOfLines({ path, size }: RecordFile): number {
  let end = Math.max(0, size - TAIL_BYTES);
  for (const line of linesForward(path, size, end)) if (line.whole) end = line.end;
  return end;
}

export class RecordFollower {
  readonly #folder: string;
  /** How much of each file was read. */
  readonly #ends = new Map<string, number>();

  /** @param files those that were read already */
  constructor(folder: string, files: readonly RecordFile[]) {
    this.#folder = folder;
    for (const file of files) this.#ends.set(file.name, endOfLines(file));
  }

  /** The lines that came since the last call. @throws Error with the system's code */
  next(): readonly RawLine[] {
    const found: RawLine[] = [];
    for (const { name, path, size, began } of recordFiles(this.#folder)) {
      let end = this.#ends.get(name) ?? 0;
      if (size <= end) continue;
      for (const line of linesForward(path, size, end)) {
        if (!line.whole) break;
        end = line.end;
        const text = line.bytes.toString();
        found.push({ text, time: timeOf(text, began) });
      }
      this.#ends.set(name, end);
    }
    return found.sort((a, b) => (a.time < b.time ? -1 : a.time > b.time ? 1 : 0));
  }
}
