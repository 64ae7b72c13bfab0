// The import table (the floors of the design): checks each import in src, static, dynamic or of types alone, and that
// no file imports itself by a circle. Prints `file:line: what is wrong`; exits 1 when something is.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { pathToFileURL } from 'node:url';
import { root } from './setup.mjs';

const NOBLE = '@noble/post-quantum';
const HIGH = ['wire', 'native', 'keys', 'store', 'policy', 'agent', 'client', 'server', 'backends'];
// `from`: the floors (or single files) that a floor may import beside itself; `types`: for types alone;
// `node`: the modules of Node (true: any); `npm`: packages, by file where not the whole floor may ('*').
const TABLE = {
  wire: { from: [] },
  native: { from: [], node: true, npm: { '*': ['koffi'] } },
  keys: {
    from: ['wire', 'native'],
    node: ['node:crypto'],
    npm: { 'mldsa.ts': [NOBLE], 'mldsasigner.ts': [NOBLE], 'argon2.ts': ['hash-wasm'] },
  },
  store: { from: ['wire', 'keys'] },
  policy: { from: ['wire', 'keys'], types: ['store'] },
  agent: { from: ['wire', 'keys', 'store', 'policy'] },
  client: { from: ['wire', 'keys'], nodeIn: { 'connect.ts': ['node:net'] } },
  server: { from: ['agent', 'wire', 'native'], node: true },
  backends: { from: ['keys', 'client', 'wire', 'agent/ports.ts'], node: true, npm: { '*': true } },
  testing: { from: HIGH, node: true, npm: { '*': ['koffi'] } },
  cli: { from: [...HIGH, 'testing'], node: true, npm: { '*': true } },
  'index.ts': { from: HIGH },
};
const IMPORT =
  /^[ \t]*(?:import|export)\s+(type\s)?(?:[^'";]*?\sfrom\s+)?'([^']+)'|\b(?:import|require)\(\s*('[^']*'|[^)]*)/gm;

/** @returns {string[]} what is wrong, a line each; [] when nothing is */
export function checkImports() {
  const src = join(root, 'src');
  const wrong = [];
  const graph = new Map();
  const files = readdirSync(src, { recursive: true }).filter((name) => name.endsWith('.ts'));
  for (const file of files.sort()) {
    const text = readFileSync(join(src, file), 'utf8').replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, blank);
    const floor = file.split('/')[0];
    const row = TABLE[floor];
    const edges = [];
    const packages = new Set();
    const say = (at, what) => wrong.push(`src/${file}:${text.slice(0, at).split('\n').length}: ${what}`);
    if (row === undefined) wrong.push(`src/${file}:1: no floor of the import table`);
    else {
      for (const match of text.matchAll(IMPORT)) {
        const given = match[2] ?? match[3];
        const name = given.replaceAll("'", '');
        const at = match.index + match[0].indexOf(given);
        if (match[3] !== undefined && !match[3].startsWith("'")) say(at, `import of a computed name: ${given}`);
        else if (name.startsWith('.')) {
          const target = normalize(join(dirname(file), name));
          // An import of types alone is gone at run time: two files may name each other's types.
          if (!match[1]) edges.push(target);
          if (!files.includes(target)) say(at, `there is no src/${target}`);
          else if (!mayImport(row, floor, target, match[1])) say(at, `${floor} may not import src/${target}`);
        } else if (name.startsWith('node:')) {
          const allowed = row.nodeIn?.[file.slice(floor.length + 1)] ?? row.node ?? [];
          if (allowed !== true && !allowed.includes(name)) say(at, `${floor} may not import ${name} here`);
        } else {
          const pack = name.split('/', name.startsWith('@') ? 2 : 1).join('/');
          const allowed = row.npm?.[file.slice(floor.length + 1)] ?? row.npm?.['*'] ?? [];
          if (allowed !== true && !allowed.includes(pack)) say(at, `${floor} may not import the package ${pack} here`);
          packages.add(pack);
          if (floor === 'backends' && packages.size > 1) say(at, `one library each: ${[...packages].join(', ')}`);
        }
      }
    }
    graph.set(file, edges);
  }
  return [...wrong, ...circles(graph)];
}

/** Spaces in place of a comment, so that line numbers stay. */
const blank = (text) => text.replace(/[^\n]/g, ' ');

function mayImport(row, floor, target, typesAlone) {
  const there = target.split('/')[0];
  if (there === floor && floor !== 'index.ts') return true;
  return row.from.includes(there) || row.from.includes(target) || (typesAlone && (row.types ?? []).includes(there));
}

/** Walks the graph in depth; a file met again while it is still open closes a circle. */
function circles(graph) {
  const found = [];
  const state = new Map();
  const walk = (file, path) => {
    if (state.get(file) === 'done') return;
    if (state.get(file) === 'open') {
      found.push(`src/${file}:1: circle: ${[...path.slice(path.indexOf(file)), file].join(' -> ')}`);
      return;
    }
    state.set(file, 'open');
    for (const next of graph.get(file) ?? []) walk(next, [...path, file]);
    state.set(file, 'done');
  };
  for (const file of graph.keys()) walk(file, []);
  return found;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const wrong = checkImports();
  for (const line of wrong) console.error(line);
  process.exitCode = wrong.length > 0 ? 1 : 0;
}
