/**
 * One connection's view of the agent: one message in, one message out, in order. Whatever a peer sends is answered; a
 * message that can't be read is answered with a failure and the session goes on.
 */

import { KeyError } from '../keys/error.ts';
import { loadMldsa, needsMldsa } from '../keys/mldsa.ts';
import { loadMldsaSigner } from '../keys/mldsasigner.ts';
import { fingerprint } from '../keys/publickey.ts';
import { type Bindings, bindRequest, isForwarded, noBindings } from '../policy/bindings.ts';
import { dependsOnAsker } from '../policy/decide.ts';
import type { Circumstances, Facts, Host, Peer } from '../policy/facts.ts';
import type { Guard } from '../policy/guard.ts';
import { hostCandidates } from '../policy/hostcandidates.ts';
import { purposeOf } from '../policy/purpose.ts';
import type { Asked } from '../policy/relay.ts';
import { type Description, describe } from '../policy/sentence.ts';
import { base64 } from '../wire/bytes.ts';
import { WireError } from '../wire/error.ts';
import { QUERY, SESSION_BIND } from '../wire/extensions.ts';
import { decodeRequest, REQUEST_NUMBERS, type Request } from '../wire/requests.ts';
import { RESPONSE_NUMBERS } from '../wire/responses.ts';
import { visible } from '../wire/visible.ts';
import type { Agent } from './agent.ts';
import { type Answer, extensionFailure, failure, noIdentities, served, success } from './answers.ts';
import { ADDING, LOCKED, ownersAlone, USES, whileLocked } from './gates.ts';
import { addKey, listKeys, removeKey } from './identities.ts';
import type { Use } from './ports.ts';
import { signData } from './sign.ts';
import { addToken, removeToken } from './tokens.ts';
import { surroundingsOf } from './uses.ts';

/** Names what is signed where its words depend on nothing else; undefined: they may. */
function nameOfSigned(facts: Facts): string | undefined {
  const { signed } = facts;
  if (signed.kind === 'sshsig') return `sshsig ${signed.namespace}`;
  if (signed.kind === 'login')
    return `${purposeOf(facts)} ${signed.hostKey === undefined ? '' : base64(signed.hostKey)} ${signed.user}`;
  return signed.kind === 'unidentified' ? signed.kind : undefined;
}

/** A use, without what is the same for all of a connection. */
type UseAsked = Omit<Use, 'hosts' | 'forwarded' | 'relay' | 'guard' | 'peer'>;

/** Whether a key or a host key in `message` may be of the composite type, whose code is loaded when first needed. */
function mayHoldMldsa(message: Uint8Array): boolean {
  const { add, addConstrained, extension } = REQUEST_NUMBERS;
  const number = message[0];
  return (number === add || number === addConstrained || number === extension) && needsMldsa(message);
}

export class Session {
  readonly agent: Agent;
  readonly peer: Peer | undefined;
  /** Through whose socket it came. */
  readonly guard: Guard | undefined;
  bindings: Bindings = noBindings;
  /** Why it is taken for a relay; once noticed it stays so. */
  #relay: string | undefined;
  #circumstances: Circumstances | undefined;
  /** What hashed names were tried with: other rules may speak of other hosts. */
  #tried: readonly string[] | undefined;
  #surroundings: ReturnType<typeof surroundingsOf> | undefined;
  #described:
    | { readonly circumstances: Circumstances; readonly what: string; readonly description: Description }
    | undefined;
  #isClosed = false;
  /** Made when somebody first has to learn of the end: most connections come and go without. */
  #closing: AbortController | undefined;
  readonly #onClose: () => void;

  constructor(agent: Agent, peer: Peer | undefined, guard: Guard | undefined, onClose: () => void) {
    this.agent = agent;
    this.peer = peer;
    this.guard = guard;
    this.#onClose = onClose;
  }

