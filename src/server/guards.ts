/**
 * Guards (DESIGN section 5): restricted sockets beside the agent's own. What may be done through one is policy's and the
 * engine's; here they are opened, listed and ended: by time, by count, with the process they were opened for, or by hand.
 */
import { randomInt } from 'node:crypto';
import { lstatSync, mkdirSync, readdirSync, rmdirSync, unlinkSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import type { Agent } from '../agent/agent.ts';
import type { Guard, Log, PeerProcess } from '../agent/ports.ts';
import { base64 } from '../wire/bytes.ts';
import type { Hop } from '../wire/constraints.ts';
import { MAX_SOCKET_PATH } from '../wire/socketpath.ts';
import { isAlive, listenOn } from './listen.ts';
import { lives } from './peer.ts';
import { type AgentServer, createAgentServer } from './server.ts';

/** Guards that are open at one time. */
export const MAX_GUARDS = 64;
/** A year, in seconds: the longest time of a guard. */
export const MAX_GUARD_SECONDS = 366 * 86_400;
/** How often to look whether a guard's time or process has come to its end, in milliseconds. */
const LOOK_MS = 1000;
/** How long the connections of a guard that is used up live on, so that the last answer arrives, in milliseconds. */
const LAST_ANSWER_MS = 2000;
/** As many different files an id may have. */
const LAST_WORD = 36 ** 8;
/** Names that are safe as part of a file's name, and in ssh_config. */
const NAME = /^[A-Za-z0-9._:-]{1,64}$/;

export class GuardError extends Error {}

export interface GuardOptions {
  /** SHA256 fingerprints; undefined: all keys. */
  readonly keys?: readonly string[];
  /** Where logins may lead; undefined: anywhere. */
  readonly to?: readonly Hop[];
  /** The host that the connection has to come from; undefined: any. */
  readonly via?: Hop;
  readonly effect: Guard['effect'];
  /** From now; undefined: without an end. */
  readonly seconds?: number;
  /** Signatures in all. */
  readonly count?: number;
  /** The guard ends with this process. */
  readonly process?: PeerProcess;
  /** One guard of a name is open: a second call with the same bounds renews its time, with other ones it replaces it. */
  readonly name?: string;
}

export interface OpenGuard {
  readonly guard: Guard;
  readonly path: string;
  readonly name: string | undefined;
  readonly process: PeerProcess | undefined;
  /** Undefined: without an end. */
  readonly secondsLeft: number | undefined;
  /** Signatures so far. */
  readonly used: number;
  readonly connections: number;
}

export interface GuardsOptions {
  /** Made when it is first needed, for us alone; see guardsFolder. */
  readonly folder: string;
  readonly log: Log;
  /** Whether that very process still runs. Default: as the system says. */
  readonly lives?: (process: PeerProcess) => boolean;
}

export interface Guards {
  /** @throws GuardError, ListenError, Error with the system's code */
  open(options: GuardOptions): Promise<OpenGuard>;
  /** In the order in which they were opened. */
  list(): readonly OpenGuard[];
  /** Ends a guard and its connections. @returns false where there is none of that id */
  revoke(id: string): boolean;
  /** Counts a signature. @returns false where it may not leave: the guard is used up, or has ended */
  use(id: string): boolean;
  /** Ends all guards; their files are gone when this returns. */
  close(): void;
}

interface State {
  readonly guard: Guard;
  readonly path: string;
  readonly server: AgentServer;
  readonly name: string | undefined;
  readonly process: PeerProcess | undefined;
  readonly bounds: string;
  expiresAt: number | undefined;
  used: number;
}

/** The folder of an agent's guards: beside its socket, as the control socket is. */
export function guardsFolder(agentSocket: string): string {
  if (basename(agentSocket) === 'agent.sock') return join(dirname(agentSocket), 'guards');
  return `${agentSocket}.guards`;
}

/** The file of a guard with a name, or without one, with a word of its own. */
export function guardPath(folder: string, name: string | undefined, word: string): string {
  return join(folder, name === undefined ? `${word}.sock` : `for-${name}.sock`);
}

/** Whether a guard may be called so: part of a file's name that no shell and no ssh_config takes for something else. */
export function isGuardName(name: string): boolean {
  return NAME.test(name);
}

function boundsOf({ keys, to, via, effect, count, process }: GuardOptions): string {
  const hop = ({ user, hostname, keys: listed }: Hop): unknown => [
    user,
    hostname,
    listed.map(({ blob, isAuthority }) => [base64(blob), isAuthority]),
  ];
  return JSON.stringify([keys, to?.map(hop), via && hop(via), effect, count, process?.pid, process?.startTime]);
}

/** @throws GuardError where it is not ours alone */
async function makeFolder(folder: string): Promise<void> {
  try {
    mkdirSync(folder, { mode: 0o700 });
    return;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EEXIST')
      throw new GuardError(`cannot make the folder ${folder}`, { cause });
  }
  const stat = lstatSync(folder);
  if (!stat.isDirectory() || stat.uid !== process.geteuid?.() || (stat.mode & 0o077) !== 0)
    throw new GuardError(`${folder} is not a folder of ours alone`);
  for (const file of readdirSync(folder)) {
    const path = join(folder, file);
    // Left by an agent that ended without a word.
    if (file.endsWith('.sock') && !(await isAlive(path))) removeFile(path);
  }
}

function removeFile(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // Gone already: a listening socket that is closed takes its file along.
  }
}

