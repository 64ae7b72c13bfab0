/** `latchkey why ID`: one record in words: what was asked, what of it is proven, what decided, and how to have it otherwise. */
import { mergedLines } from '../backends/recordfiles.ts';
import { type ChainedRecord, parseRecord } from '../backends/recordline.ts';
import { controlSocketPath } from '../server/listen.ts';
import { columnsOf, wrapped } from './columns.ts';
import { agentSocket, type Command, configurationFile, DONE_EXIT, FAILED_EXIT, Usage } from './command.ts';
import { askControl, ControlError } from './control.ts';
import { listRecords, recordsFolder } from './log.ts';
import { jsonText, type Output, shown } from './output.ts';
import { advice } from './recordadvice.ts';
import { localTime, terminalView, words } from './recordwords.ts';

const USAGE = `usage: latchkey why ID [--json] [--socket socket]

Explains one record: what was asked, what of it is verified and what is only claimed, what decided, and what you can change.
IDs stand in brackets in: latchkey log

Example:
  latchkey why k3f9-17`;

const ID = /^[0-9a-z]{1,16}-\d{1,16}$/;
const LABEL_COLUMNS = 10;

async function fromAgent(path: string, id: string): Promise<ChainedRecord | undefined> {
  try {
    return parseRecord(JSON.stringify(await askControl(path, 'why', { id })));
  } catch (error) {
    // Not among its latest, or no agent: the files have it, if anybody has.
    if (error instanceof ControlError || (error instanceof Error && 'syscall' in error)) return undefined;
    throw error;
  }
}

function fromFiles(folder: string, id: string): ChainedRecord | undefined {
  const beginning = `{"id":"${id}",`;
  for (const { text } of mergedLines(listRecords(folder), true)) {
    if (!text.startsWith(beginning)) continue;
    const record = parseRecord(text);
    if (record !== undefined) return record;
  }
  return undefined;
}

const OUTCOMES: Readonly<Record<string, string>> = {
  allowed: 'allowed',
  denied: 'refused',
  failed: 'not done, though nothing stood against it',
};

const GROUNDS: Readonly<Record<string, string>> = {
  default: 'the default for',
  rule: 'the rule',
  destinations: '',
  websafe: 'the bounds of',
  confirm: '',
  guard: '',
  consent: 'an earlier answer:',
};

type Row = readonly [label: string, text: string];

function decidedRows({ ground, answer, reason, outcome }: ChainedRecord): readonly Row[] {
  const rows: Row[] = [];
  if (ground !== undefined) {
    const kind = GROUNDS[ground.kind] ?? words(ground.kind);
    const place = typeof ground.line === 'number' ? ` (line ${ground.line} of config.toml as it was then)` : '';
    rows.push(['decided by', `${kind} ${words(ground.text)}${place}`.trim()]);
  }
  if (answer !== undefined) {
    const word = outcome === 'denied' ? 'no' : `yes, ${words(answer.scope)}`;
    const took =
      typeof answer.seconds === 'number' && answer.seconds > 0 ? `, after ${Math.round(answer.seconds)} s` : '';
    rows.push(['asked', `answered ${word}, by ${words(answer.by)}${took}`]);
  }
  if (reason !== undefined) rows.push(['because', words(reason)]);
  return rows;
}

