/** `latchkey log`: what the agent was used for, from the files of records; follows them, and checks their chains. */
import { join } from 'node:path';
import { checkRecords, type LiveHead } from '../backends/recordcheck.ts';
import { mergedLines, type RecordFile, recordFiles } from '../backends/recordfiles.ts';
import { RecordFollower } from '../backends/recordfollow.ts';
import type { ChainedRecord } from '../backends/recordline.ts';
import { controlSocketPath } from '../server/listen.ts';
import { agentSocket, type Command, DONE_EXIT, FAILED_EXIT, stateFolder, Usage } from './command.ts';
import { askControl, ControlError } from './control.ts';
import { systemErrorText } from './errors.ts';
import { Fatal, jsonText, type Output, shown } from './output.ts';
import { type Filter, filtered, kindGiven, sinceGiven, UNREADABLE } from './recordfilter.ts';
import { localTime, recordLines, terminalView } from './recordwords.ts';

const USAGE = `usage: latchkey log [--since time] [--key key] [--host name] [--kind kind] [--denied] [--forwarded] [-n count]
                    [--follow] [--json]
       latchkey log --verify [--json] [--socket socket]

What the agent was used for: each signature, and each change, allowed or not, with what it was for. On a terminal the last
50, unless --since or -n is given. In brackets the id, for: latchkey why ID

  --since time   2h, 3d, today, yesterday, 2026-11-22, "2026-11-22 21:50"
  --key key      a fingerprint or how it begins, or a comment; * for any characters
  --host name    a host on the way, or its fingerprint
  --kind kind    sign, add, remove, lock, list, records, ...; list and records are not shown otherwise
  --denied       what was refused
  --forwarded    what may have come from another machine
  -n count       the last ones
  --follow       and those that come, until Ctrl-C
  --json         one JSON object a line (docs/records.md)
  --verify       whether no line was changed, added, moved or removed: exits with 1 and tells where

Examples:
  latchkey log --since yesterday --forwarded
  latchkey log --json --host github.com | jq -r .time
  latchkey log --verify`;

const SHOWN_ON_TERMINAL = 50;
const MAX_SHOWN = 1_000_000;
/** Records that are written out together. */
const BATCH = 500;
const FOLLOW_MS = 250;
/** A line that an agent is just writing is not cut: it is looked at again. */
const WRITING_MS = 50;

interface Given {
  readonly filter: Filter;
  readonly count: number | undefined;
  readonly follow: boolean;
  readonly json: boolean;
  readonly verify: boolean;
  readonly socket: string | undefined;
}

/** Where the records of this user's agents lie. */
export function recordsFolder(env: NodeJS.ProcessEnv): string {
  return join(stateFolder(env), 'records');
}

/** The files of records there. @throws Fatal where they can't be read */
export function listRecords(folder: string): readonly RecordFile[] {
  try {
    return recordFiles(folder);
  } catch (error) {
    throw new Fatal(`${shown(folder)}: ${systemErrorText(error)}`, FAILED_EXIT);
  }
}

function parse(argv: readonly string[]): Given {
  let filter: Filter = {};
  let [follow, json, verify] = [false, false, false];
  let count: number | undefined;
  let socket: string | undefined;
  for (let i = 0; i < argv.length; i++) {
    const name = argv[i] ?? '';
    const value = (): string => {
      const found = argv[++i];
      if (found === undefined || found === '') throw new Usage(`${name} wants a value`);
      return found;
    };
    if (name === '--json') json = true;
    else if (name === '--verify') verify = true;
    else if (name === '--follow' || name === '-f') follow = true;
    else if (name === '--denied') filter = { ...filter, denied: true };
    else if (name === '--forwarded') filter = { ...filter, forwarded: true };
    else if (name === '--since') filter = { ...filter, since: sinceGiven(value(), new Date()) };
    else if (name === '--key') filter = { ...filter, key: value() };
    else if (name === '--host') filter = { ...filter, host: value() };
    else if (name === '--kind') filter = { ...filter, kind: kindGiven(value()) };
    else if (name === '--socket') socket = value();
    else if (/^-n\d*$/.test(name)) {
      count = Number(name.length > 2 ? name.slice(2) : value());
      if (!Number.isInteger(count) || count < 0 || count > MAX_SHOWN)
        throw new Usage(`-n wants a number up to ${MAX_SHOWN}`);
    } else throw new Usage(`unknown word: ${shown(name)}`);
  }
  if (verify && (follow || count !== undefined || Object.keys(filter).length > 0))
    throw new Usage('--verify looks at all records');
  return { filter, count, follow, json, verify, socket };
}

