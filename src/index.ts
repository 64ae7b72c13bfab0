/** The public door of the package `latchkey`: an agent in this process, and a client of any agent. */
export { type Agent, type AgentOptions, type AgentStatus, createAgent } from './agent/agent.ts';
export type { Clock, Confirm, Log, LogLevel, Ports } from './agent/ports.ts';
export { type AgentClient, createAgentClient } from './client/client.ts';
export { type ConnectOptions, connectAgent } from './client/connect.ts';
export { AgentError, type AgentErrorCode } from './client/error.ts';
export { KeyError, type KeyErrorCode } from './keys/error.ts';
export { type PrivateKeyFile, readPrivateKeyFile } from './keys/keyfile.ts';
export { loadMldsa } from './keys/mldsa.ts';
export { fingerprint, type PublicKey, parsePublicKey, parsePublicKeyLine, publicKeyText } from './keys/publickey.ts';
export { signatureName, verifySignature } from './keys/signature.ts';
export { ListenError, listenOn } from './server/listen.ts';
export { type AgentServer, createAgentServer } from './server/server.ts';
export type { Constraints } from './wire/constraints.ts';
export { WireError, type WireErrorCode } from './wire/error.ts';
export type { SessionBind } from './wire/extensions.ts';
export { type AddedKey, SIGN_RSA_SHA2_256, SIGN_RSA_SHA2_512 } from './wire/requests.ts';
export type { Identity } from './wire/responses.ts';
