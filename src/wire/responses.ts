/** What an agent answers (RFC 9987 section 3, numbers in its section 6.1). */
import { WireError } from './error.ts';
import { MAX_EXTENSION_NAME_BYTES } from './extensions.ts';
import { Reader } from './reader.ts';
import { Writer } from './writer.ts';

export const RESPONSE_NUMBERS = {
  failure: 5,
  success: 6,
  identities: 12,
  signature: 14,
  extensionFailure: 28,
  extensionResponse: 29,
} as const;

/** What OpenSSH's clients take for a failure besides 5: SSH2_AGENT_FAILURE and SSH_COM_AGENT2_FAILURE. */
const OTHER_FAILURES = [30, 102];

/** OpenSSH's clients give up above this many keys; ours reads as many as a frame can hold, and says so. */
export const MAX_IDENTITIES = 16384;

export interface Identity {
  readonly blob: Uint8Array;
  readonly comment: string;
}

export type Response =
  | { readonly kind: 'failure' }
  | { readonly kind: 'success' }
  | { readonly kind: 'identities'; readonly identities: readonly Identity[] }
  | { readonly kind: 'signature'; readonly signature: Uint8Array }
  | { readonly kind: 'extensionFailure' }
  | { readonly kind: 'extensionResponse'; readonly name: string; readonly body: Uint8Array };

/** Decodes one whole message; byte arrays are views of it. @throws WireError, also for an unknown number */
export function decodeResponse(message: Uint8Array): Response {
  const reader = new Reader(message);
  const number = reader.u8('message number');
  const response = decodeBody(number, reader);
  reader.end('response');
  return response;
}

function decodeBody(number: number, reader: Reader): Response {
  switch (number) {
    case RESPONSE_NUMBERS.success:
      return { kind: 'success' };
    case RESPONSE_NUMBERS.identities: {
      const count = reader.u32('number of keys');
      if (count > MAX_IDENTITIES) throw new WireError('too-long', 'number of keys', `at most ${MAX_IDENTITIES}`);
      const identities: Identity[] = [];
      for (let i = 0; i < count; i++)
        identities.push({ blob: reader.string('key blob'), comment: reader.text('comment') });
      return { kind: 'identities', identities };
    }
    case RESPONSE_NUMBERS.signature:
      return { kind: 'signature', signature: reader.string('signature') };
    case RESPONSE_NUMBERS.extensionFailure:
      return { kind: 'extensionFailure' };
    case RESPONSE_NUMBERS.extensionResponse:
      return {
        kind: 'extensionResponse',
        name: reader.text('extension name', MAX_EXTENSION_NAME_BYTES),
        body: reader.rest(),
      };
    default:
      if (number === RESPONSE_NUMBERS.failure || OTHER_FAILURES.includes(number)) {
        reader.rest();
        return { kind: 'failure' };
      }
      throw new WireError('bad-value', 'message number', String(number));
  }
}

/** Of what `response` becomes, so that nothing is copied while it grows; enough for all but long comments. */
function expectedBytes(response: Response): number {
  switch (response.kind) {
    case 'signature':
      return 5 + response.signature.length;
    case 'identities':
      return response.identities.reduce((sum, { blob, comment }) => sum + 8 + blob.length + comment.length, 5);
    case 'extensionResponse':
      return 5 + response.name.length + response.body.length;
    default:
      return 1;
  }
}

export function encodeResponse(response: Response): Uint8Array {
  const writer = new Writer(expectedBytes(response));
  switch (response.kind) {
    case 'failure':
    case 'success':
    case 'extensionFailure':
      writer.u8(RESPONSE_NUMBERS[response.kind]);
      break;
    case 'identities':
      writer.u8(RESPONSE_NUMBERS.identities).u32(response.identities.length);
      for (const { blob, comment } of response.identities) writer.string(blob).text(comment);
      break;
    case 'signature':
      writer.u8(RESPONSE_NUMBERS.signature).string(response.signature);
      break;
    case 'extensionResponse':
      writer.u8(RESPONSE_NUMBERS.extensionResponse).text(response.name).bytes(response.body);
      break;
    default:
      return response satisfies never;
  }
  return writer.view();
}
