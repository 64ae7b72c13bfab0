/**
 * One connection's view of the agent: one message in, one message out, in order. Whatever a peer sends is answered; a
 * message that can't be read is answered with a failure and the session goes on.
 */

import { KeyError } from '../keys/error.ts';
import { loadMldsa, needsMldsa } from '../keys/mldsa.ts';
import { loadMldsaSigner } from '../keys/mldsasigner.ts';
import { type Bindings, bindRequest, noBindings } from '../policy/bindings.ts';
import type { Peer } from '../policy/facts.ts';
import { WireError } from '../wire/error.ts';
import { QUERY, SESSION_BIND } from '../wire/extensions.ts';
import { decodeRequest, REQUEST_NUMBERS, type Request } from '../wire/requests.ts';
import { visible } from '../wire/visible.ts';
import type { Agent } from './agent.ts';
import { type Answer, extensionFailure, failure, noIdentities, served, success } from './answers.ts';
import { addKey, listKeys, removeKey } from './identities.ts';
import { signData } from './sign.ts';
import { addToken, removeToken } from './tokens.ts';

/**
 * What a locked agent does with each request. A binding only says where a connection goes and has to be known later
 * (CVE-2026-73281: refused while locked, a forwarded connection counted as local afterwards).
 */
const whileLocked: Readonly<Record<Request['kind'], 'serve' | 'empty' | 'refuse'>> = {
  list: 'empty',
  unlock: 'serve',
  extension: 'serve', // session-bind alone; see #extension
  sign: 'refuse',
  add: 'refuse',
  remove: 'refuse',
  removeAll: 'refuse',
  addToken: 'refuse',
  removeToken: 'refuse',
  lock: 'refuse',
  unknown: 'refuse',
};

/** Whether a key or a host key in `message` may be of the composite type, whose code is loaded when first needed. */
function mayHoldMldsa(message: Uint8Array): boolean {
  const { add, addConstrained, extension } = REQUEST_NUMBERS;
  const number = message[0];
  return (number === add || number === addConstrained || number === extension) && needsMldsa(message);
}

export class Session {
  readonly agent: Agent;
  readonly peer: Peer | undefined;
  bindings: Bindings = noBindings;
  #isClosed = false;
  /** Made when somebody first has to learn of the end: most connections come and go without. */
  #closing: AbortController | undefined;
  readonly #onClose: () => void;

  constructor(agent: Agent, peer: Peer | undefined, onClose: () => void) {
    this.agent = agent;
    this.peer = peer;
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
    let answer: Answer;
    try {
      answer = mayHoldMldsa(message) ? this.#afterLoading(message) : this.#dispatch(decodeRequest(message));
    } catch (error) {
      return this.#failed(error);
    }
    return answer instanceof Uint8Array ? answer : answer.catch((error: unknown) => this.#failed(error));
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

  #failed(error: unknown): Uint8Array {
    const { log } = this.agent.ports;
    if (error instanceof WireError) log('info', `malformed request: ${error.message}`);
    else if (error instanceof KeyError) log('info', `refused: ${error.message}`);
    // The text of an unexpected error is not ours to vouch for.
    else log('error', `refused: internal error ${error instanceof Error ? error.name : ''}`);
    return failure;
  }

  #dispatch(request: Request): Answer {
    const { agent } = this;
    if (agent.lock.locked) {
      const gate = whileLocked[request.kind];
      if (gate === 'empty') return noIdentities;
      if (gate === 'refuse') return this.refuse(`the agent is locked: ${request.kind}`);
    }
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
        return this.refuse(`message number ${request.number} is not served`);
      default:
        return request satisfies never;
    }
  }

  /** A failure whose reason the owner finds in the log. */
  refuse(reason: string): Uint8Array {
    this.agent.ports.log('info', `refused: ${reason}`);
    return failure;
  }

  async #lock(passphrase: Uint8Array): Promise<Uint8Array> {
    const { agent } = this;
    agent.expire();
    // libcrypto's copies go before custody is sealed; a signature under way frees its own when it ends.
    for (const { signer } of agent.keyring.entries()) signer.rest();
    if (!(await agent.lock.lock(passphrase))) return this.refuse('lock with an empty pass phrase, or locked already');
    agent.ports.log('info', 'locked');
    return success;
  }

  async #unlock(passphrase: Uint8Array): Promise<Uint8Array> {
    const { lock, ports } = this.agent;
    if (!(await lock.unlock(passphrase, this.peer?.pid ?? this))) return this.refuse('unlock: wrong pass phrase');
    ports.log('info', 'unlocked');
    return success;
  }

  #extension(name: string, body: Uint8Array): Uint8Array {
    if (name === SESSION_BIND) return this.#bind(body);
    if (this.agent.lock.locked) return this.refuse('the agent is locked: extension');
    if (name === QUERY && body.length === 0) return served;
    return this.refuse(`extension ${visible(name, 64)} is not served`);
  }

  #bind(body: Uint8Array): Uint8Array {
    const { bindings, accepted, reason } = bindRequest(this.bindings, body);
    this.bindings = bindings;
    if (accepted) return success;
    this.agent.ports.log('error', `session binding refused: ${reason}`);
    return extensionFailure;
  }
}
