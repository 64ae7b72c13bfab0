/**
 * The helper process of one PKCS#11 provider: what it does with each request (docs/protocol.md, "PKCS#11 helper"). It
 * answers one request after the other and blocks in the provider's calls meanwhile; how long that may take is the
 * agent's to decide, which ends this process. Nothing secret is kept between requests but the provider's own login.
 */
import type { Hash } from '../keys/algorithms.ts';
import { equal, hex } from '../wire/bytes.ts';
import { WireError } from '../wire/error.ts';
import { keyTypeOf, signingWays } from './pkcs11objects.ts';
import {
  decodeRequest,
  encodeAnswer,
  type FailureCode,
  type HelperAnswer,
  HelperProtocolError,
  type HelperRequest,
  type ListedKey,
  MAX_TOKEN_KEYS,
} from './pkcs11protocol.ts';
import {
  CallFailed,
  CKR,
  CKU_CONTEXT_SPECIFIC,
  CKU_USER,
  type Cryptoki,
  HelperFailure,
  type KeyPlace,
  ok,
  type PrivateKey,
  scanTokens,
  type Token,
} from './pkcs11tokens.ts';

/** Longest signature, in bytes: RSA of 16384 bits. */
const MAX_SIGNATURE_BYTES = 2048;

/** CK_RV that mean: session, token or reader are not what they were. Trying again from the start may help. */
const LOST: ReadonlySet<number> = new Set([
  0x03, 0x05, 0x06, 0x30, 0x31, 0x32, 0x60, 0x82, 0x90, 0xb0, 0xb3, 0xe0, 0xe1, 0x190,
]);
/** CK_RV that mean: not by this mechanism. */
const NOT_THIS_WAY: ReadonlySet<number> = new Set([0x54, 0x63, 0x68, 0x70, 0x71]);

type SignRequest = Extract<HelperRequest, { kind: 'sign' }>;
type ListRequest = Extract<HelperRequest, { kind: 'list' }>;
type PinRequest = Pick<ListRequest, 'pin' | 'lastTry'>;

/** C_Initialize was called before, by something that the provider itself loads. */
const ALREADY_INITIALIZED = 0x191;

function codeOf(error: unknown): FailureCode {
  if (error instanceof WireError || error instanceof HelperProtocolError) return 'malformed';
  return error instanceof CallFailed && LOST.has(error.rv) ? 'device' : 'failed';
}

export interface HelperPorts {
  /** Whether the file at `path` is a provider, by its symbols alone. @returns why not */
  readonly refuse: (path: string) => string | undefined;
  /** Loads it. @throws Error */
  readonly load: (path: string) => Cryptoki;
}

export class Pkcs11Helper {
  readonly #ports: HelperPorts;
  #loaded: { readonly path: string; readonly cryptoki: Cryptoki } | undefined;
  #tokens: Map<string, Token> = new Map();
  /** Where each token's keys are, as last looked at. */
  readonly #places = new Map<Token, readonly KeyPlace[]>();

  constructor(ports: HelperPorts) {
    this.#ports = ports;
  }

