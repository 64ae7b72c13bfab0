/** What the engine needs from outside, as small interfaces; each has a default that is safe and silent. */

export interface Clock {
  /** Milliseconds that only ever grow, also while the system's time is set. */
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

export interface Ports {
  readonly clock: Clock;
  readonly confirm: Confirm;
  readonly log: Log;
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

export const defaultPorts: Ports = {
  clock: systemClock,
  // Nobody to ask is no consent.
  confirm: { confirm: async () => false },
  log: () => {},
};
