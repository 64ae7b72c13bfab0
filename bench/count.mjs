// Counts work instead of time: system calls for one signature, one list, one connection; bytes that the engine takes from
// the heap for each, and what stays of one key; instructions where the machine lets perf count them; files that ssh-add
// opens; bytes of bundles.
//   node bench/count.mjs [--build DIR] [--write]     exit code 1 where a count has grown past its expectation
// Expectations with their tolerances are in expectations.json; --write stores what was counted as the new ones.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { build } from '../scripts/build.mjs';
import { root } from '../scripts/setup.mjs';
import { ask, pause, plainEnvironment, start, stopAll } from './agents.mjs';
import { addRequest, makeKey } from './keys.mjs';
import { buildLoad, Load, median, sizeOf } from './measure.mjs';

const expectationsFile = join(root, 'bench/expectations.json');
/** Runs of two lengths: what attaching, timers and warming up cost is the same in both and falls out. */
const [FEW, MANY] = [100, 400];
/** Keys that are added to see what stays of one. */
const KEYS = 1000;
/** By how much a count may grow, as a share; counts that hang on timing get more. */
const TOLERANCE = { syscalls: 0.3, heap: 0.1, instructions: 0.1, files: 0.2, bytes: 0.1 };
/** What is counted in the engine is another count on another Node: compared where expectations are of the same one. */
const OF_ENGINE = ['heap'];
const NODE = 'node';

/**
 * Counts by name.
 * @param {string} folder a build with bin/ and dist/
 * @returns {Promise<{ counts: Record<string, number>, notes: string[] }>}
 */
export async function countWork(folder) {
  const work = mkdtempSync(join(tmpdir(), 'lkc-'));
  const counts = {};
  const notes = [];
  try {
    await countCalls(folder, work, counts, notes);
    countHeap(folder, counts);
    for (const program of ['ssh-agent', 'ssh-add']) counts[`bytes/${program}`] = loadedBytes(folder, program);
    return { counts, notes };
  } finally {
    await stopAll();
    rmSync(work, { recursive: true, force: true });
  }
}

