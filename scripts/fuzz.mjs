// npm run fuzz [-- --seed N --runs N]: the fuzz suite for longer, from a seed of the day unless one is given.
import { parseArgs } from 'node:util';
import { build } from './build.mjs';
import { ensureDependencies } from './setup.mjs';
import { runSteps, vitest } from './suites.mjs';

const { values } = parseArgs({ options: { seed: { type: 'string' }, runs: { type: 'string', default: '2000000' } } });
const seed = values.seed ?? String(Math.floor(Math.random() * 2 ** 31));

ensureDependencies();
await build();
console.log(
  `fuzzing from seed ${seed}, ${values.runs} inputs; again: npm run fuzz -- --seed ${seed} --runs ${values.runs}`,
);
const env = { FUZZ_SEED: seed, FUZZ_RUNS: values.runs };
const run = () => vitest(['test/fuzz'], { env, args: ['--testTimeout=0'] });
process.exitCode = (await runSteps([{ name: 'fuzz', run }])) ? 0 : 1;
