// Builds dist/ (the programs, the library, its types) and bin/ (the launchers). Quick when nothing changed.
//   node scripts/build.mjs [--out DIR] [--node PATH] [--portable]
// --out DIR   writes DIR/dist and DIR/bin (default: the checkout).
// --node PATH the Node.js that the launchers start (default: the one that runs this).
// --portable  for the package: launchers that know neither place nor Node of this machine, and look for both.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, realpathSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { apart, koffi, lazy, VENDORED } from './plugins.mjs';
import { put, putProgram } from './programs.mjs';
import { ensureDependencies, root } from './setup.mjs';

const PROGRAMS = ['ssh-agent', 'ssh-add', 'latchkey'];
/** What becomes a file of its own in dist/. Those that only we start or load have no launcher. */
const SOURCES = {
  'ssh-agent': 'src/cli/ssh-agent.main.ts',
  'ssh-add': 'src/cli/ssh-add.main.ts',
  'ssh-add-actions': 'src/cli/ssh-add-actions.ts',
  latchkey: 'src/cli/latchkey.main.ts',
  'pkcs11-helper': 'src/cli/pkcs11-helper.main.ts',
  configurationschema: 'src/cli/configurationschema.ts',
  crew: 'src/cli/crew.main.ts',
};
const ALL = Object.keys(SOURCES);
const DOORS = {
  index: 'src/index.ts',
  client: 'src/client/index.ts',
  server: 'src/server/index.ts',
  testing: 'src/testing/index.ts',
};
// A chunk of an older build stays for a while: an agent that started with it may still want to load it.
const KEEP_CHUNKS_MS = 24 * 3600 * 1000;
/** Names after which a program may start a command: see the launcher. */
const COMMAND_PATTERN = { 'ssh-agent': '[!-]*', 'ssh-add': '--', latchkey: '--' };

/**
 * Builds where needed; returns the folders.
 * @param {{ out?: string, node?: string, portable?: boolean }} options
 */
export async function build(options = {}) {
  const began = Date.now();
  const out = resolve(options.out ?? root);
  const dist = join(out, 'dist');
  const node = options.portable ? '' : resolve(options.node ?? process.execPath);
  const entries = [...Object.values(SOURCES), ...Object.values(DOORS)];
  const missing = entries.filter((entry) => !existsSync(join(root, entry)));
  if (missing.length > 0) throw new Error(`these entries are missing: ${missing.join(', ')}`);
  const stampFile = join(dist, '.stamp');
  const stamp = fingerprint(out, node);
  if (existsSync(stampFile) && readFileSync(stampFile, 'utf8') === stamp && complete(out)) {
    return { out, built: false };
  }
  const esbuild = await import('esbuild');
  mkdirSync(dist, { recursive: true });
  const written = new Set();
  const bundled = new Set();
  const common = {
    absWorkingDir: root,
    outdir: dist,
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node20.20',
    external: ['koffi'],
    // Modules of the packages where they have them: UMD files can't be cut to what is used.
    mainFields: ['module', 'main'],
    outExtension: { '.js': '.mjs' },
    chunkNames: 'chunks/[name]-[hash]',
    entryNames: '[name]',
    legalComments: 'none',
    logLevel: 'warning',
    write: false,
    metafile: true,
  };
  // Each program is one CommonJS file, with what it may need later in functions that run when it does: Node starts that
  // some 15 ms sooner than modules in several files. The library's doors are built together, so that a class is the
  // same one behind each.
  const cjs = { ...common, splitting: false, format: 'cjs', outExtension: { '.js': '.cjs' } };
  // import() would start the machinery for modules, for files that are none.
  const program = {
    ...cjs,
    // Their text lies in the heap as long as they run. Lines, since Node shows the one that failed.
    minify: true,
    lineLimit: 160,
    external: [],
    plugins: [apart, koffi(options.portable === true), lazy],
    define: { 'process.env.LATCHKEY_LAYOUT': JSON.stringify(layout()) },
    supported: { 'dynamic-import': false },
  };
  const builds = [
    ...ALL.map((name) => ({ ...program, entryPoints: { [name]: SOURCES[name] } })),
    { ...common, entryPoints: DOORS },
    { ...cjs, entryPoints: VENDORED, entryNames: 'vendor/[name]' },
  ];
  for (const one of builds) {
    const result = await esbuild.build(one);
    for (const input of Object.keys(result.metafile.inputs)) {
      const match = /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(input);
      if (match) bundled.add(match[1]);
    }
    // Chunks first: an entry never names a file that isn't there yet.
    const files = result.outputFiles.sort((a, b) => Number(isChunk(b.path)) - Number(isChunk(a.path)));
    for (const file of files) {
      const name = ALL.find((one) => file.path === join(dist, `${one}.cjs`));
      if (name !== undefined) for (const path of putProgram(dist, name, file.text, node)) written.add(path);
      else put(file.path, file.contents);
      written.add(file.path);
    }
  }
  put(join(dist, 'THIRD-PARTY.txt'), thirdParty([...bundled].sort()));
  pruneChunks(join(dist, 'chunks'), written);
  emitTypes(join(dist, 'types'));
  if (relative(root, out).startsWith('..') && !existsSync(join(out, 'node_modules'))) {
    symlinkSync(join(root, 'node_modules'), join(out, 'node_modules'));
  }
  const { DROPPED, SHELLS_OWN } = await environmentLists(esbuild);
  // Its service would stay as long as whoever builds: `npm start` lives as long as the agent.
  await esbuild.stop();
  mkdirSync(join(out, 'bin'), { recursive: true });
  for (const name of PROGRAMS) {
    put(
      join(out, 'bin', name),
      launcher(name, { home: options.portable ? '' : out, node, DROPPED, SHELLS_OWN }),
      0o755,
    );
  }
  put(stampFile, stamp);
  console.log(`built ${relative(root, dist) || 'dist'} in ${((Date.now() - began) / 1000).toFixed(1)} s`);
  return { out, built: true };
}

