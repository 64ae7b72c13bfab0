/**
 * What `latchkey guard` and `latchkey ssh-config` are told of a guard: keys, destinations, the host it is for, its time and
 * count. Keys become fingerprints and hosts become host keys here, with the words that a person needs where they can't.
 */
import { connectAgent } from '../client/connect.ts';
import { fingerprint } from '../keys/publickey.ts';
import { base64 } from '../wire/bytes.ts';
import type { Hop } from '../wire/constraints.ts';
import { parseKey } from './anykey.ts';
import { agentSocket, FAILED_EXIT, Usage } from './command.ts';
import { parseDestinations } from './destinations.ts';
import { Fatal, type Output, shown } from './output.ts';
import { loadPublicKey } from './publicfiles.ts';
import { convtime } from './times.ts';

/** Of a guard without --for, in seconds. */
export const DEFAULT_SECONDS = 8 * 3600;
const FINGERPRINT = /^SHA256:[A-Za-z0-9+/]{43}$/;

/** As given, not yet looked up. */
export interface GuardWords {
  readonly keys: string[];
  readonly to: string[];
  via: string | undefined;
  seconds: number;
  count: number | undefined;
  effect: 'ask' | 'allow' | undefined;
  readonly hostKeyFiles: string[];
  socket: string | undefined;
}

export function noWords(): GuardWords {
  return {
    keys: [],
    to: [],
    via: undefined,
    seconds: DEFAULT_SECONDS,
    count: undefined,
    effect: undefined,
    hostKeyFiles: [],
    socket: undefined,
  };
}

/** Lines of a usage on these options. */
export const GUARD_OPTIONS = `  --key KEY        only this key: a SHA256 fingerprint, a comment as ssh-add -l shows it, or a public key file
  --to HOST        only logins there, as [user@]host: its keys are looked up in known_hosts now
  --via HOST       only for what comes by forwarding from this host
  --for TIME       ends after this time: 90, 10m, 8h, 2d (default: 8h)
  --count N        ends after N signatures
  --ask            each use is asked for (the default)
  --allow          what fits is allowed without a question
  --known-hosts F  look here for host keys, instead of in the usual files
  --socket SOCKET  the agent's socket, instead of SSH_AUTH_SOCK
  --key, --to and --known-hosts may be given several times.`;

function setEffect(words: GuardWords, effect: 'ask' | 'allow'): void {
  if (words.effect !== undefined && words.effect !== effect) throw new Usage('--ask or --allow, not both');
  words.effect = effect;
}

function once(given: unknown, name: string): void {
  if (given !== undefined) throw new Usage(`${name} is given twice`);
}

/** The word of `argv` at `at`, behind the option `name`. @throws Usage where there is none */
export function wordBehind(argv: readonly string[], at: number, name: string): string {
  const value = argv[at];
  if (value === undefined || value === '') throw new Usage(`${name} needs a word behind it`);
  return value;
}

/**
 * Takes the option `name` into `words`.
 * @param next the word behind it. @throws Usage where there is none
 * @returns false for another option
 */
export function takeGuardOption(words: GuardWords, name: string, next: () => string): boolean {
  switch (name) {
    case '--key':
      words.keys.push(next());
      return true;
    case '--to':
      words.to.push(next());
      return true;
    case '--via':
      once(words.via, name);
      words.via = next();
      return true;
    case '--for': {
      const text = next();
      const seconds = convtime(text);
      if (seconds === undefined || seconds === 0) throw new Usage(`no time: ${shown(text)}: say 90, 10m, 8h or 2d`);
      words.seconds = seconds;
      return true;
    }
    case '--count': {
      once(words.count, name);
      const text = next();
      if (!/^[1-9][0-9]{0,8}$/.test(text)) throw new Usage(`no count: ${shown(text)}`);
      words.count = Number(text);
      return true;
    }
    case '--ask':
      setEffect(words, 'ask');
      return true;
    case '--allow':
      setEffect(words, 'allow');
      return true;
    case '--known-hosts':
      words.hostKeyFiles.push(next());
      return true;
    case '--socket':
      once(words.socket, name);
      words.socket = next();
      return true;
    default:
      return false;
  }
}

