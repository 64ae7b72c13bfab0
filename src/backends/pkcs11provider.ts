/**
 * One PKCS#11 provider from the agent's side: what it is asked, what of it is known, and the questions for PINs. A PIN goes
 * to the helper process when it is needed and is wiped; the last try before a token locks is never made without a person
 * who was told. Which providers may be loaded, and for whom, is policy's (policy/providers.ts).
 */
import { type Clock, type LogLevel, systemClock } from '../agent/ports.ts';
import type { Hash } from '../keys/algorithms.ts';
import { KeyError } from '../keys/error.ts';
import { type PublicKey, parsePublicKey } from '../keys/publickey.ts';
import { hex } from '../wire/bytes.ts';
import { visible } from '../wire/visible.ts';
import type { Environment } from './helper.ts';
import { type Failure, failureError, named, processError } from './pkcs11errors.ts';
import { HelperProcess, HelperProcessError } from './pkcs11process.ts';
import {
  decodeAnswer,
  encodeRequest,
  type HelperAnswer,
  type HelperRequest,
  MAX_PIN_BYTES,
  type TokenState,
} from './pkcs11protocol.ts';
import { Turns } from './turns.ts';

/** Times in milliseconds; each bounds one thing. */
export interface Pkcs11Limits {
  /** Loading a provider, and listing the keys of its tokens. */
  readonly listMs: number;
  /** One signature, with the touch or the PIN pad that the token may want. */
  readonly signMs: number;
  /** A question for a PIN. */
  readonly questionMs: number;
  /** A helper in which nobody is logged in ends after so long without a request; OpenSSH's stays. */
  readonly idleMs: number;
  /** What a helper may take to log out and end. */
  readonly endMs: number;
}

export const PKCS11_LIMITS: Pkcs11Limits = {
  listMs: 30_000,
  signMs: 60_000,
  questionMs: 90_000,
  idleMs: 60_000,
  endMs: 2_000,
};

/** How often a PIN is asked for one signature. */
export const MAX_PIN_QUESTIONS = 3;
/** Signatures of one token that wait for the same question. */
const MAX_WAITING_FOR_PIN = 16;

export interface Pkcs11Ports {
  /** The helper's, and so the provider's: with nothing in it that Node or the linker would obey. */
  readonly env: Environment;
  /** Program and arguments of the helper process. */
  readonly helper: readonly string[];
  /** Asks a person; undefined where nobody answers. The answer is wiped here. */
  readonly askPin: (prompt: string, signal: AbortSignal) => Promise<Uint8Array | undefined>;
  readonly log: (level: LogLevel, text: string) => void;
  readonly clock?: Pick<Clock, 'after'>;
  readonly limits?: Partial<Pkcs11Limits>;
}

export interface TokenStatus {
  readonly label: string;
  readonly slot: number;
  /** As of the last request that could tell. */
  readonly present: boolean;
  readonly keys: number;
  readonly loggedIn: boolean;
  readonly pinLocked: boolean;
  /** The next wrong PIN locks it. */
  readonly lastTry: boolean;
}

/** A key, and the token that had it when it was listed. */
export interface KeyPlace {
  readonly publicKey: PublicKey;
  readonly label: string;
  readonly token: TokenState;
}

type SignAnswer = Extract<HelperAnswer, { kind: 'signature' }> | Failure;
export interface SignInput {
  readonly hash: Hash | undefined;
  readonly data: Uint8Array;
  /** A line that tells a person what the signature is for. */
  readonly purpose: string | undefined;
}

const NONE: Uint8Array = new Uint8Array();

/** What a question for a PIN is about, where a key is. */
interface About {
  readonly key?: string;
  readonly purpose?: string | undefined;
}

/** Shared by all who opened it. */
export class Provider {
  readonly path: string;
  readonly #ports: Pkcs11Ports;
  readonly #limits: Pkcs11Limits;
  readonly process: HelperProcess;
  readonly #pinTurns = new Turns(MAX_WAITING_FOR_PIN);
  readonly #tokens = new Map<string, { state: TokenState; present: boolean; keys: number; wrongPins: number }>();
  users = 0;

