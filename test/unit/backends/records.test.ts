import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Use } from '../../../src/agent/ports.ts';
import { checkRecords } from '../../../src/backends/recordcheck.ts';
import { linesBackward, linesForward, mergedLines, recordFiles } from '../../../src/backends/recordfiles.ts';
import { createRecords, type FileRecords, type RecordsOptions } from '../../../src/backends/records.ts';

let home: string;
let folder: string;
let opened: FileRecords[];
let said: string[];
let time: number;

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'latchkey-records-'));
  folder = join(home, 'state', 'records');
  opened = [];
  said = [];
  time = Date.UTC(2026, 10, 22, 21, 50, 3, 120);
});

afterEach(() => {
  for (const records of opened) records.close();
  rmSync(home, { recursive: true, force: true });
});

function open(options: Partial<RecordsOptions> = {}): FileRecords {
  const records = createRecords(folder, {
    unwritable: 'refuse',
    log: (_level, text) => said.push(text),
    now: () => time++,
    ...options,
  });
  opened.push(records);
  return records;
}

function use(sentence: string, more: Partial<Use> = {}): Use {
  return { kind: 'sign', outcome: 'allowed', sentence, forwarded: false, ...more };
}

/** Writes a record for each sentence. @returns their ids */
function write(records: FileRecords, ...sentences: readonly string[]): string[] {
  return sentences.map((sentence) => {
    const id = records.append(use(sentence));
    expect(records.flush()).toBe(true);
    return id;
  });
}

type Line = Record<string, unknown>;
const names = (): string[] => readdirSync(folder).sort();
const path = (index: number): string => join(folder, names()[index] as string);
const linesOf = (file: string): string[] => readFileSync(file, 'utf8').split('\n').slice(0, -1);
const parsed = (file: string): Line[] => linesOf(file).map((line) => JSON.parse(line));
const sentences = (file: string): unknown[] => parsed(file).map(({ sentence }) => sentence);

/** What a check finds, as 'line: text'. */
function found(...live: Parameters<typeof checkRecords> extends [unknown, (infer Live)?] ? [Live?] : never): string[] {
  return checkRecords(recordFiles(folder), ...live).problems.map(({ line, text }) => `${line ?? '-'}: ${text}`);
}

/** A chained line, made here by hand. */
function line(object: Line, previous: string | null): { text: string; hash: string } {
  const body = JSON.stringify({ ...object, previous });
  const hash = createHash('sha256').update(body).digest('hex');
  return { text: `${body.slice(0, -1)},"hash":"${hash}"}\n`, hash };
}

describe('a record', () => {
  it('is a line of JSON in a private file of a private folder', () => {
    const records = open();
    const [id] = write(records, 'log in as git on github.com');
    expect(names()).toEqual([`20261122T215003.${names()[0]?.slice(16, 19)}Z-${process.pid}-0.jsonl`]);
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    expect(statSync(path(0)).mode & 0o777).toBe(0o600);
    expect(parsed(path(0))[1]).toEqual({
      id,
      time: expect.stringMatching(/^2026-11-22T21:50:03\.\d{3}Z$/),
      ...use('log in as git on github.com'),
      previous: parsed(path(0))[0]?.hash,
      hash: expect.stringMatching(/^[0-9a-f]{64}$/),
    });
    expect(id).toMatch(/^[0-9a-z]{4}-\d+$/);
  });

  it('has the hash that sed and sha256sum find', () => {
    write(open(), 'naïve „text“ \u202e \ud800 \n \u0000');
    const shell = `sed -n '2s/,"hash":"[0-9a-f]*"}$/}/p' "$1" | tr -d '\\n' | sha256sum`;
    const { stdout } = spawnSync('sh', ['-c', shell, 'sh', path(0)], { encoding: 'utf8' });
    expect(stdout.slice(0, 64)).toBe(parsed(path(0))[1]?.hash);
    expect(found()).toEqual([]);
  });

  it('is written before flush returns, and no file is made before the first', () => {
    const records = open();
    expect(records.status()).toMatchObject({ folder, file: null, records: 0, head: null, unwritable: null });
    expect(records.flush()).toBe(true);
    expect(() => readdirSync(folder)).toThrow();
    records.append(use('one'));
    records.append(use('two'));
    expect(records.flush()).toBe(true);
    expect(sentences(path(0)).slice(1)).toEqual(['one', 'two']);
    const head = parsed(path(0)).at(-1)?.hash;
    expect(records.status()).toEqual({ folder, file: names()[0], records: 3, head, unwritable: null });
  });

  it('with endless texts is cut', () => {
    const programs = Array.from({ length: 1000 }, () => 'x'.repeat(1000));
    const records = open();
    records.append(use('y'.repeat(1e6), { peer: { uid: 0, pid: 1, programs } }));
    records.flush();
    const [, written] = linesOf(path(0));
    expect(written?.length).toBeLessThan(8192);
    expect(written).toContain('yyy…');
    expect(found()).toEqual([]);
  });

  it('can be asked for by its id while it is recent', () => {
    const records = open();
    const [first = '', ...ids] = write(records, ...Array.from({ length: 1001 }, (_, i) => `use ${i}`));
    expect(records.recent(ids[0] as string)).toMatchObject({ id: ids[0], sentence: 'use 1' });
    expect(records.recent(ids.at(-1) as string)).toMatchObject({ sentence: 'use 1000' });
    expect(records.recent(first)).toBeUndefined();
    for (const id of ['', 'x', 'zzzz-0', `${first}x`, '-1', 'abcd--1']) expect(records.recent(id)).toBeUndefined();
  });

  it('is told to who watches, after it was written', () => {
    const records = open();
    const told: unknown[] = [];
    const end = records.onUse(({ sentence }) => told.push([sentence, linesOf(path(0)).length]));
    write(records, 'one', 'two');
    end();
    write(records, 'three');
    expect(told).toEqual([
      ['one', 2],
      ['two', 3],
    ]);
  });
});

