/**
 * The agent protocol from the asking side (RFC 9987), over any stream of bytes: one method for each request. Requests may
 * be sent before earlier ones are answered; answers come in order, so the first one that waits gets the next one.
 * There is no time limit: an agent may be waiting for a person.
 */
import { copy } from '../wire/bytes.ts';
import { type Constraints, noConstraints } from '../wire/constraints.ts';
import { decodeQueryNames, encodeSessionBind, QUERY, SESSION_BIND, type SessionBind } from '../wire/extensions.ts';
import { frameLength, LENGTH_BYTES, MAX_FRAME_BYTES } from '../wire/frame.ts';
import { type AddedKey, encodeRequest, type Request } from '../wire/requests.ts';
import { decodeResponse, type Identity, type Response } from '../wire/responses.ts';
import { Writer } from '../wire/writer.ts';
import { AgentError } from './error.ts';

export { AgentError, type AgentErrorCode } from './error.ts';

/** Every method rejects with AgentError, and with WireError for a key that has no shape on the wire. */
export interface AgentClient {
  list(): Promise<readonly Identity[]>;
  /** The SSH signature blob over `data`. `flags` as SIGN_RSA_SHA2_256 and SIGN_RSA_SHA2_512. */
  sign(blob: Uint8Array, data: Uint8Array, flags?: number): Promise<Uint8Array>;
  /** The request's bytes are wiped once they are sent; `key` stays the caller's to wipe. */
  add(key: AddedKey, comment: string, constraints?: Constraints): Promise<void>;
  remove(blob: Uint8Array): Promise<void>;
  /** Version 1 means keys of the protocol before SSH 2, which agents take for a synonym or ignore. */
  removeAll(version?: 1 | 2): Promise<void>;
  addToken(provider: string, pin: Uint8Array, constraints?: Constraints): Promise<void>;
  removeToken(provider: string, pin: Uint8Array): Promise<void>;
  lock(passphrase: Uint8Array): Promise<void>;
  unlock(passphrase: Uint8Array): Promise<void>;
  /** The body of the answer, empty for a plain success. */
  extension(name: string, body?: Uint8Array): Promise<Uint8Array>;
  /** Names of the extensions that the agent serves. */
  query(): Promise<readonly string[]>;
  bind(bind: SessionBind): Promise<void>;
  /** Ends the connection; what still waits for an answer is rejected. */
  close(): void;
}

/** What a client needs of the stream that it talks over; node:net's sockets and node:stream's duplexes have it. */
export interface ByteStream {
  on(event: 'data', listener: (chunk: Uint8Array) => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
  on(event: 'end' | 'close', listener: () => void): unknown;
  /** Calls `done` when `bytes` is no longer needed, also where it could not be sent. */
  write(bytes: Uint8Array, done: () => void): unknown;
  destroy(): unknown;
}

interface Waiting {
  readonly resolve: (response: Response) => void;
  readonly reject: (error: AgentError) => void;
}

/**
 * The longest answer that is read, in bytes. OpenSSH's clients give up at 256 KiB, which some 4,000 keys fill; an agent may
 * hold more.
 */
export const MAX_ANSWER_BYTES = 16 * 1024 * 1024;

/** Cuts whole messages out of what arrives; never holds more than one message of MAX_ANSWER_BYTES. */
class FrameReader {
  readonly #header = new Uint8Array(LENGTH_BYTES);
  #headerLength = 0;
  #message: Uint8Array | undefined;
  #messageLength = 0;

  /** Hands each message that `chunk` completes to `deliver`, as an array of its own. @throws AgentError 'too-large' */
  push(chunk: Uint8Array, deliver: (message: Uint8Array) => void): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#message === undefined) {
        this.#header[this.#headerLength++] = chunk[at++] as number;
        const length = this.#headerLength === LENGTH_BYTES ? frameLength(this.#header) : undefined;
        if (length === undefined) continue;
        if (length > MAX_ANSWER_BYTES)
          throw new AgentError('too-large', `the agent announced an answer of ${length} bytes`);
        this.#message = new Uint8Array(length);
        this.#messageLength = 0;
      }
      const part = chunk.subarray(at, at + this.#message.length - this.#messageLength);
      this.#message.set(part, this.#messageLength);
      this.#messageLength += part.length;
      at += part.length;
      if (this.#messageLength < this.#message.length) continue;
      const message = this.#message;
      this.#message = undefined;
      this.#headerLength = 0;
      deliver(message);
    }
  }
}

class StreamClient implements AgentClient {
  readonly #stream: ByteStream;
  readonly #waiting: Waiting[] = [];
  #failure: AgentError | undefined;

  constructor(stream: ByteStream) {
    this.#stream = stream;
    const frames = new FrameReader();
    stream.on('data', (chunk: Uint8Array) => {
      try {
        frames.push(chunk, (message) => this.#answered(message));
      } catch (error) {
        this.#fail(
          error instanceof AgentError ? error : new AgentError('bad-reply', 'unreadable answer', { cause: error }),
        );
      }
    });
    stream.on('error', (cause) =>
      this.#fail(new AgentError('communication', 'the connection to the agent broke', { cause })),
    );
    const gone = (): void => this.#fail(new AgentError('communication', 'the agent closed the connection'));
    stream.on('end', gone);
    stream.on('close', gone);
  }

