/**
 * The tokens of one loaded provider, as the helper process sees them: which are there, one session each, logging in,
 * the keys on them. A token is known by its identity (label, manufacturer, model, serial number), since slots change
 * when it is plugged in anew. No PIN is kept: the provider has seen it, and a session that is logged in lasts.
 */
import { equal, hex, text } from '../wire/bytes.ts';
import {
  CKK_EC,
  CKK_EC_EDWARDS,
  CKK_RSA,
  certificateBlob,
  ecBlob,
  edwardsBlob,
  keyInfoBlob,
  rsaBlob,
} from './pkcs11objects.ts';
import { type FailureCode, MAX_TOKEN_KEYS, MAX_TOKENS, type PinOutcome, type TokenState } from './pkcs11protocol.ts';

type Handle = bigint;

/** The functions that are called, as src/native/pkcs11.ts binds them. Numbers are CK_RV. */
export interface Cryptoki {
  C_Initialize(): number;
  C_Finalize(): number;
  C_GetSlotList(max: number): { rv: number; slots: readonly Handle[] };
  C_GetTokenInfo(slot: Handle): { rv: number; info: Uint8Array };
  C_OpenSession(slot: Handle): { rv: number; session: Handle };
  C_CloseSession(session: Handle): number;
  C_GetSessionInfo(session: Handle): { rv: number; state: number };
  C_Login(session: Handle, user: number, pin: Uint8Array | undefined): number;
  C_Logout(session: Handle): number;
  C_FindObjectsInit(session: Handle, attributes: readonly { type: number; value: Uint8Array }[]): number;
  C_FindObjects(session: Handle, max: number): { rv: number; objects: readonly Handle[] };
  C_FindObjectsFinal(session: Handle): number;
  C_GetAttributeValue(session: Handle, object: Handle, type: number, room: number): Uint8Array | undefined;
  C_SignInit(session: Handle, mechanism: number, key: Handle): number;
  C_Sign(session: Handle, data: Uint8Array, room: number): { rv: number; signature: Uint8Array };
}

export const CKR = {
  OK: 0,
  PIN_INCORRECT: 0xa0,
  PIN_INVALID: 0xa1,
  PIN_LEN_RANGE: 0xa2,
  PIN_LOCKED: 0xa4,
  USER_ALREADY_LOGGED_IN: 0x100,
  USER_NOT_LOGGED_IN: 0x101,
} as const;

const CKF_LOGIN_REQUIRED = 0x4;
const CKF_PROTECTED_AUTHENTICATION_PATH = 0x100;
const CKF_TOKEN_INITIALIZED = 0x400;
const CKF_USER_PIN_COUNT_LOW = 0x10000;
const CKF_USER_PIN_FINAL_TRY = 0x20000;
const CKF_USER_PIN_LOCKED = 0x40000;
const IDENTITY_BYTES = 96;
const LABEL_BYTES = 32;

export const CKU_USER = 1;
export const CKU_CONTEXT_SPECIFIC = 2;
/** CKS_RO_USER_FUNCTIONS and CKS_RW_USER_FUNCTIONS. */
const USER_STATES: readonly number[] = [1, 3];

const CKO_CERTIFICATE = 1;
const CKO_PUBLIC_KEY = 2;
const CKO_PRIVATE_KEY = 3;
const CKA_CLASS = 0x0;
const CKA_LABEL = 0x3;
const CKA_VALUE = 0x11;
const CKA_KEY_TYPE = 0x100;
const CKA_ID = 0x102;
const CKA_SIGN = 0x108;
const CKA_MODULUS = 0x120;
const CKA_PUBLIC_EXPONENT = 0x122;
const CKA_PUBLIC_KEY_INFO = 0x129;
const CKA_EC_PARAMS = 0x180;
const CKA_EC_POINT = 0x181;
const CKA_ALWAYS_AUTHENTICATE = 0x202;

