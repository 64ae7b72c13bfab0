/** Runs bin/ssh-agent as a script would, in a home of its own, beside the system's; what it started ends with the test. */
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cleanEnv, program, until } from '../support/agentprocess.ts';

/** Debian's, 9.2. */
export const REFERENCE = '/usr/bin/ssh-agent';
export const ours = program('ssh-agent');

export type Env = Readonly<Record<string, string>>;

/** Waits until a process is gone that is no child of ours. */
export function isGone(pid: number): Promise<boolean> {
  return until('the end of the agent', () => !existsSync(`/proc/${pid}/exe`));
}

/** Standard output, standard error without CR, and the exit code. */
export function outcome({ stdout, stderr, status }: SpawnSyncReturns<string>): readonly unknown[] {
  return [stdout, stderr.replaceAll('\r', ''), status];
}

export interface Daemon {
  /** All that its starter printed. */
  readonly text: string;
  readonly pid: number;
  readonly socket: string;
}

export class AgentHome {
  readonly path: string;
  readonly #pids: number[] = [];

  constructor() {
    this.path = realpathSync(mkdtempSync(join(tmpdir(), 'latchkey-command-')));
  }

  run(args: readonly string[], env: Env = {}, file = ours): SpawnSyncReturns<string> {
    return spawnSync(file, args, { env: cleanEnv(this.path, env), cwd: this.path, encoding: 'utf8', timeout: 30_000 });
  }

  /** Starts a daemon through `file` and its words. @throws Error where it printed no address */
  daemonBy(file: string, words: readonly string[], env: Env = {}): Daemon {
    const { stdout, stderr, status } = this.run(words, env, file);
    const pid = Number(/SSH_AGENT_PID[= ](\d+);/.exec(stdout)?.[1]);
    if (!(pid > 1) || stderr !== '' || status !== 0) throw new Error(`no agent, ${status}: ${stdout}${stderr}`);
    this.#pids.push(pid);
    return { text: stdout, pid, socket: /SSH_AUTH_SOCK[= ]([^;]+);/.exec(stdout)?.[1] ?? '' };
  }

  daemon(args: readonly string[] = [], env: Env = {}): Daemon {
    return this.daemonBy(ours, args, env);
  }

  async remove(): Promise<void> {
    for (const pid of this.#pids) {
      try {
        process.kill(pid, 'SIGTERM');
      } catch {
        // Ended in the test.
      }
      await isGone(pid);
    }
    rmSync(this.path, { recursive: true, force: true });
  }
}
