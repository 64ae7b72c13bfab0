/**
 * The keys that the agent holds, in the order in which they came. Found by their blob, certificate and plain key apart.
 * Whoever removes an entry from here has its key wiped. No clock and no I/O: the time is an argument.
 */
import { KeyError } from '../keys/error.ts';
import { equal } from '../wire/bytes.ts';
import type { Entry } from './entry.ts';

/** OpenSSH has no bound; its clients give up above 2048. */
export const MAX_KEYS = 16384;

/** FNV-1a over a blob: enough to find it among thousands, and no copy or string is made. */
function hashOf(blob: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < blob.length; i++) hash = Math.imul(hash ^ (blob[i] as number), 0x01000193);
  return hash;
}

export class Keyring {
  #entries: Entry[] = [];
  readonly #byHash = new Map<number, Entry[]>();
  #version = 0;
  /** The earliest expiry, or Infinity. */
  #nextExpiry = Number.POSITIVE_INFINITY;

  /** Grows with every change: what was made of the keys is good as long as it stays. */
  get version(): number {
    return this.#version;
  }

  get size(): number {
    return this.#entries.length;
  }

  /** When the next key expires, in milliseconds of the agent's clock; Infinity: none does. */
  get nextExpiry(): number {
    return this.#nextExpiry;
  }

  entries(): readonly Entry[] {
    return this.#entries;
  }

  find(blob: Uint8Array): Entry | undefined {
    const bucket = this.#byHash.get(hashOf(blob));
    if (bucket === undefined) return undefined;
    for (const entry of bucket) if (equal(entry.signer.publicKey.blob, blob)) return entry;
    return undefined;
  }

  /** Whether this very entry is still held. */
  has(entry: Entry): boolean {
    return this.find(entry.signer.publicKey.blob) === entry;
  }

  /**
   * Adds an entry, or puts it in the place of the one with the same blob, whose key is then wiped.
   * @throws KeyError 'full'
   */
  add(entry: Entry): void {
    this.#version++;
    const { blob } = entry.signer.publicKey;
    const old = this.find(blob);
    const hash = hashOf(blob);
    const bucket = this.#byHash.get(hash) ?? [];
    if (old === undefined) {
      if (this.#entries.length >= MAX_KEYS) throw new KeyError('full', `${MAX_KEYS} keys are held already`);
      this.#entries.push(entry);
      bucket.push(entry);
      this.#byHash.set(hash, bucket);
      if (entry.expiresAt !== undefined) this.#nextExpiry = Math.min(this.#nextExpiry, entry.expiresAt);
    } else {
      this.#entries[this.#entries.indexOf(old)] = entry;
      bucket[bucket.indexOf(old)] = entry;
      old.signer.dispose();
      this.#findNextExpiry();
    }
  }

  /** @returns whether it was held */
  remove(blob: Uint8Array): boolean {
    const entry = this.find(blob);
    if (entry === undefined) return false;
    this.#drop((one) => one === entry);
    return true;
  }

  removeAll(): void {
    this.#drop(() => true);
  }

  /** Removes the keys of a token library. @returns how many went */
  removeOf(provider: string): number {
    return this.#drop((entry) => entry.provider === provider);
  }

  /** Removes what has expired at `now`. @returns how many went */
  expire(now: number): number {
    if (now < this.#nextExpiry) return 0;
    return this.#drop(({ expiresAt }) => expiresAt !== undefined && expiresAt <= now);
  }

  #drop(goes: (entry: Entry) => boolean): number {
    this.#version++;
    const kept: Entry[] = [];
    const gone: Entry[] = [];
    for (const entry of this.#entries) (goes(entry) ? gone : kept).push(entry);
    this.#entries = kept;
    for (const entry of gone) {
      const hash = hashOf(entry.signer.publicKey.blob);
      const rest = (this.#byHash.get(hash) ?? []).filter((one) => one !== entry);
      if (rest.length === 0) this.#byHash.delete(hash);
      else this.#byHash.set(hash, rest);
      entry.signer.dispose();
    }
    this.#findNextExpiry();
    return gone.length;
  }

  #findNextExpiry(): void {
    let next = Number.POSITIVE_INFINITY;
    for (const { expiresAt } of this.#entries) if (expiresAt !== undefined && expiresAt < next) next = expiresAt;
    this.#nextExpiry = next;
  }
}
