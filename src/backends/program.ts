/**
 * Programs that show a question to a person (askpass, pinentry): what is asked may be over before they answer, so each can
 * be ended with all that it started, and none outlives the agent. A shell script passes no signal on to its dialog, so
 * descendants are looked up: on Linux; elsewhere the program alone is ended.
 */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { accessSync, constants, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export type Environment = Readonly<Record<string, string | undefined>>;

/** How long a program may take to end when it is told to, in ms. */
export const END_MS = 2000;
/** Of one program: more of them are not looked for. */
const MAX_DESCENDANTS = 64;

const running = new Set<ChildProcess>();
let endsWithUs = false;

/** Whether `program`, a path or a name that is looked for in PATH, could be run. */
export function isInstalled(program: string, env: Environment): boolean {
  const paths = program.includes('/') ? [program] : (env.PATH ?? '').split(':').map((folder) => join(folder, program));
  return paths.some((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** @throws Error with the system's code where `args` or `env` hold a NUL; a program that cannot be run is an 'error' event */
export function startProgram(program: string, args: readonly string[], options: SpawnOptions): ChildProcess {
  const child = spawn(program, args, options);
  running.add(child);
  const forget = (): void => {
    running.delete(child);
  };
  child.once('error', forget);
  child.once('exit', forget);
  if (!endsWithUs) {
    endsWithUs = true;
    process.once('exit', () => {
      for (const other of running) send(other, 'SIGTERM');
    });
  }
  return child;
}

/** Ends `child`, gently at first; what it still says is dropped. */
export function endProgram(child: ChildProcess): void {
  // Whoever it started may hold the other end.
  child.stdout?.destroy();
  child.stdin?.destroy();
  if (!running.has(child)) return;
  send(child, 'SIGTERM');
  setTimeout(() => {
    if (running.has(child)) send(child, 'SIGKILL');
  }, END_MS).unref();
}

function send(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  // Youngest first: a parent that sees its dialog end might show the next.
  const pids = [child.pid, ...descendants(child.pid)].reverse();
  child.kill('SIGSTOP');
  for (const pid of pids) {
    try {
      process.kill(pid, signal);
    } catch {
      // It has ended by itself.
    }
  }
  child.kill('SIGCONT');
}

function descendants(root: number): readonly number[] {
  const found: number[] = [];
  for (let at = -1; at < found.length && found.length < MAX_DESCENDANTS; at++) {
    const pid = at < 0 ? root : found[at];
    try {
      for (const thread of readdirSync(`/proc/${pid}/task`))
        for (const word of readFileSync(`/proc/${pid}/task/${thread}/children`, 'utf8').split(' '))
          if (word !== '') found.push(Number(word));
    } catch {
      // It has ended, or this system has no such list.
    }
  }
  return found;
}
