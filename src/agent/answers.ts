/** Answers that are the same each time. */
import { encodeQueryNames, QUERY, SESSION_BIND } from '../wire/extensions.ts';
import { encodeResponse } from '../wire/responses.ts';

/** A whole message, without its length field. */
export type Answer = Uint8Array | Promise<Uint8Array>;

export const failure: Uint8Array = encodeResponse({ kind: 'failure' });
export const success: Uint8Array = encodeResponse({ kind: 'success' });
export const extensionFailure: Uint8Array = encodeResponse({ kind: 'extensionFailure' });
/** The list of a locked agent. */
export const noIdentities: Uint8Array = encodeResponse({ kind: 'identities', identities: [] });
/** The extensions that `query` tells of. */
export const served: Uint8Array = encodeResponse({
  kind: 'extensionResponse',
  name: QUERY,
  body: encodeQueryNames([SESSION_BIND]),
});
