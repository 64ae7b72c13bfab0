/**
 * FIDO security keys through OpenSSH's ssh-sk-helper, a process for each request: signing with a key whose handle is in
 * custody, with touch and PIN, and listing resident keys. Providers are libraries that the helper loads, or "internal".
 * One request at a time goes to a provider, since two at once to one device fail; a hung device holds up nobody else.
 */
import type { Custody, Slot } from '../keys/custody.ts';
import { KeyError } from '../keys/error.ts';
import { fingerprint, type PublicKey, typeName } from '../keys/publickey.ts';
import { signatureName, verifySignature } from '../keys/signature.ts';
import type { Signer } from '../keys/signer.ts';
import { copy } from '../wire/bytes.ts';
import type { FieldValues } from '../wire/keyshapes.ts';
import type { AddedKey } from '../wire/requests.ts';
import type { Environment } from './helper.ts';
import { askSkHelper } from './skhelper.ts';
import { quoted, residentKeysIn, residentRequest, SecurityKeyError, signatureIn, signRequest } from './skmessages.ts';
import { type NotTaken, Turns } from './turns.ts';

export { findSkHelper } from './skhelper.ts';
export { SecurityKeyError } from './skmessages.ts';

/** How long one request to a device may take, touch included: some blink for ever, and sshd gives up after 120 s. */
export const DEVICE_MS = 90_000;
/** How long a request waits for those before it on the same device. */
export const TURN_MS = 90_000;
/** How long a person has for the PIN, as for other questions. */
export const PIN_MS = 90_000;
/** Requests that may wait for one provider; further ones fail at once. */
export const MAX_WAITING_FOR_DEVICE = 16;
/** CTAP devices have at most 1023 bytes; providers of other kinds are given room. */
export const MAX_KEY_HANDLE_BYTES = 8192;

/** A signature with this key wants a person to be there (SSH_SK_USER_PRESENCE_REQD). */
const TOUCH = 0x01;
const INTERNAL = 'internal';
const WRONG_PIN = 'incorrect passphrase supplied to decrypt private key';

export interface FidoPorts {
  readonly env: Environment;
  /** Shows that a touch is waited for; the returned function ends the notice. */
  readonly notify: (text: string) => () => void;
  /** The caller wipes the answer. */
  readonly askPin: (prompt: string, signal: AbortSignal) => Promise<Uint8Array | undefined>;
  readonly log: (level: 'error' | 'info' | 'debug', text: string) => void;
}

const turns = new Turns(MAX_WAITING_FOR_DEVICE);

/** Waits until the provider is free; the returned function frees it. @throws SecurityKeyError */
async function turn(provider: string, signal: AbortSignal | undefined, milliseconds: number): Promise<() => void> {
  const taken = await turns.take(provider, milliseconds, signal);
  if (typeof taken === 'function') return taken;
  throw new SecurityKeyError('internal', `security key: ${notTaken[taken]}`, 'agent refused operation');
}

const notTaken: Readonly<Record<NotTaken, string>> = {
  full: `${MAX_WAITING_FOR_DEVICE} requests wait for it already`,
  late: 'it is busy with another request',
  withdrawn: 'the request was withdrawn',
};