const isChunk = (path) => path.includes('/chunks/');

/** What the outcome depends on, as one hash: times and sizes of the sources, the Node that the launchers start. */
function fingerprint(out, node) {
  const hash = createHash('sha256').update(JSON.stringify([out, node, process.version]));
  if (node !== '') hash.update(`${realpathSync(node)} ${statSync(node).mtimeMs}`);
  const files = ['package.json', 'package-lock.json', 'tsconfig.json', 'tsconfig.build.json'];
  for (const folder of ['src', 'scripts']) {
    for (const name of readdirSync(join(root, folder), { recursive: true }).sort()) files.push(join(folder, name));
  }
  for (const file of files) {
    const stat = statSync(join(root, file), { throwIfNoEntry: false });
    if (stat?.isFile()) hash.update(`${file} ${stat.mtimeMs} ${stat.size}\n`);
  }
  return hash.digest('hex');
}

/** What the agent and its second thread agree on, as a hash: see src/native/joblist.ts. */
function layout() {
  const hash = createHash('sha256');
  for (const name of ['joblist', 'signing']) hash.update(readFileSync(join(root, `src/native/${name}.ts`)));
  return hash.digest('hex');
}

function complete(out) {
  const files = [...ALL.map((name) => `${name}.cjs`), ...Object.keys(DOORS).map((name) => `${name}.mjs`)].map((name) =>
    join(out, 'dist', name),
  );
  return [...files, ...PROGRAMS.map((name) => join(out, 'bin', name))].every((file) => existsSync(file));
}

function pruneChunks(folder, written) {
  if (!existsSync(folder)) return;
  for (const name of readdirSync(folder)) {
    const path = join(folder, name);
    const kept = !name.endsWith('.cache') && Date.now() - statSync(path).mtimeMs <= KEEP_CHUNKS_MS;
    if (!written.has(path) && !kept) rmSync(path);
  }
}

/** Declarations of the library. Types are checked by `npm run check`, not here. */
function emitTypes(folder) {
  const tsc = join(root, 'node_modules/typescript/bin/tsc');
  rmSync(folder, { recursive: true, force: true });
  const run = spawnSync(process.execPath, [tsc, '-p', join(root, 'tsconfig.build.json'), '--outDir', folder], {
    encoding: 'utf8',
  });
  if (run.status !== 0) throw new Error(`tsc could not write the declarations:\n${run.stdout}${run.stderr}`);
}

/** The notices of what is bundled. koffi is no part of the bundle: npm installs it with its own licence. */
function thirdParty(folders) {
  const parts = ["Parts of these packages are in the files of this folder. Latchkey's own licence is in LICENSE.\n"];
  for (const folder of folders) {
    const { name, version, license } = JSON.parse(readFileSync(join(root, folder, 'package.json'), 'utf8'));
    const file = readdirSync(join(root, folder)).find((entry) => /^(licen[cs]e|copying)/i.test(entry));
    if (file === undefined) throw new Error(`${name} has no licence file to take over`);
    const text = readFileSync(join(root, folder, file), 'utf8').trim();
    parts.push(`${'-'.repeat(80)}\n${name} ${version} (${license})\n\n${text}\n`);
  }
  return parts.join('\n');
}

/** The lists of src/cli/environment.ts. */
async function environmentLists(esbuild) {
  const result = await esbuild.build({
    absWorkingDir: root,
    entryPoints: ['src/cli/environment.ts'],
    bundle: true,
    format: 'esm',
    write: false,
  });
  const text = Buffer.from(result.outputFiles[0].contents).toString('base64');
  return import(`data:text/javascript;base64,${text}`);
}

/** Fills the template. Flags that a Node refuses would keep it from starting: each is tried here. */
export function launcher(name, { home, node, DROPPED, SHELLS_OWN }) {
  const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  // One thread for the engine, the fewest there are: our programs are too short or too idle for more, and each costs
  // memory and time.
  const flags = ['--no-warnings', '--no-global-search-paths', '--v8-pool-size=1'];
  const knows = (flag) => spawnSync(node, [flag, '-e', '0'], { env: {}, stdio: 'ignore' }).status === 0;
  const known = node !== '' && knows('--disable-sigusr1') ? ['--disable-sigusr1', ...flags] : flags;
  const { engines } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const values = {
    NAME: name,
    HOME: quote(home),
    NODE: quote(node),
    FLAGS: known.join(' '),
    ANY_FLAGS: flags.join(' '),
    COMMAND_PATTERN: COMMAND_PATTERN[name],
    DROPPED: DROPPED.join(' '),
    KEPT: DROPPED.map((variable) => `LATCHKEY_KEPT_${variable}`).join(' '),
    ANY_DROPPED: DROPPED.map((variable) => `\${${variable}+x}`).join(''),
    SHELLS_OWN: SHELLS_OWN.map((variable) => `-e '/^${variable}=/p'`).join(' '),
    ENGINE: engines.node,
  };
  const template = readFileSync(join(root, 'scripts/launcher.sh'), 'utf8');
  return template.replaceAll(/@([A-Z_]+)@/g, (_, key) => values[key]);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const { values } = parseArgs({
    options: { out: { type: 'string' }, node: { type: 'string' }, portable: { type: 'boolean' } },
  });
  ensureDependencies();
  const { built } = await build(values);
  if (!built) console.log('build: nothing changed');
}
