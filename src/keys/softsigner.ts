/**
 * Signing with a key that lies in custody: libcrypto makes its own key from the slot, signs, and frees it, which wipes its
 * copies. A key in use stays made for KEEP_MADE_MS, since making an RSA key and its first signature are dear. Quick
 * types sign on this thread; RSA and the larger curves on libuv's.
 */
import { crewForNext, wipeCrew } from '../native/crew.ts';
import {
  freeKey,
  keyFromEd25519Seed,
  keyFromParameters,
  type Placed,
  type PrivateKeyPointer,
} from '../native/libcrypto.ts';
import {
  DIGEST_SIGN,
  digestSignAgain,
  digestSigning,
  freeDigestSigning,
  freeSigning,
  HASH_SIGN,
  hashAndSign,
  hashAndSignAway,
  MAX_PLACED_BYTES,
  placeData,
  placeHash,
  type SigningContext,
  signing,
} from '../native/signing.ts';
import { utf8 } from '../wire/bytes.ts';
import { Writer } from '../wire/writer.ts';
import { signatureAlgorithm } from './algorithms.ts';
import type { Slot } from './custody.ts';
import { KeyError } from './error.ts';
import { compositeMessage } from './mldsa.ts';
import { signMldsa44 } from './mldsasigner.ts';
import type { PublicKey } from './publickey.ts';
import type { Signer } from './signer.ts';

/** How long libcrypto's key outlives its last use, in milliseconds: between one and two of these. */
export const KEEP_MADE_MS = 400;

/** A curve whose signature takes less than this thread can spare. */
const QUICK_CURVE = 'nistp256';

const inUse = new Set<SoftSigner>();
let sweep: NodeJS.Timeout | undefined;

/** Frees every made key that was not used since the last sweep. */
function sweepMade(): void {
  for (const signer of inUse) {
    if (signer.recent) signer.recent = false;
    else signer.rest();
  }
  if (inUse.size === 0) {
    clearInterval(sweep);
    sweep = undefined;
  }
}

const reversed = (bytes: Uint8Array): Uint8Array => Uint8Array.from(bytes).reverse();

/** Where the private numbers of an RSA key lie in its slot, in order, all little-endian. */
export const RSA_PARTS = ['d', 'p', 'q', 'iqmp', 'dp', 'dq'] as const;
export type RsaLengths = Readonly<Record<(typeof RSA_PARTS)[number], number>>;

function part(slot: Slot, from: number, length: number): Placed {
  return { bytes: slot.bytes.subarray(from, from + length), address: slot.address + from };
}

/** The parts of an RSA key's slot by name. */
export function rsaParts(slot: Slot, lengths: RsaLengths): Readonly<Record<(typeof RSA_PARTS)[number], Placed>> {
  let at = 0;
  const placed = {} as Record<(typeof RSA_PARTS)[number], Placed>;
  for (const name of RSA_PARTS) {
    placed[name] = part(slot, at, lengths[name]);
    at += lengths[name];
  }
  return placed;
}

const RSA_PARAMETERS = {
  d: 'd',
  p: 'rsa-factor1',
  q: 'rsa-factor2',
  dp: 'rsa-exponent1',
  dq: 'rsa-exponent2',
  iqmp: 'rsa-coefficient1',
} as const;

/** Makes libcrypto's key from custody. @throws LibcryptoError, KeyError for a type that has none */
export function makeKey(publicKey: PublicKey, slot: Slot, lengths: RsaLengths | undefined): PrivateKeyPointer {
  const { algorithm, fields } = publicKey;
  switch (algorithm.family) {
    case 'ed25519':
      return keyFromEd25519Seed(slot.bytes);
    case 'mldsa44-ed25519':
      return keyFromEd25519Seed(slot.bytes.subarray(32));
    case 'ecdsa':
      return keyFromParameters('EC', [
        { name: 'group', kind: 'text', value: utf8(algorithm.curve?.openssl ?? '') },
        { name: 'pub', kind: 'octets', value: fields.q ?? new Uint8Array() },
        { name: 'priv', kind: 'number', placed: slot },
      ]);
    case 'rsa': {
      if (lengths === undefined) throw new KeyError('internal', 'RSA key without its parts');
      const parts = rsaParts(slot, lengths);
      return keyFromParameters('RSA', [
        { name: 'n', kind: 'number', value: reversed(fields.n ?? new Uint8Array()) },
        { name: 'e', kind: 'number', value: reversed(fields.e ?? new Uint8Array()) },
        ...RSA_PARTS.map((name) => ({ name: RSA_PARAMETERS[name], kind: 'number' as const, placed: parts[name] })),
      ]);
    }
    default:
      throw new KeyError('unsupported', `${algorithm.type} keys are not held here`);
  }
}

const ED25519_SIGNATURE_BYTES = 64;

/** ECDSA-Sig-Value (RFC 3279 section 2.2.3) as libcrypto writes it, to the two numbers of RFC 5656 section 3.1.2. */
function ecdsaNumbers(writer: Writer, der: Uint8Array): void {
  let at = (der[1] as number) & 0x80 ? 3 : 2;
  for (let i = 0; i < 2; i++) {
    const length = der[at + 1] as number;
    writer.mpint(der.subarray(at + 2, at + 2 + length));
    at += 2 + length;
  }
}