/** What the kernel or a signature vouches for. */
function verifiedRows({
  hosts,
  peer,
  user,
  purpose,
  key,
  guard,
  relay,
  forwarded,
  namespace,
}: ChainedRecord): readonly Row[] {
  const rows: Row[] = [];
  if (key !== undefined)
    rows.push(['key', `${words(key.fingerprint)} (${words(key.type)}), ${words(key.comment) || 'no comment'}`]);
  if (purpose !== undefined)
    rows.push(['for', words(purpose) + (namespace === undefined ? '' : `, namespace ${words(namespace)}`)]);
  if (user !== undefined) rows.push(['user', words(user)]);
  for (const host of Array.isArray(hosts) ? hosts : []) {
    const names = Array.isArray(host.names) ? host.names.map((name: unknown) => words(name)) : [];
    const known = names.length > 0 ? names.join(', ') : 'a host that known_hosts does not name';
    rows.push([host.forwards === true ? 'via' : 'host', `${known}, key ${words(host.fingerprint)}`]);
  }
  if (peer !== undefined) {
    const programs = Array.isArray(peer.programs) ? peer.programs.map((program: unknown) => words(program)) : [];
    const pid = typeof peer.pid === 'number' ? `pid ${peer.pid}, ` : '';
    rows.push(['program', `${pid}uid ${Number(peer.uid)}${programs.length > 0 ? `: ${programs.join(' < ')}` : ''}`]);
  }
  if (guard !== undefined) rows.push(['guard', words(guard)]);
  if (relay !== undefined) rows.push(['relay', words(relay)]);
  rows.push(['from', forwarded === true ? 'perhaps another machine: it is forwarded' : 'this machine']);
  return rows;
}

function explain(record: ChainedRecord): readonly (Row | string)[] {
  const { peer, repeated } = record;
  const rows: (Row | string)[] = [
    `${localTime(record.time)}  ${words(record.sentence) || words(record.kind)}`,
    ['outcome', OUTCOMES[record.outcome] ?? words(record.outcome)],
    ...decidedRows(record),
  ];
  if (typeof repeated === 'number' && repeated > 0)
    rows.push(['repeated', `${repeated} more like it were not written one by one`]);
  rows.push('', 'Verified, by the kernel or by a signature:', ...verifiedRows(record));
  if (peer?.claimedCommand !== undefined)
    rows.push('', 'Only claimed, by the program itself:', ['command', words(peer.claimedCommand)]);
  return rows;
}

async function run(argv: readonly string[], env: NodeJS.ProcessEnv, output: Output): Promise<number> {
  let json = false;
  let socket: string | undefined;
  let id: string | undefined;
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i] ?? '';
    if (word === '--json') json = true;
    else if (word === '--socket' && argv[i + 1] !== undefined) socket = argv[++i];
    else if (word.startsWith('-') || id !== undefined) throw new Usage(`unknown word: ${shown(word)}`);
    else id = word.replace(/^\[|\]$/g, '');
  }
  if (id === undefined) throw new Usage('which record? latchkey log shows their ids');
  if (!ID.test(id)) throw new Usage(`${shown(id)} is no id: they are like k3f9-17`);
  const folder = recordsFolder(env);
  const record = (await fromAgent(controlSocketPath(agentSocket(env, socket)), id)) ?? fromFiles(folder, id);
  if (record === undefined) {
    output.error(`latchkey: no record ${id} in ${shown(folder)}`);
    return FAILED_EXIT;
  }
  if (json) {
    output.line(jsonText(record));
    return DONE_EXIT;
  }
  const { columns = Number.POSITIVE_INFINITY } = terminalView(env);
  const fitting = (text: string, indent: number): readonly string[] =>
    columns === Number.POSITIVE_INFINITY ? [text] : wrapped(text, columns, Math.min(indent, columns >> 1));
  const told = advice(record, configurationFile(env));
  const rows = [...explain(record), ...(told === undefined ? [] : ['', ...told.words])];
  output.lines(
    rows.flatMap((row) =>
      typeof row === 'string'
        ? fitting(row, 0)
        : fitting(`  ${row[0]}${' '.repeat(LABEL_COLUMNS - columnsOf(row[0]))}  ${row[1]}`, LABEL_COLUMNS + 4),
    ),
  );
  // Never wrapped: it is to be copied.
  if (told?.rule !== undefined) output.lines(['', ...told.rule.map((line) => (line === '' ? '' : `  ${line}`))]);
  return DONE_EXIT;
}

export const whyCommand: Command = {
  name: 'why',
  summary: 'explains one record: what was asked, what is proven, what decided',
  usage: USAGE,
  run,
};
