/** The public door of the package `latchkey`: an agent in this process, and a client of any agent. */
export { type AgentOptions, type AgentStatus, createAgent } from './agent/agent.ts';
export type { Clock, Confirm, Log, LogLevel, Ports } from './agent/ports.ts';
export type { AgentClient } from './client/client.ts';
export { connectAgent } from './client/connect.ts';
export { AgentError } from './client/error.ts';
export { KeyError, type KeyErrorCode } from './keys/error.ts';
export { fingerprint, type PublicKey, parsePublicKey, publicKeyText } from './keys/publickey.ts';
export { type AgentServer, createAgentServer } from './server/server.ts';
export type { Constraints } from './wire/constraints.ts';
export { WireError, type WireErrorCode } from './wire/error.ts';
export type { AddedKey } from './wire/requests.ts';
