/** Which records a command is about: filters of the command line, and times as people say them. */
import type { UseKind } from '../agent/ports.ts';
import type { RawLine } from '../backends/recordfiles.ts';
import { type ChainedRecord, parseRecord } from '../backends/recordline.ts';
import { matchGlob } from '../keys/glob.ts';
import { Usage } from './command.ts';
import { shown } from './output.ts';
import { isRoutine } from './recordwords.ts';
import { convtime } from './times.ts';

const KINDS: Readonly<Record<UseKind, true>> = {
  ...{ sign: true, list: true, add: true, remove: true, 'remove-all': true, expire: true, 'add-token': true },
  ...{ 'remove-token': true, lock: true, unlock: true, bind: true, extension: true, malformed: true },
  ...{ connection: true, guard: true, rules: true, records: true, start: true, end: true },
};

export interface Filter {
  /** ISO time. */
  readonly since?: string;
  /** Fingerprint, its beginning, or a comment: glob patterns. */
  readonly key?: string;
  readonly host?: string;
  readonly kind?: UseKind;
  readonly denied?: boolean;
  readonly forwarded?: boolean;
}

/** @throws Usage */
export function kindGiven(text: string): UseKind {
  if (!Object.hasOwn(KINDS, text)) throw new Usage(`--kind is one of ${Object.keys(KINDS).join(', ')}`);
  return text as UseKind;
}

const LOCAL_TIME = /^(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d))?)?$/;

/**
 * The ISO time that `text` means: a span of time ago (90m, 2h, 3d), today, yesterday, a local date or time, an ISO time.
 * @throws Usage
 */
export function sinceGiven(text: string, now: Date): string {
  const midnight = new Date(now.getFullYear(), now.getMonth(), now.getDate());
  if (text === 'today') return midnight.toISOString();
  if (text === 'yesterday') {
    midnight.setDate(midnight.getDate() - 1);
    return midnight.toISOString();
  }
  const seconds = /[smhdw]$/i.test(text) ? convtime(text) : undefined;
  if (seconds !== undefined) return new Date(now.getTime() - seconds * 1000).toISOString();
  const local = LOCAL_TIME.exec(text);
  if (local !== null) {
    const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = local
      .slice(1)
      .map((part) => Number(part ?? 0));
    const date = new Date(year, month - 1, day, hour, minute, second);
    if (date.getMonth() === month - 1 && date.getDate() === day) return date.toISOString();
  } else if (/^\d{4}-.*(Z|[+-]\d\d:?\d\d)$/.test(text)) {
    const date = new Date(text);
    if (!Number.isNaN(date.getTime())) return date.toISOString();
  }
  throw new Usage(`--since: ${shown(text)}: say 2h, 3d, today, yesterday, 2026-11-22 or "2026-11-22 21:50"`);
}

const matches = (pattern: string, text: unknown): boolean => typeof text === 'string' && matchGlob(text, pattern);

function fitsKey({ key }: ChainedRecord, wanted: string): boolean {
  if (typeof key?.fingerprint === 'string' && wanted.startsWith('SHA256:') && key.fingerprint.startsWith(wanted))
    return true;
  return matches(wanted, key?.fingerprint) || matches(wanted, key?.comment);
}

function fitsHost({ hosts }: ChainedRecord, wanted: string): boolean {
  if (!Array.isArray(hosts)) return false;
  return (hosts as readonly { fingerprint?: unknown; names?: unknown }[]).some(
    ({ fingerprint, names }) =>
      matches(wanted, fingerprint) || (Array.isArray(names) && names.some((name) => matches(wanted, name))),
  );
}

/** Words that JSON writes as they are, and that are no patterns: a line without them need not be parsed. */
const isPlain = (wanted: string): boolean => /^[\w.:@+/ -]+$/.test(wanted);

/** A line that is no record. */
export const UNREADABLE = Symbol('unreadable');

/** The record of a line, where it fits; the line is only parsed where it may. */
export function filtered({ text, time }: RawLine, filter: Filter): ChainedRecord | typeof UNREADABLE | undefined {
  if (filter.since !== undefined && time < filter.since) return undefined;
  if (filter.denied && !text.includes('"outcome":"denied"')) return undefined;
  if (filter.forwarded && !text.includes('"forwarded":true')) return undefined;
  if (filter.kind !== undefined && !text.includes(`"kind":"${filter.kind}"`)) return undefined;
  for (const wanted of [filter.key, filter.host])
    if (wanted !== undefined && isPlain(wanted) && !text.includes(wanted)) return undefined;
  const record = parseRecord(text);
  if (record === undefined) return UNREADABLE;
  if (filter.kind === undefined ? isRoutine(record) : record.kind !== filter.kind) return undefined;
  if (filter.denied && record.outcome !== 'denied') return undefined;
  if (filter.forwarded && record.forwarded !== true) return undefined;
  if (filter.key !== undefined && !fitsKey(record, filter.key)) return undefined;
  if (filter.host !== undefined && !fitsHost(record, filter.host)) return undefined;
  return record;
}
