// The other lines of Node that the suites run on: binaries from npm, at exact versions, in test/nodes (400 MB, only
// installed when they are asked for). The packages that hold the binary itself are named, since the package `node`
// fetches it in an install script, and none is run here.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { ensureDependencies, root } from './setup.mjs';

/** Lines beside the oldest that package.json allows. */
export const LINES = [24, 26];

/** Installs what is missing. @returns {Map<number, string>} line -> binary; a line without one for this machine is left out */
export function ensureNodes() {
  const folder = join(root, 'test/nodes');
  ensureDependencies(folder, ' of other lines of Node');
  const binary = (line) => join(folder, 'node_modules', `node${line}-${process.platform}-${process.arch}`, 'bin/node');
  return new Map(LINES.map((line) => [line, binary(line)]).filter(([, path]) => existsSync(path)));
}