/** Longest attribute read but for a certificate's value, in bytes: a modulus of 16384 bits fits. */
const MAX_ATTRIBUTE_BYTES = 4096;
const MAX_CERTIFICATE_BYTES = 64 * 1024;
/** Objects looked at in one search; a provider may claim any number. */
const MAX_OBJECTS = 4096;
const OBJECTS_A_CALL = 64;

/** A request ends with this failure. Texts name calls, codes and tokens, never what was signed or a PIN. */
export class HelperFailure extends Error {
  readonly code: FailureCode;
  readonly token: Token | undefined;

  constructor(code: FailureCode, message: string, token?: Token) {
    super(message);
    this.code = code;
    this.token = token;
  }
}

/** A call of the provider did not give CKR_OK. */
export class CallFailed extends Error {
  readonly rv: number;

  constructor(call: string, rv: number) {
    super(`${call} failed with CKR 0x${rv.toString(16).padStart(2, '0')}`);
    this.rv = rv;
  }
}

export function ok(call: string, rv: number): void {
  if (rv !== CKR.OK) throw new CallFailed(call, rv);
}

export interface KeyPlace {
  readonly blob: Uint8Array;
  readonly label: string;
  readonly id: Uint8Array;
}

/** A private key as it was found in the token's session. */
export interface PrivateKey {
  readonly handle: Handle;
  readonly alwaysAuthenticate: boolean;
}

const ulong = (value: number): Uint8Array => {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
  return bytes;
};
const number = (value: Uint8Array | undefined): number | undefined =>
  value?.length === 8 ? Number(new DataView(value.buffer, value.byteOffset).getBigUint64(0, true)) : undefined;
const trimmed = (bytes: Uint8Array): string => text(bytes).replace(/[\0 ]+$/, '');

export class Token {
  readonly identity: Uint8Array;
  readonly label: string;
  readonly #cryptoki: Cryptoki;
  slot: Handle;
  #flags = 0;
  #session: Handle | undefined;
  /** Whether somebody logged in, as far as we have been told. */
  loggedIn = false;
  pinOutcome: PinOutcome = 'unused';
  readonly #privateKeys = new Map<string, PrivateKey>();

  constructor(cryptoki: Cryptoki, slot: Handle, info: Uint8Array) {
    this.#cryptoki = cryptoki;
    this.slot = slot;
    this.identity = info.slice(0, IDENTITY_BYTES);
    this.label = trimmed(this.identity.subarray(0, LABEL_BYTES));
    this.update(info);
  }

  update(info: Uint8Array): void {
    this.#flags = Number(new DataView(info.buffer, info.byteOffset).getBigUint64(IDENTITY_BYTES, true) & 0xffffffffn);
  }

  /** Asks the token again: each PIN counts. */
  refresh(): void {
    const { rv, info } = this.#cryptoki.C_GetTokenInfo(this.slot);
    if (rv === CKR.OK) this.update(info);
  }

  #has(flag: number): boolean {
    return (this.#flags & flag) !== 0;
  }

  get wantsLogin(): boolean {
    return this.#has(CKF_LOGIN_REQUIRED);
  }

  get triesLost(): boolean {
    return this.#has(CKF_USER_PIN_COUNT_LOW) || this.#has(CKF_USER_PIN_FINAL_TRY);
  }

  get pinPad(): boolean {
    return this.#has(CKF_PROTECTED_AUTHENTICATION_PATH);
  }

  state(): TokenState {
    return {
      identity: this.identity,
      label: this.label,
      slot: this.slot,
      loginRequired: this.wantsLogin,
      loggedIn: this.loggedIn,
      triesLost: this.triesLost,
      lastTry: this.#has(CKF_USER_PIN_FINAL_TRY),
      locked: this.#has(CKF_USER_PIN_LOCKED),
      pinPad: this.pinPad,
      pin: this.pinOutcome,
    };
  }

  /** The open session. @throws CallFailed */
  session(): Handle {
    if (this.#session !== undefined) {
      const { rv, state } = this.#cryptoki.C_GetSessionInfo(this.#session);
      if (rv === CKR.OK) {
        this.loggedIn = USER_STATES.includes(state);
        return this.#session;
      }
      this.forget();
    }
    const { rv, session } = this.#cryptoki.C_OpenSession(this.slot);
    ok('C_OpenSession', rv);
    this.#session = session;
    return session;
  }

