/** Records as a person reads them: one line each, or a few that fit the terminal. Text in them is others': all of it is made visible. */
import { isatty } from 'node:tty';
import type { ChainedRecord } from '../backends/recordline.ts';
import { columnsOf, wrapped } from './columns.ts';
import { shown } from './output.ts';

const STDOUT = 1;
/** Longest text of a record that is shown in one place, in characters. */
const MAX_TEXT = 2048;
/** Below, a line has no room beside its time. */
const NARROW = 60;

/** How records are laid out. */
export interface View {
  /** Undefined: one line each, however long. */
  readonly columns: number | undefined;
  readonly colour: boolean;
}

/** What standard output is. */
export function terminalView(env: NodeJS.ProcessEnv): View {
  if (!isatty(STDOUT)) return { columns: undefined, colour: false };
  const colour = (env.NO_COLOR ?? '') === '' && env.TERM !== 'dumb';
  return { columns: process.stdout.columns || undefined, colour };
}

/** A text of a record, safe to show; '' where it is none. */
export function words(value: unknown): string {
  return typeof value === 'string' ? shown(value.slice(0, MAX_TEXT)) : '';
}

/** '2026-11-22 21:50:03', here. */
export function localTime(iso: unknown): string {
  const date = new Date(typeof iso === 'string' ? iso : Number.NaN);
  if (Number.isNaN(date.getTime())) return '????-??-?? ??:??:??';
  const two = (n: number): string => String(n).padStart(2, '0');
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** The sentence, why not, who answered, and how many more there were. */
export function recordText(record: ChainedRecord): string {
  const { sentence, kind, reason, answer, repeated } = record;
  const parts = [words(sentence) || words(kind)];
  if (reason !== undefined) parts.push(`: ${words(reason)}`);
  if (answer !== undefined) {
    const { by, scope } = answer;
    parts.push(` (by ${words(by)}${record.outcome === 'allowed' ? `, ${words(scope)}` : ''})`);
  }
  if (typeof repeated === 'number' && repeated > 0) parts.push(` (and ${repeated} more like it)`);
  return parts.join('');
}

/** What is only written so that nothing is missing: shown where it is asked for by its kind. */
export function isRoutine({ kind, outcome, reason, removed, cut }: ChainedRecord): boolean {
  if (outcome !== 'allowed') return false;
  if (kind === 'records') return reason === undefined && removed === undefined && cut === undefined;
  return kind === 'list' || kind === 'bind' || kind === 'connection';
}

const COLOURS: Readonly<Record<string, string>> = { allowed: '32', denied: '1;31', failed: '33' };
const OUTCOME_COLUMNS = 7;

/** `2026-11-22 21:50:03  allowed  log in as git on github.com (verified)  [k3f9-17]` */
export function recordLines(record: ChainedRecord, { columns, colour }: View): readonly string[] {
  const outcome = words(record.outcome).slice(0, OUTCOME_COLUMNS);
  const paint = (text: string, code: string): string => (colour && text !== '' ? `\x1b[${code}m${text}\x1b[0m` : text);
  const before = `${localTime(record.time)}  `;
  const painted = `${before}${paint(outcome, COLOURS[outcome] ?? '0')}`;
  const id = `[${words(record.id).slice(0, 64)}]`;
  const text = recordText(record);
  const padding = ' '.repeat(OUTCOME_COLUMNS - outcome.length);
  if (columns === undefined) return [`${painted}${padding}  ${text}  ${id}`];
  const isNarrow = columns < NARROW;
  const indent = isNarrow ? 2 : columnsOf(before) + OUTCOME_COLUMNS + 2;
  const [first = '', ...rest] = wrapped(`${' '.repeat(indent)}${text}\u00a0\u00a0${id}`, columns, indent);
  const lines = [first, ...rest].map((line) => line.replaceAll('\u00a0', ' '));
  if (isNarrow) return [painted, ...lines];
  return [`${painted}${padding}  ${(lines[0] ?? '').slice(indent)}`, ...lines.slice(1)];
}
