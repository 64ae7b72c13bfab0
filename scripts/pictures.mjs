// Makes the pictures of docs/pictures anew: see test/support/pictures.ts for the programs that it needs.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';
import { root } from './setup.mjs';

// Inside of the checkout, where koffi is found.
const folder = mkdtempSync(join(root, 'node_modules/.pictures-'));
const target = join(root, 'docs/pictures');
const sources = ['test/support/pictures.ts', 'test/interop/fixtures/watching.ts', 'test/interop/fixtures/asking.ts'];
try {
  await build({
    entryPoints: sources.map((path) => join(root, path)),
    bundle: true,
    platform: 'node',
    format: 'esm',
    outdir: folder,
    entryNames: '[name]',
    outExtension: { '.js': '.mjs' },
    external: ['koffi'],
    logLevel: 'error',
  });
  mkdirSync(target, { recursive: true });
  const words = ['pictures', 'watching', 'asking'].map((name) => join(folder, `${name}.mjs`));
  const run = spawnSync(process.execPath, [words[0], target, ...words.slice(1)], { stdio: 'inherit' });
  process.exitCode = run.status ?? 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
