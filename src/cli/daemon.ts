/**
 * Starting the agent as a process of its own. Node cannot fork: the socket is bound here, and a fresh process listens on
 * the inherited descriptor, so whoever connects at once waits in the backlog. The starter waits until the agent serves:
 * before that a signal would end it with its socket left behind, and a failure would be told to nobody.
 */
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync, rmdirSync, unlinkSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname, resolve } from 'node:path';
import type { Readable } from 'node:stream';
import { copyVariable, execvp, setVariable } from '../native/libc.ts';
import { listenOn } from '../server/listen.ts';
import { DROPPED, dropKept, KEPT_PREFIX, keptEntries, keptState, SHELLS_OWN } from './environment.ts';
import type { Output } from './output.ts';
import { SERVING, type ServePlan } from './serve.ts';

/** The word before a plan in a detached agent's arguments. */
export const SERVE = '--serve';
const LISTENING_FD = 3;
/** Where the agent tells that it serves, or why it does not. */
const STARTER_FD = 4;
const O_CLOEXEC = 0o2000000;

export interface Started {
  readonly pid: number;
  readonly path: string;
}

/** Descriptors that a process started now would inherit beyond the first three, from whoever started us. Linux only. */
function strangers(): readonly number[] {
  try {
    return readdirSync('/proc/self/fd')
      .map(Number)
      .filter((fd) => fd > 2 && !isClosedOnExec(fd));
  } catch {
    return [];
  }
}

function isClosedOnExec(fd: number): boolean {
  try {
    const flags = /^flags:\s*([0-7]+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1] ?? '0';
    return (Number.parseInt(flags, 8) & O_CLOEXEC) !== 0;
  } catch {
    // The descriptor that read the folder, closed by now.
    return true;
  }
}

async function told(stream: Readable): Promise<string> {
  let text = '';
  stream.setEncoding('utf8');
  for await (const part of stream) text += part;
  return text;
}

/**
 * Binds `path` and starts an agent on it. The caller must leave by process.reallyExit or become another program: an
 * ordinary end would close the listening socket and with it remove its file.
 * @returns when the agent serves
 * @throws ListenError, Error with the system's code, Error with the agent's own words where it could not serve
 */
export async function startDetached(
  path: string,
  plan: Omit<ServePlan, 'path' | 'fd' | 'foreground' | 'starter' | 'strangers'>,
): Promise<Started> {
  const server = createServer();
  await listenOn(server, path);
  const { fd } = (server as unknown as { _handle: { fd: number } })._handle;
  const full: ServePlan = {
    ...plan,
    // The agent runs in another folder.
    path: resolve(path),
    fd: LISTENING_FD,
    foreground: false,
    starter: STARTER_FD,
    strangers: strangers(),
  };
  const [script] = process.argv.slice(1);
  const child = spawn(process.execPath, [...process.execArgv, script as string, SERVE, JSON.stringify(full)], {
    detached: true,
    cwd: '/',
    stdio: ['ignore', 'ignore', 'ignore', fd, 'pipe'],
  });
  const { pid } = child;
  const failed = new Promise<string>((resolve) => child.once('error', ({ message }) => resolve(message)));
  const answer = await Promise.race([failed, told(child.stdio[STARTER_FD] as Readable)]);
  if (pid === undefined || answer !== SERVING) {
    unlinkSync(path);
    if (plan.removeFolder) rmdirSync(dirname(path));
    throw new Error(answer === '' ? 'the agent ended before it could serve' : answer);
  }
  child.unref();
  return { pid, path };
}

/** Ends this process at once; the inherited socket stays. */
export function leave(code: number): never {
  (process as unknown as { reallyExit(code: number): never }).reallyExit(code);
  throw new Error('unreachable');
}

const EXEC_FAILED_EXIT = 1;

/** As restoreKept for process.env, but byte for byte: what goes through its strings becomes UTF-8. */
function restoreEnvironment(): void {
  const entries = keptEntries(process.env);
  for (const name of DROPPED) copyVariable(KEPT_PREFIX + name, name);
  dropKept(process.env);
  if (entries === undefined) return;
  for (const name of SHELLS_OWN) delete process.env[name];
  for (const { name, value } of entries) setVariable(name, value);
}

/** The last `count` words of our command line as bytes; undefined where they can't be had. */
function wordsAsGiven(count: number): readonly Uint8Array[] | undefined {
  try {
    const line = readFileSync('/proc/self/cmdline');
    const words: Uint8Array[] = [];
    for (let end = line.indexOf(0), start = 0; end >= 0; start = end + 1, end = line.indexOf(0, start)) {
      words.push(line.subarray(start, end));
    }
    return words.length > count ? words.slice(-count) : undefined;
  } catch {
    return undefined;
  }
}

/** A word of a command line: as text, or byte for byte. */
export type Word = string | Uint8Array;

/**
 * Becomes `command`, which are the last words of our command line. It gets what we were given: words, environment,
 * descriptors, signals, limits.
 * @param variables set in its environment
 * @param edit makes other words of those as given
 * @returns only on failure: the system's words for it, ours to say; the process is then of no further use
 */
export function becomeCommand(
  command: readonly string[],
  variables: Readonly<Record<string, string>>,
  edit: (words: readonly Word[]) => readonly Word[] = (words) => words,
): string {
  const { words, ...inherited } = keptState(process.env);
  restoreEnvironment();
  for (const [name, value] of Object.entries(variables)) process.env[name] = value;
  const [file = ''] = command;
  return execvp(file, edit((words ? wordsAsGiven(command.length) : undefined) ?? command), inherited).message;
}

/** Becomes `command`, as becomeCommand, with the agent's address; the agent ends where that fails. */
export function become(command: readonly string[], path: string, pid: number, output: Output): never {
  const failure = becomeCommand(command, { SSH_AUTH_SOCK: path, SSH_AGENT_PID: String(pid) });
  process.kill(pid, 'SIGTERM');
  output.error(failure);
  leave(EXEC_FAILED_EXIT);
}
