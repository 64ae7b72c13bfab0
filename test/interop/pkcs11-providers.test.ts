/** Providers of our own that count PINs, crash, hang, lie or are none: test/support/provider.c. */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { TokenKey } from '../../src/backends/pkcs11.ts';
import { encodeRequest } from '../../src/backends/pkcs11protocol.ts';
import { until } from '../support/agentprocess.ts';
import {
  bytes,
  closeProviders,
  DATA,
  FAKE_PIN,
  type FakeProvider,
  fakeProvider,
  noHelpers,
  openAt,
  parts,
  run,
  testPorts,
} from '../support/pkcs11.ts';

afterEach(closeProviders);

const NO_PIN = new Uint8Array();

const only = (keys: readonly TokenKey[]): TokenKey => {
  expect(keys).toHaveLength(1);
  return keys[0] as TokenKey;
};

describe('a token that counts tries', () => {
  let fake: FakeProvider;

  beforeAll(() => {
    fake = fakeProvider();
  });
  afterAll(() => fake.remove());

  const openFake = (ports: ReturnType<typeof testPorts>, pin: string) => openAt(fake.path, bytes(pin), ports);

  test('is opened with its PIN, and its key signs', async () => {
    fake.tries(3);
    const { keys } = await openFake(testPorts(fake.env(DATA)), FAKE_PIN);
    const { signer, label } = only(keys);
    expect(Buffer.compare(signer.publicKey.blob, fake.blob)).toBe(0);
    expect(label).toBe('key\u001b[31m (fake)');
    expect(parts(await signer.sign(DATA, 0))[0]).toBe('ssh-ed25519');
  });

  test('does not get its last try from a PIN that was given without a warning', async () => {
    fake.tries(1);
    const ports = testPorts(fake.env(DATA));
    await expect(openFake(ports, FAKE_PIN)).rejects.toMatchObject({ code: 'needs-passphrase' });
    expect(ports.asked).toEqual([
      'This is the last try: one more wrong PIN locks the token. Enter PIN for token "fake": ',
    ]);
    expect(fake.tries()).toBe(1);
  });

  test('gets its last try from a person who was told', async () => {
    fake.tries(1);
    const ports = testPorts(fake.env(DATA));
    ports.answers.push(FAKE_PIN);
    const { keys } = await openFake(ports, 'another');
    expect(fake.tries()).toBe(3);
    await only(keys).signer.sign(DATA, 0);
    expect(ports.asked).toHaveLength(1);
  });

  test('is told to be locked, and no PIN is tried', async () => {
    fake.tries(0);
    await expect(openFake(testPorts(fake.env(DATA)), FAKE_PIN)).rejects.toThrow(
      'the PIN of token "fake" is locked after too many wrong ones',
    );
  });

  test('warns when it comes to the last try while a signature waits', async () => {
    fake.tries(3);
    const ports = testPorts(fake.env(DATA));
    const { keys, provider } = await openFake(ports, '');
    ports.answers.push('000000', '000000', undefined);
    await expect(only(keys).signer.sign(DATA, 0)).rejects.toMatchObject({ code: 'needs-passphrase' });
    expect(ports.asked[2]).toMatch(
      /^Wrong PIN \(2 so far\)\. This is the last try: one more wrong PIN locks the token\. /,
    );
    expect(fake.tries()).toBe(1);
    expect(provider.status()).toMatchObject([{ lastTry: true, pinLocked: false }]);
    ports.answers.push('000000');
    await expect(only(keys).signer.sign(DATA, 0)).rejects.toThrow('is locked after too many wrong ones');
    expect(fake.tries()).toBe(0);
    expect(provider.status()).toMatchObject([{ pinLocked: true }]);
  });

  test('asks with what the signature is for', async () => {
    fake.tries(3);
    const ports = testPorts(fake.env(DATA));
    const { keys } = await openFake(ports, '');
    ports.answers.push(FAKE_PIN);
    await only(keys).signer.sign(DATA, 0, undefined, 'login as git on forge');
    expect(ports.asked).toEqual(['login as git on forge\nEnter PIN for token "fake" (key key\\x1b[31m): ']);
  });

  test('with hidden keys says that it wants its PIN', async () => {
    fake.tries(3);
    const ports = testPorts(fake.env(DATA, { FAKE_HIDDEN: '1' }));
    await expect(openFake(ports, '')).rejects.toThrow('token "fake" shows no keys without its PIN');
    const { keys } = await openFake(ports, FAKE_PIN);
    await only(keys).signer.sign(DATA, 0);
  });

  test('whose PIN is typed at the reader asks nobody else', async () => {
    fake.tries(3);
    const ports = testPorts(fake.env(DATA, { FAKE_PINPAD: '1' }));
    const { keys } = await openFake(ports, '');
    await only(keys).signer.sign(DATA, 0);
    expect(ports.asked).toEqual([]);
  });

  test('that wants its PIN each time, and a login before, is asked for once', async () => {
    fake.tries(3);
    const ports = testPorts(fake.env(DATA, { FAKE_ALWAYS: '1' }));
    const { keys } = await openFake(ports, '');
    ports.answers.push(FAKE_PIN);
    await only(keys).signer.sign(DATA, 0);
    expect(ports.asked).toHaveLength(1);
  });

  test('that forgot the login, as another program makes it, is asked again', async () => {
    fake.tries(3);
    const ports = testPorts(fake.env(DATA, { FAKE_MODE: 'logout-once' }));
    const { keys } = await openFake(ports, FAKE_PIN);
    ports.answers.push(FAKE_PIN);
    await only(keys).signer.sign(DATA, 0);
    expect(ports.asked).toHaveLength(1);
  });

  test('whose device fails once is tried again', async () => {
    fake.tries(3);
    const ports = testPorts(fake.env(DATA, { FAKE_MODE: 'general-once' }));
    const { keys } = await openFake(ports, FAKE_PIN);
    await only(keys).signer.sign(DATA, 0);
    expect(ports.asked).toEqual([]);
  });

  test('that was pulled out is marked, and serves again when it is back', async () => {
    fake.tries(3);
    const gone = join(fake.folder, 'gone');
    const ports = testPorts(fake.env(DATA, { FAKE_GONE: gone }));
    const { keys, provider } = await openFake(ports, FAKE_PIN);
    writeFileSync(gone, '');
    await provider.refresh();
    expect(provider.status()).toMatchObject([{ label: 'fake', present: false, keys: 1, types: ['ssh-ed25519'] }]);
    await expect(only(keys).signer.sign(DATA, 0)).rejects.toThrow('the token is not there');
    renameSync(gone, `${gone}.not`);
    ports.answers.push(FAKE_PIN);
    await only(keys).signer.sign(DATA, 0);
    expect(provider.status()).toMatchObject([{ present: true }]);
  });

  test('that signs something else is found out', async () => {
    fake.tries(3);
    const { keys } = await openFake(testPorts(fake.env(bytes('other data'))), FAKE_PIN);
    await expect(only(keys).signer.sign(DATA, 0)).rejects.toMatchObject({ code: 'bad-signature' });
  });
});

