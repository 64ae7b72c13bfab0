/**
 * Appends lines to the files of records: each agent has files of its own, so that no line of one is torn by another. Keeps
 * the chain, begins new files (full, lost, changed by somebody), takes the oldest away, and leaves no half line behind.
 * There is no fsync: what the kernel has taken outlives the agent, not a power loss.
 */
import { closeSync, constants, fstatSync, ftruncateSync, lstatSync, openSync, unlinkSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { linesBackward, type RecordFile, recordFileName, recordFiles } from './recordfiles.ts';
import { codeOf, newestLine, prepareFolder, surplusFiles } from './recordfolder.ts';
import { ChainedLines, type KeptRecord, parseRecord, RECORDS_VERSION } from './recordline.ts';

/** A file that reached its size is followed by a new one. */
export const DEFAULT_FILE_BYTES = 10 * 1024 * 1024;
export const LEAST_FILE_BYTES = 64 * 1024;
/** How often a file is looked at: whether it is still there, and as we left it. */
const LOOK_MS = 1000;
/** Names that are tried for a new file. */
const MAX_NAMES = 16;

export interface WriterOptions {
  /** Of one file. */
  readonly maxBytes: number;
  /** As many full files are kept. */
  readonly maxFiles: number;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  readonly newId: () => string;
  /** Told of what could not be taken away, and of what somebody else did to a file. */
  readonly complain: (text: string) => void;
}

interface OpenFile {
  readonly fd: number;
  readonly name: string;
  readonly path: string;
  /** What was written, in bytes. */
  size: number;
  lookedAt: number;
}

interface Header {
  readonly record: KeptRecord;
  readonly previous: string | null;
  /** Files that go once the line is written. */
  readonly remove: readonly string[];
}

/** Why a new file is begun, for its first line. */
type Beginning = 'start' | 'full' | { readonly lost: string };

/** Errors after which the file itself is as good as before. */
const FULL_DISK: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT']);

export class RecordWriter {
  readonly folder: string;
  readonly #options: WriterOptions;
  readonly #lines = new ChainedLines();
  #open: OpenFile | undefined;
  /** The first line of a file that has none yet. */
  #header: Header | undefined;
  #head: string | null = null;
  #file: string | undefined;
  #number = 0;
  #written = 0;
  #beginning: Beginning = 'start';
  /** The last file ends in half a line that could not be taken back. */
  #isCut = false;

  constructor(folder: string, options: WriterOptions) {
    this.folder = folder;
    this.#options = options;
  }

  /** Hash of the last line that was written. */
  get head(): string | null {
    return this.#head;
  }

  /** Name of the last file that has a line of ours. */
  get file(): string | undefined {
    return this.#file;
  }

  /** Whether a file with lines of ours is being written. */
  get isOpen(): boolean {
    return this.#open !== undefined && this.#open.size > 0;
  }

  /** Lines written by this agent. */
  get written(): number {
    return this.#written;
  }

  /** The record by that id among the last `lines` of the file that is being written. */
  latest(id: string, lines: number): KeptRecord | undefined {
    if (this.#open === undefined) return undefined;
    const beginning = `{"id":${JSON.stringify(id)},`;
    let left = lines;
    for (const line of linesBackward(this.#open.path, this.#open.size)) {
      if (line.toString('utf8', 0, beginning.length) === beginning) return parseRecord(line.toString());
      if (--left === 0) break;
    }
    return undefined;
  }

  /** Writes all of `records`, or none. @throws Error with the system's code */
  write(records: readonly KeptRecord[]): void {
    this.#look();
    try {
      this.#writeOnce(records);
    } catch (error) {
      // A file that can't be written any more may have a successor that can; a full disk is full for that one too.
      if (this.#open !== undefined || FULL_DISK.has(codeOf(error))) throw error;
      this.#writeOnce(records);
    }
  }

  close(): void {
    const open = this.#open;
    this.#leave();
    if (open === undefined || open.size > 0) return;
    try {
      unlinkSync(open.path);
    } catch {
      // It held nothing.
    }
  }

  #writeOnce(records: readonly KeptRecord[]): void {
    const open = this.#open ?? this.#begin();
    const header = this.#header;
    const lines = this.#lines;
    lines.start(header === undefined ? this.#head : header.previous);
    if (header !== undefined) lines.add(header.record);
    for (const record of records) lines.add(record);
    this.#put(open, lines.bytes);
    this.#head = lines.last;
    this.#written += records.length;
    if (header === undefined) return;
    this.#header = undefined;
    this.#isCut = false;
    this.#written++;
    this.#file = open.name;
    this.#remove(header.remove);
  }

  /** Appends `bytes` whole, or leaves the file as it was. */
  #put(open: OpenFile, bytes: Uint8Array): void {
    let done = 0;
    try {
      while (done < bytes.length) done += writeSync(open.fd, bytes, done);
      open.size += done;
    } catch (error) {
      if (!this.#takeBack(open)) this.#isCut = done > 0;
      else if (FULL_DISK.has(codeOf(error))) throw error;
      // Too big for the system, or the disk fails: the next file may fare better.
      this.#abandon(`it could not be written: ${codeOf(error)}`);
      throw error;
    }
  }

  /** Cuts off what was half written. */
  #takeBack({ fd, size }: OpenFile): boolean {
    try {
      ftruncateSync(fd, size);
      return true;
    } catch {
      return false;
    }
  }

  #leave(): void {
    if (this.#open === undefined) return;
    try {
      closeSync(this.#open.fd);
    } catch {
      // Whatever it was, nothing is left to be written there.
    }
    this.#open = undefined;
    this.#header = undefined;
  }

  #abandon(lost: string): void {
    const isBegun = this.#open !== undefined && this.#open.size > 0;
    this.close();
    if (isBegun) this.#beginning = { lost };
  }

  /** Leaves the file where it is full, or not as it was left. */
  #look(): void {
    const open = this.#open;
    if (open === undefined) return;
    const now = this.#options.now();
    if (open.size >= this.#options.maxBytes) {
      this.#leave();
      this.#beginning = 'full';
    } else if (now - open.lookedAt >= LOOK_MS || now < open.lookedAt) {
      open.lookedAt = now;
      const what = this.#harm(open);
      if (what === undefined) return;
      this.#options.complain(`records: ${open.name}: ${what} by something else; a new file is begun`);
      this.#abandon(`${what} by something else`);
    }
  }

  #harm(open: OpenFile): string | undefined {
    try {
      const mine = fstatSync(open.fd);
      if (mine.nlink === 0) return 'it was removed';
      const there = lstatSync(open.path);
      if (there.ino !== mine.ino || there.dev !== mine.dev) return 'it was replaced';
      return mine.size === open.size ? undefined : 'it was changed';
    } catch (error) {
      return codeOf(error) === 'ENOENT' ? 'it was moved or removed' : `it was put out of reach (${codeOf(error)})`;
    }
  }

  /** A new file, whose first line is not written yet. */
  #begin(): OpenFile {
    const { folder } = this;
    prepareFolder(folder);
    const present = recordFiles(folder);
    const time = this.#options.now();
    let fd: number | undefined;
    let name = '';
    for (let tries = 0; fd === undefined; tries++) {
      name = recordFileName(time, process.pid, this.#number++);
      try {
        const { O_WRONLY, O_APPEND, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
        fd = openSync(join(folder, name), O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
      } catch (error) {
        // Another agent of the same pid, in another container, shares the folder.
        if (codeOf(error) !== 'EEXIST' || tries >= MAX_NAMES) throw error;
      }
    }
    const open = { fd, name, path: join(folder, name), size: 0, lookedAt: time };
    this.#open = open;
    this.#header = this.#firstLine(name, time, present);
    return open;
  }

  #firstLine(name: string, time: number, present: readonly RecordFile[]): Header {
    const remove = surplusFiles(present, this.#options.maxBytes, this.#options.maxFiles);
    const link =
      this.#file === undefined
        ? newestLine(present, this.#options.complain)
        : { follows: this.#file, previous: this.#head, cut: this.#isCut };
    const beginning = this.#beginning;
    const sentence =
      beginning === 'start'
        ? 'records of an agent begin'
        : beginning === 'full'
          ? 'records go on: the file before is full'
          : 'records go on: the file before is lost';
    const record: KeptRecord = {
      id: this.#options.newId(),
      time: new Date(time).toISOString(),
      kind: 'records',
      outcome: 'allowed',
      sentence: remove.length > 0 ? `${sentence}; the oldest ${remove.length} are taken away` : sentence,
      forwarded: false,
      version: RECORDS_VERSION,
      file: name,
      ...(link.follows === undefined ? {} : { follows: link.follows }),
      ...(link.cut ? { cut: true } : {}),
      ...(remove.length > 0 ? { removed: remove } : {}),
      ...(typeof beginning === 'object' ? { reason: beginning.lost } : {}),
    };
    return { record, previous: link.previous, remove };
  }

  /** After the line that says so: a file that is gone without a word would look like one that was stolen. */
  #remove(names: readonly string[]): void {
    for (const name of names) {
      try {
        unlinkSync(join(this.folder, name));
      } catch (error) {
        if (codeOf(error) !== 'ENOENT') this.#options.complain(`records: ${name} can't be removed (${codeOf(error)})`);
      }
    }
  }
}
