// npm run check: what a change must pass before anything else, fastest step first. Steps can be named:
//   npm run check -- types unit
import { build } from './build.mjs';
import { ensureDependencies } from './setup.mjs';
import { CHECK, runSteps } from './suites.mjs';

ensureDependencies();
const names = process.argv.slice(2);
const unknown = names.filter((name) => !CHECK.some((step) => step.name === name));
if (unknown.length > 0) {
  console.error(`no such step: ${unknown.join(', ')} (${CHECK.map((step) => step.name).join(', ')})`);
  process.exit(1);
}
await build();
const steps = names.length > 0 ? CHECK.filter((step) => names.includes(step.name)) : CHECK;
process.exitCode = (await runSteps(steps)) ? 0 : 1;
