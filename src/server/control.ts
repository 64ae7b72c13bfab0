/**
 * The owner's own socket beside the agent's: one JSON object a line, both ways (docs/protocol.md). It is never forwarded,
 * and only the same uid and root get an answer. No key material and nothing that was signed passes here.
 */
import { createServer, type Server, type Socket } from 'node:net';
import { peerCredentials } from '../native/libc.ts';

export const CONTROL_VERSION = 1;
/** A request of more bytes closes the connection. */
export const MAX_CONTROL_REQUEST_BYTES = 64 * 1024;
export const MAX_CONTROL_CONNECTIONS = 64;

/** Answers a command; undefined: there is none of that name. */
export type ControlCommand = () => unknown;

function answer(line: string, commands: ReadonlyMap<string, ControlCommand>): unknown {
  const failed = (error: string): unknown => ({ version: CONTROL_VERSION, ok: false, error });
  let request: unknown;
  try {
    request = JSON.parse(line);
  } catch {
    return failed('not JSON');
  }
  if (typeof request !== 'object' || request === null) return failed('not an object');
  const { version, command } = request as { version?: unknown; command?: unknown };
  if (version !== CONTROL_VERSION) return failed(`version ${CONTROL_VERSION} is served`);
  const found = typeof command === 'string' ? commands.get(command) : undefined;
  if (found === undefined) return failed('no such command');
  try {
    return { version: CONTROL_VERSION, ok: true, result: found() };
  } catch (error) {
    return failed(`internal error ${error instanceof Error ? error.name : ''}`);
  }
}

function serve(socket: Socket, commands: ReadonlyMap<string, ControlCommand>): void {
  let pending = '';
  const work = (): void => {
    // An answer is far longer than its question: whoever does not read gets no more of them.
    for (let end = pending.indexOf('\n'); end >= 0 && !socket.writableNeedDrain; end = pending.indexOf('\n')) {
      const line = pending.slice(0, end);
      pending = pending.slice(end + 1);
      socket.write(`${JSON.stringify(answer(line, commands))}\n`);
    }
    if (socket.writableNeedDrain) socket.pause();
    else if (pending.length > MAX_CONTROL_REQUEST_BYTES) socket.destroy();
    else socket.resume();
  };
  socket.setEncoding('utf8');
  socket.on('error', () => socket.destroy());
  socket.on('drain', work);
  socket.on('data', (chunk: string) => {
    pending += chunk;
    work();
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
  const server = createServer((socket) => {
    if (isOurs(socket)) serve(socket, commands);
    else socket.destroy();
  });
  server.maxConnections = MAX_CONTROL_CONNECTIONS;
  return server;
}
