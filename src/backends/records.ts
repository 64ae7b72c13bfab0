/**
 * The record of every use (docs/records.md), behind the engine's port: taken in memory, written with one write before an
 * answer leaves, kept for a while for `latchkey why`. A disk that takes nothing is told in the log, and refuses what
 * depends on it unless the owner chose a warning.
 */
import { randomInt } from 'node:crypto';
import type { Log, Records, Use } from '../agent/ports.ts';
import { DEFAULT_FILES } from './recordfolder.ts';
import type { KeptRecord } from './recordline.ts';
import { DEFAULT_FILE_BYTES, LEAST_FILE_BYTES, RecordWriter } from './recordwriter.ts';
import { type Held, mergedUse, Repeats } from './repeats.ts';

export type { KeptRecord } from './recordline.ts';

/** Lines of the file in which `latchkey why` looks for a record through the agent; others it finds in the files itself. */
export const MAX_RECENT_RECORDS = 1000;
/** Records that wait for a disk that takes nothing; then the oldest are lost, and counted. */
export const MAX_PENDING_RECORDS = 1000;
const COMPLAINT_MS = 60_000;
/** A random part of base 36 in front of each id: agents are told apart by it. */
const PREFIX_DIGITS = 4;

export interface RecordsOptions {
  /** What happens to a signature whose record can't be written. */
  readonly unwritable: 'refuse' | 'warn';
  /** Of one file, before the next is begun; at least LEAST_FILE_BYTES. Default: DEFAULT_FILE_BYTES. */
  readonly maxBytes?: number;
  /** As many full files are kept, or more smaller ones that need no more room; at least 1. Default: DEFAULT_FILES. */
  readonly maxFiles?: number;
  readonly log?: Log;
  /** Milliseconds since 1970. */
  readonly now?: () => number;
}

export interface RecordsStatus {
  readonly folder: string;
  readonly file: string | null;
  /** Lines that this agent wrote. */
  readonly records: number;
  /** Hash of the last one. */
  readonly head: string | null;
  /** Since when, and why, nothing can be written; null: all is well. */
  readonly unwritable: string | null;
}

export interface FileRecords extends Records {
  status(): RecordsStatus;
  /** One that waits, or one of the last MAX_RECENT_RECORDS of the file that is being written. */
  recent(id: string): KeptRecord | undefined;
  /** Calls back for each record, after it was written or failed to be. @returns what ends that */
  onUse(callback: (record: KeptRecord) => void): () => void;
  /** Writes what waits and, in a file that was begun, that the agent ends; lets go of the file. */
  close(): void;
}

/** The records in `folder`, which is made when the first one is written. */
export function createRecords(folder: string, options: RecordsOptions): FileRecords {
  return new RecordKeeper(folder, options);
}

class RecordKeeper implements FileRecords {
  readonly #writer: RecordWriter;
  readonly #repeats: Repeats;
  readonly #refuses: boolean;
  readonly #log: Log;
  readonly #now: () => number;
  /** Made with the first id: an agent that nobody used yet has no need of Node's cryptography. */
  #prefix: string | undefined;
  #counter = 0;
  #second = Number.NaN;
  #secondText = '';
  #pending: KeptRecord[] = [];
  /** How many of them, the last ones, those who watch are to be told of, once it is known what became of them. */
  #untold = 0;
  #lost = 0;
  readonly #listeners = new Set<(record: KeptRecord) => void>();
  #timer: NodeJS.Timeout | undefined;
  #isEnded = false;
  #unwritable: string | null = null;
  #complainedAt = Number.NEGATIVE_INFINITY;

