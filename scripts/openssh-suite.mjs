// OpenSSH's own regression suite against our two programs, by a tool that is no part of this repository:
// $OPENSSH_REGRESS, else ../shared/tools/openssh-regress.sh beside the checkout. As root the tool runs the tests as a
// throwaway user, so they get a build in a folder that everybody may read.
import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, cpSync, existsSync, mkdtempSync, readdirSync, rmSync, unlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import { build } from './build.mjs';
import { ensureDependencies, root } from './setup.mjs';
import { CI } from './suites.mjs';

// The tool's default list, by name so that one that vanishes is missed, and the tool's own test of the peer's uid.
const TESTS = [
  'agent',
  'agent-getpeereid',
  'agent-pkcs11',
  'agent-ptrace',
  'agent-restrict',
  'agent-subprocess',
  'agent-timeout',
  'cert-file',
  'hostkey-agent',
  'sshsig',
  'x-peer-uid',
];

/** @returns {Promise<import('./suites.mjs').Count>} */
export async function opensshSuite(tests = TESTS) {
  const tool = resolve(root, process.env.OPENSSH_REGRESS ?? '../shared/tools/openssh-regress.sh');
  if (!existsSync(tool)) {
    const note = `OpenSSH's suite not run: there is no ${tool} (set OPENSSH_REGRESS)`;
    return { passed: 0, failed: CI ? 1 : 0, notes: [note] };
  }
  const folder = process.getuid?.() === 0 ? await readableBuild() : root;
  try {
    return await runTool(tool, folder, tests);
  } finally {
    if (folder !== root) rmSync(folder, { recursive: true, force: true });
  }
}

/** A build that any user may run, wherever the checkout and Node are. */
async function readableBuild() {
  const folder = mkdtempSync(join(tmpdir(), 'latchkey-openssh-'));
  let node = process.execPath;
  if (spawnSync('runuser', ['-u', 'nobody', '--', node, '--version'], { cwd: '/' }).status !== 0) {
    node = join(folder, 'node');
    copyFileSync(process.execPath, node);
    chmodSync(node, 0o755);
  }
  await build({ out: folder, node });
  unlinkSync(join(folder, 'node_modules'));
  for (const name of ['koffi', '@koromix']) {
    cpSync(join(root, 'node_modules', name), join(folder, 'node_modules', name), { recursive: true });
  }
  open(folder);
  return folder;
}

function open(folder) {
  chmodSync(folder, 0o755);
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (entry.isDirectory()) chmodSync(join(entry.parentPath ?? entry.path, entry.name), 0o755);
  }
}

/** Runs it and judges its lines: `PASS|FAIL|SKIP name (seconds) reason`. */
async function runTool(tool, folder, tests) {
  const words = [tool, join(folder, 'bin/ssh-agent'), join(folder, 'bin/ssh-add'), ...tests];
  const child = spawn('bash', words, { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise((done, failed) => child.on('error', failed).on('close', done));
  const notes = [];
  let passed = 0;
  let failed = 0;
  let judged = 0;
  for await (const line of createInterface({ input: child.stdout })) {
    console.log(line);
    const [, verdict] = /^(PASS|FAIL|SKIP) \S+ /.exec(line) ?? [];
    if (verdict === undefined) continue;
    judged += 1;
    if (verdict === 'PASS') passed += 1;
    if (verdict === 'FAIL') failed += 1;
    if (verdict === 'SKIP') notes.push(line);
    if (verdict === 'SKIP' && CI) failed += 1;
  }
  const status = await ended;
  if (judged < tests.length) {
    failed += tests.length - judged;
    notes.push(`the tool ended with status ${status} after ${judged} of ${tests.length} tests`);
  }
  for (const note of notes) console.log(`!! ${note}`);
  return { passed, failed, notes };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  ensureDependencies();
  const { failed } = await opensshSuite(process.argv.length > 2 ? process.argv.slice(2) : TESTS);
  process.exitCode = failed > 0 ? 1 : 0;
}
