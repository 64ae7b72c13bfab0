/**
 * The built bin/ssh-agent as a process of its own, in a private folder, and a client that sends it raw bytes: apart from
 * our own client, since the server is what is tested. LATCHKEY_BUILD names the folder with bin/ and dist/.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { raw, str, u32 } from '../unit/wire/build.ts';
import type { FreshKey } from './keys.ts';

export const BUILD: string = resolve(process.env.LATCHKEY_BUILD ?? resolve(import.meta.dirname, '../..'));

/** A program of the build. @throws Error where there is no build */
export function program(name: 'ssh-agent' | 'ssh-add' | 'latchkey'): string {
  const path = join(BUILD, 'bin', name);
  if (!existsSync(path)) throw new Error(`${path} is missing: run "npm run build"`);
  return path;
}

export interface AgentProcess {
  readonly socket: string;
  readonly pid: number;
  /** Private to this agent, and removed with it. Its HOME. */
  readonly folder: string;
  readonly process: ChildProcess;
  /** What it wrote to standard error so far. */
  stderr(): string;
  /** Resident memory, in KiB. */
  residentKib(): number;
  isAlive(): boolean;
  /** Sends SIGTERM (or another), waits for the end and removes the folder. @returns exit code and signal */
  stop(signal?: NodeJS.Signals): Promise<readonly [number | null, NodeJS.Signals | null]>;
}

export interface StartOptions {
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Words before the program, such as `sh -c 'ulimit ...; exec "$@"' sh`. They must become the program. */
  readonly wrapper?: readonly string[];
  /** The owner of the folder, where the wrapper changes to another user. */
  readonly uid?: number;
}

/** The environment of a test's programs: nothing of the developer's own. */
export function cleanEnv(home: string, more: Readonly<Record<string, string>> = {}): Record<string, string> {
  return { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', HOME: home, LC_ALL: 'C', ...more };
}

export function temporaryFolder(): string {
  return mkdtempSync(join(tmpdir(), 'latchkey-agent-'));
}

/** Starts the agent in the foreground and waits until it has told its socket. @throws Error with what it said instead */
export async function startAgentProcess(options: StartOptions = {}): Promise<AgentProcess> {
  const { args = [], env = {}, wrapper = [], uid } = options;
  const folder = temporaryFolder();
  if (uid !== undefined) spawnSync('chown', [String(uid), folder]);
  const socket = join(folder, 'agent');
  const [file = '', ...words] = [...wrapper, program('ssh-agent'), '-D', '-a', socket, ...args];
  const child = spawn(file, words, { env: cleanEnv(folder, env), stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  let complained = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complained += text;
  });
  const ended = new Promise<readonly [number | null, NodeJS.Signals | null]>((done) =>
    child.once('exit', (code, signal) => done([code, signal])),
  );
  await new Promise<void>((ready, failed) => {
    child.once('error', failed);
    ended.then(([code]) => failed(new Error(`the agent ended with ${code}: ${said}${complained}`)));
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said += text;
      if (said.includes('echo Agent pid')) ready();
    });
  }).catch((error: unknown) => {
    rmSync(folder, { recursive: true, force: true });
    throw error;
  });
  const pid = child.pid as number;
  return {
    socket,
    pid,
    folder,
    process: child,
    stderr: () => complained,
    residentKib: () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]),
    isAlive: () => child.exitCode === null && child.signalCode === null,
    async stop(signal = 'SIGTERM') {
      child.kill(signal);
      const limit = setTimeout(() => child.kill('SIGKILL'), 20_000);
      const how = await ended;
      clearTimeout(limit);
      rmSync(folder, { recursive: true, force: true });
      return how;
    },
  };
}

/** Calls `look` until it gives something. @throws Error after 20 s */
export async function until<T>(
  what: string,
  look: () => T | undefined | false | Promise<T | undefined | false>,
): Promise<T> {
  for (const end = Date.now() + 20_000; Date.now() < end; ) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    await new Promise((done) => setTimeout(done, 20));
  }
  throw new Error(`waited in vain for ${what}`);
}