  /** Gives the session up: what is found next comes from a fresh one. */
  forget(): void {
    if (this.#session !== undefined) this.#cryptoki.C_CloseSession(this.#session);
    this.#session = undefined;
    this.#privateKeys.clear();
    this.loggedIn = false;
  }

  /** A fresh session in place of one in which a signature may be half done; the login stays. */
  renew(): void {
    const old = this.#session;
    this.#session = undefined;
    this.#privateKeys.clear();
    try {
      // Before the old one goes: with its last session a token loses its login.
      this.session();
    } finally {
      if (old !== undefined) this.#cryptoki.C_CloseSession(old);
    }
  }

  /** The token says that nobody is logged in, whatever the session's state says. */
  logout(): void {
    if (this.#session !== undefined) this.#cryptoki.C_Logout(this.#session);
    this.#privateKeys.clear();
    this.loggedIn = false;
  }

  /**
   * Gives the token a PIN, unless that could be its last try and nobody was told.
   * @param pin undefined: typed at the reader
   * @throws HelperFailure, CallFailed
   */
  login(user: number, pin: Uint8Array | undefined, lastTryAgreed: boolean): void {
    const session = this.session();
    this.refresh();
    if (this.#has(CKF_USER_PIN_LOCKED)) throw this.#locked();
    if (this.#has(CKF_USER_PIN_FINAL_TRY) && !lastTryAgreed) {
      this.pinOutcome = 'last-try';
      throw new HelperFailure('pin-needed', 'one try is left', this);
    }
    const rv = this.#cryptoki.C_Login(session, user, pin);
    switch (rv) {
      case CKR.OK:
      case CKR.USER_ALREADY_LOGGED_IN:
        this.loggedIn = true;
        this.#privateKeys.clear();
        this.pinOutcome = rv === CKR.OK ? 'accepted' : 'open';
        return;
      case CKR.PIN_INCORRECT:
      case CKR.PIN_INVALID:
      case CKR.PIN_LEN_RANGE:
        this.refresh();
        if (this.#has(CKF_USER_PIN_LOCKED)) throw this.#locked();
        this.pinOutcome = 'wrong';
        throw new HelperFailure('wrong-pin', 'wrong PIN', this);
      case CKR.PIN_LOCKED:
        this.refresh();
        throw this.#locked();
      default:
        ok('C_Login', rv);
    }
  }

  #locked(): HelperFailure {
    this.pinOutcome = 'locked';
    return new HelperFailure('pin-locked', 'its PIN is locked', this);
  }

  #find(kind: number, ...more: readonly { type: number; value: Uint8Array }[]): readonly Handle[] {
    const cryptoki = this.#cryptoki;
    const session = this.session();
    ok('C_FindObjectsInit', cryptoki.C_FindObjectsInit(session, [{ type: CKA_CLASS, value: ulong(kind) }, ...more]));
    try {
      const found: Handle[] = [];
      while (found.length < MAX_OBJECTS) {
        const { rv, objects } = cryptoki.C_FindObjects(session, OBJECTS_A_CALL);
        ok('C_FindObjects', rv);
        if (objects.length === 0) break;
        found.push(...objects);
      }
      return found;
    } finally {
      cryptoki.C_FindObjectsFinal(session);
    }
  }

  #attribute(object: Handle, type: number, room: number = MAX_ATTRIBUTE_BYTES): Uint8Array | undefined {
    return this.#cryptoki.C_GetAttributeValue(this.session(), object, type, room);
  }

  #keyBlob(object: Handle): Uint8Array | undefined {
    const get = (type: number): Uint8Array | undefined => this.#attribute(object, type);
    switch (number(get(CKA_KEY_TYPE))) {
      case CKK_RSA:
        return rsaBlob(get(CKA_MODULUS), get(CKA_PUBLIC_EXPONENT));
      case CKK_EC:
        return ecBlob(get(CKA_EC_PARAMS), get(CKA_EC_POINT)) ?? keyInfoBlob(get(CKA_PUBLIC_KEY_INFO));
      case CKK_EC_EDWARDS:
        return edwardsBlob(get(CKA_EC_PARAMS), get(CKA_EC_POINT)) ?? keyInfoBlob(get(CKA_PUBLIC_KEY_INFO));
      default:
        return undefined;
    }
  }

