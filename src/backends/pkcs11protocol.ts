/**
 * What the agent and the helper process of a PKCS#11 provider say to each other: docs/protocol.md, "PKCS#11 helper".
 * Both ends are of one build; the version byte is for an agent that outlives an update of its files.
 */
import type { Hash } from '../keys/algorithms.ts';
import { copy, utf8 } from '../wire/bytes.ts';
import { Reader } from '../wire/reader.ts';
import { Writer } from '../wire/writer.ts';

export const HELPER_PROTOCOL = 1;
/** Longest answer, in bytes: MAX_TOKEN_KEYS RSA keys fit. */
export const MAX_ANSWER_BYTES = 4 * 1024 * 1024;
/** Longest request, in bytes: what an agent's client may have signed, and what stands around it. */
export const MAX_REQUEST_BYTES = 320 * 1024;
export const MAX_TOKENS = 64;
/** Keys of one provider. */
export const MAX_TOKEN_KEYS = 1024;
/** PKCS#11 sets no bound; OpenSSH reads no longer answer from an askpass program. */
export const MAX_PIN_BYTES = 1023;
const MAX_PATH_BYTES = 4096;
const MAX_LABEL_BYTES = 1024;
const MAX_IDENTITY_BYTES = 96;

export type HelperRequest =
  | {
      /** Tokens and keys. */
      readonly kind: 'list';
      readonly path: string;
      /** Empty: nobody is logged in. */
      readonly pin: Uint8Array;
      /** The token whose last try the person who gave the PIN agreed to; no other is tried then. Empty: none. */
      readonly lastTry: Uint8Array;
    }
  | { readonly kind: 'tokens'; readonly path: string }
  | {
      /** What becomes of a PIN, as with `list`, and no keys. */
      readonly kind: 'check';
      readonly path: string;
      readonly pin: Uint8Array;
      readonly lastTry: Uint8Array;
    }
  | {
      readonly kind: 'sign';
      readonly path: string;
      /** Identity of the token that had the key when it was listed. */
      readonly token: Uint8Array;
      /** The plain public key. */
      readonly blob: Uint8Array;
      readonly hash: Hash | undefined;
      readonly data: Uint8Array;
      readonly pin: Uint8Array | undefined;
      /** The PIN may be tried although it is the last try. */
      readonly lastTry: boolean;
    };

/** What became of the PIN of a `list` or `check` request at one token. */
export const pinOutcomes = [
  'unused',
  'accepted',
  'wrong',
  'locked',
  'last-try', // not tried: a wrong one would lock it
  'open', // not tried: somebody is logged in, and then any PIN is right
] as const;
export type PinOutcome = (typeof pinOutcomes)[number];

export interface TokenState {
  /** Label, manufacturer, model and serial number as the token has them: the same wherever it is plugged in. */
  readonly identity: Uint8Array;
  readonly label: string;
  readonly slot: bigint;
  readonly loginRequired: boolean;
  readonly loggedIn: boolean;
  /** A wrong PIN was given since the last right one. */
  readonly triesLost: boolean;
  readonly lastTry: boolean;
  readonly locked: boolean;
  /** The PIN is typed at the reader. */
  readonly pinPad: boolean;
  readonly pin: PinOutcome;
}

export interface ListedKey {
  readonly blob: Uint8Array;
  readonly label: string;
  /** Index in the tokens of the same answer. */
  readonly token: number;
}

export const failureCodes = [
  'not-a-provider', // the file is not what it should be; nothing of it ran
  'unloadable', // the loader or the provider's own start refused
  'pin-needed',
  'wrong-pin',
  'pin-locked',
  'gone', // no token that is there has the key
  'device', // the token stopped answering in the middle
  'failed',
  'malformed', // the request
] as const;
export type FailureCode = (typeof failureCodes)[number];

export type HelperAnswer =
  | { readonly kind: 'keys'; readonly tokens: readonly TokenState[]; readonly keys: readonly ListedKey[] }
  | {
      /** To `tokens` and to `check`. */
      readonly kind: 'tokens';
      readonly tokens: readonly TokenState[];
    }
  | { readonly kind: 'signature'; readonly signature: Uint8Array; readonly loggedIn: boolean }
  | {
      readonly kind: 'failure';
      readonly code: FailureCode;
      readonly text: string;
      /** The tokens that are there: with pin-needed, wrong-pin and pin-locked the one in question alone. */
      readonly tokens: readonly TokenState[];
      readonly loggedIn: boolean;
    };

const requestKinds = ['list', 'tokens', 'sign', 'check'] as const;
const answerKinds = ['keys', 'tokens', 'signature', 'failure'] as const;
const hashes = [undefined, 'sha1', 'sha256', 'sha384', 'sha512'] as const;
const NO_PIN = 0;
const PIN = 1;
const PIN_LAST_TRY = 2;

export class HelperProtocolError extends Error {}

function pick<T>(values: readonly T[], index: number, what: string): T {
  if (index >= values.length) throw new HelperProtocolError(`unknown ${what}`);
  return values[index] as T;
}

function begin(reader: Reader, what: string): void {
  if (reader.u8('version') !== HELPER_PROTOCOL) throw new HelperProtocolError(`${what} of another version`);
}

