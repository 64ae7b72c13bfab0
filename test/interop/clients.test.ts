// Clients that are not OpenSSH's: each logs in to a real sshd with keys that our ssh-add put into our agent, and with
// nothing else. What the server accepted and what the command printed there is checked, not what the client says.
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { keygen, type Sshd, user, writeClientConfig } from '../support/sshd.ts';
import { MESSAGE, recordAgent } from './fixtures/record.ts';
import {
  type Agent,
  bin,
  fixtures,
  type Kind,
  kinds,
  type Run,
  type RunOptions,
  Setting,
  type TestKey,
} from './fixtures/setting.ts';

const setting = new Setting();
const keys = {} as Record<Kind, TestKey>;
const golang = setting.path('golang_client');
const fixture = (name: string): string => join(fixtures, name);
const WHERE = 'echo "$LATCHKEY_HOST"';
const FLAT: readonly Kind[] = ['ed25519', 'ecdsa256', 'rsa'];
let agent: Agent;
/** Takes SHA-1 signatures of RSA keys, all that libssh2 1.10 has. */
let server: Sshd;
let certified: Sshd;
let config: string;

/** Words of a command that logs in to `sshd` and runs `command` there. */
type Words = (sshd: Sshd, command: string) => readonly string[];

function fingerprintOf({ hostKey }: Sshd): string {
  const blob = Buffer.from(hostKey.split(' ')[1] ?? '', 'base64');
  return `SHA256:${createHash('sha256').update(blob).digest('base64').replace(/=+$/, '')}`;
}

/** A program of ours that takes HOST PORT USER COMMAND. */
function program(...words: readonly string[]): Words {
  return ({ address, port }, command) => [...words, address, String(port), user, command];
}

const plink: Words = (sshd, command) => [
  ...['/usr/bin/plink', '-batch', '-P', String(sshd.port), '-l', user],
  ...['-hostkey', fingerprintOf(sshd), sshd.address, command],
];
const dbclient: Words = ({ address, port }, command) => [
  ...['/usr/bin/dbclient', '-y', '-y', '-p', String(port), '-l', user, address, command],
];
const erlang: Words = ({ address, port }, command) => [
  ...['/usr/bin/erl', '-noinput', '-kernel', 'logger_level', 'error', '-pa', setting.folder],
  ...['-eval', 'erlang_client:main(init:get_plain_arguments())'],
  ...['-extra', address, String(port), user, command],
];

/** What each client can do with an agent, and the RSA algorithm that it has sshd verify. */
const CLIENTS: readonly { name: string; words: Words; kinds: readonly Kind[]; rsa?: string }[] = [
  { name: 'dbclient', words: dbclient, kinds, rsa: 'rsa-sha2-256' },
  { name: 'plink', words: plink, kinds, rsa: 'rsa-sha2-512' },
  { name: 'libssh', words: program('/usr/bin/python3', fixture('libssh_client.py')), kinds, rsa: 'rsa-sha2-512' },
  { name: 'paramiko', words: program('/usr/bin/python3', fixture('paramiko_client.py')), kinds, rsa: 'rsa-sha2-512' },
  { name: 'asyncssh', words: program('/usr/bin/python3', fixture('asyncssh_client.py')), kinds, rsa: 'rsa-sha2-256' },
  { name: "Go's x/crypto", words: program(golang), kinds, rsa: 'rsa-sha2-256' },
  { name: "npm's ssh2", words: program(process.execPath, fixture('ssh2_client.mjs')), kinds, rsa: 'rsa-sha2-256' },
  { name: "Ruby's net-ssh", words: program('/usr/bin/ruby', fixture('netssh_client.rb')), kinds, rsa: 'rsa-sha2-256' },
  { name: 'Net::SSH2', words: program('/usr/bin/perl', fixture('netssh2_client.pl')), kinds: FLAT, rsa: 'ssh-rsa' },
  { name: "PHP's ssh2", words: program('/usr/bin/php', fixture('ssh2_client.php')), kinds: FLAT, rsa: 'ssh-rsa' },
  { name: 'phpseclib', words: program('/usr/bin/php', fixture('phpseclib_client.php')), kinds: FLAT },
  { name: "Erlang's ssh", words: erlang, kinds: FLAT, rsa: 'rsa-sha2-256' },
];

