/**
 * Keys on tokens behind the built agent, as a person has them: ssh-add -s, OpenSSH's ssh and sshd, keys in SoftHSM and in
 * a TPM. Security keys are in hardware-sk.test.ts, providers that misbehave in pkcs11-providers.test.ts.
 */
import { randomInt } from 'node:crypto';
import { readFileSync, realpathSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { FAILURE, RawClient, SUCCESS, signMessage } from '../support/agentprocess.ts';
import { status } from '../support/control.ts';
import { AskpassPerson, bindMessage, helpersOf, type PublicFile, publicFile } from '../support/hardware.ts';
import { scanMemory } from '../support/memscan.ts';
import { blobOf, FAKE_PIN, fakeProvider, SOFTHSM, type SoftHsm, softHsm } from '../support/pkcs11.ts';
import { isRunning } from '../support/securitykey.ts';
import { keygen, type Sshd, user, writeClientConfig } from '../support/sshd.ts';
import { type SoftTpm, softTpm, TPM_PIN } from '../support/tpm.ts';
import { raw, str } from '../unit/wire/build.ts';
import { type Agent, bin, type Run, Setting } from './fixtures/setting.ts';

const KINDS = ['rsa', 'nistp256', 'ed25519'] as const;
type Kind = (typeof KINDS)[number];
/** Long enough that it is in no memory by chance. */
const PIN = `pin-${Array.from({ length: 12 }, () => randomInt(10)).join('')}`;
const WHERE = 'echo "$LATCHKEY_HOST"';

const setting = new Setting();
const person = new AskpassPerson(setting.path('agents-person'));
/** Who types at ssh-add. */
const typist = new AskpassPerson(setting.path('typist'));
const keys = {} as Record<Kind, PublicFile>;
const certificates = {} as Record<Kind, string>;
const inTpm: Record<string, PublicFile> = {};
let hsm: SoftHsm;
let tpm: SoftTpm;
/** Lets in plain keys. */
let plain: Sshd;
/** Lets in certificates only. */
let certified: Sshd;
let config: string;
let agent: Agent;

const add = (args: readonly string[], pin = PIN, to = agent): Promise<Run> => {
  typist.types(pin);
  return to.add(args, { env: typist.env });
};
const added = { status: 0, stdout: '', stderr: `Card added: ${SOFTHSM}\n` };
const refused = { status: 1, stdout: '', stderr: `Could not add card "${SOFTHSM}": agent refused operation\n` };
const all = KINDS.map((kind) => `${kind} of the token (pocket)`).sort();
/** Sorted: in which order a token names its keys is its own affair. */
const comments = async (from = agent): Promise<readonly string[]> => {
  const { status: code, stdout } = await from.add(['-L']);
  const lines = code === 0 ? stdout.split('\n').slice(0, -1) : [];
  return lines.map((line) => line.split(' ').slice(2).join(' ')).sort();
};
const signs = (file: string, with_ = agent): Promise<Run> => with_.add(['-T', file]);
const says = async (of = agent): Promise<string> => (await status(of.path)).recent.map(({ text }) => text).join('\n');
const tokens = async (of = agent): Promise<unknown> => {
  const { status: code, stdout } = await setting.run(join(bin, 'latchkey'), ['status', '--json', '--socket', of.path]);
  expect(code).toBe(0);
  return JSON.parse(stdout).tokens;
};

async function login(server: Sshd, identity: string, args: readonly string[] = [], through = agent): Promise<Run> {
  const one = ['-o', 'IdentitiesOnly=yes', '-i', identity];
  return setting.run('/usr/bin/ssh', ['-F', config, ...one, ...args, server.name, WHERE], {
    env: { SSH_AUTH_SOCK: through.path },
  });
}

async function expectLogin(server: Sshd, identity: string, through = agent): Promise<string> {
  const ran = await login(server, identity, [], through);
  expect(ran).toEqual({ status: 0, stdout: `${server.word}\n`, stderr: '' });
  return server.accepted().at(-1) ?? '';
}

beforeAll(async () => {
  hsm = softHsm();
  hsm.initialise('pocket', PIN);
  keygen(setting.folder, '-q', '-t', 'ed25519', '-N', '', '-f', 'ca');
  KINDS.forEach((kind, i) => {
    const { blob } = hsm.importKey('pocket', PIN, kind, `${kind} of the token`, `a${i}`);
    keys[kind] = publicFile(setting.folder, kind, blob);
    keygen(setting.folder, '-q', '-s', 'ca', '-I', `${kind}-id`, '-n', user, keys[kind].file);
    certificates[kind] = setting.path(`${kind}-cert.pub`);
  });
  tpm = await softTpm();
  for (const [type, label, id] of [
    ['EC:prime256v1', 'tpm-ecdsa', '01'],
    ['rsa:2048', 'tpm-rsa', '02'],
  ] as const) {
    tpm.generate(type, label, id);
    inTpm[label] = publicFile(setting.folder, label, blobOf(tpm.publicKeyOf(label)));
  }
  const authorizedKeys = [...Object.values(keys), ...Object.values(inTpm)].map(({ line }) => line);
  plain = await setting.sshd({ name: 'plain', authorizedKeys });
  certified = await setting.sshd({
    name: 'certified',
    userAuthorities: [readFileSync(setting.path('ca.pub'), 'utf8')],
  });
  config = writeClientConfig(setting.path('ssh_config'), [plain, certified]);
  agent = await setting.agent({ env: { ...hsm.env, ...person.env } });
});

afterAll(async () => {
  await setting.end();
  hsm.remove();
  tpm.remove();
});

beforeEach(() => {
  person.asked();
  person.types(undefined);
  person.consents(true);
});

afterEach(async () => {
  await add(['-X'], 'phrase');
  await agent.add(['-D']);
  await setting.until(() => helpersOf(agent.pid).length === 0, 10_000);
});

describe('log-ins', () => {
  test.each(KINDS)('with a %s key in SoftHSM', async (kind) => {
    expect(await add(['-s', SOFTHSM])).toEqual(added);
    expect(await comments()).toEqual(all);
    expect(await expectLogin(plain, keys[kind].file)).toContain(keys[kind].fingerprint);
  });

  test.each(KINDS)('with a certificate of a %s key in SoftHSM', async (kind) => {
    expect(await add(['-s', SOFTHSM, certificates[kind]])).toMatchObject({ status: 0 });
    expect(await comments()).toHaveLength(KINDS.length + 1);
    expect(await expectLogin(certified, certificates[kind])).toContain(`${keys[kind].fingerprint} ID ${kind}-id`);
    expect(await expectLogin(plain, keys[kind].file)).toContain(keys[kind].fingerprint);
  });

  test('with certificates alone, after -C', async () => {
    const files = [...Object.values(certificates), keys.rsa.file];
    expect(await add(['-C', '-s', SOFTHSM, ...files])).toMatchObject({ status: 0 });
    const { stdout } = await agent.add(['-l']);
    expect(stdout.match(/-CERT\)$/gm)).toHaveLength(KINDS.length);
    for (const kind of KINDS) {
      expect(await expectLogin(certified, certificates[kind])).toContain(`ID ${kind}-id`);
      expect(await login(plain, keys[kind].file)).toMatchObject({ status: 255 });
    }
  });

  test('with keys in a TPM', async () => {
    const own = await setting.agent({ env: { ...tpm.env, ...person.env } });
    tpm.flush();
    expect(await add(['-s', tpm.module], TPM_PIN, own)).toMatchObject({ status: 0 });
    expect(await comments(own)).toEqual(['tpm-ecdsa (tpm)', 'tpm-rsa (tpm)']);
    for (const { file, fingerprint } of Object.values(inTpm))
      expect(await expectLogin(plain, file, own)).toContain(fingerprint);
    expect(await tokens(own)).toMatchObject([
      { provider: tpm.module, tokens: [{ label: 'tpm', present: true, keys: 2, loggedIn: true }] },
    ]);
    await own.stop();
  });
});

