/** The folder of records, beyond the file that is being written: its safety, the newest line in it, and what is too much. */
import { chmodSync, lstatSync, mkdirSync } from 'node:fs';
import { lastLine, type RecordFile } from './recordfiles.ts';
import { chainOf, hashOfLine } from './recordline.ts';

/** As many full files are kept, or more smaller ones that need no more room; the oldest go. */
export const DEFAULT_FILES = 20;
/** Files, however small: each agent has one of its own at least. */
export const MAX_SMALL_FILES = 1024;

export const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? 'unknown error';

export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return codeOf(error) === 'EPERM';
  }
}

/** Makes the folder, and keeps it private. @throws Error with a code where it is not ours alone */
export function prepareFolder(folder: string): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const stats = lstatSync(folder);
  const refuse = (why: string): never => {
    throw Object.assign(new Error(`${folder} ${why}`), { code: 'EACCES' });
  };
  if (!stats.isDirectory()) refuse('is no folder');
  if (stats.uid !== process.geteuid?.()) refuse('belongs to somebody else');
  if ((stats.mode & 0o077) !== 0) chmodSync(folder, 0o700);
}

/** What a new file goes on from. */
export interface Link {
  readonly follows?: string;
  readonly previous: string | null;
  readonly cut: boolean;
}

/** The last line of the newest file that has one, of whatever agent. */
export function newestLine(present: readonly RecordFile[], complain: (text: string) => void): Link {
  for (const { name, path, size } of [...present].reverse()) {
    if (size === 0) continue;
    try {
      const { line, cut } = lastLine(path, size);
      const chain = line === undefined ? undefined : chainOf(line);
      if (line === undefined || chain === undefined || hashOfLine(line) !== chain.hash) continue;
      return { follows: name, previous: chain.hash, cut };
    } catch (error) {
      complain(`records: ${name} can't be read (${codeOf(error)})`);
    }
  }
  return { previous: null, cut: false };
}

/** The oldest files that have to go for a new one; those that another running agent writes stay. */
export function surplusFiles(present: readonly RecordFile[], maxBytes: number, maxFiles: number): string[] {
  const last = new Map(present.map(({ pid, name }) => [pid, name]));
  // The new one will be full some day.
  let bytes = present.reduce((sum, { size }) => sum + Math.min(size, maxBytes), maxBytes);
  let files = present.length + 1;
  const surplus: string[] = [];
  for (const { name, size, pid } of present) {
    if (bytes <= maxBytes * maxFiles && files <= Math.max(maxFiles, MAX_SMALL_FILES)) break;
    if (last.get(pid) === name && pid !== process.pid && isRunning(pid)) continue;
    surplus.push(name);
    bytes -= Math.min(size, maxBytes);
    files--;
  }
  return surplus;
}