  /** The keys that the token shows now: of public keys, of certificates, and of private keys that tell their public half. */
  keys(): readonly KeyPlace[] {
    const found = new Map<string, KeyPlace>();
    const note = (object: Handle, blob: Uint8Array | undefined, name = ''): void => {
      if (blob === undefined || found.size >= MAX_TOKEN_KEYS) return;
      const label = trimmed(this.#attribute(object, CKA_LABEL) ?? new Uint8Array()) || name;
      const id = this.#attribute(object, CKA_ID) ?? new Uint8Array();
      const known = found.get(hex(blob));
      if (known === undefined || known.label === '') found.set(hex(blob), { blob, label, id: known?.id ?? id });
    };
    for (const object of this.#find(CKO_PUBLIC_KEY)) note(object, this.#keyBlob(object));
    for (const object of this.#find(CKO_CERTIFICATE)) {
      const certificate = certificateBlob(this.#attribute(object, CKA_VALUE, MAX_CERTIFICATE_BYTES));
      note(object, certificate?.blob, certificate?.subject);
    }
    const privates = this.#find(CKO_PRIVATE_KEY);
    const ids = privates.map((object) => this.#attribute(object, CKA_ID) ?? new Uint8Array());
    for (const object of privates) note(object, this.#keyBlob(object));
    const all = [...found.values()];
    // Before a login private keys are hidden; after it a certificate without one is an authority's or somebody else's.
    if (this.wantsLogin && !this.loggedIn) return all;
    return all.filter((key) => key.id.length === 0 || ids.some((id) => equal(id, key.id)));
  }

  /** The private key for `place`, or undefined where the token shows none. */
  privateKey(place: KeyPlace, keyType: number): PrivateKey | undefined {
    const name = hex(place.blob);
    const known = this.#privateKeys.get(name);
    if (known !== undefined) return known;
    const value = place.id.length > 0 ? place.id : new TextEncoder().encode(place.label);
    const type = place.id.length > 0 ? CKA_ID : CKA_LABEL;
    const found = this.#find(CKO_PRIVATE_KEY, { type, value }).find(
      (object) =>
        number(this.#attribute(object, CKA_KEY_TYPE)) === keyType && this.#attribute(object, CKA_SIGN)?.[0] !== 0,
    );
    if (found === undefined) return undefined;
    const alwaysAuthenticate = this.#attribute(found, CKA_ALWAYS_AUTHENTICATE)?.[0] === 1;
    const key = { handle: found, alwaysAuthenticate };
    this.#privateKeys.set(name, key);
    return key;
  }
}

/** Looks which tokens are there; those that were known keep their session. @throws CallFailed */
export function scanTokens(cryptoki: Cryptoki, known: ReadonlyMap<string, Token>): Map<string, Token> {
  const { rv, slots } = cryptoki.C_GetSlotList(MAX_TOKENS);
  ok('C_GetSlotList', rv);
  const there = new Map<string, Token>();
  for (const slot of slots) {
    const { rv: unreadable, info } = cryptoki.C_GetTokenInfo(slot);
    if (unreadable !== CKR.OK) continue;
    const fresh = new Token(cryptoki, slot, info);
    if ((Number(new DataView(info.buffer).getBigUint64(IDENTITY_BYTES, true)) & CKF_TOKEN_INITIALIZED) === 0) continue;
    const name = hex(fresh.identity);
    const old = known.get(name);
    if (old?.slot === slot) old.update(info);
    there.set(name, old?.slot === slot ? old : fresh);
  }
  for (const [name, token] of known) if (there.get(name) !== token) token.forget();
  return there;
}
