import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { hashedHostMatches } from '../../../src/keys/hostname.ts';

const folder = mkdtempSync(join(tmpdir(), 'latchkey-hostname-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** The host field that ssh-keygen -H makes of `host`. */
function hashedBySshKeygen(host: string): string {
  const file = join(folder, 'known_hosts');
  const key = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAbr2XmcH9uZX8xxe8VouynB+mjam94BEhSQWfJkwq2u';
  writeFileSync(file, `${host} ${key}\n`);
  const { status, stderr } = spawnSync('ssh-keygen', ['-H', '-f', file], { encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
  return readFileSync(file, 'utf8').split(' ')[0] ?? '';
}

describe('a hashed host name', () => {
  it.each(['example.com', '[example.com]:2222', '::1', '192.0.2.7'])(
    'of ssh-keygen -H is opened by %s alone',
    (host) => {
      const hashed = hashedBySshKeygen(host);
      expect(hashed.startsWith('|1|')).toBe(true);
      expect(hashedHostMatches(hashed, host)).toBe(true);
      for (const other of ['', 'other', `${host}.`, host.slice(1)])
        expect(hashedHostMatches(hashed, other)).toBe(false);
    },
  );

  it('matches nothing when it is malformed', () => {
    const hashed = hashedBySshKeygen('host');
    const [, , salt = '', hash = ''] = hashed.split('|');
    for (const broken of [
      '',
      '|',
      '|1|',
      `|1|${salt}`,
      `|1|${salt}|`,
      `|1||${hash}`,
      `|2|${salt}|${hash}`,
      `|1|${salt}|${hash}|`,
      `|1|${salt}|${hash},host`,
      `|1|${salt.slice(4)}|${hash}`,
      `|1|${salt}|${hash.slice(4)}`,
      `|1|*${salt.slice(1)}|${hash}`,
      `${hashed} `,
    ])
      expect(hashedHostMatches(broken, 'host'), broken).toBe(false);
    expect(hashedHostMatches(hashed, 'host')).toBe(true);
  });
});
