/**
 * `latchkey ssh-config`: lines for ~/.ssh/config that open one guard for each host when ssh goes there, and forward that
 * instead of the agent. Prints only: the file is its owner's. What ssh makes of these lines was tried with OpenSSH 9.2.
 */
import { existsSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { guardPath, guardsFolder } from '../server/guards.ts';
import { agentSocket, type Command, DONE_EXIT, defaultSocket, FAILED_EXIT, Usage } from './command.ts';
import {
  DEFAULT_SECONDS,
  fingerprintsOf,
  GUARD_OPTIONS,
  type GuardWords,
  noWords,
  takeGuardOption,
  wordBehind,
} from './guardoptions.ts';
import { Fatal, type Output, shown } from './output.ts';

const USAGE = `usage: latchkey ssh-config [--key KEY] [--to [user@]HOST] [--via HOST] [--for TIME] [--count N] [--ask | --allow]
                           [HOST ...]

Prints lines for ~/.ssh/config, to come first in it: when ssh goes to a HOST (a pattern with * and ? will do; none: any), a
guard for it is opened, and forwarded instead of the agent. They say what to beware of.

${GUARD_OPTIONS}

Examples:
  latchkey ssh-config bastion > ~/.ssh/guarded      then, as the first line of ~/.ssh/config: Include guarded
  latchkey ssh-config --key work --to git@github.com '*.example.com'`;

/** In a pattern of ssh_config, quoted or not, and in a shell's single quotes, these are nothing but themselves. */
const HOST = /^!?[A-Za-z0-9_*?][A-Za-z0-9._:*?-]*$/;
const PATH = /^\/[A-Za-z0-9@+=:,._/-]+$/;
const WORD = /^[A-Za-z0-9@+=:,._/*?[\]-]+$/;

/** What is never there, and forwarded where no guard could be opened: with `no`, ssh -A would forward the agent itself. */
const NO_GUARD = 'no-guard';

interface Parsed {
  readonly words: GuardWords;
  readonly hosts: readonly string[];
}

function parse(argv: readonly string[]): Parsed {
  const words = noWords();
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i] as string;
    const next = (): string => wordBehind(argv, ++i, word);
    if (takeGuardOption(words, word, next)) continue;
    if (word.startsWith('-') && word !== '--') throw new Usage(`unknown option: ${shown(word)}`);
    const hosts = argv.slice(word === '--' ? i + 1 : i);
    const odd = hosts.find((host) => !HOST.test(host));
    if (odd !== undefined) throw new Usage(`no pattern for a host: ${shown(odd)}`);
    if (hosts.length > 0 && hosts.every((host) => host.startsWith('!')))
      throw new Usage('only hosts that are left out');
    return { words, hosts };
  }
  return { words, hosts: [] };
}

/** `word` in quotes for the shell, of characters that ssh_config leaves alone between its own quotes. @throws Fatal */
function quoted(word: string, what: string): string {
  if (!WORD.test(word)) throw new Fatal(`${what} ${shown(word)} can't be written safely into ssh_config`, FAILED_EXIT);
  return `'${word}'`;
}

function safePath(path: string, what: string): string {
  if (!PATH.test(path)) throw new Fatal(`${what} ${shown(path)} can't be written safely into ssh_config`, FAILED_EXIT);
  return path;
}

/** The program as ssh is to start it, which may have another PATH than this shell. */
function ownProgram(env: NodeJS.ProcessEnv): string {
  const folders = (env.PATH ?? '').split(':').filter((folder) => folder.startsWith('/'));
  const found = folders.map((folder) => join(folder, 'latchkey')).find((path) => existsSync(path));
  return found ?? resolve(dirname(process.argv[1] ?? ''), '..', 'bin', 'latchkey');
}

interface Place {
  /** The folder of its guards, as ssh_config is to have it. */
  readonly folder: string;
  /** The agent that is to open the guard; undefined: that of SSH_AUTH_SOCK. */
  readonly socket: string | undefined;
}