/** A connection that sends what it is told, and cuts answers apart. */
export class RawClient {
  readonly socket: Socket;
  readonly #answers: Buffer[] = [];
  #pending: Buffer[] = [];
  #pendingLength = 0;
  #changed: () => void = () => {};
  /** The agent closed, or the connection broke. */
  closed = false;
  /** Bytes that came. */
  received = 0;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => this.#take(chunk));
    socket.on('error', () => {});
    for (const name of ['end', 'close']) {
      socket.on(name, () => {
        this.closed = true;
        this.#changed();
      });
    }
  }

  static async connect(path: string): Promise<RawClient> {
    // EAGAIN: its backlog is full. A blocking connect(2) waits then, Node's does not.
    const socket = await until('room in the backlog', async () => {
      const attempt = connect({ path, allowHalfOpen: true });
      try {
        await once(attempt, 'connect');
        return attempt;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
        return undefined;
      }
    });
    return new RawClient(socket);
  }

  #take(chunk: Buffer): void {
    this.received += chunk.length;
    this.#pending.push(chunk);
    this.#pendingLength += chunk.length;
    if (this.#pendingLength < 4) return;
    let bytes = (this.#pending[0]?.length ?? 0) >= 4 ? (this.#pending[0] as Buffer) : Buffer.concat(this.#pending);
    if (this.#pendingLength < 4 + bytes.readUInt32BE()) return;
    if (this.#pending.length > 1) bytes = Buffer.concat(this.#pending);
    while (bytes.length >= 4 && bytes.length >= 4 + bytes.readUInt32BE()) {
      const end = 4 + bytes.readUInt32BE();
      this.#answers.push(bytes.subarray(4, end));
      bytes = bytes.subarray(end);
    }
    this.#pending = [bytes];
    this.#pendingLength = bytes.length;
    this.#changed();
  }

  send(bytes: Uint8Array): void {
    this.socket.write(bytes);
  }

  /** The next answer, or undefined where the connection ended without one. */
  async answer(): Promise<Buffer | undefined> {
    while (this.#answers.length === 0 && !this.closed) {
      await new Promise<void>((done) => {
        this.#changed = done;
      });
    }
    return this.#answers.shift();
  }

  async answers(count: number): Promise<readonly Buffer[]> {
    const all: Buffer[] = [];
    for (let one = await this.answer(); one !== undefined; one = await this.answer()) {
      all.push(one);
      if (all.length === count) break;
    }
    return all;
  }

  async ask(message: Uint8Array): Promise<Buffer | undefined> {
    this.send(frame(message));
    return this.answer();
  }

  /** Waits for the agent to close. */
  async end(): Promise<void> {
    while (!this.closed) {
      await new Promise<void>((done) => {
        this.#changed = done;
      });
    }
  }

  close(): void {
    this.socket.destroy();
  }
}

/** One request on a connection of its own. */
export async function ask(path: string, message: Uint8Array): Promise<Buffer | undefined> {
  const client = await RawClient.connect(path);
  try {
    return await client.ask(message);
  } finally {
    client.close();
  }
}

export const frame = (message: Uint8Array): Uint8Array => str(message);
export const LIST: Uint8Array = raw(11);
export const REMOVE_ALL: Uint8Array = raw(19);
export const SUCCESS = '06';
export const FAILURE = '05';

/** The blob of a list with one key. */
export const signMessage = (blob: Uint8Array, data: Uint8Array | string, flags = 0): Uint8Array =>
  raw(13, str(blob), str(data), u32(flags));

const mpint = (bytes: Uint8Array): Uint8Array => ((bytes[0] ?? 0) & 0x80 ? str(0, bytes) : str(bytes));
const part = ({ key }: FreshKey, name: string): Uint8Array => key.fields[name] as Uint8Array;

/** The public blob of a fresh Ed25519 or RSA key. */
export function blobOf(fresh: FreshKey): Uint8Array {
  if (fresh.key.type === 'ssh-rsa') return raw(str('ssh-rsa'), mpint(part(fresh, 'e')), mpint(part(fresh, 'n')));
  return raw(str('ssh-ed25519'), str(part(fresh, 'pk')));
}

/** The message that adds a fresh Ed25519 or RSA key; `constraints` follow as they are. */
export function addMessage(fresh: FreshKey, comment: string, constraints: Uint8Array = raw()): Uint8Array {
  const number = constraints.length > 0 ? 25 : 17;
  const { type } = fresh.key;
  const fields =
    type === 'ssh-rsa'
      ? ['n', 'e', 'd', 'iqmp', 'p', 'q'].map((name) => mpint(part(fresh, name)))
      : ['pk', 'sk'].map((name) => str(part(fresh, name)));
  return raw(number, str(type), ...fields, str(comment), constraints);
}

/** The comments of a list answer, in order. */
export function commentsOf(answer: Uint8Array | undefined): readonly string[] {
  const bytes = Buffer.from(answer ?? []);
  if (bytes[0] !== 12) throw new Error(`no list: ${bytes.toString('hex', 0, 16)}`);
  const found: string[] = [];
  let at = 5;
  for (let left = bytes.readUInt32BE(1); left > 0; left--) {
    at += 4 + bytes.readUInt32BE(at);
    const end = at + 4 + bytes.readUInt32BE(at);
    found.push(bytes.toString('utf8', at + 4, end));
    at = end;
  }
  if (at !== bytes.length) throw new Error('bytes after the list');
  return found;
}