test('a token that is added twice signs, is removed in each way, and comes back', async () => {
  for (const removal of [['-D'], ['-e', SOFTHSM]]) {
    expect(await add(['-s', SOFTHSM])).toEqual(added);
    const helpers = helpersOf(agent.pid);
    expect(helpers).toHaveLength(1);
    expect(await add(['-s', SOFTHSM])).toEqual(added);
    expect(helpersOf(agent.pid)).toEqual(helpers);
    expect(await comments()).toEqual(all);
    for (const kind of KINDS) expect(await signs(keys[kind].file)).toMatchObject({ status: 0 });
    expect(await add(removal)).toMatchObject({ status: 0 });
    expect(await comments()).toEqual([]);
    await setting.until(() => helpersOf(agent.pid).length === 0);
    expect(await tokens()).toEqual([]);
  }
});

describe('constraints hold for each key of a token', () => {
  test('a lifetime, after which the helper ends too', async () => {
    expect(await add(['-t', '2', '-s', SOFTHSM])).toMatchObject({ status: 0 });
    expect(await comments()).toEqual(all);
    await setting.until(() => helpersOf(agent.pid).length === 0);
    expect(await comments()).toEqual([]);
  });

  test('a confirmation of each use', async () => {
    expect(await add(['-c', '-s', SOFTHSM, certificates.rsa])).toMatchObject({ status: 0 });
    const files = [...KINDS.map((kind) => keys[kind].file), certificates.rsa];
    for (const file of files) expect(await signs(file)).toMatchObject({ status: 0 });
    person.consents(false);
    for (const file of files) expect(await signs(file)).toMatchObject({ status: 1 });
    const asked = person.asked();
    expect(asked).toHaveLength(2 * files.length);
    for (const line of asked)
      expect(line).toMatch(/^confirm:Allow use of key \w+ of the token \(pocket\)\?\nKey fingerprint SHA256:/);
  });

  test('destinations', async () => {
    const hosts = ['-H', `${config}.known_hosts`, '-h', `${user}@plain`];
    expect(await add([...hosts, '-s', SOFTHSM, ...Object.values(certificates)])).toMatchObject({ status: 0 });
    for (const kind of KINDS) {
      expect(await expectLogin(plain, keys[kind].file)).toContain(keys[kind].fingerprint);
      expect(await login(certified, certificates[kind])).toMatchObject({ status: 255 });
      expect(await signs(keys[kind].file)).toMatchObject({ status: 1 });
    }
  });
});