describe('a check', () => {
  /** The first file of an agent with five records, and a second agent's. */
  function twoFiles(): void {
    write(open(), 'one', 'two', 'three', 'four', 'five');
    write(open(), 'six');
  }

  function edit(change: (lines: string[]) => readonly string[], index = 0): void {
    const lines = linesOf(path(index));
    writeFileSync(
      path(index),
      change(lines)
        .map((text) => `${text}\n`)
        .join(''),
    );
  }

  const broken = 'does not follow the line before it: lines were removed, added or moved';
  const changed = 'was changed: its hash does not fit';

  it('finds nothing where nothing was done', () => {
    twoFiles();
    const result = checkRecords(recordFiles(folder));
    expect(result).toMatchObject({ files: 2, records: 8, problemCount: 0, notes: [] });
    expect(result.head).toBe(parsed(path(1)).at(-1)?.hash);
  });

  it('believes a chain that was made by other means', () => {
    mkdirSync(folder, { recursive: true });
    const name = '20261122T100000.000Z-1-0.jsonl';
    const about = { time: '2026-11-22T10:00:00.000Z', outcome: 'allowed', forwarded: false };
    const first = line({ id: 'aaaa-0', ...about, kind: 'records', sentence: 'begin', version: 1, file: name }, null);
    const second = line({ id: 'aaaa-1', ...about, kind: 'end', sentence: 'end' }, first.hash);
    writeFileSync(join(folder, name), first.text + second.text);
    expect(checkRecords(recordFiles(folder))).toMatchObject({ records: 2, problems: [], notes: [], head: second.hash });
  });

  it.each<[string, (lines: string[]) => readonly string[], readonly string[]]>([
    ['an edited line', (l) => l.map((x) => x.replace('two', 'TWO')), [`3: ${changed}`]],
    ['a removed line', (l) => l.toSpliced(2, 1), [`3: ${broken}`]],
    [
      'swapped lines',
      (l) => l.toSpliced(2, 2, l[3] as string, l[2] as string),
      [`3: ${broken}`, `4: ${broken}`, `5: ${broken}`],
    ],
    ['a repeated line', (l) => l.toSpliced(3, 0, l[2] as string), [`4: ${broken}`]],
    ['a foreign line', (l) => l.toSpliced(3, 0, '{"id":"x"}'), ['4: no record']],
    ['an empty line', (l) => l.toSpliced(3, 0, ''), ['4: no record']],
    ['a line in which only the hash was made to fit', (l) => l.with(2, rehashed(l[2] as string)), [`4: ${broken}`]],
    ['a removed first line', (l) => l.slice(1), ['1: is not the first line of a file: lines were removed or moved']],
    ['removed last lines', (l) => l.slice(0, 4), [`-: the line that SECOND goes on from is missing, or was changed`]],
    ['no line left', () => [], ['-: the line that SECOND goes on from is missing, or was changed']],
  ])('finds %s', (_what, change, problems) => {
    twoFiles();
    edit(change);
    expect(found()).toEqual(problems.map((text) => text.replace('SECOND', names()[1] as string)));
  });

  function rehashed(text: string): string {
    const { hash: _, previous, ...object } = JSON.parse(text.replace('two', 'TWO'));
    return line(object, previous).text.trimEnd();
  }

  it('names file and line', () => {
    twoFiles();
    edit((l) => l.map((x) => x.replace('two', 'TWO')));
    expect(checkRecords(recordFiles(folder)).problems).toEqual([{ file: names()[0], line: 3, text: changed }]);
  });

  it('finds a file that is missing, and one under another name', () => {
    twoFiles();
    const [first = '', second = ''] = names();
    renameSync(join(folder, first), join(home, first));
    expect(found()).toEqual([`1: the file before it is missing: ${first}`]);
    renameSync(join(home, first), join(folder, first));
    renameSync(join(folder, second), join(folder, second.replace('-0.', '-7.')));
    expect(found()).toEqual([`1: says that its file is ${second}`]);
  });

  it('finds a line that was cut, unless the next agent said so', () => {
    write(open(), 'one', 'two');
    truncateSync(path(0), statSync(path(0)).size - 10);
    expect(found()).toEqual([
      '-: cut: the last line is not whole (a crash, a power loss, or somebody shortened the file)',
    ]);
    write(open(), 'three');
    const { problems, notes } = checkRecords(recordFiles(folder));
    expect(problems).toEqual([]);
    expect(notes.map(({ text }) => text)).toEqual([expect.stringContaining('the agent after it said so')]);
  });

  it('finds lines that were added behind the last one of a full file', () => {
    const records = open({ maxBytes: 64 * 1024 });
    for (let i = 0; i < 200; i++) write(records, 'x'.repeat(300));
    expect(names().length).toBeGreaterThan(1);
    const last = parsed(path(0)).at(-1) as Line;
    appendFileSync(
      path(0),
      line({ ...parsed(path(0))[1], previous: undefined, hash: undefined }, String(last.hash)).text,
    );
    expect(found()).toEqual([`-: lines were added behind the one that ${names()[1]} goes on from`]);
  });

  it('compares with what the running agent says', () => {
    const records = open();
    write(records, 'one', 'two');
    const live = records.status();
    expect(found(live)).toEqual([]);
    edit((l) => l.slice(0, 2));
    expect(found(live)).toEqual(['-: the last line that the running agent wrote is missing, or was changed']);
    rmSync(path(0));
    expect(found(live)).toEqual(['-: the running agent writes this file, and it is missing']);
  });

  it('tells at most a hundred of many problems, and counts them all', () => {
    write(open(), ...Array.from({ length: 200 }, () => 'x'));
    edit((l) => l.map((x) => x.replace('"x"', '"y"')));
    const result = checkRecords(recordFiles(folder));
    expect([result.problems.length, result.problemCount]).toEqual([100, 200]);
  });

  it('notes files of agents that were killed', () => {
    write(open(), 'one');
    renameSync(path(0), path(0).replace(`-${process.pid}-`, '-4194305-'));
    const { notes } = checkRecords(recordFiles(folder));
    expect(notes.map(({ text }) => text)).toEqual([
      'its agent did not end it: it was killed, or lines are missing at the end',
    ]);
  });
});