  #answered(message: Uint8Array): void {
    if (this.#failure !== undefined) return;
    const waiting = this.#waiting.shift();
    // From an answer that nobody asked for on, nobody knows which answer belongs to which request. (OpenSSH 10.3 and
    // 10.4 send such a one after `query`: whoever asks that does so last, or on a connection of its own.)
    if (waiting === undefined) {
      this.#fail(new AgentError('bad-reply', 'an answer that nobody asked for'));
      return;
    }
    try {
      waiting.resolve(decodeResponse(message));
    } catch (cause) {
      waiting.reject(new AgentError('bad-reply', 'the agent sent an answer that cannot be read', { cause }));
    }
  }

  #fail(error: AgentError): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    for (const waiting of this.#waiting.splice(0)) waiting.reject(error);
    this.#stream.destroy();
  }

  /** Sends `request` as one write and wipes what was written, since it may hold a secret. */
  async #ask(request: Request): Promise<Response> {
    if (this.#failure !== undefined) throw this.#failure;
    const writer = new Writer();
    try {
      writer.nested((message) => encodeRequest(request, message));
      if (writer.length - LENGTH_BYTES > MAX_FRAME_BYTES)
        throw new AgentError('too-large', `a request may have ${MAX_FRAME_BYTES} bytes at most`);
    } catch (error) {
      writer.wipe();
      throw error;
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#stream.write(writer.view(), () => writer.wipe());
    });
  }

  /** The answer to `request`, unless it is a failure or none of `expected`. */
  async #demand<Kind extends Response['kind']>(
    request: Request,
    ...expected: readonly Kind[]
  ): Promise<Extract<Response, { kind: Kind }>> {
    const response = await this.#ask(request);
    if (response.kind === 'failure') throw new AgentError('refused', 'agent refused operation');
    if (response.kind === 'extensionFailure') throw new AgentError('extension-failure', 'the extension failed');
    if (!expected.some((kind) => kind === response.kind))
      throw new AgentError('bad-reply', `the agent answered ${response.kind} to ${request.kind}`);
    return response as Extract<Response, { kind: Kind }>;
  }

  async list(): Promise<readonly Identity[]> {
    return (await this.#demand({ kind: 'list' }, 'identities')).identities;
  }

  async sign(blob: Uint8Array, data: Uint8Array, flags = 0): Promise<Uint8Array> {
    return copy((await this.#demand({ kind: 'sign', blob, data, flags }, 'signature')).signature);
  }

  async add(key: AddedKey, comment: string, constraints: Constraints = noConstraints): Promise<void> {
    await this.#demand({ kind: 'add', key, comment, constraints }, 'success');
  }

  async remove(blob: Uint8Array): Promise<void> {
    await this.#demand({ kind: 'remove', blob }, 'success');
  }

  async removeAll(version: 1 | 2 = 2): Promise<void> {
    await this.#demand({ kind: 'removeAll', version }, 'success');
  }

  async addToken(provider: string, pin: Uint8Array, constraints: Constraints = noConstraints): Promise<void> {
    await this.#demand({ kind: 'addToken', provider, pin, constraints }, 'success');
  }

  async removeToken(provider: string, pin: Uint8Array): Promise<void> {
    await this.#demand({ kind: 'removeToken', provider, pin }, 'success');
  }

  async lock(passphrase: Uint8Array): Promise<void> {
    await this.#demand({ kind: 'lock', passphrase }, 'success');
  }

  async unlock(passphrase: Uint8Array): Promise<void> {
    await this.#demand({ kind: 'unlock', passphrase }, 'success');
  }

  async extension(name: string, body: Uint8Array = new Uint8Array()): Promise<Uint8Array> {
    const response = await this.#demand({ kind: 'extension', name, body }, 'success', 'extensionResponse');
    if (response.kind === 'success') return new Uint8Array();
    if (response.name !== name) throw new AgentError('bad-reply', 'the answer is that of another extension');
    return copy(response.body);
  }

  async query(): Promise<readonly string[]> {
    const body = await this.extension(QUERY);
    try {
      return decodeQueryNames(body);
    } catch (cause) {
      throw new AgentError('bad-reply', 'the list of extensions cannot be read', { cause });
    }
  }

  async bind(bind: SessionBind): Promise<void> {
    await this.extension(SESSION_BIND, encodeSessionBind(bind));
  }

  close(): void {
    this.#fail(new AgentError('communication', 'the connection was closed'));
  }
}

/** A client over `stream`, which is its own from now on: it reads it, and destroys it when it fails or is closed. */
export function createAgentClient(stream: ByteStream): AgentClient {
  return new StreamClient(stream);
}
