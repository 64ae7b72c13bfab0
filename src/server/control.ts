/**
 * The owner's own socket beside the agent's: one JSON object a line, both ways (docs/protocol.md). It is never forwarded,
 * and only the same uid and root get an answer. No key material and nothing that was signed passes here.
 */
import { createServer, type Server, type Socket } from 'node:net';
import { peerCredentials } from '../native/libc.ts';
import { CONTROL_VERSION } from './controlversion.ts';

/** A request of more bytes closes the connection. */
export const MAX_CONTROL_REQUEST_BYTES = 64 * 1024;
export const MAX_CONTROL_CONNECTIONS = 64;

/** Refuses a command, with words for the one who gave it. */
export class ControlRefusal extends Error {}

/** One client of the socket, for a command that goes on telling after it was answered. */
export interface ControlClient {
  /** Sends an event line. @returns false where the client does not read: it is cut off */
  send(event: string, content: Readonly<Record<string, unknown>>): boolean;
  /** Calls back once when the client is gone. */
  onClose(callback: () => void): void;
}

export type ControlArguments = Readonly<Record<string, unknown>>;

/** Answers a command. @throws ControlRefusal */
export type ControlCommand = (given: ControlArguments, client: ControlClient) => unknown;

async function answer(
  line: string,
  commands: ReadonlyMap<string, ControlCommand>,
  client: ControlClient,
): Promise<unknown> {
  const failed = (error: string): unknown => ({ version: CONTROL_VERSION, ok: false, error });
  let request: unknown;
  try {
    request = JSON.parse(line);
  } catch {
    return failed('not JSON');
  }
  if (typeof request !== 'object' || request === null) return failed('not an object');
  const { version, command, arguments: given = {} } = request as Record<string, unknown>;
  if (version !== CONTROL_VERSION) return failed(`version ${CONTROL_VERSION} is served`);
  const found = typeof command === 'string' ? commands.get(command) : undefined;
  if (found === undefined) return failed('no such command');
  if (typeof given !== 'object' || given === null || Array.isArray(given)) return failed('arguments are not an object');
  try {
    return { version: CONTROL_VERSION, ok: true, result: await found(given as ControlArguments, client) };
  } catch (error) {
    if (error instanceof ControlRefusal) return failed(error.message);
    return failed(`internal error ${error instanceof Error ? error.name : ''}`);
  }
}

/** Events that a client leaves unread, in bytes, before it is cut off. */
export const MAX_UNREAD_EVENT_BYTES = 1024 * 1024;

function serve(socket: Socket, commands: ReadonlyMap<string, ControlCommand>): void {
  let pending = '';
  let busy = false;
  let ended = false;
  let streams = false;
  const client: ControlClient = {
    send(event, content) {
      if (socket.destroyed) return false;
      if (socket.writableLength > MAX_UNREAD_EVENT_BYTES) {
        socket.destroy();
        return false;
      }
      socket.write(`${JSON.stringify({ version: CONTROL_VERSION, event, ...content })}\n`);
      return true;
    },
    onClose(callback) {
      streams = true;
      if (socket.destroyed) callback();
      else socket.once('close', callback);
    },
  };
  const work = async (): Promise<void> => {
    if (busy) return;
    busy = true;
    // An answer is far longer than its question: whoever does not read gets no more of them.
    for (let end = pending.indexOf('\n'); end >= 0 && !socket.writableNeedDrain; end = pending.indexOf('\n')) {
      const line = pending.slice(0, end);
      pending = pending.slice(end + 1);
      const text = JSON.stringify(await answer(line, commands, client));
      if (socket.destroyed) return;
      socket.write(`${text}\n`);
    }
    busy = false;
    // Some clients end their side with the question; whoever listens to events is not at its end by that.
    if (ended && !pending.includes('\n') && !streams) socket.end();
    else if (socket.writableNeedDrain) socket.pause();
    else if (pending.length > MAX_CONTROL_REQUEST_BYTES) socket.destroy();
    else socket.resume();
  };
  socket.setEncoding('utf8');
  socket.on('error', () => socket.destroy());
  socket.on('drain', work);
  socket.on('end', () => {
    ended = true;
    void work();
  });
  socket.on('data', (chunk: string) => {
    pending += chunk;
    if (busy && pending.length > 2 * MAX_CONTROL_REQUEST_BYTES) socket.destroy();
    else void work();
  });
}

function isOurs(socket: Socket): boolean {
  const handle = (socket as unknown as { _handle: { fd: number } | null })._handle;
  if (handle === null) return false;
  try {
    const { uid } = peerCredentials(handle.fd);
    return uid === 0 || uid === process.geteuid?.();
  } catch {
    return false;
  }
}

/** A server that is not listening yet. */
export function createControlServer(commands: ReadonlyMap<string, ControlCommand>): Server {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    if (isOurs(socket)) serve(socket, commands);
    else socket.destroy();
  });
  server.maxConnections = MAX_CONTROL_CONNECTIONS;
  return server;
}
