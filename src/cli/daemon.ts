/**
 * Starting the agent as a process of its own. Node cannot fork: the socket is bound here, and a fresh process listens on
 * the inherited descriptor, so whoever connects at once waits in the backlog and nobody has to poll.
 */
import { spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { execvp } from '../native/libc.ts';
import { listenOn } from '../server/listen.ts';
import { restoreKept } from './environment.ts';
import type { Output } from './output.ts';
import type { ServePlan } from './serve.ts';

/** The word before a plan in a detached agent's arguments. */
export const SERVE = '--serve';
const LISTENING_FD = 3;

export interface Started {
  readonly pid: number;
  readonly path: string;
}

/**
 * Binds `path` and starts an agent on it. The caller must leave by process.reallyExit or become another program: an
 * ordinary end would close the listening socket and with it remove its file.
 * @throws ListenError, Error with the system's code
 */
export async function startDetached(
  path: string,
  plan: Omit<ServePlan, 'path' | 'fd' | 'foreground'>,
): Promise<Started> {
  const server = createServer();
  await listenOn(server, path);
  const { fd } = (server as unknown as { _handle: { fd: number } })._handle;
  const full: ServePlan = { ...plan, path, fd: LISTENING_FD, foreground: false };
  const [script] = process.argv.slice(1);
  const child = spawn(process.execPath, [...process.execArgv, script as string, SERVE, JSON.stringify(full)], {
    detached: true,
    cwd: '/',
    stdio: ['ignore', 'ignore', 'ignore', fd],
  });
  const { pid } = child;
  if (pid === undefined) throw new Error('the agent could not be started');
  child.unref();
  return { pid, path };
}

/** Ends this process at once; the inherited socket stays. */
export function leave(code: number): never {
  (process as unknown as { reallyExit(code: number): never }).reallyExit(code);
  throw new Error('unreachable');
}

const EXEC_FAILED_EXIT = 1;

/** Becomes `command`, with the environment that we were given and the agent's address. */
export function become(command: readonly string[], path: string, pid: number, output: Output): never {
  restoreKept(process.env);
  process.env.SSH_AUTH_SOCK = path;
  process.env.SSH_AGENT_PID = String(pid);
  const [file = ''] = command;
  const error = execvp(file, command);
  process.kill(pid, 'SIGTERM');
  output.error(error.message);
  leave(EXEC_FAILED_EXIT);
}
