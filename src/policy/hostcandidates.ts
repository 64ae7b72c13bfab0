/**
 * Names that hashed lines of known_hosts are tried with: the hosts that the command lines of a process and its ancestors
 * name. A claim opens nothing by itself: only a line that holds the verified key and hides this very name confirms it.
 */
import { hostOfRemote, remotesIn, sshArguments } from './arguments.ts';
import type { PeerProcess } from './facts.ts';
import { displayName } from './programs.ts';

/** Names that are tried for one request. */
export const MAX_CANDIDATES = 32;
/** Of a host name, as in the DNS. */
const MAX_HOST_CHARACTERS = 255;
const DEFAULT_PORT = '22';

interface Place {
  readonly host: string;
  readonly port: string | undefined;
}

function placesIn(process: PeerProcess): readonly Place[] {
  const argv = process.claimedArguments;
  switch (displayName(process)) {
    case 'ssh':
    case 'slogin': {
      const found = sshArguments(argv);
      return found === undefined ? [] : [found.host, ...found.aliases].map((host) => ({ host, port: found.port }));
    }
    case 'sftp': {
      const target = argv.at(-1);
      return argv.length < 2 || target === undefined || target.startsWith('-') ? [] : [hostOfRemote(`${target}:`)];
    }
    case 'scp':
    case 'rsync':
    case 'git':
    case 'sshfs':
      return remotesIn(argv).map(hostOfRemote);
    default:
      return [];
  }
}

const candidates = new WeakMap<readonly PeerProcess[], readonly string[]>();

/** As known_hosts writes them: 'host', '[host]:2222'; nearest process first, each once, in lower case. */
export function hostCandidates(processes: readonly PeerProcess[]): readonly string[] {
  let found = candidates.get(processes);
  if (found === undefined) {
    found = Object.freeze(findCandidates(processes));
    candidates.set(processes, found);
  }
  return found;
}

function findCandidates(processes: readonly PeerProcess[]): string[] {
  const found = new Set<string>();
  for (const process of processes) {
    for (const { host, port } of placesIn(process)) {
      if (host === '' || host.length > MAX_HOST_CHARACTERS || /[\s,*?!|@]/.test(host)) continue;
      if (found.size >= MAX_CANDIDATES) return [...found];
      const name = host.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
      found.add(port === undefined || port === DEFAULT_PORT ? name : `[${name}]:${port}`);
    }
  }
  return [...found];
}
