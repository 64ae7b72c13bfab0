/**
 * Security keys behind the built agent, as a person has them: ssh-add -S, the system's ssh-sk-helper with a device in
 * software (test/support/softsk.c), OpenSSH's ssh, sshd and ssh-keygen. What helpers and devices do wrong: fido.test.ts.
 */
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { FAILURE, RawClient, SUCCESS, signMessage } from '../support/agentprocess.ts';
import { status } from '../support/control.ts';
import { AskpassPerson, bindMessage, helpersOf } from '../support/hardware.ts';
import { scanMemory } from '../support/memscan.ts';
import { isRunning, type SecurityKeyFolder, securityKeyFolder, securityKeyIn } from '../support/securitykey.ts';
import { type Sshd, user, writeClientConfig } from '../support/sshd.ts';
import { raw, str } from '../unit/wire/build.ts';
import { type Agent, bin, type Environment, type Run, Setting } from './fixtures/setting.ts';

const TYPES = ['ed25519-sk', 'ecdsa-sk'] as const;
const PIN = '1234';
const WHERE = 'echo "$LATCHKEY_HOST"';

const setting = new Setting();
const person = new AskpassPerson(setting.path('agents-person'));
const typist = new AskpassPerson(setting.path('typist'));
let sk: SecurityKeyFolder;
let plain: Sshd;
let certified: Sshd;
let config: string;
let agent: Agent;

const path = (name: string): string => join(sk.folder, name);
const line = (name: string): string => readFileSync(path(`${name}.pub`), 'utf8').trim();
const blobIn = (name: string): Uint8Array => new Uint8Array(Buffer.from(line(name).split(' ')[1] ?? '', 'base64'));
const start = (args: readonly string[] = [], env: Environment = {}): Promise<Agent> =>
  setting.agent({ args: ['-P', `${sk.folder}/*`, ...args], env: { ...person.env, SOFTSK_PIN: PIN, ...env } });
const add = (names: readonly string[], args: readonly string[] = [], to = agent): Promise<Run> =>
  to.add(['-S', sk.provider, ...args, ...names.map(path)]);
const signs = (name: string, with_ = agent): Promise<Run> => with_.add(['-T', path(`${name}.pub`)]);
const says = async (of = agent): Promise<string> => (await status(of.path)).recent.map(({ text }) => text).join('\n');

async function login(server: Sshd, identity: string, through = agent): Promise<Run> {
  const one = ['-o', 'IdentitiesOnly=yes', '-i', path(identity)];
  return setting.run('/usr/bin/ssh', ['-F', config, ...one, server.name, WHERE], {
    env: { SSH_AUTH_SOCK: through.path },
  });
}

async function expectLogin(server: Sshd, identity: string, through = agent): Promise<string> {
  expect(await login(server, identity, through)).toEqual({ status: 0, stdout: `${server.word}\n`, stderr: '' });
  return server.accepted().at(-1) ?? '';
}

beforeAll(async () => {
  sk = securityKeyFolder();
  sk.run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', 'ca']);
  for (const type of TYPES) {
    sk.keygen(type, type);
    sk.run('ssh-keygen', ['-q', '-s', 'ca', '-I', `${type}-id`, '-n', user, `${type}.pub`]);
    sk.keygen(`${type}-pin`, type, '-O', 'verify-required');
  }
  sk.keygen('quiet', 'ed25519-sk', '-O', 'no-touch-required');
  sk.run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', 'subject']);
  const names = [...TYPES, ...TYPES.map((type) => `${type}-pin`)];
  plain = await setting.sshd({ name: 'plain', authorizedKeys: names.map(line) });
  certified = await setting.sshd({ name: 'certified', userAuthorities: [line('ca')] });
  config = writeClientConfig(setting.path('ssh_config'), [plain, certified]);
  // As a finger would: a touch that takes no time ends the notice before the program that shows it has started.
  agent = await start([], { SOFTSK_DELAY_MS: '700' });
});

afterAll(async () => {
  await setting.end();
  sk.remove();
});

beforeEach(() => {
  person.asked();
  person.types(undefined);
  person.consents(true);
});

afterEach(async () => {
  typist.types('phrase');
  await agent.add(['-X'], { env: typist.env });
  await agent.add(['-D']);
  await setting.until(() => helpersOf(agent.pid).length === 0, 10_000);
});

