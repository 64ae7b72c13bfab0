import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { columnsOf, wrapped } from '../../../src/cli/columns.ts';

describe('the columns of a text', () => {
  it.each([
    ['', 0],
    ['plain', 5],
    ['é', 1],
    ['e\u0301', 1],
    ['ключ', 4],
    ['鍵', 2],
    ['한글', 4],
    ['ＡＢ', 4],
    ['🔑', 2],
    ['☠', 1],
    ['𠀀', 2],
    ['→─…', 3],
  ])('%j takes %i', (text, columns) => {
    expect(columnsOf(text)).toBe(columns);
  });
});

describe('a text in lines', () => {
  it.each([
    ['one two three', 8, 0, ['one two', 'three']],
    ['one two three', 7, 2, ['one two', '  three']],
    ['one', 3, 0, ['one']],
    ['', 10, 0, ['']],
    ['abcdefgh', 3, 0, ['abc', 'def', 'gh']],
    ['a abcdefgh', 4, 1, ['a', ' abc', ' def', ' gh']],
    ['鍵鍵鍵', 5, 0, ['鍵鍵', '鍵']],
    ['鍵', 1, 0, ['鍵']],
    ['e\u0301e\u0301e\u0301', 2, 0, ['e\u0301e\u0301', 'e\u0301']],
    ['  indented', 20, 0, ['  indented']],
  ])('%j in %i columns, later ones indented by %i', (text, columns, indent, lines) => {
    expect(wrapped(text, columns, indent)).toEqual(lines);
  });

  it('is never wider than asked for, and loses nothing but spaces', () => {
    const word = fc.stringMatching(/^[a-z鍵é🔑]{1,30}$/u);
    fc.assert(
      fc.property(fc.array(word), fc.integer({ min: 4, max: 50 }), fc.nat(2), (words, columns, indent) => {
        const lines = wrapped(words.join(' '), columns, indent);
        for (const line of lines) expect(columnsOf(line)).toBeLessThanOrEqual(columns);
        expect(lines.join('').replaceAll(' ', '')).toBe(words.join(''));
      }),
    );
  });
});
