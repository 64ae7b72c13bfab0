/**
 * One PKCS#11 provider from the agent's side: what it is asked, what of it is known, and when a person is asked for a PIN.
 * A PIN goes to the helper process when it is needed and is wiped; the last try before a token locks is never made without
 * a person who was told. Which providers may be loaded, and for whom, is policy's (policy/providers.ts).
 */
import { type Clock, type LogLevel, systemClock } from '../agent/ports.ts';
import type { Hash } from '../keys/algorithms.ts';
import { KeyError } from '../keys/error.ts';
import { type PublicKey, parsePublicKey } from '../keys/publickey.ts';
import { equal, hex } from '../wire/bytes.ts';
import { visible } from '../wire/visible.ts';
import type { Environment } from './helper.ts';
import { type Failure, failureError, named, processError } from './pkcs11errors.ts';
import { KnownTokens } from './pkcs11known.ts';
import { type PinQuestion, withPin } from './pkcs11pin.ts';
import { HelperProcess, HelperProcessError } from './pkcs11process.ts';
import {
  decodeAnswer,
  encodeRequest,
  type HelperAnswer,
  type HelperRequest,
  type TokenState,
} from './pkcs11protocol.ts';
import type { TokenStatus } from './tokenstatus.ts';
import { Turns } from './turns.ts';

/** Times in milliseconds; each bounds one thing. */
export interface Pkcs11Limits {
  /** Loading a provider, and listing the keys of its tokens. */
  readonly listMs: number;
  /** Trying a PIN in a second process, where somebody is logged in. */
  readonly checkMs: number;
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
  checkMs: 10_000,
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

type KeysAnswer = Extract<HelperAnswer, { kind: 'keys' }>;

function decoded(bytes: Uint8Array): HelperAnswer | undefined {
  try {
    return decodeAnswer(bytes);
  } catch {
    return undefined;
  }
}

/** Shared by all who opened it. */
export class Provider {
  readonly path: string;
  readonly #ports: Pkcs11Ports;
  readonly #limits: Pkcs11Limits;
  readonly #after: (milliseconds: number, callback: () => void) => () => void;
  readonly process: HelperProcess;
  /** One PIN is checked at a time: two at once could be a token's last two tries. */
  readonly #checks = new Turns(MAX_WAITING_FOR_PIN);
  /** A second process waited in vain. */
  #servesOneProcess = false;
  readonly #pinTurns = new Turns(MAX_WAITING_FOR_PIN);
  readonly #tokens = new KnownTokens();
  #looking: Promise<void> | undefined;
  users = 0;

  constructor(path: string, ports: Pkcs11Ports) {
    this.path = path;
    this.#ports = ports;
    this.#limits = { ...PKCS11_LIMITS, ...ports.limits };
    const { after } = ports.clock ?? systemClock;
    this.#after = (milliseconds, callback) => after(milliseconds, callback);
    this.process = this.#newProcess(() => this.#tokens.loggedOut());
  }

  #newProcess(ended: () => void): HelperProcess {
    const { helper, env, log } = this.#ports;
    return new HelperProcess({
      command: helper,
      env,
      idleMs: this.#limits.idleMs,
      endMs: this.#limits.endMs,
      after: this.#after,
      ended: (how) => {
        ended();
        log('debug', `PKCS#11 provider ${visible(this.path)}: ${how}`);
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
      this.process.keep = this.#tokens.learn(request, answer);
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

  status(): readonly TokenStatus[] {
    return this.#tokens.status();
  }

  /** One look at a time: whoever asks meanwhile gets its outcome. @throws KeyError */
  refresh(): Promise<void> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined;
    });
    return this.#looking;
  }

  async #look(): Promise<void> {
    const answer = await this.#ask({ kind: 'tokens', path: this.path }, this.#limits.listMs);
    if (answer.kind === 'failure') throw failureError(this.path, answer);
  }