const run = ([command = '', ...args]: readonly string[], options: RunOptions = {}): Promise<Run> =>
  setting.run(command, args, { ...options, env: { SSH_AUTH_SOCK: agent.path, ...options.env } });

beforeAll(async () => {
  keygen(setting.folder, '-q', '-t', 'ed25519', '-N', '', '-C', 'authority', '-f', 'ca');
  for (const kind of kinds) keys[kind] = setting.key(kind, kind);
  const lines = kinds.map((kind) => keys[kind].line);
  server = await setting.sshd({
    name: 'server',
    authorizedKeys: lines,
    config: ['PubkeyAcceptedAlgorithms +ssh-rsa'],
  });
  const authority = readFileSync(setting.path('ca.pub'), 'utf8');
  certified = await setting.sshd({ name: 'certified', userAuthorities: [authority] });
  config = writeClientConfig(setting.path('ssh_config'), [server]);
  agent = await setting.agent();
  const go = { GO111MODULE: 'off', GOPATH: '/usr/share/gocode', GOCACHE: setting.path('go'), CGO_ENABLED: '0' };
  const built = await setting.run('/usr/bin/go', ['build', '-o', golang, fixture('golang_client.go')], { env: go });
  expect(built).toMatchObject({ status: 0, stderr: '' });
  const compiled = await setting.run('/usr/bin/erlc', ['-o', setting.folder, fixture('erlang_client.erl')]);
  expect(compiled).toMatchObject({ status: 0, stderr: '' });
});

afterAll(() => setting.end());

describe.each(CLIENTS)('$name', ({ words, kinds: able, rsa }) => {
  it.each(able)('logs in with an %s key', async (kind) => {
    await agent.holdOnly([keys[kind]]);
    const before = server.accepted().length;
    const { status, stdout, stderr } = await run(words(server, WHERE));
    expect({ status, stdout, stderr }).toMatchObject({ status: 0, stdout: `${server.word}\n` });
    expect(server.accepted().slice(before)).toEqual([keys[kind].name]);
    if (kind === 'rsa' && rsa !== undefined)
      expect(
        server
          .log()
          .match(/authenticated 1 pkalg (\S+)/g)
          ?.at(-1),
      ).toBe(`authenticated 1 pkalg ${rsa}`);
  });

  it('is not let in with an agent that holds nothing', async () => {
    await agent.holdOnly([]);
    const before = server.accepted().length;
    const { stdout } = await run(words(server, WHERE));
    expect(stdout).not.toContain(server.word);
    expect(server.accepted()).toHaveLength(before);
  });
});

describe.each([
  ['plink', plink, kinds],
  ['libssh', program('/usr/bin/python3', fixture('libssh_client.py')), kinds],
  ["Go's x/crypto", program(golang), ['ed25519', 'ecdsa256']],
] as const)('%s with a certificate', (_, words, able) => {
  it.each(able)('of an %s key logs in', async (kind) => {
    const key = setting.key(`certified-${kind}-${certified.accepted().length}`, kind, 'ca');
    await agent.holdOnly([key]);
    const { status, stdout, stderr } = await run(words(certified, WHERE));
    expect({ status, stdout, stderr }).toMatchObject({ status: 0, stdout: `${certified.word}\n` });
    const [label, fingerprint] = key.name.split(' ');
    expect(certified.accepted().at(-1)).toContain(`${label}-CERT ${fingerprint} `);
  });
});

