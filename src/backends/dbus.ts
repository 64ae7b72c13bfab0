/**
 * A small client of D-Bus (its specification, sections "Authentication Protocol" and "Message Bus"): one connection to a
 * bus on a Unix socket, as this user, for calls and for signals that were asked for. It offers nothing itself, passes no
 * file descriptors, and trusts nothing that it reads: what is malformed or too long ends the connection.
 */
import { connect, type Socket } from 'node:net';
import {
  type Call,
  DbusError,
  type DbusValue,
  decodeMessage,
  encodeCall,
  MESSAGE_START_BYTES,
  type Message,
  messageLength,
} from './dbusmessage.ts';

/** For the greeting, and for each answer: starting a server that is not running yet takes a while. */
export const ANSWER_MS = 5000;
const MAX_GREETING_BYTES = 1024;
/** Addresses of one bus that are tried. */
const MAX_ADDRESSES = 4;
const MAX_CALLS = 64;

const BUS = {
  destination: 'org.freedesktop.DBus',
  path: '/org/freedesktop/DBus',
  interface: 'org.freedesktop.DBus',
} as const;

export interface Bus {
  /** @throws DbusError where it is refused, not answered in time, or the connection ends */
  call(call: Call): Promise<Message>;
  /** Calls without waiting for an answer. */
  tell(call: Call): void;
  /** Signals that match `rule` (and maybe others: look at them) go to the listener of `connectBus`. */
  match(rule: string): Promise<void>;
  /** Settles when the connection is over, whoever ended it. */
  readonly ended: Promise<void>;
  /** Ends the connection once what was told is written. */
  close(): void;
}

/**
 * Paths of the Unix sockets in an address such as DBUS_SESSION_BUS_ADDRESS; a path that begins with a NUL is an abstract
 * one. Other transports (tcp, launchd, a program to start) are passed over.
 */
export function socketPaths(address: string): readonly string[] {
  const paths: string[] = [];
  for (const one of address.split(';').slice(0, MAX_ADDRESSES)) {
    const [, words] = /^unix:(.*)$/.exec(one) ?? [];
    if (words === undefined) continue;
    const pairs = new Map(words.split(',').map((word) => word.split('=', 2) as [string, string | undefined]));
    try {
      const path = pairs.get('path');
      const abstract = pairs.get('abstract');
      if (path !== undefined) paths.push(decodeURIComponent(path));
      else if (abstract !== undefined) paths.push(`\0${decodeURIComponent(abstract)}`);
    } catch {
      // A percent sign that escapes nothing.
    }
  }
  return paths.filter((path) => path.length > 1 && path.lastIndexOf('\0') <= 0);
}

/**
 * Connects to the first bus of `address` that answers, and says hello.
 * @param signal ends the connection
 * @throws DbusError
 */
export async function connectBus(
  address: string,
  onSignal: (message: Message) => void,
  signal: AbortSignal,
): Promise<Bus> {
  let failure = new DbusError('no address of a Unix socket');
  for (const path of socketPaths(address)) {
    const connection = new Connection(connect(path), onSignal);
    const stop = (): void => connection.close();
    signal.addEventListener('abort', stop, { once: true });
    void connection.ended.then(() => signal.removeEventListener('abort', stop));
    if (signal.aborted) stop();
    try {
      await connection.greet();
      return connection;
    } catch (error) {
      connection.close();
      if (!(error instanceof DbusError) || signal.aborted) throw error;
      failure = error;
    }
  }
  throw failure;
}

interface Waiting {
  resolve(message: Message): void;
  reject(error: DbusError): void;
}

class Connection implements Bus {
  readonly #socket: Socket;
  readonly #onSignal: (message: Message) => void;
  readonly #calls = new Map<number, Waiting>();
  /** Called with each line of the greeting; undefined once messages have begun. */
  #onLine: ((line: string) => void) | undefined;
  #pending: Uint8Array = new Uint8Array();
  #serial = 0;
  #failure: DbusError | undefined;
  readonly ended: Promise<void>;

