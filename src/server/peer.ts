/** Who connected: credentials from the kernel, the process and its ancestors from /proc when somebody asks (Linux). */
import { closeSync, openSync, readlinkSync, readSync } from 'node:fs';
import type { Peer, PeerProcess } from '../agent/ports.ts';
import { isLinux, type PeerCredentials, peerCredentials, peerLives } from '../native/libc.ts';

/** Ancestors that are looked at: a deep shell has a dozen. */
export const MAX_ANCESTORS = 32;
/** Of a command line, in bytes; other files that are read here are shorter. */
const MAX_READ_BYTES = 4096;
const room = Buffer.alloc(MAX_READ_BYTES);

interface Stat {
  /** One letter, of proc(5). */
  readonly state: string;
  readonly parent: number;
  readonly group: number;
  readonly session: number;
  readonly hasTerminal: boolean;
  readonly startTime: string;
}

/** Ended, and perhaps not yet taken note of by its parent. */
const ENDED_STATES = 'ZXx';

/** The start of a file in /proc/PID, good until the next is read. One read and no more: it is not a file on a disk. */
function read(pid: number, name: string): Buffer {
  const fd = openSync(`/proc/${pid}/${name}`, 'r');
  try {
    return room.subarray(0, readSync(fd, room));
  } finally {
    closeSync(fd);
  }
}

/** Fields 3 to 7 and 22 of /proc/PID/stat; the program's name before them may hold blanks and brackets. */
function readStat(pid: number): Stat | undefined {
  try {
    const text = read(pid, 'stat').toString('latin1');
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    const [state, parent, group, session, terminal] = fields;
    const startTime = fields[19];
    if (state === undefined || startTime === undefined) return undefined;
    return {
      state,
      parent: Number(parent),
      group: Number(group),
      session: Number(session),
      hasTerminal: terminal !== '0',
      startTime,
    };
  } catch {
    return undefined;
  }
}

/** The target of a link in /proc/PID: undefined where the process is gone or hides it. */
function readLink(pid: number | 'self', name: string): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/${name}`);
  } catch {
    return undefined;
  }
}

let ownNamespace: string | undefined;

/** Numbers of the process, one for each pid namespace from ours down to its own: a line that all may read. */
function isNested(pid: number): boolean | undefined {
  try {
    const numbers = /^NSpid:\s*(.*)$/m.exec(read(pid, 'status').toString('latin1'))?.[1];
    return numbers === undefined ? undefined : numbers.trim().split(/\s+/).length > 1;
  } catch {
    return undefined;
  }
}

function readIsInOurNamespace(pid: number): boolean | undefined {
  const theirs = readLink(pid, 'ns/pid');
  if (theirs === undefined) {
    const nested = isNested(pid);
    return nested === undefined ? undefined : !nested;
  }
  ownNamespace ??= readLink('self', 'ns/pid');
  return ownNamespace === undefined ? undefined : theirs === ownNamespace;
}

function readArguments(pid: number): readonly string[] {
  try {
    const words = read(pid, 'cmdline').toString('utf8').split('\0');
    return words.at(-1) === '' ? words.slice(0, -1) : words;
  } catch {
    return [];
  }
}

function describe(pid: number, { group, session, hasTerminal, startTime }: Stat): PeerProcess {
  return Object.freeze({
    pid,
    startTime,
    program: readLink(pid, 'exe'),
    group,
    session,
    hasTerminal,
    folder: readLink(pid, 'cwd'),
    isInOurNamespace: readIsInOurNamespace(pid),
    claimedArguments: readArguments(pid),
  });
}

/**
 * The process that has the number `pid` now; undefined where there is none. Away from Linux its start is not known, nor
 * what it is.
 */
export function processOf(pid: number): PeerProcess | undefined {
  if (!Number.isInteger(pid) || pid <= 0) return undefined;
  if (isLinux) {
    const stat = readStat(pid);
    return stat === undefined || ENDED_STATES.includes(stat.state) ? undefined : describe(pid, stat);
  }
  const unknown = { startTime: undefined, program: undefined, group: undefined, session: undefined };
  const found: PeerProcess = {
    ...unknown,
    pid,
    hasTerminal: false,
    folder: undefined,
    isInOurNamespace: undefined,
    claimedArguments: [],
  };
  return lives(found) ? Object.freeze(found) : undefined;
}

/** Whether that very process still runs, and not another that was given its number. */
export function lives({ pid, startTime }: Pick<PeerProcess, 'pid' | 'startTime'>): boolean {
  if (isLinux) {
    const stat = readStat(pid);
    return stat !== undefined && !ENDED_STATES.includes(stat.state) && stat.startTime === (startTime ?? stat.startTime);
  }
  try {
    return process.kill(pid, 0);
  } catch (error) {
    // Somebody else's process is one that lives.
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function readProcesses(pid: number, startTime: string | undefined): readonly PeerProcess[] {
  const found: PeerProcess[] = [];
  for (let at = pid; at > 0 && found.length < MAX_ANCESTORS; ) {
    const stat = readStat(at);
    // Another start time is another process that was given the number of one that is gone.
    if (stat === undefined || (at === pid && startTime !== undefined && stat.startTime !== startTime)) break;
    found.push(describe(at, stat));
    at = stat.parent;
  }
  return found;
}

/** How long what was read of a process is taken for its other connections, in milliseconds: some open thousands at once. */
const KEPT_MS = 100;
/** Processes that are kept. */
const MAX_KEPT = 64;
const kept = new Map<number, { readonly processes: readonly PeerProcess[]; readonly at: number }>();

/** As readProcesses; what was read a moment ago is good as long as it is that very process and runs that program. */
function processesOf(pid: number, startTime: string | undefined): readonly PeerProcess[] {
  const now = performance.now();
  const known = kept.get(pid);
  const [self] = known?.processes ?? [];
  if (known !== undefined && self !== undefined && now - known.at < KEPT_MS) {
    const stat = readStat(pid);
    const isSame = stat?.startTime === self.startTime && (startTime ?? self.startTime) === self.startTime;
    if (isSame && readLink(pid, 'exe') === self.program) return known.processes;
  }
  const processes = Object.freeze(readProcesses(pid, startTime));
  kept.delete(pid);
  kept.set(pid, { processes, at: now });
  const oldest = kept.keys().next();
  if (kept.size > MAX_KEPT && !oldest.done) kept.delete(oldest.value);
  return processes;
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
    this.#processes ??= this.#read(this.pid);
    return this.#processes;
  }

  #read(pid: number): readonly PeerProcess[] {
    const isThere = this.#startTime !== undefined || (this.#isOpen() && peerLives(this.#fd) === true);
    return isThere ? processesOf(pid, this.#startTime) : [];
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
