/**
 * The messages of ssh-sk-helper, protocol version 5 (OpenSSH 8.4 to 10.5): signing and listing resident keys, their
 * answers, and its error numbers in words. Enrolling is ssh-keygen's and not served.
 */
import { KeyError, type KeyErrorCode } from '../keys/error.ts';
import { parsePublicKey } from '../keys/publickey.ts';
import { copy, text } from '../wire/bytes.ts';
import { WireError } from '../wire/error.ts';
import { type FieldValues, keyShape, readFields, writeFields } from '../wire/keyshapes.ts';
import { Reader } from '../wire/reader.ts';
import type { AddedKey } from '../wire/requests.ts';
import { visible } from '../wire/visible.ts';
import { Writer } from '../wire/writer.ts';

const VERSION = 5;
const ERROR = 0;
const SIGN = 1;
const LOAD_RESIDENT = 3;
/** SYSLOG_LEVEL_ERROR: why it failed, and nothing else. */
const LOG_ERRORS = 2;

/** OpenSSH's ssh_msg_recv takes 256 KiB, the version included. */
export const MAX_SK_REPLY_BYTES = 256 * 1024;
/** Its first bytes before the message: version, type, where and how much to log. */
const preamble = (type: number): Writer => new Writer().u8(VERSION).u32(type).u8(1).u32(LOG_ERRORS);
/** How much of the helper's own words is passed on, in characters. */
const MAX_QUOTED = 200;

/** OpenSSH's error numbers that a helper answers with: its text, which scripts know, and what it means here. */
const errors: Readonly<Record<number, { readonly text: string; readonly means: string; readonly code: KeyErrorCode }>> =
  {
    1: { text: 'unexpected internal error', means: 'the helper failed', code: 'internal' },
    2: { text: 'memory allocation failed', means: 'the helper has no memory', code: 'internal' },
    4: { text: 'invalid format', means: 'the security key or its provider refused', code: 'internal' },
    10: { text: 'invalid argument', means: 'the helper refused the request', code: 'internal' },
    22: { text: 'error in libcrypto', means: "the helper's libcrypto failed", code: 'internal' },
    43: {
      text: 'incorrect passphrase supplied to decrypt private key',
      means: 'the security key wants another PIN',
      code: 'wrong-passphrase',
    },
    44: { text: 'bad permissions', means: 'the security key holds such a key already', code: 'internal' },
    59: {
      text: 'requested feature not supported',
      means: 'the security key or its provider cannot do this',
      code: 'unsupported',
    },
    60: { text: 'device not found', means: 'no security key with this key is plugged in', code: 'internal' },
  };

/** What went wrong between us and a security key. */
export class SecurityKeyError extends KeyError {
  /** OpenSSH's words for it. */
  readonly opensshText: string;

  constructor(code: KeyErrorCode, message: string, opensshText: string, options?: ErrorOptions) {
    super(code, message, options);
    this.name = 'SecurityKeyError';
    this.opensshText = opensshText;
  }
}

/** Last line of what a helper said on standard error, safe to show, in brackets; '' where it said nothing. */
export function quoted(complaint: string): string {
  const line = complaint.trimEnd().split('\n').at(-1)?.trim() ?? '';
  return line === '' ? '' : ` (${visible(line, MAX_QUOTED)})`;
}

function refusal(number: number, complaint: string): SecurityKeyError {
  const known = errors[number];
  const means = known?.means ?? `the helper failed with error ${number}`;
  return new SecurityKeyError(known?.code ?? 'internal', means + quoted(complaint), known?.text ?? 'unknown error');
}

/** What an answer holds. @throws SecurityKeyError where it is an error, or no answer to a request of `type` */
function opened(type: number, message: Uint8Array, complaint: string): Reader {
  const reader = new Reader(message);
  const version = reader.u8('version');
  if (version !== VERSION)
    throw new SecurityKeyError('internal', `ssh-sk-helper speaks version ${version}, not ${VERSION}`, 'invalid format');
  const answered = reader.u32('type');
  if (answered === ERROR) throw refusal(reader.u32('error'), complaint);
  if (answered !== type)
    throw new SecurityKeyError('internal', 'ssh-sk-helper answered another request', 'unexpected internal error');
  return reader;
}