  #withPin<T>(
    token: TokenState,
    about: Omit<PinQuestion, 'token' | 'wrongPins'>,
    signal: AbortSignal | undefined,
    use: (pin: Uint8Array) => Promise<T>,
  ): Promise<T> {
    const ports = { askPin: this.#ports.askPin, after: this.#after, questionMs: this.#limits.questionMs };
    return withPin(ports, { ...about, token, wrongPins: this.#tokens.wrongPins(token) }, signal, use);
  }

  #noteWrong(token: TokenState | undefined): void {
    if (token) this.#tokens.noteWrong(token);
    this.#ports.log('info', `wrong PIN for token ${named(token)}${token?.lastTry ? ': one try is left' : ''}`);
  }

  /** @throws KeyError */
  async #listOnce(pin: Uint8Array, lastTry: Uint8Array): Promise<KeysAnswer> {
    const answer = await this.#ask({ kind: 'list', path: this.path, pin, lastTry }, this.#limits.listMs);
    if (answer.kind === 'failure') throw failureError(this.path, answer);
    if (answer.kind !== 'keys') throw new KeyError('internal', 'the helper process answered something else');
    return answer;
  }

  /**
   * What tokens make of a PIN where somebody is logged in, and so any is taken: a process of its own tries it, since to
   * log out for it would cost that login where the PIN is wrong.
   * @returns undefined where it could not be tried: some devices serve one process
   */
  async #check(pin: Uint8Array, lastTry: Uint8Array): Promise<readonly TokenState[] | undefined> {
    const { checkMs } = this.#limits;
    const not = (why: string): undefined => {
      this.#ports.log('info', `PKCS#11 provider ${visible(this.path)}: the PIN was not checked, ${why}`);
    };
    if (this.#servesOneProcess) return not('it serves one process');
    const turn = await this.#checks.take('', checkMs);
    if (typeof turn === 'string') return not('others are checked');
    const process = this.#newProcess(() => {});
    try {
      let answer: HelperAnswer | undefined;
      await process.request(encodeRequest({ kind: 'check', path: this.path, pin, lastTry }), checkMs, (bytes) => {
        answer = decoded(bytes);
        return false;
      });
      return answer?.kind === 'tokens' ? answer.tokens : not('a second process was refused');
    } catch (error) {
      if (!(error instanceof HelperProcessError)) throw error;
      this.#servesOneProcess ||= error.code === 'late';
      return not(`a second process got ${error.message}`);
    } finally {
      await process.close();
      turn();
    }
  }

  /** As #listOnce, and the PIN is checked where somebody is logged in as well. @throws KeyError */
  async #listWith(pin: Uint8Array, lastTry: Uint8Array): Promise<KeysAnswer> {
    let answer = await this.#listOnce(pin, lastTry);
    if (answer.tokens.every((token) => token.pin !== 'open')) return answer;
    const checked = await this.#check(pin, lastTry);
    if (checked === undefined) return answer;
    const isClosed = ({ identity }: TokenState): boolean =>
      answer.tokens.some((token) => equal(token.identity, identity) && token.loginRequired && !token.loggedIn);
    for (const token of checked)
      if (token.pin === 'accepted' && isClosed(token)) answer = await this.#listOnce(pin, token.identity);
    const outcome = ({ identity }: TokenState) => checked.find((one) => equal(one.identity, identity))?.pin ?? 'unused';
    return { ...answer, tokens: answer.tokens.map((token) => ({ ...token, pin: outcome(token) })) };
  }

  /** @throws KeyError */
  async list(pin: Uint8Array): Promise<readonly KeyPlace[]> {
    const ask = async (given: Uint8Array, lastTry: Uint8Array): Promise<KeysAnswer> => {
      const answer = await this.#listWith(given, lastTry);
      for (const token of answer.tokens) if (token.pin === 'wrong') this.#noteWrong(token);
      return answer;
    };
    let answer = await ask(pin, NONE);
    // Still 'open': no process of its own could check it, and its keys are held already.
    const accepted = (): boolean => answer.tokens.some((token) => token.pin === 'accepted' || token.pin === 'open');
    const last = answer.tokens.find((token) => token.pin === 'last-try');
    if (!accepted() && last !== undefined)
      answer = await this.#withPin(last, { wrong: false }, undefined, (fresh) => ask(fresh, last.identity));
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
        answer = await this.#withPin(token, { wrong, key: place.label, purpose: input.purpose }, signal, use);
        if (answer.kind === 'failure' && answer.code === 'wrong-pin') this.#noteWrong(answer.tokens[0]);
      }
      return answer;
    } finally {
      turn();
    }
  }
}
