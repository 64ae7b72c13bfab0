/**
 * One line of the records (docs/records.md): a JSON object and LF. Its last two fields chain it: `previous` is the hash of
 * the line before it, `hash` the SHA-256 over the line's own bytes without LF and without the field `hash`.
 */
import { hash } from 'node:crypto';
import type { Use } from '../agent/ports.ts';

export const RECORDS_VERSION = 1;

/** A line of more bytes is not read, and never written. */
export const MAX_LINE_BYTES = 1024 * 1024;
/** A line of more characters is written with its texts and lists cut. */
const MAX_FULL_CHARACTERS = 8192;
const MAX_CUT_CHARACTERS = 256;
const MAX_CUT_ENTRIES = 16;

/** What the first line of a file, and other lines of kind 'records', say of the files themselves. */
export interface FileNotes {
  readonly version?: number;
  /** The file's own name, so that a renamed one is noticed. */
  readonly file?: string;
  /** The file that this one goes on from; `previous` is the hash of a line in it. */
  readonly follows?: string;
  /** The file before ends in a line that is not whole. */
  readonly cut?: true;
  /** Files that were taken away to stay below the bounds. */
  readonly removed?: readonly string[];
  /** Records that could not be written, and are gone. */
  readonly lost?: number;
}

/** A use as it is written, and as the control socket tells it. */
export type KeptRecord = { readonly id: string; readonly time: string } & Use & FileNotes;

/** A record as it was read from a line. */
export type ChainedRecord = KeptRecord & { readonly previous: string | null; readonly hash: string };

function cutValue(_key: string, value: unknown): unknown {
  if (typeof value === 'string' && value.length > MAX_CUT_CHARACTERS) return `${value.slice(0, MAX_CUT_CHARACTERS)}…`;
  if (Array.isArray(value) && value.length > MAX_CUT_ENTRIES) return value.slice(0, MAX_CUT_ENTRIES);
  return value;
}

/** A line needs this much more than its object: the two fields and LF. */
const CHAIN_BYTES = 180;
const FIRST_BYTES = 16 * 1024;
/** A buffer that had to grow further is not kept. */
const MAX_KEPT_BYTES = 256 * 1024;
/** UTF-8 needs at most so many bytes for a unit of UTF-16. */
const MAX_UNIT_BYTES = 3;

/** Lines that are written together; one buffer is used again and again. */
export class ChainedLines {
  #buffer: Buffer = Buffer.allocUnsafe(FIRST_BYTES);
  #length = 0;
  #last: string | null = null;

  /** Begins anew, behind the line whose hash is `previous`. */
  start(previous: string | null): void {
    if (this.#buffer.length > MAX_KEPT_BYTES) this.#buffer = Buffer.allocUnsafe(FIRST_BYTES);
    this.#length = 0;
    this.#last = previous;
  }

  add(record: KeptRecord): void {
    let object = JSON.stringify(record);
    if (object.length > MAX_FULL_CHARACTERS) object = JSON.stringify(record, cutValue);
    const from = this.#length;
    this.#reserve(object.length * MAX_UNIT_BYTES + CHAIN_BYTES);
    const buffer = this.#buffer;
    // Over the closing brace; it comes back after the fields.
    let end = from + buffer.write(object, from) - 1;
    end += buffer.write(this.#last === null ? ',"previous":null}' : `,"previous":"${this.#last}"}`, end, 'latin1');
    this.#last = hash('sha256', buffer.subarray(from, end), 'hex');
    this.#length = end - 1 + buffer.write(`,"hash":"${this.#last}"}\n`, end - 1, 'latin1');
  }

  /** Hash of the last line. */
  get last(): string | null {
    return this.#last;
  }

  /** All lines, LF behind each; good until the next call. */
  get bytes(): Uint8Array {
    return this.#buffer.subarray(0, this.#length);
  }

  #reserve(more: number): void {
    if (this.#length + more <= this.#buffer.length) return;
    const grown = Buffer.allocUnsafe(Math.max(this.#length + more, this.#buffer.length * 2));
    this.#buffer.copy(grown, 0, 0, this.#length);
    this.#buffer = grown;
  }
}

/** `,"hash":"` and 64 digits and `"}`. */
const HASH_FIELD_BYTES = 75;
const PREVIOUS_FIELD = /,"previous":(?:null|"([0-9a-f]{64})")$/;
const HASH_FIELD = /^,"hash":"([0-9a-f]{64})"\}$/;
const CLOSING_BRACE = 0x7d;

/** The two fields at the end of a line; undefined where they are not there. */
export function chainOf(line: Buffer): { readonly previous: string | null; readonly hash: string } | undefined {
  const at = line.length - HASH_FIELD_BYTES;
  const own = HASH_FIELD.exec(line.toString('latin1', Math.max(0, at)))?.[1];
  const before = PREVIOUS_FIELD.exec(line.toString('latin1', Math.max(0, at - 80), Math.max(0, at)));
  if (own === undefined || before === null) return undefined;
  return { previous: before[1] ?? null, hash: own };
}

/** The hash that a line with these bytes has to have. The line is changed and put back meanwhile. */
export function hashOfLine(line: Buffer): string {
  const at = line.length - HASH_FIELD_BYTES;
  const byte = line[at] as number;
  line[at] = CLOSING_BRACE;
  const digest = hash('sha256', line.subarray(0, at + 1), 'hex');
  line[at] = byte;
  return digest;
}

const isObject = (value: unknown): boolean => typeof value === 'object' && value !== null && !Array.isArray(value);

/** The record of a line; undefined where it is none. Whatever somebody put in, objects are objects or not there. */
export function parseRecord(line: string): ChainedRecord | undefined {
  let found: unknown;
  try {
    found = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (!isObject(found)) return undefined;
  const record = found as Record<string, unknown>;
  const { id, time, kind, outcome, sentence, hosts } = record;
  if (![id, time, kind, outcome, sentence].every((text) => typeof text === 'string')) return undefined;
  for (const name of ['key', 'peer', 'ground', 'answer']) if (!isObject(record[name])) delete record[name];
  if (!Array.isArray(hosts) || !hosts.every(isObject)) delete record.hosts;
  return record as unknown as ChainedRecord;
}
