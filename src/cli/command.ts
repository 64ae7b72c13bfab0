/** What each command of `latchkey` is made of, and how they find the agent. */
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { controlSocketPath } from '../server/listen.ts';
import { ControlError } from './control.ts';
import { systemErrorText } from './errors.ts';
import { type Output, shown } from './output.ts';

export const DONE_EXIT = 0;
export const FAILED_EXIT = 1;
export const NO_AGENT_EXIT = 2;

/** A command was given wrongly: the words say how; its usage follows. */
export class Usage extends Error {}

export interface Command {
  readonly name: string;
  /** For the list of commands, lower case, no full stop. */
  readonly summary: string;
  /** All that --help prints: usage lines, options, examples. */
  readonly usage: string;
  /** @returns the exit code. @throws Usage, Fatal, ControlError */
  run(argv: readonly string[], env: NodeJS.ProcessEnv, output: Output): Promise<number>;
}

/** The options that every command knows, where it knows no others. @throws Usage */
export function parseCommon(argv: readonly string[]): { readonly json: boolean; readonly socket: string | undefined } {
  let json = false;
  let socket: string | undefined;
  for (let i = 0; i < argv.length; i++) {
    if (argv[i] === '--json') json = true;
    else if (argv[i] === '--socket' && argv[i + 1] !== undefined) socket = argv[++i];
    else throw new Usage(`unknown word: ${shown(argv[i] ?? '')}`);
  }
  return { json, socket };
}

export function homeOf(env: NodeJS.ProcessEnv): string {
  return env.HOME !== undefined && env.HOME !== '' ? env.HOME : userInfo().homedir;
}

/** The agent's fixed place; XDG_RUNTIME_DIR is private and goes when its user logs out. */
export function defaultSocket(env: NodeJS.ProcessEnv): string {
  const runtime = env.XDG_RUNTIME_DIR;
  if (runtime?.startsWith('/')) return join(runtime, 'latchkey', 'agent.sock');
  return join(homeOf(env), '.local', 'state', 'latchkey', 'agent.sock');
}

/** The agent that a command speaks to: the one that was named, this shell's, or the default one. */
export function agentSocket(env: NodeJS.ProcessEnv, named?: string): string {
  return named ?? (env.SSH_AUTH_SOCK || defaultSocket(env));
}

/** Where the agent's state lies: records, and what it learned. Never key material. */
export function stateFolder(env: NodeJS.ProcessEnv): string {
  const state = env.XDG_STATE_HOME;
  return state?.startsWith('/') ? join(state, 'latchkey') : join(homeOf(env), '.local', 'state', 'latchkey');
}

export function configurationFile(env: NodeJS.ProcessEnv): string {
  const folder = env.XDG_CONFIG_HOME;
  return folder?.startsWith('/')
    ? join(folder, 'latchkey', 'config.toml')
    : join(homeOf(env), '.config', 'latchkey', 'config.toml');
}

/**
 * Runs `work` with the control socket of the agent, and says in words where none answers.
 * @returns the exit code of `work`, NO_AGENT_EXIT, or FAILED_EXIT where the agent refused
 */
export async function withAgent(
  env: NodeJS.ProcessEnv,
  named: string | undefined,
  output: Output,
  work: (controlPath: string) => Promise<number>,
): Promise<number> {
  const path = controlSocketPath(agentSocket(env, named));
  try {
    return await work(path);
  } catch (error) {
    const isSystem = error instanceof Error && 'syscall' in error;
    if (error instanceof ControlError && error.isRefusal) {
      // Errors of a configuration are a line each.
      output.error(`latchkey: ${error.message.split('\n').map(shown).join('\n')}`);
      return FAILED_EXIT;
    }
    if (!isSystem && !(error instanceof ControlError)) throw error;
    const why = error instanceof ControlError ? error.message : systemErrorText(error);
    output.error(`latchkey: no Latchkey agent answers at ${shown(path)}: ${why}`);
    output.hint('SSH_AUTH_SOCK may name another agent, which has no control socket. To start ours: latchkey agent');
    return NO_AGENT_EXIT;
  }
}
