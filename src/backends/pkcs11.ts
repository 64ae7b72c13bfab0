/**
 * Keys on PKCS#11 tokens as signers of the agent. The provider itself runs in a helper process: it is foreign code, and
 * what it says is checked: keys are parsed like a stranger's, signatures are verified before they are handed on.
 */
import { signatureAlgorithm } from '../keys/algorithms.ts';
import { KeyError } from '../keys/error.ts';
import type { PublicKey } from '../keys/publickey.ts';
import { verifySignature } from '../keys/signature.ts';
import type { Signer } from '../keys/signer.ts';
import { copy } from '../wire/bytes.ts';
import { visible } from '../wire/visible.ts';
import { Writer } from '../wire/writer.ts';
import { MAX_PIN_BYTES } from './pkcs11protocol.ts';
import { type KeyPlace, type Pkcs11Ports, Provider } from './pkcs11provider.ts';
import type { TokenStatus } from './tokenstatus.ts';

export type { Pkcs11Limits, Pkcs11Ports } from './pkcs11provider.ts';
export type { TokenStatus } from './tokenstatus.ts';

/** A signer that always takes its time. An abort ends questions to a person, and the wait for the token. */
export interface TokenSigner extends Signer {
  sign(data: Uint8Array, flags: number, signal?: AbortSignal, purpose?: string): Promise<Uint8Array>;
}

export interface TokenKey {
  readonly signer: TokenSigner;
  /**
   * The key's label or its certificate's subject, else the provider's path: OpenSSH's comment. Behind it, in brackets, the
   * token's name, which OpenSSH doesn't tell: two tokens as a rule have keys of the same label.
   */
  readonly label: string;
  /** Label of its token. */
  readonly token: string;
}

export interface TokenProvider {
  readonly path: string;
  /** Process id of the helper, where one runs. */
  readonly pid: number | undefined;
  /** Tokens as last seen. */
  status(): readonly TokenStatus[];
  /** Looks again which tokens are there: may start the helper. @throws KeyError */
  refresh(): Promise<void>;
  /** Lets go. The helper ends with the last who held the provider; so does it when all of its signers are disposed of. */
  close(): void;
}

/** The signature as it stands in an SSH signature blob: RFC 4253 section 6.6, RFC 5656 section 3.1.2, RFC 8709. */
function signatureBlob(publicKey: PublicKey, name: string, raw: Uint8Array): Uint8Array {
  const writer = new Writer(raw.length + 64).text(name);
  if (publicKey.algorithm.family !== 'ecdsa') return writer.string(raw).finish();
  const half = raw.length / 2;
  return writer.nested((inner) => inner.mpint(raw.subarray(0, half)).mpint(raw.subarray(half))).finish();
}

class ProviderSigner implements TokenSigner {
  readonly publicKey: PublicKey;
  readonly #provider: Provider;
  readonly #place: KeyPlace;
  readonly #disposedOf: () => void;
  #disposed = false;

  constructor(provider: Provider, place: KeyPlace, disposedOf: () => void) {
    this.publicKey = place.publicKey;
    this.#provider = provider;
    this.#place = place;
    this.#disposedOf = disposedOf;
  }

  async sign(data: Uint8Array, flags: number, signal?: AbortSignal, purpose?: string): Promise<Uint8Array> {
    if (this.#disposed) throw new KeyError('internal', 'the key was removed');
    const own = copy(data);
    const { name, hash } = signatureAlgorithm(this.publicKey.algorithm, flags);
    const raw = await this.#provider.sign(this.#place, { hash, data: own, purpose }, signal);
    const signature =
      raw.length > 0 && raw.length % 2 === 0 ? signatureBlob(this.publicKey, name, raw) : new Uint8Array();
    if (!verifySignature(this.publicKey, own, signature))
      throw new KeyError('bad-signature', `PKCS#11 provider ${visible(this.#provider.path)}: its signature is wrong`);
    return signature;
  }

  rest(): void {
    // Nothing of the key is here.
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#disposedOf();
  }
}

function commentOf({ label, token }: KeyPlace, path: string): string {
  const key = label === '' ? path : label;
  return token.label === '' ? key : `${key} (${token.label})`;
}

/** Providers that are open, by who opened them: a provider that is added twice has one helper. */
const open = new WeakMap<Pkcs11Ports, Map<string, Provider>>();

/**
 * Loads a provider (by its canonical path, allowed by policy already) and lists the keys of its tokens. Opened again with
 * the same ports object it is the same provider, in the same helper.
 * @param pin stays the caller's. Empty: nobody logs in, and what needs a login asks later. Otherwise it is given to the
 * tokens that want one; with several, one that takes it is enough
 * @throws KeyError
 */
export async function openProvider(
  path: string,
  pin: Uint8Array,
  ports: Pkcs11Ports,
): Promise<{ provider: TokenProvider; keys: readonly TokenKey[] }> {
  if (pin.length > MAX_PIN_BYTES) throw new KeyError('wrong-passphrase', `PIN of more than ${MAX_PIN_BYTES} bytes`);
  const mine = open.get(ports) ?? new Map<string, Provider>();
  open.set(ports, mine);
  const shared = mine.get(path) ?? new Provider(path, ports);
  mine.set(path, shared);
  shared.users++;
  let closed = false;
  const provider: TokenProvider = {
    path,
    get pid() {
      return shared.process.pid;
    },
    status: () => shared.status(),
    refresh: () => shared.refresh(),
    close() {
      if (closed) return;
      closed = true;
      if (--shared.users > 0) return;
      mine.delete(path);
      void shared.process.close();
    },
  };
  try {
    const places = await shared.list(pin);
    let left = places.length;
    const disposedOf = (): void => {
      if (--left === 0) provider.close();
    };
    const keys = places.map((place) => ({
      signer: new ProviderSigner(shared, place, disposedOf),
      label: commentOf(place, path),
      token: place.token.label,
    }));
    return { provider, keys };
  } catch (error) {
    provider.close();
    throw error;
  }
}
