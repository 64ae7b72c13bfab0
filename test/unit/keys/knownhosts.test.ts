import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import {
  hostKeysFor,
  hostNamesOf,
  indexKnownHosts,
  type KnownHostsFile,
  MAX_HASHED_TRIES,
  MAX_PATTERN_CHARACTERS,
} from '../../../src/keys/knownhosts.ts';
import { parsePublicKey } from '../../../src/keys/publickey.ts';
import { type CertificateChange, certify, type Host, makeHost, NOW } from '../policy/hosts.ts';
import { letters } from '../wire/build.ts';

const folder = mkdtempSync(join(tmpdir(), 'latchkey-knownhosts-'));
afterAll(() => rmSync(folder, { recursive: true }));

const keys = Array.from({ length: 12 }, (_, i) => makeHost(`key ${i}`));

function host(i: number): Host {
  const found = keys[i];
  if (found === undefined) throw new Error(`no key ${i}`);
  return found;
}

const encoded = ({ blob }: Pick<Host, 'blob'>): string => Buffer.from(blob).toString('base64');
const line = (hosts: string, i: number, comment = ''): string => `${hosts} ssh-ed25519 ${encoded(host(i))}${comment}`;
const text = (...lines: readonly string[]): string => `${lines.join('\n')}\n`;
const files = (...contents: readonly string[]) => contents.map((content, i) => ({ path: `file ${i}`, content }));

const namesOf = (one: Pick<Host, 'blob'>, all: readonly KnownHostsFile[], candidates: readonly string[] = []) =>
  hostNamesOf(parsePublicKey(one.blob), indexKnownHosts(all), candidates, NOW);

/** Numbers of the keys found, those of authorities as 'ca N'. */
function found(name: string, ...contents: readonly string[]): string[] {
  return hostKeysFor(name, files(...contents)).map(({ blob, isAuthority }) => {
    const i = keys.findIndex((key) => encoded(key) === Buffer.from(blob).toString('base64'));
    return isAuthority ? `ca ${i}` : String(i);
  });
}

describe('keys for a host', () => {
  it.each([
    ['a plain name', 'example.com', 'example.com', true],
    ['another name', 'example.com', 'example.org', false],
    ['a name in a list', 'a,example.com,192.0.2.1', '192.0.2.1', true],
    ['upper case on either side', 'EXAMPLE.com', 'example.COM', true],
    ['a wildcard', '*.example.com', 'www.example.com', true],
    ['a wildcard that needs its dot', '*.example.com', 'example.com', false],
    ['a question mark', 'web?', 'web1', true],
    ['a question mark with nothing for it', 'web?', 'web', false],
    ['a negated name', '*.example.com,!secret.example.com', 'secret.example.com', false],
    ['a negated name that comes first', '!secret.example.com,*.example.com', 'secret.example.com', false],
    ['a name beside a negated one', '!secret.example.com,*.example.com', 'open.example.com', true],
    ['a negated name alone', '!secret', 'open', false],
    ['a port of its own', '[example.com]:2222', '[example.com]:2222', true],
    ['the name without its port', '[example.com]:2222', 'example.com', false],
    ['a pattern too long for OpenSSH', `${'*'.repeat(MAX_PATTERN_CHARACTERS + 1)},host`, 'host', false],
    ['a pattern as long as OpenSSH takes', `${'*'.repeat(MAX_PATTERN_CHARACTERS)},x`, 'host', true],
    ['no name at all', 'a,,b,*', '', false],
    ['a letter that only looks like one of A to Z in lower case', '\u212a', 'k', false],
  ])('are found or not by %s', (_, hosts, name, expected) => {
    expect(found(name, text(line(hosts, 0)))).toEqual(expected ? ['0'] : []);
  });

  it('come from all lines of all files, in order and once each', () => {
    expect(
      found('h', text(line('h', 1), line('x', 2), line('h', 0)), text(line('*', 3), line('h', 1, ' again'))),
    ).toEqual(['1', '0', '3']);
  });

  it('are marked as authority, which is another thing than the same key as host', () => {
    expect(
      found('h', text(`@cert-authority ${line('*', 0)}`, line('h', 0), `@cert-authority\t${line('h', 0)}`)),
    ).toEqual([...['ca 0', '0']]);
  });

  it('leave out what is revoked for that host, in whatever file and order', () => {
    const listed = text(line('h', 0), `@cert-authority ${line('h', 1)}`, line('h', 2), line('other', 0));
    const revoked = text(`@revoked ${line('h', 0)}`, `@revoked ${line('*', 1)}`, `@revoked ${line('elsewhere', 2)}`);
    expect(found('h', listed, revoked)).toEqual(['2']);
    expect(found('h', revoked, listed)).toEqual(['2']);
    expect(found('other', listed, revoked)).toEqual(['0']);
  });

  it('are found past comments, blank, broken and foreign lines', () => {
    const certificate = certify(host(7), host(8));
    const content = text(
      ...['', '   ', '#', `# ${line('h', 1)}`, `#${line('h', 1)}`, 'h', 'h ssh-ed25519', 'h ssh-ed25519 '],
      ...[
        'h ssh-ed25519 AAAA',
        'h ssh-ed25519 not*base64',
        `h ssh-rsa ${encoded(host(1))}`,
        'h ssh-dss AAAAB3NzaC1kc3M=',
      ],
      ...[`@unknown ${line('h', 1)}`, `@revoked @cert-authority ${line('h', 1)}`, `@cert-authority${line('h', 1)}`],
      ...[`h 1024 35 1234567890`, `h ssh-ed25519-cert-v01@openssh.com ${encoded(certificate)}`, '@revoked'],
      ...[`|1|broken ssh-ed25519 ${encoded(host(1))}`, `h ssh-ed25519 ${encoded(host(1)).slice(0, -4)}`],
      ...[` \t${line('h', 2)}`, `h\t \tssh-ed25519 \t${encoded(host(3))} with  words # and more`, `${line('h', 4)}\r`],
      line('h', 5, ' \u2028odd\rcomment'),
    );
    expect(found('h', content)).toEqual(['2', '3', '4', '5']);
    expect(found('h', content.trimEnd())).toEqual(['2', '3', '4', '5']);
  });

  it('are none for no files, empty files and an unknown host', () => {
    expect([
      hostKeysFor('h', []),
      hostKeysFor('h', files('', '\n\n')),
      hostKeysFor('', files(text(line('h', 0)))),
    ]).toEqual([...[[], [], []]]);
  });

  it('never throw, whatever the file holds', () => {
    const word = fc.constantFrom(
      '@revoked',
      '@cert-authority',
      '|1|',
      '!',
      '*',
      ',',
      '#',
      ' ',
      '\t',
      '\n',
      '\r',
      'h',
      '\0',
      'é',
    );
    const part = fc.oneof(word, fc.string({ maxLength: 6 }), fc.constant(`ssh-ed25519 ${encoded(host(0))}`));
    fc.assert(
      fc.property(fc.array(part, { maxLength: 40 }), (parts) => {
        const all = files(parts.join(''));
        expect(Array.isArray(hostKeysFor('h', all))).toBe(true);
        expect(namesOf(host(0), all).hidden).toBeGreaterThanOrEqual(0);
      }),
    );
  });

  it('are found at the end of 100,000 lines, hashed ones and ones full of stars among them', () => {
    const hashed = `|1|${letters(27)}=|${letters(27)}= ssh-ed25519 ${encoded(host(0))}`;
    const stars = line(`${'*a'.repeat(20)}*b`, 0);
    const many = Array.from({ length: 100_000 }, (_, i) =>
      i % 10 === 0 ? hashed : i % 10 === 1 ? stars : line(`host${i}.example.com,192.0.2.${i % 256}`, 0),
    );
    expect(found(letters(60), text(...many, line(letters(60), 1)))).toEqual(['1']);
  });
});

