/** Keys in a TPM 2.0 (swtpm) through Debian's libtpm2-pkcs11, with no resource manager in between. */
import { verify } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { openProvider, type TokenProvider } from '../../src/backends/pkcs11.ts';
import { blobOf, bytes, noHelpers, testPorts } from '../support/pkcs11.ts';
import { type SoftTpm, softTpm, TPM_PIN } from '../support/tpm.ts';

const DATA = bytes('what a client wants signed');

let tpm: SoftTpm;
let provider: TokenProvider | undefined;

beforeAll(async () => {
  tpm = await softTpm();
  tpm.generate('EC:prime256v1', 'login', '01');
  tpm.generate('rsa:2048', 'old', '02');
});

beforeEach(() => tpm.flush());

afterEach(async () => {
  provider?.close();
  await noHelpers();
});

afterAll(() => tpm.remove());

test('keys in a TPM are listed and sign', async () => {
  const opened = await openProvider(tpm.module, bytes(TPM_PIN), testPorts(tpm.env));
  provider = opened.provider;
  expect(opened.keys.map(({ label, token }) => `${token} ${label}`).sort()).toEqual([
    'tpm login (tpm)',
    'tpm old (tpm)',
  ]);
  for (const { signer, label } of opened.keys) {
    const publicKey = tpm.publicKeyOf(label.replace(' (tpm)', ''));
    expect(Buffer.compare(signer.publicKey.blob, blobOf(publicKey))).toBe(0);
    const signature = Buffer.from(await signer.sign(DATA, 4));
    const made = signature.subarray(8 + signature.readUInt32BE());
    if (label === 'old (tpm)') expect(verify('sha512', DATA, publicKey, made)).toBe(true);
    else expect(signature.toString('latin1', 4, 23)).toBe('ecdsa-sha2-nistp256');
  }
});

test('a wrong PIN of a TPM is said to be one', async () => {
  await expect(openProvider(tpm.module, bytes('654321'), testPorts(tpm.env))).rejects.toMatchObject({
    code: 'wrong-passphrase',
  });
});

test('a PIN of a TPM is asked when the key is used', async () => {
  const ports = testPorts(tpm.env);
  const opened = await openProvider(tpm.module, new Uint8Array(), ports);
  provider = opened.provider;
  ports.answers.push('000000', TPM_PIN);
  for (const { signer } of opened.keys) await signer.sign(DATA, 2);
  expect(ports.asked).toHaveLength(2);
});

test('a TPM that serves one process is added twice, and its keys sign', async () => {
  const ports = testPorts(tpm.env, { checkMs: 1500 });
  const first = await openProvider(tpm.module, bytes(TPM_PIN), ports);
  const second = await openProvider(tpm.module, bytes(TPM_PIN), ports);
  provider = second.provider;
  first.provider.close();
  for (const { signer } of [...first.keys, ...second.keys]) await signer.sign(DATA, 2);
  expect(ports.asked).toEqual([]);
});
