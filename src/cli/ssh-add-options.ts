/**
 * The command line of ssh-add: OpenSSH 10.5's letters and their order of precedence, Apple's two long options, --help and
 * --version. What is wrong with a value is said when it is met, as OpenSSH does, so an earlier fault hides later ones.
 */
import { getopt } from './getopt.ts';
import { Fatal, type Output, shown, VERSION } from './output.ts';
import { convtime } from './times.ts';

/** The usage, which unlike OpenSSH's names -N and -Q as well. */
export const USAGE = `usage: ssh-add [-CcDdKkLlNQqvXx] [-E fingerprint_hash] [-H hostkey_file]
               [-h destination_constraint] [-S provider] [-t life]
               [file ...]
       ssh-add -s pkcs11 [-Cv] [certificate ...]
       ssh-add -e pkcs11
       ssh-add -T pubkey ...`;

export const EXAMPLES = `
examples:
  ssh-add                              add the default keys of ~/.ssh
  ssh-add -t 1h ~/.ssh/id_ed25519      add a key for an hour
  ssh-add -c ~/.ssh/id_ed25519         add a key that asks before each use
  ssh-add -h bastion -h 'bastion>db' ~/.ssh/id_ed25519
                                       add a key for two hosts alone, one behind the other
  ssh-add -l                           list the keys that the agent holds
  ssh-add -d ~/.ssh/id_ed25519         remove a key; -D removes all of them
  ssh-add -x                           lock the agent with a password; -X unlocks it

Every option is described in ssh-add(1).`;

const LETTERS = 'vkKlLNCcdDTxXE:e:h:H:M:m:Qqs:S:t:';
const LONG_NAMES = ['help', 'version', 'apple-use-keychain', 'apple-load-keychain'] as const;

const HASHES = ['md5', 'sha1', 'sha256', 'sha384', 'sha512'];

export type Action =
  | 'lock'
  | 'unlock'
  | 'list'
  | 'listKeys'
  | 'removeAll'
  | 'query'
  | 'test'
  | 'token'
  | 'resident'
  | 'files';

export interface Options {
  readonly action: Action;
  readonly operands: readonly string[];
  readonly quiet: boolean;
  /** -d, and -e for a token. */
  readonly deleting: boolean;
  readonly keysOnly: boolean;
  readonly certificatesOnly: boolean;
  /** -N: an expiring certificate gets no lifetime of its own. */
  readonly ignoreExpiry: boolean;
  readonly confirm: boolean;
  /** Seconds; 0: for ever. */
  readonly lifetime: number;
  /** For fingerprints, in lower case. */
  readonly hash: string;
  readonly tokenProvider: string | undefined;
  readonly skProvider: string;
  /** -h, as given. */
  readonly destinations: readonly string[];
  /** -H, as given; empty: the usual ones. */
  readonly hostKeyFiles: readonly string[];
}

/** The options, or the exit code where there is nothing left to do. @throws Fatal */
export function parseOptions(
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  out: Output,
): Options | number {
  // Apple's ssh-add has -A, and there -K was the keychain's until macOS 12; APPLE_SSH_ADD_BEHAVIOR brings that back.
  const asApple = env.APPLE_SSH_ADD_BEHAVIOR === 'macos';
  const { options, operands } = getopt(argv, asApple ? `${LETTERS}A` : LETTERS, LONG_NAMES);
  const destinations: string[] = [];
  const hostKeyFiles: string[] = [];
  let tokenProvider: string | undefined;
  let skProvider = env.SSH_SK_PROVIDER;
  let list = '';
  let lock = '';
  let lifetime = 0;
  let hash = 'sha256';
  let detail = 0;
  const given = new Set<string>();
  const once = (earlier: string, letter: string): string => {
    if (earlier !== '') throw new Fatal(`-${earlier} flag already specified`);
    return letter;
  };
  for (const option of options) {
    if (option.kind === 'error') {
      out.error(shown(option.text));
      out.error(USAGE);
      return 1;
    }
    if (option.kind === 'long') {
      if (option.name === 'help') out.lines([USAGE, EXAMPLES]);
      else if (option.name === 'version') out.line(`ssh-add (Latchkey) ${VERSION}`);
      else return noKeychain(`--${option.name}`, out);
      return 0;
    }
    const { letter, value = '' } = option;
    given.add(letter);
    switch (letter) {
      case 'E':
        hash = value.toLowerCase();
        if (!HASHES.includes(hash)) throw new Fatal(`Invalid hash algorithm "${shown(value)}"`);
        break;
      case 'H':
        hostKeyFiles.push(value);
        break;
      case 'h':
        destinations.push(value);
        break;
      case 'l':
      case 'L':
        list = once(list, letter);
        break;
      case 'x':
      case 'X':
        lock = once(lock, letter);
        break;
      case 's':
        tokenProvider = value;
        break;
      case 'e':
        given.add('d');
        tokenProvider = value;
        break;
      case 'S':
        skProvider = value;
        break;
      case 't': {
        const seconds = convtime(value);
        if (seconds === undefined) {
          out.error('Invalid lifetime');
          out.hint('A lifetime is seconds, or groups such as 1h30m with s, m, h, d and w; fractions only of seconds.');
          return 1;
        }
        lifetime = seconds;
        break;
      }
      case 'v':
        out.setDetail(++detail);
        break;
      default:
        // Plain flags; -m and -M were of a signature scheme that is gone, and are ignored.
        break;
    }
  }
  if (asApple && (given.has('K') || given.has('A'))) return noKeychain(given.has('K') ? '-K' : '-A', out);
  const actions = [lock !== '', list !== '', given.has('D'), given.has('Q')].filter(Boolean);
  if (actions.length > 1) throw new Fatal('Invalid combination of actions');
  let action: Action = 'files';
  if (lock !== '') action = lock === 'x' ? 'lock' : 'unlock';
  else if (list !== '') action = list === 'l' ? 'list' : 'listKeys';
  else if (given.has('D')) action = 'removeAll';
  else if (given.has('Q')) action = 'query';
  else if (given.has('T')) action = 'test';
  else if (tokenProvider !== undefined) action = 'token';
  else if (given.has('K')) action = 'resident';
  return {
    action,
    operands,
    quiet: given.has('q'),
    deleting: given.has('d'),
    keysOnly: given.has('k'),
    certificatesOnly: given.has('C'),
    ignoreExpiry: given.has('N'),
    confirm: given.has('c'),
    lifetime,
    hash,
    tokenProvider,
    skProvider: skProvider ?? 'internal',
    destinations,
    hostKeyFiles,
  };
}

function noKeychain(option: string, out: Output): number {
  out.error(`${option}: this build has no keychain backend yet`);
  out.hint('Add the key by its file name, and type its passphrase.');
  return 1;
}