describe('a token is refused', () => {
  test('with a wrong PIN, in words, also when it is open, and stays open then', async () => {
    expect(await add(['-s', SOFTHSM], 'wrong one')).toEqual(refused);
    expect(await says()).toContain('refused: wrong PIN for token "pocket"');
    expect(await comments()).toEqual([]);
    expect(await add(['-s', SOFTHSM])).toEqual(added);
    expect(await add(['-s', SOFTHSM], 'wrong one')).toEqual(refused);
    expect(await signs(keys.rsa.file)).toMatchObject({ status: 0 });
    expect(person.asked()).toEqual([]);
  });

  test('when its provider is not in the list of -P', async () => {
    const own = await setting.agent({ env: hsm.env, args: ['-P', '/opt/*'] });
    expect(await add(['-s', SOFTHSM], PIN, own)).toEqual(refused);
    expect(await says(own)).toContain(`provider ${realpathSync(SOFTHSM)} is not in the allowed list (ssh-agent -P)`);
    expect(helpersOf(own.pid)).toEqual([]);
    await own.stop();
  });

  test('over a forwarded agent, and used over it once it is there', async () => {
    const remote = async (...args: readonly string[]): Promise<Run> => {
      const words = Object.entries(typist.env).map(([name, value]) => `${name}=${value}`);
      const command = ['env', ...words, join(bin, 'ssh-add'), ...args].join(' ');
      return setting.run('/usr/bin/ssh', ['-A', '-F', config, plain.name, command], {
        env: { SSH_AUTH_SOCK: agent.path },
      });
    };
    const door = setting.key('door');
    const file = join(setting.folder, 'sshd-plain', 'authorized_keys');
    writeFileSync(file, `${readFileSync(file, 'utf8')}${door.line}\n`);
    await agent.hold([door]);
    typist.types(PIN);
    expect(await remote('-s', SOFTHSM)).toMatchObject(refused);
    expect(await says()).toContain('a connection from a host may not name a library to load');
    expect(helpersOf(agent.pid)).toEqual([]);
    await add(['-s', SOFTHSM]);
    expect(await remote('-T', keys.ed25519.file)).toMatchObject({ status: 0 });
  });

  test('over a connection bound to a host, unless -O allow-remote-pkcs11 was given', async () => {
    const request = raw(20, str(SOFTHSM), str(PIN));
    const open = await setting.agent({ env: hsm.env, args: ['-O', 'allow-remote-pkcs11'] });
    for (const [own, answer] of [
      [agent, FAILURE],
      [open, SUCCESS],
    ] as const) {
      for (const forwarding of [true, false]) {
        const client = await RawClient.connect(own.path);
        expect((await client.ask(bindMessage(forwarding)))?.toString('hex')).toBe(SUCCESS);
        expect((await client.ask(request))?.toString('hex')).toBe(answer);
        client.close();
      }
    }
    await open.stop();
  });
});

