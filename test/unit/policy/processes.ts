/** Processes for the tests of policy, as the system tells of them. */
import type { Peer, PeerProcess } from '../../../src/policy/facts.ts';

export interface Given extends Partial<Omit<PeerProcess, 'claimedArguments'>> {
  /** The command line in one: words between blanks. */
  readonly line?: string;
  readonly claimedArguments?: readonly string[];
}

/** A process of group and session 100 that has a terminal, unless said otherwise. */
export function process(pid: number, program: string | undefined, given: Given = {}): PeerProcess {
  const { line, ...rest } = given;
  return {
    pid,
    startTime: String(pid * 10),
    program,
    group: 100,
    session: 100,
    hasTerminal: true,
    folder: '/home/me/src/x',
    isInOurNamespace: true,
    claimedArguments: line === undefined ? [] : line.split(' '),
    ...rest,
  };
}

export function peerOf(processes: readonly PeerProcess[]): Peer {
  return { uid: 1000, pid: processes[0]?.pid, processes: () => processes };
}

/** The shell of a terminal, waiting for its owner. */
export const shell: PeerProcess = process(100, '/usr/bin/bash', { line: '-bash', folder: '/home/me' });
export const terminal: PeerProcess = process(50, '/usr/libexec/gnome-terminal-server', {
  hasTerminal: false,
  session: 50,
});
export const init: PeerProcess = process(1, undefined, { line: '/sbin/init splash', hasTerminal: false, session: 1 });
