/**
 * Carries an agent over a listening Unix socket: checks who connects, gives each connection a session, and bounds how many
 * there are. Whoever makes the socket (a path, an inherited descriptor) is listen.ts and the command line.
 */
import { createServer, type Server, type Socket } from 'node:net';
import type { Agent } from '../agent/agent.ts';
import type { Guard, Peer } from '../agent/ports.ts';
import { openFilesLimit } from '../native/libc.ts';
import { Connection, HeldBytes, Outbox, READ_BYTES, type Shared } from './connection.ts';
import { peerOf } from './peer.ts';
import type { Handle } from './stream.ts';

/** Descriptors that are not for clients: standard input and output, the listener, helpers. OpenSSH keeps 10. */
export const RESERVED_DESCRIPTORS = 32;
/** Connections that one guard serves at one time. */
export const MAX_GUARD_CONNECTIONS = 64;
/** Of all connections, one in so many may come through guards: the rest stays for this machine. */
const GUARDS_SHARE = 4;
/** And one in so many may be one process's. */
const PROCESS_SHARE = 2;

/** Node's handle of the listening socket, which calls `onconnection` on itself for each that it accepts. */
interface Listener {
  onconnection?: (this: Listener, status: number, handle: Handle | undefined) => void;
}

export interface AgentServer {
  /** Peers of the connections that are open now. */
  peers(): readonly (Peer | undefined)[];
  /** Stops listening and closes every connection. The socket's file is its maker's. */
  close(): Promise<void>;
  /** The listening server, for its 'listening' and 'error' events. */
  readonly server: Server;
}

/** What all sockets of one agent have together. */
interface AgentShared extends Shared {
  worked: () => void;
  open: number;
  openThroughGuards: number;
  /** Connections of each process: one that passes on what others ask must leave room for the owner's own. */
  readonly ofProcess: Map<number | undefined, number>;
}

const sharedByAgent = new WeakMap<Agent, AgentShared>();

function sharedOf(agent: Agent): AgentShared {
  let found = sharedByAgent.get(agent);
  if (found === undefined) {
    const held = new HeldBytes(agent.custody);
    const buffer = agent.custody.buffer(READ_BYTES);
    found = {
      held,
      buffer,
      outbox: new Outbox(agent),
      worked: () => {},
      open: 0,
      openThroughGuards: 0,
      ofProcess: new Map(),
    };
    sharedByAgent.set(agent, found);
  }
  return found;
}

/** Has `worked` called for all that clients of `agent` send, and for each that goes: see rest.ts. */
export function watchWork(agent: Agent, worked: () => void): void {
  sharedOf(agent).worked = worked;
}

/**
 * Makes a server that is not listening yet: call `server.listen` with a path or a descriptor.
 * @param guard whose socket it is; undefined: the agent's own
 */
export function createAgentServer(agent: Agent, guard?: Guard): AgentServer {
  const { log } = agent.ports;
  const connections = new Map<Connection, Peer>();
  const all = sharedOf(agent);
  const ownUid = process.geteuid?.();
  const maxConnections = Math.max(1, openFilesLimit() - RESERVED_DESCRIPTORS);
  const maxOfProcess = Math.max(1, Math.floor(maxConnections / PROCESS_SHARE));
  const maxThroughGuards = Math.max(1, Math.floor(maxConnections / GUARDS_SHARE));

  function hasRoom(): boolean {
    if (all.open >= maxConnections) return false;
    return (
      guard === undefined || (connections.size < MAX_GUARD_CONNECTIONS && all.openThroughGuards < maxThroughGuards)
    );
  }

  function count(by: 1 | -1): void {
    all.open += by;
    if (guard !== undefined) all.openThroughGuards += by;
  }

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
    const own = all.ofProcess.get(peer.pid) ?? 0;
    if (own >= maxOfProcess) {
      refuse(handle, `${own} connections of its process are open already`, peer);
      return;
    }
    const connection = new Connection(handle, all, agent.openSession(peer, guard), forget);
    connections.set(connection, peer);
    count(1);
    all.ofProcess.set(peer.pid, own + 1);
    connection.start();
  }

  function forget(connection: Connection): void {
    const peer = connections.get(connection);
    if (!connections.delete(connection)) return;
    count(-1);
    const left = (all.ofProcess.get(peer?.pid) ?? 1) - 1;
    if (left > 0) all.ofProcess.set(peer?.pid, left);
    else all.ofProcess.delete(peer?.pid);
    all.worked();
  }

  function admit(handle: Handle): void {
    if (hasRoom()) accept(handle);
    else refuse(handle, `${all.open} are open already`);
  }

  function refuse(handle: Handle, reason: string, peer?: Peer): void {
    log('error', `connection refused: ${reason}`);
    handle.close();
    agent.ports.records?.append({
      kind: 'connection',
      outcome: 'denied',
      sentence: 'connect',
      reason,
      forwarded: guard !== undefined,
      ...(guard === undefined ? {} : { guard: guard.id }),
      ...(peer === undefined ? {} : { peer: { uid: peer.uid, pid: peer.pid ?? null, programs: [] } }),
    });
    agent.writeRecords();
  }

  // @ts-expect-error pauseOnCreate is documented for neither; without it a socket is read before it can be taken over.
  const server = createServer({ pauseOnCreate: true }, (accepted: Socket) => {
    // The socket that Node made is let go, and its handle taken, since that one can't be given our buffer.
    const node = accepted as unknown as { _handle: Handle | null };
    const handle = node._handle;
    node._handle = null;
    // Without this Node counts it among the server's connections for ever.
    accepted.destroy();
    if (handle !== null) admit(handle);
  });
  // Where Node's listener lets itself be asked, no socket is made at all: most of the cost of a connection.
  server.on('listening', () => {
    const listener = (server as unknown as { _handle?: Listener | null })._handle;
    const accepted = listener?.onconnection;
    if (listener === undefined || listener === null || typeof accepted !== 'function') return;
    listener.onconnection = function (status, handle) {
      if (status === 0 && handle !== undefined) admit(handle);
      else accepted.call(this, status, handle);
    };
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
