// What the bundles of our programs leave out, or load in a way of their own: plugins of esbuild.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './setup.mjs';

/** Libraries that few runs need: files of their own, which a program loads when it does. */
export const VENDORED = { 'ml-dsa': '@noble/post-quantum/ml-dsa.js', 'hash-wasm': 'hash-wasm' };
/** Files that a program loads when it needs them. */
export const apart = {
  name: 'apart',
  setup(build) {
    build.onResolve({ filter: /^(@noble\/post-quantum\/|hash-wasm$)/ }, ({ path }) => {
      const found = Object.entries(VENDORED).find(([, library]) => library === path);
      if (found === undefined) throw new Error(`${path} is not in VENDORED`);
      return { path: `./vendor/${found[0]}.cjs`, external: true };
    });
    build.onResolve({ filter: /^\.\/(ssh-add-actions|configurationschema)\.ts$/ }, ({ path, kind }) =>
      kind === 'entry-point' ? undefined : { path: path.replace(/ts$/, 'cjs'), external: true },
    );
  },
};
/**
 * koffi's own way to its binary costs 5 ms and 200 KB of the heap: the loader of modules, a look into the program's own file,
 * wrappers of what is deprecated. A build for this machine knows where the binary is; one for any asks koffi, as does one
 * whose binary is gone.
 * @param {boolean} portable
 */
export function koffi(portable) {
  const { version } = JSON.parse(readFileSync(join(root, 'node_modules/koffi/package.json'), 'utf8'));
  const folder = `node_modules/@koromix/koffi-${process.platform}-${process.arch}`;
  const binary = `${folder}/${process.platform}_${process.arch}/koffi.node`;
  const { header } = process.report.getReport();
  // The package has a binary for musl as well: koffi finds out which one fits.
  const isKnown = process.platform !== 'linux' || header.glibcVersionRuntime !== undefined;
  const same = (file) => existsSync(file) && JSON.parse(readFileSync(file, 'utf8')).version === version;
  const usable = !portable && isKnown && existsSync(join(root, binary)) && same(join(root, folder, 'package.json'));
  return {
    name: 'koffi',
    setup(build) {
      build.onResolve({ filter: /^koffi$/ }, ({ pluginData }) =>
        !usable || pluginData === 'itself' ? { path: 'koffi', external: true } : { path: 'koffi', namespace: 'binary' },
      );
      build.onLoad({ filter: /.*/, namespace: 'binary' }, () => ({
        contents: KOFFI.replace('BINARY', binary),
        pluginData: 'itself',
      }));
    },
  };
}
const KOFFI = `
let binary;
try {
  binary = require(__dirname + '/../BINARY');
} catch {
  binary = require('koffi');
}
module.exports = binary;
`;
/** Modules of Node's own that are loaded when one of their functions is first used. */
const LAZY = ['node:child_process', 'node:crypto', 'node:net', 'node:tty'];
export const lazy = {
  name: 'lazy',
  setup(build) {
    build.onResolve({ filter: /^node:/ }, ({ path, pluginData, importer }) => {
      // Whoever takes a module as a whole, or is not ours, gets the module itself.
      const takesNames = importer.startsWith(join(root, 'src')) && !takesWhole(readFileSync(importer, 'utf8'), path);
      if (pluginData === 'itself' || !LAZY.includes(path) || !takesNames) return { path, external: true };
      return { path, namespace: 'lazy' };
    });
    build.onLoad({ filter: /.*/, namespace: 'lazy' }, ({ path }) => ({
      contents: `let loaded;
        const load = () => loaded ??= require('${path}');
        ${[...importedFrom(path)].map((name) => LAZY_EXPORT.replaceAll('NAME', name)).join('')}`,
      pluginData: 'itself',
    }));
  },
};
const LAZY_EXPORT = "Object.defineProperty(exports, 'NAME', { enumerable: true, get: () => load().NAME });\n";

const takesWhole = (text, path) =>
  new RegExp(`import (?:\\w+|\\* as \\w+)(?:,[^'"]*)? from '${path}'|\\(\\s*'${path}'`).test(text);

/** The names that our sources import from a module. */
function importedFrom(path) {
  const names = new Set();
  for (const file of readdirSync(join(root, 'src'), { recursive: true })) {
    if (!file.endsWith('.ts')) continue;
    const text = readFileSync(join(root, 'src', file), 'utf8');
    for (const [, list] of text.matchAll(new RegExp(`import \\{([^}]*)\\} from '${path}'`, 'g')))
      for (const name of list.split(',').map((one) => one.trim())) {
        if (name.includes(' as ')) throw new Error(`${file}: ${path} is loaded lazily, under its own names alone`);
        if (/^\w+$/.test(name)) names.add(name);
      }
  }
  return names;
}
