/**
 * ssh-add as OpenSSH 10.5 has it: the same flags, texts and exit codes (0 done, 1 failed, 2 no agent, 255 fatal). What is
 * better on purpose is said where it is done. Code that an action doesn't need is not loaded: most calls are `-l`.
 */
import { statSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import type { AgentClient } from '../client/client.ts';
import { connectAgent } from '../client/connect.ts';
import { AgentError } from '../client/error.ts';
import { restoreKept } from './environment.ts';
import { systemErrorText } from './errors.ts';
import { Fatal, OUTPUT_CLOSED_EXIT, type Output, OutputClosed, shown, standardOutput } from './output.ts';
import { type Options, parseOptions } from './ssh-add-options.ts';
import type { Session } from './ssh-add-session.ts';

const NO_AGENT_EXIT = 2;

/** In this order, below the home folder of the password file. */
const DEFAULT_FILES = [
  '.ssh/id_rsa',
  '.ssh/id_ecdsa',
  '.ssh/id_ecdsa_sk',
  '.ssh/id_ed25519',
  '.ssh/id_ed25519_sk',
  '.ssh/id_mldsa44_ed25519',
];

async function connect(path: string | undefined, out: Output): Promise<AgentClient | undefined> {
  try {
    // connectAgent has a meaning of its own for "none"; OpenSSH takes it for a file.
    return await connectAgent(path === 'none' ? './none' : (path ?? ''));
  } catch (error) {
    if (!(error instanceof AgentError)) throw error;
    if (error.cause === undefined) out.error('Could not open a connection to your authentication agent.');
    else out.error(`Error connecting to agent: ${systemErrorText(error.cause)}`);
    out.hint(
      error.cause === undefined
        ? 'SSH_AUTH_SOCK names no agent. To start one: eval "$(ssh-agent -s)"'
        : `SSH_AUTH_SOCK is ${shown(path ?? '')}. To start another agent: eval "$(ssh-agent -s)"`,
    );
    return undefined;
  }
}

function exists(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false }) !== undefined;
  } catch {
    return false;
  }
}

async function files(session: Session): Promise<boolean> {
  const { options, out } = session;
  let paths = options.operands;
  if (paths.length === 0) {
    const home = userInfo().homedir;
    paths = DEFAULT_FILES.map((name) => join(home, name)).filter(exists);
    if (paths.length === 0) {
      // OpenSSH says nothing here.
      out.error(
        `No key to ${options.deleting ? 'remove' : 'add'}: ${shown(home)} has none of ${DEFAULT_FILES.join(', ')}`,
      );
      return false;
    }
  }
  let all = true;
  if (options.deleting) {
    const { removeFile } = await import('./ssh-add-remove.ts');
    for (const path of paths) all = (await removeFile(session, path)) && all;
    return all;
  }
  const { addFile, PassphraseCache } = await import('./ssh-add-files.ts');
  const cache = new PassphraseCache();
  try {
    for (const path of paths) all = (await addFile(session, path, cache)) && all;
  } finally {
    cache.set(undefined);
  }
  return all;
}

async function act(session: Session): Promise<boolean> {
  const { action, tokenProvider = '' } = session.options;
  if (action === 'files') return files(session);
  if (action === 'list' || action === 'listKeys')
    return (await import('./ssh-add-list.ts')).list(session, action === 'list');
  if (action === 'resident') return (await import('./ssh-add-resident.ts')).resident(session);
  const actions = await import('./ssh-add-agent.ts');
  switch (action) {
    case 'lock':
    case 'unlock':
      return actions.lock(session, action === 'lock');
    case 'removeAll':
      return actions.removeAll(session);
    case 'query':
      return actions.query(session);
    case 'test':
      return actions.test(session);
    case 'token':
      return actions.token(session, tokenProvider);
    default:
      return action satisfies never;
  }
}

/** Whether -h counts for this action: OpenSSH looks at it after those that only talk to the agent. */
function usesDestinations({ action, destinations }: Options): boolean {
  return destinations.length > 0 && ['test', 'token', 'resident', 'files'].includes(action);
}

async function run(argv: readonly string[], env: NodeJS.ProcessEnv, out: Output): Promise<number> {
  const options = parseOptions(argv, env, out);
  if (typeof options === 'number') return options;
  const agent = await connect(env.SSH_AUTH_SOCK, out);
  if (agent === undefined) return NO_AGENT_EXIT;
  try {
    const destinations = usesDestinations(options)
      ? (await import('./destinations.ts')).parseDestinations(options.destinations, options.hostKeyFiles, out)
      : [];
    const childEnv = { ...env };
    restoreKept(childEnv);
    const ask = async (prompt: string): Promise<Uint8Array> => {
      const { readPassphrase } = await import('./passphrase.ts');
      return readPassphrase(prompt, childEnv, out);
    };
    return (await act({ agent, options, out, destinations, ask, env: childEnv })) ? 0 : 1;
  } finally {
    agent.close();
  }
}

/** Runs ssh-add with `argv` (without the program's name) and says on the standard streams what comes of it. */
export async function main(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const out = standardOutput();
  try {
    return await run(argv, env, out);
  } catch (error) {
    if (error instanceof OutputClosed) return OUTPUT_CLOSED_EXIT;
    if (error instanceof Fatal) {
      out.error(error.message);
      return error.exitCode;
    }
    // A fault of ours: its words, but no stack trace, which could show what should stay in memory.
    out.error(`ssh-add: ${shown(error instanceof Error ? error.message : String(error))}`);
    return 255;
  }
}
