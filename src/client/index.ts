/** The public door `latchkey/client`: a client of any SSH agent, and the types that its methods take and give. */
export type { Constraints, DestinationConstraint, Hop, HopKey } from '../wire/constraints.ts';
export { WireError, type WireErrorCode } from '../wire/error.ts';
export type { SessionBind } from '../wire/extensions.ts';
export { type AddedKey, SIGN_RSA_SHA2_256, SIGN_RSA_SHA2_512 } from '../wire/requests.ts';
export type { Identity } from '../wire/responses.ts';
export { type AgentClient, createAgentClient } from './client.ts';
export { type ConnectOptions, connectAgent } from './connect.ts';
export { AgentError, type AgentErrorCode } from './error.ts';
