import { test, expect } from 'vitest';
import { openProvider } from '../../src/backends/pkcs11.ts';
import { fakeProvider, softHsm, SOFTHSM, testPorts, bytes, FAKE_PIN } from '../support/pkcs11.ts';
import { scanMemory } from '../support/memscan.ts';
test('try', async () => {
  const hsm = softHsm();
  const PIN = 'a-pin-with-a-pattern-7391';
  hsm.initialise('x', PIN);
  hsm.importKey('x', PIN, 'ed25519', 'k', '01'); hsm.importKey('x', PIN, 'rsa', 'r', '02');
  for (const early of [PIN, '']) {
  const ports = testPorts(hsm.env);
  const { provider, keys } = await openProvider(SOFTHSM, bytes(early), ports);
  ports.answers.push(PIN);
  for (const k of keys) await k.signer.sign(bytes('x'), 2);
  const scan = scanMemory(provider.pid as number, [{ name: 'pin', bytes: bytes(PIN) }]);
  console.log(scan.scannedBytes, scan.found);
  provider.close();
  }
  const fake = fakeProvider(); fake.tries(3);
  console.log(hsm.folder); hsm.remove(); fake.remove();
});