describe('file transfer', () => {
  const source = setting.path('source');
  const target = setting.path('target');
  const content = 'what is copied\n'.repeat(1000);

  async function expectCopy(kind: Kind, words: readonly string[], input?: string): Promise<void> {
    writeFileSync(source, content);
    rmSync(target, { force: true });
    await agent.holdOnly([keys[kind]]);
    const { status, stderr, stdout } = await run(words, input === undefined ? {} : { input });
    expect({ status, stderr, stdout }).toMatchObject({ status: 0 });
    expect(readFileSync(target, 'utf8')).toBe(content);
    expect(server.accepted().at(-1)).toBe(keys[kind].name);
  }

  it.each(FLAT)('by curl, over sftp and scp, with an %s key', async (kind) => {
    const place = `${server.address}:${server.port}`;
    const curl = ['/usr/bin/curl', '-sS', '-k', '-u', `${user}:`] as const;
    await expectCopy(kind, [...curl, '-o', target, `sftp://${place}${source}`]);
    await expectCopy(kind, [...curl, '-T', source, `sftp://${place}${target}`]);
    await expectCopy(kind, [...curl, '-o', target, `scp://${place}${source}`]);
  });

  it.each(FLAT)('by psftp and pscp with an %s key', async (kind) => {
    const options = ['-batch', '-P', String(server.port), '-l', user, '-hostkey', fingerprintOf(server)];
    const script = setting.path('psftp.script');
    writeFileSync(script, `put ${source} ${target}\n`);
    await expectCopy(kind, ['/usr/bin/psftp', ...options, '-b', script, server.address]);
    await expectCopy(kind, ['/usr/bin/pscp', '-q', ...options, source, `${server.address}:${target}`]);
  });

  it.each(FLAT)('by libgit2 with an %s key', async (kind) => {
    const repository = setting.path('repository.git');
    const clone = setting.path(`clone-${kind}.git`);
    const git = (...args: readonly string[]): Promise<Run> => setting.run('/usr/bin/git', args);
    // The server's side of git runs with the home of the password file: ownership must do.
    expect(await git('init', '-q', '--bare', '-b', 'main', repository)).toMatchObject({ status: 0 });
    await agent.holdOnly([keys[kind]]);
    const url = `ssh://${user}@${server.address}:${server.port}${repository}`;
    expect(await run(['/usr/bin/python3', fixture('pygit2_client.py'), url, clone])).toMatchObject({ status: 0 });
    expect((await git('-C', clone, 'config', 'remote.origin.url')).stdout).toBe(`${url}\n`);
    expect(server.accepted().at(-1)).toBe(keys[kind].name);
    rmSync(repository, { recursive: true });
  });
});

describe('ansible', () => {
  const place = setting.path('ansible');
  const words = (connection: string, ...args: readonly string[]): readonly string[] => [
    ...(['/usr/bin/ansible', '-i', 'server,', '-c', connection, '-u', user, 'server'] as const),
    ...['-e', `ansible_port=${server.port} ansible_host=${server.address}`],
    ...['-e', 'ansible_python_interpreter=/usr/bin/python3', ...args],
  ];
  const env = (): Record<string, string> => ({
    ANSIBLE_HOME: place,
    ANSIBLE_LOCAL_TEMP: join(place, 'local'),
    ANSIBLE_REMOTE_TEMP: join(place, 'remote'),
    ANSIBLE_CONFIG: join(place, 'ansible.cfg'),
    ANSIBLE_NOCOLOR: '1',
    ANSIBLE_HOST_KEY_CHECKING: 'False',
    ANSIBLE_PARAMIKO_RECORD_HOST_KEYS: 'False',
    // Not the master connection that it leaves behind by default.
    ANSIBLE_SSH_ARGS: `-F ${config} -o ControlMaster=no`,
  });

  beforeAll(async () => {
    mkdirSync(place);
    writeFileSync(join(place, 'ansible.cfg'), '');
    await agent.holdOnly([keys.ed25519]);
  });

  it('runs a command by ssh', async () => {
    const { status, stdout, stderr } = await run(words('ssh', '-m', 'raw', '-a', WHERE), { env: env() });
    expect({ status, stdout, stderr }).toMatchObject({ status: 0, stdout: expect.stringContaining(server.word) });
    expect(server.accepted().at(-1)).toBe(keys.ed25519.name);
  });

  it('pings by ssh, and does not without our agent', async () => {
    const ping = words('ssh', '-m', 'ping');
    expect(await run(ping, { env: env() })).toMatchObject({ status: 0, stdout: expect.stringContaining('"pong"') });
    expect((await run(ping, { env: { ...env(), SSH_AUTH_SOCK: undefined } })).stdout).toContain('UNREACHABLE');
  });

  it('runs a command by paramiko', async () => {
    const { status, stdout, stderr } = await run(words('paramiko', '-m', 'raw', '-a', WHERE), { env: env() });
    expect({ status, stdout, stderr }).toMatchObject({ status: 0, stdout: expect.stringContaining(server.word) });
    expect(server.accepted().at(-1)).toBe(keys.ed25519.name);
  });
});