describe.each(TYPES)('a key of type %s', (type) => {
  const label = type.toUpperCase();

  test('logs in, and the person is told which key waits for a touch, and what for', async () => {
    expect(await add([type])).toMatchObject({ status: 0 });
    expect(await expectLogin(plain, type)).toMatch(new RegExp(`^${label} SHA256:`));
    expect(person.asked()).toEqual([
      expect.stringMatching(
        new RegExp(
          `^none:Confirm user presence for key ${label} SHA256:\\S{43}\n` +
            `public key authentication request for user "${user}"$`,
        ),
      ),
    ]);
  });

  test('logs in with its certificate', async () => {
    expect(await add([type])).toMatchObject({ status: 0 });
    expect(await expectLogin(certified, `${type}-cert.pub`)).toMatch(new RegExp(`^${label}-CERT .* ID ${type}-id `));
  });

  test('that wants a PIN has it asked for by the agent', async () => {
    const name = `${type}-pin`;
    expect(await add([name])).toMatchObject({ status: 0 });
    expect(await login(plain, name)).toMatchObject({ status: 255 });
    person.asked();
    person.types(PIN);
    await expectLogin(plain, name);
    const asked = person.asked().filter((question) => !question.startsWith('none:'));
    expect(asked).toHaveLength(1);
    expect(asked[0]).toMatch(new RegExp(`^:Enter PIN and confirm user presence for ${label} key SHA256:\\S{43}: $`));
    person.types('4321');
    expect(await signs(name)).toMatchObject({ status: 1 });
    expect(await says()).toContain('wrong PIN: the security key counts wrong ones');
  });
});

test('constraints hold for a security key: confirmation, destination, lifetime', async () => {
  expect(await add([...TYPES], ['-c'])).toMatchObject({ status: 0 });
  for (const type of TYPES) expect(await signs(type)).toMatchObject({ status: 0 });
  person.consents(false);
  for (const type of TYPES) expect(await signs(type)).toMatchObject({ status: 1 });
  expect(person.asked().filter((question) => question.startsWith('confirm:Allow use of key '))).toHaveLength(4);
  const hosts = ['-H', `${config}.known_hosts`, '-h', 'plain'];
  expect(await add([...TYPES], hosts)).toMatchObject({ status: 0 });
  for (const type of TYPES) {
    await expectLogin(plain, type);
    expect(await login(certified, `${type}-cert.pub`)).toMatchObject({ status: 255 });
    expect(await signs(type)).toMatchObject({ status: 1 });
  }
  expect(await add([...TYPES], ['-t', '1'])).toMatchObject({ status: 0 });
  await setting.until(async () => (await agent.add(['-l'])).stdout === 'The agent has no identities.\n');
});

test('a locked agent has no use for a security key until it is unlocked', async () => {
  await add(['ed25519-sk']);
  typist.types('phrase');
  expect(await agent.add(['-x'], { env: typist.env })).toMatchObject({ status: 0 });
  expect(await signs('ed25519-sk')).toMatchObject({ status: 1 });
  expect(await agent.add(['-X'], { env: typist.env })).toMatchObject({ status: 0 });
  expect(await signs('ed25519-sk')).toMatchObject({ status: 0 });
});

describe('the library for a security key', () => {
  test('has to be in the list of -P', async () => {
    const elsewhere = mkdtempSync(join(tmpdir(), 'latchkey-elsewhere-'));
    const provider = join(elsewhere, 'softsk.so');
    copyFileSync(sk.provider, provider);
    try {
      const refused = await agent.add(['-S', provider, path('ed25519-sk')]);
      expect(refused).toMatchObject({ status: 1 });
      expect(refused.stderr).toContain('Could not add identity');
      expect(await says()).toContain(`provider ${provider} is not in the allowed list (ssh-agent -P)`);
    } finally {
      rmSync(elsewhere, { recursive: true });
    }
  });

  test('may not be named over a connection bound to a host, unless -O allow-remote-pkcs11 was given', async () => {
    const { file } = await securityKeyIn(path('ed25519-sk'));
    const { pk, application, flags, keyHandle, reserved } = file.key.fields as Record<string, Uint8Array>;
    const fields = [pk, application].map((field) => str(field ?? ''));
    const rest = [keyHandle, reserved].map((field) => str(field ?? ''));
    const key = raw(str('sk-ssh-ed25519@openssh.com'), ...fields, flags ?? '', ...rest, str('comment'));
    const adding = (provider: string): Uint8Array => raw(25, key, 255, str('sk-provider@openssh.com'), str(provider));
    const open = await start(['-O', 'allow-remote-pkcs11']);
    for (const [own, provider, answer] of [
      [agent, sk.provider, FAILURE],
      [agent, 'internal', SUCCESS],
      [open, sk.provider, SUCCESS],
    ] as const) {
      const client = await RawClient.connect(own.path);
      expect((await client.ask(bindMessage(true)))?.toString('hex')).toBe(SUCCESS);
      expect((await client.ask(adding(provider)))?.toString('hex')).toBe(answer);
      client.close();
    }
    await open.stop();
  });
});

