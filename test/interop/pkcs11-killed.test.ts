/**
 * Helpers that are killed while they serve: in the middle of a provider's own call (test/support/provider.c), and at any
 * moment in SoftHSM. The figure is 1000: LATCHKEY_HELPER_KILLS=1000.
 */
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { signatureName, verifySignature } from '../../src/keys/signature.ts';
import { until } from '../support/agentprocess.ts';
import {
  bytes,
  children,
  closeProviders,
  DATA,
  FAKE_PIN,
  type FakeProvider,
  fakeProvider,
  find,
  type ImportedKey,
  type KeyKind,
  openAt,
  SOFTHSM,
  type SoftHsm,
  softHsm,
  testPorts,
} from '../support/pkcs11.ts';

afterEach(closeProviders);

const KINDS: readonly KeyKind[] = ['rsa', 'nistp256', 'nistp384', 'nistp521', 'ed25519'];
const KILLS = Number(process.env.LATCHKEY_HELPER_KILLS ?? 50);

describe('a provider that takes its time to sign', () => {
  let fake: FakeProvider;

  beforeAll(() => {
    fake = fakeProvider();
  });
  afterAll(() => fake.remove());

  test(`killed in the middle of ${KILLS} signatures, each ends in a clear failure or a signature`, {
    timeout: 1_200_000,
  }, async () => {
    fake.tries(3);
    const signing = join(fake.folder, 'signing');
    const base = testPorts(fake.env(DATA, { FAKE_MODE: 'slow-sign', FAKE_SIGNING: signing }));
    const ports = { ...base, askPin: async () => bytes(FAKE_PIN) };
    const { keys, provider } = await openAt(fake.path, bytes(FAKE_PIN), ports);
    const { signer } = find(keys, fake.blob);
    const files = readdirSync('/proc/self/fd').length;
    const ends = new Map<string, number>();
    for (let i = 0; i < KILLS; i++) {
      // Half of them have a PIN in them, since the login was lost before: these are not made once more, the others are.
      if (i % 2 === 0) await signer.sign(DATA, 0);
      else if (provider.pid !== undefined) {
        process.kill(provider.pid, 'SIGKILL');
        await until('the login to be lost', () => provider.pid === undefined);
      }
      rmSync(signing, { force: true });
      const work = signer.sign(DATA, 0).then(
        (signature) => signatureName(signature) ?? '',
        (error: unknown) => (error as Error).message.replace(fake.path, 'P'),
      );
      await until('the signature to begin', () => existsSync(signing));
      if (provider.pid !== undefined) process.kill(provider.pid, 'SIGKILL');
      const how = await work;
      ends.set(how, (ends.get(how) ?? 0) + 1);
    }
    const killed = ends.get('PKCS#11 provider P: its helper process was ended by SIGKILL before it answered') ?? 0;
    expect(killed).toBeGreaterThan(0);
    expect(ends.get('ssh-ed25519')).toBeGreaterThan(0);
    expect(ends.get('ssh-ed25519')).toBe(KILLS - killed);
    expect(fake.tries()).toBe(3);
    expect(readdirSync('/proc/self/fd').length).toBeLessThan(files + 10);
    // The last one may have been killed a moment ago.
    await until('every killed process to be reaped', () => children().every(({ state }) => state !== 'Z'));
    expect(children().length).toBeLessThanOrEqual(1);
  });
});

describe('keys in SoftHSM', () => {
  let hsm: SoftHsm;
  let imported: readonly ImportedKey[];

  beforeAll(() => {
    hsm = softHsm();
    hsm.initialise('first', '1234');
    imported = KINDS.map((kind, i) => hsm.importKey('first', '1234', kind, `my ${kind}`, `a${i}`));
  });
  afterAll(() => hsm.remove());

  test(`end in a signature or a clear failure when the helper is killed under them, ${KILLS} times`, {
    timeout: 1_200_000,
  }, async () => {
    const base = testPorts(hsm.env);
    const ports = { ...base, askPin: async () => bytes('1234') };
    const { keys, provider } = await openAt(SOFTHSM, bytes('1234'), ports);
    const files = readdirSync('/proc/self/fd').length;
    let signed = 0;
    const failures = new Set<string>();
    for (let i = 0; i < KILLS; i++) {
      const { blob } = imported[i % imported.length] as ImportedKey;
      const { signer } = find(keys, blob);
      // A process that is logged in, and has signed: not one that only starts.
      await signer.sign(DATA, 2);
      const work = Promise.all(
        [1, 2].map((n) => signer.sign(bytes(`${i} ${n}`), 2).catch((error: unknown) => error as Error)),
      );
      await new Promise((done) => (i % 4 === 0 ? setImmediate(done) : setTimeout(done, i % 4)));
      if (provider.pid !== undefined) process.kill(provider.pid, 'SIGKILL');
      (await work).forEach((outcome, n) => {
        if (outcome instanceof Error) failures.add(outcome.message.replace(/\d+/g, 'N'));
        else {
          signed++;
          expect(verifySignature(signer.publicKey, bytes(`${i} ${n + 1}`), outcome)).toBe(true);
        }
      });
    }
    expect(signed).toBeGreaterThan(0);
    // Two pipes of the helper that runs now, and what the test runner opens meanwhile.
    expect(readdirSync('/proc/self/fd').length).toBeLessThan(files + 10);
    // The last one may have been killed a moment ago.
    await until('every killed process to be reaped', () => children().every(({ state }) => state !== 'Z'));
    for (const failure of failures)
      expect(failure).toMatch(/its helper process was ended by SIGKILL before it answered$/);
    for (const { blob } of imported) await find(keys, blob).signer.sign(DATA, 2);
  });
});