/** Asks for the PIN; undefined where none came in time. A PIN that comes too late is wiped. */
async function pinInTime(
  ports: FidoPorts,
  prompt: string,
  signal: AbortSignal | undefined,
  milliseconds: number,
): Promise<Uint8Array | undefined> {
  const over = new AbortController();
  const end = (): void => over.abort();
  const timer = setTimeout(end, milliseconds);
  signal?.addEventListener('abort', end, { once: true });
  if (signal?.aborted) end();
  try {
    const asked = ports.askPin(prompt, over.signal).then((pin) => {
      if (!over.signal.aborted) return pin;
      pin?.fill(0);
      return undefined;
    });
    // A port that goes on after its question was withdrawn must hold up nobody.
    const ended = new Promise<undefined>((resolve) => {
      if (over.signal.aborted) resolve(undefined);
      over.signal.addEventListener('abort', () => resolve(undefined), { once: true });
    });
    asked.catch(() => {});
    return await Promise.race([asked, ended]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', end);
  }
}

/** Bounds of time, in ms; tests have shorter ones. */
export interface FidoTimes {
  readonly device: number;
  readonly turn: number;
  readonly pin: number;
}

const defaultTimes: FidoTimes = Object.freeze({ device: DEVICE_MS, turn: TURN_MS, pin: PIN_MS });

/** What securityKeySigner makes. */
export class SecurityKeySigner implements Signer {
  readonly publicKey: PublicKey;
  readonly #fields: FieldValues;
  readonly #touch: boolean;
  readonly #handle: Slot;
  readonly #provider: string;
  readonly #custody: Custody;
  readonly #ports: FidoPorts;
  readonly #times: FidoTimes;
  #disposed = false;

  constructor(
    publicKey: PublicKey,
    fields: FieldValues,
    handle: Slot,
    provider: string,
    custody: Custody,
    ports: FidoPorts,
    times: FidoTimes,
  ) {
    this.publicKey = publicKey;
    this.#fields = fields;
    this.#touch = ((fields.flags?.[0] ?? 0) & TOUCH) !== 0;
    this.#handle = handle;
    this.#provider = provider;
    this.#custody = custody;
    this.#ports = ports;
    this.#times = times;
  }

  /** @param purpose a line for the notice that a touch is waited for: what it is for */
  async sign(data: Uint8Array, _flags: number, signal?: AbortSignal, purpose?: string): Promise<Uint8Array> {
    if (this.#disposed) throw new KeyError('internal', 'the key was removed');
    // Copied before anything is waited for: the caller's frame is reused, and a lock encrypts the handle where it rests.
    const signed = copy(data);
    const handle = this.#custody.passing(this.#handle.bytes.length);
    try {
      handle.bytes.set(this.#handle.bytes);
      const { type } = this.publicKey.algorithm;
      const provider = this.#provider;
      const request = signRequest({ type, fields: this.#fields, keyHandle: handle.bytes, provider, data: signed });
      const signature = await this.#signWithPin(request, signal, purpose);
      // The helper, its provider and the device are outside of our trust.
      if (signatureName(signature) !== type || !verifySignature(this.publicKey, signed, signature))
        throw new SecurityKeyError('internal', 'the security key gave a wrong signature', 'incorrect signature');
      return signature;
    } finally {
      handle.free();
    }
  }

  async #signWithPin(
    request: (pin: Uint8Array) => readonly Uint8Array[],
    signal: AbortSignal | undefined,
    purpose: string | undefined,
  ): Promise<Uint8Array> {
    try {
      // Without a PIN first: the device knows whether it wants one.
      return await this.#ask(request(new Uint8Array()), signal, purpose);
    } catch (error) {
      if (!(error instanceof SecurityKeyError) || error.code !== 'wrong-passphrase') throw error;
    }
    const { publicKey, algorithmName } = this.#named();
    const prompt = `Enter PIN${this.#touch ? ' and confirm user presence' : ''} for ${algorithmName} key ${publicKey}: `;
    const pin = await pinInTime(this.#ports, prompt, signal, this.#times.pin);
    try {
      // An empty PIN is none, and one with a NUL can't be sent: neither may cost a try.
      if (pin === undefined || pin.length === 0 || pin.includes(0))
        throw new SecurityKeyError('needs-passphrase', 'the security key wants a PIN, and none was given', WRONG_PIN);
      return await this.#ask(request(pin), signal, purpose);
    } catch (error) {
      if (!(error instanceof SecurityKeyError) || error.code !== 'wrong-passphrase') throw error;
      throw new SecurityKeyError('wrong-passphrase', 'wrong PIN: the security key counts wrong ones', WRONG_PIN);
    } finally {
      pin?.fill(0);
    }
  }

  #named(): { readonly publicKey: string; readonly algorithmName: string } {
    return { publicKey: fingerprint(this.publicKey), algorithmName: typeName(this.publicKey) };
  }

  /** One try, when it is our turn. */
  async #ask(
    request: readonly Uint8Array[],
    signal: AbortSignal | undefined,
    purpose: string | undefined,
  ): Promise<Uint8Array> {
    const { notify, env, log } = this.#ports;
    const release = await turn(this.#provider, signal, this.#times.turn);
    let endNotice = (): void => {};
    try {
      if (this.#touch) {
        const { publicKey, algorithmName } = this.#named();
        const lines = [`Confirm user presence for key ${algorithmName} ${publicKey}`];
        if (purpose !== undefined) lines.push(purpose);
        endNotice = notify(lines.join('\n'));
      }
      const { message, complaint } = await askSkHelper(request, env, signal, this.#times.device);
      if (complaint !== '') log('debug', `ssh-sk-helper:${quoted(complaint)}`);
      return signatureIn(message, complaint);
    } finally {
      release();
      endNotice();
    }
  }

  rest(): void {}

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#handle.free();
  }
}

/**
 * A signer for a security key whose private part (flags, keyHandle, reserved) came in a request to add it; it is copied.
 * sign() takes an AbortSignal as its third argument, and a line that says what a touch is for as its fourth.
 * @param provider "internal" in any case, or a canonical path that policy has allowed
 * @throws KeyError
 */
export function securityKeySigner(
  publicKey: PublicKey,
  fields: FieldValues,
  provider: string,
  custody: Custody,
  ports: FidoPorts,
  times: FidoTimes = defaultTimes,
): SecurityKeySigner {
  const { family } = publicKey.algorithm;
  if (family !== 'sk-ed25519' && family !== 'sk-ecdsa')
    throw new KeyError('unsupported', 'a provider for a key that needs none');
  if (provider === '' || provider.includes('\0')) throw new KeyError('malformed', 'a provider that is no path');
  const { flags, keyHandle, reserved } = fields;
  if (flags?.length !== 1 || keyHandle === undefined || reserved === undefined)
    throw new KeyError('malformed', 'a security key without flags or key handle');
  if (keyHandle.length === 0 || keyHandle.length > MAX_KEY_HANDLE_BYTES || reserved.length > MAX_KEY_HANDLE_BYTES)
    throw new KeyError('out-of-bounds', `a key handle of ${keyHandle.length} bytes, at most ${MAX_KEY_HANDLE_BYTES}`);
  const handle = custody.allocate(keyHandle.length);
  handle.bytes.set(keyHandle);
  const kept = { ...publicKey.fields, flags: copy(flags), reserved: copy(reserved) };
  const name = provider.toLowerCase() === INTERNAL ? INTERNAL : provider;
  return new SecurityKeySigner(publicKey, kept, handle, name, custody, ports, times);
}

/**
 * The resident keys for SSH of the device that the provider finds. The PIN stays the caller's; the caller wipes the key
 * handles among the fields.
 * @throws SecurityKeyError
 */
export async function loadResidentKeys(
  provider: string,
  pin: Uint8Array | undefined,
  env: Environment,
  signal?: AbortSignal,
): Promise<readonly { readonly key: AddedKey; readonly comment: string }[]> {
  if (pin?.includes(0)) throw new SecurityKeyError('wrong-passphrase', 'a PIN has no NUL', WRONG_PIN);
  const request = residentRequest(provider, pin ?? new Uint8Array());
  const { message, complaint } = await askSkHelper(request, env, signal, DEVICE_MS);
  return residentKeysIn(message, complaint);
}
