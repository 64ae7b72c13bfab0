/**
 * What a client asks (RFC 9987 section 3; numbers in its section 6.1). A decoded request holds views of the frame:
 * it lives no longer than the frame, and whoever owns the frame wipes it. Bytes after the last field are an error;
 * OpenSSH ignores them in some requests, but a request that says more than we read is one that we did not understand.
 */
import {
  type Constraints,
  decodeConstraints,
  encodeConstraints,
  isConstrained,
  MAX_PROVIDER_BYTES,
} from './constraints.ts';
import { WireError } from './error.ts';
import { MAX_EXTENSION_NAME_BYTES } from './extensions.ts';
import { type FieldValues, keyShape, keyTypeBehind, readFields, writeFields } from './keyshapes.ts';
import { Reader } from './reader.ts';
import { Writer } from './writer.ts';

export const REQUEST_NUMBERS = {
  removeAllV1: 9,
  list: 11,
  sign: 13,
  add: 17,
  remove: 18,
  removeAll: 19,
  addToken: 20,
  removeToken: 21,
  lock: 22,
  unlock: 23,
  addConstrained: 25,
  addTokenConstrained: 26,
  extension: 27,
} as const;

/** Flags of a sign request (RFC 9987 section 3.6.1). */
export const SIGN_RSA_SHA2_256 = 2;
export const SIGN_RSA_SHA2_512 = 4;

/** A key as it travels in a request to add it: field values by the names of keyshapes. */
export interface AddedKey {
  /** Plain or certificate type name. */
  readonly type: string;
  readonly certificate?: Uint8Array;
  readonly fields: FieldValues;
}

export type Request =
  | { readonly kind: 'list' }
  | { readonly kind: 'sign'; readonly blob: Uint8Array; readonly data: Uint8Array; readonly flags: number }
  | { readonly kind: 'add'; readonly key: AddedKey; readonly comment: string; readonly constraints: Constraints }
  | { readonly kind: 'remove'; readonly blob: Uint8Array }
  | { readonly kind: 'removeAll'; readonly version: 1 | 2 }
  | {
      readonly kind: 'addToken';
      readonly provider: string;
      readonly pin: Uint8Array;
      readonly constraints: Constraints;
    }
  | { readonly kind: 'removeToken'; readonly provider: string; readonly pin: Uint8Array }
  | { readonly kind: 'lock'; readonly passphrase: Uint8Array }
  | { readonly kind: 'unlock'; readonly passphrase: Uint8Array }
  | { readonly kind: 'extension'; readonly name: string; readonly body: Uint8Array }
  | { readonly kind: 'unknown'; readonly number: number };

/**
 * Whether a message with this number may carry a key, a PIN or a pass phrase, and so belongs in secret memory. Told by
 * what is known to be harmless: the SSH 1 requests to add a key (7, 24), PuTTY's extension `add-ppk` and whatever else
 * we refuse hold their sender's secrets all the same.
 */
export function carriesSecret(number: number): boolean {
  switch (number) {
    case REQUEST_NUMBERS.list:
    case REQUEST_NUMBERS.sign:
    case REQUEST_NUMBERS.remove:
    case REQUEST_NUMBERS.removeAll:
    case REQUEST_NUMBERS.removeAllV1:
      return false;
    default:
      return true;
  }
}

function decodeAddedKey(reader: Reader): AddedKey {
  // OpenSSH takes the names of signature algorithms here as well, webauthn's among them, for the type behind them.
  const type = keyTypeBehind(reader.text('key type', MAX_EXTENSION_NAME_BYTES));
  const known = keyShape(type);
  if (known === undefined) throw new WireError('unknown-type', 'key type');
  if (!known.certificate) return { type, fields: readFields(reader, known.shape.addFields) };
  const certificate = reader.string('certificate');
  return { type, certificate, fields: readFields(reader, known.shape.addWithCertificateFields) };
}

/** A PIN may end in one NUL, which is not part of it, and hold no other. */
function decodePin(reader: Reader): Uint8Array {
  const pin = reader.string('pin');
  const value = pin.at(-1) === 0 ? pin.subarray(0, -1) : pin;
  if (value.includes(0)) throw new WireError('bad-text', 'pin', 'NUL');
  return value;
}

/**
 * Decodes one whole message (without its length field).
 * @throws WireError for a known message that is malformed; an unknown number is a value
 */
export function decodeRequest(message: Uint8Array): Request {
  const reader = new Reader(message);
  const number = reader.u8('message number');
  const request = decodeBody(number, reader);
  reader.end('request');
  return request;
}

