/**
 * The sessions that a connection is bound to (OpenSSH's PROTOCOL.agent section 1, process_ext_session_bind): each is a
 * host key, a session identifier that this key signed, and whether the connection goes on from there by forwarding.
 *
 * Binding only ever adds: that one was tried, or failed, is never forgotten, since a connection whose binding failed
 * must not pass for a local one.
 */

import { KeyError } from '../keys/error.ts';
import { fingerprint, type PublicKey, parsePublicKey } from '../keys/publickey.ts';
import { verifySignature } from '../keys/signature.ts';
import { copy, equal } from '../wire/bytes.ts';
import { WireError } from '../wire/error.ts';
import { decodeSessionBind, MAX_SESSION_ID_BYTES, type SessionBind } from '../wire/extensions.ts';

/** OpenSSH's AGENT_MAX_SESSION_IDS. */
export const MAX_BINDINGS = 16;

export interface Binding {
  readonly hostKey: PublicKey;
  /** As it was sent, a certificate included. */
  readonly hostKeyBlob: Uint8Array;
  readonly sessionId: Uint8Array;
  /** False: the connection is used to log in to that host; true: it comes from there. */
  readonly forwarded: boolean;
}

export interface Bindings {
  /** Whether a binding was ever asked for on this connection. */
  readonly attempted: boolean;
  /** Whether one was ever refused. */
  readonly failed: boolean;
  /** In the order of the path, nearest host first. */
  readonly list: readonly Binding[];
}

export interface BindResult {
  readonly bindings: Bindings;
  readonly accepted: boolean;
  /** Why it was not accepted. */
  readonly reason?: string;
}

/** What a new connection starts with. */
export const noBindings: Bindings = Object.freeze({ attempted: false, failed: false, list: Object.freeze([]) });

/** What `bindings` become when the request to bind could not even be read. */
export function refuseBinding(bindings: Bindings, reason: string): BindResult {
  return { bindings: { attempted: true, failed: true, list: bindings.list }, accepted: false, reason };
}

/** Reads the body of a session-bind request and binds. Never throws for what a peer sent; keeps no view of `body`. */
export function bindRequest(bindings: Bindings, body: Uint8Array): BindResult {
  let request: SessionBind;
  try {
    request = decodeSessionBind(body);
  } catch (error) {
    if (error instanceof WireError) return refuseBinding(bindings, `malformed session binding: ${error.message}`);
    throw error;
  }
  return bind(bindings, request);
}

/** Adds one session to `bindings`, or says why not. Keeps copies of what it adds; never throws for what a peer sent. */
export function bind(bindings: Bindings, request: SessionBind): BindResult {
  const { sessionId, signature, isForwarding } = request;
  const refuse = (reason: string): BindResult => refuseBinding(bindings, reason);

  // No key exchange makes an empty one, and a signature over nothing would prove nothing.
  if (sessionId.length === 0) return refuse('the session identifier is empty');
  if (sessionId.length > MAX_SESSION_ID_BYTES)
    return refuse(`the session identifier is longer than ${MAX_SESSION_ID_BYTES} bytes`);
  let hostKey: PublicKey;
  try {
    hostKey = parsePublicKey(request.hostKey);
  } catch (error) {
    if (error instanceof KeyError || error instanceof WireError)
      return refuse(`the host key is not usable: ${error.message}`);
    throw error;
  }
  if (!verifySignature(hostKey, sessionId, signature))
    return refuse(`host key ${fingerprint(hostKey)} did not sign this session`);

  for (const earlier of bindings.list) {
    // Such a connection belongs to one login; a second session on it is somebody else's.
    if (!earlier.forwarded) return refuse('the connection is bound to a login already');
    if (!equal(earlier.sessionId, sessionId)) continue;
    if (!equal(earlier.hostKeyBlob, request.hostKey)) return refuse('the session is bound to another host key already');
    return { bindings: { ...bindings, attempted: true }, accepted: true };
  }
  if (bindings.list.length >= MAX_BINDINGS) return refuse(`more than ${MAX_BINDINGS} sessions on one connection`);

  const binding: Binding = Object.freeze({
    hostKey,
    hostKeyBlob: copy(request.hostKey),
    sessionId: copy(sessionId),
    forwarded: isForwarding,
  });
  const list = Object.freeze([...bindings.list, binding]);
  return { bindings: { attempted: true, failed: bindings.failed, list }, accepted: true };
}

/** Whether an SSH client is at the other end, here or afar: such a connection may not bring in provider libraries. */
export function isRemote(bindings: Bindings): boolean {
  return bindings.attempted || bindings.list.length > 0;
}

/**
 * Whether what comes over this connection may come from another machine: some session on it forwards, or a binding
 * failed, after which nothing is known of where it comes from.
 */
export function isForwarded(bindings: Bindings): boolean {
  return (
    bindings.failed ||
    (bindings.attempted && bindings.list.length === 0) ||
    bindings.list.some((binding) => binding.forwarded)
  );
}