describe('many files', () => {
  it('are begun as they fill, and the oldest taken away, which a check understands', () => {
    const records = open({ maxBytes: 64 * 1024, maxFiles: 5 });
    for (let i = 0; i < 1500; i++) write(records, 'x'.repeat(300));
    records.close();
    const sizes = names().map((name) => statSync(join(folder, name)).size);
    expect(sizes.length).toBe(5);
    expect(Math.max(...sizes)).toBeLessThan(66 * 1024);
    expect(parsed(path(0))[0]?.previous).toMatch(/^[0-9a-f]{64}$/);
    expect(sentences(path(1))[0]).toMatch(/the oldest 1 are taken away/);
    expect(found()).toEqual([]);
    // Of a file in the middle nobody said so.
    const gone = names()[1];
    rmSync(path(1));
    expect(found()).toEqual([`1: the file before it is missing: ${gone}`]);
  });

  it('of two agents at once are linked, and neither writes into the other', () => {
    const [a, b] = [open(), open()];
    for (let i = 0; i < 20; i++) write(i % 3 === 0 ? a : b, `use ${i}`);
    expect(names().length).toBe(2);
    expect(parsed(path(1))[0]?.follows).toBe(names()[0]);
    expect(found()).toEqual([]);
    const all = [...mergedLines(recordFiles(folder))].map(({ text }) => JSON.parse(text).sentence);
    expect(all.filter((text: string) => text.startsWith('use'))).toEqual(
      Array.from({ length: 20 }, (_, i) => `use ${i}`),
    );
    const back = [...mergedLines(recordFiles(folder), true)].map(({ text }) => JSON.parse(text).sentence);
    expect(back.filter((text: string) => text.startsWith('use'))).toEqual(
      Array.from({ length: 20 }, (_, i) => `use ${19 - i}`),
    );
  });

  it('that running agents write are not taken away by others', () => {
    const other = `20260101T000000.000Z-${process.ppid}-0.jsonl`;
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, other), 'x'.repeat(200_000));
    writeFileSync(join(folder, '20260101T000000.000Z-4194305-0.jsonl'), 'x'.repeat(200_000));
    write(open({ maxBytes: 64 * 1024, maxFiles: 1 }), 'one');
    expect(names()).toEqual([other, expect.stringMatching(/-0\.jsonl$/)]);
  });

  it('have lines that read the same from both ends', () => {
    const file = join(home, 'lines');
    const all = ['', 'a', 'b'.repeat(70_000), '', 'c'.repeat(65_536), 'd'.repeat(200_000), 'ende'];
    for (const tail of ['', 'cut', 'x'.repeat(100_000)]) {
      writeFileSync(file, all.map((text) => `${text}\n`).join('') + tail);
      const { size } = statSync(file);
      const forward = [...linesForward(file, size)].filter(({ whole }) => whole).map(({ bytes }) => bytes.toString());
      expect(forward).toEqual(all);
      expect([...linesBackward(file, size)].map(String)).toEqual(all.toReversed());
    }
    writeFileSync(file, `first\n${'x'.repeat(3 * 1024 * 1024)}\nlast\n`);
    const { size } = statSync(file);
    expect([...linesForward(file, size)].map(({ bytes, tooLong }) => (tooLong ? '?' : String(bytes)))).toEqual([
      'first',
      '?',
      'last',
    ]);
    expect([...linesBackward(file, size)].map(String)).toEqual(['last', 'first']);
  });
});

