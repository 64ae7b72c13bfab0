/**
 * The byte stream under a connection. Node's handle of an accepted socket is used as it is: reads land in the one buffer
 * that all share, and answers are written at once, without the queues, events and closures of a net.Socket, which cost
 * several kilobytes and as much time as the rest of a request. A client that does not take its answers, and a Node whose
 * handles are otherwise, get a net.Socket on the same handle, which knows how to wait.
 */
import { writeSync } from 'node:fs';
import { Socket } from 'node:net';

/** What this file uses of Node's handle of a connected socket: undocumented, and looked at before it is relied upon. */
export interface Handle {
  readonly fd: number;
  readonly bytesRead: number;
  /** net.Socket's own note on the handle. */
  reading?: boolean;
  onread: ((this: Handle) => void) | undefined;
  close(): void;
  readStart(): number;
  readStop(): number;
  useUserBuffer(buffer: Uint8Array): void;
}

/** Who reads the stream. */
export interface StreamUser {
  /** Takes what was read; it is wiped afterwards. @returns whether to read on */
  read(chunk: Uint8Array): boolean;
  /** The other end sends no more. */
  end(): void;
  /** What was written has gone out, where it was more than Node's mark for a stream: 64 KiB at most. */
  drained(): void;
  /** The stream broke, or was closed. */
  gone(): void;
}

const STREAM: unique symbol = Symbol('stream');
type OwnedHandle = Handle & { [STREAM]?: Stream };

/** Whether a handle has all that is used of it. */
function isUsable(handle: Handle): boolean {
  const { readStart, readStop, useUserBuffer } = handle;
  return (
    Number.isInteger(handle.bytesRead) && [readStart, readStop, useUserBuffer].every((one) => typeof one === 'function')
  );
}

/** One for all handles, which are its `this`: the count of bytes tells how many came, or none at the end. */
function onRead(this: OwnedHandle): void {
  this[STREAM]?.took(this.bytesRead);
}

/** Codes of errors that mean "later". */
const LATER: ReadonlySet<unknown> = new Set(['EAGAIN', 'EWOULDBLOCK']);

export class Stream {
  readonly #handle: OwnedHandle;
  readonly #buffer: Uint8Array;
  readonly #user: StreamUser;
  #fd: number;
  #bytesRead = 0;
  #reading = false;
  #socket: Socket | undefined;

  /**
   * @param handle of an accepted socket that nobody reads yet
   * @param buffer what all streams read into, one after another
   */
  constructor(handle: Handle, buffer: Uint8Array, user: StreamUser) {
    this.#handle = handle;
    this.#buffer = buffer;
    this.#user = user;
    this.#fd = handle.fd;
    // A handle that came with a socket of Node's may be read already.
    handle.readStop();
    handle.reading = false;
    if (!isUsable(handle)) {
      this.#takeOver();
      return;
    }
    this.#handle[STREAM] = this;
    handle.onread = onRead;
    handle.useUserBuffer(buffer);
  }

  /** Bytes that the other end has not taken. */
  get unsent(): number {
    return this.#socket?.writableLength ?? 0;
  }

  get isOpen(): boolean {
    return this.#fd >= 0;
  }

  /** Reads from now on, or again. */
  resume(): void {
    if (this.#fd < 0) return;
    if (this.#socket !== undefined) this.#socket.read(0);
    else if (!this.#reading) {
      this.#reading = true;
      if (this.#handle.readStart() !== 0) this.close();
    }
  }

  /** Told by the handle: it has read this many bytes since it was made. */
  took(bytesRead: number): void {
    const length = bytesRead - this.#bytesRead;
    this.#bytesRead = bytesRead;
    if (length > 0) {
      if (!this.#deliver(length)) this.#pause();
      return;
    }
    this.#pause();
    this.#user.end();
  }

  #pause(): void {
    if (!this.#reading || this.#fd < 0 || this.#socket !== undefined) return;
    this.#reading = false;
    this.#handle.readStop();
  }

  #deliver(length: number): boolean {
    const chunk = this.#buffer.subarray(0, length);
    try {
      return this.#user.read(chunk);
    } finally {
      chunk.fill(0);
    }
  }

  /** Sends the first `length` of `bytes`, which may change once this returns. */
  write(bytes: Uint8Array, length: number): void {
    if (this.#fd < 0) return;
    let sent = 0;
    if (this.#socket === undefined) {
      try {
        sent = writeSync(this.#fd, bytes, 0, length);
      } catch (error) {
        if (!LATER.has((error as NodeJS.ErrnoException).code)) {
          this.close();
          return;
        }
      }
      if (sent === length) return;
      this.#takeOver();
    }
    this.#socket?.write(bytes.slice(sent, length));
  }

  /** A net.Socket goes on with the handle. */
  #takeOver(): void {
    const paused = this.#reading;
    this.#pause();
    delete this.#handle[STREAM];
    const socket = new Socket({
      // @ts-expect-error Node's own code passes a handle; its types leave it out.
      handle: this.#handle,
      allowHalfOpen: true,
      manualStart: true,
      onread: { buffer: this.#buffer, callback: (length: number) => this.#deliver(length) },
    });
    this.#socket = socket;
    const gone = (): void => {
      this.#fd = -1;
      this.#user.gone();
    };
    socket.on('end', () => this.#user.end());
    socket.on('drain', () => this.#user.drained());
    socket.on('error', gone);
    socket.on('close', gone);
    if (paused) socket.read(0);
  }

  /** Closes once all that was written is sent. */
  finish(): void {
    if (this.#socket === undefined) this.close();
    else this.#socket.end(() => this.close());
  }

  close(): void {
    if (this.#fd < 0) return;
    this.#fd = -1;
    if (this.#socket !== undefined) this.#socket.destroy();
    else {
      delete this.#handle[STREAM];
      this.#handle.close();
    }
    this.#user.gone();
  }
}