  constructor(folder: string, options: RecordsOptions) {
    this.#refuses = options.unwritable === 'refuse';
    this.#log = options.log ?? (() => {});
    this.#now = options.now ?? Date.now;
    const newId = (): string => this.#newId();
    this.#repeats = new Repeats(newId);
    this.#writer = new RecordWriter(folder, {
      maxBytes: Math.max(options.maxBytes ?? DEFAULT_FILE_BYTES, LEAST_FILE_BYTES),
      maxFiles: Math.max(options.maxFiles ?? DEFAULT_FILES, 1),
      now: this.#now,
      newId,
      complain: (text) => this.#log('error', text),
    });
  }

  append(use: Use): string {
    const now = this.#now();
    // Nothing comes after the end: what was held back goes before it.
    this.#isEnded = use.kind === 'end';
    if (this.#isEnded) for (const held of this.#repeats.end()) this.#pushHeld(held);
    const taken = this.#repeats.take(use, now);
    for (const held of taken.before) this.#pushHeld(held);
    if (taken.kind === 'held') {
      this.#wake(now);
      return taken.held.id;
    }
    const record: KeptRecord = { id: this.#newId(), time: this.#timeText(now), ...use };
    this.#push(record);
    return record.id;
  }

  get hasUnwritten(): boolean {
    return this.#pending.length > 0;
  }

  flush(): boolean {
    if (this.#pending.length === 0) return true;
    try {
      if (this.#unwritable !== null) this.#writeFirst();
      this.#writer.write(this.#pending);
    } catch (error) {
      this.#failed(error);
      this.#tell();
      return !this.#refuses;
    }
    this.#tell();
    this.#pending = [];
    if (this.#unwritable !== null) {
      this.#unwritable = null;
      this.#complainedAt = Number.NEGATIVE_INFINITY;
      this.#log('error', `records can be written again in ${this.#writer.folder}`);
    }
    return true;
  }

  status(): RecordsStatus {
    const { folder, file, head, written } = this.#writer;
    return { folder, file: file ?? null, records: written, head, unwritable: this.#unwritable };
  }

  recent(id: string): KeptRecord | undefined {
    const waiting = this.#pending.find((record) => record.id === id);
    if (waiting !== undefined) return waiting;
    const held = this.#repeats.held().find((one) => one.id === id);
    return held === undefined ? this.#writer.latest(id, MAX_RECENT_RECORDS) : heldRecord(held);
  }

  onUse(callback: (record: KeptRecord) => void): () => void {
    this.#listeners.add(callback);
    return () => this.#listeners.delete(callback);
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const held of this.#repeats.end()) this.#pushHeld(held);
    // A file that lacks it was left by an agent that was killed, or lost its last lines.
    if (this.#writer.isOpen && !this.#isEnded)
      this.append({ kind: 'end', outcome: 'allowed', sentence: 'the agent ends', forwarded: false });
    this.flush();
    this.#writer.close();
  }

  #newId(): string {
    this.#prefix ??= randomInt(36 ** PREFIX_DIGITS)
      .toString(36)
      .padStart(PREFIX_DIGITS, '0');
    return `${this.#prefix}-${this.#counter++}`;
  }

  /** ISO time: the part down to the second is made once a second, since it costs as much as a hash. */
  #timeText(milliseconds: number): string {
    const second = Math.floor(milliseconds / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#secondText = new Date(second * 1000).toISOString().slice(0, -4);
    }
    return `${this.#secondText}${String(Math.floor(milliseconds - second * 1000)).padStart(3, '0')}Z`;
  }

  #push(record: KeptRecord): void {
    if (this.#pending.length >= MAX_PENDING_RECORDS) this.#drop(1);
    this.#pending.push(record);
    this.#untold++;
  }

  #pushHeld(held: Held): void {
    this.#push(heldRecord(held));
  }

  /** Tries a disk that failed with one line before all that waits is made into lines. */
  #writeFirst(): void {
    this.#writer.write([this.#lost > 0 ? this.#lostRecord() : (this.#pending[0] as KeptRecord)]);
    if (this.#lost === 0) this.#pending.shift();
    this.#lost = 0;
  }

  #drop(count: number): void {
    this.#pending.splice(0, count);
    this.#lost += count;
  }

  /** Writes what was held back, when it is time. */
  #wake(now: number): void {
    if (this.#timer !== undefined) return;
    const wait = this.#repeats.wait(now);
    if (wait === undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      const then = this.#now();
      for (const held of this.#repeats.due(then)) this.#pushHeld(held);
      this.flush();
      this.#wake(then);
    }, wait);
    this.#timer.unref();
  }

  #failed(error: unknown): void {
    const { code = 'unknown error' } = error as NodeJS.ErrnoException;
    const now = this.#now();
    const time = new Date(now).toISOString();
    this.#unwritable ??= `${code}, since ${time}`;
    if (this.#refuses) this.#pending = this.#pending.map((record) => this.#refused(record, code));
    if (Math.abs(now - this.#complainedAt) < COMPLAINT_MS) return;
    this.#complainedAt = now;
    const what = this.#refuses ? 'signatures are REFUSED until they can' : 'signatures go on WITHOUT A RECORD';
    this.#log('error', `records can't be written in ${this.#writer.folder} (${code}): ${what}`);
  }

  /** A signature that never left, since its record could not be written: what is written later has to say so. */
  #refused(record: KeptRecord, code: string): KeptRecord {
    if (record.kind !== 'sign' || record.outcome !== 'allowed') return record;
    return { ...record, outcome: 'failed', reason: `its record could not be written: ${code}` };
  }

  #lostRecord(): KeptRecord {
    return {
      id: this.#newId(),
      time: new Date(this.#now()).toISOString(),
      kind: 'records',
      outcome: 'failed',
      sentence: `${this.#lost} records are lost: they could not be written`,
      forwarded: false,
      reason: this.#unwritable ?? 'too many at once',
      lost: this.#lost,
    };
  }

  #tell(): void {
    const records = this.#untold === 0 || this.#listeners.size === 0 ? [] : this.#pending.slice(-this.#untold);
    this.#untold = 0;
    for (const record of records) for (const listener of this.#listeners) listener(record);
  }
}

function heldRecord(held: Held): KeptRecord {
  return { id: held.id, time: new Date(held.time).toISOString(), ...mergedUse(held) };
}
