/**
 * Everything that is known about one request to sign when it is decided: plain data, frozen. What a peer says of itself
 * (its command line) and what a remote host says is a claim, and stands apart from what the kernel or a signature vouches
 * for: fields that hold claims are called so.
 */
import type { Entry } from '../store/entry.ts';
import type { SignedData } from '../wire/signeddata.ts';
import type { Binding, Bindings } from './bindings.ts';
import type { Guard } from './guard.ts';

/** A process as the system tells of it. */
export interface PeerProcess {
  readonly pid: number;
  /** Clock ticks since the system started; with the pid it names a process for good. */
  readonly startTime: string | undefined;
  /** Path of its program; undefined where the process hides it. */
  readonly program: string | undefined;
  /** Leader of its process group, which is a shell's job. */
  readonly group: number | undefined;
  /** Leader of its session. */
  readonly session: number | undefined;
  readonly hasTerminal: boolean;
  /** Its working directory. */
  readonly folder: string | undefined;
  /** False: it runs in another pid namespace, a container as a rule. */
  readonly isInOurNamespace: boolean | undefined;
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

/** A host that a connection is bound to: its key signed the session. */
export interface Host {
  readonly binding: Binding;
  /** SHA256 fingerprint of its key. */
  readonly fingerprint: string;
  /** Every name that known_hosts has for this very key, or that an authority known there certifies: verified. */
  readonly names: readonly string[];
  /** Hashed lines of known_hosts with this key whose name nobody could tell. */
  readonly hidden: number;
  /** Whether known_hosts calls the key, or the authority that certifies it, revoked: it has no names then. */
  readonly isRevoked?: boolean;
}

/** What is known of a connection, whatever is asked over it. */
export interface Circumstances {
  readonly peer: Peer | undefined;
  /** The guard whose socket it came through; undefined: the agent's own. */
  readonly guard: Guard | undefined;
  readonly bindings: Bindings;
  /** One for each of `bindings.list`, in its order: nearest host first. */
  readonly hosts: readonly Host[];
  /** Why it is taken for a relay of another machine though it does not say so; undefined: nothing was noticed. */
  readonly relay: string | undefined;
  /** Whether it may come from another machine: a binding that forwards or failed, a guard, a relay. Never taken back. */
  readonly forwarded: boolean;
}

export interface Facts extends Circumstances {
  readonly entry: Entry;
  readonly signed: SignedData;
  /** Seconds since 1970, for host certificates. */
  readonly nowSeconds: number;
}

/** What a signature is for, as rules and records call it. A blind login is for a session that no verified binding names. */
export type Purpose = 'login' | 'blind-login' | 'sshsig' | 'sudo' | 'certificate' | 'webauthn' | 'unidentified';
