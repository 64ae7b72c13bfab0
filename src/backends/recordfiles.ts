/**
 * Reads the files of records: which there are, their lines from either end, and all of them merged by time. No file stays
 * open between two reads, so a thousand files cost no descriptors. Checking them is recordcheck.ts's.
 */
import { closeSync, constants, lstatSync, openSync, readdirSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { MAX_LINE_BYTES } from './recordline.ts';

export interface RecordFile {
  readonly name: string;
  readonly path: string;
  /** When it was listed; what was appended later is not read. */
  readonly size: number;
  /** ISO times between which its lines were written. */
  readonly began: string;
  readonly ended: string;
  readonly pid: number;
}

/** A line as it was read: not yet parsed. */
export interface RawLine {
  readonly text: string;
  /** Its time; that of the line before where it has none. */
  readonly time: string;
}

/** <UTC time>-<pid>-<number>.jsonl */
const NAME = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d\.\d{3})Z-(\d{1,10})-(\d{1,9})\.jsonl$/;
const READ_BYTES = 64 * 1024;
const LF = 0x0a;
/** The kernel stamps files with a clock that may be some milliseconds late. */
const STAMP_SLACK_MS = 1000;

/** @param milliseconds since 1970 */
export function recordFileName(milliseconds: number, pid: number, number: number): string {
  return `${new Date(milliseconds).toISOString().replace(/[-:]/g, '')}-${pid}-${number}.jsonl`;
}

/** Whether `name` is a file of records, and when it was begun. */
function beginning(name: string): { readonly began: string; readonly pid: number } | undefined {
  const parts = NAME.exec(name);
  if (parts === null) return undefined;
  const [, year, month, day, hour, minute, second, pid] = parts;
  return { began: `${year}-${month}-${day}T${hour}:${minute}:${second}Z`, pid: Number(pid) };
}

/** Orders names by time, then by number; numbers have no leading zeros. */
export function compareNames(a: string, b: string): number {
  const [x, y] = [NAME.exec(a), NAME.exec(b)];
  if (x === null || y === null) return a < b ? -1 : a > b ? 1 : 0;
  const [beganA, beganB] = [a.slice(0, a.indexOf('-')), b.slice(0, b.indexOf('-'))];
  if (beganA !== beganB) return beganA < beganB ? -1 : 1;
  return Number(x[7]) - Number(y[7]) || Number(x[8]) - Number(y[8]);
}

/** The files of `folder`, oldest first; none where there is no such folder. @throws Error with the system's code */
export function recordFiles(folder: string): RecordFile[] {
  let names: readonly string[];
  try {
    names = readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  const files: RecordFile[] = [];
  for (const name of names) {
    const begun = beginning(name);
    if (begun === undefined) continue;
    const path = join(folder, name);
    try {
      const { size, mtimeMs, ...stats } = lstatSync(path);
      if ((stats.mode & constants.S_IFMT) !== constants.S_IFREG) continue;
      const ended = new Date(Math.max(mtimeMs + STAMP_SLACK_MS, Date.parse(begun.began) || 0)).toISOString();
      files.push({ name, path, size, ...begun, ended });
    } catch {
      // Gone since the folder was read: an agent removed the oldest.
    }
  }
  return files.sort((a, b) => compareNames(a.name, b.name));
}

/** Up to `length` bytes at `at`; fewer at the end of the file, and none where it is gone. */
export function readBytes(path: string, at: number, length: number): Buffer {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return Buffer.alloc(0);
    throw error;
  }
  try {
    const bytes = Buffer.allocUnsafe(length);
    let got = 0;
    while (got < length) {
      const more = readSync(fd, bytes, got, length - got, at + got);
      if (more === 0) break;
      got += more;
    }
    return bytes.subarray(0, got);
  } finally {
    closeSync(fd);
  }
}

/** One line's bytes, without LF; valid until the next one is taken. */
export interface LineBytes {
  readonly bytes: Buffer;
  /** It has its LF; only the last one of a file may lack it. */
  readonly whole: boolean;
  /** Longer than MAX_LINE_BYTES: `bytes` is empty. */
  readonly tooLong: boolean;
  /** Where in the file it ends, LF included. */
  readonly end: number;
}

