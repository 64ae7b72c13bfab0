/**
 * One client's connection: bytes in, whole frames to the session one at a time, answers out in order. What is read lands
 * in one buffer in custody that all connections share, since reads come one after another; what can't be handled yet
 * (half a frame, or frames behind one that waits for a person) is kept aside, in custody where it may hold a secret.
 */
import type { Agent } from '../agent/agent.ts';
import type { Custody, Slot } from '../agent/ports.ts';
import type { Session } from '../agent/session.ts';
import { frameLength, LENGTH_BYTES, MAX_FRAME_BYTES } from '../wire/frame.ts';
import { carriesSecret } from '../wire/requests.ts';
import { type Handle, Stream, type StreamUser } from './stream.ts';

/** Bytes read at a time. */
export const READ_BYTES = 64 * 1024;
/** Bytes that wait behind an unanswered request before the connection is no longer read. */
export const MAX_WAITING_BYTES = READ_BYTES;
/** Answers that the client does not take, in bytes, before no more of its requests are served. */
export const MAX_UNSENT_BYTES = MAX_FRAME_BYTES;
const SMALLEST_RUN = 256;

/** Half-sent frames of all connections together, in bytes; above it the one that has been still the longest is closed. */
export const MAX_HELD_BYTES = 8 * 1024 * 1024;
/** The same for those that may carry a secret, which lie in locked memory. */
export const MAX_HELD_SECRET_BYTES = 1024 * 1024;

/** Bytes kept aside: in the heap, or in custody. */
interface Run {
  readonly bytes: Uint8Array;
  readonly slot: Slot | undefined;
}

/** What connections keep aside, together: a bound that many half-sent frames can't get around. */
export class HeldBytes {
  readonly #custody: Custody;
  /** Connections with a half-sent frame, the one longest without a byte first. */
  readonly #holders = new Set<Connection>();
  #plain = 0;
  #secret = 0;

  constructor(custody: Custody) {
    this.#custody = custody;
  }

  /** A run of at least `length` bytes for `holder`. @throws KeyError where custody has no room */
  take(length: number, secret: boolean, holder: Connection): Run {
    let size = SMALLEST_RUN;
    while (size < length) size *= 2;
    for (const other of this.#holders) {
      const over = secret ? this.#secret + size > MAX_HELD_SECRET_BYTES : this.#plain + size > MAX_HELD_BYTES;
      if (!over) break;
      if (other !== holder && other.holdsSecret === secret)
        other.breakOff('half a message held for long, and room is short');
    }
    const slot = secret ? this.#custody.passing(size) : undefined;
    if (slot === undefined) this.#plain += size;
    else this.#secret += size;
    return { bytes: slot?.bytes ?? new Uint8Array(size), slot };
  }

  give(run: Run): void {
    if (run.slot === undefined) this.#plain -= run.bytes.length;
    else {
      this.#secret -= run.bytes.length;
      run.slot.free();
    }
  }

  /** `holder` was sent more of what it holds. */
  touch(holder: Connection): void {
    this.#holders.delete(holder);
    this.#holders.add(holder);
  }

  forget(holder: Connection): void {
    this.#holders.delete(holder);
  }
}

/** Whether any frame of what `kept` and `chunk` make together may carry a secret. `kept` begins with a frame. */
function holdsSecret(kept: Uint8Array, chunk: Uint8Array): boolean {
  const byte = (at: number): number => (at < kept.length ? kept[at] : chunk[at - kept.length]) as number;
  const total = kept.length + chunk.length;
  for (let at = 0; at + LENGTH_BYTES < total; ) {
    const length = (byte(at) * 2 ** 24 + (byte(at + 1) << 16) + (byte(at + 2) << 8)) | byte(at + 3);
    if (length <= 0 || length > MAX_FRAME_BYTES) return false;
    if (carriesSecret(byte(at + LENGTH_BYTES))) return true;
    at += LENGTH_BYTES + length;
  }
  return false;
}

const nothing = new Uint8Array();
/** Where answers are put together: they are sent, or copied, before the next. Not cleared: that would touch all of its pages. */
const outgoing = Buffer.allocUnsafeSlow(READ_BYTES);

/** Told once when a connection is over. One for all, since a closure for each is memory for each. */
export type OnClose = (connection: Connection) => void;

