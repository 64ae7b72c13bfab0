/**
 * Questions for the PINs of tokens: in which words, for how long, and that the answer is wiped. When one is asked, and
 * what is done with it, is pkcs11provider.ts.
 */
import { KeyError } from '../keys/error.ts';
import { visible } from '../wire/visible.ts';
import { named } from './pkcs11errors.ts';
import { MAX_PIN_BYTES, type TokenState } from './pkcs11protocol.ts';

export interface PinPorts {
  /** Asks a person; undefined where nobody answers. The answer is wiped here. */
  readonly askPin: (prompt: string, signal: AbortSignal) => Promise<Uint8Array | undefined>;
  /** Calls back once after `milliseconds`. @returns what cancels it */
  readonly after: (milliseconds: number, callback: () => void) => () => void;
  readonly questionMs: number;
}

export interface PinQuestion {
  readonly token: TokenState;
  /** The PIN before this question was wrong. */
  readonly wrong: boolean;
  readonly wrongPins: number;
  /** Label of the key that is to sign. */
  readonly key?: string;
  /** A line that tells a person what the signature is for. */
  readonly purpose?: string | undefined;
}

const NONE: Uint8Array = new Uint8Array();

function promptOf({ token, wrong, wrongPins, key, purpose }: PinQuestion): string {
  const words = [
    wrong ? `Wrong PIN (${wrongPins} so far).` : '',
    token.lastTry ? 'This is the last try: one more wrong PIN locks the token.' : '',
    !token.lastTry && token.triesLost && !wrong ? 'A wrong PIN was given before.' : '',
    token.pinPad ? `Press return, then type the PIN of token ${named(token)} at its reader` : '',
    token.pinPad ? '' : `Enter PIN for token ${named(token)}`,
  ];
  const why = purpose === undefined ? '' : `${purpose}\n`;
  const which = key ? ` (key ${visible(key)})` : '';
  return `${why}${words.filter((word) => word !== '').join(' ')}${which}: `;
}

async function ask(ports: PinPorts, prompt: string, signal?: AbortSignal): Promise<Uint8Array | undefined> {
  const over = new AbortController();
  const end = (): void => over.abort();
  const stop = ports.after(ports.questionMs, end);
  // AbortSignal.any would leave something at the signal, which is a connection's, for each question.
  signal?.addEventListener('abort', end, { once: true });
  if (signal?.aborted) end();
  try {
    return await ports.askPin(prompt, over.signal);
  } finally {
    stop();
    signal?.removeEventListener('abort', end);
  }
}

/** A PIN from a person, for `use`, wiped afterwards. @throws KeyError where there is none */
export async function withPin<T>(
  ports: PinPorts,
  question: PinQuestion,
  signal: AbortSignal | undefined,
  use: (pin: Uint8Array) => Promise<T>,
): Promise<T> {
  const { token } = question;
  // A person who types at the reader is asked there; only the last try is announced before.
  if (token.pinPad && !token.lastTry) return use(NONE);
  const pin = await ask(ports, promptOf(question), signal);
  try {
    if (pin === undefined || (pin.length === 0 && !token.pinPad))
      throw new KeyError('needs-passphrase', `token ${named(token)} wants its PIN, and nobody gave it`);
    if (pin.length > MAX_PIN_BYTES) throw new KeyError('wrong-passphrase', `PIN of more than ${MAX_PIN_BYTES} bytes`);
    return await use(token.pinPad ? NONE : pin);
  } finally {
    pin?.fill(0);
  }
}