describe('a provider that does what none should', () => {
  let fake: FakeProvider;

  beforeAll(() => {
    fake = fakeProvider();
    fake.tries(3);
  });
  afterAll(() => fake.remove());

  test.each([
    ['crash-load', /its helper process was ended by SIGSEGV/],
    ['exit-load', /its helper process ended with 7/],
    ['crash-initialize', /its helper process was ended by SIGSEGV/],
    ['fail-initialize', /could not be loaded: C_Initialize failed with CKR 0x05/],
    ['no-list', /could not be loaded: C_GetFunctionList gave no list/],
    ['wild-list', /its helper process was ended by SIGSEGV/],
    ['version', /could not be loaded: Cryptoki version 99 is not served/],
    ['garbage', /more than was asked for|its helper process was ended/],
    ['garbage-slots', /C_GetSlotList gave more than was asked for/],
    ['garbage-attributes', /has a key that can be used|shows no keys/],
  ])('%s: is refused in words', async (mode, words) => {
    const ports = testPorts(fake.env(DATA, { FAKE_MODE: mode }));
    await expect(openAt(fake.path, bytes(FAKE_PIN), ports)).rejects.toThrow(words);
  });

  test.each([['hang-load'], ['hang-list']])('%s: is given up after its time', async (mode) => {
    const ports = testPorts(fake.env(DATA, { FAKE_MODE: mode }), { listMs: 700 });
    await expect(openAt(fake.path, bytes(FAKE_PIN), ports)).rejects.toThrow(/no answer within 0\.7 s/);
    await noHelpers();
  });

  test('endless: its objects are counted only so far', async () => {
    const ports = testPorts(fake.env(DATA, { FAKE_MODE: 'endless' }));
    const { keys } = await openAt(fake.path, bytes(FAKE_PIN), ports);
    only(keys);
  });

  test('garbage-token: its name is shown as what it is', async () => {
    const ports = testPorts(fake.env(DATA, { FAKE_MODE: 'garbage-token' }));
    const { keys, provider } = await openAt(fake.path, bytes(FAKE_PIN), ports);
    only(keys);
    expect(provider.status()[0]?.label).toMatch(/^\ufffd+$/);
  });

  test('print: what it says on standard output disturbs nobody', async () => {
    const ports = testPorts(fake.env(DATA, { FAKE_MODE: 'print' }));
    const { keys } = await openAt(fake.path, bytes(FAKE_PIN), ports);
    await only(keys).signer.sign(DATA, 0);
  });

  test.each([
    ['crash-sign', /its helper process was ended by SIGSEGV before it answered/],
    ['garbage-sign', /C_Sign gave more than it had room for/],
  ])('%s: fails its own request', async (mode, words) => {
    const ports = testPorts(fake.env(DATA, { FAKE_MODE: mode }));
    const { keys } = await openAt(fake.path, bytes(FAKE_PIN), ports);
    ports.answers.push(FAKE_PIN, FAKE_PIN);
    await expect(only(keys).signer.sign(DATA, 0)).rejects.toThrow(words);
  });

  test('hang-sign: costs its own client, and nobody else', async () => {
    const other = fakeProvider();
    try {
      other.tries(3);
      const hung = await openAt(
        fake.path,
        bytes(FAKE_PIN),
        testPorts(fake.env(DATA, { FAKE_MODE: 'hang-sign' }), { signMs: 1500 }),
      );
      const well = await openAt(other.path, bytes(FAKE_PIN), testPorts(other.env(DATA)));
      let over = false;
      const waits = only(hung.keys)
        .signer.sign(DATA, 0)
        .finally(() => {
          over = true;
        });
      waits.catch(() => {});
      await only(well.keys).signer.sign(DATA, 0);
      expect(over).toBe(false);
      await expect(waits).rejects.toThrow(/no answer within 1\.5 s/);
      await only(well.keys).signer.sign(DATA, 0);
    } finally {
      other.remove();
    }
  });

  test('hang-sign: a client that hangs up waits no longer', async () => {
    const ports = testPorts(fake.env(DATA, { FAKE_MODE: 'hang-sign' }), { signMs: 20_000 });
    const { keys } = await openAt(fake.path, bytes(FAKE_PIN), ports);
    const hangUp = new AbortController();
    const waits = only(keys).signer.sign(DATA, 0, hangUp.signal);
    setTimeout(() => hangUp.abort(), 50);
    await expect(waits).rejects.toThrow('the request was withdrawn');
  });

  test('hang-finalize: is killed when it does not end', async () => {
    const ports = testPorts(fake.env(DATA, { FAKE_MODE: 'hang-finalize' }), { endMs: 200 });
    const { provider } = await openAt(fake.path, bytes(FAKE_PIN), ports);
    provider.close();
    await noHelpers();
  });
});

