/**
 * What may stand in config.toml: sections, keys, values and their bounds, and the words for whatever does not fit. All
 * that is wrong is told at once, each with its line.
 */

import { parse, TomlError } from 'smol-toml';
import * as v from 'valibot';
import { WAYS } from '../backends/asking.ts';
import { FINGERPRINT_PREFIX, PURPOSES, patternText, type Rule } from '../policy/rules.ts';
import { shown } from './output.ts';
import {
  ASK_LASTS,
  type Configuration,
  type ConfigurationError,
  defaultSettings,
  MAX_ASK_SECONDS,
  MAX_NAME_CHARACTERS,
  MAX_PATTERN_CHARACTERS,
  MAX_PATTERNS,
  MAX_RECORD_FILE_BYTES,
  MAX_RECORD_FILES,
  MAX_RULES,
  MIN_RECORD_FILE_BYTES,
} from './settings.ts';
import { closest } from './spelling.ts';
import { type TomlPath, tomlLines } from './tomllines.ts';

/** Of a foreign word in an error, in characters. */
const MAX_SHOWN = 64;

const quoted = (text: string): string =>
  shown(JSON.stringify(text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text));

function either(values: readonly string[]): string {
  const words = values.map((value) => JSON.stringify(value));
  const last = words.pop();
  return words.length === 0 ? `${last}` : `${words.join(', ')} or ${last}`;
}

function oneOf<const T extends readonly string[]>(values: T) {
  return v.picklist(values, ({ input }) => {
    const near = typeof input === 'string' ? closest(input, values) : undefined;
    return `must be ${either(values)}${near === undefined ? '' : `: did you mean ${JSON.stringify(near)}?`}`;
  });
}

function whole(min: number, max: number) {
  const text = `must be a whole number from ${min} to ${max}`;
  return v.pipe(v.number(text), v.integer(text), v.minValue(min, text), v.maxValue(max, text));
}

const flag = v.boolean('must be true or false');

const shortText = (what: string, max: number) =>
  v.pipe(
    v.string(`must be ${what}, in quotes`),
    v.minLength(1, 'must not be empty'),
    v.maxLength(max, `is longer than ${max} characters`),
    // The last one stands for bytes that are not UTF-8: two of them being alike says nothing.
    v.check((text) => !/[\p{Cc}\p{Cs}\ufffd]/u.test(text), 'holds a control character or is no text'),
  );

/** A list, or its only item. */
function listOf<const T extends v.GenericSchema>(item: T, what: string) {
  return v.pipe(
    v.unknown(),
    v.transform((input: unknown) => (typeof input === 'string' ? [input] : input)),
    v.array(item, `must be ${what}, or a list of them in brackets`),
    v.minLength(1, 'must not be an empty list: leave the line out where anything will do'),
    v.maxLength(MAX_PATTERNS, `has more than ${MAX_PATTERNS} items`),
  );
}

/** @param wrong says what is wrong with a pattern, without its `!` */
function patterns(wrong: (pattern: string) => string | undefined = () => undefined) {
  const pattern = v.pipe(
    shortText('a pattern', MAX_PATTERN_CHARACTERS),
    v.check((text) => text !== '!', 'has nothing after the "!"'),
    v.rawCheck(({ dataset, addIssue }) => {
      const message = dataset.typed ? wrong(patternText(dataset.value)) : undefined;
      if (message !== undefined) addIssue({ message });
    }),
  );
  return listOf(pattern, 'a pattern in quotes');
}

const keyPatterns = patterns((text) => {
  if (/^[A-Z0-9]+:/.test(text) && !/^SHA256:[A-Za-z0-9+/]{43}$/.test(text))
    return `${quoted(text)} is no fingerprint: these are ${FINGERPRINT_PREFIX} and 43 characters, as ssh-add -l shows them`;
  return undefined;
});