/** The message, which may hold a PIN: the caller wipes it. */
export function encodeRequest(request: HelperRequest): Uint8Array {
  const writer = new Writer(1024);
  writer.u8(HELPER_PROTOCOL).u8(requestKinds.indexOf(request.kind)).text(request.path);
  if (request.kind === 'list' || request.kind === 'check') writer.string(request.pin).string(request.lastTry);
  else if (request.kind === 'sign') {
    const { token, blob, hash, data, pin, lastTry } = request;
    writer.string(token).string(blob).u8(hashes.indexOf(hash)).string(data);
    writer.u8(pin === undefined ? NO_PIN : lastTry ? PIN_LAST_TRY : PIN).string(pin ?? new Uint8Array());
  }
  const message = writer.finish();
  writer.wipe();
  return message;
}

/** Byte strings are views of `message`. @throws WireError, HelperProtocolError */
export function decodeRequest(message: Uint8Array): HelperRequest {
  const reader = new Reader(message);
  begin(reader, 'request');
  const kind = pick(requestKinds, reader.u8('kind'), 'request');
  const path = reader.exactText('path', MAX_PATH_BYTES);
  const rest = (): HelperRequest => {
    if (kind === 'tokens') return { kind, path };
    if (kind === 'list' || kind === 'check')
      return {
        kind,
        path,
        pin: reader.string('pin', MAX_PIN_BYTES),
        lastTry: reader.string('token', MAX_IDENTITY_BYTES),
      };
    const token = reader.string('token', MAX_IDENTITY_BYTES);
    const blob = reader.string('key');
    const hash = pick(hashes, reader.u8('hash'), 'hash');
    const data = reader.string('data');
    const how = reader.u8('how to use the PIN');
    const pin = reader.string('pin', MAX_PIN_BYTES);
    return {
      kind,
      path,
      token,
      blob,
      hash,
      data,
      pin: how === NO_PIN ? undefined : pin,
      lastTry: how === PIN_LAST_TRY,
    };
  };
  const request = rest();
  reader.end('request');
  return request;
}

const FLAGS = ['loginRequired', 'loggedIn', 'triesLost', 'lastTry', 'locked', 'pinPad'] as const;

function cut(text: string): Uint8Array {
  return utf8(text).subarray(0, MAX_LABEL_BYTES);
}

function writeTokens(writer: Writer, tokens: readonly TokenState[]): void {
  writer.u8(tokens.length);
  for (const token of tokens) {
    const flags = FLAGS.reduce((bits, name, i) => bits | (token[name] ? 1 << i : 0), 0);
    writer.string(token.identity).string(cut(token.label)).u64(token.slot).u8(flags).u8(pinOutcomes.indexOf(token.pin));
  }
}

function readTokens(reader: Reader): readonly TokenState[] {
  const count = reader.u8('tokens');
  if (count > MAX_TOKENS) throw new HelperProtocolError('too many tokens');
  return Array.from({ length: count }, () => {
    const identity = copy(reader.string('identity', MAX_IDENTITY_BYTES));
    const label = reader.text('label', MAX_LABEL_BYTES);
    const slot = reader.u64('slot');
    const bits = reader.u8('flags');
    const flags = Object.fromEntries(FLAGS.map((name, i) => [name, (bits & (1 << i)) !== 0]));
    const pin = pick(pinOutcomes, reader.u8('pin'), 'PIN outcome');
    return { identity, label, slot, pin, ...(flags as Record<(typeof FLAGS)[number], boolean>) };
  });
}

export function encodeAnswer(answer: HelperAnswer): Uint8Array {
  const writer = new Writer(1024);
  writer.u8(HELPER_PROTOCOL).u8(answerKinds.indexOf(answer.kind));
  if (answer.kind === 'signature') return writer.bool(answer.loggedIn).string(answer.signature).finish();
  if (answer.kind === 'failure')
    writer.bool(answer.loggedIn).u8(failureCodes.indexOf(answer.code)).string(cut(answer.text));
  writeTokens(writer, answer.tokens);
  if (answer.kind === 'keys') {
    writer.u32(answer.keys.length);
    for (const { blob, label, token } of answer.keys) writer.string(blob).string(cut(label)).u8(token);
  }
  return writer.finish();
}

/** @throws WireError, HelperProtocolError */
export function decodeAnswer(message: Uint8Array): HelperAnswer {
  const reader = new Reader(message);
  begin(reader, 'answer');
  const kind = pick(answerKinds, reader.u8('kind'), 'answer');
  const rest = (): HelperAnswer => {
    if (kind === 'signature')
      return { kind, loggedIn: reader.bool('logged in'), signature: copy(reader.string('signature')) };
    if (kind === 'failure') {
      const loggedIn = reader.bool('logged in');
      const code = pick(failureCodes, reader.u8('code'), 'failure');
      return { kind, loggedIn, code, text: reader.text('text', MAX_LABEL_BYTES), tokens: readTokens(reader) };
    }
    const tokens = readTokens(reader);
    if (kind === 'tokens') return { kind, tokens };
    const count = reader.u32('keys');
    if (count > MAX_TOKEN_KEYS) throw new HelperProtocolError('too many keys');
    const keys: ListedKey[] = [];
    for (let i = 0; i < count; i++) {
      const blob = copy(reader.string('key'));
      const label = reader.text('label', MAX_LABEL_BYTES);
      const token = reader.u8('token');
      if (token >= tokens.length) throw new HelperProtocolError('a key of no token');
      keys.push({ blob, label, token });
    }
    return { kind, tokens, keys };
  };
  const answer = rest();
  reader.end('answer');
  return answer;
}
