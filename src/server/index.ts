/** The public door `latchkey/server`: carries an agent over a socket, and tells who is at the other end. */
export type { Peer, PeerProcess } from '../agent/ports.ts';
export { agentFolder, isAlive, ListenError, listenOn, privateSocketPath, temporarySocketPath } from './listen.ts';
export { peerOf } from './peer.ts';
export { type AgentServer, createAgentServer } from './server.ts';