describe('beside ssh-keygen', () => {
  const plain = text(
    ...[line('alpha', 0), line('beta,192.0.2.2', 1), line('[alpha]:2222', 2), line('*.wild,!no.wild', 3)],
    ...[line('Gamma', 4), `@cert-authority ${line('*.ca', 5)}`, '# a comment', line('alpha', 6), line('web?', 7)],
    ...[`@revoked ${line('delta', 8)}`, line('!alpha,al*', 9), line('2001:db8::1', 10)],
  );
  const names = [
    ...['alpha', 'ALPHA', 'beta', '192.0.2.2', '[alpha]:2222', 'x.wild', 'no.wild', 'gamma', 'host.ca', 'web1', 'web'],
    ...['alto', '2001:db8::1', 'nobody', 'delta'],
  ];

  /** What `ssh-keygen -F` prints of the keys of `name`, revoked ones aside. */
  function bySshKeygen(name: string, file: string): string[] {
    // It looks up hashed names as they are given, though they stand for lower case.
    const { stdout } = spawnSync('ssh-keygen', ['-F', name.toLowerCase(), '-f', file], { encoding: 'utf8' });
    return stdout
      .split('\n')
      .filter((one) => one !== '' && !one.startsWith('#') && !one.startsWith('@revoked'))
      .map((one) => `${one.startsWith('@cert-authority') ? 'ca ' : ''}${one.split(' ').at(-1)}`);
  }

  it.each([
    ['plain', false],
    ['hashed by ssh-keygen -H', true],
  ])('finds the same keys in a file that is %s', (_, hash) => {
    const file = join(folder, hash ? 'hashed' : 'plain');
    writeFileSync(file, plain);
    if (hash) spawnSync('ssh-keygen', ['-H', '-f', file]);
    const content = readFileSync(file, 'utf8');
    if (hash) expect(content.match(/^\|1\|/gm)?.length).toBeGreaterThan(5);
    let total = 0;
    for (const name of names) {
      const ours = hostKeysFor(name, [{ path: file, content }]).map(
        ({ blob, isAuthority }) => `${isAuthority ? 'ca ' : ''}${Buffer.from(blob).toString('base64')}`,
      );
      expect(ours, name).toEqual(bySshKeygen(name, file));
      total += ours.length;
    }
    expect(total).toBeGreaterThan(10);
  });
});