test('a locked agent shows, adds and uses no key of a token, and all of them afterwards', async () => {
  expect(await add(['-s', SOFTHSM])).toEqual(added);
  expect(await add(['-x'], 'phrase')).toMatchObject({ status: 0 });
  expect(await comments()).toEqual([]);
  expect(await add(['-s', SOFTHSM])).toEqual(refused);
  for (const kind of KINDS) expect(await signs(keys[kind].file)).toMatchObject({ status: 1 });
  expect(await add(['-X'], 'phrase')).toMatchObject({ status: 0 });
  expect(await comments()).toEqual(all);
  for (const kind of KINDS) expect(await signs(keys[kind].file)).toMatchObject({ status: 0 });
});

test('a PIN that was not given when the token was added is asked for by the agent when a key is used', async () => {
  expect(await add(['-s', SOFTHSM], '')).toEqual(added);
  expect(person.asked()).toEqual([]);
  expect(await login(plain, keys.rsa.file)).toMatchObject({ status: 255 });
  expect(person.asked()).toHaveLength(1);
  person.types(PIN);
  await expectLogin(plain, keys.rsa.file);
  const [question = '', ...more] = person.asked();
  expect(more).toEqual([]);
  const lines = [`public key authentication request for user "${user}"`, 'Enter PIN for token "pocket"'];
  for (const line of lines) expect(question).toContain(line);
  expect(question).toContain('(key rsa of the token): ');
  await expectLogin(plain, keys.ed25519.file);
  expect(person.asked()).toEqual([]);
});

test('the keys of a token that is pulled out stay listed, and sign when it is back', async () => {
  expect(await add(['-s', SOFTHSM])).toEqual(added);
  const [there] = (await tokens()) as [{ provider: string; tokens: unknown[] }];
  expect(there).toMatchObject({
    provider: realpathSync(SOFTHSM),
    tokens: [
      {
        label: 'pocket',
        present: true,
        keys: 3,
        types: expect.arrayContaining(['ssh-rsa', 'ecdsa-sha2-nistp256', 'ssh-ed25519']),
        wantsPin: true,
        loggedIn: true,
        pinLocked: false,
        lastTry: false,
      },
    ],
  });
  const away = join(hsm.folder, 'away');
  renameSync(hsm.tokens, away);
  expect(await signs(keys.rsa.file)).toMatchObject({ status: 1 });
  renameSync(away, hsm.tokens);
  person.types(PIN);
  expect(await comments()).toEqual(all);
  for (const kind of KINDS) await expectLogin(plain, keys[kind].file);
  expect(await tokens()).toEqual([there]);
});

