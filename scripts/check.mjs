// npm run check: what a change must pass before anything else, fastest step first. Steps can be named:
//   npm run check -- types unit
import { build } from './build.mjs';
import { ensureDependencies, root } from './setup.mjs';
import { CHECK, runSteps } from './suites.mjs';

ensureDependencies();

/** Counts of what a request costs, against bench/expectations.json. Last: it is the slowest, and needs what others check. */
const work = {
  name: 'work',
  async run() {
    const { checkWork } = await import('../bench/count.mjs');
    const notes = [];
    const good = await checkWork(root, (words) => notes.push(words));
    return { passed: good ? 1 : 0, failed: good ? 0 : 1, notes };
  },
};
const ALL = [...CHECK, work];
const names = process.argv.slice(2);
const unknown = names.filter((name) => !ALL.some((step) => step.name === name));
if (unknown.length > 0) {
  console.error(`no such step: ${unknown.join(', ')} (${ALL.map((step) => step.name).join(', ')})`);
  process.exit(1);
}
await build();
const steps = names.length > 0 ? ALL.filter((step) => names.includes(step.name)) : ALL;
process.exitCode = (await runSteps(steps)) ? 0 : 1;
