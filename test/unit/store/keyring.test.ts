import { expect, test } from 'vitest';
import { KeyError } from '../../../src/keys/error.ts';
import { parsePublicKey } from '../../../src/keys/publickey.ts';
import type { Signer } from '../../../src/keys/signer.ts';
import type { Entry } from '../../../src/store/entry.ts';
import { Keyring, MAX_KEYS } from '../../../src/store/keyring.ts';
import { fill, raw, str, u32 } from '../wire/build.ts';

interface FakeEntry extends Entry {
  readonly disposed: () => number;
}

function entry(number: number, parts: Partial<Entry> = {}): FakeEntry {
  let disposals = 0;
  const publicKey = parsePublicKey(raw(str('ssh-ed25519'), str(u32(number), fill(28))));
  const signer: Signer = {
    publicKey,
    sign: () => new Uint8Array(),
    rest: () => {},
    dispose: () => {
      disposals++;
    },
  };
  const plain = {
    signer,
    comment: `${number}`,
    confirm: false,
    expiresAt: undefined,
    provider: undefined,
    destinations: undefined,
  };
  return { ...plain, ...parts, disposed: () => disposals };
}

const comments = (keyring: Keyring): string =>
  keyring
    .entries()
    .map(({ comment }) => comment)
    .join(' ');
const blobOf = ({ signer }: Entry): Uint8Array => signer.publicKey.blob;

test('keys are found by equal bytes, and listed in the order in which they came', () => {
  const keyring = new Keyring();
  const entries = [3, 1, 2].map((number) => entry(number));
  for (const one of entries) keyring.add(one);
  expect(comments(keyring)).toBe('3 1 2');
  for (const one of entries) expect(keyring.find(Uint8Array.from(blobOf(one)))).toBe(one);
  expect(keyring.find(blobOf(entry(4)))).toBeUndefined();
  expect(keyring.find(new Uint8Array())).toBeUndefined();
});

test('a key that is added again takes the place of the old one, which is wiped', () => {
  const keyring = new Keyring();
  const old = entry(1);
  keyring.add(old);
  keyring.add(entry(2));
  const again = entry(1, { comment: 'again' });
  keyring.add(again);
  expect(comments(keyring)).toBe('again 2');
  expect([old.disposed(), again.disposed()]).toEqual([1, 0]);
  expect([keyring.has(old), keyring.has(again)]).toEqual([false, true]);
});

test('removed keys are wiped once, and the others stay', () => {
  const keyring = new Keyring();
  const entries = [1, 2, 3].map((number) => entry(number));
  for (const one of entries) keyring.add(one);
  expect(keyring.remove(blobOf(entry(2)))).toBe(true);
  expect(keyring.remove(blobOf(entry(2)))).toBe(false);
  expect(comments(keyring)).toBe('1 3');
  keyring.removeAll();
  expect(keyring.size).toBe(0);
  expect(entries.map((one) => one.disposed())).toEqual([1, 1, 1]);
});

test('keys expire at their time, and the next time is known', () => {
  const keyring = new Keyring();
  const [soon, later, never] = [entry(1, { expiresAt: 1000 }), entry(2, { expiresAt: 2000 }), entry(3)];
  for (const one of [later, never, soon]) keyring.add(one);
  expect(keyring.nextExpiry).toBe(1000);
  expect(keyring.expire(999)).toBe(0);
  expect(keyring.expire(1000)).toBe(1);
  expect([soon.disposed(), comments(keyring), keyring.nextExpiry]).toEqual([1, '2 3', 2000]);
  expect(keyring.expire(5000)).toBe(1);
  expect([comments(keyring), keyring.nextExpiry]).toEqual(['3', Number.POSITIVE_INFINITY]);
});

test('the time of a key that is replaced or removed no longer counts', () => {
  const keyring = new Keyring();
  keyring.add(entry(1, { expiresAt: 1000 }));
  keyring.add(entry(2, { expiresAt: 2000 }));
  keyring.add(entry(1));
  expect(keyring.nextExpiry).toBe(2000);
  keyring.remove(blobOf(entry(2)));
  expect(keyring.nextExpiry).toBe(Number.POSITIVE_INFINITY);
});

test('a full keyring refuses one more, and still replaces', () => {
  const keyring = new Keyring();
  for (let number = 0; number < MAX_KEYS; number++) keyring.add(entry(number));
  expect(() => keyring.add(entry(MAX_KEYS))).toThrow(KeyError);
  keyring.add(entry(5, { comment: 'replaced' }));
  expect(keyring.size).toBe(MAX_KEYS);
  expect(keyring.find(blobOf(entry(5)))?.comment).toBe('replaced');
});
