import { describe, expect, it } from 'vitest';
import { Turns } from '../../../src/backends/turns.ts';

const LONG = 30_000;

async function taken(turns: Turns, name = 'device'): Promise<() => void> {
  const turn = await turns.take(name, LONG);
  if (typeof turn !== 'function') throw new Error(turn);
  return turn;
}

describe('turns', () => {
  it('come in the order of asking, one at a time', async () => {
    const turns = new Turns(8);
    const order: string[] = [];
    const work = async (name: string): Promise<void> => {
      const done = await taken(turns);
      order.push(`${name} begins`);
      await new Promise((resolve) => setTimeout(resolve, 5));
      order.push(`${name} ends`);
      done();
    };
    await Promise.all(['a', 'b', 'c'].map(work));
    expect(order).toEqual(['a begins', 'a ends', 'b begins', 'b ends', 'c begins', 'c ends']);
  });

  it('at different things are not waited for', async () => {
    const turns = new Turns(0);
    await taken(turns, 'one');
    const done = await taken(turns, 'two');
    done();
    await taken(turns, 'two');
  });

  it('end for who waits too long, gives up, or is one too many, and the others keep theirs', async () => {
    const turns = new Turns(3);
    const done = await taken(turns);
    const gone = new AbortController();
    const late = turns.take('device', 5);
    const withdrawn = turns.take('device', LONG, gone.signal);
    const patient = turns.take('device', LONG);
    expect(await turns.take('device', LONG)).toBe('full');
    gone.abort();
    expect(await Promise.all([late, withdrawn])).toEqual(['late', 'withdrawn']);
    expect(await turns.take('device', LONG, gone.signal)).toBe('withdrawn');
    done();
    expect(await patient).toBeTypeOf('function');
  });
});
