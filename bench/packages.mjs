// The Debian packages of the benchmark (debian-packages.txt): installed as root, told otherwise. An agent that is not
// there is not measured; only the compiler has to be.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

export function ensurePackages() {
  const text = readFileSync(new URL('debian-packages.txt', import.meta.url), 'utf8');
  const wanted = text.split('\n').flatMap((line) => line.replace(/#.*/, '').trim() || []);
  // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query's own placeholders
  const query = spawnSync('dpkg-query', ['-W', '-f=${db:Status-Abbrev} ${Package}\\n', ...wanted], {
    encoding: 'utf8',
  });
  if (query.error !== undefined) return;
  const have = query.stdout.split('\n').flatMap((line) => (line.startsWith('ii ') ? line.slice(3).trim() : []));
  const missing = wanted.filter((name) => !have.includes(name));
  if (missing.length === 0) return;
  const words = ['install', '-y', '--no-install-recommends', ...missing];
  if (process.getuid?.() !== 0) {
    console.log(`for all figures, type: sudo apt-get ${words.join(' ')}`);
    return;
  }
  console.log(`installing Debian packages: ${missing.join(' ')}`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const apt = (...more) => spawnSync('apt-get', ['-o', 'DPkg::Lock::Timeout=300', ...more], { env, encoding: 'utf8' });
  let run = apt(...words);
  if (run.status !== 0) {
    apt('update');
    run = apt(...words);
  }
  if (run.status !== 0) console.error(`could not install them:\n${run.stderr}`);
}
