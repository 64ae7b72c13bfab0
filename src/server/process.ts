/** What the agent does to its own process before it holds a key: see DESIGN section 4, last point. */

import { closeSync, openSync } from 'node:fs';
import inspector from 'node:inspector';
import { type Clock, systemClock } from '../agent/ports.ts';
import { bind, bootMilliseconds, denyCoreFiles, denyTracing, dropGroup, isLinux } from '../native/libc.ts';

export interface Hardening {
  /** No debugger of the same user, no reading of /proc/PID/mem. */
  readonly undumpable: boolean;
  readonly noCoreFiles: boolean;
}

export class UnsafeProcessError extends Error {}

/**
 * Makes this process unreadable for others of the same user. SIGUSR1 must have a listener by now, or Node opens its
 * debugger on it.
 * @throws UnsafeProcessError where a debugger listens already: it could read every key
 */
export function hardenProcess(): Hardening {
  dropGroup();
  const undumpable = denyTracing();
  const noCoreFiles = denyCoreFiles();
  process.umask(0o077);
  if (inspector.url() !== undefined)
    throw new UnsafeProcessError('a debugger listens on this process: it could read every key');
  if (isLinux && !undumpable) throw new UnsafeProcessError('prctl(PR_SET_DUMPABLE): the system refused');
  return { undumpable, noCoreFiles };
}

export interface SignalHandlers {
  /** SIGTERM, SIGHUP, and SIGINT in the foreground. */
  readonly end: (signal: 'SIGTERM' | 'SIGHUP' | 'SIGINT') => void;
  /** SIGUSR1. */
  readonly dropKeys: () => void;
  readonly foreground: boolean;
  /** SIGHUP, unless it tells that our terminal hung up. Without it SIGHUP ends, as OpenSSH's does. */
  readonly reload?: () => void;
}

const sigprocmask = bind<(how: number, set: Uint8Array, old: null) => number>(
  'int sigprocmask(int how, const uint8_t *set, void *old)',
);
const SIG_SETMASK = isLinux ? 2 : 3;
/** More than a sigset_t of any system has. */
const SIGNAL_SET_BYTES = 128;

/** Whether this process has a terminal that can be reached. */
function hasTerminal(): boolean {
  try {
    closeSync(openSync('/dev/tty', 'r'));
    return true;
  } catch {
    return false;
  }
}

/** The signals as OpenSSH's agent takes them, but for SIGHUP where `reload` is given. SIGPIPE is ignored by Node itself. */
export function handleSignals({ end, dropKeys, foreground, reload }: SignalHandlers): void {
  process.on('SIGUSR1', dropKeys);
  process.on('SIGTERM', () => end('SIGTERM'));
  const hadTerminal = reload !== undefined && hasTerminal();
  process.on('SIGHUP', () => {
    if (reload === undefined || (hadTerminal && !hasTerminal())) end('SIGHUP');
    else reload();
  });
  process.on('SIGINT', () => {
    if (foreground) end('SIGINT');
  });
  // --disable-sigusr1 of newer Node keeps its debugger from SIGUSR1 by blocking the signal, and so keeps it from us.
  sigprocmask()(SIG_SETMASK, new Uint8Array(SIGNAL_SET_BYTES), null);
}

/** How often to look whether the parent is still there, in milliseconds. OpenSSH looks every 10 s at least. */
const PARENT_WATCH_MS = 1000;

/** Calls back once this process has another parent than `pid`: the command that it served has ended. */
export function watchParent(pid: number, gone: () => void): void {
  const timer = setInterval(() => {
    if (process.ppid === pid) return;
    clearInterval(timer);
    gone();
  }, PARENT_WATCH_MS);
  timer.unref();
}

/** OpenSSH's clock: lifetimes go on while the machine sleeps. */
export const bootClock: Clock = { ...systemClock, now: bootMilliseconds };
