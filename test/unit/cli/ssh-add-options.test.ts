import { describe, expect, it } from 'vitest';
import { Fatal, type Output } from '../../../src/cli/output.ts';
import { type Options, parseOptions } from '../../../src/cli/ssh-add-options.ts';

const said: string[] = [];
const out: Output = {
  line: (text) => said.push(text),
  lines: (texts) => said.push(...texts),
  error: (text) => said.push(text),
  prompt: () => {},
  hint: () => {},
  debug: () => {},
  setDetail: (detail) => said.push(`detail ${detail}`),
};

function parse(argv: readonly string[], env: Readonly<Record<string, string>> = {}): Options {
  const options = parseOptions(argv, env, out);
  if (typeof options === 'number') throw new Error(`exit ${options}`);
  return options;
}

describe('the action', () => {
  it.each([
    [[], 'files'],
    [['-d', 'f'], 'files'],
    [['-l'], 'list'],
    [['-L'], 'listKeys'],
    [['-x'], 'lock'],
    [['-X'], 'unlock'],
    [['-D'], 'removeAll'],
    [['-Q'], 'query'],
    [['-T', 'f'], 'test'],
    [['-s', 'lib'], 'token'],
    [['-e', 'lib'], 'token'],
    [['-K'], 'resident'],
    [['-K', '-s', 'lib'], 'token'],
    [['-K', '-s', 'lib', '-T'], 'test'],
    [['-K', '-s', 'lib', '-T', '-l'], 'list'],
  ])('of %j is %s', (argv, action) => {
    expect(parse(argv).action).toBe(action);
  });

  it.each([['-lx'], ['-DQ'], ['-LD'], ['-XQ']])('is only one: %s', (flags) => {
    expect(() => parse([flags])).toThrow(new Fatal('Invalid combination of actions'));
  });

  it.each([
    ['-lL', '-l flag already specified'],
    ['-Ll', '-L flag already specified'],
    ['-xX', '-x flag already specified'],
  ])('is named once: %s', (flags, message) => {
    expect(() => parse([flags])).toThrow(new Fatal(message));
  });
});

describe('the values', () => {
  it('have defaults', () => {
    expect(parse([])).toEqual({
      action: 'files',
      operands: [],
      quiet: false,
      deleting: false,
      keysOnly: false,
      certificatesOnly: false,
      ignoreExpiry: false,
      confirm: false,
      lifetime: 0,
      hash: 'sha256',
      tokenProvider: undefined,
      skProvider: 'internal',
      destinations: [],
      hostKeyFiles: [],
    });
  });

  it('are those that were given', () => {
    const argv = ['-qdkCNc', '-t5m', '-EMD5', '-h', 'a', '-h', 'b', '-H', 'x', '-H', 'y', '-S', 'sk', 'f', '-l'];
    expect(parse(argv)).toMatchObject({
      operands: ['f', '-l'],
      quiet: true,
      deleting: true,
      keysOnly: true,
      certificatesOnly: true,
      ignoreExpiry: true,
      confirm: true,
      lifetime: 300,
      hash: 'md5',
      skProvider: 'sk',
      destinations: ['a', 'b'],
      hostKeyFiles: ['x', 'y'],
    });
    expect(parse(['-e', 'lib'])).toMatchObject({ deleting: true, tokenProvider: 'lib' });
    expect(parse([], { SSH_SK_PROVIDER: 'env' }).skProvider).toBe('env');
  });

  it('count -v', () => {
    said.length = 0;
    parse(['-vvv']);
    expect(said).toEqual(['detail 1', 'detail 2', 'detail 3']);
  });
});

describe('what ends the program at once', () => {
  it.each([
    [['-Z'], {}, 1, 'unknown option -- Z'],
    [['-t'], {}, 1, 'option requires an argument -- t'],
    [['-t', 'x', '-Z'], {}, 1, 'Invalid lifetime'],
    [['--apple-use-keychain'], {}, 1, '--apple-use-keychain: this build has no keychain backend yet'],
    [['-K'], { APPLE_SSH_ADD_BEHAVIOR: 'macos' }, 1, '-K: this build has no keychain backend yet'],
    [['-A'], { APPLE_SSH_ADD_BEHAVIOR: 'macos' }, 1, '-A: this build has no keychain backend yet'],
    [['-A'], { APPLE_SSH_ADD_BEHAVIOR: 'openssh' }, 1, 'unknown option -- A'],
    [['--version'], {}, 0, 'ssh-add (Latchkey)'],
    [['-l', '--help', '-L'], {}, 0, 'usage: ssh-add'],
  ])('%j with %j: exit %d', (argv, env, code, first) => {
    said.length = 0;
    expect(parseOptions(argv, env as Record<string, string>, out)).toBe(code);
    expect(said[0]?.startsWith(first)).toBe(true);
  });

  it('is a hash that there is none of', () => {
    expect(() => parse(['-E', 'sha3\x1b'])).toThrow(new Fatal('Invalid hash algorithm "sha3\\x1b"'));
  });
});
