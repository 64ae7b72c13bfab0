import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { expandTilde, parseDestinations } from '../../../src/cli/destinations.ts';
import type { Output } from '../../../src/cli/output.ts';

const folder = mkdtempSync(join(tmpdir(), 'latchkey-destinations-'));
const knownHosts = join(folder, 'known_hosts');
let blob = '';

const silent: Output = {
  line: () => {},
  lines: () => {},
  error: () => {},
  prompt: () => {},
  hint: () => {},
  debug: () => {},
  setDetail: () => {},
};

beforeAll(() => {
  spawnSync('/usr/bin/ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(folder, 'host')]);
  const line = readFileSync(join(folder, 'host.pub'), 'utf8');
  blob = line.split(' ')[1] ?? '';
  writeFileSync(knownHosts, `one,two ${line}[port]:2222 ${line}@cert-authority *.example ${line}`);
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** In short: 'from>user@to', with the number of keys of each end. */
function parse(...specs: string[]): string[] {
  return parseDestinations(specs, [knownHosts], silent).map(({ from, to }) => {
    for (const { blob: key } of [...from.keys, ...to.keys]) expect(Buffer.from(key).toString('base64')).toBe(blob);
    return `${from.hostname}/${from.keys.length}>${to.user}@${to.hostname}/${to.keys.length}`;
  });
}

describe('a destination', () => {
  it('is a host, maybe with a user and after another host', () => {
    expect(parse('one')).toEqual(['/0>@one/1']);
    expect(parse('alice@one', 'one>bob@two')).toEqual(['/0>alice@one/1', 'one/1>bob@two/1']);
  });

  it('splits at the first > and the last @', () => {
    expect(parse('alice@realm@one')).toEqual(['/0>alice@realm@one/1']);
    expect(() => parse('one>two>three')).toThrow('No host keys found for destination "two>three"');
  });

  it('may be in brackets, which are a part of the name only with a port', () => {
    expect(parse('[one]')).toEqual(['/0>@one/1']);
    expect(parse('[port]:2222')).toEqual(['/0>@[port]:2222/1']);
    expect(() => parse('port')).toThrow('No host keys found for destination "port"');
  });

  it('with more keys than an agent takes is refused, with what to do', () => {
    const many = join(folder, 'many');
    const line = (number: number): string => {
      const other = Buffer.from(blob, 'base64');
      other.writeUInt16BE(number, other.length - 2);
      return `many ssh-ed25519 ${other.toString('base64')}\n`;
    };
    const lines = Array.from({ length: 1025 }, (_, i) => line(i));
    writeFileSync(many, lines.slice(1).join(''));
    expect(parseDestinations(['many'], [many], silent)[0]?.to.keys).toHaveLength(1024);
    writeFileSync(many, lines.join(''));
    expect(() => parseDestinations(['many'], [many], silent)).toThrow(
      'Too many host keys for destination "many": 1025, and an agent takes 1024; name a file with fewer: -H hostkey_file',
    );
  });

  it('has the keys of authorities, marked as such', () => {
    const [destination] = parseDestinations(['a.example'], [knownHosts], silent);
    expect(destination?.to.keys.map(({ isAuthority }) => isAuthority)).toEqual([true]);
  });

  it.each([
    ['', 'Invalid key destination constraint "": does not specify user or host'],
    ['one>', 'Invalid key destination constraint "": does not specify user or host'],
    ['>one', 'Invalid key destination constraint "": does not specify user or host'],
    ['alice@', 'Invalid key destination constraint "alice@": does not specify host'],
    ['bob@one>two', "Invalid key constraint bob@one: cannot specify user on 'from' host"],
    ['@one>two', "Invalid key constraint @one: cannot specify user on 'from' host"],
    ['no\x1bbody', 'No host keys found for destination "no\\x1bbody"'],
  ])('is refused as %j', (spec, message) => {
    expect(() => parse(spec)).toThrow(message);
  });

  it('has no keys in a file that is not there', () => {
    expect(() => parseDestinations(['one'], [join(folder, 'missing')], silent)).toThrow('No host keys found');
  });
});

describe('a tilde', () => {
  it('is the home folder of the password file, or that of a user', () => {
    const { homedir, username } = userInfo();
    expect(expandTilde('~/x/y')).toBe(join(homedir, 'x/y'));
    expect(expandTilde('~')).toBe(homedir);
    expect(expandTilde(`~${username}/x`)).toBe(join(homedir, 'x'));
    expect(expandTilde('/etc/~x')).toBe('/etc/~x');
    expect(() => expandTilde('~no-such-user-here/x')).toThrow('tilde_expand: No such user no-such-user-here');
  });
});
