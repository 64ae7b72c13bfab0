import { constants, type KeyObject, verify } from 'node:crypto';
import { renameSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { TokenKey } from '../../src/backends/pkcs11.ts';
import { scanMemory } from '../support/memscan.ts';
import {
  bytes,
  closeProviders,
  DATA,
  find,
  type ImportedKey,
  type KeyKind,
  noHelpers,
  openAt,
  parts,
  run,
  SOFTHSM,
  type SoftHsm,
  softHsm,
  testPorts,
} from '../support/pkcs11.ts';

afterEach(closeProviders);

const NO_PIN = new Uint8Array();
const KINDS: readonly KeyKind[] = ['rsa', 'nistp256', 'nistp384', 'nistp521', 'ed25519'];

/** r and s at their full length. */
function fixed(inner: Buffer, size: number): Buffer {
  const r = inner.readUInt32BE();
  const numbers = [inner.subarray(4, 4 + r), inner.subarray(8 + r)];
  return Buffer.concat(numbers.map((number) => Buffer.concat([Buffer.alloc(size), number]).subarray(-size)));
}

/** Verifies with node:crypto alone. */
function holds(publicKey: KeyObject, kind: KeyKind, data: Uint8Array, signature: Uint8Array): boolean {
  const [name, made] = parts(signature);
  if (kind === 'ed25519') return name === 'ssh-ed25519' && verify(null, data, publicKey, made);
  if (kind === 'rsa') {
    const hash = { 'ssh-rsa': 'sha1', 'rsa-sha2-256': 'sha256', 'rsa-sha2-512': 'sha512' }[name] ?? '';
    return verify(hash, data, { key: publicKey, padding: constants.RSA_PKCS1_PADDING }, made);
  }
  const [hash, size] = { nistp256: ['sha256', 32], nistp384: ['sha384', 48], nistp521: ['sha512', 66] }[kind] as [
    string,
    number,
  ];
  if (name !== `ecdsa-sha2-${kind}`) return false;
  return verify(hash, data, { key: publicKey, dsaEncoding: 'ieee-p1363' }, fixed(made, size));
}

describe('keys in SoftHSM', () => {
  let hsm: SoftHsm;
  let imported: readonly ImportedKey[];

  beforeAll(() => {
    hsm = softHsm();
    hsm.initialise('first', '1234');
    imported = KINDS.map((kind, i) => hsm.importKey('first', '1234', kind, `my ${kind}`, `a${i}`));
  });
  afterAll(() => hsm.remove());

  test('of every type are listed under their labels, and sign', async () => {
    const { keys, provider } = await openAt(SOFTHSM, bytes('1234'), testPorts(hsm.env));
    expect(keys).toHaveLength(KINDS.length);
    for (const { kind, blob, publicKey } of imported) {
      const key = find(keys, blob);
      expect(key.label).toBe(`my ${kind} (first)`);
      expect(key.token).toBe('first');
      expect(holds(publicKey, kind, DATA, await key.signer.sign(DATA, 0))).toBe(true);
    }
    expect(provider.status()).toMatchObject([{ label: 'first', present: true, keys: KINDS.length, loggedIn: true }]);
    expect([...(provider.status()[0]?.types ?? [])].sort()).toEqual([
      'ecdsa-sha2-nistp256',
      'ecdsa-sha2-nistp384',
      'ecdsa-sha2-nistp521',
      'ssh-ed25519',
      'ssh-rsa',
    ]);
  });

  test('sign with the hash that the flags of an RSA request ask for', async () => {
    const { keys } = await openAt(SOFTHSM, bytes('1234'), testPorts(hsm.env));
    const { blob, publicKey } = imported[0] as ImportedKey;
    for (const [flags, name] of [
      [0, 'ssh-rsa'],
      [2, 'rsa-sha2-256'],
      [4, 'rsa-sha2-512'],
      [6, 'rsa-sha2-256'],
    ] as const) {
      const signature = await find(keys, blob).signer.sign(DATA, flags);
      expect(parts(signature)[0]).toBe(name);
      expect(holds(publicKey, 'rsa', DATA, signature)).toBe(true);
    }
  });

  test('sign the longest message that the agent takes, and an empty one', async () => {
    const { keys } = await openAt(SOFTHSM, bytes('1234'), testPorts(hsm.env));
    for (const data of [new Uint8Array(256 * 1024 - 200).fill(7), new Uint8Array()]) {
      for (const { kind, blob, publicKey } of imported)
        expect(holds(publicKey, kind, data, await find(keys, blob).signer.sign(data, 2))).toBe(true);
    }
  });

  test('sign for many at once, in one helper', async () => {
    const { keys, provider } = await openAt(SOFTHSM, bytes('1234'), testPorts(hsm.env));
    const pid = provider.pid;
    const jobs = Array.from({ length: 40 }, async (_, i) => {
      const { kind, blob, publicKey } = imported[i % imported.length] as ImportedKey;
      const data = bytes(`message ${i}`);
      return holds(publicKey, kind, data, await find(keys, blob).signer.sign(data, 4));
    });
    expect(await Promise.all(jobs)).toEqual(jobs.map(() => true));
    expect(provider.pid).toBe(pid);
  });

  test('are not to be had with a wrong PIN, and nobody is asked', async () => {
    const ports = testPorts(hsm.env);
    await expect(openAt(SOFTHSM, bytes('4321'), ports)).rejects.toMatchObject({
      code: 'wrong-passphrase',
      message: 'wrong PIN for token "first"',
    });
    expect(ports.asked).toEqual([]);
  });

  test('that were listed without a PIN ask for it once, when it is needed', async () => {
    const ports = testPorts(hsm.env);
    const { keys } = await openAt(SOFTHSM, NO_PIN, ports);
    expect(ports.asked).toEqual([]);
    ports.answers.push('1234');
    const { kind, blob, publicKey } = imported[1] as ImportedKey;
    const signatures = await Promise.all([1, 2, 3].map(() => find(keys, blob).signer.sign(DATA, 0)));
    for (const signature of signatures) expect(holds(publicKey, kind, DATA, signature)).toBe(true);
    expect(ports.asked).toEqual([expect.stringMatching(/Enter PIN for token "first" \(key my nistp256\): $/)]);
  });

  test('say how many PINs were wrong, and give up after three', async () => {
    const ports = testPorts(hsm.env);
    const { keys } = await openAt(SOFTHSM, NO_PIN, ports);
    const { signer } = find(keys, (imported[4] as ImportedKey).blob);
    ports.answers.push('1111', '2222', '3333', '1234');
    await expect(signer.sign(DATA, 0)).rejects.toMatchObject({ code: 'wrong-passphrase' });
    expect(ports.asked).toHaveLength(3);
    expect(ports.asked[1]).toMatch(/^Wrong PIN \(1 so far\)\. /);
    expect(ports.asked[2]).toMatch(/^Wrong PIN \(2 so far\)\. /);
    await signer.sign(DATA, 0);
    expect(ports.asked).toHaveLength(4);
  });

  test.each([[undefined], ['']])('do not sign where the answer is %j', async (answer) => {
    const ports = testPorts(hsm.env);
    const { keys } = await openAt(SOFTHSM, NO_PIN, ports);
    ports.answers.push(answer);
    await expect(find(keys, (imported[4] as ImportedKey).blob).signer.sign(DATA, 0)).rejects.toMatchObject({
      code: 'needs-passphrase',
    });
  });

  test('stop asking when the client hangs up', async () => {
    const hangUp = new AbortController();
    let ended = false;
    const ports = {
      ...testPorts(hsm.env),
      askPin: (_: string, signal: AbortSignal) =>
        new Promise<undefined>((done) => {
          signal.addEventListener('abort', () => {
            ended = true;
            done(undefined);
          });
          hangUp.abort();
        }),
    };
    const { keys } = await openAt(SOFTHSM, NO_PIN, ports);
    const { signer } = find(keys, (imported[4] as ImportedKey).blob);
    await expect(signer.sign(DATA, 0, hangUp.signal)).rejects.toThrow();
    expect(ended).toBe(true);
  });

  test('opened twice are in one helper, which lives until both let go', async () => {
    const ports = testPorts(hsm.env);
    const first = await openAt(SOFTHSM, bytes('1234'), ports);
    const second = await openAt(SOFTHSM, bytes('1234'), ports);
    expect(second.provider.pid).toBe(first.provider.pid);
    first.provider.close();
    const { kind, blob, publicKey } = imported[4] as ImportedKey;
    expect(holds(publicKey, kind, DATA, await find(second.keys, blob).signer.sign(DATA, 0))).toBe(true);
    expect(ports.asked).toEqual([]);
    for (const { signer } of second.keys) signer.dispose();
    await noHelpers();
    await expect(find(second.keys, blob).signer.sign(DATA, 0)).rejects.toThrow('the key was removed');
  });

  test('cost no process when nobody is logged in and nobody asks', async () => {
    const ports = testPorts(hsm.env, { idleMs: 50 });
    const { keys, provider } = await openAt(SOFTHSM, NO_PIN, ports);
    await noHelpers();
    expect(provider.pid).toBeUndefined();
    ports.answers.push('1234');
    const { kind, blob, publicKey } = imported[2] as ImportedKey;
    expect(holds(publicKey, kind, DATA, await find(keys, blob).signer.sign(DATA, 0))).toBe(true);
    // A login is a person's work: the helper that has it stays.
    await new Promise((done) => setTimeout(done, 200));
    await find(keys, blob).signer.sign(DATA, 0);
    expect(ports.asked).toHaveLength(1);
  });

  test('are listed while their token is away, and sign again when it is back', async () => {
    const ports = testPorts(hsm.env);
    const { keys, provider } = await openAt(SOFTHSM, bytes('1234'), ports);
    const { kind, blob, publicKey } = imported[0] as ImportedKey;
    const { signer } = find(keys, blob);
    await signer.sign(DATA, 2);
    const away = join(hsm.folder, 'away');
    renameSync(hsm.tokens, away);
    await expect(signer.sign(DATA, 2)).rejects.toThrow();
    renameSync(away, hsm.tokens);
    ports.answers.push('1234', '1234');
    expect(holds(publicKey, kind, DATA, await signer.sign(DATA, 2))).toBe(true);
    expect(provider.status()).toMatchObject([{ present: true }]);
  });

  test('that want their PIN for each signature ask each time', async () => {
    hsm.initialise('strict', '9999');
    const what = ['--keypairgen', '--key-type', 'EC:prime256v1', '--label', 'each time', '--id', 'b1', '--always-auth'];
    hsm.tool('strict', '9999', ...what);
    try {
      const ports = testPorts(hsm.env);
      const { keys } = await openAt(SOFTHSM, bytes('9999'), ports);
      const key = keys.find(({ label }) => label === 'each time (strict)') as TokenKey;
      ports.answers.push('9999', '9999', '1111', '9999');
      await key.signer.sign(DATA, 0);
      await key.signer.sign(DATA, 0);
      expect(ports.asked).toHaveLength(2);
      await key.signer.sign(DATA, 0);
      expect(ports.asked[3]).toMatch(/^Wrong PIN/);
    } finally {
      run('softhsm2-util', ['--delete-token', '--token', 'strict'], hsm.env);
    }
  });

  test('whose public half is only in a certificate are known by its subject', async () => {
    hsm.initialise('certified', '2468');
    try {
      const key = hsm.importKey('certified', '2468', 'nistp384', 'to go', 'c1');
      const [pem, der] = [join(hsm.folder, 'key.pem'), join(hsm.folder, 'cert.der')];
      const subject = '/O=Latchkey/CN=Token Owner';
      run('openssl', ['req', '-new', '-x509', '-key', pem, '-subj', subject, '-outform', 'DER', '-out', der]);
      hsm.tool('certified', '2468', '--write-object', der, '--type', 'cert', '--id', 'c1');
      hsm.tool('certified', '2468', '--delete-object', '--type', 'pubkey', '--id', 'c1');
      // A certificate without a private key, as of an authority.
      run('openssl', [
        'req',
        '-new',
        '-x509',
        '-newkey',
        'ed25519',
        '-nodes',
        '-subj',
        '/CN=CA',
        '-outform',
        'DER',
        '-out',
        der,
        '-keyout',
        '/dev/null',
      ]);
      hsm.tool('certified', '2468', '--write-object', der, '--type', 'cert', '--id', 'c2');
      const { keys } = await openAt(SOFTHSM, bytes('2468'), testPorts(hsm.env));
      const mine = keys.filter(({ token }) => token === 'certified');
      expect(mine.map(({ label }) => label)).toEqual(['O=Latchkey, CN=Token Owner (certified)']);
      expect(holds(key.publicKey, 'nistp384', DATA, await find(keys, key.blob).signer.sign(DATA, 0))).toBe(true);
    } finally {
      run('softhsm2-util', ['--delete-token', '--token', 'certified'], hsm.env);
    }
  });

  test('on two tokens with a PIN each: one PIN opens its own, the other is asked for', async () => {
    hsm.initialise('second', '8642');
    try {
      const key = hsm.importKey('second', '8642', 'ed25519', 'on the second', 'd1');
      const ports = testPorts(hsm.env);
      const { keys, provider } = await openAt(SOFTHSM, bytes('1234'), ports);
      expect(keys).toHaveLength(KINDS.length + 1);
      expect(provider.status()).toHaveLength(2);
      ports.answers.push('8642');
      expect(holds(key.publicKey, 'ed25519', DATA, await find(keys, key.blob).signer.sign(DATA, 0))).toBe(true);
      expect(ports.asked).toEqual([expect.stringContaining('token "second" (key on the second)')]);
      const { kind, blob, publicKey } = imported[0] as ImportedKey;
      expect(holds(publicKey, kind, DATA, await find(keys, blob).signer.sign(DATA, 0))).toBe(true);
      expect(ports.asked).toHaveLength(1);
    } finally {
      run('softhsm2-util', ['--delete-token', '--token', 'second'], hsm.env);
    }
  });

  test('leave no PIN in the memory of their helper', async () => {
    const pin = 'a PIN as no other: 7391 5520';
    hsm.initialise('third', pin);
    try {
      const keys = KINDS.slice(0, 2).map((kind, i) => hsm.importKey('third', pin, kind, 'k', `e${i}`));
      for (const early of [pin, '']) {
        const ports = testPorts(hsm.env);
        const opened = await openAt(SOFTHSM, bytes(early), ports);
        ports.answers.push(pin);
        for (const { blob } of keys) await find(opened.keys, blob).signer.sign(DATA, 2);
        const needles = { pin, control: SOFTHSM };
        const scan = scanMemory(
          opened.provider.pid as number,
          Object.entries(needles).map(([name, text]) => ({ name, bytes: bytes(text) })),
        );
        expect([...new Set(scan.found.map(({ name }) => name))]).toEqual(['control']);
        opened.provider.close();
      }
    } finally {
      run('softhsm2-util', ['--delete-token', '--token', 'third'], hsm.env);
    }
  });

  test('have a helper whose memory others of the same user cannot read', async () => {
    const { provider } = await openAt(SOFTHSM, NO_PIN, testPorts(hsm.env));
    const pid = provider.pid as number;
    const uid = 12345;
    const look = (path: string): string =>
      run('setpriv', [
        '--reuid',
        String(uid),
        '--clear-groups',
        'sh',
        '-c',
        `cat ${path} >/dev/null 2>&1; echo $?`,
      ]).trim();
    expect(look(`/proc/${pid}/environ`)).toBe('1');
    expect(look(`/proc/${pid}/cmdline`)).toBe('0');
  });
});