describe('a security key that may be one for web sites', () => {
  const sshsig = (own: Agent): Promise<Run> =>
    setting.run('/usr/bin/ssh-keygen', ['-Y', 'sign', '-n', 'file', '-f', path('ed25519-sk.pub')], {
      env: { SSH_AUTH_SOCK: own.path },
      input: 'text',
    });
  const certify = (own: Agent): Promise<Run> =>
    setting.run(
      '/usr/bin/ssh-keygen',
      ['-q', '-Us', path('ed25519-sk.pub'), '-I', 'x', '-n', 'x', path('subject.pub')],
      { env: { SSH_AUTH_SOCK: own.path } },
    );

  test('signs log-ins and SSHSIG, no certificates and nothing that is not known', async () => {
    const own = await start(['-O', 'websafe-allow=other:*']);
    await add(['ed25519-sk'], [], own);
    await expectLogin(plain, 'ed25519-sk', own);
    expect(await sshsig(own)).toMatchObject({ status: 0 });
    expect(await signs('ed25519-sk', own)).toMatchObject({ status: 1 });
    expect((await certify(own)).status).not.toBe(0);
    expect(await says(own)).toContain('a security key that may be one for web sites signs logins and SSHSIG alone');
    await own.stop();
  });

  test.each([
    ['its application is one of -O websafe-allow', ['-O', 'websafe-allow=other:*,ssh:']],
    ['-O no-restrict-websafe was given', ['-O', 'websafe-allow=other:*', '-O', 'no-restrict-websafe']],
    ['its application is one for SSH', []],
  ])('signs all where %s', async (_, args) => {
    const own = await start(args);
    await add(['ed25519-sk'], [], own);
    await expectLogin(plain, 'ed25519-sk', own);
    expect(await sshsig(own)).toMatchObject({ status: 0 });
    expect(await signs('ed25519-sk', own)).toMatchObject({ status: 0 });
    expect(await certify(own)).toMatchObject({ status: 0 });
    await own.stop();
  });
});

test('a touch that nobody gives holds up nobody else, and its helper ends with its client or the agent', async () => {
  const own = await start([], { SOFTSK_DELAY_MS: '100000' });
  const soft = setting.key('soft');
  await own.hold([soft]);
  await add(['ed25519-sk'], [], own);
  for (const last of [false, true]) {
    const client = await RawClient.connect(own.path);
    let answered = false;
    const waiting = client.ask(signMessage(blobIn('ed25519-sk'), 'x')).then(() => {
      answered = true;
    });
    await setting.until(() => helpersOf(own.pid).length === 1);
    const [helper = 0] = helpersOf(own.pid);
    expect(await own.add(['-L'])).toMatchObject({ status: 0 });
    expect(await own.add(['-T', soft.publicFile])).toMatchObject({ status: 0 });
    expect(answered).toBe(false);
    if (last) await own.stop();
    else client.close();
    await waiting;
    await setting.until(() => !isRunning(helper));
    client.close();
  }
});

test('resident keys are added with a PIN, and sign', async () => {
  const store = path('store');
  const env = { SOFTSK_STORE: store, SOFTSK_PIN: PIN, SSH_SK_PROVIDER: sk.provider };
  sk.keygen('resident', 'ed25519-sk', '-O', 'resident', '-O', 'application=ssh:resident');
  expect(existsSync(store)).toBe(true);
  const { status: code, stderr } = await agent.add(['-K'], { env: { ...env, ...typed(PIN) } });
  expect(code).toBe(0);
  expect(stderr).toContain('Resident identity added: ED25519-SK SHA256:');
  person.types(PIN);
  expect(await signs('resident')).toMatchObject({ status: 0 });
});

function typed(pin: string): Environment {
  typist.types(pin);
  return typist.env;
}

test('latchkey status has no tokens where there are security keys alone', async () => {
  await add(['ed25519-sk']);
  const { stdout } = await setting.run(join(bin, 'latchkey'), ['status', '--json', '--socket', agent.path]);
  expect(JSON.parse(stdout)).toMatchObject({ keys: 2, tokens: [] });
});

const possible = process.platform === 'linux' && process.getuid?.() === 0;
if (!possible) console.warn('hardware: memory not looked at, since only root on Linux may read that of the agent');

test.runIf(possible)(
  'no key handle and no PIN is left in the memory of the agent, outside of secret memory',
  async () => {
    const names = [...TYPES, 'ed25519-sk-pin'];
    const needles = await Promise.all(
      names.map(async (name) => {
        const { file } = await securityKeyIn(path(name));
        const handle = file.key.fields.keyHandle ?? new Uint8Array();
        // The device in software has the private key as its handle: its end is what no public key has.
        return { name, bytes: handle.slice(16, 48) };
      }),
    );
    const pin = { name: 'PIN', bytes: raw('wrong-pin-4711-0815') };
    const look = () => scanMemory(agent.pid, [...needles, pin]).found;
    expect(await add(names)).toMatchObject({ status: 0 });
    expect(look()).toEqual([]);
    for (const type of TYPES) await expectLogin(plain, type);
    person.types(PIN);
    expect(await signs('ed25519-sk-pin')).toMatchObject({ status: 0 });
    person.types('wrong-pin-4711-0815');
    expect(await signs('ed25519-sk-pin')).toMatchObject({ status: 1 });
    expect(look()).toEqual([]);
  },
);