describe('names of a host key', () => {
  const hashedBySshKeygen = (names: readonly string[]): string => {
    const file = join(folder, 'names');
    writeFileSync(file, text(...names.map((name) => line(name, 0))));
    spawnSync('ssh-keygen', ['-H', '-f', file]);
    return readFileSync(file, 'utf8');
  };

  it('are those in clear, without patterns, negations, authorities and revoked lines', () => {
    const content = text(
      ...[
        line('Alpha,192.0.2.1,*.alpha,!beta', 0, ' comment'),
        line('gamma', 1),
        line('alpha', 0),
        line('[alpha]:22', 0),
      ],
      `@cert-authority ${line('ca', 0)}`,
    );
    expect(namesOf(host(0), files(content))).toEqual({
      names: ['alpha', '192.0.2.1', '[alpha]:22'],
      hidden: 0,
    });
  });

  it('are counted where they are hashed, and told when a candidate opens them', () => {
    const content = hashedBySshKeygen(['alpha', 'beta']);
    expect(namesOf(host(0), files(content))).toEqual({ names: [], hidden: 2 });
    expect(namesOf(host(0), files(content), ['gamma', 'Beta'])).toEqual({ names: ['beta'], hidden: 1 });
    expect(namesOf(host(1), files(content), ['beta'])).toEqual({ names: [], hidden: 0 });
  });

  it('are none for a key that some line revokes, for whatever host', () => {
    const content = text(line('alpha', 0), `@revoked ${line('other', 0)}`);
    expect(namesOf(host(0), files(content), ['alpha'])).toEqual({ names: [], hidden: 0, isRevoked: true });
    expect(namesOf(host(0), files(text(line('alpha', 0)), text(`@revoked ${line('*', 0)}`))).isRevoked).toBe(true);
    expect(namesOf(host(1), files(content))).toEqual({ names: [], hidden: 0 });
  });

  it('stay hidden where more hashed lines hold the key than are tried', () => {
    const many = Array.from({ length: MAX_HASHED_TRIES }, (_, i) => `name${i}`);
    const content = hashedBySshKeygen([...many.slice(0, 3), 'alpha']);
    expect(namesOf(host(0), files(content), ['alpha']).names).toEqual(['alpha']);
    const found = namesOf(host(0), files(content), [...many.map((name) => `${name}.`), 'alpha']);
    expect(found).toEqual({ names: [], hidden: 4 });
  });
});

describe('names of a certified host key', () => {
  const shown = (change: CertificateChange = {}) => certify(host(0), host(1), { principals: ['alpha'], ...change });
  const trusting = (pattern: string) => files(text(`@cert-authority ${line(pattern, 1)}`));

  it.each([
    ['its principals', {}, '*', [], ['alpha']],
    ['no principal that the authority is not trusted with', { principals: ['alpha', 'a.lan'] }, '*.lan', [], ['a.lan']],
    ['no principal that the line forbids', { principals: ['alpha', 'beta'] }, '*,!beta', [], ['alpha']],
    [
      'a candidate that a principal matches as a pattern',
      { principals: ['*.lan'] },
      '*.lan',
      ['a.lan', 'b'],
      ['a.lan'],
    ],
    ['a candidate with a port, by its name alone', {}, 'alpha', ['[alpha]:2222'], ['[alpha]:2222', 'alpha']],
    ['a candidate with a port that is trusted so', {}, '[alpha]:2222', ['[alpha]:2222'], ['[alpha]:2222']],
    ['no principal in upper case, which nobody asks for', { principals: ['ALPHA'] }, '*', ['alpha'], []],
    ['none of a certificate for users', { kind: 1 }, '*', ['alpha'], []],
    ['none of one that is no longer valid', { validBefore: BigInt(NOW) }, '*', ['alpha'], []],
    ['none of one that is not valid yet', { validAfter: BigInt(NOW + 1) }, '*', ['alpha'], []],
    ['none of one without principals', { principals: [] }, '*', ['alpha'], []],
  ] as [string, CertificateChange, string, string[], string[]][])(
    'are %s',
    (_, change, pattern, candidates, expected) => {
      expect(namesOf(shown(change), trusting(pattern), candidates)).toEqual({ names: expected, hidden: 0 });
    },
  );

  it('are none where the authority is not trusted, or stands in known_hosts as a host', () => {
    expect(namesOf(shown(), files(text(`@cert-authority ${line('*', 2)}`), text(line('alpha', 1)))).names).toEqual([]);
  });

  it('are none where the authority or the key is revoked', () => {
    for (const i of [0, 1]) {
      const all = files(text(`@cert-authority ${line('*', 1)}`, `@revoked ${line('*', i)}`));
      expect(namesOf(shown(), all)).toEqual({ names: [], hidden: 0, isRevoked: true });
    }
  });

  it('are also those that stand beside the plain key', () => {
    expect(namesOf(shown(), files(text(line('beta', 0)))).names).toEqual(['beta']);
  });
});
