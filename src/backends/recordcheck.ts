/**
 * Checks the records (docs/records.md, "What a check finds"): each line's hash, each link to the line before, the links
 * between files, and files that should be there. Whoever may write the folder may also write all of it anew: only a hash
 * that was kept elsewhere, or the running agent's, shows that.
 */
import { linesForward, type RecordFile, readBytes } from './recordfiles.ts';
import { isRunning } from './recordfolder.ts';
import { type ChainedRecord, chainOf, hashOfLine, parseRecord, RECORDS_VERSION } from './recordline.ts';

/** Problems that are told one by one; the rest is counted. */
export const MAX_PROBLEMS = 100;
const READ_BYTES = 1024 * 1024;
/** Long enough for every first line: names of files that were taken away are in it. */
const MAX_FIRST_LINE_BYTES = 1024 * 1024;
const LF = 0x0a;
const END_FIELD = Buffer.from('"kind":"end"');
/** The kind stands near the beginning of a line. */
const KIND_BYTES = 160;

export interface Problem {
  readonly file: string;
  /** From 1; undefined: of the whole file. */
  readonly line?: number;
  readonly text: string;
}

export interface CheckResult {
  readonly files: number;
  readonly records: number;
  /** The first MAX_PROBLEMS of them. */
  readonly problems: readonly Problem[];
  readonly problemCount: number;
  /** What is no damage, but good to know. */
  readonly notes: readonly Problem[];
  /** Hash of the last line of the newest file. */
  readonly head: string | null;
  /** Time of the oldest file; null: there is none. */
  readonly since: string | null;
}

/** What an agent that runs says of its own records. */
export interface LiveHead {
  readonly file: string | null;
  readonly head: string | null;
}

interface FileState {
  readonly file: RecordFile;
  readonly header: ChainedRecord | undefined;
  /** Hashes that other files, or the agent, say are in it; found ones are taken out. */
  readonly wanted: Set<string>;
  last: string | undefined;
  isEnded: boolean;
  isCut: boolean;
}

function headerOf({ path, size }: RecordFile): ChainedRecord | undefined {
  let bytes = readBytes(path, 0, Math.min(size, 4096));
  if (bytes.indexOf(LF) < 0 && size > bytes.length) bytes = readBytes(path, 0, Math.min(size, MAX_FIRST_LINE_BYTES));
  const end = bytes.indexOf(LF);
  return end < 0 ? undefined : parseRecord(bytes.toString('utf8', 0, end));
}

const agentOf = (record: ChainedRecord | undefined): string | undefined => record?.id.slice(0, record.id.indexOf('-'));

/**
 * Checks `files`, as recordFiles listed them.
 * @param live the running agent's word, asked for before the files were listed
 * @throws Error with the system's code where a file can't be read
 */
export function checkRecords(files: readonly RecordFile[], live?: LiveHead): CheckResult {
  const check = new Check(files);
  check.run(live);
  return check.result();
}

class Check {
  readonly #files: ReadonlyMap<string, FileState>;
  readonly #problems: Problem[] = [];
  #problemCount = 0;
  readonly #notes: Problem[] = [];
  #records = 0;

