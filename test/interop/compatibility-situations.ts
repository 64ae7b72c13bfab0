/**
 * Situations for ssh-add that the other interop tests do not have, and what ours says where it is otherwise than the 9.2
 * on this machine, each with its reason.
 */
import { read } from './ssh-add-files.ts';

/** Who answers at the socket: the system's agent, or a made-up one (compatibility.test.ts). */
export type AgentKind = 'agent' | 'hangs-up' | 'refuses' | 'many-keys' | 'signs-nonsense';

export interface Situation {
  readonly args: readonly string[];
  readonly agent?: AgentKind;
  /** Calls of the system's ssh-add before it, each with what it reads. */
  readonly before?: readonly (readonly [args: readonly string[], input: string])[];
  readonly input?: string;
  readonly env?: Readonly<Record<string, string>>;
}

export interface Expected {
  readonly stdout?: string;
  readonly stderr?: string;
  readonly code: number;
}

type Row = readonly [name: string, situation: Situation];
type Differing = readonly [name: string, reason: string, situation: Situation, expected: Expected];

const locked: Situation['before'] = [
  [['id'], ''],
  [['-x'], 'pw\npw\n'],
];
const lists = (...args: readonly string[]): Situation => ({ args, before: [[['id', 'rsa', 'cid'], '']] });

/** ssh-add: both programs say and do the same. */
export const sshAddSame: readonly Row[] = [
  ['-l of an agent that hangs up', { args: ['-l'], agent: 'hangs-up' }],
  ['-L of an agent that hangs up', { args: ['-L'], agent: 'hangs-up' }],
  ['a key for an agent that hangs up', { args: ['id'], agent: 'hangs-up' }],
  ['-d at an agent that hangs up', { args: ['-d', 'id'], agent: 'hangs-up' }],
  ['-x at an agent that hangs up', { args: ['-x'], agent: 'hangs-up', input: 'pw\npw\n' }],
  ['-T at an agent that hangs up', { args: ['-T', 'id.pub'], agent: 'hangs-up' }],
  ['-l of an agent that refuses', { args: ['-l'], agent: 'refuses' }],
  ['a key and its certificate, refused', { args: ['cid'], agent: 'refuses' }],
  ['a certificate alone is not tried with -k', { args: ['-k', 'cid'], agent: 'refuses' }],
  ['-d, refused', { args: ['-d', 'cid'], agent: 'refuses' }],
  ['-D, refused', { args: ['-D'], agent: 'refuses' }],
  ['-D, refused, quietly', { args: ['-qD'], agent: 'refuses' }],
  ['-X, refused', { args: ['-X'], agent: 'refuses', input: 'pw\n' }],
  ['-s, refused', { args: ['-s', '/lib.so'], agent: 'refuses', input: '1234\n' }],
  ['-e, refused, quietly', { args: ['-q', '-e', '/lib.so'], agent: 'refuses' }],
  ['-T of an agent that signs nonsense', { args: ['-T', 'id.pub'], agent: 'signs-nonsense' }],
  ['-D of a locked agent', { args: ['-D'], before: locked }],
  ['-d at a locked agent', { args: ['-d', 'id'], before: locked }],
  ['-L of a locked agent', { args: ['-L'], before: locked }],
  ['-T at a locked agent', { args: ['-T', 'id.pub'], before: locked }],
  ['-x with an empty password', { args: ['-x'], input: '\n\n' }],
  ['-x and the end of input', { args: ['-x'] }],
  ['-X of an agent that is not locked', { args: ['-X'], input: 'pw\n' }],
  ['-X with an empty password', { args: ['-X'], before: locked, input: '\n' }],
  [
    '-x by askpass',
    { args: ['-x'], env: { SSH_ASKPASS: './secret', SSH_ASKPASS_REQUIRE: 'force' }, input: 'not this\n' },
  ],
  ['-s with a PIN by askpass', { args: ['-s', '/no.so'], env: { SSH_ASKPASS: './teller', DISPLAY: 'x' } }],
  ['-l, quietly, with a file', lists('-lq', 'id')],
  ['-l with SHA-1', lists('-E', 'sha1', '-l')],
  ['-l with SHA-384', lists('-lE', 'sha384')],
  ['-L with -E', lists('-L', '-E', 'md5')],
  ['-l before -T', lists('-l', '-T', 'id.pub')],
  ['-l before -d', lists('-d', '-l', 'id')],
  ['-D before -d', lists('-d', '-D', 'id')],
  ['-T before -d', lists('-d', '-T', 'id.pub')],
  ['-T before -s', lists('-s', '/no.so', '-T', 'id.pub')],
  ['-x before -T', { ...lists('-T', '-x', 'id.pub'), input: 'a\nb\n' }],
  ['-d before the files', lists('-d', '-c', '-t', '5', 'rsa')],
  ['-L -l', { args: ['-Ll'] }],
  ['-x -x', { args: ['-x', '-x'] }],
  ['-X -x', { args: ['-X', '-x'] }],
  ['-L -D', { args: ['-L', '-D'] }],
  ['-X -l', { args: ['-X', '-l'] }],
  ['files after two dashes', { args: ['--', 'id'] }],
  ['the last -t counts', { args: ['-t', '90', '-t', '60', '-l'] }],
  ['-t of more than an int', { args: ['-t', '2147483648', 'id'] }],
  ['-t below zero', { args: ['-t', '-1', 'id'] }],
  ['-t of two groups of minutes', { args: ['-t', '1m1M', '-l'] }],
  ['-t with blanks within', { args: ['-t', '1 h', 'id'] }],
  ['-H without -h', { args: ['-H', 'missing', 'id'] }],
  ['-S is for security keys alone', { args: ['-S', '/no.so', 'id'] }],
  ['SSH_SK_PROVIDER as well', { args: ['id'], env: { SSH_SK_PROVIDER: '/no.so' } }],
  ['two destinations', { args: ['-h', 'one.example', '-h', 'two.example', '-H', 'known_hosts', 'id'] }],
  ['a destination of two steps', { args: ['-h', 'one.example>two.example>x', '-H', 'known_hosts', 'id'] }],
  ['a destination from nowhere', { args: ['-h', '>one.example', '-H', 'known_hosts', 'id'] }],
  ['a destination to nowhere', { args: ['-h', 'one.example>', '-H', 'known_hosts', 'id'] }],
  ['a destination that an authority vouches for', { args: ['-h', 'x.example', '-H', 'known_hosts', 'id'] }],
  ['a destination on another port', { args: ['-h', '[port.example]:2222', '-H', 'known_hosts', 'id'] }],
  ['a destination on the wrong port', { args: ['-h', 'port.example', '-H', 'known_hosts', 'id'] }],
  ['a destination and -T', { ...lists('-T', '-h', 'nobody.invalid', 'id.pub') }],
  ['a destination and -l', { ...lists('-l', '-h', 'nobody.invalid') }],
  ['a public file for a private one', { args: ['id.pub'] }],
  ['a file without a name', { args: ['', 'id'] }],
  ['a file that its group may read', { args: ['group'] }],
  ['a file that all may write', { args: ['world'] }],
  ['a file with a set-uid bit', { args: ['setuid'] }],
  [
    'an encrypted key on standard input',
    {
      args: ['-'],
      get input() {
        return read('enc');
      },
    },
  ],
  ['-t and -c, quietly', { args: ['-q', '-c', '-t', '5', 'cid'] }],
  ['-k -c -t', { args: ['-kct', '5', 'cid'] }],
  ['the same file twice', { args: ['id', 'id'] }],
  ['a file after one that fails', { args: ['open', 'junk/x', 'id'] }],
  ['-d of two, one of them missing', { args: ['-d', 'missing', 'id'], before: [[['id'], '']] }],
  [
    '-d - with a certificate',
    {
      args: ['-d', '-'],
      before: [[['cid'], '']],
      get input() {
        return read('cid-cert.pub');
      },
    },
  ],
  ['-d - of nonsense alone', { args: ['-d', '-'], input: 'nonsense\n\nmore nonsense\n' }],
  [
    '-d -, quietly',
    {
      args: ['-dq', '-'],
      before: [[['id'], '']],
      get input() {
        return read('id.pub');
      },
    },
  ],
  ['-T of one that is missing and one that is held', lists('-T', 'missing', 'id.pub')],
  ['-T of a private file', lists('-T', 'rsa')],
  ['-T, quietly', lists('-qT', 'id.pub')],
  ['a security key', { args: ['security'] }],
  ['-l of a security key', { args: ['-l'], before: [[['security'], '']] }],
  ['-d of a security key', { args: ['-d', 'security'], before: [[['security'], '']] }],
  ['-T of a security key', { args: ['-T', 'security'], before: [[['security'], '']] }],
];

