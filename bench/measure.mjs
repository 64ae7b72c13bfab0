// Running the load generator, reading the memory of processes, and the few statistics that the figures need.
import { spawn, spawnSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { plainEnvironment } from './agents.mjs';

const folder = import.meta.dirname ?? new URL('.', import.meta.url).pathname;

/** Compiles the load generator into `work`. @returns its path */
export function buildLoad(work) {
  const out = join(work, 'load');
  const run = spawnSync('cc', ['-O2', '-Wall', '-o', out, join(folder, 'load.c')], { encoding: 'utf8' });
  if (run.status !== 0) throw new Error(`cannot compile bench/load.c: ${run.stderr ?? run.error?.message}`);
  return out;
}

/** The load generator as a function: words in, its line of JSON out. */
export class Load {
  #path;
  #children = new Set();

  constructor(path) {
    this.#path = path;
  }

  spawn(words, stdin = 'ignore') {
    const child = spawn(this.#path, words.map(String), { stdio: [stdin, 'pipe', 'pipe'], env: plainEnvironment('/') });
    this.#children.add(child);
    child.on('close', () => this.#children.delete(child));
    return child;
  }

  /** @throws Error with what it said where it fails */
  run(...words) {
    return new Promise((resolve, reject) => {
      const child = this.spawn(words);
      let [out, err] = ['', ''];
      child.stdout.on('data', (text) => {
        out += text;
      });
      child.stderr.on('data', (text) => {
        err += text;
      });
      child.on('close', (code) => {
        if (code === 0) resolve(JSON.parse(out));
        else reject(new Error(err.trim() || `load ${words[0]} ended with ${code}`));
      });
    });
  }

  /** Many commands one after another, in a given environment. @returns wall and processor milliseconds of each */
  commands(count, words, env) {
    const run = spawnSync(this.#path, ['spawn', '-n', String(count), '--', ...words], { env, encoding: 'utf8' });
    return JSON.parse(run.stdout).runs;
  }

  /** Milliseconds until the agent answered. */
  start(socket, words, env, cwd) {
    const run = spawnSync(this.#path, ['start', '-s', socket, '--', ...words], { env, cwd, encoding: 'utf8' });
    return JSON.parse(run.stdout).milliseconds;
  }

  /** Holds `count` idle connections. @returns how to let them go */
  async hold(socket, count) {
    const child = this.spawn(['idle', '-s', socket, '-c', count], 'pipe');
    child.stderr.resume();
    const gone = new Promise((resolve) => child.once('exit', resolve));
    const ready = await new Promise((resolve) => {
      child.stdout.on('data', () => resolve(true));
      gone.then(() => resolve(false));
    });
    if (!ready) return undefined;
    return () => {
      child.stdin.end();
      return gone;
    };
  }

  stop() {
    for (const child of this.#children) child.kill('SIGKILL');
  }
}

export function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Rounds of one point as one: medians, the worst of the maxima, the sum of what went wrong. */
export function together(rounds) {
  const good = rounds.filter((round) => round !== undefined);
  if (good.length === 0) return undefined;
  const of = (name) => good.map((round) => round[name]);
  return {
    rate: median(of('rate')),
    rates: of('rate'),
    p50: median(of('p50')),
    p99: median(of('p99')),
    max: Math.max(...of('max')),
    failures: of('failures').reduce((sum, one) => sum + one, 0),
  };
}

/**
 * Resident and private memory of these processes together, in KiB.
 * @returns rss: all resident pages; private: those that no other process maps (smaps_rollup, or where that may not be
 * read the anonymous pages of /proc/PID/status)
 */
export function memory(pids) {
  let [rss, own] = [0, 0];
  for (const pid of pids) {
    const field = (text, name) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(text)?.[1] ?? 0);
    try {
      const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
      rss += field(text, 'Rss');
      own += field(text, 'Private_Clean') + field(text, 'Private_Dirty');
    } catch {
      const text = readFileSync(`/proc/${pid}/status`, 'utf8');
      rss += field(text, 'VmRSS');
      own += field(text, 'RssAnon') + field(text, 'RssShmem');
    }
  }
  return { rss, private: own };
}

/** What `openssl speed` signs a second with that many processes; undefined where there is no openssl. */
export function opensslSpeed(type, processes, seconds) {
  const words = ['speed', '-seconds', String(seconds), ...(processes > 1 ? ['-multi', String(processes)] : []), type];
  const run = spawnSync('openssl', words, { encoding: 'utf8' });
  const line = /^rsa\s+\d+ bits\s+\S+\s+\S+\s+([\d.]+)/m.exec(run.stdout ?? '');
  return line === null ? undefined : Number(line[1]);
}

/** Bytes of a file. */
export const sizeOf = (path) => statSync(path).size;