describe('the helper process ends', () => {
  test.each(['SIGTERM', 'SIGHUP'] as const)('with an agent that gets %s', async (signal) => {
    const own = await setting.agent({ env: hsm.env });
    await add(['-s', SOFTHSM], PIN, own);
    const [helper = 0] = helpersOf(own.pid);
    expect(isRunning(helper)).toBe(true);
    process.kill(own.pid, signal);
    await setting.until(() => !isRunning(own.pid) && !isRunning(helper));
  });

  test('with the keys, on SIGUSR1, and the agent lives on', async () => {
    await add(['-s', SOFTHSM]);
    expect(helpersOf(agent.pid)).toHaveLength(1);
    process.kill(agent.pid, 'SIGUSR1');
    await setting.until(() => helpersOf(agent.pid).length === 0);
    expect(await comments()).toEqual([]);
    expect(await add(['-s', SOFTHSM])).toEqual(added);
  });
});

test('a provider that hangs holds up nobody else, and is gone when the agent ends', async () => {
  const fake = fakeProvider();
  const own = await setting.agent({
    env: fake.env(raw('x'), { FAKE_MODE: 'hang-sign' }),
    args: ['-P', `${fake.folder}/*`],
  });
  try {
    const soft = setting.key('soft');
    await own.hold([soft]);
    expect(await add(['-s', fake.path], FAKE_PIN, own)).toMatchObject({ status: 0 });
    const [helper = 0] = helpersOf(own.pid);
    const client = await RawClient.connect(own.path);
    let answered = false;
    const hung = client.ask(signMessage(fake.blob, 'x')).then(() => {
      answered = true;
    });
    expect(await comments(own)).toHaveLength(2);
    expect(await own.add(['-T', soft.publicFile])).toMatchObject({ status: 0 });
    expect(answered).toBe(false);
    client.close();
    await hung;
    expect(await own.add(['-D'])).toMatchObject({ status: 0 });
    // Removed keys' helpers are told to end, and killed where they don't.
    await setting.until(() => !isRunning(helper));
    await add(['-s', fake.path], FAKE_PIN, own);
    const [next = 0] = helpersOf(own.pid);
    const another = await RawClient.connect(own.path);
    const cut = another.ask(signMessage(fake.blob, 'x'));
    expect(await comments(own)).toHaveLength(1);
    await own.stop();
    await setting.until(() => !isRunning(next));
    expect(await cut).toBeUndefined();
    another.close();
  } finally {
    fake.remove();
  }
});

const possible = process.platform === 'linux' && process.getuid?.() === 0;
if (!possible) console.warn('hardware: memory not looked at, since only root on Linux may read that of the agent');

test.runIf(possible)('no PIN is left in the memory of the agent: added with it, asked for it, or wrong', async () => {
  const wrong = `no-${PIN}`;
  const needles = [
    { name: 'PIN', bytes: raw(PIN) },
    { name: 'wrong PIN', bytes: raw(wrong) },
  ];
  const look = () => scanMemory(agent.pid, needles).found;
  await add(['-s', SOFTHSM], wrong);
  expect(look()).toEqual([]);
  await add(['-s', SOFTHSM]);
  expect(look()).toEqual([]);
  for (const kind of KINDS) await expectLogin(plain, keys[kind].file);
  expect(look()).toEqual([]);
  await agent.add(['-D']);
  await add(['-s', SOFTHSM], '');
  person.types(PIN);
  expect(await signs(keys.rsa.file)).toMatchObject({ status: 0 });
  expect(person.asked()).toHaveLength(1);
  expect(look()).toEqual([]);
});
