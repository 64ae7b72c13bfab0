/** What the engine needs from outside, as small interfaces; each has a default that is safe and silent. */
import type { Custody } from '../keys/custody.ts';
import { KeyError } from '../keys/error.ts';
import type { HostNames } from '../keys/knownhosts.ts';
import type { PublicKey } from '../keys/publickey.ts';
import type { Signer } from '../keys/signer.ts';
import type { PeerProcess, Purpose } from '../policy/facts.ts';
import type { Scope } from '../policy/rules.ts';
import type { FieldValues } from '../wire/keyshapes.ts';

export interface Clock {
  /** Milliseconds that only ever grow, also while the system's time is set; best ones that count a suspended machine's. */
  now(): number;
  /** Seconds since 1970. */
  wallSeconds(): number;
  /** Calls back once after `milliseconds`. @returns what cancels it */
  after(milliseconds: number, callback: () => void): () => void;
}

/** One lasting answer on offer. */
export interface Offer {
  readonly scope: Scope;
  /** 'until git rebase (pid 4711) ends' */
  readonly text: string;
}

/** What a person is asked. */
export interface Question {
  /** 'q12': what `latchkey approve` takes. */
  readonly id: string;
  /** The words of OpenSSH's confirm_key, which askpass programs and scripts know. */
  readonly opensshText: string;
  readonly sentence: string;
  readonly verified: readonly string[];
  readonly claimed: readonly string[];
  readonly key: { readonly fingerprint: string; readonly comment: string };
  /** Whether the asker may be on another machine. */
  readonly forwarded: boolean;
  /** 'once' always; others where they make sense. */
  readonly offers: readonly Offer[];
  /** What a plain yes means. */
  readonly lasts: Scope;
  /** The rule that "always" would write, in TOML; undefined: none can be written. */
  readonly rule: string | undefined;
  /** Milliseconds of the agent's clock when it ends unanswered. */
  readonly endsAt: number;
}

export interface Reply {
  readonly allow: boolean;
  /** Of a yes. */
  readonly scope: Scope;
  /** 'askpass', 'pinentry', 'notification', 'watch', 'approve': for the record. */
  readonly by: string;
}

/** Asks a person. */
export interface Confirm {
  /**
   * @param signal ends the question: the client hung up, time is over, or another way had its answer first
   * @returns undefined where this way reaches nobody
   */
  confirm(question: Question, signal: AbortSignal): Promise<Reply | undefined>;
}

/** A use of the agent, as its record tells it: JSON, without anything that was signed. */
export interface Use {
  readonly kind: UseKind;
  readonly outcome: 'allowed' | 'denied' | 'failed';
  readonly sentence: string;
  readonly key?: { readonly fingerprint: string; readonly type: string; readonly comment: string };
  /** Of a signature. */
  readonly purpose?: Purpose;
  readonly user?: string;
  readonly namespace?: string;
  /** The hosts on the way, nearest first, the last one the destination where it does not forward: verified. */
  readonly hosts?: readonly {
    readonly fingerprint: string;
    readonly names: readonly string[];
    readonly forwards: boolean;
  }[];
  readonly forwarded: boolean;
  readonly relay?: string;
  readonly guard?: string;
  readonly peer?: {
    readonly uid: number;
    readonly pid: number | null;
    /** Programs of the peer and its ancestors, nearest first. */
    readonly programs: readonly string[];
    readonly claimedCommand?: string;
  };
  /** What decided: 'default', 'rule', ... and in words. */
  readonly ground?: { readonly kind: string; readonly text: string; readonly line?: number };
  /** Why it was denied, or failed. */
  readonly reason?: string;
  readonly answer?: { readonly by: string; readonly scope: Scope; readonly seconds: number };
  /** How many more like it were not written one by one. */
  readonly repeated?: number;
}

