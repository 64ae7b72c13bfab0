// npm test: sets up all that it needs, then every suite. Suites can be named, for example:
//   npm test -- check behaviour        npm test -- openssh
import { build } from './build.mjs';
import { ensureNodes, LINES } from './nodes.mjs';
import { opensshSuite } from './openssh-suite.mjs';
import { ensureDebianPackages, ensureDependencies } from './setup.mjs';
import { CHECK, CI, runSteps, vitest } from './suites.mjs';

const FUZZ_SEED = '1';

const STEPS = [
  ...CHECK,
  { name: 'behaviour', run: () => vitest(['test/behaviour']) },
  { name: 'interop', run: () => vitest(['test/interop']) },
  { name: 'fuzz', run: () => vitest(['test/fuzz'], { env: { FUZZ_SEED: FUZZ_SEED } }) },
  { name: 'openssh', run: opensshSuite },
  ...LINES.map((line) => ({ name: `node${line}`, run: () => onNode(line) })),
];

/** The same suites, and the programs under test, on another line of Node. */
async function onNode(line) {
  const node = ensureNodes().get(line);
  if (node === undefined) {
    const note = `no Node ${line} for ${process.platform} ${process.arch} in test/nodes/package.json: not run`;
    return { passed: 0, failed: CI ? 1 : 0, notes: [note] };
  }
  // In the cache folder under node_modules: ignored by all tools, and koffi is found from there.
  const { out } = await build({ out: `node_modules/.cache/latchkey/node${line}`, node });
  return vitest(['test/unit', 'test/behaviour', 'test/interop'], { node, build: out });
}

ensureDependencies();
const names = process.argv.slice(2).flatMap((name) => (name === 'check' ? CHECK.map((step) => step.name) : [name]));
const unknown = names.filter((name) => !STEPS.some((step) => step.name === name));
if (unknown.length > 0) {
  console.error(`no such suite: ${unknown.join(', ')} (check, ${STEPS.map((step) => step.name).join(', ')})`);
  process.exit(1);
}
ensureDebianPackages(names.length > 0);
await build();
const steps = names.length > 0 ? STEPS.filter((step) => names.includes(step.name)) : STEPS;
process.exitCode = (await runSteps(steps)) ? 0 : 1;
