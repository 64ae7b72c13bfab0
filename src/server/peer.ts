/** Who connected: credentials from the kernel, the process and its ancestors from /proc when somebody asks (Linux). */
import { readFileSync, readlinkSync } from 'node:fs';
import type { Peer, PeerProcess } from '../agent/ports.ts';
import { isLinux, type PeerCredentials, peerCredentials, peerLives } from '../native/libc.ts';

/** Ancestors that are looked at: a deep shell has a dozen. */
export const MAX_ANCESTORS = 32;
/** Of a command line, in bytes. */
const MAX_ARGUMENT_BYTES = 4096;

interface Stat {
  readonly parent: number;
  readonly startTime: string;
}

/** Fields 4 and 22 of /proc/PID/stat; the program's name before them may hold blanks and brackets. */
function readStat(pid: number): Stat | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    const [parent, startTime] = [fields[1], fields[19]];
    return parent === undefined || startTime === undefined ? undefined : { parent: Number(parent), startTime };
  } catch {
    return undefined;
  }
}

function readProgram(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/exe`);
  } catch {
    return undefined;
  }
}

function readArguments(pid: number): readonly string[] {
  try {
    const bytes = readFileSync(`/proc/${pid}/cmdline`).subarray(0, MAX_ARGUMENT_BYTES);
    const words = bytes.toString('utf8').split('\0');
    return words.at(-1) === '' ? words.slice(0, -1) : words;
  } catch {
    return [];
  }
}

function readProcesses(pid: number, startTime: string | undefined): readonly PeerProcess[] {
  const found: PeerProcess[] = [];
  for (let at = pid; at > 0 && found.length < MAX_ANCESTORS; ) {
    const stat = readStat(at);
    // Another start time is another process that was given the number of one that is gone.
    if (stat === undefined || (at === pid && startTime !== undefined && stat.startTime !== startTime)) break;
    found.push({
      pid: at,
      startTime: stat.startTime,
      program: readProgram(at),
      claimedArguments: readArguments(at),
    });
    at = stat.parent;
  }
  return found;
}

/** Undefined until it was tried: whether the system tells if a peer still lives, so that nothing has to be read in advance. */
let tellsLife: boolean | undefined;

class SocketPeer implements Peer {
  readonly uid: number;
  readonly pid: number | undefined;
  readonly #fd: number;
  readonly #isOpen: () => boolean;
  /** Read at once only where a pid that was given to another process later could not be told. */
  readonly #startTime: string | undefined;
  #processes: readonly PeerProcess[] | undefined;

  constructor({ uid, pid }: PeerCredentials, fd: number, isOpen: () => boolean) {
    this.uid = uid;
    this.pid = pid;
    this.#fd = fd;
    this.#isOpen = isOpen;
    tellsLife ??= peerLives(fd) !== undefined;
    this.#startTime = tellsLife || !isLinux || pid === undefined ? undefined : readStat(pid)?.startTime;
  }

  processes(): readonly PeerProcess[] {
    if (!isLinux || this.pid === undefined) return [];
    this.#processes ??= Object.freeze(this.#read(this.pid));
    return this.#processes;
  }

  #read(pid: number): readonly PeerProcess[] {
    const lives = this.#startTime !== undefined || (this.#isOpen() && peerLives(this.#fd) === true);
    return lives ? readProcesses(pid, this.#startTime) : [];
  }
}

/**
 * The peer of a connected Unix socket.
 * @param isOpen whether `fd` is still that socket: its processes can only be told as long as it is
 * @throws SystemError
 */
export function peerOf(fd: number, isOpen: () => boolean = () => true): Peer {
  return new SocketPeer(peerCredentials(fd), fd, isOpen);
}