/** Runs `read`, for which bytes that make no message are an error like any other. */
function decoded<T>(read: () => T): T {
  try {
    return read();
  } catch (cause) {
    if (!(cause instanceof WireError)) throw cause;
    throw new SecurityKeyError('internal', "ssh-sk-helper's answer makes no sense", 'invalid format', { cause });
  }
}

export interface SignRequest {
  /** The plain type. */
  readonly type: string;
  /** Public fields, flags and reserved; the key handle is not among them. */
  readonly fields: FieldValues;
  readonly keyHandle: Uint8Array;
  readonly provider: string;
  readonly data: Uint8Array;
}

/**
 * A request to sign, in parts: what is secret, the handle and the PIN, stays where it is and is never copied.
 * @throws WireError where a field is missing
 */
export function signRequest(request: SignRequest): (pin: Uint8Array) => readonly Uint8Array[] {
  const { type, fields, keyHandle, provider, data } = request;
  const shape = keyShape(type)?.shape;
  if (shape === undefined) throw new WireError('unknown-type', 'key type');
  // Two fields are left, handle and reserved.
  const before = shape.addFields.slice(
    0,
    shape.addFields.findIndex(({ name }) => name === 'keyHandle'),
  );
  const reserved = fields.reserved ?? new Uint8Array();
  const key = new Writer().text(type);
  writeFields(key, before, fields);
  const head = preamble(SIGN)
    .u32(key.length + 4 + keyHandle.length + 4 + reserved.length)
    .bytes(key.view())
    .u32(keyHandle.length)
    .finish();
  // An empty algorithm, and no flags of compatibility.
  const tail = new Writer(data.length + 256).string(reserved).text(provider).string(data).text('').u32(0).finish();
  return (pin) => [head, keyHandle, tail, new Writer(4).u32(pin.length).finish(), pin];
}

/** The signature in an answer: a copy. @throws SecurityKeyError */
export function signatureIn(message: Uint8Array, complaint: string): Uint8Array {
  return decoded(() => {
    const reader = opened(SIGN, message, complaint);
    const signature = copy(reader.string('signature'));
    reader.end('answer');
    return signature;
  });
}

/** A request for the resident keys, in parts, the PIN one of them. */
export function residentRequest(provider: string, pin: Uint8Array): readonly Uint8Array[] {
  // No device is named, so the provider looks for one.
  const head = preamble(LOAD_RESIDENT).text(provider).text('').u32(pin.length).finish();
  return [head, pin, new Writer(4).u32(0).finish()];
}

/** The resident keys in an answer; their fields are views of `message`, and the application is the comment. */
export function residentKeysIn(
  message: Uint8Array,
  complaint: string,
): readonly { readonly key: AddedKey; readonly comment: string }[] {
  return decoded(() => {
    const reader = opened(LOAD_RESIDENT, message, complaint);
    const keys: { key: AddedKey; comment: string }[] = [];
    while (reader.remaining > 0) {
      const key = residentKey(reader.child('key'));
      reader.string('comment');
      reader.string('user');
      keys.push({ key, comment: text(key.fields.application as Uint8Array) });
    }
    return keys;
  });
}

function residentKey(reader: Reader): AddedKey {
  const type = reader.text('key type');
  const known = keyShape(type);
  if (known === undefined || known.certificate || !known.shape.addFields.some(({ name }) => name === 'keyHandle'))
    throw new WireError('unknown-type', 'key type');
  const fields = readFields(reader, known.shape.addFields);
  reader.end('key');
  publicKeyOf({ type, fields });
  return { type, fields };
}

/** The public half of a plain key with its private part. @throws KeyError, WireError */
export function publicKeyOf({ type, fields }: AddedKey): ReturnType<typeof parsePublicKey> {
  const writer = new Writer().text(type);
  writeFields(writer, keyShape(type)?.shape.publicFields ?? [], fields);
  return parsePublicKey(writer.finish());
}
