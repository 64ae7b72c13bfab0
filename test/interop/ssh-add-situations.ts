/** Situations in which ssh-add is called, and what of ours is otherwise than the system's. */
import { HSM, read } from './ssh-add-files.ts';
import type { Outcome } from './ssh-add-programs.ts';

export interface Situation {
  readonly args: readonly string[];
  /** Calls of the system's ssh-add before it. */
  readonly before?: readonly (readonly string[])[];
  readonly beforeInput?: string;
  readonly input?: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/** Both programs say and do the same. */
export const same: readonly (readonly [string, Situation])[] = [
  ['no agent is named', { args: ['-l'], env: { SSH_AUTH_SOCK: undefined } }],
  ['an empty name', { args: ['id'], env: { SSH_AUTH_SOCK: '' } }],
  ['no socket', { args: ['-l'], env: { SSH_AUTH_SOCK: 'missing' } }],
  ['the socket called none', { args: ['-l'], env: { SSH_AUTH_SOCK: 'none' } }],
  ['a file for a socket', { args: ['-l'], env: { SSH_AUTH_SOCK: 'junk' } }],
  ['a folder for a socket', { args: ['-l'], env: { SSH_AUTH_SOCK: 'dir' } }],
  ['a socket below a file', { args: ['-l'], env: { SSH_AUTH_SOCK: 'junk/x' } }],
  ['a socket with a long name', { args: ['-l'], env: { SSH_AUTH_SOCK: 'x'.repeat(300) } }],
  ['-l without keys', { args: ['-l'] }],
  ['-L without keys', { args: ['-L'] }],
  ['-l', { args: ['-l'], before: [['id', 'ec256', 'ec384', 'ec521', 'rsa', 'cid', 'pem']] }],
  ['-L', { args: ['-L'], before: [['id', 'ec256', 'ec384', 'ec521', 'rsa', 'cid', 'pem']] }],
  ['-l -E md5', { args: ['-l', '-E', 'md5'], before: [['id', 'cid']] }],
  ['-l -E SHA512', { args: ['-lESHA512'], before: [['id']] }],
  ['-E of no hash', { args: ['-E', 'crc'] }],
  ['-l -L', { args: ['-l', '-L'] }],
  ['-l -l', { args: ['-ll'] }],
  ['-x -X', { args: ['-xX'] }],
  ['-l -x', { args: ['-l', '-x'] }],
  ['-D -l', { args: ['-Dl'] }],
  ['a key', { args: ['id'] }],
  ['a key, quietly', { args: ['-q', 'id'] }],
  ['a key again, with another comment', { args: ['only-private'], before: [['id']] }],
  ['every type', { args: ['id', 'ec256', 'ec384', 'ec521', 'rsa'] }],
  ['a PEM file, which has no comment', { args: ['pem'] }],
  ['-t 90', { args: ['-t', '90', 'id'] }],
  ['-t 1d2h3m', { args: ['-t1d2h3m', 'id'] }],
  ['-t 3w', { args: ['-t', '3w', 'id'] }],
  ['-t 0', { args: ['-t', '0', 'id'] }],
  ['-c', { args: ['-c', 'id'] }],
  ['-c -t', { args: ['-ct', '1h', 'id'] }],
  ['-t of nonsense', { args: ['-t', '1x', 'id'] }],
  ['-t of nothing', { args: ['-t', '', 'id'] }],
  ['-t hexadecimal', { args: ['-t', '0x10', 'id'] }],
  [
    'standard input',
    {
      args: ['-'],
      get input() {
        return read('id');
      },
    },
  ],
  ['no such file, and one that is', { args: ['missing', 'id'] }],
  ['a path through a file', { args: ['junk/id'] }],
  ['an open file', { args: ['open'] }],
  ['a folder', { args: ['dir'] }],
  ['an open folder', { args: ['.'] }],
  ['options after a file', { args: ['id', '-l'] }],
  ['an encrypted key, its passphrase on standard input', { args: ['enc'], input: 'secret\n' }],
  ['a passphrase that needs a second try', { args: ['enc'], input: 'wrong\nsecret\n' }],
  ['no passphrase', { args: ['enc', 'id'], input: '\n' }],
  ['the end instead of a passphrase', { args: ['enc'] }],
  ['one passphrase for two keys', { args: ['enc', 'enc2'], input: 'secret\n' }],
  ['another passphrase for the third', { args: ['enc', 'enc2', 'enc3'], input: 'secret\nother\n' }],
  ['an encrypted PEM file with -c', { args: ['-c', 'pemenc'], input: 'wrong\nsecret\n' }],
  ['an askpass without a display', { args: ['enc'], env: { SSH_ASKPASS: '/bin/false' }, input: 'secret\n' }],
  ['an askpass that fails', { args: ['enc'], env: { SSH_ASKPASS: '/bin/false', DISPLAY: 'x' }, input: 'secret\n' }],
  ['an askpass that says the prompt', { args: ['enc'], env: { SSH_ASKPASS: './teller', DISPLAY: 'x' } }],
  ['an askpass on Wayland', { args: ['enc'], env: { SSH_ASKPASS: './secret', DISPLAY: 'x', WAYLAND_DISPLAY: 'w' } }],
  ['an askpass by force', { args: ['enc'], env: { SSH_ASKPASS: './secret', SSH_ASKPASS_REQUIRE: 'FORCE' } }],
  [
    'an askpass preferred, with no display',
    { args: ['enc'], env: { SSH_ASKPASS: './secret', SSH_ASKPASS_REQUIRE: 'prefer' }, input: 'x\nsecret\n' },
  ],
  [
    'an askpass that is not wanted',
    {
      args: ['enc'],
      env: { SSH_ASKPASS: '/bin/false', DISPLAY: 'x', SSH_ASKPASS_REQUIRE: 'never' },
      input: 'secret\n',
    },
  ],
  ['an askpass that is not there', { args: ['enc'], env: { SSH_ASKPASS: './missing', DISPLAY: 'x' } }],
  ['a certificate beside the key', { args: ['cid'] }],
  ['certificates of every type', { args: ['cec256', 'cec384', 'cec521', 'crsa'] }],
  ['a certificate, quietly', { args: ['-qc', 'cid'] }],
  ['a certificate with -t and -c', { args: ['-c', '-t', '90', 'cid'] }],
  ['-k, with a certificate', { args: ['-k', 'cid'] }],
  ["another key's certificate", { args: ['alien'] }],
  ['a plain key as certificate', { args: ['plain'] }],
  ['a malformed certificate', { args: ['bent'] }],
  ['-d', { args: ['-d', 'id'], before: [['id', 'rsa']] }],
  ['-d, quietly', { args: ['-dq', 'id'], before: [['id']] }],
  ['-d of a key that is not held', { args: ['-d', 'id', 'rsa'], before: [['rsa']] }],
  ['-d with a certificate', { args: ['-d', 'cid'], before: [['cid']] }],
  ['-d -k with a certificate', { args: ['-dk', 'cid'], before: [['cid']] }],
  ['-d of a public file', { args: ['-d', 'cid.pub'], before: [['cid']] }],
  ['-d of a private file alone', { args: ['-d', 'only-private'], before: [['id']] }],
  ['-d of an encrypted private file', { args: ['-d', 'enc'], before: [['enc']], beforeInput: 'secret\n' }],
  ['-d of a PEM file alone', { args: ['-d', 'pem'] }],
  ['-d of nothing', { args: ['-d', 'missing', 'junk'] }],
  ["-d with another key's certificate", { args: ['-d', 'alien'], before: [['id']] }],
  ['-d of a malformed certificate', { args: ['-d', 'bent'], before: [['id']] }],
  [
    '-d -',
    {
      args: ['-d', '-'],
      before: [['id', 'rsa']],
      get input() {
        return `# comment\n\n${read('id.pub')}nonsense\nssh-nope AAAA x\n  ${read('rsa.pub')}${read('ec256.pub')}`;
      },
    },
  ],
  ['-d - of nothing', { args: ['-d', '-'] }],
  ['-D', { args: ['-D'], before: [['id', 'rsa']] }],
  ['-D, quietly', { args: ['-qD'], before: [['id']] }],
  ['-x', { args: ['-x'], before: [['id']], input: 'pw\npw\n' }],
  ['-x, quietly', { args: ['-xq'], input: 'pw\npw\n' }],
  ['-x with two passwords', { args: ['-x'], input: 'pw\npx\n' }],
  ['-x of a locked agent', { args: ['-x'], before: [['-x']], beforeInput: 'pw\npw\n', input: 'pw\npw\n' }],
  ['-l of a locked agent', { args: ['-l'], before: [['id'], ['-x']], beforeInput: 'pw\npw\n' }],
  ['a key for a locked agent', { args: ['id'], before: [['-x']], beforeInput: 'pw\npw\n' }],
  ['-X', { args: ['-X'], before: [['-x']], beforeInput: 'pw\npw\n', input: 'pw\n' }],
  ['-X with another password', { args: ['-X'], before: [['-x']], beforeInput: 'pw\npw\n', input: 'px\n' }],
  ['-T', { args: ['-T', 'id.pub', 'rsa.pub', 'ec521', 'cid-cert.pub'], before: [['cid', 'rsa', 'ec521']] }],
  ['-T of a key that is not held', { args: ['-T', 'enc.pub', 'id.pub'], before: [['id']] }],
  ['-T of nothing', { args: ['-T', 'missing'] }],
  ['-T without a file', { args: ['-T'] }],
  ['-s', { args: ['-s', HSM], input: '1234\n' }],
  ['-s, quietly, with -t', { args: ['-qt', '90', '-s', HSM], input: '1234\n' }],
  ['-s of no library', { args: ['-s', '/missing.so'], input: '\n' }],
  ['-e of no library', { args: ['-e', '/missing.so'] }],
  ['-e', { args: ['-e', HSM], before: [['-s', HSM]], beforeInput: '1234\n' }],
  ['-h of a host that nobody knows', { args: ['-h', 'nobody.invalid', '-H', 'known_hosts', 'id'] }],
  ['-h of a known host', { args: ['-h', 'alice@one.example', '-H', 'known_hosts', 'id'] }],
  ['-h of a further step', { args: ['-h', 'one.example>bob@two.example', '-H', 'known_hosts', 'id'] }],
  ['-h with a user on the left', { args: ['-h', 'bob@one.example>two.example', '-H', 'known_hosts', 'id'] }],
  ['-h of nothing', { args: ['-h', '', '-H', 'known_hosts', 'id'] }],
  ['-h without host keys', { args: ['-h', 'one.example', '-H', 'missing', 'id'] }],
];

export const USAGE = `usage: ssh-add [-CcDdKkLlNQqvXx] [-E fingerprint_hash] [-H hostkey_file]
               [-h destination_constraint] [-S provider] [-t life]
               [file ...]
       ssh-add -s pkcs11 [-Cv] [certificate ...]
       ssh-add -e pkcs11
       ssh-add -T pubkey ...
`;

/** Nothing on standard output. */
export const failed = (stderr: string, code = 1): Outcome => ({ stdout: '', stderr, code });

/** What we do otherwise than the 9.2 on this machine, each with its reason. */
export const better: readonly (readonly [string, string, Situation, Outcome])[] = [
  ['an unknown option', 'the usage names every option', { args: ['-Z'] }, failed(`unknown option -- Z\n${USAGE}`)],
  ['a missing argument', 'as above', { args: ['-lt'] }, failed(`option requires an argument -- t\n${USAGE}`)],
  [
    'usage before no agent',
    '10.4 parses first',
    { args: ['-Z'], env: { SSH_AUTH_SOCK: undefined } },
    failed(`unknown option -- Z\n${USAGE}`),
  ],
  ['a file of junk', 'as 10.5', { args: ['junk'] }, failed('Error loading key "junk": invalid format\n')],
  ['an empty file', 'as 10.5', { args: ['empty'] }, failed('Error loading key "empty": invalid format\n')],
  ['half a file', 'as 10.5', { args: ['cut'] }, failed('Error loading key "cut": invalid format\n')],
  [
    '-t 1.5',
    'as 10.5',
    { args: ['-t', '1.5', '-l'] },
    { stdout: 'The agent has no identities.\n', stderr: '', code: 1 },
  ],

  [
    'a file with CR LF',
    'every editor on Windows writes it',
    { args: ['crlf'] },
    { stdout: '', stderr: 'Identity added: crlf (my comment)\n', code: 0 },
  ],
  [
    '-m and -M',
    '10.1 ignores them',
    { args: ['-m', '1', '-M', '2', 'id'] },
    { stdout: '', stderr: 'Identity added: id (my comment)\n', code: 0 },
  ],
  [
    '-Q of an agent without it',
    '10.3 has -Q',
    { args: ['-Q'] },
    failed('unable to query supported extensions: agent refused operation\n', 255),
  ],
  [
    '-K of no provider',
    'what ssh-sk-helper says of its own is a hint, for terminals; more of -K is in fido.test.ts',
    { args: ['-K', '-S', '/missing.so'], input: '\n' },
    failed('Enter PIN for authenticator: Unable to load resident keys: invalid format\n'),
  ],
  [
    '-h user@',
    "OpenSSH's agent refuses the key without a reason",
    { args: ['-h', 'alice@', 'id'] },
    failed('Invalid key destination constraint "alice@": does not specify host\n', 255),
  ],
  [
    'control characters in a name',
    'they could drive the terminal',
    { args: ['sneaky\x1b[2J/x', 'missing\x07'] },
    failed('sneaky\\x1b[2J/x: Not a directory\nmissing\\x07: No such file or directory\n'),
  ],
  [
    'Apple keychain',
    'no backend yet',
    { args: ['--apple-use-keychain', 'id'] },
    failed('--apple-use-keychain: this build has no keychain backend yet\n'),
  ],
  [
    'Apple keychain, to load',
    'no backend yet',
    { args: ['--apple-load-keychain'] },
    failed('--apple-load-keychain: this build has no keychain backend yet\n'),
  ],
];