/** More than the lengths and sign bytes of a signature take. */
const OVERHEAD = 24;

function encodeSignature(name: string, raw: Uint8Array, ecdsa: boolean): Uint8Array {
  const writer = new Writer(raw.length + name.length + OVERHEAD).text(name);
  return (ecdsa ? writer.nested((inner) => ecdsaNumbers(inner, raw)) : writer.string(raw)).view();
}

/** What precedes the raw signature of `length` bytes in a blob by that name, and room for it. */
function signatureFrame(name: string, length: number): Uint8Array {
  return new Writer(name.length + length + 8).text(name).string(new Uint8Array(length)).view();
}

const ED25519_FRAME = signatureFrame('ssh-ed25519', ED25519_SIGNATURE_BYTES);

export class SoftSigner implements Signer {
  readonly publicKey: PublicKey;
  readonly #slot: Slot;
  readonly #rsa: RsaLengths | undefined;
  #made: PrivateKeyPointer | undefined;
  /** Of a made key that signs on this thread. */
  #context: SigningContext | undefined;
  /** The same for the crew's other thread. */
  #crewContext: SigningContext | undefined;
  /** Signatures under way on other threads: the made key must outlive them. */
  #busy = 0;
  #resting = false;
  #disposed = false;
  /** Used since the last sweep. */
  recent = false;

  constructor(publicKey: PublicKey, slot: Slot, rsa?: RsaLengths) {
    this.publicKey = publicKey;
    this.#slot = slot;
    this.#rsa = rsa;
  }

  #key(): PrivateKeyPointer {
    if (this.#disposed) throw new KeyError('internal', 'the key was removed');
    this.recent = true;
    // A sweep that met a busy key asked it to rest afterwards; it is wanted again.
    this.#resting = false;
    if (this.#made === undefined) {
      this.#made = makeKey(this.publicKey, this.#slot, this.#rsa);
      inUse.add(this);
      sweep ??= setInterval(sweepMade, KEEP_MADE_MS).unref();
    }
    return this.#made;
  }

  sign(data: Uint8Array, flags: number): Uint8Array | Promise<Uint8Array> {
    const { algorithm } = this.publicKey;
    const { name, hash } = signatureAlgorithm(algorithm, flags);
    const key = this.#key();
    if (algorithm.family === 'ed25519') {
      this.#context ??= digestSigning(key);
      const crew = data.length <= MAX_PLACED_BYTES ? crewForNext() : undefined;
      if (crew !== undefined) {
        this.#crewContext ??= digestSigning(key);
        const slot = placeData(data, ED25519_SIGNATURE_BYTES);
        const raw = crew.sign(DIGEST_SIGN, this.#context, this.#crewContext, slot, data.length);
        return this.#encoded(raw, name, false);
      }
      const blob = ED25519_FRAME.slice();
      digestSignAgain(this.#context, data, blob, blob.length - ED25519_SIGNATURE_BYTES, ED25519_SIGNATURE_BYTES);
      return blob;
    }
    if (algorithm.family === 'mldsa44-ed25519') {
      this.#context ??= digestSigning(key);
      const message = compositeMessage(data);
      const mldsa = signMldsa44(part(this.#slot, 0, 32), message);
      const raw = new Uint8Array(mldsa.length + ED25519_SIGNATURE_BYTES);
      raw.set(mldsa);
      digestSignAgain(this.#context, message, raw, mldsa.length, ED25519_SIGNATURE_BYTES);
      return encodeSignature(name, raw, false);
    }
    if (hash === undefined) throw new KeyError('unsupported', `${algorithm.type} keys don't sign here`);
    if (algorithm.family === 'ecdsa' && algorithm.curve?.name === QUICK_CURVE) {
      this.#context ??= signing(key, hash, false);
      const crew = crewForNext();
      if (crew === undefined) return encodeSignature(name, hashAndSign(this.#context, hash, data), true);
      this.#crewContext ??= signing(key, hash, false);
      const { slot, length } = placeHash(hash, data);
      return this.#encoded(crew.sign(HASH_SIGN, this.#context, this.#crewContext, slot, length), name, true);
    }
    const rsa = algorithm.family === 'rsa';
    return this.#encoded(hashAndSignAway(key, hash, data, rsa), name, !rsa);
  }

  /** A signature that another thread makes: the made key outlives it. */
  async #encoded(raw: Promise<Uint8Array>, name: string, ecdsa: boolean): Promise<Uint8Array> {
    this.#busy++;
    try {
      return encodeSignature(name, await raw, ecdsa);
    } finally {
      this.#busy--;
      this.recent = true;
      if (this.#resting) this.rest();
    }
  }

  #freeContexts(): void {
    const free = this.publicKey.algorithm.family === 'ecdsa' ? freeSigning : freeDigestSigning;
    if (this.#context !== undefined) free(this.#context);
    if (this.#crewContext !== undefined) free(this.#crewContext);
    this.#context = undefined;
    this.#crewContext = undefined;
  }

  rest(): void {
    const made = this.#made;
    if (made === undefined) return;
    this.#resting = this.#busy > 0;
    if (this.#resting) return;
    this.#made = undefined;
    inUse.delete(this);
    this.#freeContexts();
    freeKey(made);
    wipeCrew();
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.rest();
    this.#slot.free();
  }
}
