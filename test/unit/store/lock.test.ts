import { expect, test } from 'vitest';
import { Custody } from '../../../src/keys/custody.ts';
import { Lock, MAX_WAITING_GUESSES } from '../../../src/store/lock.ts';
import { fill, raw } from '../wire/build.ts';

const phrase = raw('phrase');
const wrong = raw('wrong');

/** A lock over one secret, whose pauses are noted and take no time. */
function locked(): { lock: Lock; custody: Custody; secret: Uint8Array; pauses: number[] } {
  const custody = new Custody({ accept: ['memfd_secret', 'locked', 'plain'], lockCost: { n: 1024, r: 8, p: 1 } });
  const slot = custody.allocate(32);
  slot.bytes.fill(0x5a);
  const pauses: number[] = [];
  const lock = new Lock(custody, async (milliseconds) => void pauses.push(milliseconds));
  return { lock, custody, secret: slot.bytes, pauses };
}

test('locked, the secret is ciphertext; unlocked, it is back', async () => {
  const { lock, custody, secret } = locked();
  expect(await lock.lock(phrase)).toBe(true);
  expect([lock.locked, custody.sealed]).toEqual([true, true]);
  expect(Uint8Array.from(secret)).not.toEqual(fill(32, 0x5a));
  expect(await lock.unlock(wrong, 'somebody')).toBe(false);
  expect(Uint8Array.from(secret)).not.toEqual(fill(32, 0x5a));
  expect(await lock.unlock(phrase, 'somebody')).toBe(true);
  expect(Uint8Array.from(secret)).toEqual(fill(32, 0x5a));
  expect([lock.locked, custody.sealed]).toEqual([false, false]);
});

test('an empty phrase and a second lock are refused', async () => {
  const { lock } = locked();
  expect(await lock.lock(new Uint8Array())).toBe(false);
  expect(lock.locked).toBe(false);
  const both = [lock.lock(phrase), lock.lock(wrong)];
  expect(lock.locked).toBe(true);
  expect(await Promise.all(both)).toEqual([true, false]);
  expect(await lock.unlock(phrase, 'somebody')).toBe(true);
});

test('the phrase may be wiped once the call is made', async () => {
  const { lock } = locked();
  const first = Uint8Array.from(phrase);
  const sealing = lock.lock(first);
  first.fill(0);
  await sealing;
  const second = Uint8Array.from(phrase);
  const opening = lock.unlock(second, 'somebody');
  second.fill(0);
  expect(await opening).toBe(true);
});

test('each wrong guess delays the next of the same guesser by a tenth of a second more, up to ten seconds', async () => {
  const { lock, pauses } = locked();
  await lock.lock(phrase);
  for (let i = 0; i < 102; i++) await lock.unlock(wrong, 'guesser');
  expect(pauses.slice(0, 4)).toEqual([0, 100, 200, 300]);
  expect(pauses.slice(-2)).toEqual([10_000, 10_000]);
  await lock.unlock(wrong, 'another');
  expect(pauses.at(-1)).toBe(0);
});

test('a right guess forgets the wrong ones of all', async () => {
  const { lock, pauses } = locked();
  await lock.lock(phrase);
  await lock.unlock(wrong, 'one');
  await lock.unlock(wrong, 'two');
  expect(await lock.unlock(phrase, 'one')).toBe(true);
  await lock.lock(phrase);
  pauses.length = 0;
  await lock.unlock(wrong, 'one');
  await lock.unlock(wrong, 'two');
  expect(pauses).toEqual([0, 0]);
});

test('guesses of one guesser wait for each other, and only so many may wait', async () => {
  const { lock, custody, pauses } = locked();
  await lock.lock(phrase);
  const { usedBytes } = custody.status();
  const guesses = Array.from({ length: MAX_WAITING_GUESSES + 5 }, () => lock.unlock(wrong, 'guesser'));
  expect(await Promise.all(guesses)).not.toContain(true);
  expect(pauses).toEqual(Array.from({ length: MAX_WAITING_GUESSES }, (_, i) => i * 100));
  expect(custody.status().usedBytes).toBe(usedBytes);
});

test('a guess that comes while the lock is being made is looked at afterwards', async () => {
  const { lock, secret } = locked();
  const sealing = lock.lock(phrase);
  expect(await lock.unlock(phrase, 'somebody')).toBe(true);
  expect(await sealing).toBe(true);
  expect(Uint8Array.from(secret)).toEqual(fill(32, 0x5a));
});