const hostPatterns = patterns((text) => {
  if (text.includes('@')) return `${quoted(text)} names a user: a line of its own does that, user = ...`;
  if (/[\s,/]/.test(text)) return `${quoted(text)} is no name of a host`;
  const [, host, port] = /^([^:[\]]+):([0-9]+)$/.exec(text) ?? [];
  if (host !== undefined) return `${quoted(text)} has a port: known_hosts writes that ${quoted(`[${host}]:${port}`)}`;
  return undefined;
});

const programPatterns = patterns((text) =>
  text.includes('/') && !/^[/*?]/.test(text)
    ? `${quoted(text)} matches no program: a path begins with "/" or "*", and a name has no "/"`
    : undefined,
);

const EFFECTS = ['allow', 'deny', 'ask'] as const;

const ruleSchema = v.pipe(
  v.strictObject({
    name: v.optional(shortText('a name', MAX_NAME_CHARACTERS)),
    effect: oneOf(EFFECTS),
    lasts: v.optional(oneOf(ASK_LASTS)),
    key: v.optional(keyPatterns),
    host: v.optional(hostPatterns),
    user: v.optional(patterns()),
    via: v.optional(hostPatterns),
    program: v.optional(programPatterns),
    namespace: v.optional(patterns()),
    purpose: v.optional(listOf(oneOf(PURPOSES), either(PURPOSES))),
    origin: v.optional(listOf(oneOf(['local', 'forwarded', 'guard']), '"local", "forwarded" or "guard"')),
  }),
  v.forward(
    v.check(({ effect, lasts }) => effect === 'ask' || lasts === undefined, 'has a meaning only where effect = "ask"'),
    ['lasts'],
  ),
);

const table = 'must be a section, in brackets';
const sections = {
  agent: v.strictObject({ guarded: v.optional(flag) }, table),
  records: v.strictObject(
    {
      unwritable: v.optional(oneOf(['refuse', 'warn'])),
      max_bytes: v.optional(whole(MIN_RECORD_FILE_BYTES, MAX_RECORD_FILE_BYTES)),
      max_files: v.optional(whole(1, MAX_RECORD_FILES)),
    },
    table,
  ),
  ask: v.strictObject(
    {
      ways: v.optional(
        v.pipe(
          v.array(oneOf(WAYS), `must be a list of ${either(WAYS)} in brackets`),
          v.maxLength(WAYS.length, 'names a way twice'),
        ),
      ),
      seconds: v.optional(whole(1, MAX_ASK_SECONDS)),
      lasts: v.optional(oneOf(ASK_LASTS)),
    },
    table,
  ),
};

const fileSchema = v.strictObject({
  agent: v.optional(sections.agent),
  records: v.optional(sections.records),
  ask: v.optional(sections.ask),
  rule: v.optional(
    v.pipe(
      v.array(ruleSchema, 'must be a list: write [[rule]], in double brackets, over each'),
      v.maxLength(MAX_RULES, `more than ${MAX_RULES} rules`),
    ),
  ),
});

/** What an error is about, without its line. */
interface Fault {
  readonly path: TomlPath;
  readonly text: string;
}

/** '[rule 2] effect: ', '[ask] seconds: ', or nothing for the whole. */
function placeOf(path: TomlPath): string {
  const [section, second, third] = path;
  if (section === undefined) return '';
  if (section === 'rule' && typeof second === 'number')
    return third === undefined ? `[rule ${second + 1}]` : `[rule ${second + 1}] ${third}:`;
  return typeof second === 'string' ? `[${section}] ${second}:` : `[${section}]`;
}

/** Every key that has no meaning, and not only the first of each table as the schema tells them. */
function unknownKeys(document: Readonly<Record<string, unknown>>): Fault[] {
  const faults: Fault[] = [];
  const look = (path: TomlPath, given: unknown, known: object): void => {
    // To the schema a list is a section whose keys are numbers.
    if (Array.isArray(given)) faults.push({ path, text: `${placeOf(path)} ${table}` });
    if (typeof given !== 'object' || given === null || Array.isArray(given)) return;
    for (const key of Object.keys(given)) {
      if (Object.hasOwn(known, key)) continue;
      const near = closest(key, Object.keys(known));
      const where = path.length === 0 ? '' : `${placeOf(path)} `;
      const hint = near === undefined ? `known are ${Object.keys(known).join(', ')}` : `did you mean ${near}?`;
      faults.push({ path: [...path, key], text: `${where}unknown key ${quoted(key).slice(1, -1)}: ${hint}` });
    }
  };
  look([], document, fileSchema.entries);
  for (const [name, section] of Object.entries(sections))
    if (Object.hasOwn(document, name)) look([name], document[name], section.entries);
  if (Array.isArray(document.rule))
    for (const [i, rule] of document.rule.entries()) look(['rule', i], rule, ruleSchema.entries);
  return faults;
}

function faultsOf(issues: readonly v.BaseIssue<unknown>[]): Fault[] {
  return issues.flatMap(({ type, expected, received, message, path = [] }) => {
    const keys = path.map(({ key }) => key as string | number);
    if (type === 'strict_object' && expected === 'never') return [];
    // Only an effect has to be there.
    if (type === 'strict_object' && received === 'undefined')
      return [{ path: keys.slice(0, -1), text: `${placeOf(keys)} is missing: say ${either(EFFECTS)}` }];
    return [{ path: keys, text: `${placeOf(keys)} ${message}` }];
  });
}

type Written = v.InferOutput<typeof fileSchema>;

function ruleOf(given: NonNullable<Written['rule']>[number], number: number, line: number, lasts: Rule['lasts']): Rule {
  for (const value of Object.values(given)) if (Array.isArray(value)) Object.freeze(value);
  return Object.freeze({ ...given, name: given.name ?? `rule ${number}`, line, lasts: given.lasts ?? lasts }) as Rule;
}

function configurationOf(written: Written, lineOf: (path: TomlPath) => number): Configuration {
  const { agent = {}, records = {}, ask = {}, rule = [] } = written;
  const defaults = defaultSettings;
  const lasts = ask.lasts ?? defaults.ask.lasts;
  return Object.freeze({
    settings: Object.freeze({
      agent: Object.freeze({ guarded: agent.guarded ?? defaults.agent.guarded }),
      records: Object.freeze({
        unwritable: records.unwritable ?? defaults.records.unwritable,
        maxBytes: records.max_bytes ?? defaults.records.maxBytes,
        maxFiles: records.max_files ?? defaults.records.maxFiles,
      }),
      ask: Object.freeze({
        ways: ask.ways === undefined ? undefined : Object.freeze([...new Set(ask.ways)]),
        seconds: ask.seconds ?? defaults.ask.seconds,
        lasts,
      }),
    }),
    rules: Object.freeze(rule.map((one, i) => ruleOf(one, i + 1, lineOf(['rule', i]), lasts))),
  });
}

/**
 * Reads the text of a configuration file.
 * @param name of the file, for errors
 */
export function parseConfiguration(
  content: string,
  name: string,
): { readonly configuration: Configuration } | { readonly errors: readonly ConfigurationError[] } {
  let document: Record<string, unknown>;
  try {
    document = parse(content);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const what = error.message.split('\n')[0]?.replace(/^Invalid TOML document: /, '') ?? '';
    const text = `${name}:${error.line}: not TOML: ${what} (column ${error.column})`;
    return { errors: [{ line: error.line, text }] };
  }
  const { lineOf } = tomlLines(content);
  const result = v.safeParse(fileSchema, document);
  const faults = [...unknownKeys(document), ...(result.success ? [] : faultsOf(result.issues))];
  if (result.success && faults.length === 0) return { configuration: configurationOf(result.output, lineOf) };
  const errors = faults.map(({ path, text }) => ({ line: lineOf(path), text }));
  errors.sort((a, b) => a.line - b.line);
  return { errors: errors.map(({ line, text }) => ({ line, text: `${name}:${line}: ${text}` })) };
}
