/**
 * Everything that is known about one request to sign when it is decided: plain data, frozen. What a peer says of itself
 * (its command line) is a claim and stands apart from what the kernel or a signature vouches for.
 */
import type { Entry } from '../store/entry.ts';
import type { SignedData } from '../wire/signeddata.ts';
import type { Bindings } from './bindings.ts';

/** A process as the system tells of it. */
export interface PeerProcess {
  readonly pid: number;
  /** Clock ticks since the system started; with the pid it names a process for good. */
  readonly startTime: string | undefined;
  /** Path of its program; undefined where the process hides it. */
  readonly program: string | undefined;
  /** Its command line: a claim, since every process can rewrite its own. */
  readonly claimedArguments: readonly string[];
}

/** Who holds the other end of a connection. */
export interface Peer {
  readonly uid: number;
  readonly pid: number | undefined;
  /** The process and its ancestors, nearest first; read when first asked for, and empty where it is gone. */
  processes(): readonly PeerProcess[];
}

export interface Facts {
  readonly entry: Entry;
  readonly signed: SignedData;
  readonly bindings: Bindings;
  readonly peer: Peer | undefined;
  /** Seconds since 1970, for host certificates. */
  readonly nowSeconds: number;
}
