/**
 * The engine: keys, lock and what connections share. A session is one connection's view of it. Nothing here does I/O;
 * time, people and logs come in through ports.
 */
import { Custody, type CustodyStatus } from '../keys/custody.ts';
import type { Policy } from '../policy/decide.ts';
import type { Peer } from '../policy/facts.ts';
import type { Guard } from '../policy/guard.ts';
import { Relays } from '../policy/relay.ts';
import { namesInRules } from '../policy/rules.ts';
import type { Words } from '../policy/sentence.ts';
import { defaultWebsafe, type WebsafeRules } from '../policy/websafe.ts';
import { Keyring } from '../store/keyring.ts';
import { Lock } from '../store/lock.ts';
import { defaultPorts, type Ports } from './ports.ts';
import { Questions } from './questions.ts';
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
  /** Defaults for what comes from another machine: OpenSSH's, which allow it, or Latchkey's. Default: openssh. */
  readonly table?: Policy['table'];
  /** Rules of the owner, before these defaults. */
  readonly rules?: Policy['rules'];
  /** The owner's home, which sentences show as ~. */
  readonly home?: string;
  /** Whether a connection that is bound to a host may name libraries to load (`-O allow-remote-pkcs11`). */
  readonly allowRemoteProviders?: boolean;
}

const optionNames: ReadonlySet<string> = new Set([
  'ports',
  'custody',
  'defaultLifetime',
  'fingerprintHash',
  'websafe',
  'table',
  'rules',
  'home',
  'allowRemoteProviders',
]);

export interface AgentStatus {
  readonly keys: number;
  readonly locked: boolean;
  readonly sessions: number;
  readonly waitingQuestions: number;
  /** Answers that hold on. */
  readonly consents: number;
  /** Terminals that show questions. */
  readonly watchers: number;
  /** When a question last reached nobody. */
  readonly lastUnanswered: string | null;
  readonly table: Policy['table'];
  readonly rules: number;
  readonly custody: CustodyStatus;
}

/** Timers stand still while the machine sleeps: a key that expired meanwhile is wiped this long after it woke at the latest. */
const MAX_EXPIRY_WAIT_MS = 30_000;

export class Agent {
  readonly ports: Ports;
  readonly custody: Custody;
  readonly keyring = new Keyring();
  readonly lock: Lock;
  readonly defaultLifetime: number | undefined;
  readonly questions: Questions;
  readonly relays: Relays;
  readonly words: Words;
  readonly allowRemoteProviders: boolean;
  /** Counts a signature that a guard lets through: false where it may not leave. Who opens guards puts it in place. */
  useGuard: (guard: Guard) => boolean = () => true;
  #policy: Policy;
  #namesInRules: readonly string[];
  #sessions = 0;
  #cancelExpiry: (() => void) | undefined;
  #expiryAt = Number.POSITIVE_INFINITY;

  constructor(options: AgentOptions = {}) {
    for (const name of Object.keys(options))
      if (!optionNames.has(name)) throw new TypeError(`createAgent: unknown option ${JSON.stringify(name)}`);
    this.ports = { ...defaultPorts, ...options.ports };
    this.custody = options.custody ?? new Custody();
    this.defaultLifetime = options.defaultLifetime;
    this.#policy = Object.freeze({
      fingerprintHash: options.fingerprintHash ?? 'sha256',
      websafe: options.websafe ?? defaultWebsafe,
      table: options.table ?? 'openssh',
      rules: options.rules ?? [],
      lasts: 'once',
    });
    this.#namesInRules = namesInRules(this.#policy.rules);
    this.words = { home: options.home };
    this.questions = new Questions(this.ports);
    this.relays = new Relays(this.ports.lives);
    this.allowRemoteProviders = options.allowRemoteProviders ?? false;
    const { clock } = this.ports;
    this.lock = new Lock(this.custody, (milliseconds) =>
      milliseconds === 0 ? Promise.resolve() : new Promise((resolve) => clock.after(milliseconds, resolve)),
    );
  }

  /** Host names that rules are about. */
  get namesOfInterest(): readonly string[] {
    return this.#namesInRules;
  }

  get policy(): Policy {
    return this.#policy;
  }

  /** Puts other rules in force, at once and for every connection; answers that last were given under the old ones. */
  setPolicy(change: Partial<Pick<Policy, 'table' | 'rules' | 'lasts'>>): void {
    this.#policy = Object.freeze({ ...this.#policy, ...change });
    this.#namesInRules = namesInRules(this.#policy.rules);
    this.questions.forgetConsents();
  }

  /** Whether an answer has a record that is not written yet. */
  get hasUnwritten(): boolean {
    return this.ports.records?.hasUnwritten === true;
  }

  /** Writes down what was recorded. @returns whether signatures may leave */
  writeRecords(): boolean {
    return this.ports.records?.flush() !== false;
  }

  /**
   * A session for a new connection.
   * @param peer undefined for a caller in this very process
   * @param guard through whose socket it came
   */
  openSession(peer?: Peer, guard?: Guard): Session {
    this.#sessions++;
    return new Session(this, peer, guard, () => {
      this.#sessions--;
    });
  }

  status(): AgentStatus {
    this.expire();
    return {
      keys: this.keyring.size,
      locked: this.lock.locked,
      sessions: this.#sessions,
      waitingQuestions: this.questions.size,
      consents: this.questions.consents,
      watchers: this.questions.watchers,
      lastUnanswered: this.questions.lastUnanswered ?? null,
      table: this.#policy.table,
      rules: this.#policy.rules.length,
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
}

/** An agent without a carrier: open sessions on it, or hand it to the server. @throws TypeError for an unknown option */
export function createAgent(options: AgentOptions = {}): Agent {
  return new Agent(options);
}
