/**
 * Carries an agent over a listening Unix socket: checks who connects, gives each connection a session, and bounds how many
 * there are. Whoever makes the socket (a path, an inherited descriptor) is listen.ts and the command line.
 */
import { createServer, type Server, Socket } from 'node:net';
import type { Agent } from '../agent/agent.ts';
import type { Peer } from '../agent/ports.ts';
import { openFilesLimit } from '../native/libc.ts';
import { Connection, HeldBytes, READ_BYTES } from './connection.ts';
import { peerOf } from './peer.ts';

/** Descriptors that are not for clients: standard input and output, the listener, helpers. OpenSSH keeps 10. */
export const RESERVED_DESCRIPTORS = 32;

/** Node's handle of a connected socket: undocumented, and the only way to the descriptor and to a buffer of ours. */
interface Handle {
  readonly fd: number;
  close(): void;
}

export interface AgentServer {
  /** Peers of the connections that are open now. */
  peers(): readonly (Peer | undefined)[];
  /** Stops listening and closes every connection. The socket's file is its maker's. */
  close(): Promise<void>;
  /** The listening server, for its 'listening' and 'error' events. */
  readonly server: Server;
}

/** Makes a server that is not listening yet: call `server.listen` with a path or a descriptor. */
export function createAgentServer(agent: Agent): AgentServer {
  const { log } = agent.ports;
  const connections = new Map<Connection, Peer>();
  const held = new HeldBytes(agent.custody);
  // One for all connections: Node reads and calls back for one socket after another.
  const buffer = Buffer.from(sharedView(agent.custody.buffer(READ_BYTES)));
  const ownUid = process.geteuid?.();
  const maxConnections = Math.max(1, openFilesLimit() - RESERVED_DESCRIPTORS);

  function accept(handle: Handle): void {
    let peer: Peer;
    try {
      const { fd } = handle;
      peer = peerOf(fd, () => handle.fd === fd);
    } catch (error) {
      log('error', `connection refused: ${error instanceof Error ? error.message : 'unknown peer'}`);
      handle.close();
      return;
    }
    if (peer.uid !== 0 && peer.uid !== ownUid) {
      log('error', `connection refused: uid ${peer.uid} is neither ours nor root`);
      handle.close();
      return;
    }
    let connection: Connection | undefined;
    const socket = new Socket({
      // @ts-expect-error Node's own code passes a handle; its types leave it out.
      handle,
      allowHalfOpen: true,
      onread: {
        buffer,
        callback(length: number): boolean {
          const chunk = buffer.subarray(0, length);
          try {
            return connection?.read(chunk) ?? false;
          } finally {
            chunk.fill(0);
          }
        },
      },
    });
    connection = new Connection(socket, agent.openSession(peer), held, () => {
      if (connection !== undefined) connections.delete(connection);
    });
    connections.set(connection, peer);
    socket.read(0);
  }

  // @ts-expect-error pauseOnCreate is documented for neither; without it a socket is read before it can be taken over.
  const server = createServer({ pauseOnCreate: true }, (accepted: Socket) => {
    // The socket that Node made is let go, and another made on its handle, since only a new one can take our buffer.
    const node = accepted as unknown as { _handle: Handle | null };
    const handle = node._handle;
    node._handle = null;
    // Without this Node counts it among the server's connections for ever.
    accepted.destroy();
    if (handle === null) return;
    if (connections.size < maxConnections) accept(handle);
    else {
      log('error', `connection refused: ${maxConnections} are open already`);
      handle.close();
    }
  });

  return {
    server,
    peers: () => [...connections.values()],
    close: () =>
      new Promise((resolve) => {
        for (const connection of [...connections.keys()]) connection.close();
        server.close(() => resolve());
      }),
  };
}

/** The memory of `bytes` as Buffer wants it: no copy. */
function sharedView(bytes: Uint8Array): ArrayBuffer {
  return bytes.buffer as ArrayBuffer;
}
