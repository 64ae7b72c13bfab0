/** What is known of a provider's tokens from its helper's answers: which are there, what they can, how it is with PINs. */
import { blobType, parsePublicKey } from '../keys/publickey.ts';
import { hex } from '../wire/bytes.ts';
import { visible } from '../wire/visible.ts';
import type { HelperAnswer, HelperRequest, TokenState } from './pkcs11protocol.ts';
import type { TokenStatus } from './tokenstatus.ts';

interface KnownToken {
  state: TokenState;
  present: boolean;
  /** Types of its keys, one for each. */
  types: readonly string[];
  wrongPins: number;
}

/** The type that a key blob names, as far as it is one. */
function keyName(blob: Uint8Array): string {
  try {
    return blobType(parsePublicKey(blob));
  } catch {
    return 'unknown';
  }
}

export class KnownTokens {
  readonly #tokens = new Map<string, KnownToken>();

  /** @returns whether somebody is logged in */
  learn(request: HelperRequest, answer: HelperAnswer): boolean {
    const states = answer.kind === 'signature' ? [] : answer.tokens;
    const whole =
      answer.kind === 'keys' || answer.kind === 'tokens' || (answer.kind === 'failure' && answer.code === 'gone');
    if (whole) for (const token of this.#tokens.values()) token.present = false;
    for (const state of states) {
      const name = hex(state.identity);
      const old = this.#tokens.get(name);
      this.#tokens.set(name, { types: [], wrongPins: 0, ...old, state, present: true });
    }
    if (answer.kind === 'keys') {
      answer.tokens.forEach((state, index) => {
        const token = this.#of(state);
        if (token !== undefined)
          token.types = answer.keys.filter((key) => key.token === index).map(({ blob }) => keyName(blob));
      });
    }
    if (request.kind === 'sign' && answer.kind === 'signature') this.#learnSigned(request, answer.loggedIn);
    return answer.kind === 'signature' || answer.kind === 'failure'
      ? answer.loggedIn
      : answer.tokens.some(({ loggedIn }) => loggedIn);
  }

  #learnSigned({ token, pin }: Extract<HelperRequest, { kind: 'sign' }>, someoneLoggedIn: boolean): void {
    const owner = this.#tokens.get(hex(token));
    if (owner === undefined) return;
    const healed = pin !== undefined;
    const loggedIn = owner.state.loginRequired && someoneLoggedIn;
    owner.present = true;
    owner.state = { ...owner.state, loggedIn, ...(healed ? { triesLost: false, lastTry: false } : {}) };
    if (healed) owner.wrongPins = 0;
  }

  #of(token: TokenState): KnownToken | undefined {
    return this.#tokens.get(hex(token.identity));
  }

  /** The process that was logged in is gone. */
  loggedOut(): void {
    for (const token of this.#tokens.values()) token.state = { ...token.state, loggedIn: false };
  }

  noteWrong(token: TokenState): void {
    const known = this.#of(token);
    if (known !== undefined) known.wrongPins++;
  }

  /** Wrong ones since the last right one. */
  wrongPins(token: TokenState): number {
    return this.#of(token)?.wrongPins ?? 0;
  }

  status(): readonly TokenStatus[] {
    return [...this.#tokens.values()].map(({ state, present, types }) => ({
      label: visible(state.label),
      slot: Number(state.slot),
      present,
      keys: types.length,
      types: [...new Set(types)],
      wantsPin: state.loginRequired,
      pinPad: state.pinPad,
      loggedIn: present && state.loggedIn,
      pinLocked: state.locked,
      lastTry: state.lastTry,
    }));
  }
}