function decodeBody(number: number, reader: Reader): Request {
  switch (number) {
    case REQUEST_NUMBERS.list:
      return { kind: 'list' };
    case REQUEST_NUMBERS.sign:
      return {
        kind: 'sign',
        blob: reader.string('key blob'),
        data: reader.string('data'),
        flags: reader.u32('flags'),
      };
    case REQUEST_NUMBERS.add:
    case REQUEST_NUMBERS.addConstrained:
      // OpenSSH reads constraints in both, and clients rely on neither; one path serves both here too.
      return {
        kind: 'add',
        key: decodeAddedKey(reader),
        comment: reader.text('comment'),
        constraints: decodeConstraints(reader),
      };
    case REQUEST_NUMBERS.remove:
      return { kind: 'remove', blob: reader.string('key blob') };
    case REQUEST_NUMBERS.removeAll:
      return { kind: 'removeAll', version: 2 };
    case REQUEST_NUMBERS.removeAllV1:
      return { kind: 'removeAll', version: 1 };
    case REQUEST_NUMBERS.addToken:
    case REQUEST_NUMBERS.addTokenConstrained:
      return {
        kind: 'addToken',
        // Exact: a path with U+FFFD in it would be another file.
        provider: reader.exactText('provider', MAX_PROVIDER_BYTES),
        pin: decodePin(reader),
        constraints: decodeConstraints(reader, true),
      };
    case REQUEST_NUMBERS.removeToken: {
      const provider = reader.exactText('provider', MAX_PROVIDER_BYTES);
      const pin = decodePin(reader);
      // OpenSSH's `ssh-add -t 90 -e LIB` says the constraints of an addition here too; on a removal they mean nothing.
      decodeConstraints(reader, true);
      return { kind: 'removeToken', provider, pin };
    }
    case REQUEST_NUMBERS.lock:
      return { kind: 'lock', passphrase: decodePin(reader) };
    case REQUEST_NUMBERS.unlock:
      return { kind: 'unlock', passphrase: decodePin(reader) };
    case REQUEST_NUMBERS.extension:
      return {
        kind: 'extension',
        name: reader.text('extension name', MAX_EXTENSION_NAME_BYTES),
        body: reader.rest(),
      };
    default:
      reader.rest();
      return { kind: 'unknown', number };
  }
}

/**
 * Encodes a message (without its length field) into `writer`; secrets stay in the writer, which the caller wipes.
 * @throws WireError for a key that has no shape
 */
export function encodeRequest(request: Request, writer: Writer = new Writer()): Writer {
  switch (request.kind) {
    case 'list':
      return writer.u8(REQUEST_NUMBERS.list);
    case 'sign':
      return writer.u8(REQUEST_NUMBERS.sign).string(request.blob).string(request.data).u32(request.flags);
    case 'add': {
      const { key, constraints } = request;
      const known = keyShape(key.type);
      if (known === undefined) throw new WireError('unknown-type', 'key type');
      writer.u8(isConstrained(constraints) ? REQUEST_NUMBERS.addConstrained : REQUEST_NUMBERS.add).text(key.type);
      if (known.certificate) {
        if (key.certificate === undefined) throw new WireError('bad-value', 'certificate', 'missing');
        writer.string(key.certificate);
        writeFields(writer, known.shape.addWithCertificateFields, key.fields);
      } else {
        if (key.certificate !== undefined) throw new WireError('bad-value', 'certificate', 'beside a plain type');
        writeFields(writer, known.shape.addFields, key.fields);
      }
      writer.text(request.comment);
      encodeConstraints(writer, constraints);
      return writer;
    }
    case 'remove':
      return writer.u8(REQUEST_NUMBERS.remove).string(request.blob);
    case 'removeAll':
      return writer.u8(request.version === 1 ? REQUEST_NUMBERS.removeAllV1 : REQUEST_NUMBERS.removeAll);
    case 'addToken':
      writer
        .u8(isConstrained(request.constraints) ? REQUEST_NUMBERS.addTokenConstrained : REQUEST_NUMBERS.addToken)
        .text(request.provider)
        .string(request.pin);
      encodeConstraints(writer, request.constraints);
      return writer;
    case 'removeToken':
      return writer.u8(REQUEST_NUMBERS.removeToken).text(request.provider).string(request.pin);
    case 'lock':
      return writer.u8(REQUEST_NUMBERS.lock).string(request.passphrase);
    case 'unlock':
      return writer.u8(REQUEST_NUMBERS.unlock).string(request.passphrase);
    case 'extension':
      return writer.u8(REQUEST_NUMBERS.extension).text(request.name).bytes(request.body);
    case 'unknown':
      return writer.u8(request.number);
    default:
      return request satisfies never;
  }
}