export type UseKind =
  | 'sign'
  | 'list'
  | 'add'
  | 'remove'
  | 'remove-all'
  | 'expire'
  | 'add-token'
  | 'remove-token'
  | 'lock'
  | 'unlock'
  | 'bind'
  | 'extension'
  | 'malformed'
  | 'connection'
  | 'guard'
  | 'rules'
  /** Of the records themselves: a file begins, records were lost. Only backends/records writes it. */
  | 'records'
  | 'start'
  | 'end';

/** Where uses are written down. */
export interface Records {
  /** Takes a record; `flush` writes it. @returns its id, for `latchkey why` */
  append(use: Use): string;
  /** Whether something was appended that `flush` has not seen. */
  readonly hasUnwritten: boolean;
  /** Writes all that was appended. @returns whether what depends on it may leave: false where it could not be written and must be */
  flush(): boolean;
}

/** The owner's knowledge of hosts. */
export interface Hosts {
  /**
   * Names for a host key, plain or certified, from known_hosts.
   * @param candidates names that hashed lines are tried with
   */
  namesOf(hostKey: PublicKey, candidates: readonly string[]): HostNames;
}

export type LogLevel = 'error' | 'info' | 'debug';

/** Named fields and fixed words only: nothing may log a message, a key or a pass phrase. */
export type Log = (level: LogLevel, text: string) => void;

/** What the carriers of the agent have to know of the floors below. */
export type { Custody, Slot } from '../keys/custody.ts';
export type { HostNames } from '../keys/knownhosts.ts';
export type { Peer, PeerProcess } from '../policy/facts.ts';
export type { Guard } from '../policy/guard.ts';
export type { Scope } from '../policy/rules.ts';

/** A key that stays in its token. */
export interface TokenKey {
  readonly signer: Signer;
  /** What the token calls it. */
  readonly label: string;
}

/** Keys whose private half is in a device: backends make their signers. */
export interface Devices {
  /** The canonical path of a library that may be loaded. @throws KeyError where there is none, or it is not allowed */
  provider(path: string): string;
  /**
   * A signer for a security key whose public and other fields came in a request to add it.
   * @param provider canonical, or "internal"
   * @throws KeyError
   */
  securityKey(publicKey: PublicKey, fields: FieldValues, provider: string, custody: Custody): Signer;
  /**
   * The keys of a provider's tokens. The PIN stays the caller's until the promise settles.
   * @param provider canonical
   * @throws KeyError
   */
  tokenKeys(provider: string, pin: Uint8Array): Promise<readonly TokenKey[]>;
}

export interface Ports {
  readonly clock: Clock;
  readonly confirm: Confirm;
  /** Undefined: nothing is written down. */
  readonly records: Records | undefined;
  readonly hosts: Hosts;
  /**
   * Puts a rule of the owner's answer before the one that asked, which stands in line `before` of the file, or last.
   * @returns whether it is in force now
   */
  readonly addRule: (rule: string, before: number | undefined) => Promise<boolean>;
  /** Whether that very process still runs. */
  readonly lives: (process: PeerProcess) => boolean;
  readonly log: Log;
  readonly devices: Devices;
}

/** setTimeout's longest time in milliseconds; longer ones fire at once. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => performance.now(),
  wallSeconds: () => Math.floor(Date.now() / 1000),
  after(milliseconds, callback) {
    const timer = setTimeout(callback, Math.min(milliseconds, MAX_TIMEOUT_MS));
    timer.unref();
    return () => clearTimeout(timer);
  },
};

function noDevices(): never {
  throw new KeyError('unsupported', 'no backend for security keys and tokens');
}

export const defaultPorts: Ports = {
  clock: systemClock,
  // Nobody to ask is no consent.
  confirm: { confirm: async () => undefined },
  records: undefined,
  addRule: async () => false,
  hosts: { namesOf: () => ({ names: [], hidden: 0 }) },
  lives: () => false,
  log: () => {},
  devices: { provider: noDevices, securityKey: noDevices, tokenKeys: noDevices },
};