/** An agent at a fixed place is named by it; one whose place changes each time, by the variable that tells it. */
function placeOf(words: GuardWords, env: NodeJS.ProcessEnv): Place {
  const socket = agentSocket(env, words.socket);
  const isFixed = words.socket !== undefined || socket === defaultSocket(env) || basename(socket) === 'agent.sock';
  // biome-ignore lint/suspicious/noTemplateCurlyInString: ssh puts the variable there.
  if (!isFixed) return { folder: guardsFolder('${SSH_AUTH_SOCK}'), socket: undefined };
  const path = safePath(resolve(socket), 'the path of the socket');
  return { folder: guardsFolder(path), socket: path };
}

async function execLine({ words }: Parsed, place: Place, env: NodeJS.ProcessEnv): Promise<string> {
  const keys = (await fingerprintsOf(words, env)) ?? [];
  const files = words.hostKeyFiles.map((file) => resolve(file));
  const parts = [
    safePath(ownProgram(env), 'the path of latchkey'),
    'guard --ensure',
    // ssh refuses quotes in names of hosts since 9.6; older ones never get here with one, by the pattern before it.
    "'%n'",
    ...keys.map((key) => `--key ${quoted(key, 'the key')}`),
    ...words.to.map((host) => `--to ${quoted(host, 'the host')}`),
    ...(words.via === undefined ? [] : [`--via ${quoted(words.via, 'the host')}`]),
    ...(words.seconds === DEFAULT_SECONDS ? [] : [`--for ${words.seconds}`]),
    ...(words.count === undefined ? [] : [`--count ${words.count}`]),
    ...(words.effect === undefined ? [] : [`--${words.effect}`]),
    ...files.map((file) => `--known-hosts ${quoted(file, 'the file')}`),
    ...(place.socket === undefined ? [] : [`--socket ${quoted(place.socket, 'the socket')}`]),
  ];
  return parts.join(' ');
}

async function run(argv: readonly string[], env: NodeJS.ProcessEnv, output: Output): Promise<number> {
  const parsed = parse(argv);
  const place = placeOf(parsed.words, env);
  const hosts = parsed.hosts.length === 0 ? ['*'] : parsed.hosts;
  // A quote would end the shell's word below: such names, which only older ssh let pass, are left out.
  const pattern = hosts.some((host) => /[*?]/.test(host)) ? [...hosts, "!*'*"] : hosts;
  const match = `Match originalhost "${pattern.join(',')}"`;
  const exec = await execLine(parsed, place, env);
  output.lines([
    '# Guarded agent forwarding, by: latchkey ssh-config. Put these lines first in ~/.ssh/config: of each setting, ssh takes',
    '# the value that it finds first. Going to one of these hosts opens a guard, a socket for that host alone, and forwards it;',
    '# where none can be opened, ssh says so and forwards nothing.',
    '#',
    '# Beware:',
    '# - ssh forwards nothing, and says nothing, where it finds no agent for itself: SSH_AUTH_SOCK or IdentityAgent has to name',
    '#   one that runs.',
    '# - With ControlMaster, the first connection to a host decides for all that share it: one that was started without these',
    '#   lines goes on forwarding what it did. End it with: ssh -O exit HOST.',
    ...(parsed.hosts.length === 0
      ? ['# - Any host gets a guard. Better name those that need one: latchkey ssh-config HOST ...']
      : []),
    `${match} exec "${exec}"`,
    `  ForwardAgent ${guardPath(place.folder, '%n', '')}`,
    match,
    `  ForwardAgent ${place.folder}/${NO_GUARD}`,
    'Match all',
  ]);
  return DONE_EXIT;
}

export const sshConfigCommand: Command = {
  name: 'ssh-config',
  summary: 'prints lines for ~/.ssh/config that forward a guard instead of the agent',
  usage: USAGE,
  run,
};