  /** Aborted when the client is gone. */
  get closed(): AbortSignal {
    if (this.#closing === undefined) {
      this.#closing = new AbortController();
      if (this.#isClosed) this.#closing.abort();
    }
    return this.#closing.signal;
  }

  /** The client is gone: questions that wait for an answer end. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#closing?.abort();
    this.#onClose();
  }

  /**
   * Answers one message. What has to be kept of `message` is copied before this returns, so the caller may wipe it then,
   * also where the answer is a promise. Never throws and never rejects.
   */
  handle(message: Uint8Array): Answer {
    const answer = this.answer(message);
    return answer instanceof Uint8Array ? this.#release(answer) : answer.then((made) => this.#release(made));
  }

  /** As `handle`, but the record may not be written yet: whoever sends it calls Agent.writeRecords before. */
  answer(message: Uint8Array): Answer {
    let answer: Answer;
    try {
      answer = mayHoldMldsa(message) ? this.#afterLoading(message) : this.#dispatch(decodeRequest(message));
    } catch (error) {
      return this.#failed(error, message[0]);
    }
    if (answer instanceof Uint8Array) return answer;
    // By then the message may be wiped.
    const number = message[0];
    return answer.catch((error: unknown) => this.#failed(error, number));
  }

  #release(answer: Uint8Array): Uint8Array {
    return this.agent.writeRecords() ? answer : this.withheld(answer);
  }

  /** What is sent where records could not be written: no signature leaves without its own. */
  withheld(answer: Uint8Array): Uint8Array {
    if (answer[0] !== RESPONSE_NUMBERS.signature) return answer;
    return this.refuse('sign: its record could not be written');
  }

  /**
   * What is known of this connection now.
   * @param asked what is asked for: that, too, may tell a relay
   */
  circumstances(asked?: Asked): Circumstances {
    const known = this.#circumstances;
    const { agent, peer, guard, bindings } = this;
    const { namesOfInterest } = agent;
    const isTried = this.#tried === namesOfInterest;
    const isNew = known?.bindings !== bindings || !isTried;
    if (this.#relay === undefined && (isNew || (asked !== undefined && dependsOnAsker(this.agent.policy))))
      this.#relay = agent.relays.notice(peer, bindings, asked);
    const relay = this.#relay;
    if (known !== undefined && !isNew && known.relay === relay) return known;
    const hosts = bindings.list.map((binding, i): Host => {
      const earlier = known?.hosts[i];
      if (earlier !== undefined && isTried) return earlier;
      // Hashed names are confirmed by trying those that the rules, guards and programs speak of.
      const candidates = [...namesOfInterest, ...hostCandidates(peer?.processes() ?? [])];
      const told = agent.ports.hosts.namesOf(binding.hostKey, candidates);
      return Object.freeze({ ...told, binding, fingerprint: fingerprint(binding.hostKey) });
    });
    const forwarded = guard !== undefined || relay !== undefined || isForwarded(bindings);
    this.#tried = namesOfInterest;
    this.#surroundings = undefined;
    this.#circumstances = Object.freeze({ peer, guard, bindings, hosts, relay, forwarded });
    return this.#circumstances;
  }

  /** Whether nothing but listing and signing is served here. */
  get isRestricted(): boolean {
    if (this.guard !== undefined) return true;
    return this.agent.policy.table === 'latchkey' && this.circumstances().forwarded;
  }

  /** What a signature is for. Clients ask for the same again and again, and words are dearer than a signature. */
  describe(facts: Facts): Description {
    const circumstances = this.circumstances();
    const what = nameOfSigned(facts);
    const known = this.#described;
    if (what !== undefined && known?.what === what && known.circumstances === circumstances) return known.description;
    const description = describe(facts, this.agent.words);
    this.#described = what === undefined ? undefined : { circumstances, what, description };
    return description;
  }

  /** Writes down a use; it is made up only where somebody keeps records. */
  note(use: UseAsked | (() => UseAsked)): void {
    const { records } = this.agent.ports;
    if (records === undefined) return;
    const circumstances = this.circumstances();
    this.#surroundings ??= surroundingsOf(circumstances, this.agent.words);
    records.append({ ...(typeof use === 'function' ? use() : use), ...this.#surroundings });
  }

  /** ML-DSA's code is loaded when a key first needs it; until then the message waits in custody. */
  async #afterLoading(message: Uint8Array): Promise<Uint8Array> {
    const kept = this.agent.custody.passing(message.length);
    kept.bytes.set(message);
    try {
      await Promise.all([loadMldsa(), loadMldsaSigner()]);
      return await this.#dispatch(decodeRequest(kept.bytes));
    } finally {
      kept.free();
    }
  }

  #failed(error: unknown, number: number | undefined): Uint8Array {
    const { log } = this.agent.ports;
    if (error instanceof WireError) {
      log('info', `malformed request: ${error.message}`);
      this.note({ kind: 'malformed', outcome: 'failed', sentence: 'malformed request', reason: error.message });
      return failure;
    }
    const kind = ADDING.get(number);
    // The text of an unexpected error is not ours to vouch for.
    const reason =
      error instanceof KeyError ? error.message : `internal error ${error instanceof Error ? error.name : ''}`;
    if (kind !== undefined) this.noteAbout(kind, 'denied', reason);
    log(error instanceof KeyError ? 'info' : 'error', `refused: ${reason}`);
    return failure;
  }

  #dispatch(request: Request): Answer {
    const { agent } = this;
    // For signing this waits until it is known what is to be signed.
    if (request.kind !== 'sign' && dependsOnAsker(this.agent.policy)) this.circumstances(request);
    if (agent.lock.locked) {
      const gate = whileLocked[request.kind];
      if (gate === 'empty') {
        if (this.isRestricted) this.noteAbout('list', 'denied', LOCKED);
        return noIdentities;
      }
      if (gate === 'refuse') return this.deny(request.kind, LOCKED);
    }
    if (ownersAlone.has(request.kind) && this.isRestricted) return this.deny(request.kind, 'not for other machines');
    switch (request.kind) {
      case 'list':
        return listKeys(this);
      case 'sign':
        return signData(this, request);
      case 'add':
        return addKey(this, request);
      case 'remove':
        return removeKey(this, request.blob);
      case 'removeAll':
        agent.removeAll();
        this.noteAbout('removeAll', 'allowed');
        return success;
      case 'lock':
        return this.#lock(request.passphrase);
      case 'unlock':
        return this.#unlock(request.passphrase);
      case 'extension':
        return this.#extension(request.name, request.body);
      case 'addToken':
        return addToken(this, request);
      case 'removeToken':
        return removeToken(this, request.provider);
      case 'unknown':
        return this.deny(request.kind, `message number ${request.number} is not served`);
      default:
        return request satisfies never;
    }
  }

  /** A failure whose reason the owner finds in the log. */
  refuse(reason: string): Uint8Array {
    this.agent.ports.log('info', `refused: ${reason}`);
    return failure;
  }

  /** Refuses what is served elsewhere, or at another time, and writes it down. */
  deny(request: Request['kind'], reason: string): Uint8Array {
    this.noteAbout(request, 'denied', reason);
    return this.refuse(`${USES[request][1]}: ${reason}`);
  }

  /** Writes down a request by the words of its kind. */
  noteAbout(request: Request['kind'], outcome: Use['outcome'], reason?: string): void {
    const [kind, sentence] = USES[request];
    this.note({ kind, outcome, sentence, ...(reason === undefined ? {} : { reason }) });
  }

  /** The connection ends in a way that no honest client's does. */
  broken(reason: string): void {
    this.note({ kind: 'connection', outcome: 'failed', sentence: 'a connection that broke off', reason });
    this.agent.writeRecords();
  }

  async #lock(passphrase: Uint8Array): Promise<Uint8Array> {
    const { agent } = this;
    agent.expire();
    // libcrypto's copies go before custody is sealed; a signature under way frees its own when it ends.
    for (const { signer } of agent.keyring.entries()) signer.rest();
    if (!(await agent.lock.lock(passphrase))) return this.deny('lock', 'an empty pass phrase, or locked already');
    agent.questions.forgetConsents();
    agent.ports.log('info', 'locked');
    this.noteAbout('lock', 'allowed');
    return success;
  }

