import { describe, expect, it } from 'vitest';
import { getopt } from '../../../src/cli/getopt.ts';

const letters = 'vlt:E:';

/** In short: 'v', 't=5', '--help', 'error: ...'. */
function parse(...argv: string[]): [string[], readonly string[]] {
  const { options, operands } = getopt(argv, letters, ['help']);
  const words = options.map((option) => {
    if (option.kind === 'error') return `error: ${option.text}`;
    if (option.kind === 'long') return `--${option.name}`;
    return option.value === undefined ? option.letter : `${option.letter}=${option.value}`;
  });
  return [words, operands];
}

describe('getopt', () => {
  it('takes letters alone and joined', () => {
    expect(parse('-v', '-l', 'file')).toEqual([['v', 'l'], ['file']]);
    expect(parse('-vlv')).toEqual([['v', 'l', 'v'], []]);
  });

  it('takes an argument from the same word or the next, whatever it is', () => {
    expect(parse('-t5')).toEqual([['t=5'], []]);
    expect(parse('-t', '5')).toEqual([['t=5'], []]);
    expect(parse('-vt', '5', 'file')).toEqual([['v', 't=5'], ['file']]);
    expect(parse('-t', '-v', '-l')).toEqual([['t=-v', 'l'], []]);
    expect(parse('-t', '')).toEqual([['t='], []]);
    expect(parse('-t', '--')).toEqual([['t=--'], []]);
  });

  it('stops at the first operand, at a lone dash and after two', () => {
    expect(parse('file', '-v')).toEqual([[], ['file', '-v']]);
    expect(parse('-v', '-', '-l')).toEqual([['v'], ['-', '-l']]);
    expect(parse('-v', '--', '-l')).toEqual([['v'], ['-l']]);
    expect(parse()).toEqual([[], []]);
    expect(parse('')).toEqual([[], ['']]);
  });

  it("says what is wrong in OpenSSH's words, and reads no further", () => {
    expect(parse('-v', '-Z', '-l')).toEqual([['v', 'error: unknown option -- Z'], []]);
    expect(parse('-vt')).toEqual([['v', 'error: option requires an argument -- t'], []]);
    expect(parse('-:')).toEqual([['error: unknown option -- :'], []]);
    expect(parse('-é')).toEqual([['error: unknown option -- é'], []]);
    expect(parse('--other')).toEqual([['error: unknown option -- -'], []]);
  });

  it('knows the long names that it is given, and only where an option may stand', () => {
    expect(parse('-v', '--help', '-l')).toEqual([['v', '--help', 'l'], []]);
    expect(parse('--', '--help')).toEqual([[], ['--help']]);
    expect(parse('-t', '--help')).toEqual([['t=--help'], []]);
  });
});