  constructor(path: string, ports: Pkcs11Ports) {
    this.path = path;
    this.#ports = ports;
    this.#limits = { ...PKCS11_LIMITS, ...ports.limits };
    const { after } = ports.clock ?? systemClock;
    this.process = new HelperProcess({
      command: ports.helper,
      env: ports.env,
      idleMs: this.#limits.idleMs,
      endMs: this.#limits.endMs,
      after: (milliseconds, callback) => after(milliseconds, callback),
      ended: (how) => {
        for (const token of this.#tokens.values()) token.state = { ...token.state, loggedIn: false };
        ports.log('debug', `PKCS#11 provider ${visible(path)}: ${how}`);
      },
    });
  }

  /**
   * @param renew end the helper where another one may find what this one lost
   * @throws HelperProcessError
   */
  async #once(
    request: HelperRequest,
    milliseconds: number,
    renew: boolean,
    signal?: AbortSignal,
  ): Promise<{ readonly answer: HelperAnswer; readonly renewed: boolean }> {
    const got: { answer?: HelperAnswer; renewed: boolean } = { renewed: false };
    const look = (bytes: Uint8Array, fresh: boolean): boolean => {
      try {
        got.answer = decodeAnswer(bytes);
      } catch {
        return true;
      }
      const { answer } = got;
      this.#learn(request, answer);
      if (answer.kind !== 'failure') return false;
      // Many providers never notice that a token came back. Nobody's login is lost by starting anew.
      const lost = answer.code === 'gone' || answer.code === 'device';
      got.renewed = renew && lost && !fresh && !answer.loggedIn;
      // Half loaded, it would say something else the next time.
      return got.renewed || answer.code === 'unloadable';
    };
    await this.process.request(encodeRequest(request), milliseconds, look, signal);
    const { answer, renewed } = got;
    if (answer === undefined)
      throw new HelperProcessError('died', 'its helper process gave an answer that says nothing');
    return { answer, renewed };
  }