function check({ to, keys, seconds, count, name }: GuardOptions): void {
  if (to?.length === 0) throw new GuardError('a guard to nowhere');
  if (keys?.length === 0) throw new GuardError('a guard without keys');
  if (seconds !== undefined && !(seconds > 0 && seconds <= MAX_GUARD_SECONDS))
    throw new GuardError(`the time of a guard is 1 to ${MAX_GUARD_SECONDS} seconds`);
  if (count !== undefined && !(Number.isSafeInteger(count) && count > 0))
    throw new GuardError('the count of a guard is a whole number from 1');
  if (name !== undefined && !isGuardName(name))
    throw new GuardError('the name of a guard is 1 to 64 letters, digits, dots, colons, hyphens and underscores');
}

class AgentGuards implements Guards {
  readonly #agent: Agent;
  readonly #options: GuardsOptions;
  readonly #folder: string;
  readonly #open = new Map<string, State>();
  /** Guards are opened one after another, so that two of one name can't be. */
  #turn: Promise<unknown> = Promise.resolve();
  #opened = 0;
  #isFolderMade = false;
  #isLooking = false;
  #isClosed = false;

  constructor(agent: Agent, options: GuardsOptions) {
    this.#agent = agent;
    this.#options = options;
    // Others are told of the paths, who may be elsewhere.
    this.#folder = resolve(options.folder);
  }

  open(options: GuardOptions): Promise<OpenGuard> {
    const opened = this.#turn.then(() => this.#openNow(options));
    this.#turn = opened.catch(() => {});
    return opened;
  }

