/** What the engine needs from outside, as small interfaces; each has a default that is safe and silent. */
import type { Custody } from '../keys/custody.ts';
import { KeyError } from '../keys/error.ts';
import type { PublicKey } from '../keys/publickey.ts';
import type { Signer } from '../keys/signer.ts';
import type { FieldValues } from '../wire/keyshapes.ts';

export interface Clock {
  /** Milliseconds that only ever grow, also while the system's time is set; best ones that count a suspended machine's. */
  now(): number;
  /** Seconds since 1970. */
  wallSeconds(): number;
  /** Calls back once after `milliseconds`. @returns what cancels it */
  after(milliseconds: number, callback: () => void): () => void;
}

/** Asks a person. */
export interface Confirm {
  /** @param signal ends the question: the client hung up, or time is over */
  confirm(question: string, signal: AbortSignal): Promise<boolean>;
}

export type LogLevel = 'error' | 'info' | 'debug';

/** Named fields and fixed words only: nothing may log a message, a key or a pass phrase. */
export type Log = (level: LogLevel, text: string) => void;

/** What the carriers of the agent have to know of the floors below. */
export type { Custody, Slot } from '../keys/custody.ts';
export type { Peer, PeerProcess } from '../policy/facts.ts';

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
  confirm: { confirm: async () => false },
  log: () => {},
  devices: { provider: noDevices, securityKey: noDevices, tokenKeys: noDevices },
};
