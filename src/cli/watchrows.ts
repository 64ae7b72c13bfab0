/**
 * What `latchkey watch` shows, as rows of styled text for a terminal of any width: uses that happened, and the question
 * that has the focus. Pure: no terminal, no clock.
 */
import type { Scope } from '../agent/ports.ts';
import { columnsOf, wrapped } from './columns.ts';
import { detailsOf, flat, type WatchQuestion } from './questions.ts';

export type Style = 'plain' | 'strong' | 'faint' | 'good' | 'bad' | 'bar';

export interface Span {
  readonly text: string;
  readonly style: Style;
}

export type Row = readonly Span[];

/** Below this many columns labels and times do not get a column of their own. */
const NARROW = 60;
const LABEL_COLUMNS = 10;
const TIME_COLUMNS = 18;

export const KEYS: readonly (readonly [string, Scope])[] = [
  ['y', 'once'],
  ['c', 'command'],
  ['d', 'destination'],
  ['p', 'path'],
  ['a', 'always'],
];

const span = (text: string, style: Style = 'plain'): Span => ({ text, style });

/** `text` in rows, the first of which begins with `label`. */
function labelled(label: string, style: Style, text: string, columns: number, labelColumns: number): readonly Row[] {
  const head = `${label.padEnd(labelColumns - 1)} `;
  const indent = columns < NARROW ? 2 : columnsOf(head);
  const lines = wrapped(`${head.replaceAll(' ', '\u00a0')}${text}`, columns, indent);
  return lines.map((line, i) => {
    const plain = line.replaceAll('\u00a0', ' ');
    return i === 0 ? [span(plain.slice(0, head.length), style), span(plain.slice(head.length))] : [span(plain)];
  });
}

/** What a record of a use says, in the fields that are shown. */
export interface ShownUse {
  readonly time: string;
  readonly outcome: string;
  readonly text: string;
}

/** The time of day of an ISO time, here. */
function timeOf(iso: unknown): string {
  const date = typeof iso === 'string' ? new Date(iso) : new Date(Number.NaN);
  return Number.isNaN(date.getTime()) ? '--:--:--' : date.toTimeString().slice(0, 8);
}

/** @returns undefined for what would only be noise: lists and bindings that were allowed */
export function shownUse(value: unknown): ShownUse | undefined {
  const use = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>;
  const { kind, outcome, sentence, reason, repeated } = use;
  if (outcome === 'allowed' && (kind === 'list' || kind === 'bind' || kind === 'connection')) return undefined;
  const { by, scope } = (use.answer ?? {}) as Record<string, unknown>;
  const parts = [flat(String(sentence || kind || ''))];
  if (typeof reason === 'string') parts.push(`: ${flat(reason)}`);
  if (typeof by === 'string') parts.push(` (by ${flat(by)}${outcome === 'allowed' ? `, ${flat(String(scope))}` : ''})`);
  if (typeof repeated === 'number' && repeated > 0) parts.push(` (and ${repeated} more like it)`);
  return { time: timeOf(use.time), outcome: flat(String(outcome ?? '')), text: parts.join('') };
}

export function useRows({ time, outcome, text }: ShownUse, columns: number): readonly Row[] {
  const style = outcome === 'allowed' ? 'good' : 'bad';
  return labelled(`${time} ${outcome}`, style, text, columns, columns < NARROW ? 0 : TIME_COLUMNS);
}

export interface View {
  readonly question: WatchQuestion;
  readonly secondsLeft: number;
  /** From 1. */
  readonly place: number;
  readonly waiting: number;
  /** The rule is shown, and a second yes is waited for. */
  readonly confirmsRule: boolean;
  readonly note: string | undefined;
}

function barRows({ question, secondsLeft, place, waiting }: View, columns: number): readonly Row[] {
  const left = flat(` ${question.id}${question.forwarded ? '  FORWARDED' : ''}`);
  const right = `${waiting > 1 ? `${place} of ${waiting}  ` : ''}${secondsLeft} s `;
  const gap = columns - columnsOf(left) - columnsOf(right);
  if (gap > 0) return [[span(`${left}${' '.repeat(gap)}${right}`, 'bar')]];
  return [...wrapped(left, columns), ...wrapped(right, columns)].map((line) => [span(line, 'bar')]);
}

function choice(key: string, text: string, columns: number): readonly Row[] {
  return wrapped(`${key}\u00a0 ${text}`, columns, 3).map((line, i) => {
    const plain = line.replaceAll('\u00a0', ' ');
    return i === 0 ? [span(key, 'strong'), span(plain.slice(key.length))] : [span(plain)];
  });
}

function choiceRows({ question, waiting, confirmsRule }: View, columns: number): readonly Row[] {
  const rows: Row[] = [[]];
  if (confirmsRule) {
    rows.push(...wrapped('Always allow it? This rule would be written:', columns).map((line) => [span(line)]));
    for (const line of (question.rule ?? '').split('\n')) {
      if (line.trim() !== '')
        rows.push(...wrapped(`  ${flat(line)}`, columns, 4).map((part) => [span(part, 'strong')]));
    }
    rows.push(...choice('y', 'write it, and allow this', columns), ...choice('n', 'back', columns));
    return rows;
  }
  for (const [key, scope] of KEYS) {
    const offer = question.offers.find((one) => one.scope === scope);
    if (offer !== undefined) rows.push(...choice(key, `allow ${flat(offer.text)}`, columns));
  }
  rows.push(...choice('n', 'refuse', columns));
  const more = waiting > 1 ? 'tab next question, q quit' : 'q quit';
  rows.push(...wrapped(more, columns).map((line) => [span(line, 'faint')]));
  return rows;
}

/**
 * The question that has the focus, in at most `height` rows.
 * @returns isWhole: whether all that a person must see before a yes is there
 */
export function questionRows(
  view: View,
  columns: number,
  height: number,
): { readonly rows: readonly Row[]; readonly isWhole: boolean } {
  const { question, note } = view;
  const head: Row[] = [...barRows(view, columns)];
  head.push(...wrapped(flat(question.sentence), columns).map((line) => [span(line, 'strong')]));
  let last = '';
  const details = detailsOf(question).flatMap(([kind, text]) => {
    const label = kind === last && columns >= NARROW ? '' : kind;
    last = kind;
    return columns < NARROW
      ? labelled(`${label}:`, 'faint', text, columns, 0)
      : labelled(label, 'faint', text, columns, LABEL_COLUMNS);
  });
  const foot = [...choiceRows(view, columns)];
  if (note !== undefined) foot.push(...wrapped(note, columns).map((line) => [span(line, 'bad')]));
  const room = height - head.length - foot.length;
  if (room >= details.length) return { rows: [...head, ...details, ...foot], isWhole: true };
  const cut: Row = [span(wrapped('... more in: latchkey approve', columns)[0] ?? '', 'faint')];
  if (room >= 1) return { rows: [...head, ...details.slice(0, room - 1), cut, ...foot], isWhole: true };
  const small = wrapped(`Too small a window for ${question.id}. n refuses it, q quits.`, columns);
  return { rows: small.slice(0, Math.max(height, 1)).map((line) => [span(line, 'bad')]), isWhole: false };
}

export function plainText(row: Row): string {
  return row.map(({ text }) => text).join('');
}
