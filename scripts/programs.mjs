// How a bundled program is written: dist/NAME.cjs is a few lines that load its code from chunks/, with what V8 made of it
// when the Node that the launchers start compiled it at build time. V8 takes that from the same version with the same
// flags alone; else it compiles the code as ever. Whoever could write there could change the code as well.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { root } from './setup.mjs';

/** What scripts/codecache.cjs lets a program do, so that V8 has compiled what most runs need. */
const REHEARSALS = { 'ssh-agent': ['agent'], 'ssh-add': ['list'], 'ssh-add-actions': ['add'] };
/** Longest time for that. */
const REHEARSAL_MS = 20_000;
/** Loaded by another program, whose title stays. */
const UNTITLED = ['ssh-add-actions', 'configurationschema', 'crew'];

/** Writes a file at once as a whole: a program that starts meanwhile sees the old one or the new one. */
export function put(path, content, mode = 0o644) {
  mkdirSync(dirname(path), { recursive: true });
  const temporary = `${path}.${process.pid}.new`;
  writeFileSync(temporary, content);
  chmodSync(temporary, mode);
  renameSync(temporary, path);
}

/**
 * Writes a program.
 * @param {string} node the Node to compile for; '': any, so nothing is compiled
 * @returns {string[]} the files that it has in chunks/
 */
export function putProgram(dist, name, text, node) {
  const code = `(function (exports, require, module, __filename, __dirname) {${text}\n})`;
  // V8 holds what it made against no more than the length of the code, so both names have the code's hash.
  const base = `chunks/${name}-${createHash('sha256').update(code).digest('hex').slice(0, 8)}`;
  const written = [join(dist, `${base}.cjs`)];
  put(written[0], code);
  if (node !== '') written.push(...putCache(join(dist, base), name, node));
  put(join(dist, `${name}.cjs`), loader(name, base));
  return written;
}

function putCache(base, name, node) {
  const made = `${base}.${process.pid}.made`;
  const words = [join(root, 'scripts/codecache.cjs'), `${base}.cjs`, made, ...(REHEARSALS[name] ?? [])];
  const run = spawnSync(node, words, { env: {}, encoding: 'utf8', timeout: REHEARSAL_MS });
  try {
    const version = spawnSync(node, ['-p', 'process.version + "-" + process.arch'], { env: {}, encoding: 'utf8' });
    const path = `${base}-${version.stdout.trim()}.cache`;
    put(path, readFileSync(made));
    return [path];
  } catch (error) {
    console.log(`${name} will start slower: V8's code for it was not stored: ${run.stderr || error.message}`);
    return [];
  } finally {
    rmSync(made, { force: true });
  }
}

function loader(name, base) {
  // Node 24 and later call the main thread node-MainThread in spite of --title; pgrep and killall look at that name.
  // With LATCHKEY_KEPT_WORDS the command line is still needed, and a title would overwrite it.
  const title = `if (process.env.LATCHKEY_KEPT_WORDS === undefined) process.title = '${name}';\n`;
  return `'use strict';
${UNTITLED.includes(name) ? '' : title}const { readFileSync } = require('node:fs');
const { Script } = require('node:vm');
const base = __dirname + '/${base}';
let cachedData;
try {
  cachedData = readFileSync(base + '-' + process.version + '-' + process.arch + '.cache');
} catch {}
const script = new Script(readFileSync(base + '.cjs', 'utf8'), { filename: base + '.cjs', cachedData });
script.runInThisContext()(exports, require, module, __filename, __dirname);
`;
}
