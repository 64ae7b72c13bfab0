/**
 * One connection to an agent, message by message and byte by byte: what a well-behaved client hides is what tests want
 * to see. And the engine behind a stream, without a socket.
 */
import { Duplex } from 'node:stream';
import type { Agent } from '../agent/agent.ts';
import type { Session } from '../agent/session.ts';
import { concat, copy } from '../wire/bytes.ts';
import { encodeFrame, frameLength, LENGTH_BYTES, MAX_FRAME_BYTES } from '../wire/frame.ts';
import { encodeRequest, type Request } from '../wire/requests.ts';
import { decodeResponse, type Response } from '../wire/responses.ts';

const nothing = new Uint8Array();

/** Takes the whole frames off the front of `bytes`. @returns their messages, and what is left */
function cut(bytes: Uint8Array): { messages: Uint8Array[]; rest: Uint8Array } {
  const messages: Uint8Array[] = [];
  let at = 0;
  for (;;) {
    const length = frameLength(bytes, at);
    if (length === undefined || at + LENGTH_BYTES + length > bytes.length) break;
    messages.push(copy(bytes.subarray(at + LENGTH_BYTES, at + LENGTH_BYTES + length)));
    at += LENGTH_BYTES + length;
  }
  return { messages, rest: at === 0 ? bytes : copy(bytes.subarray(at)) };
}

export class AgentConnection {
  readonly #stream: Duplex;
  readonly #answers: Uint8Array[] = [];
  readonly #waiting: ((answer: Uint8Array | undefined) => void)[] = [];
  #pieces: Uint8Array[] = [];
  #length = 0;
  #closed = false;

  constructor(stream: Duplex) {
    this.#stream = stream;
    stream.on('data', (chunk: Uint8Array) => this.#read(chunk));
    const closed = (): void => {
      this.#closed = true;
      for (const resolve of this.#waiting.splice(0)) resolve(undefined);
    };
    stream.on('end', closed);
    stream.on('close', closed);
    stream.on('error', closed);
  }

  #read(chunk: Uint8Array): void {
    this.#pieces.push(copy(chunk));
    this.#length += chunk.length;
    const head = this.#pieces.length === 1 ? chunk : concat(...this.#pieces.slice(0, 2));
    const length = frameLength(head);
    // A long answer comes in many pieces: they are joined once, when it is whole.
    if (length === undefined || this.#length < LENGTH_BYTES + length) return;
    const { messages, rest } = cut(concat(...this.#pieces));
    this.#pieces = rest.length === 0 ? [] : [rest];
    this.#length = rest.length;
    for (const message of messages) {
      const resolve = this.#waiting.shift();
      if (resolve === undefined) this.#answers.push(message);
      else resolve(message);
    }
  }

  /** Sends bytes as they are. */
  send(bytes: Uint8Array): void {
    this.#stream.write(bytes);
  }

  /** The next answer, without its length field; undefined: the agent closed the connection. */
  answer(): Promise<Uint8Array | undefined> {
    const answer = this.#answers.shift();
    if (answer !== undefined || this.#closed) return Promise.resolve(answer);
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Sends a message, with its length in front, and waits for the answer. */
  ask(message: Uint8Array): Promise<Uint8Array | undefined> {
    this.send(encodeFrame(message));
    return this.answer();
  }

  /** The same, encoded and decoded. @throws Error where the connection was closed instead */
  async request(request: Request): Promise<Response> {
    const answer = await this.ask(encodeRequest(request).finish());
    if (answer === undefined) throw new Error(`the agent closed the connection on ${request.kind}`);
    return decodeResponse(answer);
  }

  /** Says that nothing more will be sent. */
  end(): void {
    this.#stream.end();
  }

  close(): void {
    this.#stream.destroy();
  }
}

/** The stream of a connection whose other end is a session in this process. Framing is the server's, in its plainest form. */
class SessionStream extends Duplex {
  readonly #session: Session;
  #rest: Uint8Array = nothing;

  constructor(session: Session) {
    super({ autoDestroy: true });
    this.#session = session;
  }

  override _read(): void {}

  override _write(chunk: Uint8Array, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#serve(chunk).then(
      () => done(),
      (error: unknown) => done(error instanceof Error ? error : new Error('the session failed')),
    );
  }

  async #serve(chunk: Uint8Array): Promise<void> {
    const bytes = this.#rest.length === 0 ? chunk : concat(this.#rest, chunk);
    const { messages, rest } = cut(bytes);
    this.#rest = copy(rest);
    for (const message of messages) {
      if (message.length === 0 || message.length > MAX_FRAME_BYTES) {
        this.destroy();
        return;
      }
      const pending = this.#session.handle(message);
      // The engine may keep nothing of a message past the call: whoever breaks that gets zeros to sign.
      message.fill(0);
      const answer = await pending;
      if (this.destroyed) return;
      this.push(encodeFrame(answer));
    }
    const next = frameLength(this.#rest);
    if (next === 0 || (next !== undefined && next > MAX_FRAME_BYTES)) this.destroy();
  }

  override _final(done: () => void): void {
    this.push(null);
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#session.close();
    done(error);
  }
}

/** A connection to `agent` without a socket. */
export function sessionStream(agent: Agent): Duplex {
  return new SessionStream(agent.openSession());
}