  async #unlock(passphrase: Uint8Array): Promise<Uint8Array> {
    const { lock, ports } = this.agent;
    if (!(await lock.unlock(passphrase, this.peer?.pid ?? this))) return this.deny('unlock', 'wrong pass phrase');
    ports.log('info', 'unlocked');
    this.noteAbout('unlock', 'allowed');
    return success;
  }

  #extension(name: string, body: Uint8Array): Uint8Array {
    if (name === SESSION_BIND) return this.#bind(body);
    if (this.agent.lock.locked) return this.deny('extension', LOCKED);
    if (name === QUERY && body.length === 0) {
      if (this.isRestricted) this.note({ kind: 'extension', outcome: 'allowed', sentence: 'query the extensions' });
      return served;
    }
    return this.deny('extension', `${visible(name, 64)} is not served`);
  }

  #bind(body: Uint8Array): Uint8Array {
    const { bindings, accepted, reason } = bindRequest(this.bindings, body);
    this.bindings = bindings;
    // Which session a process speaks for has to be known before another connection of it says something else.
    if (dependsOnAsker(this.agent.policy)) this.#relay ??= this.agent.relays.notice(this.peer, bindings);
    if (accepted) return success;
    this.agent.ports.log('error', `session binding refused: ${reason}`);
    this.note({
      kind: 'bind',
      outcome: 'denied',
      sentence: 'say which host is at the other end',
      reason: reason ?? '',
    });
    return extensionFailure;
  }
}
