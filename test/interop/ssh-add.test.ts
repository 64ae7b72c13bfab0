/** The system's ssh-add and ours in the same situations: what they say, how they end, what the agent holds afterwards. */
import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connectAgent } from '../../src/client/connect.ts';
import { freshEd25519 } from '../support/keys.ts';
import {
  type Agent,
  buildSshAdd,
  type Outcome,
  REFERENCE,
  run,
  runOnTerminal,
  startAgent,
  startRecorder,
} from './ssh-add-programs.ts';

const folder = mkdtempSync(join(tmpdir(), 'latchkey-ssh-add-'));
const env: Record<string, string> = {
  PATH: '/usr/bin:/bin',
  HOME: folder,
  SOFTHSM2_CONF: join(folder, 'softhsm.conf'),
};
const HSM = '/usr/lib/softhsm/libsofthsm2.so';
const agents: Agent[] = [];
let ours: readonly string[] = [];

function keygen(...args: readonly string[]): void {
  const { status, stderr } = spawnSync('/usr/bin/ssh-keygen', ['-q', ...args], { cwd: folder, encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
}

function write(name: string, content: string, mode = 0o600): void {
  writeFileSync(join(folder, name), content);
  chmodSync(join(folder, name), mode);
}

function read(name: string): string {
  return readFileSync(join(folder, name), 'utf8');
}

function makeFiles(): void {
  keygen('-t', 'ed25519', '-N', '', '-C', 'my comment', '-f', 'id');
  for (const bits of ['256', '384', '521']) keygen('-t', 'ecdsa', '-b', bits, '-N', '', '-C', bits, '-f', `ec${bits}`);
  keygen('-t', 'rsa', '-b', '2048', '-N', '', '-C', 'rsa comment', '-f', 'rsa');
  keygen('-t', 'ed25519', '-N', 'secret', '-C', 'enc comment', '-f', 'enc');
  keygen('-t', 'ecdsa', '-N', 'secret', '-C', 'second', '-f', 'enc2');
  keygen('-t', 'ed25519', '-N', 'other', '-C', 'third', '-f', 'enc3');
  keygen('-t', 'rsa', '-b', '2048', '-m', 'PEM', '-N', '', '-C', 'lost', '-f', 'pem');
  keygen('-t', 'rsa', '-b', '2048', '-m', 'PEM', '-N', 'secret', '-C', 'lost', '-f', 'pemenc');
  rmSync(join(folder, 'pem.pub'));
  keygen('-t', 'ed25519', '-N', '', '-C', 'ca', '-f', 'ca');
  for (const name of ['cid', 'cec256', 'cec384', 'cec521', 'crsa', 'old', 'alien', 'plain', 'bent']) {
    copyFileSync(join(folder, name.startsWith('c') ? name.slice(1) : 'id'), join(folder, name));
  }
  for (const name of ['cid', 'cec256', 'cec384', 'cec521', 'crsa']) {
    copyFileSync(join(folder, `${name.slice(1)}.pub`), join(folder, `${name}.pub`));
    keygen('-s', 'ca', '-I', `keyid of ${name}`, '-n', 'alice', `${name}.pub`);
  }
  copyFileSync(join(folder, 'id.pub'), join(folder, 'old.pub'));
  keygen('-s', 'ca', '-I', 'old id', '-n', 'alice', '-V', '20200101:20200102', 'old.pub');
  copyFileSync(join(folder, 'crsa-cert.pub'), join(folder, 'alien-cert.pub'));
  copyFileSync(join(folder, 'id.pub'), join(folder, 'plain-cert.pub'));
  write('bent-cert.pub', 'ssh-ed25519-cert-v01@openssh.com AAAA bent\n', 0o644);
  write('junk', 'junk\n');
  write('empty', '');
  write('cut', read('id').slice(0, 200));
  copyFileSync(join(folder, 'id'), join(folder, 'open'));
  chmodSync(join(folder, 'open'), 0o644);
  copyFileSync(join(folder, 'id'), join(folder, 'only-private'));
  copyFileSync(join(folder, 'id'), join(folder, 'crlf'));
  write('crlf', read('id').replaceAll('\n', '\r\n'));
  mkdirSync(join(folder, 'dir'), { mode: 0o700 });
  write('sneaky\x1b[2J', read('id'));
  write(
    'known_hosts',
    `one.example,two.example ${read('ec256.pub')}@cert-authority *.example ${read('ca.pub')}[port.example]:2222 ${read('id.pub')}`,
  );
  mkdirSync(join(folder, 'tokens'));
  write('softhsm.conf', `directories.tokendir = ${join(folder, 'tokens')}\nlog.level = ERROR\n`);
  const softhsm = (...args: readonly string[]): void => {
    const { status, stderr } = spawnSync('softhsm2-util', args, { env, encoding: 'utf8' });
    if (status !== 0) throw new Error(stderr);
  };
  softhsm('--init-token', '--free', '--label', 'token', '--pin', '1234', '--so-pin', '1234');
  spawnSync('/usr/bin/openssl', ['pkcs8', '-topk8', '-nocrypt', '-in', 'pem', '-out', 'pem.p8'], { cwd: folder });
  softhsm('--import', join(folder, 'pem.p8'), '--token', 'token', '--label', 'hsm key', '--id', '01', '--pin', '1234');
}

beforeAll(async () => {
  makeFiles();
  ours = await buildSshAdd(join(folder, 'bundle'));
  for (const name of ['reference', 'ours']) agents.push(startAgent(folder, name, env));
});

afterAll(() => {
  for (const agent of agents) agent.stop();
  rmSync(folder, { recursive: true, force: true });
});

interface Situation {
  readonly args: readonly string[];
  /** Calls of the system's ssh-add before it. */
  readonly before?: readonly (readonly string[])[];
  readonly beforeInput?: string;
  readonly input?: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/** Empties the agent, whatever the situation before left in it. */
async function clean(agent: Agent): Promise<void> {
  const client = await connectAgent(agent.socket);
  await client.unlock(Buffer.from('pw')).catch(() => {});
  await client.removeToken(HSM, new Uint8Array()).catch(() => {});
  await client.removeAll();
  client.close();
}

async function outcomeOf(program: readonly string[], agent: Agent, situation: Situation): Promise<Outcome> {
  const base = { ...env, SSH_AUTH_SOCK: agent.socket };
  await clean(agent);
  for (const args of situation.before ?? [])
    await run([...REFERENCE, ...args], { cwd: folder, env: base, input: situation.beforeInput ?? '' });
  const own: Record<string, string | undefined> = { ...base, ...situation.env };
  const set = Object.entries(own).filter((entry): entry is [string, string] => entry[1] !== undefined);
  const options = { cwd: folder, env: Object.fromEntries(set), input: situation.input ?? '' };
  return run([...program, ...situation.args], options);
}

/** The keys in the agent: blob and comment, one line each. */
async function held(agent: Agent): Promise<string> {
  const client = await connectAgent(agent.socket);
  const identities = await client.list();
  client.close();
  return identities.map(({ blob, comment }) => `${Buffer.from(blob).toString('base64')} ${comment}\n`).join('');
}

async function both(situation: Situation): Promise<{ ours: Outcome; reference: Outcome }> {
  const [forReference, forOurs] = agents as [Agent, Agent];
  const [reference, own] = await Promise.all([
    outcomeOf(REFERENCE, forReference, situation),
    outcomeOf(ours, forOurs, situation),
  ]);
  expect(await held(forOurs)).toBe(await held(forReference));
  return { ours: own, reference };
}

const same: readonly (readonly [string, Situation])[] = [
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

/** 9.2 says seconds where 10 and later write as fmt_timeframe does. */
const lifetimes: Readonly<Record<string, string>> = {
  '90': '00:01:30',
  '3600': '01:00:00',
  '93780': '1d02h03m',
  '1814400': '03w0d00h',
};

function asLaterReleases(outcome: Outcome): Outcome {
  const stderr = outcome.stderr.replace(
    /(?<=Lifetime set to )(\d+) seconds/g,
    (all, seconds) => lifetimes[seconds] ?? all,
  );
  return { ...outcome, stderr };
}

const USAGE = `usage: ssh-add [-CcDdKkLlNQqvXx] [-E fingerprint_hash] [-H hostkey_file]
               [-h destination_constraint] [-S provider] [-t life]
               [file ...]
       ssh-add -s pkcs11 [-Cv] [certificate ...]
       ssh-add -e pkcs11
       ssh-add -T pubkey ...
`;
const failed = (stderr: string, code = 1): Outcome => ({ stdout: '', stderr, code });

/** What we do otherwise than the 9.2 on this machine, each with its reason. */
const better: readonly (readonly [string, string, Situation, Outcome])[] = [
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
    '-K',
    'security keys come later',
    { args: ['-K'] },
    failed('Unable to load resident keys: requested feature not supported\n'),
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

describe('in the same situation', () => {
  it('both programs have what they need', () => {
    write('teller', '#!/bin/sh\necho "$1$SSH_ASKPASS_PROMPT" >&2\necho secret\necho more\n', 0o700);
    write('secret', '#!/bin/sh\nprintf secret\n', 0o700);
  });

  it.each(same)('%s: both say and do the same', async (_name, situation) => {
    const { ours: own, reference } = await both(situation);
    expect(own).toEqual(asLaterReleases(reference));
  });

  it.each(better)('%s: ours differs, since %s', async (_name, _reason, situation, expected) => {
    expect(await outcomeOf(ours, agents[1] as Agent, situation)).toEqual(expected);
  });

  it('-C adds the certificate alone and succeeds, where OpenSSH says that it failed', async () => {
    const agent = agents[1] as Agent;
    const outcome = await outcomeOf(ours, agent, { args: ['-C', 'cid'] });
    expect(outcome).toEqual({ stdout: '', stderr: 'Certificate added: cid-cert.pub (keyid of cid)\n', code: 0 });
    expect(await held(agent)).toBe(`${read('cid-cert.pub').split(' ')[1]} my comment\n`);
    const none = await outcomeOf(ours, agent, { args: ['-C', 'id'] });
    expect(none).toEqual(failed('No certificate added: id-cert.pub: No such file or directory\n'));
    const removed = await outcomeOf(ours, agent, { args: ['-dC', 'cid'], before: [['cid']] });
    expect(removed.stderr).toMatch(/^Identity removed: cid-cert.pub ED25519-CERT \(my comment\)\n$/);
    expect(await held(agent)).toBe(`${read('id.pub').split(' ')[1]} my comment\n`);
  });

  it('an expired certificate is left out, unless -N is given', async () => {
    const agent = agents[1] as Agent;
    expect(await outcomeOf(ours, agent, { args: ['old'] })).toEqual({
      stdout: '',
      stderr: 'Identity added: old (my comment)\nCertificate old-cert.pub has already expired; ignored\n',
      code: 0,
    });
    expect(await outcomeOf(ours, agent, { args: ['-N', 'old'] })).toEqual({
      stdout: '',
      stderr: 'Identity added: old (my comment)\nCertificate added: old-cert.pub (old id)\n',
      code: 0,
    });
  });

  it('a certificate gets the rest of its validity and five minutes as lifetime, or -t if that is less', async () => {
    copyFileSync(join(folder, 'id'), join(folder, 'hour'));
    copyFileSync(join(folder, 'id.pub'), join(folder, 'hour.pub'));
    keygen('-s', 'ca', '-I', 'hour id', '-n', 'alice', '-V', '-1m:+1h', 'hour.pub');
    const agent = agents[1] as Agent;
    const { stderr } = await outcomeOf(ours, agent, { args: ['hour'] });
    expect(stderr).toMatch(
      /^Identity added: hour \(my comment\)\nCertificate added: \S+ \(hour id\)\nLifetime set to 01:0[345]:\d\d\n$/,
    );
    const short = await outcomeOf(ours, agent, { args: ['-t', '90', 'hour'] });
    expect(short.stderr).toMatch(/\(hour id\)\nLifetime set to 00:01:30\n$/);
    const endless = await outcomeOf(ours, agent, { args: ['-N', 'hour'] });
    expect(endless.stderr).toMatch(/\(hour id\)\n$/);
  });

  it('says that there is no default key, and exits 1', async () => {
    const { stdout, stderr, code } = await outcomeOf(ours, agents[1] as Agent, { args: [] });
    // Whoever runs this may have keys in the home folder of the password file: then the file is named.
    expect({ stdout, code: typeof code }).toEqual({ stdout: '', code: 'number' });
    expect(stderr).toMatch(/No key to add: |\.ssh\/id_/);
  });

  it('--help has the usage and examples on standard output, --version a line', async () => {
    const help = await outcomeOf(ours, agents[1] as Agent, { args: ['--help'], env: { SSH_AUTH_SOCK: undefined } });
    expect({ ...help, stdout: '' }).toEqual({ stdout: '', stderr: '', code: 0 });
    expect(help.stdout.startsWith(USAGE)).toBe(true);
    expect(help.stdout).toContain('ssh-add -t 1h');
    const version = await outcomeOf(ours, agents[1] as Agent, { args: ['--version'] });
    expect(version.stdout).toMatch(/^ssh-add \(Latchkey\) \d+\.\d+\.\d+\n$/);
  });

  it('lists 1000 keys as the reference does', async () => {
    const agent = agents[0] as Agent;
    const names: string[] = [];
    mkdirSync(join(folder, 'many'));
    keygen('-t', 'ecdsa', '-N', '', '-C', 'x', '-f', 'many/0');
    const client = await connectAgent(agent.socket);
    await client.removeAll();
    for (let i = 0; i < 1000; i++) names.push(`key ${i}`);
    await Promise.all(names.map((name) => client.add(freshEd25519().key, name)));
    const options = { cwd: folder, env: { ...env, SSH_AUTH_SOCK: agent.socket } };
    for (const flag of ['-l', '-L']) {
      const reference = await run([...REFERENCE, flag], options);
      expect(reference.stdout.split('\n')).toHaveLength(1001);
      expect(await run([...ours, flag], options)).toEqual(reference);
    }
    await client.removeAll();
    client.close();
  });

  it('ends quietly when nobody reads its list any more', async () => {
    const agent = agents[1] as Agent;
    await outcomeOf(REFERENCE, agent, { args: ['id'] });
    const command = ['/bin/sh', '-c', '("$@"; echo "code $?" >&2) | :', 'sh', ...ours, '-L'];
    const { stderr } = await run(command, { cwd: folder, env: { ...env, SSH_AUTH_SOCK: agent.socket } });
    // 0 where the line was written before the reader was gone.
    expect(stderr).toMatch(/^code (141|0)\n$/);
  });
});

describe('what the agent is asked', () => {
  const requestsOf = async (program: readonly string[], args: readonly string[], input: string): Promise<string[]> => {
    const socket = join(folder, 'recorder');
    const recorder = await startRecorder(socket);
    try {
      await run([...program, ...args], { cwd: folder, env: { ...env, SSH_AUTH_SOCK: socket }, input });
    } finally {
      recorder.stop();
    }
    return recorder.requests;
  };

  it.each([
    [['id', 'ec256', 'ec384', 'ec521', 'rsa', 'pem'], ''],
    [['cid', 'cec256', 'cec384', 'cec521', 'crsa'], ''],
    [['-c', '-t', '90', 'cid', 'rsa'], ''],
    [['-h', 'one.example', '-h', 'one.example>alice@two.example', '-H', 'known_hosts', 'id'], ''],
    [['-h', '[port.example]:2222', '-H', 'known_hosts', '-ct5', 'id'], ''],
    [['-d', 'cid', 'rsa'], ''],
    [['-D'], ''],
    [['-x'], 'pw\npw\n'],
    [['-X'], 'pw\n'],
    [['-s', '/lib.so'], 'pin\n'],
    [['-ct', '90', '-h', 'one.example', '-H', 'known_hosts', '-s', '/lib.so'], '\n'],
    [['-e', '/lib.so'], ''],
    [['enc'], 'secret\n'],
  ])('is byte for byte the same for %j', async (args, input) => {
    const reference = await requestsOf(REFERENCE, args, input);
    expect(reference.length).toBeGreaterThan(0);
    expect(await requestsOf(ours, args, input)).toEqual(reference);
  });

  it('has the certificates for a token, as 9.6 and later send them', async () => {
    const certificate = Buffer.from(read('cid-cert.pub').split(' ')[1] ?? '', 'base64');
    const string = (bytes: Uint8Array | string): Buffer => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(Buffer.from(bytes).length);
      return Buffer.concat([length, Buffer.from(bytes)]);
    };
    const expected = Buffer.concat([
      Buffer.from([26]),
      string('/lib.so'),
      string('pin'),
      Buffer.from([255]),
      string('associated-certs-v00@openssh.com'),
      Buffer.from([1]),
      string(string(certificate)),
    ]);
    expect(await requestsOf(ours, ['-C', '-s', '/lib.so', 'cid-cert.pub'], 'pin\n')).toEqual([
      expected.toString('hex'),
    ]);
  });

  it('is said to be malformed where the agent answers nonsense', async () => {
    const socket = join(folder, 'recorder');
    const recorder = await startRecorder(socket);
    const outcome = await run([...ours, '-l'], { cwd: folder, env: { ...env, SSH_AUTH_SOCK: socket } });
    recorder.stop();
    expect(outcome).toEqual(failed('error fetching identities: invalid format\n'));
  });
});

describe('on a terminal', () => {
  const options = (): { cwd: string; env: Record<string, string> } => ({
    cwd: folder,
    env: { ...env, SSH_AUTH_SOCK: (agents[1] as Agent).socket },
  });

  it('asks without echo, again after a wrong passphrase, and leaves echo on', () => {
    const steps = [
      ['Enter passphrase for enc: ', 'wrong\n'],
      ['Bad passphrase, try again for enc: ', 'secret\n'],
    ] as const;
    const outcome = runOnTerminal([...ours, 'enc'], steps, options());
    expect(outcome).toEqual({ ...runOnTerminal([...REFERENCE, 'enc'], steps, options()), echo_after: true });
    expect(outcome).toMatchObject({ status: 0, echo: [false, false] });
    expect(outcome.output).not.toContain('secret');
  });

  it('asks the terminal while standard input is a pipe', () => {
    const command = ['/bin/sh', '-c', 'echo piped | "$@"', 'sh', ...ours, 'enc'];
    const outcome = runOnTerminal(command, [['Enter passphrase for enc: ', 'secret\n']], options());
    expect(outcome).toMatchObject({ status: 0, echo: [false], echo_after: true });
    expect(outcome.output).toContain('Identity added: enc (enc comment)');
  });

  it('lets the person correct what was typed', () => {
    const typed = 'nonsense\x15secrex\x7ft\n';
    expect(runOnTerminal([...ours, 'enc'], [['enc: ', typed]], options())).toMatchObject({ status: 0 });
  });

  it('takes no more than 1023 bytes, and text of any language', () => {
    const passphrase = 'Пароль 鍵 🔑';
    keygen('-t', 'ed25519', '-N', passphrase, '-C', 'foreign', '-f', 'foreign');
    const steps = [
      ['foreign: ', `${'x'.repeat(2000)}\n`],
      ['again for foreign: ', `${passphrase}\n`],
    ] as const;
    expect(runOnTerminal([...ours, 'foreign'], steps, options())).toMatchObject({ status: 0 });
  });

  it('gives up at an empty answer', () => {
    const outcome = runOnTerminal([...ours, 'enc'], [['enc: ', '\n']], options());
    expect(outcome).toMatchObject({ status: 1, output: 'Enter passphrase for enc: \n', echo_after: true });
  });

  it.each([
    ['Ctrl-C', '\x03', 2],
    ['Ctrl-\\', '\x1c', 3],
    ['SIGTERM', 'signal:SIGTERM', 15],
    ['SIGHUP', 'signal:SIGHUP', 1],
  ])('ends with the signal at %s, and echo is on again', (_name, send, signal) => {
    const outcome = runOnTerminal([...ours, 'enc'], [['enc: ', send]], options());
    expect(outcome).toMatchObject({ signal, status: null, echo: [false], echo_after: true });
  });

  it('stops at Ctrl-Z with echo on, and asks anew when it goes on', () => {
    const shell = ['/bin/bash', '--norc', '--noprofile', '--noediting', '-i'];
    const steps = [
      ['$ ', `set +H; PS1=; ${ours.join(' ')} enc\n`],
      ['for enc: ', '\x1a'],
      ['Stopped', 'stty -a | grep -q " -echo " || echo "is" "on"; fg\n'],
      ['is on', ''],
      ['for enc: ', 'secret\n'],
      ['Identity added', 'exit\n'],
    ] as const;
    const outcome = runOnTerminal(shell, steps, { ...options(), env: { ...options().env, PS1: '$ ', TERM: 'dumb' } });
    expect(outcome.echo.slice(1, 5)).toEqual([false, true, expect.any(Boolean), false]);
    expect(outcome.output).not.toContain('secret');
  });

  it('asks askpass instead where that is preferred', () => {
    const own = { ...options().env, SSH_ASKPASS: './secret', SSH_ASKPASS_REQUIRE: 'prefer', DISPLAY: 'x' };
    const outcome = runOnTerminal([...ours, 'enc'], [], { ...options(), env: own });
    expect(outcome).toMatchObject({ status: 0, output: 'Identity added: enc (enc comment)\n' });
  });

  it('says more than OpenSSH after its line, for a person alone', () => {
    const outcome = runOnTerminal([...ours, 'id.pub'], [], options());
    expect(outcome.output).toMatch(
      /This private key will be ignored.\n {2}To make it yours alone: chmod 600 'id.pub'\n$/,
    );
    const junk = runOnTerminal([...ours, 'junk'], [], options());
    expect(junk.output).toMatch(/^Error loading key "junk": invalid format\n {2}\S.+\n$/);
  });
});