/** The lines of a file from `from` to `size`, in order. */
export function* linesForward(path: string, size: number, from = 0, step = READ_BYTES): Generator<LineBytes> {
  let rest: Buffer = Buffer.alloc(0);
  let skipping = false;
  for (let at = from; at < size; ) {
    const chunk = readBytes(path, at, Math.min(step, size - at));
    if (chunk.length === 0) break;
    const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    const base = at - rest.length;
    at += chunk.length;
    let start = 0;
    for (let end = bytes.indexOf(LF); end >= 0; end = bytes.indexOf(LF, start)) {
      const tooLong = skipping || end - start > MAX_LINE_BYTES;
      skipping = false;
      yield { bytes: bytes.subarray(start, tooLong ? start : end), whole: true, tooLong, end: base + end + 1 };
      start = end + 1;
    }
    rest = bytes.subarray(start);
    if (rest.length <= MAX_LINE_BYTES) continue;
    skipping = true;
    rest = Buffer.alloc(0);
  }
  if (skipping || rest.length > 0) yield { bytes: rest, whole: false, tooLong: skipping, end: size };
}

/** The whole lines of a file, last one first; what stands behind the last LF, and lines that are too long, are left out. */
export function* linesBackward(path: string, size: number): Generator<Buffer> {
  // Bytes between `at` and the last LF that was met.
  let rest: Buffer = Buffer.alloc(0);
  let isBehindLf = false;
  for (let at = size; at > 0; ) {
    const from = Math.max(0, at - READ_BYTES);
    const chunk = readBytes(path, from, at - from);
    if (chunk.length < at - from) return;
    at = from;
    let end = chunk.length;
    for (let lf = chunk.lastIndexOf(LF); lf >= 0; lf = end === 0 ? -1 : chunk.lastIndexOf(LF, end - 1)) {
      if (isBehindLf)
        yield rest.length === 0 ? chunk.subarray(lf + 1, end) : Buffer.concat([chunk.subarray(lf + 1, end), rest]);
      isBehindLf = true;
      rest = Buffer.alloc(0);
      end = lf;
    }
    const head = chunk.subarray(0, end);
    if (rest.length + head.length > MAX_LINE_BYTES) {
      isBehindLf = false;
      rest = Buffer.alloc(0);
    } else if (isBehindLf) rest = Buffer.concat([head, rest]);
  }
  if (isBehindLf) yield rest;
}

/** The last whole line of a file, and whether something that is no line stands behind it. */
export function lastLine(path: string, size: number): { readonly line: Buffer | undefined; readonly cut: boolean } {
  const line = linesBackward(path, size).next().value;
  const behind = readBytes(path, Math.max(0, size - 1), 1);
  return { line: line === undefined ? undefined : Buffer.from(line), cut: behind.length > 0 && behind[0] !== LF };
}

/** How our own lines begin; others are parsed. */
const BEGINNING = /^\{"id":"[^"\\]{1,64}","time":"(\d{4}-[^"\\]{1,26}Z)"/;

/** The time that a line has; `otherwise` where it has none. */
export function timeOf(text: string, otherwise: string): string {
  const found = BEGINNING.exec(text)?.[1];
  if (found !== undefined) return found;
  try {
    const { time } = JSON.parse(text) as { time?: unknown };
    return typeof time === 'string' ? time : otherwise;
  } catch {
    return otherwise;
  }
}

function* rawLines(file: RecordFile, newestFirst: boolean): Generator<RawLine> {
  let time = newestFirst ? file.ended : file.began;
  if (newestFirst) {
    for (const bytes of linesBackward(file.path, file.size)) {
      const text = bytes.toString();
      time = timeOf(text, time);
      yield { text, time };
    }
    return;
  }
  for (const { bytes, whole } of linesForward(file.path, file.size)) {
    if (!whole) return;
    const text = bytes.toString();
    time = timeOf(text, time);
    yield { text, time };
  }
}

/** The lines of all `files`, merged by time. Lines of one file keep their order, whatever their times say. */
export function* mergedLines(files: readonly RecordFile[], newestFirst = false): Generator<RawLine> {
  const isBefore = (a: string, b: string): boolean => (newestFirst ? a > b : a < b);
  const bound = ({ began, ended }: RecordFile): string => (newestFirst ? ended : began);
  const waiting = [...files].sort((a, b) => (bound(a) === bound(b) ? 0 : isBefore(bound(a), bound(b)) ? -1 : 1));
  const open: { readonly lines: Generator<RawLine>; next: RawLine }[] = [];
  for (let at = 0; ; ) {
    let first = open[0];
    for (const source of open) if (first !== undefined && isBefore(source.next.time, first.next.time)) first = source;
    const unopened = waiting[at];
    if (unopened !== undefined && (first === undefined || !isBefore(first.next.time, bound(unopened)))) {
      at++;
      const lines = rawLines(unopened, newestFirst);
      const { value } = lines.next();
      if (value !== undefined) open.push({ lines, next: value });
      continue;
    }
    if (first === undefined) return;
    yield first.next;
    const { value } = first.lines.next();
    if (value === undefined) open.splice(open.indexOf(first), 1);
    else first.next = value;
  }
}