/** What all connections of one agent have together. */
export interface Shared {
  readonly held: HeldBytes;
  /** What they read into: Node reads and calls back for one socket after another. */
  readonly buffer: Uint8Array;
  /** Called for all that is read, and for each connection that ends. */
  readonly worked: () => void;
  readonly outbox: Outbox;
}

/** Where answers wait for their records: those of one turn of the loop are written down with one write. */
export class Outbox {
  readonly #agent: Pick<Agent, 'hasUnwritten' | 'writeRecords'>;
  #waiting: Connection[] = [];

  constructor(agent: Pick<Agent, 'hasUnwritten' | 'writeRecords'>) {
    this.#agent = agent;
  }

  get hasUnwritten(): boolean {
    return this.#agent.hasUnwritten;
  }

  put(connection: Connection): void {
    if (this.#waiting.push(connection) === 1) setImmediate(this.release);
  }

  readonly release = (): void => {
    const waiting = this.#waiting;
    this.#waiting = [];
    const isWritten = this.#agent.writeRecords();
    for (const connection of waiting) connection.release(isWritten);
  };
}

export class Connection implements StreamUser {
  readonly #stream: Stream;
  readonly #session: Session;
  readonly #shared: Shared;
  readonly #onClose: OnClose;
  #run: Run | undefined;
  #length = 0;
  /** A request is being answered elsewhere: by a person, or on another thread. */
  #busy = false;
  /** Answers whose records are not written yet. */
  #leaving: Uint8Array[] = [];
  #leavingBytes = 0;
  #ended = false;
  #closed = false;

  constructor(handle: Handle, shared: Shared, session: Session, onClose: OnClose) {
    this.#session = session;
    this.#shared = shared;
    this.#onClose = onClose;
    this.#stream = new Stream(handle, shared.buffer, this);
  }

  /** Reads from now on. */
  start(): void {
    this.#stream.resume();
  }

  get holdsSecret(): boolean {
    return this.#run?.slot !== undefined;
  }