/** What a program reads at its start: its own file, and those that are imported from it outright. */
function loadedBytes(folder, program) {
  const seen = new Set();
  const visit = (path) => {
    if (seen.has(path)) return;
    seen.add(path);
    const text = readFileSync(path, 'utf8');
    for (const [, name] of text.matchAll(/(?:^|;|\n)\s*import\s*(?:[^'"()]*?from\s*)?["'](\.[^"']+)["']/g))
      visit(resolve(path, '..', name));
  };
  const entry = ['cjs', 'mjs'].map((end) => join(folder, 'dist', `${program}.${end}`)).find((path) => existsSync(path));
  if (entry === undefined) throw new Error(`${folder} has no ${program}`);
  visit(entry);
  // A program's own file only loads what it was bundled to.
  const [, bundle] = /__dirname \+ '\/(chunks\/[\w-]+)'/.exec(readFileSync(entry, 'utf8')) ?? [];
  if (bundle !== undefined) visit(join(folder, 'dist', `${bundle}.cjs`));
  return [...seen].reduce((sum, path) => sum + sizeOf(path), 0);
}

async function countCalls(folder, work, counts, notes) {
  const load = new Load(buildLoad(work));
  const agent = {
    id: 'latchkey',
    label: 'Latchkey',
    command: (own) => ({ words: [join(folder, 'bin/ssh-agent'), '-D', '-a', join(own, 's')], socket: join(own, 's') }),
  };
  const one = await start(agent, work);
  const keys = ['ed25519', 'ecdsa'].map(makeKey);
  for (const key of keys) await ask(one.socket, addRequest(key, 'key'));
  const words = {};
  for (const key of keys) {
    const file = join(work, key.type);
    writeFileSync(file, key.blob);
    words[`sign/${key.type}`] = ['sign', '-s', one.socket, '-k', file];
  }
  words.list = ['list', '-s', one.socket];
  words.connect = ['connect', '-s', one.socket];
  for (const list of Object.values(words)) await load.run(...list, '-n', 500);
  const [pid] = one.pids();
  const traced = existsSync('/usr/bin/strace') && canTrace(pid);
  const counted = canCount(pid);
  if (!traced) notes.push('system calls are not counted: strace is missing, or may not look at the agent');
  if (!counted) notes.push('instructions are not counted: perf is missing, or this machine has no counter for them');
  for (const [name, list] of Object.entries(words)) {
    if (traced) counts[`syscalls/${name}`] = await perWork(load, list, (work_) => traceCalls(pid, work, work_));
    if (counted) counts[`instructions/${name}`] = await perWork(load, list, (work_) => instructions(pid, work_));
  }
  if (traced) counts['files/ssh-add -l'] = filesOpened(folder, work, one.socket);
  await one.stop();
}

/** Median of three differences between many and few, for one piece of work. */
async function perWork(load, words, count) {
  const found = [];
  for (let i = 0; i < 3; i++) {
    const few = await count(() => load.run(...words, '-n', FEW));
    const many = await count(() => load.run(...words, '-n', MANY));
    found.push((many - few) / (MANY - FEW));
  }
  return Number(median(found).toPrecision(4));
}

function canTrace(pid) {
  const run = spawnSync('timeout', ['-s', 'INT', '0.3', 'strace', '-c', '-f', '-p', String(pid)], { encoding: 'utf8' });
  return /attached/.test(run.stderr ?? '');
}

function canCount(pid) {
  const run = spawnSync('perf', ['stat', '-x,', '-e', 'instructions:u', '-p', String(pid), 'sleep', '0.1'], {
    encoding: 'utf8',
  });
  return run.status === 0 && /^\d/m.test(run.stderr);
}

/** System calls of the agent's process while `work` is done; waiting for other threads of its own is left out. */
async function traceCalls(pid, folder, work) {
  const out = join(folder, 'strace');
  const child = spawn('strace', ['-c', '-f', '-U', 'calls,name', '-o', out, '-p', String(pid)], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  await new Promise((done) => child.stderr.once('data', done));
  child.stderr.resume();
  await pause(100);
  await work();
  const gone = new Promise((done) => child.once('exit', done));
  child.kill('SIGINT');
  await gone;
  const lines = readFileSync(out, 'utf8').matchAll(/^\s*(\d+)\s+(\w+)\s*$/gm);
  let sum = 0;
  for (const [, calls, name] of lines)
    if (!['futex', 'total', 'madvise', 'mprotect'].includes(name)) sum += Number(calls);
  return sum;
}

async function instructions(pid, work) {
  const child = spawn('perf', ['stat', '-x,', '-e', 'instructions:u', '-p', String(pid)], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let text = '';
  child.stderr.on('data', (more) => {
    text += more;
  });
  await pause(200);
  await work();
  const gone = new Promise((done) => child.once('close', done));
  child.kill('SIGINT');
  await gone;
  return Number(/^(\d+)/m.exec(text)?.[1]);
}

function filesOpened(folder, work, socket) {
  const out = join(work, 'opened');
  const words = ['-f', '-e', 'trace=open,openat', '-o', out, join(folder, 'bin/ssh-add'), '-l'];
  spawnSync('strace', words, { env: plainEnvironment(work, { SSH_AUTH_SOCK: socket }), stdio: 'ignore' });
  return readFileSync(out, 'utf8')
    .split('\n')
    .filter((line) => / = \d+$/.test(line) && !line.includes('"/proc/')).length;
}

/** In a Node whose young generation holds everything that is taken meanwhile, so that nothing is collected. */
function countHeap(folder, counts) {
  const words = ['--max-semi-space-size=128', '--min-semi-space-size=128', '--expose-gc', '--no-warnings'];
  const self = new URL(import.meta.url).pathname;
  const run = spawnSync(process.execPath, [...words, self, '--engine', folder], {
    encoding: 'utf8',
    env: plainEnvironment('/'),
  });
  if (run.status !== 0) throw new Error(`the engine in memory: ${run.stderr}`);
  Object.assign(counts, JSON.parse(run.stdout));
}

/** The child of countHeap: the engine without sockets, after compilers have seen the path. */
async function engine(folder) {
  const { PerformanceObserver } = await import('node:perf_hooks');
  const { createAgent } = await import(pathToFileURL(join(folder, 'dist/index.mjs')).href);
  const agent = createAgent();
  const session = agent.openSession();
  const keys = ['ed25519', 'ecdsa'].map(makeKey);
  const message = (frame) => frame.subarray(4);
  for (const key of keys) session.handle(message(addRequest(key, 'key')));
  const { signRequest } = await import('./keys.mjs');
  const requests = Object.fromEntries(
    keys.map((key) => [`sign/${key.type}`, message(signRequest(key, Buffer.alloc(200, 7)))]),
  );
  requests.list = Buffer.from([11]);
  let collected = 0;
  new PerformanceObserver((list) => {
    collected += list.getEntries().length;
  }).observe({ entryTypes: ['gc'] });
  const counts = {};
  for (const [name, request] of Object.entries(requests)) {
    for (let i = 0; i < 20_000; i++) session.handle(request);
    const found = [];
    for (let tries = 0; found.length < 5; tries++) {
      globalThis.gc();
      await pause(20);
      const before = collected;
      const from = process.memoryUsage();
      for (let i = 0; i < 2000; i++) session.handle(request);
      const to = process.memoryUsage();
      await pause(20);
      if (collected === before) found.push((to.heapUsed - from.heapUsed + to.external - from.external) / 2000);
      else if (tries > 20) throw new Error('garbage is collected all the time');
    }
    counts[`heap/${name}`] = Math.round(median(found));
  }
  counts['heap/key'] = await heapOfKey(session, (key) => message(addRequest(key, 'one of many')));
  console.log(JSON.stringify(counts));
  process.exit(0);
}

/** Bytes that stay of a key that is added, without what it has in custody. */
async function heapOfKey(session, request) {
  const requests = Array.from({ length: KEYS }, () => request(makeKey('ed25519')));
  const used = async () => {
    for (let i = 0; i < 3; i++) {
      globalThis.gc();
      await pause(20);
    }
    return process.memoryUsage().heapUsed;
  };
  for (const one of requests.slice(0, KEYS / 2)) session.handle(one);
  const before = await used();
  for (const one of requests.slice(KEYS / 2)) session.handle(one);
  return Math.round(((await used()) - before) / (KEYS / 2));
}

/**
 * Compares with expectations.json.
 * @returns {{ name: string, count: number, expected: number | undefined, verdict: 'same' | 'less' | 'more' | 'new' }[]}
 */
export function compare(counts, expectations = JSON.parse(readFileSync(expectationsFile, 'utf8'))) {
  const same = expectations[NODE] === major;
  const comparable = Object.entries(counts).filter(([name]) => same || !OF_ENGINE.includes(name.split('/')[0]));
  return comparable.map(([name, count]) => {
    const expected = expectations[name];
    if (expected === undefined) return { name, count, expected, verdict: 'new' };
    const room = TOLERANCE[name.split('/')[0]];
    const verdict = count > expected * (1 + room) ? 'more' : count < expected * (1 - room) ? 'less' : 'same';
    return { name, count, expected, verdict };
  });
}

const major = process.versions.node.split('.')[0];

/** For `npm run check`. @returns whether nothing has grown; prints each count that differs */
export async function checkWork(folder, say = console.log) {
  const { counts, notes } = await countWork(folder);
  for (const words of notes) say(words);
  const all = compare(counts);
  if (all.length < Object.keys(counts).length)
    say(`bytes of the heap are not compared: expectations are of another Node`);
  for (const { name, count, expected, verdict } of all) {
    if (verdict === 'more')
      say(`${name}: ${count}, expected ${expected}: find out why, or run bench/count.mjs --write`);
    if (verdict === 'less') say(`${name}: ${count}, better than ${expected}: keep it with bench/count.mjs --write`);
    if (verdict === 'new') say(`${name}: ${count}, no expectation yet: bench/count.mjs --write`);
  }
  return all.every(({ verdict }) => verdict !== 'more');
}

async function main() {
  const options = { build: { type: 'string' }, write: { type: 'boolean' }, engine: { type: 'string' } };
  const { values } = parseArgs({ options });
  if (values.engine !== undefined) return engine(values.engine);
  const folder = resolve(values.build ?? root);
  if (values.build === undefined) await build();
  if (!values.write) {
    process.exitCode = (await checkWork(folder)) ? 0 : 1;
    return;
  }
  const { counts, notes } = await countWork(folder);
  for (const words of notes) console.log(words);
  const old = existsSync(expectationsFile) ? JSON.parse(readFileSync(expectationsFile, 'utf8')) : {};
  writeFileSync(expectationsFile, `${JSON.stringify({ ...old, [NODE]: major, ...counts }, null, 2)}\n`);
  console.log(JSON.stringify(counts, null, 2));
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await main();
