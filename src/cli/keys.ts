/** `latchkey keys`: what each key was used for, and which ones nobody uses: the agent's keys joined with the records. */
import { mergedLines, type RecordFile } from '../backends/recordfiles.ts';
import { type ChainedRecord, parseRecord } from '../backends/recordline.ts';
import { AgentError, connectAgent } from '../client/connect.ts';
import { KeyError } from '../keys/error.ts';
import { fingerprint, parsePublicKey } from '../keys/publickey.ts';
import { WireError } from '../wire/error.ts';
import { agentSocket, type Command, DONE_EXIT, Usage } from './command.ts';
import { listRecords, recordsFolder } from './log.ts';
import { jsonText, type Output, shown } from './output.ts';
import { localTime, words } from './recordwords.ts';

const USAGE = `usage: latchkey keys [--unused days] [--json] [--socket socket]

For each key: when it was used last, how often, and for which hosts, by the records; and whether the agent holds it now.

  --unused days   only keys that made no signature for so long

Examples:
  latchkey keys
  latchkey keys --unused 90
  latchkey keys --json | jq -r '.keys[] | select(.lastUsed == null) | .comment'`;

/** Keys of the records that are told apart. */
const MAX_KEYS = 16_384;
/** Places of one key that are told apart. */
const MAX_PLACES = 1024;
/** Places that are shown. */
const SHOWN_PLACES = 6;
const DAY_MS = 86_400_000;

interface Place {
  /** A host's name, or the namespace of a signature for files. */
  readonly name: string;
  readonly kind: 'host' | 'namespace';
  uses: number;
  lastUsed: string;
}

interface KeyUse {
  readonly fingerprint: string;
  readonly type: string;
  comment: string;
  /** Undefined: no agent was asked. */
  inAgent: boolean | undefined;
  lastUsed: string | null;
  allowed: number;
  denied: number;
  failed: number;
  readonly places: Map<string, Place>;
}

function placeOf({ hosts, namespace, purpose }: ChainedRecord): Pick<Place, 'name' | 'kind'> | undefined {
  if (typeof namespace === 'string') return { kind: 'namespace', name: namespace };
  const last = Array.isArray(hosts) ? hosts.at(-1) : undefined;
  if (last == null || last.forwards === true || purpose === 'blind-login') return undefined;
  const [name] = Array.isArray(last.names) ? last.names : [];
  return { kind: 'host', name: String(name ?? last.fingerprint) };
}

function count(use: KeyUse, record: ChainedRecord): void {
  const times = 1 + (typeof record.repeated === 'number' ? record.repeated : 0);
  if (typeof record.key?.comment === 'string') use.comment = record.key.comment;
  if (record.outcome === 'denied') use.denied += times;
  else if (record.outcome === 'failed') use.failed += times;
  if (record.outcome !== 'allowed') return;
  use.allowed += times;
  if (use.lastUsed === null || record.time > use.lastUsed) use.lastUsed = record.time;
  const place = placeOf(record);
  if (place === undefined) return;
  const name = `${place.kind} ${place.name}`;
  const known = use.places.get(name);
  if (known !== undefined) {
    known.uses += times;
    known.lastUsed = record.time;
  } else if (use.places.size < MAX_PLACES) use.places.set(name, { ...place, uses: times, lastUsed: record.time });
}

/** What the records say of each key, by fingerprint. */
function usesOf(files: readonly RecordFile[]): Map<string, KeyUse> {
  const found = new Map<string, KeyUse>();
  for (const { text } of mergedLines(files)) {
    if (!text.includes('"kind":"sign"')) continue;
    const record = parseRecord(text);
    const { key } = record ?? {};
    if (record?.kind !== 'sign' || typeof key?.fingerprint !== 'string') continue;
    let use = found.get(key.fingerprint);
    if (use === undefined) {
      if (found.size >= MAX_KEYS) continue;
      use = newUse(key.fingerprint, String(key.type), '');
      found.set(key.fingerprint, use);
    }
    count(use, record);
  }
  return found;
}

function newUse(print: string, type: string, comment: string): KeyUse {
  const none = { allowed: 0, denied: 0, failed: 0, lastUsed: null, inAgent: undefined };
  return { fingerprint: print, type, comment, ...none, places: new Map() };
}

