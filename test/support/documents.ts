/** What tests of the documentation share: files of the checkout, and programs without anything of the developer's own. */
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll } from 'vitest';

export const root = resolve(import.meta.dirname, '../..');
export const bin = join(process.env.LATCHKEY_BUILD ?? root, 'bin');
const folder = mkdtempSync(join(tmpdir(), 'latchkey-docs-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

export const read = (path: string): string => readFileSync(join(root, path), 'utf8');

/** No start-up files, no manuals, no agent. */
const env = { PATH: process.env.PATH ?? '', HOME: folder, XDG_RUNTIME_DIR: folder, LC_ALL: 'C.UTF-8' };

export function run(program: string, args: readonly string[], cwd = root): SpawnSyncReturns<string> {
  return spawnSync(program, args, { cwd, env, encoding: 'utf8' });
}

/** The test's options: it is skipped where a program is not there, which counts as a failure in CI. */
export const needs = (...programs: readonly string[]): { skip: boolean } => ({
  skip: programs.some((program) => run(program, ['--version']).error !== undefined),
});

/** The flags that a manual explains: what follows `Fl` in its list items. */
export function manualFlags(path: string): string[] {
  const items = read(path)
    .split('\n')
    .filter((line) => line.startsWith('.It Fl '));
  return items.flatMap((line) => [...line.matchAll(/Fl (\S+)/g)].map(([, name]) => `-${name}`)).sort();
}
