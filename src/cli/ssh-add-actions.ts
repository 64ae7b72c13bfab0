/** All actions of ssh-add but the list. Their code is a file of its own in the build, since most calls are `-l`. */
import { statSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { restoreKept } from './environment.ts';
import { Fatal, shown, standardOutput } from './output.ts';
import { concluded, withAgent } from './ssh-add-connect.ts';
import { type Options, parseOptions } from './ssh-add-options.ts';
import type { Session } from './ssh-add-session.ts';

/** In this order, below the home folder of the password file. */
const DEFAULT_FILES = [
  '.ssh/id_rsa',
  '.ssh/id_ecdsa',
  '.ssh/id_ecdsa_sk',
  '.ssh/id_ed25519',
  '.ssh/id_ed25519_sk',
  '.ssh/id_mldsa44_ed25519',
];

function exists(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false }) !== undefined;
  } catch {
    return false;
  }
}

async function files(session: Session): Promise<boolean> {
  const { options, out } = session;
  if (options.keysOnly && options.certificatesOnly && !options.deleting) {
    // OpenSSH asks for the passphrase, adds nothing and fails without a word.
    out.error('No key to add: -k leaves out certificates, and -C all else');
    return false;
  }
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
    case 'list':
    case 'listKeys':
      throw new Fatal('the list is no action of this file');
    default:
      return action satisfies never;
  }
}

/** Whether -h counts for this action: OpenSSH looks at it after those that only talk to the agent. */
function usesDestinations({ action, destinations }: Options): boolean {
  return destinations.length > 0 && ['test', 'token', 'resident', 'files'].includes(action);
}

/** Runs ssh-add with `argv` (without the program's name), which asks for no list; its exit code. */
export function runAction(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const out = standardOutput();
  return concluded(out, async () => {
    const options = parseOptions(argv, env, out);
    if (typeof options === 'number') return options;
    return withAgent(env.SSH_AUTH_SOCK, out, async (agent) => {
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
    });
  });
}
