import { describe, expect, it } from 'vitest';
import { columnsOf } from '../../../src/cli/columns.ts';
import { questionOf, questionsOf } from '../../../src/cli/questions.ts';
import { plainText, questionRows, shownUse, useRows, type View } from '../../../src/cli/watchrows.ts';
import { forwardedQuestion, localQuestion } from '../../support/watched.ts';

const view: View = {
  question: forwardedQuestion,
  secondsLeft: 61,
  place: 2,
  waiting: 3,
  confirmsRule: false,
  note: undefined,
};

const lines = (given: View, columns: number, height = 60): readonly string[] =>
  questionRows(given, columns, height).rows.map(plainText);

describe('a question', () => {
  it.each([80, 40, 20])('fits %i columns, with all of its words', (columns) => {
    const shown = lines(view, columns);
    for (const line of shown) expect(columnsOf(line)).toBeLessThanOrEqual(columns);
    const words = shown.join(' ').replace(/ +/g, ' ');
    expect(words).toContain('FORWARDED');
    expect(words).toContain('61 s');
    expect(words).toContain('via bastion (verified): log in as root on');
    for (const key of ['y', 'd', 'p', 'a', 'n']) expect(shown.some((line) => line.startsWith(`${key}  `))).toBe(true);
    expect(shown.some((line) => line.startsWith('c  '))).toBe(false);
  });

  it('fits in columns where its text is of wide characters', () => {
    const wide = { ...localQuestion, sentence: '鍵'.repeat(90), claimed: ['🔑 '.repeat(60)] };
    for (const line of lines({ ...view, question: wide }, 40)) expect(columnsOf(line)).toBeLessThanOrEqual(40);
  });

  it('leaves out details before anything else, and says so', () => {
    const { rows, isWhole } = questionRows(view, 80, 12);
    expect([rows.length, isWhole]).toEqual([12, true]);
    expect(rows.map(plainText)).toContain('... more in: latchkey approve');
    expect(rows.map(plainText)).toContain('n  refuse');
  });

  it('is not to be answered with a yes in a window that is too small for it', () => {
    const { rows, isWhole } = questionRows(view, 40, 8);
    expect(isWhole).toBe(false);
    expect(rows.map(plainText).join(' ')).toBe('Too small a window for q2. n refuses it, q quits.');
  });

  it('shows the rule before it is written', () => {
    const shown = lines({ ...view, confirmsRule: true }, 80);
    expect(shown).toContain('  host = ["db1.example.org"]');
    expect(shown).toContain('y  write it, and allow this');
    expect(shown.some((line) => line.startsWith('d  '))).toBe(false);
  });

  it('drives no terminal, and turns no text around', () => {
    const evil = '\x1b[2J\u202e\u200b\r\nend\x9b31m';
    const question = {
      ...forwardedQuestion,
      sentence: evil,
      verified: [evil],
      claimed: [evil],
      key: { fingerprint: evil, comment: evil },
      offers: [{ scope: 'once' as const, text: evil }],
      rule: evil,
    };
    const shown = [...lines({ ...view, question }, 300), ...lines({ ...view, question, confirmsRule: true }, 300)];
    expect(shown.join('')).not.toMatch(/[\p{Cc}\p{Cf}]/u);
    expect(shown).toContain('\\x1b[2J\\u{202e}\\u{200b} end\\x9b31m');
  });
});

describe('a use', () => {
  const record = { time: '2026-01-02T03:04:05Z', kind: 'sign', outcome: 'allowed', sentence: 'log in as git on h' };

  it('is a line', () => {
    const use = shownUse({ ...record, answer: { by: 'watch', scope: 'command', seconds: 2 }, repeated: 4 });
    const [row] = useRows(use ?? { time: '', outcome: '', text: '' }, 100);
    expect(plainText(row ?? [])).toMatch(
      /^\d\d:04:05 allowed {2}log in as git on h \(by watch, command\) \(and 4 more like it\)$/,
    );
    expect(shownUse({ ...record, outcome: 'denied', reason: 'no \x1b' })?.text).toBe('log in as git on h: no \\x1b');
  });

  it('is left out where it is only noise, and shown whatever else it is', () => {
    expect(shownUse({ ...record, kind: 'list' })).toBeUndefined();
    expect(shownUse({ ...record, kind: 'list', outcome: 'denied' })).toBeDefined();
    expect(shownUse(undefined)).toEqual({ time: '--:--:--', outcome: '', text: '' });
  });
});

describe('what an agent tells', () => {
  it('is read, or refused', () => {
    expect(questionOf(JSON.parse(JSON.stringify(forwardedQuestion)))).toEqual(forwardedQuestion);
    expect(() => questionOf({ id: 'q1' })).toThrow('no question');
    expect(() => questionsOf({})).toThrow('no questions');
    expect(
      questionOf({ id: 'q', sentence: '', secondsLeft: 1, offers: [1, { scope: 'x', text: '' }], key: 7 }),
    ).toMatchObject({
      offers: [],
      lasts: 'once',
      key: { fingerprint: '', comment: '' },
    });
  });
});