  constructor(files: readonly RecordFile[]) {
    this.#files = new Map(
      files.map((file) => [
        file.name,
        { file, header: headerOf(file), wanted: new Set(), last: undefined, isEnded: false, isCut: false },
      ]),
    );
  }

  run(live: LiveHead | undefined): void {
    const states = [...this.#files.values()];
    for (const { header } of states) {
      if (typeof header?.follows === 'string' && header.previous !== null)
        this.#files.get(header.follows)?.wanted.add(header.previous);
    }
    if (live?.head != null && live.file !== null) this.#files.get(live.file)?.wanted.add(live.head);
    for (const state of states) this.#checkLines(state);
    const gone = this.#takenAway(states);
    for (const state of states) this.#checkLink(state, gone);
    this.#checkLive(live);
    this.#checkEnds(states);
  }

  result(): CheckResult {
    const states = [...this.#files.values()];
    return {
      files: states.length,
      records: this.#records,
      problems: this.#problems,
      problemCount: this.#problemCount,
      notes: this.#notes,
      head: states.at(-1)?.last ?? null,
      since: states[0]?.file.began ?? null,
    };
  }

  #problem(file: string, line: number | undefined, text: string): void {
    if (this.#problemCount++ < MAX_PROBLEMS)
      this.#problems.push({ file, ...(line === undefined ? {} : { line }), text });
  }

  #checkLines(state: FileState): void {
    const { file, wanted } = state;
    const { name } = file;
    let number = 0;
    let expected: string | null | undefined;
    for (const { bytes, whole, tooLong } of linesForward(file.path, file.size, 0, READ_BYTES)) {
      number++;
      state.isEnded = false;
      if (!whole) {
        state.isCut = true;
        break;
      }
      this.#records++;
      const chain = tooLong ? undefined : chainOf(bytes);
      if (chain === undefined) {
        this.#problem(name, number, tooLong ? 'too long for a record' : 'no record');
        expected = undefined;
        continue;
      }
      if (number === 1) this.#checkHeader(state);
      else if (expected !== undefined && chain.previous !== expected)
        this.#problem(name, number, 'does not follow the line before it: lines were removed, added or moved');
      if (hashOfLine(bytes) !== chain.hash) this.#problem(name, number, 'was changed: its hash does not fit');
      else if (wanted.size > 0) wanted.delete(chain.hash);
      expected = chain.hash;
      state.last = chain.hash;
      state.isEnded = bytes.subarray(0, KIND_BYTES).includes(END_FIELD);
    }
  }

  #checkHeader({ file, header }: FileState): void {
    if (header?.kind !== 'records' || header.file === undefined)
      this.#problem(file.name, 1, 'is not the first line of a file: lines were removed or moved');
    else if (header.version !== RECORDS_VERSION) this.#problem(file.name, 1, 'is of a version that is not known here');
    else if (header.file !== file.name) this.#problem(file.name, 1, `says that its file is ${header.file}`);
  }

  /** The newest file that was taken away for the bounds: the oldest go first. */
  #takenAway(states: readonly FileState[]): { readonly names: ReadonlySet<string>; readonly upTo: string } {
    const names = new Set<string>();
    for (const { header } of states) {
      if (!Array.isArray(header?.removed)) continue;
      for (const name of header.removed) if (typeof name === 'string') names.add(name);
    }
    return { names, upTo: [...names].sort().at(-1) ?? '' };
  }

  #checkLink({ file, header }: FileState, gone: { readonly names: ReadonlySet<string>; readonly upTo: string }): void {
    const { name } = file;
    if (header?.kind !== 'records' || typeof header.follows !== 'string') return;
    const { follows, previous } = header;
    const before = this.#files.get(follows);
    if (before === undefined) {
      if (!gone.names.has(follows) && follows > gone.upTo)
        this.#problem(name, 1, `the file before it is missing: ${follows}`);
    } else if (previous !== null && before.wanted.has(previous))
      this.#problem(follows, undefined, `the line that ${name} goes on from is missing, or was changed`);
    else if (previous !== null && agentOf(header) === agentOf(before.header) && before.last !== previous)
      this.#problem(follows, undefined, `lines were added behind the one that ${name} goes on from`);
    if (typeof header.reason === 'string')
      this.#notes.push({ file: name, line: 1, text: `goes on from ${follows}: ${header.reason}` });
  }

  #checkLive(live: LiveHead | undefined): void {
    if (live == null || live.file === null || live.head === null) return;
    const state = this.#files.get(live.file);
    if (state === undefined)
      this.#problem(live.file, undefined, 'the running agent writes this file, and it is missing');
    else if (state.wanted.has(live.head))
      this.#problem(live.file, undefined, 'the last line that the running agent wrote is missing, or was changed');
  }

  #checkEnds(states: readonly FileState[]): void {
    const noted = new Set(
      states.flatMap(({ header }) => (header?.cut === true && header.follows ? [header.follows] : [])),
    );
    const goneOn = new Set(
      states.flatMap(({ header }) => {
        const before = header?.follows === undefined ? undefined : this.#files.get(header.follows);
        return before !== undefined && agentOf(before.header) === agentOf(header) ? [before.file.name] : [];
      }),
    );
    for (const { file, isCut, isEnded } of states) {
      const { name, size } = file;
      if (isCut) {
        const text = 'cut: the last line is not whole (a crash, a power loss, or somebody shortened the file)';
        if (noted.has(name)) this.#notes.push({ file: name, text: `${text}; the agent after it said so` });
        else this.#problem(name, undefined, text);
      } else if (size === 0) this.#notes.push({ file: name, text: 'empty: nothing could be written to it' });
      else if (!isEnded && !goneOn.has(name) && !isRunning(file.pid))
        this.#notes.push({
          file: name,
          text: 'its agent did not end it: it was killed, or lines are missing at the end',
        });
    }
  }
}
