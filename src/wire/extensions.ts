/** Bodies of the extensions that OpenSSH's agent serves (PROTOCOL.agent section 1, RFC 9987 section 3.8). */
import { WireError } from './error.ts';
import { Reader } from './reader.ts';
import { Writer } from './writer.ts';

export const QUERY = 'query';
export const SESSION_BIND = 'session-bind@openssh.com';

/** OpenSSH's AGENT_MAX_SID_LEN, in bytes. */
export const MAX_SESSION_ID_BYTES = 128;
export const MAX_EXTENSION_NAME_BYTES = 256;
export const MAX_QUERY_NAMES = 1024;

export interface SessionBind {
  readonly hostKey: Uint8Array;
  readonly sessionId: Uint8Array;
  readonly signature: Uint8Array;
  readonly isForwarding: boolean;
}

/** @throws WireError. The result holds views of `body`. */
export function decodeSessionBind(body: Uint8Array): SessionBind {
  const reader = new Reader(body);
  const bind = {
    hostKey: reader.string('hostkey'),
    sessionId: reader.string('session identifier', MAX_SESSION_ID_BYTES),
    signature: reader.string('signature'),
    isForwarding: reader.bool('is_forwarding'),
  };
  reader.end(SESSION_BIND);
  return bind;
}

export function encodeSessionBind(bind: SessionBind): Uint8Array {
  return new Writer()
    .string(bind.hostKey)
    .string(bind.sessionId)
    .string(bind.signature)
    .bool(bind.isForwarding)
    .finish();
}

/** The body of query's answer: extension names to the end, with no count (as OpenSSH 10.3 sends it). */
export function decodeQueryNames(body: Uint8Array): string[] {
  const reader = new Reader(body);
  const names: string[] = [];
  while (reader.remaining > 0) {
    if (names.length === MAX_QUERY_NAMES) throw new WireError('too-long', QUERY, `at most ${MAX_QUERY_NAMES}`);
    names.push(reader.text('extension name', MAX_EXTENSION_NAME_BYTES));
  }
  return names;
}

export function encodeQueryNames(names: readonly string[]): Uint8Array {
  const writer = new Writer();
  for (const name of names) writer.text(name);
  return writer.finish();
}