  /** A request without a PIN is made again, once, where another process may answer it. @throws KeyError */
  async #ask(request: HelperRequest, milliseconds: number, signal?: AbortSignal): Promise<HelperAnswer> {
    const withPin = request.kind !== 'tokens' && (request.pin?.length ?? 0) > 0;
    try {
      for (let again = !withPin; ; again = false) {
        try {
          const { answer, renewed } = await this.#once(request, milliseconds, again, signal);
          if (!renewed) return answer;
        } catch (error) {
          // It may have been killed by somebody else. A crash of its own repeats itself, once.
          const died = error instanceof HelperProcessError && error.code === 'died';
          if (!again || !died || request.kind !== 'sign') throw error;
        }
      }
    } catch (error) {
      if (error instanceof HelperProcessError) throw processError(this.path, error);
      throw error;
    }
  }

  #learn(request: HelperRequest, answer: HelperAnswer): void {
    const states = answer.kind === 'signature' ? [] : answer.tokens;
    const whole =
      answer.kind === 'keys' || answer.kind === 'tokens' || (answer.kind === 'failure' && answer.code === 'gone');
    if (whole) for (const token of this.#tokens.values()) token.present = false;
    for (const state of states) {
      const name = hex(state.identity);
      const old = this.#tokens.get(name);
      this.#tokens.set(name, { keys: 0, wrongPins: 0, ...old, state, present: true });
    }
    if (answer.kind === 'keys') {
      answer.tokens.forEach((state, index) => {
        const token = this.#tokens.get(hex(state.identity));
        if (token !== undefined) token.keys = answer.keys.filter((key) => key.token === index).length;
      });
    }
    const owner = request.kind === 'sign' ? this.#tokens.get(hex(request.token)) : undefined;
    if (owner !== undefined && answer.kind === 'signature') {
      const loggedIn = owner.state.loginRequired && answer.loggedIn;
      const healed = request.kind === 'sign' && request.pin !== undefined;
      owner.present = true;
      owner.state = { ...owner.state, loggedIn, ...(healed ? { triesLost: false, lastTry: false } : {}) };
      if (healed) owner.wrongPins = 0;
    }
    this.process.keep =
      answer.kind === 'signature' || answer.kind === 'failure'
        ? answer.loggedIn
        : answer.tokens.some(({ loggedIn }) => loggedIn);
  }

  status(): readonly TokenStatus[] {
    return [...this.#tokens.values()].map(({ state, present, keys }) => ({
      label: visible(state.label),
      slot: Number(state.slot),
      present,
      keys,
      loggedIn: present && state.loggedIn,
      pinLocked: state.locked,
      lastTry: state.lastTry,
    }));
  }

  async refresh(): Promise<void> {
    const answer = await this.#ask({ kind: 'tokens', path: this.path }, this.#limits.listMs);
    if (answer.kind === 'failure') throw failureError(this.path, answer);
  }

  async #question(
    token: TokenState,
    wrong: boolean,
    about: About,
    signal?: AbortSignal,
  ): Promise<Uint8Array | undefined> {
    const count = this.#tokens.get(hex(token.identity))?.wrongPins ?? 0;
    const { key, purpose } = about;
    const words = [
      wrong ? `Wrong PIN (${count} so far).` : '',
      token.lastTry ? 'This is the last try: one more wrong PIN locks the token.' : '',
      !token.lastTry && token.triesLost && !wrong ? 'A wrong PIN was given before.' : '',
      token.pinPad ? `Press return, then type the PIN of token ${named(token)} at its reader` : '',
      token.pinPad ? '' : `Enter PIN for token ${named(token)}`,
    ];
    const why = purpose === undefined ? '' : `${purpose}\n`;
    const which = key ? ` (key ${visible(key)})` : '';
    const prompt = `${why}${words.filter((word) => word !== '').join(' ')}${which}: `;
    const limit = new AbortController();
    const stop = (this.#ports.clock ?? systemClock).after(this.#limits.questionMs, () => limit.abort());
    try {
      return await this.#ports.askPin(prompt, signal ? AbortSignal.any([signal, limit.signal]) : limit.signal);
    } finally {
      stop();
    }
  }

  /** A PIN from a person, for `use`, wiped afterwards. @throws KeyError where there is none */
  async #withPin<T>(
    token: TokenState,
    wrong: boolean,
    about: About,
    signal: AbortSignal | undefined,
    use: (pin: Uint8Array) => Promise<T>,
  ): Promise<T> {
    // A person who types at the reader is asked there; only the last try is announced before.
    if (token.pinPad && !token.lastTry) return use(NONE);
    const pin = await this.#question(token, wrong, about, signal);
    try {
      if (pin === undefined || (pin.length === 0 && !token.pinPad))
        throw new KeyError('needs-passphrase', `token ${named(token)} wants its PIN, and nobody gave it`);
      if (pin.length > MAX_PIN_BYTES) throw new KeyError('wrong-passphrase', `PIN of more than ${MAX_PIN_BYTES} bytes`);
      return await use(token.pinPad ? NONE : pin);
    } finally {
      pin?.fill(0);
    }
  }

  #noteWrong(token: TokenState | undefined): void {
    const known = token && this.#tokens.get(hex(token.identity));
    if (known) known.wrongPins++;
    this.#ports.log('info', `wrong PIN for token ${named(token)}${token?.lastTry ? ': one try is left' : ''}`);
  }

  /** @throws KeyError */
  async list(pin: Uint8Array): Promise<readonly KeyPlace[]> {
    const ask = async (given: Uint8Array, lastTry: Uint8Array): Promise<Extract<HelperAnswer, { kind: 'keys' }>> => {
      const answer = await this.#ask({ kind: 'list', path: this.path, pin: given, lastTry }, this.#limits.listMs);
      if (answer.kind === 'failure') throw failureError(this.path, answer);
      if (answer.kind !== 'keys') throw new KeyError('internal', 'the helper process answered something else');
      for (const token of answer.tokens) if (token.pin === 'wrong') this.#noteWrong(token);
      return answer;
    };
    let answer = await ask(pin, NONE);
    const accepted = (): boolean => answer.tokens.some((token) => token.pin === 'accepted');
    const last = answer.tokens.find((token) => token.pin === 'last-try');
    if (!accepted() && last !== undefined)
      answer = await this.#withPin(last, false, {}, undefined, (fresh) => ask(fresh, last.identity));
    const { tokens, keys } = answer;
    const refused = tokens.find((token) => token.pin === 'wrong') ?? tokens.find((token) => token.pin !== 'unused');
    if (refused !== undefined && !accepted()) {
      const code = refused.pin === 'locked' ? 'pin-locked' : refused.pin === 'wrong' ? 'wrong-pin' : 'pin-needed';
      throw failureError(this.path, {
        kind: 'failure',
        code,
        text: 'one try is left',
        tokens: [refused],
        loggedIn: false,
      });
    }
    const found: KeyPlace[] = [];
    for (const { blob, label, token } of keys) {
      try {
        const publicKey = parsePublicKey(blob);
        const known = found.some((place) => hex(place.publicKey.blob) === hex(publicKey.blob));
        if (!known) found.push({ publicKey, label, token: tokens[token] as TokenState });
      } catch {
        this.#ports.log('info', `token ${named(tokens[token])}: a key that is no SSH key: left out`);
      }
    }
    if (found.length > 0) return found;
    if (tokens.length === 0) throw new KeyError('unsupported', `${visible(this.path)} sees no token`);
    const closed = tokens.find((token) => token.loginRequired && !token.loggedIn);
    if (closed) throw new KeyError('needs-passphrase', `token ${named(closed)} shows no keys without its PIN`);
    throw new KeyError('unsupported', `no token of ${visible(this.path)} has a key that can be used`);
  }

  async #signRequest(
    place: KeyPlace,
    input: SignInput,
    more: { pin?: Uint8Array; lastTry?: boolean },
    signal?: AbortSignal,
  ) {
    const request: HelperRequest = {
      kind: 'sign',
      path: this.path,
      token: place.token.identity,
      blob: place.publicKey.plainBlob,
      hash: input.hash,
      data: input.data,
      pin: more.pin,
      lastTry: more.lastTry ?? false,
    };
    const answer = await this.#ask(request, this.#limits.signMs, signal);
    if (answer.kind === 'signature' || answer.kind === 'failure') return answer;
    throw new KeyError('internal', 'the helper process answered something else');
  }

  /** What the token made of `input`. @throws KeyError */
  async sign(place: KeyPlace, input: SignInput, signal?: AbortSignal): Promise<Uint8Array> {
    let answer: SignAnswer = await this.#signRequest(place, input, {}, signal);
    if (answer.kind === 'failure' && answer.code === 'pin-needed')
      answer = await this.#signWithPin(place, input, signal);
    if (answer.kind === 'failure') throw failureError(this.path, answer);
    return answer.signature;
  }

  /** One question at a time for a token: the second in line may find the token logged in. @throws KeyError */
  async #signWithPin(place: KeyPlace, input: SignInput, signal?: AbortSignal): Promise<SignAnswer> {
    const waiting = MAX_PIN_QUESTIONS * this.#limits.questionMs;
    const turn = await this.#pinTurns.take(hex(place.token.identity), waiting, signal);
    if (typeof turn === 'string')
      throw new KeyError('needs-passphrase', `token ${named(place.token)} wants its PIN; others are asked already`);
    try {
      let answer: SignAnswer = await this.#signRequest(place, input, {}, signal);
      for (let asked = 0; asked < MAX_PIN_QUESTIONS; asked++) {
        if (answer.kind === 'signature' || !['pin-needed', 'wrong-pin'].includes(answer.code)) return answer;
        const [token = place.token] = answer.tokens;
        const wrong = answer.code === 'wrong-pin';
        const more = { lastTry: token.lastTry };
        const use = (pin: Uint8Array) => this.#signRequest(place, input, { pin, ...more }, signal);
        answer = await this.#withPin(token, wrong, { key: place.label, purpose: input.purpose }, signal, use);
        if (answer.kind === 'failure' && answer.code === 'wrong-pin') this.#noteWrong(answer.tokens[0]);
      }
      return answer;
    } finally {
      turn();
    }
  }
}
