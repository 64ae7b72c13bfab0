// npm run bench: Latchkey and the agents beside it, measured in one run. bench/README.md says what and how.
//   npm run bench -- [--quick] [--only PHASE,...] [--agents ID,...] [--build DIR] [--out DIR]
// BENCH_SECONDS (1) a point and round, BENCH_ROUNDS (3). Only a whole run with the defaults writes to bench/.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, release, tmpdir, totalmem } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { build } from '../scripts/build.mjs';
import { ensureDependencies, root } from '../scripts/setup.mjs';
import { findAgents, stopAll } from './agents.mjs';
import { buildLoad, Load } from './measure.mjs';
import { ensurePackages } from './packages.mjs';
import * as phases from './phases.mjs';
import { picture } from './picture.mjs';
import { goals, ratios, tables } from './report.mjs';

const PHASES = {
  ceiling: phases.ceiling,
  sign: phases.sign,
  list: phases.list,
  connect: phases.connect,
  beside: phases.beside,
  memory: phases.atRest,
  start: phases.startUp,
  commands: phases.commands,
  growth: phases.growth,
};

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    only: { type: 'string' },
    agents: { type: 'string' },
    build: { type: 'string' },
    out: { type: 'string' },
  },
});

function positive(name, fallback) {
  const value = Number(process.env[name] ?? fallback);
  if (value > 0 && Number.isFinite(value)) return value;
  console.error(`${name} is no number above 0`);
  process.exit(1);
}

const wanted = values.only?.split(',') ?? Object.keys(PHASES);
const strange = wanted.filter((name) => PHASES[name] === undefined);
if (strange.length > 0) {
  console.error(`no such phase: ${strange.join(', ')} (${Object.keys(PHASES).join(', ')})`);
  process.exit(1);
}
ensureDependencies();
ensurePackages();

const began = Date.now();
const work = mkdtempSync(join(tmpdir(), 'lkb-'));
const seconds = positive('BENCH_SECONDS', values.quick ? 0.2 : 1);
const rounds = Math.ceil(positive('BENCH_ROUNDS', values.quick ? 1 : 3));
const load = new Load(buildLoad(work));
const bench = { work, load, seconds, rounds, quick: values.quick, results: {}, notes: [], files: 0 };
bench.say = (words) => console.log(`${((Date.now() - began) / 1000).toFixed(0).padStart(4)} s  ${words}`);
bench.sweep = (folder) => sweep(folder);
bench.generate = (path) => {
  const run = spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', path], { encoding: 'utf8' });
  if (run.status !== 0) throw new Error(`ssh-keygen: ${run.stderr}`);
};

/** Ends what still runs out of our folder: agents that put themselves into the background. */
function sweep(folder) {
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)) {
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0');
      const home = readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0');
      if (
        words.some((word) => inside(word, folder)) ||
        home.some((entry) => inside(entry.replace('HOME=', ''), folder))
      )
        process.kill(Number(pid), 'SIGKILL');
    } catch {
      // Gone, or not ours to read.
    }
  }
  rmSync(folder, { recursive: true, force: true });
}

const inside = (path, folder) => path === folder || path.startsWith(`${folder}/`);

async function end(code) {
  load.stop();
  await stopAll();
  sweep(work);
  process.exit(code);
}
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => end(1));

function machine() {
  const model = cpus()[0]?.model ?? 'unknown';
  return {
    cpus: cpus().length,
    model,
    memoryGb: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    node: process.version,
    openssl: process.versions.openssl,
  };
}

async function main() {
  bench.build = values.build === undefined ? join(work, 'build') : resolve(values.build);
  if (values.build === undefined) await build({ out: bench.build });
  const { agents, missing } = findAgents({ build: bench.build, work });
  const chosen = values.agents?.split(',');
  bench.agents = chosen === undefined ? agents : agents.filter(({ id }) => chosen.includes(id));
  for (const words of missing) bench.notes.push(`not measured: ${words}`);
  for (const { label, note } of bench.agents) if (note !== '') bench.notes.push(`${label}: ${note}`);
  console.log(`${bench.agents.map(({ label }) => label).join(', ')}; ${rounds} rounds of ${seconds} s a point`);
  for (const name of wanted) await PHASES[name](bench);

  const outcome = {
    date: new Date().toISOString(),
    machine: machine(),
    settings: { seconds, rounds, tookSeconds: Math.round((Date.now() - began) / 1000) },
    agents: bench.agents.map(({ id, label, version }) => ({ id, label, version })),
    goals: goals(bench.results),
    ratios: ratios(bench.results),
    results: bench.results,
    notes: bench.notes,
  };
  console.log(`\n${tables(outcome)}`);
  for (const words of bench.notes) console.log(`- ${words}`);
  const whole = !values.quick && values.only === undefined && chosen === undefined;
  const out = values.out ?? (whole ? join(root, 'bench') : undefined);
  if (out === undefined) return;
  if (!existsSync(out)) mkdirSync(out, { recursive: true });
  writeFileSync(join(out, 'result.json'), `${JSON.stringify(outcome, null, 1)}\n`);
  writeFileSync(join(out, 'result.svg'), picture(outcome));
  console.log(`\nwritten: ${join(out, 'result.json')}, result.svg`);
}

try {
  await main();
  await end(0);
} catch (error) {
  console.error(error);
  await end(1);
}