describe('a helper process', () => {
  test('ends with who started it, even while its provider hangs', async () => {
    const fake = fakeProvider();
    try {
      const [program, script] = testPorts({}).helper as [string, string];
      const request = encodeRequest({ kind: 'tokens', path: fake.path });
      const starter = `
        const child = require('node:child_process').spawn(process.execPath, [process.argv[1]], { stdio: 'pipe', detached: true });
        child.stdin.write(Buffer.from(process.argv[2], 'hex'));
        child.stdin.on('error', () => {});
        console.log(child.pid);
        setInterval(() => {}, 1e6);`;
      const frame = Buffer.concat([Buffer.alloc(4), request]);
      frame.writeUInt32BE(request.length);
      const env = fake.env(DATA, { FAKE_MODE: 'hang-list', FAKE_MARK: fake.mark });
      const parent = spawn(program, ['-e', starter, script, frame.toString('hex')], { env, stdio: 'pipe' });
      const pid = Number(await new Promise((done) => parent.stdout.once('data', done)));
      await until('the provider to be loaded', () => existsSync(fake.mark));
      parent.kill('SIGKILL');
      const isGone = (): boolean => {
        try {
          return / Z /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
        } catch {
          return true;
        }
      };
      await until('the helper to be gone', isGone);
    } finally {
      fake.remove();
    }
  });
});

