/** The public door `latchkey/testing`: agents to test clients and wrappers against, and fresh keys to put into them. */
export { AgentConnection, sessionStream } from './connection.ts';
export { type Answer, FakeClock, type Person, ScriptedConfirm } from './fakes.ts';
export {
  type BindingOptions,
  bindingTo,
  type CertificateOptions,
  certified,
  type FreshKey,
  freshEcdsa,
  freshEd25519,
  freshRsa,
  placeOf,
  publicBlob,
  signatureBy,
  verifiedName,
} from './fixtures.ts';
export {
  type AgentKind,
  type AgentUnderTest,
  type OwnAgent,
  type StartOptions,
  startAgent,
  startMemoryAgent,
  startProgram,
  startSocketAgent,
  until,
} from './harness.ts';
