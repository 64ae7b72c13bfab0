/**
 * One call shape for three agents, so that one suite runs against all of them: OpenSSH's ssh-agent (or any program with
 * its command line), our engine in memory, and our server on a socket in this process. Time and the person who confirms
 * are the caller's to move: a fake clock and a script for ours, real time and an askpass program for OpenSSH's.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Agent, type AgentOptions, createAgent } from '../agent/agent.ts';
import { type AgentClient, createAgentClient } from '../client/client.ts';
import { Custody } from '../keys/custody.ts';
import { listenOn } from '../server/listen.ts';
import { createAgentServer } from '../server/server.ts';
import { AgentConnection, sessionStream } from './connection.ts';
import { type Answer, FakeClock, type Person, ScriptedConfirm } from './fakes.ts';

export type AgentKind = 'openssh' | 'memory' | 'socket' | 'program';

export interface StartOptions {
  /** Whether there is anybody to confirm. Default: true. */
  readonly attended?: boolean;
  /** Seconds that keys live when they are added without a lifetime. */
  readonly defaultLifetime?: number;
  /** Of the `socket` kind: connections at one time. */
  readonly maxConnections?: number;
}

export interface AgentUnderTest {
  readonly kind: AgentKind;
  readonly person: Person;
  /** A connection whose every byte is the test's. */
  open(): Promise<AgentConnection>;
  /** A connection with our client on it. */
  connect(): Promise<AgentClient>;
  /** Lets time pass, in milliseconds: at once where the clock is a fake. */
  pass(milliseconds: number): Promise<void>;
  stop(): Promise<void>;
}

/** An agent in this process, with what drives it. */
export interface OwnAgent extends AgentUnderTest {
  readonly agent: Agent;
  readonly clock: FakeClock;
  readonly person: ScriptedConfirm;
}

/** A lock that costs a guess about a millisecond. */
const TEST_LOCK_COST = { n: 1024, r: 8, p: 1 };
const POLL_MS = 10;
/** Limit of a wait for another process: it catches a hang, not slowness. */
const MAX_WAIT_MS = 30_000;

/** Waits until `ready`; for what only can be looked at again and again. @throws Error after half a minute */
export async function until(ready: () => boolean, what: string): Promise<void> {
  for (const end = Date.now() + MAX_WAIT_MS; !ready(); await sleep(POLL_MS))
    if (Date.now() > end) throw new Error(`still not so: ${what}`);
}

function connectTo(path: string): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const socket = createConnection({ path, allowHalfOpen: true });
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.off('error', reject);
      resolve(socket);
    });
  });
}

/** Opens streams, and sees to it that none outlives the agent. */
class Streams {
  readonly #open = new Set<Duplex>();
  readonly #make: () => Duplex | Promise<Duplex>;

  constructor(make: () => Duplex | Promise<Duplex>) {
    this.#make = make;
  }

  async #stream(): Promise<Duplex> {
    const stream = await this.#make();
    this.#open.add(stream);
    stream.once('close', () => this.#open.delete(stream));
    return stream;
  }

