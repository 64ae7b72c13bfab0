import { describe, expect, it } from 'vitest';
import { UNREAD_MS, Watched } from '../../../src/cli/watchkeys.ts';
import { forwardedQuestion, localQuestion } from '../../support/watched.ts';

const READ = UNREAD_MS + 1;

function watching(...questions: readonly (typeof localQuestion)[]): Watched {
  const watched = new Watched();
  for (const question of questions) watched.put(question, 0);
  return watched;
}

describe('a key', () => {
  it.each([
    ['y', { kind: 'approve', id: 'q1', scope: 'once' }],
    ['c', { kind: 'approve', id: 'q1', scope: 'command' }],
    ['n', { kind: 'deny', id: 'q1' }],
    ['N', { kind: 'deny', id: 'q1' }],
    ['q', { kind: 'quit' }],
    ['\x03', { kind: 'quit' }],
    ['\x1a', { kind: 'suspend' }],
    ['d', { kind: 'redraw' }],
    ['a', { kind: 'redraw' }],
    [' ', { kind: 'redraw' }],
    ['\r', { kind: 'redraw' }],
  ])('%j means %j', (key, action) => {
    expect(watching(localQuestion).press(key, READ, true)).toEqual(action);
  });

  it('answers only what could be read before, and not while somebody goes on typing', () => {
    const watched = watching(localQuestion);
    expect(watched.press('y', 100, true)).toEqual({ kind: 'redraw' });
    expect(watched.note).toContain('Not taken');
    expect(watched.press('y', 599, true)).toEqual({ kind: 'redraw' });
    expect(watched.press('y', 1000, true)).toEqual({ kind: 'redraw' });
    expect(watched.press('y', 1501, true)).toMatchObject({ kind: 'approve' });
  });

  it('of many that came at once is no answer', () => {
    const watched = watching(localQuestion);
    expect(watched.press('yes\n', READ, true)).toEqual({ kind: 'redraw' });
    expect(watched.press('yy', READ + READ, true)).toEqual({ kind: 'redraw' });
  });

  it('answers once', () => {
    const watched = watching(localQuestion);
    watched.press('y', READ, true);
    expect(watched.press('y', READ, true)).toBeUndefined();
    watched.failed('q1', 'why');
    expect(watched.note).toBe('why');
    expect(watched.press('n', READ, true)).toEqual({ kind: 'deny', id: 'q1' });
  });

  it('says yes to nothing that could not be shown whole', () => {
    const watched = watching(localQuestion);
    expect(watched.press('y', READ, false)).toEqual({ kind: 'redraw' });
    expect(watched.press('n', READ, false)).toEqual({ kind: 'deny', id: 'q1' });
  });

  it('makes a rule only when it was shown, and after a second yes', () => {
    const watched = watching(forwardedQuestion);
    expect(watched.press('a', READ, true)).toEqual({ kind: 'redraw' });
    expect(watched.confirmsRule).toBe(true);
    expect(watched.press('y', READ + 100, true)).toEqual({ kind: 'redraw' });
    expect(watched.confirmsRule).toBe(true);
    expect(watched.press('y', 3 * READ, true)).toEqual({ kind: 'approve', id: 'q2', scope: 'always' });
    const back = watching(forwardedQuestion);
    back.press('a', READ, true);
    expect(back.press('n', 2 * READ, true)).toEqual({ kind: 'redraw' });
    expect(back.confirmsRule).toBe(false);
    expect(watching({ ...forwardedQuestion, rule: undefined }).press('a', READ, true)).toEqual({ kind: 'redraw' });
  });
});

describe('several questions', () => {
  it('have the focus in turn, which starts the wait anew', () => {
    const watched = watching(localQuestion, forwardedQuestion);
    expect(watched.place).toBe(1);
    expect(watched.press('\t', READ, true)).toEqual({ kind: 'redraw' });
    expect([watched.place, watched.focus?.question.id]).toEqual([2, 'q2']);
    expect(watched.press('y', READ + 1, true)).toEqual({ kind: 'redraw' });
    expect(watched.press('\x1b[A', 9 * READ, true)).toEqual({ kind: 'redraw' });
    expect(watched.focus?.question.id).toBe('q1');
    watched.end('q1', 10 * READ);
    expect(watched.focus?.question.id).toBe('q2');
    expect(watched.press('y', 10 * READ + 1, true)).toEqual({ kind: 'redraw' });
  });

  it('do not take the focus from the one that has it', () => {
    const watched = watching(localQuestion);
    watched.put(forwardedQuestion, READ);
    expect(watched.press('y', READ + 1, true)).toMatchObject({ id: 'q1' });
    watched.end('q2', READ);
    expect(watched.waiting).toBe(1);
    watched.end('q1', READ);
    expect(watched.focus).toBeUndefined();
    expect(watched.press('y', 9 * READ, true)).toBeUndefined();
  });

  it('that are told again keep their end, and have the new number of requests', () => {
    const watched = watching(localQuestion);
    watched.put({ ...localQuestion, requests: 9, secondsLeft: 80 }, 10_000);
    expect(watched.focus).toMatchObject({ endsAt: 90_000, question: { requests: 9 } });
    expect(watched.press('y', 10_001, true)).toMatchObject({ kind: 'approve' });
  });
});
