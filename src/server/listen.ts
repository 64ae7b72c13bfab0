/**
 * Where the agent's socket lies, as OpenSSH 10.5 places it: private folders, modes by umask, names that tell hosts apart,
 * and the cleaning of sockets whose agent is gone.
 */
import { createHash, randomInt } from 'node:crypto';
import { existsSync, lstatSync, mkdirSync, readdirSync, unlinkSync } from 'node:fs';
import { connect, type Server } from 'node:net';
import { constants, hostname } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { MAX_SOCKET_PATH } from '../wire/socketpath.ts';

/** A socket younger than this is left alone: its agent may be just starting. In milliseconds. */
export const STALE_AGE_MS = 60 * 60 * 1000;
/** OpenSSH's SSH_LISTEN_BACKLOG. */
const BACKLOG = 128;
const NAME_TRIES = 16;
const ALPHABET = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789';
const NAME_LENGTH = 10;

function randomName(length = NAME_LENGTH): string {
  let name = '';
  for (let i = 0; i < length; i++) name += ALPHABET[randomInt(ALPHABET.length)];
  return name;
}

/** What tells this host's sockets from others' in a home that several hosts share. */
function hostName(): string {
  const digest = createHash('sha512').update(hostname()).digest();
  let name = '';
  for (const byte of digest.subarray(0, NAME_LENGTH)) name += ALPHABET[byte % ALPHABET.length];
  return name;
}

export class ListenError extends Error {}

/** The agent folder under `home`; made where it is missing. @throws ListenError */
export function agentFolder(home: string): string {
  const folder = join(home, '.ssh', 'agent');
  try {
    for (const path of [dirname(folder), folder]) {
      try {
        mkdirSync(path, 0o700);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      }
    }
  } catch (cause) {
    throw new ListenError(`cannot make ${folder}`, { cause });
  }
  return folder;
}

/** A new name in ~/.ssh/agent. */
export function privateSocketPath(home: string): string {
  return join(agentFolder(home), `s.${hostName()}.agent.${randomName()}`);
}

/** A new private folder in `parent` ($TMPDIR, else /tmp), and the name in it that older OpenSSH agents used. */
export function temporarySocketPath(parent: string, pid: number): string {
  for (let i = 0; ; i++) {
    const folder = join(parent, `ssh-${randomName(12)}`);
    try {
      mkdirSync(folder, 0o700);
      return join(folder, `agent.${pid}`);
    } catch (cause) {
      if (i >= NAME_TRIES || (cause as NodeJS.ErrnoException).code !== 'EEXIST')
        throw new ListenError(`cannot make a folder in ${parent}`, { cause });
    }
  }
}

/** Beside every agent socket, for the owner's own tools: never forwarded. */
export function controlSocketPath(agentSocket: string): string {
  if (basename(agentSocket) === 'agent.sock') return join(dirname(agentSocket), 'control.sock');
  return `${agentSocket}.control`;
}

/** Whether somebody answers at a socket. */
export function isAlive(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    // EAGAIN: its backlog is full, so somebody is there.
    socket.once('error', ({ code }: NodeJS.ErrnoException) => resolve(code === 'EAGAIN'));
  });
}

/**
 * Removes sockets in ~/.ssh/agent that nobody listens on, older than an hour; of this host unless `anyHost`.
 */
export async function cleanStaleSockets(home: string, anyHost: boolean): Promise<void> {
  const folder = join(home, '.ssh', 'agent');
  let names: readonly string[];
  try {
    names = readdirSync(folder);
  } catch {
    return;
  }
  const prefix = anyHost ? 's.' : `s.${hostName()}.`;
  for (const name of names) {
    if (!name.startsWith(prefix)) continue;
    const path = join(folder, name);
    try {
      const stat = lstatSync(path);
      if (!stat.isSocket() || Date.now() - stat.mtimeMs < STALE_AGE_MS || (await isAlive(path))) continue;
      unlinkSync(path);
    } catch {
      // Somebody else cleaned it away, or may not be touched: not ours to report.
    }
  }
}

/** Removes a dead socket of ours at `path`, so that it can be bound again. A live one, or any other file, stays. */
async function removeDead(path: string): Promise<boolean> {
  try {
    const stat = lstatSync(path);
    if (!stat.isSocket() || stat.uid !== process.geteuid?.() || (await isAlive(path))) return false;
    unlinkSync(path);
    return true;
  } catch {
    return false;
  }
}

/** Takes over a descriptor that listens already. @throws ListenError */
export function listenOnDescriptor(server: Server, fd: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (cause: Error): void =>
      reject(new ListenError(`descriptor ${fd} is no listening socket`, { cause }));
    server.once('error', failed);
    server.listen({ fd, backlog: BACKLOG }, () => {
      server.off('error', failed);
      resolve();
    });
  });
}

function bind(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const before = process.umask(0o177);
    const failed = (error: NodeJS.ErrnoException): void => {
      // libuv says EACCES for a folder that is missing, to be the same on Windows.
      const missing = error.code === 'EACCES' && !existsSync(dirname(path));
      reject(missing ? Object.assign(error, { code: 'ENOENT', errno: -constants.errno.ENOENT }) : error);
    };
    server.once('error', failed);
    server.listen({ path, backlog: BACKLOG }, () => {
      server.off('error', failed);
      resolve();
    });
    process.umask(before);
  });
}

/**
 * Listens on `path` with mode 0600. A socket there that nobody answers on is replaced; anything else is left alone.
 * @throws ListenError, Error with the system's code
 */
export async function listenOn(server: Server, path: string): Promise<void> {
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH)
    throw new ListenError(`path "${path}" too long for Unix domain socket`);
  if (path === '') throw new ListenError('cannot bind to path : No such file or directory');
  try {
    await bind(server, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE' || !(await removeDead(path))) throw error;
    await bind(server, path);
  }
}
