/** OpenSSH's ssh-sk-helper: where it is, and one request to it, with what goes wrong in words. */
import { existsSync, realpathSync } from 'node:fs';
import { dirname } from 'node:path';
import { callHelper, type Environment, HelperError, type HelperReply } from './helper.ts';
import { MAX_SK_REPLY_BYTES, quoted, SecurityKeyError } from './skmessages.ts';

const program = 'ssh-sk-helper';
const folders = [
  '/usr/lib/openssh', // Debian
  '/usr/libexec/openssh', // Fedora
  '/usr/lib/ssh', // Arch, Alpine, older SUSE
  '/usr/libexec/ssh', // SUSE
  '/usr/lib64/misc', // Gentoo
  '/usr/lib/misc',
  '/opt/homebrew/opt/openssh/libexec',
  '/usr/local/opt/openssh/libexec',
  '/opt/local/libexec', // MacPorts
  '/usr/local/libexec',
  '/home/linuxbrew/.linuxbrew/opt/openssh/libexec',
];
/** Last: Apple's own helper, which is there, has no "internal" provider. */
const last = '/usr/libexec';
/** Where OpenSSH is elsewhere altogether (Nix, Guix, a prefix of one's own), from the folder above that of `ssh`. */
const inPrefix = ['libexec', 'lib/openssh', 'libexec/openssh', 'lib/ssh'];

function besideSsh(env: Environment, exists: (path: string) => boolean): readonly string[] {
  const paths = (env.PATH ?? '').split(':').filter((folder) => folder.startsWith('/'));
  const ssh = paths.map((folder) => `${folder}/ssh`).find(exists);
  if (ssh === undefined) return [];
  try {
    const prefix = dirname(dirname(realpathSync(ssh)));
    return inPrefix.map((folder) => `${prefix}/${folder}`);
  } catch {
    return [];
  }
}

/** Where OpenSSH's helper is, or undefined. What SSH_SK_HELPER names is believed, and need not exist. */
export function findSkHelper(env: Environment, exists: (path: string) => boolean = existsSync): string | undefined {
  const named = env.SSH_SK_HELPER ?? '';
  if (named !== '') return named;
  const usual = folders.map((folder) => `${folder}/${program}`).find(exists);
  if (usual !== undefined) return usual;
  return [...besideSsh(env, exists), last].map((folder) => `${folder}/${program}`).find(exists);
}

function failure(error: HelperError): SecurityKeyError {
  if (error.code === 'not-started')
    return new SecurityKeyError(
      'unsupported',
      "ssh-sk-helper can't be started: is it there, and executable? SSH_SK_HELPER names it",
      'agent refused operation',
      { cause: error },
    );
  const words = `security key: ${error.message}${quoted(error.complaint)}`;
  return new SecurityKeyError('internal', words, 'agent refused operation', { cause: error });
}

/** One request to the helper. @throws SecurityKeyError */
export async function askSkHelper(
  request: readonly Uint8Array[],
  env: Environment,
  signal: AbortSignal | undefined,
  milliseconds: number,
): Promise<HelperReply> {
  const helper = findSkHelper(env);
  if (helper === undefined)
    throw new SecurityKeyError(
      'unsupported',
      "ssh-sk-helper is missing: it comes with OpenSSH's client, or SSH_SK_HELPER names it",
      'requested feature not supported',
    );
  try {
    return await callHelper({ program: helper, env, request, maxReplyBytes: MAX_SK_REPLY_BYTES, milliseconds, signal });
  } catch (error) {
    throw error instanceof HelperError ? failure(error) : error;
  }
}