  open = async (): Promise<AgentConnection> => new AgentConnection(await this.#stream());
  connect = async (): Promise<AgentClient> => createAgentClient(await this.#stream());

  close(): void {
    for (const stream of [...this.#open]) stream.destroy();
  }
}

function ownParts(options: StartOptions): { agent: Agent; clock: FakeClock; person: ScriptedConfirm } {
  const clock = new FakeClock();
  const person = new ScriptedConfirm();
  const agentOptions: AgentOptions = {
    ports: options.attended === false ? { clock } : { clock, confirm: person },
    // Many agents live in one test run: where locked memory is short, plain pages do for them.
    custody: new Custody({ accept: ['memfd_secret', 'locked', 'plain'], lockCost: TEST_LOCK_COST }),
    ...(options.defaultLifetime === undefined ? {} : { defaultLifetime: options.defaultLifetime }),
  };
  return { agent: createAgent(agentOptions), clock, person };
}

/** Our engine, with no socket anywhere. */
export async function startMemoryAgent(options: StartOptions = {}): Promise<OwnAgent> {
  const parts = ownParts(options);
  const streams = new Streams(() => sessionStream(parts.agent));
  return {
    kind: 'memory',
    ...parts,
    open: streams.open,
    connect: streams.connect,
    pass: async (milliseconds) => parts.clock.advance(milliseconds),
    stop: async () => {
      streams.close();
      parts.agent.removeAll();
    },
  };
}

/** Our server on a socket, in this process. */
export async function startSocketAgent(options: StartOptions = {}): Promise<OwnAgent> {
  const parts = ownParts(options);
  const folder = mkdtempSync(join(tmpdir(), 'latchkey-socket-'));
  const path = join(folder, 'agent.sock');
  const carrier = createAgentServer(parts.agent);
  if (options.maxConnections !== undefined) carrier.server.maxConnections = options.maxConnections;
  await listenOn(carrier.server, path);
  const streams = new Streams(() => connectTo(path));
  return {
    kind: 'socket',
    ...parts,
    open: streams.open,
    connect: streams.connect,
    pass: async (milliseconds) => parts.clock.advance(milliseconds),
    stop: async () => {
      streams.close();
      await carrier.close();
      parts.agent.removeAll();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Yes is success with nothing said, no is failure, and a question waits while the file `wait` is there. */
const ASKPASS = `#!/bin/sh
here=$(dirname "$0")
printf '%s\\0' "$1" >> "$here/questions"
while [ -e "$here/wait" ]; do sleep 0.02; done
[ -e "$here/yes" ]
`;

/** A person for an agent in another process, behind an askpass program. */
class AskpassPerson implements Person {
  readonly program: string;
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
    this.program = join(folder, 'askpass');
    writeFileSync(this.program, ASKPASS, { mode: 0o700 });
    this.will('yes');
  }

  #mark(name: string, there: boolean): void {
    const path = join(this.#folder, name);
    if (there) writeFileSync(path, '');
    else rmSync(path, { force: true });
  }

  will(answer: Answer): void {
    this.#mark('yes', answer === 'yes');
    this.#mark('wait', answer === 'wait');
  }

  settle(answer: 'yes' | 'no'): void {
    this.will(answer);
  }

  questions(): readonly string[] {
    const path = join(this.#folder, 'questions');
    return existsSync(path) ? readFileSync(path, 'utf8').split('\0').slice(0, -1) : [];
  }
}

/** Ends `child`, which may have ended by itself. */
async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  await exit;
}

/**
 * A program with ssh-agent's command line, in a process of its own.
 * @param program its path; 'ssh-agent' for OpenSSH's
 */
export async function startProgram(
  program: string,
  options: StartOptions = {},
  kind: AgentKind = 'openssh',
): Promise<AgentUnderTest> {
  const folder = mkdtempSync(join(tmpdir(), 'latchkey-program-'));
  const path = join(folder, 'agent.sock');
  const person = new AskpassPerson(folder);
  const lifetime = options.defaultLifetime === undefined ? [] : ['-t', String(options.defaultLifetime)];
  const { DISPLAY: _display, WAYLAND_DISPLAY: _wayland, ...env } = process.env;
  const child = spawn(program, ['-D', '-a', path, ...lifetime], {
    stdio: ['ignore', 'pipe', 'ignore'],
    env: {
      ...env,
      SSH_ASKPASS: person.program,
      SSH_ASKPASS_REQUIRE: options.attended === false ? 'never' : 'force',
    },
  });
  // The line with the socket's name is written once it listens.
  await new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`${program} ended with ${code} before it listened`)));
    child.stdout.once('data', () => resolve());
  });
  const streams = new Streams(() => connectTo(path));
  return {
    kind,
    person,
    open: streams.open,
    connect: streams.connect,
    pass: async (milliseconds) => {
      await sleep(milliseconds);
    },
    stop: async () => {
      person.settle('no');
      streams.close();
      await ended(child);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Starts an agent of a kind; `program` is the built one's path, wanted for that kind alone. */
export function startAgent(kind: AgentKind, options: StartOptions = {}, program?: string): Promise<AgentUnderTest> {
  switch (kind) {
    case 'openssh':
      return startProgram('ssh-agent', options);
    case 'memory':
      return startMemoryAgent(options);
    case 'socket':
      return startSocketAgent(options);
    case 'program':
      if (program === undefined) throw new TypeError('which program?');
      return startProgram(program, options, kind);
    default:
      return kind satisfies never;
  }
}
