// What V8 made of a program's code at build time only ever makes it start sooner: without it, or with a file that is none
// or another Node's, the program does the same.
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Script } from 'node:vm';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { BUILD } from '../support/agentprocess.ts';

const folder = mkdtempSync(join(tmpdir(), 'latchkey-codecache-'));
let base = '';
let cache = '';

beforeAll(() => {
  cpSync(join(BUILD, 'dist'), join(folder, 'dist'), { recursive: true });
  const loader = readFileSync(join(folder, 'dist/ssh-add.cjs'), 'utf8');
  base = join(folder, 'dist', /chunks\/ssh-add-[0-9a-f]{8}/.exec(loader)?.[0] ?? '');
  cache = `${base}-${process.version}-${process.arch}.cache`;
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

function usage(): string {
  const run = spawnSync(process.execPath, [join(folder, 'dist/ssh-add.cjs'), '--help'], { env: {}, encoding: 'utf8' });
  return `${run.status} ${run.stdout.split('\n')[0]}${run.stderr}`;
}

const RIGHT = '0 usage: ssh-add [-CcDdKkLlNQqvXx] [-E fingerprint_hash] [-H hostkey_file]';

// Whatever a program did to V8's flags while its code was compiled for the cache, a start under the usual ones takes it.
it.each(['ssh-agent', 'ssh-add', 'ssh-add-actions', 'latchkey', 'pkcs11-helper', 'configurationschema', 'crew'])(
  'of %s belongs to the Node that it was made with, and that one takes it',
  (name) => {
    const chunk = /chunks\/[\w-]+-[0-9a-f]{8}/.exec(readFileSync(join(folder, `dist/${name}.cjs`), 'utf8'))?.[0] ?? '';
    const code = join(folder, 'dist', `${chunk}.cjs`);
    const cachedData = readFileSync(join(folder, 'dist', `${chunk}-${process.version}-${process.arch}.cache`));
    expect(new Script(readFileSync(code, 'utf8'), { filename: code, cachedData }).cachedDataRejected).toBe(false);
  },
);

it('leaves the program as it is', () => {
  expect(usage()).toBe(RIGHT);
});

it('may be cut off, empty, something else, or missing', () => {
  const whole = readFileSync(cache);
  truncateSync(cache, whole.length - 1000);
  expect(usage()).toBe(RIGHT);
  writeFileSync(cache, '');
  expect(usage()).toBe(RIGHT);
  writeFileSync(cache, 'x'.repeat(whole.length));
  expect(usage()).toBe(RIGHT);
  // The first words tell V8's own version and flags.
  const foreign = Buffer.from(whole);
  foreign.fill(0x55, 4, 8);
  writeFileSync(cache, foreign);
  expect(usage()).toBe(RIGHT);
  rmSync(cache);
  expect(usage()).toBe(RIGHT);
});