/** Marks and adds the keys that the agent holds. @returns false where no agent answers */
async function joinAgent(uses: Map<string, KeyUse>, socket: string): Promise<boolean> {
  let held: readonly { readonly blob: Uint8Array; readonly comment: string }[];
  try {
    const agent = await connectAgent(socket);
    held = await agent.list().finally(() => agent.close());
  } catch (error) {
    if (error instanceof AgentError) return false;
    throw error;
  }
  for (const use of uses.values()) use.inAgent = false;
  for (const { blob, comment } of held) {
    try {
      const key = parsePublicKey(blob);
      const print = fingerprint(key);
      const use = uses.get(print) ?? newUse(print, key.algorithm.type, comment);
      uses.set(print, use);
      use.inAgent = true;
      use.comment = comment;
    } catch (error) {
      // A key that we cannot read was not added to an agent of ours.
      if (!(error instanceof KeyError || error instanceof WireError)) throw error;
    }
  }
  return true;
}

function times(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}

function describe(use: KeyUse, since: string | null, now: number): readonly string[] {
  const { lastUsed, allowed, denied, failed, inAgent } = use;
  const gone = inAgent === false ? ', not in the agent now' : '';
  const head = `${words(use.fingerprint)} ${words(use.comment) || 'no comment'} (${words(use.type)})${gone}`;
  const beginning = since === null ? '' : ` since the records begin, ${localTime(since)}`;
  const days = lastUsed === null ? 0 : Math.floor((now - Date.parse(lastUsed)) / DAY_MS);
  const age = days < 1 ? '' : `, ${times(days, 'day')} ago`;
  const counts = [
    times(allowed, 'signature'),
    ...(denied > 0 ? [`${denied} refused`] : []),
    ...(failed > 0 ? [`${failed} failed`] : []),
  ];
  const used = lastUsed === null ? `never used${beginning}` : `last used ${localTime(lastUsed)}${age}`;
  const places = [...use.places.values()].sort((a, b) => b.uses - a.uses);
  const named = places.slice(0, SHOWN_PLACES).map(({ name, uses, kind }) => {
    const text = words(name).slice(0, 256);
    return `${kind === 'host' ? text : `namespace ${text}`} ${uses}`;
  });
  if (places.length > SHOWN_PLACES) named.push(`${places.length - SHOWN_PLACES} more`);
  return [head, `  ${used}; ${counts.join(', ')}`, ...(named.length > 0 ? [`  for ${named.join(', ')}`] : [])];
}

function parse(argv: readonly string[]): { json: boolean; unusedDays: number | undefined; socket: string | undefined } {
  let json = false;
  let unusedDays: number | undefined;
  let socket: string | undefined;
  for (let i = 0; i < argv.length; i++) {
    if (argv[i] === '--json') json = true;
    else if (argv[i] === '--unused') {
      const text = argv[++i] ?? '';
      if (!/^\d{1,5}d?$/.test(text)) throw new Usage('--unused wants a number of days');
      unusedDays = Number.parseInt(text, 10);
    } else if (argv[i] === '--socket' && argv[i + 1] !== undefined) socket = argv[++i];
    else throw new Usage(`unknown word: ${shown(argv[i] ?? '')}`);
  }
  return { json, unusedDays, socket };
}

async function run(argv: readonly string[], env: NodeJS.ProcessEnv, output: Output): Promise<number> {
  const { json, unusedDays, socket } = parse(argv);
  const files = listRecords(recordsFolder(env));
  const since = files[0]?.began ?? null;
  const uses = usesOf(files);
  const path = agentSocket(env, socket);
  const answered = await joinAgent(uses, path);
  const now = Date.now();
  const before = unusedDays === undefined ? undefined : new Date(now - unusedDays * DAY_MS).toISOString();
  const keys = [...uses.values()]
    .filter(({ lastUsed }) => before === undefined || lastUsed === null || lastUsed < before)
    .sort((a, b) => ((a.lastUsed ?? '') < (b.lastUsed ?? '') ? 1 : -1));
  if (json) {
    const told = keys.map(({ inAgent, places, ...use }) => ({
      ...use,
      inAgent: inAgent ?? null,
      places: [...places.values()],
    }));
    output.line(jsonText({ since, agent: answered, keys: told }));
    return DONE_EXIT;
  }
  output.lines(keys.flatMap((use) => describe(use, since, now)));
  if (keys.length === 0)
    output.line(before === undefined ? 'no keys in the agent, and none in the records' : 'no such key');
  if (!answered) output.error(`latchkey: no agent answers at ${shown(path)}: only keys of the records are shown`);
  if (before !== undefined && (since === null || since > before))
    output.error(`latchkey: the records only go back to ${since === null ? 'now' : localTime(since)}`);
  return DONE_EXIT;
}

export const keysCommand: Command = {
  name: 'keys',
  summary: 'what each key was used for, and which ones nobody uses',
  usage: USAGE,
  run,
};