  /** Closes, and has it written down why. */
  breakOff(reason: string): void {
    if (!this.#closed) this.#session.broken(reason);
    this.#length = 0;
    this.close();
  }

  close(): void {
    if (this.#closed) return;
    // What waits behind an answer that is due was whole, or may be.
    if (this.#length > 0 && !this.#busy) this.#session.broken('it ended in the middle of a message');
    this.#closed = true;
    this.#session.close();
    this.#release();
    this.#stream.close();
    this.#onClose(this);
  }

  #release(): void {
    if (this.#run !== undefined) this.#shared.held.give(this.#run);
    this.#shared.held.forget(this);
    this.#run = undefined;
    this.#length = 0;
  }

  get #blocked(): boolean {
    return this.#busy || this.#stream.unsent + this.#leavingBytes > MAX_UNSENT_BYTES;
  }

  /**
   * Takes what was read; nothing of `chunk` is kept, and the caller wipes it.
   * @returns whether to read on
   */
  read(chunk: Uint8Array): boolean {
    if (this.#closed) return false;
    this.#shared.worked();
    try {
      if (this.#run === undefined) {
        const rest = chunk.subarray(this.#serve(chunk));
        if (rest.length > 0 && !this.#closed) this.#append(rest);
      } else {
        this.#append(chunk);
        this.#serveHeld();
      }
    } catch {
      // Custody has no room for this frame: the connection goes, the agent and its keys stay.
      this.breakOff('no room for its message');
    }
    if (this.#closed) return false;
    return !this.#blocked || this.#length < MAX_WAITING_BYTES;
  }

  /** Serves whole frames from the start of `bytes` while nothing blocks. @returns how many bytes are done with */
  #serve(bytes: Uint8Array): number {
    let at = 0;
    let unsent = 0;
    let batch: Uint8Array[] = [];
    while (!this.#closed && !this.#blocked) {
      if (unsent > MAX_UNSENT_BYTES) {
        // Only now it shows whether the client takes its answers.
        this.#write(batch);
        batch = [];
        unsent = 0;
        continue;
      }
      const length = frameLength(bytes, at);
      if (length === undefined) break;
      if (length > MAX_FRAME_BYTES || length === 0) {
        // Too long, or a message without its number: OpenSSH closes as well.
        this.#write(batch);
        this.#shared.outbox.release();
        this.breakOff(length === 0 ? 'a message without a number' : 'a message that is too long');
        return bytes.length;
      }
      const end = at + LENGTH_BYTES + length;
      if (end > bytes.length) break;
      const answer = this.#session.answer(bytes.subarray(at + LENGTH_BYTES, end));
      at = end;
      if (answer instanceof Uint8Array) {
        batch.push(answer);
        unsent += answer.length;
      } else this.#wait(answer);
    }
    this.#write(batch);
    return at;
  }

  #wait(answer: Promise<Uint8Array>): void {
    this.#busy = true;
    answer.then((message) => {
      this.#busy = false;
      if (this.#closed) return;
      this.#write([message]);
      this.#resume();
    });
  }

  /** Lets answers go once their records are written, and never before those of earlier requests. */
  #write(answers: readonly Uint8Array[]): void {
    if (answers.length === 0 || this.#closed) return;
    const { outbox } = this.#shared;
    if (this.#leaving.length === 0 && !outbox.hasUnwritten) {
      this.#send(answers);
      return;
    }
    if (this.#leaving.length === 0) outbox.put(this);
    for (const answer of answers) {
      this.#leaving.push(answer);
      this.#leavingBytes += answer.length;
    }
  }

  /** Records were written, or could not be. */
  release(isWritten: boolean): void {
    const answers = isWritten ? this.#leaving : this.#leaving.map((answer) => this.#session.withheld(answer));
    this.#leaving = [];
    this.#leavingBytes = 0;
    if (this.#closed) return;
    this.#send(answers);
    this.#resume();
  }

  /** Writes answers in one piece, each with its length in front: some clients take one read for one answer. */
  #send(answers: readonly Uint8Array[]): void {
    let length = 0;
    for (const answer of answers) length += LENGTH_BYTES + answer.length;
    const out = length <= outgoing.length ? outgoing : new Uint8Array(length);
    let at = 0;
    for (const answer of answers) {
      out[at] = answer.length >>> 24;
      out[at + 1] = answer.length >>> 16;
      out[at + 2] = answer.length >>> 8;
      out[at + 3] = answer.length;
      out.set(answer, at + LENGTH_BYTES);
      at += LENGTH_BYTES + answer.length;
    }
    this.#stream.write(out, length);
  }

  /** Puts `chunk` behind what is kept, in memory that fits what it may be. */
  #append(chunk: Uint8Array): void {
    const old = this.#run;
    const kept = old?.bytes.subarray(0, this.#length) ?? nothing;
    const length = kept.length + chunk.length;
    const secret = old?.slot !== undefined || holdsSecret(kept, chunk);
    this.#shared.held.touch(this);
    if (old === undefined || old.bytes.length < length || secret !== (old.slot !== undefined)) {
      this.#run = this.#shared.held.take(length, secret, this);
      this.#run.bytes.set(kept);
      if (old !== undefined) this.#shared.held.give(old);
    }
    this.#run?.bytes.set(chunk, kept.length);
    this.#length = length;
  }

  #serveHeld(): void {
    const run = this.#run;
    if (run === undefined) return;
    const done = this.#serve(run.bytes.subarray(0, this.#length));
    if (this.#closed || done === 0) return;
    const left = this.#length - done;
    if (left === 0) {
      this.#release();
      return;
    }
    run.bytes.copyWithin(0, done, this.#length);
    run.bytes.fill(0, left, this.#length);
    this.#length = left;
  }

  /** The client took what was written. */
  drained(): void {
    this.#resume();
  }

  gone(): void {
    this.close();
  }

  /** An answer went out or the client took some: go on with what waits, then with reading. */
  #resume(): void {
    if (this.#closed || this.#blocked) return;
    try {
      this.#serveHeld();
    } catch {
      this.close();
      return;
    }
    if (this.#closed || this.#blocked) return;
    if (this.#ended && this.#leaving.length === 0) this.#finish();
    else this.#stream.resume();
  }

  /** The client sends no more. A question to a person ends; what was answered still goes out. */
  end(): void {
    this.#ended = true;
    if (this.#busy) this.#session.close();
    if (!this.#blocked && this.#leaving.length === 0) this.#finish();
  }

  #finish(): void {
    this.#stream.finish();
  }
}
