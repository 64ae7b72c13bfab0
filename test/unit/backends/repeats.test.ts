import { describe, expect, it } from 'vitest';
import type { Use } from '../../../src/agent/ports.ts';
import { mergedUse, Repeats } from '../../../src/backends/repeats.ts';

const denied = (sentence: string, more: Partial<Use> = {}): Use => ({
  kind: 'sign',
  outcome: 'denied',
  sentence,
  forwarded: true,
  peer: { uid: 1000, pid: 4711, programs: [] },
  ...more,
});

/** Gives `uses` at `times`; @returns how many were written alone, and what was written for several */
function written(repeats: Repeats, uses: readonly Use[], at: (i: number) => number): { alone: number; merged: Use[] } {
  let alone = 0;
  const merged: Use[] = [];
  for (const [i, use] of uses.entries()) {
    const due = repeats.due(at(i));
    const taken = repeats.take(use, at(i));
    merged.push(...[...due, ...taken.before].map(mergedUse));
    if (taken.kind === 'alone') alone++;
  }
  return { alone, merged };
}

const times = <T>(count: number, make: (i: number) => T): T[] => Array.from({ length: count }, (_, i) => make(i));

describe('equal requests that come to nothing', () => {
  it('are written one by one up to twenty in a second, then counted', () => {
    const repeats = new Repeats(() => 'id');
    const { alone, merged } = written(
      repeats,
      times(100, () => denied('x')),
      () => 0,
    );
    expect([alone, merged]).toEqual([20, []]);
    expect(repeats.wait(0)).toBe(1000);
    expect(repeats.due(999)).toEqual([]);
    expect(repeats.due(1000).map(mergedUse)).toEqual([{ ...denied('x'), repeated: 79 }]);
    expect(repeats.wait(1000)).toBeUndefined();
  });

  it('are written when something else comes from that peer, before it', () => {
    const repeats = new Repeats(() => 'id');
    written(
      repeats,
      times(25, () => denied('x')),
      () => 0,
    );
    expect(repeats.take(denied('y'), 1).before.map(mergedUse)).toEqual([{ ...denied('x'), repeated: 4 }]);
    written(
      repeats,
      times(25, () => denied('x')),
      () => 2,
    );
    const { kind, before } = repeats.take(denied('z', { outcome: 'allowed' }), 3);
    expect([kind, before.map(mergedUse)]).toEqual(['alone', [{ ...denied('x'), repeated: 4 }]]);
  });

  it('of another peer, key or reason are not counted with them', () => {
    const repeats = new Repeats(() => 'id');
    written(
      repeats,
      times(25, () => denied('x')),
      () => 0,
    );
    const key = { fingerprint: 'SHA256:x', type: 'ssh-ed25519', comment: '' };
    for (const other of [{ reason: 'no' }, { key }, { guard: 'g1' }, { peer: { uid: 1000, pid: 1, programs: [] } }])
      expect(repeats.take(denied('x', other), 0).kind).toBe('alone');
  });

  it('at a slow pace are each written', () => {
    const repeats = new Repeats(() => 'id');
    expect(
      written(
        repeats,
        times(200, () => denied('x')),
        (i) => i * 100,
      ),
    ).toEqual({ alone: 200, merged: [] });
  });
});

describe('what was allowed and used or changed something', () => {
  it.each(['sign', 'add', 'remove', 'lock', 'unlock', 'expire', 'guard'] as const)('(%s) is never merged', (kind) => {
    const uses = times(5000, () => denied('x', { kind, outcome: 'allowed' }));
    expect(written(new Repeats(() => 'id'), uses, () => 0)).toEqual({ alone: 5000, merged: [] });
  });
});

describe('a flood', () => {
  it('of requests that differ leaves a bounded number of records, and says so', () => {
    const repeats = new Repeats(() => 'id');
    // A hundred a second for an hour.
    const { alone, merged } = written(
      repeats,
      times(360_000, (i) => denied(`x${i % 7}`)),
      (i) => i * 10,
    );
    expect(alone).toBeLessThan(300 + 361);
    expect(merged.length).toBeLessThan(500);
    expect(merged.length).toBeGreaterThan(50);
    const counted = merged.reduce((sum, { repeated = 0 }) => sum + repeated + 1, 0);
    expect(alone + counted + repeats.end().reduce((sum, { count }) => sum + count, 0)).toBe(360_000);
    expect(merged.at(-1)?.sentence).toMatch(/^\d+ requests that differ, the last one: x\d$/);
  });

  it('of many peers is remembered for the last of them only, and nothing is lost', () => {
    const repeats = new Repeats(() => 'id');
    let seen = 0;
    for (let pid = 0; pid < 1000; pid++) {
      const uses = times(30, () => denied('x', { peer: { uid: 0, pid, programs: [] } }));
      const { alone, merged } = written(repeats, uses, () => 0);
      seen += alone + merged.reduce((sum, { repeated = 0 }) => sum + repeated + 1, 0);
    }
    expect(repeats.end().reduce((sum, { count }) => sum + count, seen)).toBe(30_000);
  });
});
