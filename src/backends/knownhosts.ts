/**
 * The owner's known_hosts files, for the names of verified host keys. Read when first asked for and again when one of them
 * changed. A file that is missing, broken or too large gives no names and never an error.
 */
import { closeSync, constants, fstatSync, openSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { HostNames, Hosts } from '../agent/ports.ts';
import { hostNamesOf, indexKnownHosts, type KnownHostsFile, type KnownHostsIndex } from '../keys/knownhosts.ts';
import type { PublicKey } from '../keys/publickey.ts';
import { base64 } from '../wire/bytes.ts';

/** Of one file; 100,000 lines take a third of it. A larger one counts as missing. */
export const MAX_KNOWN_HOSTS_BYTES = 64 * 1024 * 1024;
/** How long the files are not looked at again, in milliseconds. */
export const RECHECK_MS = 100;
/** Answers that are kept, for as long as no file changes. */
const MAX_ANSWERS = 256;

/** Where ssh looks by default. */
export function knownHostsPaths(home: string): readonly string[] {
  return [
    join(home, '.ssh', 'known_hosts'),
    join(home, '.ssh', 'known_hosts2'),
    '/etc/ssh/ssh_known_hosts',
    '/etc/ssh/ssh_known_hosts2',
  ];
}

export interface KnownHostsOptions {
  readonly paths: readonly string[];
  /** Seconds since 1970, for certificates. */
  readonly wallSeconds?: () => number;
  /** Milliseconds that only grow. */
  readonly now?: () => number;
}

/** Tells two contents of a file apart; '' for a file that is not there. */
function versionOf(path: string): string {
  try {
    const stat = statSync(path, { bigint: true });
    return `${stat.dev} ${stat.ino} ${stat.size} ${stat.mtimeNs} ${stat.ctimeNs}`;
  } catch {
    return '';
  }
}

function contentOf(path: string): string {
  let fd: number | undefined;
  try {
    // A named pipe in its place would wait for a writer.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const stat = fstatSync(fd);
    return stat.isFile() && stat.size <= MAX_KNOWN_HOSTS_BYTES ? readFileSync(fd, 'utf8') : '';
  } catch {
    return '';
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

export class KnownHosts implements Hosts {
  readonly #options: Required<KnownHostsOptions>;
  #versions: readonly string[] = [];
  #checkedAt = Number.NEGATIVE_INFINITY;
  #index: KnownHostsIndex = indexKnownHosts([]);
  readonly #answers = new Map<string, HostNames>();

  constructor(options: KnownHostsOptions) {
    this.#options = { wallSeconds: () => Date.now() / 1000, now: () => performance.now(), ...options };
  }

  namesOf(hostKey: PublicKey, candidates: readonly string[]): HostNames {
    this.#refresh();
    const nowSeconds = this.#options.wallSeconds();
    // A certificate's answer changes with time alone.
    if (hostKey.certificate !== undefined) return hostNamesOf(hostKey, this.#index, candidates, nowSeconds);
    const name = JSON.stringify([base64(hostKey.plainBlob), ...candidates]);
    const known = this.#answers.get(name);
    if (known !== undefined) return known;
    const found = hostNamesOf(hostKey, this.#index, candidates, nowSeconds);
    const oldest = this.#answers.keys().next();
    if (this.#answers.size >= MAX_ANSWERS && !oldest.done) this.#answers.delete(oldest.value);
    this.#answers.set(name, found);
    return found;
  }

  #refresh(): void {
    const { paths, now } = this.#options;
    const at = now();
    if (at - this.#checkedAt < RECHECK_MS) return;
    this.#checkedAt = at;
    const versions = paths.map(versionOf);
    if (versions.every((version, i) => version === this.#versions[i])) return;
    // Taken before reading: a change in between is seen the next time.
    this.#versions = versions;
    this.#answers.clear();
    const files: KnownHostsFile[] = paths
      .filter((_, i) => versions[i] !== '')
      .map((path) => ({ path, content: contentOf(path) }));
    this.#index = indexKnownHosts(files);
  }
}

/** The owner's known_hosts, in the places where ssh looks by default. */
export function createKnownHosts(home: string): Hosts {
  return new KnownHosts({ paths: knownHostsPaths(home) });
}