/** The last `count` that fit, oldest first. */
function lastOnes(
  files: readonly RecordFile[],
  filter: Filter,
  count: number,
  onUnreadable: () => void,
): ChainedRecord[] {
  const found: ChainedRecord[] = [];
  if (count === 0) return found;
  for (const line of mergedLines(files, true)) {
    if (filter.since !== undefined && line.time < filter.since) break;
    const record = filtered(line, filter);
    if (record === UNREADABLE) onUnreadable();
    else if (record !== undefined) found.push(record);
    if (found.length === count) break;
  }
  return found.reverse();
}

async function show(given: Given, env: NodeJS.ProcessEnv, output: Output): Promise<number> {
  const { filter, json, follow } = given;
  const folder = recordsFolder(env);
  const files = listRecords(folder);
  const view = terminalView(env);
  const isBounded = given.count === undefined && filter.since === undefined && view.columns !== undefined;
  const count = given.count ?? (isBounded ? SHOWN_ON_TERMINAL : undefined);
  let unreadable = 0;
  const waiting: string[] = [];
  const print = (record: ChainedRecord): void => {
    if (json) waiting.push(jsonText(record));
    else waiting.push(...recordLines(record, view));
    if (waiting.length >= BATCH) output.lines(waiting.splice(0));
  };
  const take = (record: ReturnType<typeof filtered>): void => {
    if (record === UNREADABLE) unreadable++;
    else if (record !== undefined) print(record);
  };
  if (count !== undefined) for (const record of lastOnes(files, filter, count, () => unreadable++)) print(record);
  else {
    const { since } = filter;
    const wanted = since === undefined ? files : files.filter(({ ended }) => ended >= since);
    for (const line of mergedLines(wanted)) take(filtered(line, filter));
  }
  output.lines(waiting.splice(0));
  if (files.length === 0) output.hint(`no records in ${shown(folder)}`);
  if (unreadable > 0) output.error(`latchkey: ${unreadable} lines can't be read: latchkey log --verify tells where`);
  if (!follow) return DONE_EXIT;
  const follower = new RecordFollower(folder, files);
  for (;;) {
    await new Promise((done) => setTimeout(done, FOLLOW_MS));
    for (const line of follower.next()) take(filtered(line, filter));
    output.lines(waiting.splice(0));
  }
}

/** What the agent of this shell says of its records; undefined where none answers, or where it keeps others. */
async function liveHead(
  env: NodeJS.ProcessEnv,
  socket: string | undefined,
  folder: string,
): Promise<LiveHead | undefined> {
  try {
    const found = await askControl(controlSocketPath(agentSocket(env, socket)), 'log');
    const { file, head, folder: theirs } = found as { file?: unknown; head?: unknown; folder?: unknown };
    if (theirs !== folder) return undefined;
    return { file: typeof file === 'string' ? file : null, head: typeof head === 'string' ? head : null };
  } catch (error) {
    if (error instanceof ControlError || (error instanceof Error && 'syscall' in error)) return undefined;
    throw error;
  }
}

async function verify({ json, socket }: Given, env: NodeJS.ProcessEnv, output: Output): Promise<number> {
  const folder = recordsFolder(env);
  // Before the files are listed: what it wrote by then has to be in them.
  const live = await liveHead(env, socket, folder);
  let result = checkRecords(listRecords(folder), live);
  if (result.problems.some(({ text }) => text.startsWith('cut'))) {
    await new Promise((done) => setTimeout(done, WRITING_MS));
    result = checkRecords(listRecords(folder), live);
  }
  const { problems, problemCount, notes, records, files, since, head } = result;
  const ok = problemCount === 0;
  const exit = ok ? DONE_EXIT : FAILED_EXIT;
  const compared = live?.head != null;
  if (json) {
    output.line(jsonText({ ok, folder, ...result, comparedWithAgent: compared }));
    return exit;
  }
  const place = (file: string, line?: number): string => `${shown(file)}${line === undefined ? '' : `:${line}`}`;
  for (const { file, line, text } of problems) output.line(`${place(file, line)}: ${shown(text)}`);
  if (problemCount > problems.length) output.line(`... and ${problemCount - problems.length} more`);
  for (const { file, line, text } of notes) output.line(`${place(file, line)}: note: ${shown(text)}`);
  const what = `${records} ${records === 1 ? 'record' : 'records'} in ${files} ${files === 1 ? 'file' : 'files'}`;
  output.line(
    `${ok ? 'fine' : 'DAMAGED'}: ${what}${since === null ? '' : ` since ${localTime(since)}`}, in ${shown(folder)}`,
  );
  if (head !== null) output.line(`last line: ${head}${compared ? '; what the running agent wrote is there' : ''}`);
  if (!compared) output.hint('no agent answered that writes there: whether its last lines are there was not compared');
  return exit;
}

export const logCommand: Command = {
  name: 'log',
  summary: 'what the agent was used for; --verify checks the records',
  usage: USAGE,
  async run(argv, env, output) {
    const given = parse(argv);
    return given.verify ? verify(given, env, output) : show(given, env, output);
  },
};
