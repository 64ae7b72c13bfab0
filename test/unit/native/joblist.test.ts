import { beforeEach, describe, expect, it } from 'vitest';
import { JobList } from '../../../src/native/joblist.ts';
import { DIGEST_SIGN, placeData } from '../../../src/native/signing.ts';

const slot = placeData(new Uint8Array(8), 64);
const context = 4096n;
const MAX_JOBS = 64;

describe('the list of jobs', () => {
  let jobs: JobList;
  beforeEach(() => {
    jobs = new JobList();
  });

  const publish = (): number => jobs.publish(DIGEST_SIGN, context, slot, 8);

  it('gives each job to one taker, in the order in which they came', () => {
    expect(jobs.take()).toBeUndefined();
    const numbers = [publish(), publish(), publish()];
    // The other thread's view of the same memory.
    const other = new JobList(jobs.memory);
    expect([other.take(), jobs.take(), other.take()]).toEqual(numbers);
    expect([jobs.take(), other.take()]).toEqual([undefined, undefined]);
  });

  it('tells what became of each, and nothing of what is under way', () => {
    const [first, second, third] = [publish(), publish(), publish()];
    for (let i = 0; i < 3; i++) jobs.take();
    expect(jobs.outcome(first)).toBeUndefined();
    jobs.done(second, true);
    jobs.done(third, false);
    expect([first, second, third].map((number) => jobs.outcome(number))).toEqual([undefined, true, false]);
  });

  it('goes on when its numbers wrap', () => {
    const words = new Int32Array(jobs.memory, 0, 2);
    words.fill(2 ** 31 - 2);
    const numbers = Array.from({ length: 5 }, publish);
    expect(numbers).toEqual([2 ** 31 - 2, 2 ** 31 - 1, -(2 ** 31), -(2 ** 31) + 1, -(2 ** 31) + 2]);
    for (const number of numbers) {
      expect(jobs.take()).toBe(number);
      jobs.done(number, true);
      expect(jobs.outcome(number)).toBe(true);
    }
    expect(jobs.take()).toBeUndefined();
  });

  it('uses a place again when its job was done', () => {
    for (let i = 0; i < 3 * MAX_JOBS; i++) {
      const number = publish();
      expect(jobs.outcome(number)).toBeUndefined();
      expect(jobs.take()).toBe(number);
      jobs.done(number, i % 2 === 0);
      expect(jobs.outcome(number)).toBe(i % 2 === 0);
    }
  });
});
