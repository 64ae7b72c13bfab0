import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { afterEach, expect, it, vi } from 'vitest';
import { QUIET_AFTER_LITTLE_MS, QUIET_MS, rest, restWhenIdle } from '../../../src/server/rest.ts';

afterEach(() => {
  vi.useRealTimers();
});

/** Something that nobody holds but the engine, until it collects. */
async function garbage(): Promise<WeakRef<object>> {
  const kept = new WeakRef({ big: new Array(1000).fill(0) });
  // A reference that was made or looked at stays until the event loop goes on.
  await new Promise((done) => setImmediate(done));
  return kept;
}

/** Resident memory that is of files, in KiB; undefined where the system does not tell. */
function fileKib(): number | undefined {
  if (process.platform !== 'linux') return undefined;
  return Number(/^RssFile:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1]);
}

it('collects garbage and drops clean pages of files, and all goes on working', async () => {
  const kept = await garbage();
  const before = fileKib();
  rest(false);
  const after = fileKib();
  expect(kept.deref()).toBeUndefined();
  if (before !== undefined) expect(after).toBeLessThan(before / 2);
  const works = (): void => expect(createHash('sha256').update('abc').digest('hex')).toMatch(/^ba7816bf/);
  works();
  const more = await garbage();
  rest(true);
  expect(more.deref()).toBeUndefined();
  works();
});

it('rests after much work when it is quiet, and not while it works', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  const worked = restWhenIdle();
  vi.advanceTimersByTime(60_000);
  expect(vi.getTimerCount()).toBe(0);
  const kept = await garbage();
  for (let i = 0; i < 10; i++) {
    for (let k = 0; k < 100; k++) worked();
    vi.advanceTimersByTime(QUIET_MS);
  }
  expect(kept.deref()).toBeDefined();
  await new Promise((done) => setImmediate(done));
  vi.advanceTimersByTime(2 * QUIET_MS);
  expect(kept.deref()).toBeUndefined();
  vi.advanceTimersByTime(60_000);
  expect(vi.getTimerCount()).toBe(0);
});

it('waits longer after little work', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  const worked = restWhenIdle();
  vi.advanceTimersByTime(60_000);
  const kept = await garbage();
  worked();
  vi.advanceTimersByTime(3 * QUIET_MS);
  expect(kept.deref()).toBeDefined();
  await new Promise((done) => setImmediate(done));
  vi.advanceTimersByTime(QUIET_AFTER_LITTLE_MS);
  expect(kept.deref()).toBeUndefined();
});