async function keyOfFile(path: string): Promise<string | undefined> {
  const file = await loadPublicKey(path);
  return file.kind === 'found' ? fingerprint(file.loaded.key) : undefined;
}

async function keysWithComment(comment: string, socket: string): Promise<readonly string[]> {
  const client = await connectAgent(socket);
  try {
    const found = (await client.list()).filter((identity) => identity.comment === comment);
    return await Promise.all(found.map(async ({ blob }) => fingerprint(await parseKey(blob))));
  } finally {
    client.close();
  }
}

/** The fingerprints of the keys that `words` name, each once; undefined: it names none. @throws Fatal */
export async function fingerprintsOf(
  words: Pick<GuardWords, 'keys' | 'socket'>,
  env: NodeJS.ProcessEnv,
): Promise<readonly string[] | undefined> {
  if (words.keys.length === 0) return undefined;
  const found = new Set<string>();
  for (const word of words.keys) {
    if (FINGERPRINT.test(word)) {
      found.add(word);
      continue;
    }
    const isFile = word.includes('/') || word.endsWith('.pub');
    const ofComment = isFile ? [] : await keysWithComment(word, agentSocket(env, words.socket));
    const ofFile = ofComment.length > 0 ? undefined : await keyOfFile(word);
    for (const one of ofFile === undefined ? ofComment : [ofFile]) found.add(one);
    if (ofFile !== undefined || ofComment.length > 0) continue;
    throw new Fatal(
      isFile
        ? `no public key in ${shown(word)}`
        : `no key is called ${shown(word)}: give a SHA256 fingerprint, a comment as ssh-add -l shows it, or a public key file`,
      FAILED_EXIT,
    );
  }
  return [...found];
}

function hopOf(word: string, what: '--to' | '--via', files: readonly string[], output: Output): Hop {
  // ssh-add -h reads it as a step from one host to another.
  if (word.includes('>')) throw new Usage(`${what} names one host: ${shown(word)}`);
  try {
    const [constraint] = parseDestinations([word], files, output);
    if (constraint !== undefined) return constraint.to;
  } catch (error) {
    if (!(error instanceof Fatal)) throw error;
    const host = word.slice(word.lastIndexOf('@') + 1);
    if (host === '') throw new Usage(`${what} names no host: ${shown(word)}`);
    const isUnknown = error.message.startsWith('No host keys found');
    const why = isUnknown
      ? `known_hosts has no key of ${shown(host)}. Log in there once, or name it as known_hosts does: host, or [host]:port`
      : error.message;
    throw new Fatal(`${what} ${shown(word)}: ${why}`, FAILED_EXIT);
  }
  throw new Usage(`${what} names no host`);
}

/** A hop as the control socket takes it. */
function told({ user, hostname, keys }: Hop): unknown {
  return { user, hostname, keys: keys.map(({ blob, isAuthority }) => ({ blob: base64(blob), isAuthority })) };
}

/** The arguments of the command `guard`. @throws Fatal, Usage */
export async function guardArguments(
  words: GuardWords,
  env: NodeJS.ProcessEnv,
  output: Output,
): Promise<Readonly<Record<string, unknown>>> {
  const { to, via, seconds, count, effect = 'ask', hostKeyFiles } = words;
  const keys = await fingerprintsOf(words, env);
  if (via?.includes('@')) throw new Usage('--via names a host alone, without a user');
  return {
    effect,
    seconds,
    ...(keys === undefined ? {} : { keys }),
    ...(to.length === 0 ? {} : { to: to.map((word) => told(hopOf(word, '--to', hostKeyFiles, output))) }),
    ...(via === undefined ? {} : { via: told(hopOf(via, '--via', hostKeyFiles, output)) }),
    ...(count === undefined ? {} : { count }),
  };
}
