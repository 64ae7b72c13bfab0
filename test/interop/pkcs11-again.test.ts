/**
 * Tokens that are added again while somebody is logged in: in SoftHSM, and with a provider of our own that counts tries
 * (test/support/provider.c). A TPM that serves one process is in tpm.test.ts.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { TokenKey } from '../../src/backends/pkcs11.ts';
import {
  bytes,
  closeProviders,
  DATA,
  FAKE_PIN,
  type FakeProvider,
  fakeProvider,
  find,
  type ImportedKey,
  openAt,
  run,
  SOFTHSM,
  type SoftHsm,
  softHsm,
  testPorts,
} from '../support/pkcs11.ts';

afterEach(closeProviders);

describe('keys in SoftHSM', () => {
  let hsm: SoftHsm;
  let key: ImportedKey;

  beforeAll(() => {
    hsm = softHsm();
    hsm.initialise('first', '1234');
    key = hsm.importKey('first', '1234', 'rsa', 'on the first', 'a1');
  });
  afterAll(() => hsm.remove());

  test('are not opened a second time with a wrong PIN, which costs nobody the login', async () => {
    const ports = testPorts(hsm.env);
    const { keys, provider } = await openAt(SOFTHSM, bytes('1234'), ports);
    const { pid } = provider;
    await expect(openAt(SOFTHSM, bytes('4321'), ports)).rejects.toThrow('wrong PIN for token "first"');
    expect(provider.pid).toBe(pid);
    await find(keys, key.blob).signer.sign(DATA, 2);
    expect(ports.asked).toEqual([]);
  });

  test('on two tokens: the PIN of the second opens it, given while the first is open', async () => {
    hsm.initialise('second', '8642');
    try {
      const other = hsm.importKey('second', '8642', 'nistp256', 'on the second', 'd1');
      const ports = testPorts(hsm.env);
      const first = await openAt(SOFTHSM, bytes('1234'), ports);
      const states = first.provider.status().map(({ label, loggedIn }) => `${label} ${loggedIn}`);
      expect(states.sort()).toEqual(['first true', 'second false']);
      const { keys, provider } = await openAt(SOFTHSM, bytes('8642'), ports);
      expect(provider.status().map(({ loggedIn }) => loggedIn)).toEqual([true, true]);
      await find(first.keys, key.blob).signer.sign(DATA, 2);
      await find(keys, other.blob).signer.sign(DATA, 2);
      expect(ports.asked).toEqual([]);
    } finally {
      run('softhsm2-util', ['--delete-token', '--token', 'second'], hsm.env);
    }
  });
});

describe('a token that counts tries', () => {
  let fake: FakeProvider;

  beforeAll(() => {
    fake = fakeProvider();
  });
  afterAll(() => fake.remove());

  const openFake = (ports: ReturnType<typeof testPorts>, pin: string) => openAt(fake.path, bytes(pin), ports);
  const only = (keys: readonly TokenKey[]): TokenKey => find(keys, fake.blob);

  test('is added again with its PIN, and with no other, while somebody is logged in', async () => {
    fake.tries(3);
    const ports = testPorts(fake.env(DATA));
    const { keys, provider } = await openFake(ports, FAKE_PIN);
    const { pid } = provider;
    await expect(openFake(ports, '000000')).rejects.toMatchObject({
      code: 'wrong-passphrase',
      message: 'wrong PIN for token "fake"',
    });
    expect(fake.tries()).toBe(2);
    // The login that was there is not lost by it.
    await only(keys).signer.sign(DATA, 0);
    await openFake(ports, FAKE_PIN);
    expect(fake.tries()).toBe(3);
    await openFake(ports, '');
    expect(provider.pid).toBe(pid);
    expect(ports.asked).toEqual([]);
  });

  test('that somebody is logged in to does not lose its last try to whoever adds it again', async () => {
    fake.tries(3);
    const ports = testPorts(fake.env(DATA));
    const { keys } = await openFake(ports, FAKE_PIN);
    fake.tries(1);
    await expect(openFake(ports, '000000')).rejects.toMatchObject({ code: 'needs-passphrase' });
    expect(ports.asked).toEqual([expect.stringMatching(/^This is the last try: /)]);
    expect(fake.tries()).toBe(1);
    ports.answers.push(FAKE_PIN);
    await openFake(ports, '000000');
    expect(fake.tries()).toBe(3);
    await only(keys).signer.sign(DATA, 0);
  });

  test('does not lose both of its last tries to two who add it at once', async () => {
    fake.tries(3);
    const ports = testPorts(fake.env(DATA));
    await openFake(ports, FAKE_PIN);
    fake.tries(2);
    const both = await Promise.allSettled([openFake(ports, '000000'), openFake(ports, '111111')]);
    expect(both.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    expect(fake.tries()).toBe(1);
  });

  test('is added again where no second process gets at it', async () => {
    fake.tries(3);
    const ports = testPorts(fake.env(DATA, { FAKE_MODE: 'hang-second' }), { checkMs: 700 });
    const { keys } = await openFake(ports, FAKE_PIN);
    for (let i = 0; i < 2; i++) await openFake(ports, FAKE_PIN);
    expect(ports.logged.filter((line) => line.includes('the PIN was not checked'))).toEqual([
      expect.stringMatching(/^info .*a second process got no answer within 0\.7 s$/),
      expect.stringMatching(/^info .*it serves one process$/),
    ]);
    expect(fake.tries()).toBe(3);
    await only(keys).signer.sign(DATA, 0);
  });
});
