/**
 * Notices connections that come from another machine without saying so: `ssh -R` and programs that pass a socket on look
 * like local clients. What is noticed raises strictness and never lowers it, so a claim is reason enough. Honest clients
 * give no reason: an ssh process has one session all its life, also as the master of others, binds each connection to it,
 * and asks for nothing but logins; each jump is a process of its own.
 */
import { base64 } from '../wire/bytes.ts';
import type { Request } from '../wire/requests.ts';
import type { SignedData } from '../wire/signeddata.ts';
import { visible } from '../wire/visible.ts';
import { type Bindings, isForwarded, noBindings } from './bindings.ts';
import type { Peer, PeerProcess } from './facts.ts';
import { isSshClient, mayHideItself, programName, relayedBy } from './relayprograms.ts';

/** Processes that are remembered at one time. */
export const MAX_PROCESSES = 1024;
const MAX_NAME = 32;

const TWO_SESSIONS = 'its ssh speaks for two sessions, as one does that passes on a socket (ssh -R)';
const LOGGED_IN = 'its ssh has logged in long ago, and asks again, as one does that passes on a socket (ssh -R)';
const NO_LOGIN = 'its ssh asks for more than a login, as one does that passes on a socket (ssh -R)';

const UNBOUND_LIST = 'its ssh lists keys for no session of its own, as one does that passes on a socket (ssh -R)';

/** What is asked for: the kind of request, or what a signature is to be for. */
export type Asked = SignedData | { readonly kind: Exclude<Request['kind'], 'sign'> };

/** All that an ssh asks for itself: it binds, lists, logs in, and by AddKeysToAgent adds what it logged in with. */
const OF_SSH: ReadonlySet<Asked['kind']> = new Set(['extension', 'list', 'login', 'add']);

/** What the master of other connections calls itself once it went into the background: it has logged in by then. */
const DETACHED_MASTER = /^ssh: .* \[mux\]$/;

/** What a process calls itself: the program of `sshd: alice@pts/1` is sshd. */
function claimedName({ claimedArguments }: PeerProcess): string {
  return programName((claimedArguments[0] ?? '').split(/[: ]/, 1)[0] ?? '').replace(/^-/, '');
}

/** Why the peer itself is taken for one that passes on what others ask, whatever it asks; undefined: it is not. */
export function relayOfPeer({ pid, uid }: Peer, process: PeerProcess | undefined): string | undefined {
  // The kernel has no number for what is in none of our namespaces.
  if (pid === 0) return 'it comes from outside of this container';
  if (process === undefined) return undefined;
  if (process.isInOurNamespace === false) return 'it comes from a container';
  const path = process.program ?? claimedName(process);
  const why = relayedBy(path);
  if (why !== undefined) return `${visible(programName(path), MAX_NAME)} ${why}`;
  // Besides ourselves only root gets here, whose programs may be hidden from others; our own are not, but for few.
  if (process.program !== undefined || uid === 0 || mayHideItself(path)) return undefined;
  return 'the program that asks hides itself';
}

/** Why what a process does over a connection is not what it would do for itself. */
function relayOfUse(
  process: PeerProcess,
  seen: Seen | undefined,
  bindings: Bindings,
  asked?: Asked,
): string | undefined {
  const { program, claimedArguments } = process;
  const isBound = bindings.list.length > 0;
  if (program === undefined) return undefined;
  if (!isSshClient(program))
    return isBound ? `${visible(programName(program), MAX_NAME)} is no ssh, yet it has the session of one` : undefined;
  if (asked !== undefined && !OF_SSH.has(asked.kind)) return NO_LOGIN;
  if (asked?.kind === 'list' && !isBound && seen?.binds === true) return UNBOUND_LIST;
  const isMaster = DETACHED_MASTER.test(claimedArguments[0] ?? '');
  return isMaster && (isBound || asked?.kind === 'login') ? LOGGED_IN : undefined;
}

/** What is remembered of a process. */
interface Seen {
  readonly process: PeerProcess;
  /** The one session that an honest client has. */
  session: string | undefined;
  /** Whether it said so itself: older ones don't. */
  binds: boolean;
  relay: string | undefined;
}

function equalWords(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((word, i) => word === b[i]);
}