  async #openNow(options: GuardOptions): Promise<OpenGuard> {
    check(options);
    const { keys, to, via, effect, seconds, count, process: owner, name } = options;
    const { clock } = this.#agent.ports;
    this.#look();
    const expiresAt = seconds === undefined ? undefined : clock.now() + seconds * 1000;
    const bounds = boundsOf(options);
    const same = name === undefined ? undefined : [...this.#open.values()].find((state) => state.name === name);
    if (same !== undefined && same.bounds === bounds && same.used < (count ?? Number.POSITIVE_INFINITY)) {
      // The guard that its connections know keeps its old time: only this one counts.
      same.expiresAt = expiresAt;
      return this.#shown(same);
    }
    if (same !== undefined) this.#end(same, 'another one takes its name');
    if (this.#open.size >= MAX_GUARDS) throw new GuardError(`${MAX_GUARDS} guards are open: end some of them first`);

    const { log } = this.#options;
    if (!this.#isFolderMade) await makeFolder(this.#folder);
    this.#isFolderMade = true;
    const id = `g${++this.#opened}`;
    // Ids begin anew with each agent: an ssh that still forwards the guard of an earlier one must not come upon this.
    const path = guardPath(this.#folder, name, `${id}-${randomInt(LAST_WORD).toString(36)}`);
    if (Buffer.byteLength(path) > MAX_SOCKET_PATH) throw new GuardError(`the path ${path} is too long for a socket`);
    const guard: Guard = Object.freeze({ id, keys, to, via, effect, expiresAt, count });
    if (!this.#record(`open guard ${id}`, id)) throw new GuardError('the record of the guard could not be written');
    const server = createAgentServer(this.#agent, guard);
    await listenOn(server.server, path);
    server.server.on('error', (error) => log('error', `guard ${id}: ${error.message}`));
    const state: State = { guard, path, server, name, process: owner, bounds, expiresAt, used: 0 };
    this.#open.set(id, state);
    if (this.#isClosed) {
      this.#end(state, 'the agent ends');
      throw new GuardError('the agent ends');
    }
    log('info', `guard ${id} opened`);
    this.#look();
    return this.#shown(state);
  }

  list(): readonly OpenGuard[] {
    this.#look();
    return [...this.#open.values()].map((state) => this.#shown(state));
  }

  revoke(id: string): boolean {
    const state = this.#open.get(id);
    if (state !== undefined) this.#end(state, 'revoked');
    return state !== undefined;
  }

  use(id: string): boolean {
    const state = this.#open.get(id);
    if (state === undefined || this.#endIfDue(state)) return false;
    const { count } = state.guard;
    if (count !== undefined && state.used >= count) return false;
    state.used++;
    if (state.used === count)
      this.#agent.ports.clock.after(LAST_ANSWER_MS, () => this.#end(state, 'its signatures are used up'));
    return true;
  }

  close(): void {
    this.#isClosed = true;
    for (const state of [...this.#open.values()]) this.#end(state, 'the agent ends');
    if (!this.#isFolderMade) return;
    try {
      rmdirSync(this.#folder);
    } catch {
      // Somebody put something else there.
    }
  }

  #shown({ guard, path, name, process: owner, expiresAt, used, server }: State): OpenGuard {
    const left = expiresAt === undefined ? undefined : expiresAt - this.#agent.ports.clock.now();
    const secondsLeft = left === undefined ? undefined : Math.max(0, Math.ceil(left / 1000));
    return { guard, path, name, process: owner, secondsLeft, used, connections: server.peers().length };
  }

  /** Ends what has come to its end, and looks again as long as something may. */
  #look(): void {
    for (const state of [...this.#open.values()]) this.#endIfDue(state);
    const mayEnd = [...this.#open.values()].some(
      ({ expiresAt, process: owner }) => expiresAt !== undefined || owner !== undefined,
    );
    if (this.#isLooking || !mayEnd) return;
    this.#isLooking = true;
    // Often, and not once at the right time: timers stand still while the machine sleeps.
    this.#agent.ports.clock.after(LOOK_MS, () => {
      this.#isLooking = false;
      this.#look();
    });
  }

  #endIfDue(state: State): boolean {
    const { expiresAt, process: owner } = state;
    if (expiresAt !== undefined && expiresAt <= this.#agent.ports.clock.now()) this.#end(state, 'its time is over');
    else if (owner !== undefined && !(this.#options.lives ?? lives)(owner)) this.#end(state, 'its command has ended');
    return !this.#open.has(state.guard.id);
  }

  #end(state: State, why: string): void {
    const { id } = state.guard;
    if (!this.#open.delete(id)) return;
    // Connections are closed and the file is gone when this returns; what follows in the loop is of no consequence.
    void state.server.close();
    removeFile(state.path);
    this.#options.log('info', `guard ${id} ended: ${why}`);
    this.#record(`end guard ${id}: ${why}`, id);
  }

  /** @returns whether it is written, where it must be */
  #record(sentence: string, guard: string): boolean {
    const { records } = this.#agent.ports;
    if (records === undefined) return true;
    records.append({ kind: 'guard', outcome: 'allowed', sentence, forwarded: false, guard });
    return records.flush();
  }
}

/** The guards of `agent`. Its useGuard is theirs from now on. */
export function createGuards(agent: Agent, options: GuardsOptions): Guards {
  const guards = new AgentGuards(agent, options);
  agent.useGuard = ({ id }) => guards.use(id);
  return guards;
}
