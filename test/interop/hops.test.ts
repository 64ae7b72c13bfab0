// Three servers a, b, c and our agent forwarded from one to the next: with destination constraints a key may be used
// where they allow, is refused where not, and is not even shown where it is of no use. Jump hosts never see the agent.
import { readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { keygen, type Sshd, user, writeClientConfig } from '../support/sshd.ts';
import { bindings, type Recorder, recordAgent } from './fixtures/record.ts';
import { type Agent, bin, type Run, type RunOptions, Setting, type TestKey } from './fixtures/setting.ts';

type Name = 'a' | 'b' | 'c';

/** How hosts are known: the ssh_config, and what `ssh-add -h` is to call them. */
interface Knowledge {
  readonly config: string;
  readonly knownHosts: string;
  readonly called: Readonly<Record<Name, string>>;
}

const setting = new Setting();
const NAMES = ['a', 'b', 'c'] as const;
const WAYS = ['alias', 'hashed', 'address', 'authority'] as const;
const key: TestKey = setting.key('traveller');
const hosts = {} as Record<Name, Sshd>;
const ways = {} as Record<(typeof WAYS)[number], Knowledge>;
const WHERE = 'echo "$LATCHKEY_HOST"';
const LIST = '/usr/bin/ssh-add -L';
const NONE = { status: 1, stdout: 'The agent has no identities.\n' };
let agent: Agent;

const quote = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

/** Runs `command` at the end of `path`, the agent forwarded by every ssh on the way. */
function at(
  path: readonly Name[],
  command: string,
  { config }: Knowledge = ways.alias,
  options: RunOptions = {},
): Promise<Run> {
  const [first = 'a', ...rest] = path;
  const nested = rest.reduceRight(
    (inner, name, i) => `/usr/bin/ssh -A -F ${config} ${name} ${quote(i === rest.length - 1 ? command : inner)}`,
    command,
  );
  return setting.run('/usr/bin/ssh', ['-A', '-F', config, first, nested], {
    ...options,
    env: { SSH_AUTH_SOCK: agent.path, ...options.env },
  });
}

async function expectArrival(path: readonly Name[], way: Knowledge = ways.alias): Promise<void> {
  const last = path.at(-1) ?? 'a';
  const { status, stdout, stderr } = await at(path, WHERE, way);
  expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: `${hosts[last].word}\n`, stderr: '' });
  expect(hosts[last].accepted().at(-1)).toBe(key.name);
}

/** All hosts but the last are reached; the last lets nobody in. */
async function expectStop(path: readonly Name[], way: Knowledge = ways.alias): Promise<void> {
  const before = NAMES.map((name) => hosts[name].accepted().length);
  const { status, stdout, stderr } = await at(path, WHERE, way);
  expect({ status, stdout }).toEqual({ status: 255, stdout: '' });
  expect(stderr).toContain('Permission denied (publickey)');
  const passed = path.slice(0, -1);
  const now = NAMES.map((name) => hosts[name].accepted().length);
  expect(now).toEqual(NAMES.map((name, i) => (before[i] ?? 0) + (passed.includes(name) ? 1 : 0)));
}

async function expectShown(path: readonly Name[], way: Knowledge = ways.alias): Promise<void> {
  expect(await at(path, LIST, way)).toMatchObject({ status: 0, stdout: `${key.line}\n` });
}

async function expectHidden(path: readonly Name[], way: Knowledge = ways.alias): Promise<void> {
  expect(await at(path, LIST, way)).toMatchObject(NONE);
}

/** Holds the key with these constraints, in short: 'a', 'a>b', 'a>root@b'. */
function hold(way: Knowledge, ...constraints: readonly string[]): Promise<void> {
  const called = (host: string): string => {
    const [name = '', ...before] = host.split('@').reverse();
    return [...before, way.called[name as Name]].join('@');
  };
  const specs = constraints.map((text) => text.split('>').map(called).join('>'));
  return agent.holdOnly([key], '-H', way.knownHosts, ...specs.flatMap((spec) => ['-h', spec]));
}

beforeAll(async () => {
  keygen(setting.folder, '-q', '-t', 'ecdsa', '-N', '', '-C', 'authority of hosts', '-f', 'hostca');
  const hostAuthority = setting.path('hostca');
  for (const [i, name] of NAMES.entries())
    hosts[name] = await setting.sshd({
      name,
      address: `127.0.0.${i + 1}`,
      authorizedKeys: [key.line],
      hostAuthority,
    });
  const servers = NAMES.map((name) => hosts[name]);
  const names = { a: 'a', b: 'b', c: 'c' };
  for (const way of WAYS) {
    // A server that has a certificate shows it to every client that takes one.
    const algorithm = way === 'authority' ? 'ssh-ed25519-cert-v01@openssh.com' : 'ssh-ed25519';
    const path = writeClientConfig(setting.path(`${way}_config`), servers, [`HostKeyAlgorithms ${algorithm}`]);
    ways[way] = { config: path, knownHosts: `${path}.known_hosts`, called: names };
  }
  keygen(setting.folder, '-q', '-H', '-f', ways.hashed.knownHosts);
  const address = (name: Name): string => `[${hosts[name].address}]:${hosts[name].port}`;
  ways.address = { ...ways.address, called: { a: address('a'), b: address('b'), c: address('c') } };
  writeFileSync(ways.address.config, readFileSync(ways.address.config, 'utf8').replace(/^ *HostKeyAlias.*\n/gm, ''));
  writeFileSync(ways.authority.knownHosts, `@cert-authority a,b,c ${readFileSync(`${hostAuthority}.pub`, 'utf8')}`);
  agent = await setting.agent();
});

