/**
 * The engine: keys, lock and what connections share. A session is one connection's view of it. Nothing here does I/O;
 * time, people and logs come in through ports.
 */
import { Custody, type CustodyStatus } from '../keys/custody.ts';
import type { DecisionRules } from '../policy/decide.ts';
import type { Peer } from '../policy/facts.ts';
import { defaultWebsafe, type WebsafeRules } from '../policy/websafe.ts';
import { Keyring } from '../store/keyring.ts';
import { Lock } from '../store/lock.ts';
import { defaultPorts, type Ports } from './ports.ts';
import { Session } from './session.ts';

export interface AgentOptions {
  readonly ports?: Partial<Ports>;
  readonly custody?: Custody;
  /** Seconds that a key lives when it was added without a lifetime (`ssh-agent -t`). */
  readonly defaultLifetime?: number;
  /** Hash of fingerprints in questions (`ssh-agent -E`). Default: sha256. */
  readonly fingerprintHash?: string;
  /** What a security key that may be one for web sites signs (`ssh-agent -O`). */
  readonly websafe?: WebsafeRules;
  /** Whether a connection that is bound to a host may name libraries to load (`-O allow-remote-pkcs11`). */
  readonly allowRemoteProviders?: boolean;
}

const optionNames: ReadonlySet<string> = new Set([
  'ports',
  'custody',
  'defaultLifetime',
  'fingerprintHash',
  'websafe',
  'allowRemoteProviders',
]);

export interface AgentStatus {
  readonly keys: number;
  readonly locked: boolean;
  readonly sessions: number;
  readonly waitingQuestions: number;
  readonly custody: CustodyStatus;
}

/** Questions that may wait for a person at one time; further ones are refused. */
export const MAX_WAITING_QUESTIONS = 16;
/** Timers stand still while the machine sleeps: a key that expired meanwhile is wiped this long after it woke at the latest. */
const MAX_EXPIRY_WAIT_MS = 30_000;
/** A question ends after this long: sshd gives up on a login after 120 s. */
export const QUESTION_MS = 90_000;

export class Agent {
  readonly ports: Ports;
  readonly custody: Custody;
  readonly keyring = new Keyring();
  readonly lock: Lock;
  readonly defaultLifetime: number | undefined;
  readonly rules: DecisionRules;
  readonly allowRemoteProviders: boolean;
  #sessions = 0;
  #waitingQuestions = 0;
  #cancelExpiry: (() => void) | undefined;
  #expiryAt = Number.POSITIVE_INFINITY;

  constructor(options: AgentOptions = {}) {
    for (const name of Object.keys(options))
      if (!optionNames.has(name)) throw new TypeError(`createAgent: unknown option ${JSON.stringify(name)}`);
    this.ports = { ...defaultPorts, ...options.ports };
    this.custody = options.custody ?? new Custody();
    this.defaultLifetime = options.defaultLifetime;
    this.rules = { fingerprintHash: options.fingerprintHash ?? 'sha256', websafe: options.websafe ?? defaultWebsafe };
    this.allowRemoteProviders = options.allowRemoteProviders ?? false;
    const { clock } = this.ports;
    this.lock = new Lock(this.custody, (milliseconds) =>
      milliseconds === 0 ? Promise.resolve() : new Promise((resolve) => clock.after(milliseconds, resolve)),
    );
  }

  /** A session for a new connection; `peer` is undefined for a caller in this very process. */
  openSession(peer?: Peer): Session {
    this.#sessions++;
    return new Session(this, peer, () => {
      this.#sessions--;
    });
  }

  status(): AgentStatus {
    this.expire();
    return {
      keys: this.keyring.size,
      locked: this.lock.locked,
      sessions: this.#sessions,
      waitingQuestions: this.#waitingQuestions,
      custody: this.custody.status(),
    };
  }

  /** Token libraries whose keys are held. */
  providers(): readonly string[] {
    const found = this.keyring.entries().flatMap(({ provider }) => (provider === undefined ? [] : [provider]));
    return [...new Set(found)];
  }

  /** Wipes what has expired, and sees to it that the next is wiped in time even if nobody asks. */
  expire(): void {
    const { clock, log } = this.ports;
    const { keyring } = this;
    const next = keyring.nextExpiry;
    if (next !== Number.POSITIVE_INFINITY) {
      const gone = keyring.expire(clock.now());
      if (gone > 0) log('info', `${gone} key${gone === 1 ? '' : 's'} expired`);
    }
    if (keyring.nextExpiry === this.#expiryAt) return;
    this.#cancelExpiry?.();
    this.#cancelExpiry = undefined;
    this.#expiryAt = keyring.nextExpiry;
    if (this.#expiryAt === Number.POSITIVE_INFINITY) return;
    const wait = Math.min(MAX_EXPIRY_WAIT_MS, Math.max(0, this.#expiryAt - clock.now()));
    this.#cancelExpiry = clock.after(wait, () => {
      this.#expiryAt = Number.POSITIVE_INFINITY;
      this.expire();
    });
  }

  /** Wipes every key at once, also while locked: SIGUSR1, and the end of the agent. */
  removeAll(): void {
    this.keyring.removeAll();
    this.expire();
  }

  /**
   * Puts `question` to a person.
   * @param hangUp aborted when the client is gone
   */
  async confirm(question: string, hangUp: AbortSignal): Promise<boolean> {
    const { confirm, clock, log } = this.ports;
    if (this.#waitingQuestions >= MAX_WAITING_QUESTIONS) {
      log('error', `refused without asking: ${MAX_WAITING_QUESTIONS} questions wait for an answer already`);
      return false;
    }
    // A port that goes on thinking after its question was withdrawn must hold up nobody, and its answer no longer counts.
    const withdrawn = new AbortController();
    const withdraw = (): void => withdrawn.abort();
    const cancel = clock.after(QUESTION_MS, withdraw);
    hangUp.addEventListener('abort', withdraw, { once: true });
    if (hangUp.aborted) withdraw();
    const { signal } = withdrawn;
    const ended = new Promise<false>((resolve) => {
      if (signal.aborted) resolve(false);
      else signal.addEventListener('abort', () => resolve(false), { once: true });
    });
    this.#waitingQuestions++;
    try {
      const yes = await Promise.race([confirm.confirm(question, signal), ended]);
      return yes && !signal.aborted;
    } catch (error) {
      log('error', `asking failed: ${error instanceof Error ? error.name : 'unknown error'}`);
      return false;
    } finally {
      cancel();
      hangUp.removeEventListener('abort', withdraw);
      this.#waitingQuestions--;
    }
  }
}

/** An agent without a carrier: open sessions on it, or hand it to the server. @throws TypeError for an unknown option */
export function createAgent(options: AgentOptions = {}): Agent {
  return new Agent(options);
}
