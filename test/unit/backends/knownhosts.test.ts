import { execFileSync } from 'node:child_process';
import { appendFileSync, mkdirSync, mkdtempSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  createKnownHosts,
  KnownHosts,
  knownHostsPaths,
  MAX_KNOWN_HOSTS_BYTES,
  RECHECK_MS,
} from '../../../src/backends/knownhosts.ts';
import { parsePublicKey } from '../../../src/keys/publickey.ts';
import { certify, type Host, makeHost, NOW } from '../policy/hosts.ts';

const [alpha, beta, authority] = [makeHost('alpha'), makeHost('beta'), makeHost('authority')];
const keyOf = ({ blob }: Host) => parsePublicKey(blob);
const line = (names: string, { plainBlob }: Host): string =>
  `${names} ssh-ed25519 ${Buffer.from(plainBlob).toString('base64')}\n`;

let home: string;
let file: string;
let time = 0;
let wall = NOW;

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'latchkey-knownhosts-'));
  mkdirSync(join(home, '.ssh'));
  file = join(home, '.ssh', 'known_hosts');
  wall = NOW;
});
afterEach(() => rmSync(home, { recursive: true }));

const open = (...paths: string[]): KnownHosts =>
  new KnownHosts({ paths: paths.length === 0 ? [file] : paths, now: () => time, wallSeconds: () => wall });
/** What is said of `host` once the files may be looked at again. */
function names(hosts: KnownHosts, host: Host, candidates: readonly string[] = []): readonly string[] {
  time += RECHECK_MS;
  return hosts.namesOf(keyOf(host), candidates).names;
}

describe('names from known_hosts files', () => {
  it('come from all of them, the home folder and the system, as ssh has them', () => {
    const second = join(home, 'second');
    writeFileSync(file, line('one', alpha));
    writeFileSync(second, line('two,three', alpha));
    expect(names(open(file, join(home, 'missing'), second), alpha)).toEqual(['one', 'two', 'three']);
    expect(knownHostsPaths('/home/me')).toEqual([
      ...['/home/me/.ssh/known_hosts', '/home/me/.ssh/known_hosts2'],
      ...['/etc/ssh/ssh_known_hosts', '/etc/ssh/ssh_known_hosts2'],
    ]);
    expect(createKnownHosts(home).namesOf(keyOf(alpha), [])).toEqual({ names: ['one'], hidden: 0 });
  });

  it('are confirmed in a file that ssh-keygen hashed', () => {
    writeFileSync(file, line('one', alpha));
    execFileSync('ssh-keygen', ['-H', '-f', file], { stdio: 'ignore' });
    const hosts = open();
    expect(names(hosts, alpha)).toEqual([]);
    expect(hosts.namesOf(keyOf(alpha), [])).toEqual({ names: [], hidden: 1 });
    expect(names(hosts, alpha, ['two', 'one'])).toEqual(['one']);
    expect(names(hosts, alpha, ['two'])).toEqual([]);
  });

  it('follow every change: lines added, a file replaced, emptied, removed, made again', () => {
    const hosts = open();
    expect(names(hosts, alpha)).toEqual([]);
    writeFileSync(file, line('one', alpha));
    expect(names(hosts, alpha)).toEqual(['one']);
    appendFileSync(file, line('two', alpha));
    expect(names(hosts, alpha)).toEqual(['one', 'two']);
    writeFileSync(`${file}.new`, line('six', alpha) + line('ten', alpha));
    renameSync(`${file}.new`, file);
    expect(names(hosts, alpha)).toEqual(['six', 'ten']);
    truncateSync(file);
    expect(names(hosts, alpha)).toEqual([]);
    writeFileSync(file, line('one', alpha));
    expect(names(hosts, alpha)).toEqual(['one']);
    rmSync(file);
    expect(names(hosts, alpha)).toEqual([]);
  });

  it('are looked for in the files again only after a while', () => {
    const hosts = open();
    writeFileSync(file, line('one', alpha));
    expect(names(hosts, alpha)).toEqual(['one']);
    appendFileSync(file, line('two', alpha));
    time += RECHECK_MS - 1;
    expect(hosts.namesOf(keyOf(alpha), []).names).toEqual(['one']);
    time += 1;
    expect(hosts.namesOf(keyOf(alpha), []).names).toEqual(['one', 'two']);
  });

  it('end with the certificate that they stand in', () => {
    writeFileSync(file, line('@cert-authority *', authority));
    const hosts = open();
    const certified = certify(beta, authority);
    expect(names(hosts, certified)).toEqual(['beta']);
    wall = NOW + 3600;
    expect(names(hosts, certified)).toEqual([]);
  });

  it('are none, and no error, where a file is broken, a folder, a pipe, or far too large', () => {
    writeFileSync(
      file,
      Buffer.concat([Buffer.from([0xff, 0xfe, 0x00, 0x0a]), Buffer.from(`x\n${line('one', alpha)}`)]),
    );
    expect(names(open(), alpha)).toEqual(['one']);
    expect(names(open(join(home, '.ssh')), alpha)).toEqual([]);
    const pipe = join(home, 'pipe');
    execFileSync('mkfifo', [pipe]);
    expect(names(open(pipe), alpha)).toEqual([]);
    truncateSync(file, MAX_KNOWN_HOSTS_BYTES + 1);
    expect(names(open(), alpha)).toEqual([]);
  });

  it('are right for many keys and candidates, one after another', () => {
    const many = Array.from({ length: 300 }, (_, i) => makeHost(`host${i}`));
    writeFileSync(file, many.map((host) => line(host.name, host)).join(''));
    const hosts = open();
    for (const round of ['a', 'b']) for (const host of many) expect(names(hosts, host, [round])).toEqual([host.name]);
    expect(names(hosts, alpha)).toEqual([]);
  });
});
