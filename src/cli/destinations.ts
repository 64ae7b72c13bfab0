/**
 * ssh-add -h: `[user@]host`, or `host1>[user@]host2` for a further step, and the host keys that known_hosts files have
 * for these names. Unlike OpenSSH, `user@` without a host is refused here (its agent always refuses the key), and
 * brackets around a name without a port are taken off.
 */
import { readFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { hostKeysFor, type KnownHostsFile } from '../keys/knownhosts.ts';
import { type DestinationConstraint, type Hop, MAX_HOP_KEYS } from '../wire/constraints.ts';
import { systemErrorText } from './errors.ts';
import { Fatal, type Output, shown } from './output.ts';

const DEFAULT_FILES = [
  '~/.ssh/known_hosts',
  '~/.ssh/known_hosts2',
  '/etc/ssh/ssh_known_hosts',
  '/etc/ssh/ssh_known_hosts2',
];

const here: Hop = { user: '', hostname: '', keys: [] };

/** The home folder of `user` by the password file, which is not what $HOME says. */
function homeOf(user: string): string | undefined {
  const self = userInfo();
  if (user === '' || user === self.username) return self.homedir;
  try {
    const line = readFileSync('/etc/passwd', 'utf8')
      .split('\n')
      .find((one) => one.startsWith(`${user}:`));
    return line?.split(':')[5];
  } catch {
    return undefined;
  }
}

/** `~/file` and `~user/file` as a path. @throws Fatal for a user that is not there */
export function expandTilde(path: string): string {
  const [whole, user, rest] = /^~([^/]*)(.*)$/s.exec(path) ?? [];
  if (whole === undefined) return path;
  const home = homeOf(user ?? '');
  if (home === undefined) throw new Fatal(`tilde_expand: No such user ${shown(user ?? '')}`);
  return join(home, rest ?? '');
}

function readFiles(paths: readonly string[], out: Output): KnownHostsFile[] {
  const files: KnownHostsFile[] = [];
  for (const given of paths) {
    const path = expandTilde(given);
    try {
      files.push({ path, content: readFileSync(path, 'utf8') });
    } catch (error) {
      // OpenSSH passes over what it can't read; a name without keys is an error soon enough.
      out.debug(1, `load_hostkeys: fopen ${shown(path)}: ${systemErrorText(error)}`);
    }
  }
  return files;
}

function parseHop(text: string, files: readonly KnownHostsFile[], out: Output): Hop {
  const at = text.lastIndexOf('@');
  const user = at < 0 ? '' : text.slice(0, at);
  const host = text.slice(at + 1);
  const hostname = /^\[[^\]]*\]$/.test(host) ? host.slice(1, -1) : host;
  if (hostname === '')
    throw new Fatal(
      at < 0
        ? `Invalid key destination constraint "${shown(text)}": does not specify user or host`
        : `Invalid key destination constraint "${shown(text)}": does not specify host`,
    );
  const keys = hostKeysFor(hostname, files);
  if (keys.length === 0) throw new Fatal(`No host keys found for destination "${shown(hostname)}"`);
  // The agent would refuse the key without a word.
  if (keys.length > MAX_HOP_KEYS)
    throw new Fatal(
      `Too many host keys for destination "${shown(hostname)}": ${keys.length}, and an agent takes ${MAX_HOP_KEYS}; ` +
        'name a file with fewer: -H hostkey_file',
    );
  out.debug(2, `${shown(hostname)}: ${keys.length} host keys`);
  return { user, hostname, keys };
}

/**
 * @param specs as given to -h
 * @param hostKeyFiles as given to -H; none: the usual ones
 * @throws Fatal
 */
export function parseDestinations(
  specs: readonly string[],
  hostKeyFiles: readonly string[],
  out: Output,
): readonly DestinationConstraint[] {
  const files = readFiles(hostKeyFiles.length > 0 ? hostKeyFiles : DEFAULT_FILES, out);
  return specs.map((spec) => {
    const cut = spec.indexOf('>');
    if (cut < 0) return { from: here, to: parseHop(spec, files, out) };
    const from = parseHop(spec.slice(0, cut), files, out);
    const to = parseHop(spec.slice(cut + 1), files, out);
    if (from.user !== '' || spec.slice(0, cut).includes('@'))
      throw new Fatal(`Invalid key constraint ${shown(spec.slice(0, cut))}: cannot specify user on 'from' host`);
    return { from, to };
  });
}