/** Names a process for good; undefined where its start is not known, since numbers are given again. */
function keyOf({ pid, startTime }: PeerProcess): string | undefined {
  return startTime === undefined ? undefined : `${pid} ${startTime}`;
}

/** Remembers which process has which session. */
export class Relays {
  readonly #lives: (process: PeerProcess) => boolean;
  /** The one that was added first comes first. */
  readonly #seen = new Map<string, Seen>();
  /** Living processes were forgotten that started so late, in clock ticks. */
  #forgottenUntil = -1;

  /** @param lives whether that very process still runs: those that don't are forgotten first */
  constructor(lives: (process: PeerProcess) => boolean = () => true) {
    this.#lives = lives;
  }

  /** Processes that are remembered now. */
  get size(): number {
    return this.#seen.size;
  }

  /**
   * Looks at who is at the other end of a connection, what it is bound to and what it asks for, and remembers it. To be called
   * for each request, after the binding where it is one: a process may be noticed by its other connections meanwhile.
   * @returns why it is taken for a relay of another machine, as words for the owner; undefined: nothing was noticed
   */
  notice(peer: Peer | undefined, bindings: Bindings = noBindings, asked?: Asked): string | undefined {
    if (peer === undefined) return undefined;
    const [process] = peer.processes();
    const relay = relayOfPeer(peer, process);
    // One that says that it forwards hides nothing; the sessions on it are those of others.
    if (relay !== undefined || process === undefined || isForwarded(bindings)) return relay;
    return this.#noticeUse(process, bindings, asked);
  }

  #noticeUse(process: PeerProcess, bindings: Bindings, asked: Asked | undefined): string | undefined {
    const key = keyOf(process);
    let seen = key === undefined ? undefined : this.#seen.get(key);
    if (seen?.relay !== undefined) return seen.relay;
    const use = relayOfUse(process, seen, bindings, asked);
    if (key === undefined) return use;
    const sessions = bindings.list.map(({ sessionId }) => base64(sessionId));
    // Other programs may well log in to many hosts, and bind to none.
    const isBinder = seen !== undefined || sessions.length > 0 || isSshClient(process.program ?? '');
    if (asked?.kind === 'login' && isBinder) sessions.push(base64(asked.sessionId));
    if (use === undefined && sessions.length === 0) return undefined;
    seen ??= this.#add(key, process);
    seen.relay ??= use;
    seen.binds ||= bindings.list.length > 0;
    for (const session of sessions) {
      seen.session ??= session;
      if (seen.session !== session) seen.relay ??= TWO_SESSIONS;
    }
    return seen.relay;
  }

  #add(key: string, process: PeerProcess): Seen {
    if (this.#seen.size >= MAX_PROCESSES) this.#makeRoom();
    // It may have had another session before it was forgotten.
    const relay =
      Number(process.startTime) <= this.#forgottenUntil
        ? 'too many clients at once to tell it from a relay'
        : undefined;
    const seen: Seen = { process, session: this.#sessionBefore(process), binds: false, relay };
    this.#seen.set(key, seen);
    return seen;
  }

  /** The session of the process that this one was before it went into the background, as `ssh -f` does after its login. */
  #sessionBefore({ pid, session, program, claimedArguments }: PeerProcess): string | undefined {
    if (session !== pid || program === undefined || !isSshClient(program)) return undefined;
    for (const { process: earlier, session: known } of this.#seen.values()) {
      const isSame = earlier.program === program && equalWords(earlier.claimedArguments, claimedArguments);
      // It led no session: a service that is started again does, each time.
      if (isSame && earlier.pid !== earlier.session && !this.#lives(earlier)) return known;
    }
    return undefined;
  }

  #makeRoom(): void {
    for (const [key, { process }] of this.#seen) if (!this.#lives(process)) this.#seen.delete(key);
    // Half of them, so that not every client has to be looked after anew.
    if (this.#seen.size < MAX_PROCESSES / 2) return;
    for (const [key, { process }] of this.#seen) {
      if (this.#seen.size < MAX_PROCESSES / 2) break;
      this.#seen.delete(key);
      this.#forgottenUntil = Math.max(this.#forgottenUntil, Number(process.startTime));
    }
  }
}
