/** The control socket's commands for guards (docs/protocol.md): `guard`, `guards` and `revoke`. */
import { fromBase64 } from '../wire/bytes.ts';
import {
  type Hop,
  type HopKey,
  MAX_HOP_KEYS,
  MAX_HOSTNAME_BYTES,
  MAX_USER_PATTERN_BYTES,
} from '../wire/constraints.ts';
import { type ControlArguments, type ControlCommand, ControlRefusal } from './control.ts';
import { GuardError, type GuardOptions, type Guards, type OpenGuard } from './guards.ts';
import { ListenError } from './listen.ts';
import { processOf } from './peer.ts';

/** Keys, and destinations, that one guard may name. */
export const MAX_GUARD_WORDS = 1024;
const FINGERPRINT = /^SHA256:[A-Za-z0-9+/]{43}$/;
const ARGUMENTS: ReadonlySet<string> = new Set(['keys', 'to', 'via', 'seconds', 'count', 'effect', 'pid', 'name']);

function refuse(text: string): never {
  throw new ControlRefusal(text);
}

function record(value: unknown, what: string): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) refuse(`${what} is not an object`);
  return value as Readonly<Record<string, unknown>>;
}

function list(value: unknown, what: string, max: number): readonly unknown[] {
  if (!Array.isArray(value) || value.length === 0 || value.length > max) refuse(`${what} is not a list of 1 to ${max}`);
  return value;
}

function text(value: unknown, what: string, maxBytes: number): string {
  if (typeof value !== 'string' || Buffer.byteLength(value) > maxBytes) refuse(`${what} is not a text`);
  return value;
}

function wholeNumber(value: unknown, what: string): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value)) refuse(`${what} is not a whole number`);
  return value;
}

function hopKey(value: unknown): HopKey {
  const { blob: encoded, isAuthority } = record(value, 'a host key');
  const blob = typeof encoded === 'string' ? fromBase64(encoded) : undefined;
  if (blob === undefined || blob.length === 0) refuse('a host key is not base64');
  if (typeof isAuthority !== 'boolean') refuse('isAuthority is not true or false');
  return { blob, isAuthority };
}

function hop(value: unknown, what: string): Hop {
  const { user = '', hostname, keys } = record(value, what);
  const found = {
    user: text(user, `the user of ${what}`, MAX_USER_PATTERN_BYTES),
    hostname: text(hostname, `the host of ${what}`, MAX_HOSTNAME_BYTES),
    keys: list(keys, `the keys of ${what}`, MAX_HOP_KEYS).map(hopKey),
  };
  if (found.hostname === '') refuse(`${what} names no host`);
  return found;
}

function fingerprint(value: unknown): string {
  if (typeof value !== 'string' || !FINGERPRINT.test(value)) refuse('a key is not a SHA256 fingerprint');
  return value;
}

/** What a request to open a guard asks for. A bound that is not understood refuses it. @throws ControlRefusal */
export function guardOptionsOf(given: ControlArguments): GuardOptions {
  for (const name of Object.keys(given)) if (!ARGUMENTS.has(name)) refuse(`guards know no ${JSON.stringify(name)}`);
  const { keys, to, via, seconds, count, effect, pid, name } = given;
  if (effect !== 'ask' && effect !== 'allow') refuse('effect is neither ask nor allow');
  const hopVia = via === undefined ? undefined : hop(via, 'via');
  if (hopVia !== undefined && hopVia.user !== '') refuse('via names a user');
  const process = pid === undefined ? undefined : processOf(wholeNumber(pid, 'pid'));
  if (pid !== undefined && process === undefined) refuse('no such process');
  return {
    effect,
    ...(keys === undefined ? {} : { keys: list(keys, 'keys', MAX_GUARD_WORDS).map(fingerprint) }),
    ...(to === undefined ? {} : { to: list(to, 'to', MAX_GUARD_WORDS).map((one) => hop(one, 'to')) }),
    ...(hopVia === undefined ? {} : { via: hopVia }),
    ...(seconds === undefined ? {} : { seconds: wholeNumber(seconds, 'seconds') }),
    ...(count === undefined ? {} : { count: wholeNumber(count, 'count') }),
    ...(process === undefined ? {} : { process }),
    ...(name === undefined ? {} : { name: text(name, 'name', MAX_HOSTNAME_BYTES) }),
  };
}

/** A guard as `guards` tells of it. */
export interface ShownGuard {
  readonly id: string;
  readonly name: string | null;
  readonly path: string;
  /** Null: all. */
  readonly keys: readonly string[] | null;
  /** 'git@github.com'; null: anywhere. */
  readonly to: readonly string[] | null;
  readonly via: string | null;
  readonly effect: 'ask' | 'allow';
  /** Null: without an end. */
  readonly secondsLeft: number | null;
  /** Signatures that are left; null: no bound. */
  readonly remaining: number | null;
  readonly used: number;
  readonly connections: number;
  /** The process that it ends with. */
  readonly pid: number | null;
}

function shown({ guard, name, path, process, secondsLeft, used, connections }: OpenGuard): ShownGuard {
  const hopText = ({ user, hostname }: Hop): string => (user === '' ? hostname : `${user}@${hostname}`);
  return {
    id: guard.id,
    name: name ?? null,
    path,
    keys: guard.keys ?? null,
    to: guard.to?.map(hopText) ?? null,
    via: guard.via === undefined ? null : hopText(guard.via),
    effect: guard.effect,
    secondsLeft: secondsLeft ?? null,
    remaining: guard.count === undefined ? null : guard.count - used,
    used,
    connections,
    pid: process?.pid ?? null,
  };
}

/** The commands, by name. */
export function guardCommands(guards: Guards): ReadonlyMap<string, ControlCommand> {
  const open: ControlCommand = async (given) => {
    try {
      return shown(await guards.open(guardOptionsOf(given)));
    } catch (error) {
      if (error instanceof GuardError || error instanceof ListenError) refuse(error.message);
      const { code } = error as NodeJS.ErrnoException;
      if (code !== undefined) refuse(`the socket of the guard could not be made: ${code}`);
      throw error;
    }
  };
  const revoke: ControlCommand = ({ id }) => {
    if (id === 'all') for (const { guard } of guards.list()) guards.revoke(guard.id);
    else if (typeof id !== 'string' || !guards.revoke(id)) refuse('no such guard');
    return { id };
  };
  return new Map<string, ControlCommand>([
    ['guard', open],
    ['guards', () => ({ guards: guards.list().map(shown) })],
    ['revoke', revoke],
  ]);
}
