// Runs the steps of `npm run check` and `npm test`, and counts. A step is { name, run }; run() gives a Count.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkImports } from './imports.mjs';
import { root } from './setup.mjs';

/** @typedef {{ passed: number, failed: number, notes?: string[] }} Count */

/** In CI nothing may be skipped. */
export const CI = !['', '0', 'false'].includes(process.env.CI ?? '');

const tool = (path, ...args) => {
  const run = spawnSync(process.execPath, [join(root, 'node_modules', path), ...args], { cwd: root, stdio: 'inherit' });
  return count(run.status === 0);
};
const count = (good) => ({ passed: good ? 1 : 0, failed: good ? 0 : 1 });

/** `npm run check`, fastest first. */
export const CHECK = [
  { name: 'format', run: () => tool('@biomejs/biome/bin/biome', 'format') },
  {
    name: 'imports',
    run: () => {
      const wrong = checkImports();
      for (const line of wrong) console.error(line);
      return count(wrong.length === 0);
    },
  },
  { name: 'types', run: () => tool('typescript/bin/tsc') },
  { name: 'lint', run: () => tool('@biomejs/biome/bin/biome', 'lint', '--error-on-warnings') },
  { name: 'unit', run: () => vitest(['test/unit']) },
];

const hasTests = (folder) =>
  existsSync(join(root, folder)) &&
  readdirSync(join(root, folder), { recursive: true }).some((name) => name.endsWith('.test.ts'));

/**
 * Runs the test files of these folders.
 * @param {string[]} folders
 * @param {{ node?: string, build?: string, env?: Record<string, string>, args?: string[] }} options
 *   node: the Node to run on; build: the folder with bin/ and dist/ that the tests use (LATCHKEY_BUILD)
 * @returns {Count}
 */
export function vitest(folders, { node = process.execPath, build = root, env = {}, args = [] } = {}) {
  const notes = [];
  const empty = folders.filter((folder) => !hasTests(folder));
  for (const folder of empty) notes.push(`${folder} has no tests`);
  const absent = empty.length;
  if (empty.length === folders.length) return { passed: 0, failed: absent, notes };
  const folder = mkdtempSync(join(tmpdir(), 'latchkey-test-'));
  const report = join(folder, 'report.json');
  try {
    const words = [join(root, 'node_modules/vitest/vitest.mjs'), 'run', ...folders.filter(hasTests), ...args];
    words.push('--reporter=default', '--reporter=json', `--outputFile.json=${report}`);
    const run = spawnSync(node, words, {
      cwd: root,
      stdio: ['ignore', 'inherit', 'inherit'],
      env: { ...process.env, ...env, LATCHKEY_BUILD: build },
    });
    const result = existsSync(report) ? JSON.parse(readFileSync(report, 'utf8')) : undefined;
    const passed = result?.numPassedTests ?? 0;
    const skipped = (result?.numPendingTests ?? 0) + (result?.numTodoTests ?? 0);
    if (skipped > 0) notes.push(`${skipped} skipped${CI ? ', which counts as failed in CI' : ''}: ${skips(result)}`);
    let failed = absent + (result?.numFailedTests ?? 0) + (CI ? skipped : 0);
    // A file that could not be loaded, an error outside of a test: no test of it is counted.
    if (run.status !== 0 && failed === 0) failed = 1;
    return { passed, failed, notes };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function skips(result) {
  const all = result.testResults.flatMap((file) => file.assertionResults);
  const names = all.filter((test) => !['passed', 'failed'].includes(test.status)).map((test) => test.fullName);
  return names.join('; ');
}

/**
 * Runs the steps in order, all of them even after a failure, and ends with the line `N passed, N failed`.
 * @param {{ name: string, run: () => Count | Promise<Count> }[]} steps
 * @returns {Promise<boolean>} true when none failed
 */
export async function runSteps(steps) {
  const lines = [];
  let passed = 0;
  let failed = 0;
  for (const step of steps) {
    console.log(`\n== ${step.name}`);
    const began = Date.now();
    let result;
    try {
      result = await step.run();
    } catch (error) {
      console.error(error instanceof Error ? (error.stack ?? error.message) : error);
      result = { passed: 0, failed: 1 };
    }
    passed += result.passed;
    failed += result.failed;
    const seconds = ((Date.now() - began) / 1000).toFixed(1);
    const verdict = result.failed > 0 ? 'FAILED' : 'ok';
    const line = `${verdict.padEnd(6)} ${step.name.padEnd(10)} ${seconds.padStart(6)} s  ${result.passed} passed, ${result.failed} failed`;
    lines.push(line, ...(result.notes ?? []).map((note) => `         ${note}`));
    console.log(line);
  }
  console.log(`\n${lines.join('\n')}\n\n${passed} passed, ${failed} failed`);
  return failed === 0;
}