  constructor(socket: Socket, onSignal: (message: Message) => void) {
    this.#socket = socket;
    this.#onSignal = onSignal;
    this.ended = new Promise((resolve) => socket.once('close', () => resolve()));
    socket.on('error', (error: NodeJS.ErrnoException) => this.#fail(new DbusError(error.code ?? 'no connection')));
    socket.on('close', () => this.#fail(new DbusError('the bus hung up')));
    socket.on('data', (chunk: Uint8Array) => {
      try {
        this.#take(chunk);
      } catch (error) {
        this.#fail(error instanceof DbusError ? error : new DbusError('an unreadable message'));
      }
    });
  }

  #fail(error: DbusError): void {
    this.#failure ??= error;
    this.#socket.destroy();
    for (const { reject } of this.#calls.values()) reject(this.#failure);
    this.#calls.clear();
  }

  #take(chunk: Uint8Array): void {
    this.#pending = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    while (this.#onLine !== undefined) {
      const end = this.#pending.indexOf(0x0a);
      if (Math.max(end, this.#pending.length - 1) > MAX_GREETING_BYTES) throw new DbusError('the greeting is too long');
      if (end < 0) return;
      const text = new TextDecoder('latin1').decode(this.#pending.subarray(0, end)).trimEnd();
      this.#pending = this.#pending.subarray(end + 1);
      this.#onLine(text);
    }
    while (this.#pending.length >= MESSAGE_START_BYTES && this.#failure === undefined) {
      const length = messageLength(this.#pending);
      if (this.#pending.length < length) return;
      const message = decodeMessage(this.#pending.subarray(0, length));
      this.#pending = this.#pending.subarray(length);
      if (message !== undefined) this.#deliver(message);
    }
  }

  #deliver(message: Message): void {
    if (message.kind === 'signal') this.#onSignal(message);
    // Calls to us: nothing is served here, and whoever made one did not get this name from us.
    if ((message.kind !== 'return' && message.kind !== 'error') || message.replySerial === undefined) return;
    const waiting = this.#calls.get(message.replySerial);
    this.#calls.delete(message.replySerial);
    if (message.kind === 'return') waiting?.resolve(message);
    else waiting?.reject(new DbusError(message.errorName ?? 'refused'));
  }

  /** Authenticates as this process's uid, which the bus reads from the socket, and takes a name on the bus. */
  async greet(): Promise<void> {
    const uid = Buffer.from(String(process.getuid?.() ?? 0)).toString('hex');
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => this.#fail(new DbusError('no greeting in time')), ANSWER_MS);
      const finish = (): void => {
        clearTimeout(timer);
        this.#onLine = undefined;
      };
      this.#onLine = (text) => {
        finish();
        if (text === 'OK' || text.startsWith('OK ')) resolve();
        else this.#fail(new DbusError('the bus does not let us in'));
      };
      void this.ended.then(() => {
        finish();
        reject(this.#failure ?? new DbusError('the bus hung up'));
      });
      this.#socket.write(`\0AUTH EXTERNAL ${uid}\r\n`);
    });
    this.#socket.write('BEGIN\r\n');
    await this.call({ ...BUS, member: 'Hello', signature: '', body: [] });
  }

  call(call: Call): Promise<Message> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== undefined || this.#calls.size >= MAX_CALLS) {
        reject(this.#failure ?? new DbusError('too many calls'));
        return;
      }
      const serial = ++this.#serial;
      const timer = setTimeout(() => {
        this.#calls.delete(serial);
        reject(new DbusError(`no answer to ${call.member} in time`));
      }, ANSWER_MS);
      this.#calls.set(serial, {
        resolve: (message) => {
          clearTimeout(timer);
          resolve(message);
        },
        reject: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      });
      this.#socket.write(encodeCall(call, serial, true));
    });
  }

  tell(call: Call): void {
    if (this.#failure === undefined) this.#socket.write(encodeCall(call, ++this.#serial, false));
  }

  async match(rule: string): Promise<void> {
    await this.call({ ...BUS, member: 'AddMatch', signature: 's', body: [rule] });
  }

  close(): void {
    this.#failure ??= new DbusError('closed');
    this.#socket.end();
    // A bus that does not read must not keep the connection.
    setTimeout(() => this.#socket.destroy(), ANSWER_MS).unref();
    // What still comes is of no use.
    this.#socket.removeAllListeners('data');
    this.#socket.resume();
    for (const { reject } of this.#calls.values()) reject(this.#failure);
    this.#calls.clear();
  }
}

/** The first value of a body, where it is a list of texts. */
export function textsOf(body: readonly DbusValue[]): readonly string[] {
  const [list] = body;
  return Array.isArray(list) ? list.filter((one): one is string => typeof one === 'string') : [];
}
