// Builds dist/ (the programs, the library, its types) and bin/ (the launchers). Quick when nothing changed.
//   node scripts/build.mjs [--out DIR] [--node PATH] [--portable]
// --out DIR   writes DIR/dist and DIR/bin (default: the checkout).
// --node PATH the Node.js that the launchers start (default: the one that runs this).
// --portable  for the package: launchers that know neither place nor Node of this machine, and look for both.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { ensureDependencies, root } from './setup.mjs';

const PROGRAMS = ['ssh-agent', 'ssh-add', 'latchkey'];
/** Programs that only we start: no launcher. */
const HELPERS = ['pkcs11-helper'];
const ALL = [...PROGRAMS, ...HELPERS];
const DOORS = {
  index: 'src/index.ts',
  client: 'src/client/index.ts',
  server: 'src/server/index.ts',
  testing: 'src/testing/index.ts',
};
// A chunk of an older build stays for a while: an agent that started with it may still want to load it.
const KEEP_CHUNKS_MS = 24 * 3600 * 1000;
/** Libraries that few runs need: files of their own, which a program loads when it does. */
const VENDORED = { 'ml-dsa': '@noble/post-quantum/ml-dsa.js', 'hash-wasm': 'hash-wasm' };
const apart = {
  name: 'apart',
  setup(build) {
    build.onResolve({ filter: /^(@noble\/post-quantum\/|hash-wasm$)/ }, ({ path }) => {
      const found = Object.entries(VENDORED).find(([, library]) => library === path);
      if (found === undefined) throw new Error(`${path} is not in VENDORED`);
      return { path: `./vendor/${found[0]}.mjs`, external: true };
    });
  },
};
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
  const entries = [...ALL.map((name) => `src/cli/${name}.main.ts`), ...Object.values(DOORS)];
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
    charset: 'utf8',
    logLevel: 'warning',
    write: false,
    metafile: true,
  };
  // Each program is one CommonJS file, with what it may need later in functions that run when it does: Node starts that
  // some 15 ms sooner than modules in several files. The library's doors are built together, so that a class is the
  // same one behind each.
  const program = { ...common, splitting: false, format: 'cjs', outExtension: { '.js': '.cjs' }, plugins: [apart] };
  const builds = [
    ...ALL.map((name) => ({ ...program, entryPoints: { [name]: `src/cli/${name}.main.ts` } })),
    { ...common, entryPoints: DOORS },
    { ...common, splitting: false, entryPoints: VENDORED, entryNames: 'vendor/[name]' },
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
      const named = ALL.find((name) => file.path === join(dist, `${name}.cjs`));
      // Node 24 and later call the main thread node-MainThread in spite of --title; pgrep and killall look at that name.
      // With LATCHKEY_KEPT_WORDS the command line is still needed, and a title would overwrite it.
      const title = `if (process.env.LATCHKEY_KEPT_WORDS === undefined) process.title = '${named}';`;
      put(file.path, named ? `${title}\n${file.text}` : file.contents);
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

function complete(out) {
  const files = [...ALL.map((name) => `${name}.cjs`), ...Object.keys(DOORS).map((name) => `${name}.mjs`)].map((name) =>
    join(out, 'dist', name),
  );
  return [...files, ...PROGRAMS.map((name) => join(out, 'bin', name))].every((file) => existsSync(file));
}

/** Writes a file at once as a whole: a program that starts meanwhile sees the old one or the new one. */
function put(path, content, mode = 0o644) {
  mkdirSync(dirname(path), { recursive: true });
  const temporary = `${path}.${process.pid}.new`;
  writeFileSync(temporary, content);
  chmodSync(temporary, mode);
  renameSync(temporary, path);
}

function pruneChunks(folder, written) {
  if (!existsSync(folder)) return;
  for (const name of readdirSync(folder)) {
    const path = join(folder, name);
    if (!written.has(path) && Date.now() - statSync(path).mtimeMs > KEEP_CHUNKS_MS) rmSync(path);
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
  const flags = ['--no-warnings', '--no-global-search-paths'];
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
