// What the scripts need before they can work: the right Node, the npm packages, and for the tests Debian packages.
// Each step says what it does, and does nothing when it was done before.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The checkout's folder. */
export const root = dirname(dirname(fileURLToPath(import.meta.url)));

const read = (path) => JSON.parse(readFileSync(path, 'utf8'));

/** Ends the process when this Node is older than package.json's engines. */
export function requireNode() {
  const wanted = read(join(root, 'package.json')).engines.node.replace('>=', '').split('.').map(Number);
  const have = process.versions.node.split('.').map(Number);
  if (have[0] > wanted[0] || (have[0] === wanted[0] && have[1] >= wanted[1])) return;
  console.error(
    `Latchkey needs Node.js ${wanted.join('.')} or later; this is ${process.version} (${process.execPath})`,
  );
  process.exit(1);
}

/** True when `folder`/node_modules is what its package-lock.json says, by npm's own record of it. */
function installed(folder) {
  const record = join(folder, 'node_modules/.package-lock.json');
  if (!existsSync(record)) return false;
  const have = read(record).packages;
  for (const [path, wanted] of Object.entries(read(join(folder, 'package-lock.json')).packages)) {
    if (path === '') continue;
    const found = have[path];
    if (found === undefined ? !wanted.optional && !wanted.peer : found.version !== wanted.version) return false;
    if (found !== undefined && !existsSync(join(folder, path, 'package.json'))) return false;
  }
  return true;
}

/** `npm ci` in `folder` when its packages are missing or others than the lock file's. No install script is run. */
export function ensureDependencies(folder = root, why = '') {
  requireNode();
  if (installed(folder)) return;
  console.log(`installing npm packages${why} (npm ci)`);
  const npm = process.env.npm_execpath?.endsWith('npm-cli.js') ? [process.execPath, process.env.npm_execpath] : ['npm'];
  const words = [...npm, 'ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
  const run = spawnSync(words[0], words.slice(1), { cwd: folder, stdio: ['ignore', 'inherit', 'inherit'] });
  if (run.error) console.error(`could not start npm: ${run.error.message}`);
  if (run.status !== 0) process.exit(run.status ?? 1);
}

/** The Debian packages that the tests use: scripts/debian-packages.txt, one a line, `#` begins a comment. */
export function debianPackages() {
  const text = readFileSync(join(root, 'scripts/debian-packages.txt'), 'utf8');
  return text
    .split('\n')
    .map((line) => line.replace(/#.*/, '').trim())
    .filter((line) => line !== '');
}

/**
 * Installs the missing ones as root; otherwise prints the line to type and ends the process.
 * @param {boolean} goOn whether to go on where there is no dpkg to ask
 */
export function ensureDebianPackages(goOn = false) {
  const wanted = debianPackages();
  // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query's own placeholders
  const format = '-f=${db:Status-Abbrev} ${Package}\\n';
  const query = spawnSync('dpkg-query', ['-W', format, ...wanted], { encoding: 'utf8' });
  if (query.error) {
    console.error('The tests drive real programs. This is no Debian or Ubuntu, so see for yourself that you have what');
    console.error(`is there in these packages: ${wanted.join(' ')}`);
    if (goOn) return;
    console.error('Then name the suites to run, for example: npm test -- check behaviour');
    process.exit(1);
  }
  const have = new Set(
    query.stdout.split('\n').flatMap((line) => (line.startsWith('ii ') ? [line.slice(3).trim()] : [])),
  );
  const missing = wanted.filter((name) => !have.has(name));
  if (missing.length === 0) return;
  const words = ['apt-get', 'install', '-y', '--no-install-recommends', ...missing];
  if (process.getuid?.() !== 0) {
    console.error(`The tests drive real programs, of which these Debian packages are missing:\n  ${missing.join(' ')}`);
    console.error(`Type: sudo ${words.join(' ')}`);
    process.exit(1);
  }
  console.log(`installing Debian packages: ${missing.join(' ')}`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const apt = (...args) => spawnSync('apt-get', ['-o', 'DPkg::Lock::Timeout=300', ...args], { env, encoding: 'utf8' });
  let run = apt(...words.slice(1));
  if (run.status !== 0) {
    apt('update');
    run = apt(...words.slice(1));
  }
  if (run.status === 0) return;
  console.error(`${run.stdout ?? ''}${run.stderr ?? run.error?.message ?? ''}`.trimEnd());
  console.error(`could not install them: ${words.join(' ')}`);
  process.exit(1);
}