describe('a disk that takes nothing', () => {
  /** Bounds the size of files that this process may write; null: no bound. Writes beyond it fail as on a full disk. */
  function limitFiles(bytes: number | null): void {
    const { status } = spawnSync('prlimit', ['--pid', String(process.pid), `--fsize=${bytes ?? 'unlimited'}:`]);
    expect(status).toBe(0);
  }

  afterEach(() => limitFiles(null));

  it('refuses what depends on it, and says later what became of it', () => {
    const records = open();
    write(records, 'one');
    limitFiles(0);
    const id = records.append(use('two'));
    const refused = records.flush();
    const removal = records.append(use('remove a key', { kind: 'remove' }));
    const second = records.flush();
    limitFiles(null);
    expect([refused, second]).toEqual([false, false]);
    expect(records.status().unwritable).toMatch(/^EFBIG, since 2026-/);
    expect(said).toEqual([`records can't be written in ${folder} (EFBIG): signatures are REFUSED until they can`]);
    expect(records.recent(id)).toMatchObject({ outcome: 'failed' });
    write(records, 'three');
    expect(records.status().unwritable).toBeNull();
    expect(said.at(-1)).toBe(`records can be written again in ${folder}`);
    const lines = names().flatMap((name) => parsed(join(folder, name)));
    expect(
      lines.filter(({ kind }) => kind !== 'records').map((one) => [one.sentence, one.outcome, one.reason]),
    ).toEqual([
      ['one', 'allowed', undefined],
      ['two', 'failed', 'its record could not be written: EFBIG'],
      ['remove a key', 'allowed', undefined],
      ['three', 'allowed', undefined],
    ]);
    expect(records.recent(removal)).toMatchObject({ outcome: 'allowed' });
    expect(found()).toEqual([]);
  });

  it('goes on with a loud warning where that was chosen, and loses as little as it can', () => {
    const records = open({ unwritable: 'warn' });
    limitFiles(0);
    const answers = Array.from({ length: 1200 }, (_, i) => {
      records.append(use(`use ${i}`));
      return records.flush();
    });
    limitFiles(null);
    expect(new Set(answers)).toEqual(new Set([true]));
    expect(said).toEqual([`records can't be written in ${folder} (EFBIG): signatures go on WITHOUT A RECORD`]);
    write(records, 'last');
    const lines = parsed(path(0));
    expect(lines[1]).toMatchObject({ kind: 'records', outcome: 'failed', lost: 201 });
    expect(lines.slice(2).map(({ sentence }) => sentence)).toEqual([
      ...Array.from({ length: 999 }, (_, i) => `use ${i + 201}`),
      'last',
    ]);
    expect(found()).toEqual([]);
  });

  it('leaves no half line: a new file goes on', () => {
    const records = open();
    write(records, 'one');
    const { size } = statSync(path(0));
    limitFiles(size + 100);
    records.append(use('two'));
    const isWritten = records.flush();
    limitFiles(null);
    expect(isWritten).toBe(false);
    expect(statSync(path(0)).size).toBe(size);
    limitFiles(size * 3);
    for (let i = 0; i < 10; i++) records.append(use(`use ${i}`));
    records.flush();
    limitFiles(null);
    write(records, 'three');
    expect(found()).toEqual([]);
    expect(names().every((name) => readFileSync(join(folder, name), 'utf8').endsWith('\n'))).toBe(true);
  });

  it.runIf(process.getuid?.() === 0)('as a full file system: goes on in the same file once there is room', () => {
    mkdirSync(folder, { recursive: true });
    expect(spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', folder]).status).toBe(0);
    try {
      const records = open();
      write(records, 'one');
      const ballast = join(folder, 'ballast');
      expect(() => writeFileSync(ballast, Buffer.alloc(128 * 1024))).toThrow(/ENOSPC/);
      let answer = true;
      for (let i = 0; answer && i < 100; i++) {
        records.append(use('x'.repeat(500)));
        answer = records.flush();
      }
      expect(answer).toBe(false);
      expect(records.status().unwritable).toMatch(/^ENOSPC/);
      expect(readFileSync(path(0), 'utf8').endsWith('\n')).toBe(true);
      rmSync(ballast);
      write(records, 'two');
      expect(readdirSync(folder).length).toBe(1);
      expect(found()).toEqual([]);
      records.close();
    } finally {
      spawnSync('umount', ['-l', folder]);
    }
  });
});

describe('somebody else at the files', () => {
  const later = (): void => {
    time += 2000;
  };

  it('who removes one is told of in the next, which a check reports', () => {
    const records = open();
    write(records, 'one');
    const [gone = ''] = names();
    rmSync(path(0));
    later();
    write(records, 'two');
    expect(parsed(path(0))[0]).toMatchObject({
      sentence: 'records go on: the file before is lost',
      reason: expect.stringMatching(/removed by something else/),
      follows: gone,
      previous: expect.stringMatching(/^[0-9a-f]{64}$/),
    });
    expect(found()).toEqual([`1: the file before it is missing: ${gone}`]);
    expect(said).toEqual([expect.stringContaining(`${gone}: it was`)]);
  });

  it.each<[string, (file: string) => void, string]>([
    [
      'replaces',
      (file) => {
        renameSync(file, `${file}x`);
        writeFileSync(file, readFileSync(`${file}x`));
      },
      'it was replaced',
    ],
    ['shortens', (file) => truncateSync(file, 100), 'it was changed'],
    ['writes to', (file) => appendFileSync(file, 'x\n'), 'it was changed'],
  ])('who %s one does not disturb the next', (_what, act, text) => {
    const records = open();
    write(records, 'one');
    act(path(0));
    later();
    write(records, 'two');
    expect(parsed(join(folder, records.status().file ?? ''))[0]).toMatchObject({ reason: `${text} by something else` });
    expect(said).toHaveLength(1);
  });

  it('who removes the folder finds it again', () => {
    const records = open();
    write(records, 'one');
    rmSync(home, { recursive: true });
    later();
    write(records, 'two');
    expect(sentences(path(0)).at(-1)).toBe('two');
    expect(statSync(folder).mode & 0o777).toBe(0o700);
  });

  it('who opened the folder to all has it closed again', () => {
    mkdirSync(folder, { recursive: true });
    chmodSync(folder, 0o755);
    write(open(), 'one');
    expect(statSync(folder).mode & 0o777).toBe(0o700);
  });

  it('who put a link or a file in the place of the folder gets no record', () => {
    mkdirSync(join(home, 'state'), { recursive: true });
    writeFileSync(folder, '');
    const records = open();
    records.append(use('one'));
    expect(records.flush()).toBe(false);
    expect(records.status().unwritable).toMatch(/^(EEXIST|ENOTDIR|EACCES)/);
  });

  it('who left rubbish under our names does not stop an agent', () => {
    mkdirSync(join(folder, '20261122T000000.000Z-1-0.jsonl'), { recursive: true });
    for (const [i, text] of ['', '\0\0\0', '{"half', '\n\n', 'x'.repeat(2e6)].entries())
      writeFileSync(join(folder, `20261122T00000${i}.000Z-2-0.jsonl`), text);
    const records = open();
    write(records, 'one');
    expect(sentences(join(folder, records.status().file ?? ''))).toEqual(['records of an agent begin', 'one']);
    expect([...mergedLines(recordFiles(folder))].filter(({ text }) => text.includes('"one"'))).toHaveLength(1);
  });
});