describe('a client that is an agent client itself', () => {
  const file = setting.path('added');

  it.each(kinds)('asyncssh adds an %s key, locks and unlocks, and logs in with it', async (kind) => {
    await agent.holdOnly([]);
    const client = ['/usr/bin/python3', fixture('asyncssh_client.py'), server.address] as const;
    await setting.withFile(file, keys[kind].privateText, async () => {
      const done = await run([...client, String(server.port), user, WHERE, file]);
      expect(done).toMatchObject({ status: 0, stdout: `${server.word}\n` });
    });
    expect(server.accepted().at(-1)).toBe(keys[kind].name);
    expect((await agent.add(['-L'])).stdout).toContain(keys[kind].line.split(' ')[1]);
  });

  it("Go's x/crypto adds, lists, signs, removes, locks, unlocks and asks for extensions", async () => {
    expect(await run([golang, 'agent'])).toMatchObject({ status: 0, stdout: 'good\n', stderr: '' });
  });

  it.each(['ed25519', 'ecdsa256', 'rsa'] as const)(
    'conch adds an %s key, lists, signs and removes it',
    async (kind) => {
      await agent.holdOnly([]);
      await setting.withFile(file, keys[kind].privateText, async () => {
        const done = await run(['/usr/bin/python3', fixture('conch_client.py'), file]);
        expect(done).toMatchObject({ status: 0, stdout: 'good\n' });
      });
    },
  );

  it("net-ssh's first question, of version 1 with a body, is refused and the connection stays open", async () => {
    await agent.holdOnly([keys.ed25519]);
    const recorder = await recordAgent(setting, agent.path);
    const words = program('/usr/bin/ruby', fixture('netssh_client.rb'))(server, WHERE);
    const done = await run(words, { env: { SSH_AUTH_SOCK: recorder.path } });
    expect(done).toMatchObject({ status: 0, stdout: `${server.word}\n` });
    const [first, ...rest] = recorder.exchanges;
    expect([first?.request[0], first?.answer]).toEqual([1, Buffer.from([5])]);
    expect(rest.filter(({ connection }) => connection === first?.connection).map(({ request }) => request[0])).toEqual([
      MESSAGE.list,
      MESSAGE.sign,
    ]);
  });
});

describe('forwarding', () => {
  it.each([
    ["npm's ssh2", [process.execPath, fixture('ssh2_client.mjs')], ['forward']],
    ['dbclient', ['/usr/bin/dbclient', '-A', '-y', '-y'], undefined],
    ['plink', ['/usr/bin/plink', '-batch', '-A'], undefined],
  ] as const)('by %s shows the keys on the far side, where they sign', async (_, [command, ...args], more) => {
    await agent.holdOnly([keys.ed25519]);
    const sign = `printf text | ssh-keygen -Y sign -q -n file -f ${keys.ed25519.publicFile} >/dev/null && echo signed`;
    const far = `${bin}/ssh-add -L && ${sign}`;
    const place = ['-l', user, server.address, far];
    const port = command.endsWith('plink')
      ? ['-P', String(server.port), '-hostkey', fingerprintOf(server)]
      : ['-p', String(server.port)];
    const words =
      more === undefined
        ? [...args, ...port, ...place]
        : [...args, server.address, String(server.port), user, far, ...more];
    const { status, stdout, stderr } = await run([command, ...words]);
    expect({ status, stdout, stderr }).toMatchObject({ status: 0, stdout: `${keys.ed25519.line}\nsigned\n` });
  });

  it('a client that does not bind its sessions gets no key with destination constraints', async () => {
    const known = `${config}.known_hosts`;
    await agent.holdOnly([keys.ed25519], '-H', known, '-h', 'server');
    const bound = await run(['/usr/bin/ssh', '-F', config, 'server', WHERE]);
    expect(bound).toMatchObject({ status: 0, stdout: `${server.word}\n` });
    const before = server.accepted().length;
    for (const words of [dbclient, plink, program(golang)]) {
      const { stdout } = await run(words(server, WHERE));
      expect(stdout).not.toContain(server.word);
    }
    expect(server.accepted()).toHaveLength(before);
  });
});