describe('a file that is no provider', () => {
  let fake: FakeProvider;

  beforeAll(() => {
    fake = fakeProvider();
  });
  afterAll(() => fake.remove());

  test.each([
    ['NONE', 'it has no C_GetFunctionList'],
    ['IMPORTS', 'it has no C_GetFunctionList'],
    ['HIDDEN', 'it has no C_GetFunctionList'],
    ['DATA', 'it has no C_GetFunctionList'],
  ])('but a library (%s) is refused, and nothing of it runs', async (define, why) => {
    const path = fake.noProvider(define);
    const ports = testPorts(fake.env(DATA, { FAKE_MARK: fake.mark }));
    await expect(openAt(path, NO_PIN, ports)).rejects.toMatchObject({
      code: 'unsupported',
      message: `${path} is no PKCS#11 provider: ${why}`,
    });
    expect(existsSync(fake.mark)).toBe(false);
  });

  test('is told by its constructor where it is one', async () => {
    await openAt(fake.path, NO_PIN, testPorts(fake.env(DATA, { FAKE_MARK: fake.mark })));
    expect(existsSync(fake.mark)).toBe(true);
  });

  test('in any of these forms is refused in words', async () => {
    const text = join(fake.folder, 'text.so');
    writeFileSync(text, '#!/bin/sh\necho C_GetFunctionList\n');
    const pipe = join(fake.folder, 'pipe.so');
    run('mkfifo', [pipe]);
    const ports = testPorts(fake.env(DATA));
    const libcrypto = readdirSync('/usr/lib/x86_64-linux-gnu', { encoding: 'utf8' }).find((name) =>
      /^libcrypto\.so\.\d/.test(name),
    );
    for (const [path, words] of [
      [text, 'it is no shared library'],
      [pipe, 'it is no file'],
      [fake.folder, 'it is no file'],
      [join(fake.folder, 'absent.so'), "it can't be opened (ENOENT)"],
      [process.execPath, 'it is a program or an object file'],
      [`/usr/lib/x86_64-linux-gnu/${libcrypto}`, 'it has no C_GetFunctionList'],
    ] as const)
      await expect(openAt(path, NO_PIN, ports)).rejects.toThrow(`${path} is no PKCS#11 provider: ${words}`);
  });
});