const USAGE = `usage: ssh-add [-CcDdKkLlNQqvXx] [-E fingerprint_hash] [-H hostkey_file]
               [-h destination_constraint] [-S provider] [-t life]
               [file ...]
       ssh-add -s pkcs11 [-Cv] [certificate ...]
       ssh-add -e pkcs11
       ssh-add -T pubkey ...
`;

/** ssh-add: what we do otherwise than 9.2. */
export const sshAddDiffers: readonly Differing[] = [
  [
    'nothing on standard input',
    'as 10.5',
    { args: ['-q', '-'] },
    { stderr: 'Error loading key "(stdin)": invalid format\n', code: 1 },
  ],
  [
    '-M without its value',
    '10.4 reads its options before it looks for an agent; the usage names every option',
    { args: ['-M'], env: { SSH_AUTH_SOCK: '' } },
    { stderr: `option requires an argument -- M\n${USAGE}`, code: 1 },
  ],
  [
    'an invalid lifetime without an agent',
    'as above',
    { args: ['-t', 'x'], env: { SSH_AUTH_SOCK: '' } },
    { stderr: 'Invalid lifetime\n', code: 1 },
  ],
  [
    'two actions without an agent',
    'as above',
    { args: ['-lD'], env: { SSH_AUTH_SOCK: '' } },
    { stderr: 'Invalid combination of actions\n', code: 255 },
  ],
  ['-Q -l', '10.3 has -Q', { args: ['-Q', '-l'] }, { stderr: 'Invalid combination of actions\n', code: 255 }],
  [
    '-Q of an agent that hangs up',
    '10.3 has -Q',
    { args: ['-Q'], agent: 'hangs-up' },
    { stderr: 'unable to query supported extensions: communication with agent failed\n', code: 255 },
  ],
  ['-A', "Apple's alone", { args: ['-A'] }, { stderr: `unknown option -- A\n${USAGE}`, code: 1 }],
  [
    '-A as Apple has it',
    'no keychain yet',
    { args: ['-A'], env: { APPLE_SSH_ADD_BEHAVIOR: 'macos' } },
    { stderr: '-A: this build has no keychain backend yet\n', code: 1 },
  ],
  [
    '-K as Apple has it',
    'no keychain yet',
    { args: ['-K', 'id'], env: { APPLE_SSH_ADD_BEHAVIOR: 'macos' } },
    { stderr: '-K: this build has no keychain backend yet\n', code: 1 },
  ],
  [
    'a bracketed host without a port',
    'OpenSSH looks for a name with half the brackets',
    { args: ['-h', '[one.example]', '-H', 'known_hosts', 'id'] },
    { stderr: 'Identity added: id (my comment)\n', code: 0 },
  ],
];
