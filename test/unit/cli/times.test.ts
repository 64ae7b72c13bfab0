import { describe, expect, it } from 'vitest';
import { convtime, fmtTimeframe } from '../../../src/cli/times.ts';

describe('convtime', () => {
  it.each([
    ['0', 0],
    ['90', 90],
    ['90s', 90],
    ['90S', 90],
    ['10m', 600],
    ['1h', 3600],
    ['1h30m', 5400],
    ['1H30M', 5400],
    ['1d', 86400],
    ['2w', 1209600],
    ['1w2d3h4m5', 604800 + 172800 + 10800 + 240 + 5],
    ['1m1m', 120],
    ['1.5', 1],
    ['0.9s', 0],
    ['.5', 0],
    ['1m1.9', 61],
    ['00010', 10],
    [' 5', 5],
    ['\t5', 5],
    ['+5', 5],
    ['2147483647', 2147483647],
    ['3550w', 2147040000],
  ])('reads %j as %d seconds', (text, seconds) => {
    expect(convtime(text)).toBe(seconds);
  });

  it.each([
    '',
    ' ',
    '+',
    '-5',
    '0x10',
    '1e5',
    '1.5h',
    '1.0m',
    '1.',
    '.',
    '1.2.3',
    '5 ',
    '5 m',
    '5x',
    'm',
    '5ss',
    '5s5',
    '5s5s',
    '1m+5',
    'forever',
    '2147483648',
    '3551w',
    '99999999999999999999',
    '٥',
    'Infinity',
  ])('refuses %j', (text) => {
    expect(convtime(text)).toBeUndefined();
  });
});

describe('fmtTimeframe', () => {
  it.each([
    [0, '00:00:00'],
    [90, '00:01:30'],
    [3599, '00:59:59'],
    [86399, '23:59:59'],
    [86400, '1d00h00m'],
    [93784, '1d02h03m'],
    [604799, '6d23h59m'],
    [604800, '01w0d00h'],
    [1814400, '03w0d00h'],
    [2147483647, '3550w5d03h'],
  ])('shows %d seconds as %s', (seconds, text) => {
    expect(fmtTimeframe(seconds)).toBe(text);
  });
});
