/**
 * Which command a process belongs to: the job that a person started, of which the process is a part. It is found among the
 * process and its ancestors, below whatever starts commands (programs.ts).
 */
import { tellingWord } from './arguments.ts';
import type { PeerProcess } from './facts.ts';
import { shown, shownFolder } from './names.ts';
import { displayName, isShell, scriptOf, startsCommands } from './programs.ts';
import type { Words } from './sentence.ts';

/** Characters of a command's words and of its folder in a sentence. */
export const MAX_COMMAND_WORD = 40;
export const MAX_FOLDER = 56;

/** The command that a process belongs to. */
export interface Command {
  readonly process: PeerProcess;
  /** 'git rebase in ~/src/x': a claim. */
  readonly claimedText: string;
}

const leadsSession = ({ pid, session }: PeerProcess): boolean => pid === session;

/** Whether a terminal was made for this very process: a terminal's shell, or what it runs in place of one. */
const ownsTerminal = (process: PeerProcess): boolean => leadsSession(process) && process.hasTerminal;

/** The part of the chain that may be the command or a part of it: up to what starts commands, which is left out. */
function candidatesIn(processes: readonly PeerProcess[]): readonly PeerProcess[] {
  const end = processes.findIndex(startsCommands);
  return end === -1 ? processes : processes.slice(0, end);
}

function findCommand(processes: readonly PeerProcess[]): PeerProcess | undefined {
  const chain = candidatesIn(processes);
  const [peer] = chain;
  if (peer === undefined) return undefined;

  // What has a terminal to itself is the job, or started it where it is a shell that waits: that one ended the chain. A
  // terminal within another's (expect, sudo with a terminal of its own) is a part of the job outside.
  const owner = chain.findIndex((process, i) => ownsTerminal(process) && chain[i + 1]?.hasTerminal !== true);
  if (owner !== -1) return chain[owner];

  // Below a shell that waits for a person lies his job, whatever sessions its workers made for themselves.
  const starter = processes[chain.length];
  if (starter !== undefined && isShell(starter) && scriptOf(starter) === undefined) return chain.at(-1);

  // No shell, no terminal: the process group, and on from workers that made a session for themselves.
  for (let at = 0; ; ) {
    const top = topOfGroup(chain, at);
    const [found, parent] = [chain[top], chain[top + 1]];
    if (found === undefined || parent === undefined || !isWorker(found, parent)) return found;
    at = top + 1;
  }
}

/** Whether a process is a copy of its parent that made a session for itself. */
function isWorker(process: PeerProcess, parent: PeerProcess): boolean {
  return leadsSession(process) && process.program !== undefined && process.program === parent.program;
}

/** Where in the chain the group of its member `from` starts; without its leader in sight, where its session does. */
function topOfGroup(chain: readonly PeerProcess[], from: number): number {
  const leader = chain.findIndex(({ pid }, i) => i >= from && pid === chain[from]?.group);
  return leader === -1 ? lastOfSession(chain, from) : leader;
}

function lastOfSession(chain: readonly PeerProcess[], from: number): number {
  let last = from;
  while (last + 1 < chain.length && chain[last + 1]?.session === chain[from]?.session) last++;
  return last;
}

/** From the program's own name on: in front of a script's stands that of its interpreter. */
function argumentsOf({ claimedArguments }: PeerProcess, name: string): readonly string[] {
  const at = claimedArguments.findIndex((word, i) => i < 2 && word.slice(word.lastIndexOf('/') + 1) === name);
  return claimedArguments.slice(Math.max(at, 0));
}

function textOf(process: PeerProcess, { home }: Words): string {
  const name = displayName(process);
  const isText = isShell(process) && scriptOf(process)?.kind === 'text';
  const word = isText ? '-c' : tellingWord(name, argumentsOf(process, name));
  const place = process.folder === undefined ? '' : ` in ${shownFolder(process.folder, home, MAX_FOLDER)}`;
  return `${[name, ...(word === undefined ? [] : [word])].map((one) => shown(one, MAX_COMMAND_WORD)).join(' ')}${place}`;
}

/** Told for the same chain again and again: by sentences, records and answers. */
const found = new WeakMap<readonly PeerProcess[], { readonly words: Words; readonly command: Command | undefined }>();

/**
 * Undefined where nothing but shells, terminals and the like is in the chain.
 * @param processes the peer and its ancestors, nearest first
 */
export function commandOf(processes: readonly PeerProcess[], words: Words): Command | undefined {
  const known = found.get(processes);
  if (known?.words === words) return known.command;
  const process = findCommand(processes);
  const command = process === undefined ? undefined : { process, claimedText: textOf(process, words) };
  found.set(processes, { words, command });
  return command;
}