afterAll(() => setting.end());

describe('a key without constraints', () => {
  beforeAll(() => agent.holdOnly([key]));

  it('goes from a to b to c, and is shown everywhere', async () => {
    await expectArrival(['a']);
    await expectArrival(['a', 'b']);
    await expectArrival(['a', 'b', 'c']);
    await expectShown(['a', 'b', 'c']);
  });

  it('is shown on the far side by our ssh-add as well', async () => {
    expect(await at(['a', 'b'], `${bin}/ssh-add -L`)).toMatchObject({ status: 0, stdout: `${key.line}\n` });
  });

  it('signs on the far side, as git does', async () => {
    const sign = `printf text | ssh-keygen -Y sign -q -n git -f ${key.publicFile}`;
    const { status, stdout } = await at(['a', 'b'], sign);
    expect(status).toBe(0);
    const file = setting.path('far.sig');
    writeFileSync(file, stdout);
    const check = ['-Y', 'check-novalidate', '-n', 'git', '-s', file];
    expect(await setting.run('/usr/bin/ssh-keygen', check, { input: 'text' })).toMatchObject({ status: 0 });
  });

  it('is nowhere when nothing is forwarded', async () => {
    const run = await setting.run(
      '/usr/bin/ssh',
      ['-F', ways.alias.config, 'a', 'echo "[$SSH_AUTH_SOCK]"; ssh-add -L'],
      {
        env: { SSH_AUTH_SOCK: agent.path },
      },
    );
    expect(run).toMatchObject({ status: 2, stdout: '[]\n' });
  });
});

describe.each(WAYS)('destination constraints on hosts known by %s', (how) => {
  it('allow the whole way that they name, and nothing beyond', async () => {
    const way = ways[how];
    await hold(way, 'a', 'a>b', 'b>c');
    await expectArrival(['a', 'b', 'c'], way);
    await expectShown(['a', 'b'], way);
    await expectHidden(['a', 'b', 'c'], way);
  });

  it('stop a key where they end', async () => {
    const way = ways[how];
    await hold(way, 'a', 'a>b');
    await expectShown(['a'], way);
    await expectArrival(['a', 'b'], way);
    await expectHidden(['a', 'b'], way);
    await expectStop(['a', 'b', 'c'], way);
    await expectStop(['a', 'c'], way);
    await expectStop(['b'], way);
  });
});

describe('destination constraints', () => {
  it('for one host let in there, and hide the key on it', async () => {
    await hold(ways.alias, 'a');
    await expectArrival(['a']);
    await expectHidden(['a']);
    await expectStop(['a', 'b']);
    await expectStop(['b']);
  });

  it('hold for the user that they name', async () => {
    await hold(ways.alias, `${user}@a`, `a>${user}@b`);
    await expectArrival(['a', 'b']);
    await hold(ways.alias, `${user}@a`, 'a>somebody@b');
    await expectStop(['a', 'b']);
    await hold(ways.alias, 'somebody@a');
    await expectStop(['a']);
  });

  it('on two hosts allow both through a jump host, which is a way of two local log-ins', async () => {
    await hold(ways.alias, 'a', 'b');
    const args = ['-F', ways.alias.config, '-J', 'a', 'b', WHERE];
    const env = { SSH_AUTH_SOCK: agent.path };
    expect(await setting.run('/usr/bin/ssh', args, { env })).toMatchObject({ status: 0, stdout: `${hosts.b.word}\n` });
    await hold(ways.alias, 'a', 'a>b');
    expect(await setting.run('/usr/bin/ssh', args, { env })).toMatchObject({ status: 255, stdout: '' });
  });

  it('forbid what is no log-in: signatures of files and of random bytes', async () => {
    await hold(ways.alias, 'a', 'a>b');
    const env = { SSH_AUTH_SOCK: agent.path };
    const args = ['-Y', 'sign', '-q', '-n', 'git', '-f', key.publicFile];
    expect((await setting.run('/usr/bin/ssh-keygen', args, { env, input: 'text' })).status).toBe(255);
    expect((await agent.add(['-T', key.publicFile])).status).toBe(1);
    const far = await at(['a'], `printf text | ssh-keygen -Y sign -q -n git -f ${key.publicFile}`);
    expect(far).toMatchObject({ status: 255, stdout: '' });
  });

  it('are not lifted by adding the key again from a host where it may not be used', async () => {
    await hold(ways.alias, 'a');
    const file = setting.path('stolen');
    await setting.withFile(file, key.privateText, async () => {
      expect((await at(['a'], `/usr/bin/ssh-add ${file}`)).status).toBe(1);
    });
    await expectStop(['b']);
    await expectArrival(['a']);
  });
});