  /** The answer to one message, which is the caller's to wipe. Never throws. */
  handle(message: Uint8Array): Uint8Array {
    return encodeAnswer(this.#answer(message));
  }

  /** Lets go of the provider: tokens are logged out. */
  end(): void {
    this.#loaded?.cryptoki.C_Finalize();
    this.#loaded = undefined;
  }

  #answer(message: Uint8Array): HelperAnswer {
    try {
      const request = decodeRequest(message);
      const cryptoki = this.#load(request.path);
      for (const token of this.#tokens.values()) token.pinOutcome = 'unused';
      switch (request.kind) {
        case 'list':
          return this.#list(cryptoki, request);
        case 'tokens':
          this.#scan(cryptoki);
          return { kind: 'tokens', tokens: this.#states() };
        case 'check':
          this.#scan(cryptoki);
          this.#tryPin([...this.#tokens.values()], request);
          return { kind: 'tokens', tokens: this.#states() };
        case 'sign':
          return { kind: 'signature', signature: this.#sign(cryptoki, request), loggedIn: this.#loggedIn() };
        default:
          return request satisfies never;
      }
    } catch (error) {
      const known = error instanceof HelperFailure ? error : undefined;
      return {
        kind: 'failure',
        code: known?.code ?? codeOf(error),
        text: error instanceof Error ? error.message : 'unknown error',
        tokens: known?.token ? [known.token.state()] : this.#states(),
        loggedIn: this.#loggedIn(),
      };
    }
  }

  #load(path: string): Cryptoki {
    if (this.#loaded?.path === path) return this.#loaded.cryptoki;
    // OpenSSH's answer to a second provider is to end; ours is told, since a process per provider is the point.
    if (this.#loaded !== undefined) throw new HelperFailure('malformed', 'this helper has another provider');
    const reason = this.#ports.refuse(path);
    if (reason !== undefined) throw new HelperFailure('not-a-provider', reason);
    try {
      const cryptoki = this.#ports.load(path);
      const rv = cryptoki.C_Initialize();
      if (rv !== ALREADY_INITIALIZED) ok('C_Initialize', rv);
      this.#loaded = { path, cryptoki };
      return cryptoki;
    } catch (error) {
      throw new HelperFailure('unloadable', error instanceof Error ? error.message : 'unknown error');
    }
  }

  #states(): ReturnType<Token['state']>[] {
    return [...this.#tokens.values()].map((token) => token.state());
  }

  #loggedIn(): boolean {
    return [...this.#tokens.values()].some((token) => token.loggedIn);
  }

  #scan(cryptoki: Cryptoki): void {
    this.#tokens = scanTokens(cryptoki, this.#tokens);
    for (const token of this.#places.keys()) if (!this.#isThere(token)) this.#places.delete(token);
  }

  #isThere(token: Token): boolean {
    return [...this.#tokens.values()].includes(token);
  }

  #keysOf(token: Token): readonly KeyPlace[] {
    const places = token.keys();
    this.#places.set(token, places);
    return places;
  }

  #list(cryptoki: Cryptoki, request: ListRequest): HelperAnswer {
    this.#scan(cryptoki);
    const tokens = [...this.#tokens.values()];
    if (request.pin.length > 0) this.#tryPin(tokens, request);
    const keys: ListedKey[] = [];
    tokens.forEach((token, index) => {
      try {
        let places = this.#keysOf(token);
        if (places.length === 0 && token.wantsLogin && token.pinPad && !token.loggedIn) {
          token.login(CKU_USER, undefined, false);
          places = this.#keysOf(token);
        }
        for (const { blob, label } of places)
          if (keys.length < MAX_TOKEN_KEYS) keys.push({ blob, label, token: index });
      } catch (error) {
        // One token that fails must not hide the keys of the others.
        if (!(error instanceof CallFailed || error instanceof HelperFailure) || tokens.length === 1) throw error;
      }
    });
    return { kind: 'keys', tokens: tokens.map((token) => token.state()), keys };
  }

  /**
   * One PIN for tokens that may have different ones. A token that lost a try before comes last, and is spared where
   * another took the PIN: so the PIN of one token costs another one try, never a second. Where somebody is logged in, it
   * is not tried at all: that token would take any, and it may be its own.
   */
  #tryPin(tokens: readonly Token[], { pin, lastTry }: PinRequest): void {
    const agreed = (token: Token): boolean => equal(token.identity, lastTry);
    const wanting = tokens.filter((token) => token.wantsLogin && !token.pinPad);
    const order = wanting.some(agreed)
      ? wanting.filter(agreed)
      : wanting.toSorted((a, b) => Number(a.triesLost) - Number(b.triesLost));
    const attempt = (action: () => void): void => {
      try {
        action();
      } catch (error) {
        if (!(error instanceof HelperFailure) && tokens.length === 1) throw error;
      }
    };
    for (const token of order) attempt(() => token.session());
    const open = order.filter(({ loggedIn }) => loggedIn);
    for (const token of open) token.pinOutcome = 'open';
    if (open.length > 0) return;
    for (const token of order) {
      if (token.triesLost && order.some((other) => other.pinOutcome === 'accepted')) continue;
      attempt(() => token.login(CKU_USER, pin, agreed(token)));
    }
  }

  #sign(cryptoki: Cryptoki, request: SignRequest): Uint8Array {
    try {
      return this.#signOnce(cryptoki, request);
    } catch (error) {
      if (!(error instanceof CallFailed) || !LOST.has(error.rv)) throw error;
      // Whatever was known of the tokens may be of before they were pulled out.
      for (const token of this.#tokens.values()) this.#forgetLost(token);
      this.#scan(cryptoki);
      return this.#signOnce(cryptoki, request);
    }
  }

  /** A session that still answers stays: another token's trouble must not log this one out. */
  #forgetLost(token: Token): void {
    try {
      token.session();
      token.renew();
    } catch {
      token.forget();
    }
    this.#places.delete(token);
  }

  #locate(cryptoki: Cryptoki, { blob, token: identity }: SignRequest): readonly [Token, KeyPlace] {
    const name = hex(blob);
    const search = (places: (token: Token) => readonly KeyPlace[]): readonly [Token, KeyPlace] | undefined => {
      const tokens = [...this.#tokens.values()];
      // The token that had the key when it was listed, before others that hold a copy.
      tokens.sort((a, b) => Number(equal(b.identity, identity)) - Number(equal(a.identity, identity)));
      for (const token of tokens) {
        const place = places(token).find((one) => hex(one.blob) === name);
        if (place !== undefined) return [token, place];
      }
      return undefined;
    };
    const known = search((token) => this.#places.get(token) ?? []);
    if (known !== undefined) return known;
    this.#scan(cryptoki);
    const found = search((token) => this.#keysOf(token));
    if (found !== undefined) return found;
    const owner = this.#tokens.get(hex(identity));
    if (owner === undefined) throw new HelperFailure('gone', 'the token is not there');
    if (owner.wantsLogin && !owner.loggedIn) throw new HelperFailure('pin-needed', 'log in to see the key', owner);
    owner.forget();
    throw new HelperFailure('gone', 'the token no longer has the key');
  }

  #signOnce(cryptoki: Cryptoki, request: SignRequest): Uint8Array {
    const { blob, hash, data, pin, lastTry } = request;
    const keyType = keyTypeOf(blob);
    if (keyType === undefined) throw new HelperFailure('malformed', 'no type that a token holds');
    if (request.pin !== undefined) {
      const owner = this.#tokens.get(hex(request.token)) ?? this.#rescanned(cryptoki, request.token);
      if (owner?.wantsLogin) {
        owner.session();
        if (!owner.loggedIn) owner.login(CKU_USER, owner.pinPad ? undefined : pin, lastTry);
      }
    }
    const [token, place] = this.#locate(cryptoki, request);
    token.session();
    const key = token.privateKey(place, keyType);
    if (key === undefined) {
      if (token.wantsLogin && !token.loggedIn) throw new HelperFailure('pin-needed', 'log in to see the key', token);
      // It had one. A provider that missed that the token was pulled out shows an empty one for ever, still logged in: a
      // login that opens nothing is given up, so that the agent may start anew.
      token.forget();
      throw new HelperFailure('gone', 'the token has no private key for it that may sign');
    }
    if (key.alwaysAuthenticate && pin === undefined) {
      token.refresh();
      throw new HelperFailure('pin-needed', 'this key wants the PIN each time', token);
    }
    return this.#signWith(cryptoki, token, key, keyType, { hash, data, pin, lastTry });
  }

  #rescanned(cryptoki: Cryptoki, identity: Uint8Array): Token | undefined {
    this.#scan(cryptoki);
    return this.#tokens.get(hex(identity));
  }

  #signWith(
    cryptoki: Cryptoki,
    token: Token,
    key: PrivateKey,
    keyType: number,
    what: { hash: Hash | undefined; data: Uint8Array; pin: Uint8Array | undefined; lastTry: boolean },
  ): Uint8Array {
    let failed: CallFailed | undefined;
    for (const { mechanism, input } of signingWays(keyType, what.hash, what.data)) {
      const session = token.session();
      try {
        ok('C_SignInit', cryptoki.C_SignInit(session, mechanism, key.handle));
        if (key.alwaysAuthenticate)
          token.login(CKU_CONTEXT_SPECIFIC, token.pinPad ? undefined : what.pin, what.lastTry);
        const { rv, signature } = cryptoki.C_Sign(session, input, MAX_SIGNATURE_BYTES);
        ok('C_Sign', rv);
        return signature;
      } catch (error) {
        if (error instanceof HelperFailure) token.renew();
        if (!(error instanceof CallFailed)) throw error;
        if (error.rv === CKR.USER_NOT_LOGGED_IN) {
          token.logout();
          token.refresh();
          if (what.pin !== undefined) throw error;
          throw new HelperFailure('pin-needed', 'the token wants a login', token);
        }
        if (!LOST.has(error.rv)) token.renew();
        if (!NOT_THIS_WAY.has(error.rv)) throw error;
        failed = error;
      }
    }
    throw failed ?? new HelperFailure('failed', 'no way to sign');
  }
}