describe('a jump host', () => {
  let recorder: Recorder;
  const REQUEST = 'auth-agent-req@openssh.com';

  /** What the servers log while `args` reach `last`, and what the agent is told. */
  async function watch(last: Name, args: readonly string[], command = WHERE): Promise<Record<Name, string>> {
    const before = NAMES.map((name) => hosts[name].log().length);
    recorder = await recordAgent(setting, agent.path);
    const run = await setting.run('/usr/bin/ssh', ['-F', ways.alias.config, ...args, last, command], {
      env: { SSH_AUTH_SOCK: recorder.path },
    });
    const stdout = command === WHERE ? `${hosts[last].word}\n` : `${key.line}\n`;
    expect(run).toMatchObject({ status: 0, stdout });
    const [a = '', b = '', c = ''] = NAMES.map((name, i) => hosts[name].log().slice(before[i]));
    return { a, b, c };
  }

  const forwardings = (): boolean[] => bindings(recorder).map(({ forwarding }) => forwarding);

  beforeAll(() => agent.holdOnly([key]));

  it('would be seen to see the agent: a forwarded one is', async () => {
    const logs = await watch('a', ['-A'], LIST);
    expect(logs.a).toContain(REQUEST);
    expect(forwardings()).toEqual([false, true]);
    expect(bindings(recorder).every(({ taken }) => taken)).toBe(true);
  });

  it.each([
    ['-J', ['-J', 'a']],
    ['ProxyJump', ['-o', 'ProxyJump=a']],
    ['ProxyCommand', ['-o', 'ProxyCommand=/usr/bin/ssh -F CONFIG -W [%h]:%p a']],
  ])('of %s never sees the agent', async (_, args) => {
    const own = args.map((word) => word.replace('CONFIG', ways.alias.config));
    const logs = await watch('b', own);
    expect(logs.a).toContain('Accepted publickey');
    expect(logs.a).toContain('direct-tcpip');
    expect(logs.a + logs.b).not.toContain(REQUEST);
    expect(logs.a).not.toContain('session_new');
    expect(forwardings()).toEqual([false, false]);
  });

  it('never sees the agent when it is forwarded to the last host', async () => {
    const logs = await watch('b', ['-A', '-J', 'a'], LIST);
    expect(logs.a).toContain('Accepted publickey');
    expect(logs.a).not.toContain(REQUEST);
    expect(logs.a).not.toContain('session_new');
    expect(logs.b).toContain(REQUEST);
    expect(forwardings()).toEqual([false, false, true]);
  });

  it('never sees the agent, be it the first or the second of two', async () => {
    const logs = await watch('c', ['-A', '-J', 'a,b'], LIST);
    expect(logs.a + logs.b).not.toContain(REQUEST);
    expect(logs.a + logs.b).not.toContain('session_new');
    expect(forwardings()).toEqual([false, false, false, true]);
  });
});

describe('ForwardAgent with a path', () => {
  const other = setting.key('other');
  let second: Agent;

  beforeAll(async () => {
    second = await setting.agent();
    await second.hold([other]);
    await agent.holdOnly([key]);
  });

  it.each(['PATH', '$OTHER_AGENT'])('logs in with one agent and forwards another, as %s', async (value) => {
    const option = `ForwardAgent=${value.replace('PATH', second.path)}`;
    const env = { SSH_AUTH_SOCK: agent.path, OTHER_AGENT: second.path };
    const args = ['-F', ways.alias.config, '-o', option, 'a', `${WHERE}; ${LIST}`];
    const run = await setting.run('/usr/bin/ssh', args, { env });
    expect(run).toMatchObject({ status: 0, stdout: `${hosts.a.word}\n${other.line}\n` });
    expect(hosts.a.accepted().at(-1)).toBe(key.name);
  });

  it('forwards the agent of the master of a ControlMaster', async () => {
    const control = ['-F', ways.alias.config, '-o', `ControlPath=${setting.path('control')}`];
    const env = { SSH_AUTH_SOCK: agent.path };
    const master = ['-o', 'ControlMaster=yes', '-o', 'ControlPersist=60', '-o', 'LogLevel=ERROR'];
    await setting.run('/usr/bin/ssh', [...control, ...master, '-o', `ForwardAgent=${second.path}`, 'a', WHERE], {
      env,
    });
    try {
      const run = await setting.run('/usr/bin/ssh', [...control, '-A', 'a', LIST], { env });
      expect(run).toMatchObject({ status: 0, stdout: `${other.line}\n` });
    } finally {
      await setting.run('/usr/bin/ssh', [...control, '-O', 'exit', 'a'], { env });
    }
  });
});
