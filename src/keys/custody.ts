/**
 * Custody: the only place where private bytes rest. Slots in pages that no other process can read (native/libc), wiped
 * when they are freed, and encrypted in place while the agent is locked under a key that is derived from the pass phrase
 * (scrypt) and not kept. What this does not cover: libcrypto's own copies while a key is in use (softsigner).
 */
import { randomFillSync } from 'node:crypto';
import { mapPages, type PageKind, type Pages, unmapPages } from '../native/libc.ts';
import type { Placed } from '../native/libcrypto.ts';
import { aes256gcm, GCM_TAG_BYTES, scrypt } from '../native/seal.ts';
import { Arena, type Run } from './arena.ts';
import { KeyError } from './error.ts';

/** Pages are mapped this many bytes at a time; a slot is never larger. The longest message fits. */
export const CUSTODY_CHUNK_BYTES = 512 * 1024;
/** Above this, keys are refused. The limit of locked memory (ulimit -l, often 8 MiB) may end it earlier. */
export const MAX_CUSTODY_BYTES = 64 * 1024 * 1024;
/** 32 MiB and about a tenth of a second a guess. */
export const LOCK_COST: { readonly n: number; readonly r: number; readonly p: number } = { n: 32768, r: 8, p: 1 };

const SLOT_ALIGNMENT = 32;
const SALT_BYTES = 16;
const SEAL_KEY_BYTES = 32;
const NONCE_BYTES = 12;

/** A run of bytes in custody. */
export interface Slot extends Placed {
  /** Wipes the bytes and gives them back. The slot may not be used again. */
  free(): void;
}

/** With room for the tag of a sealed slot behind the bytes. */
function keptSize(length: number): number {
  return Math.ceil((length + GCM_TAG_BYTES) / SLOT_ALIGNMENT) * SLOT_ALIGNMENT;
}

/** A power of two: freed runs are not joined, so frames of ever other lengths would use up custody while one is half-sent. */
function passingSize(length: number): number {
  let size = SLOT_ALIGNMENT;
  while (size < length) size *= 2;
  return size;
}

/** What `latchkey status` tells of custody. */
export interface CustodyStatus {
  readonly pages: PageKind;
  readonly mappedBytes: number;
  readonly usedBytes: number;
  readonly sealed: boolean;
}

export interface CustodyOptions {
  /**
   * Which kinds of pages will do; the best that can be had is taken, and kept to. Default: all, since an agent that does not
   * start sends its user back to one that guards nothing; `latchkey status` says which it is.
   */
  readonly accept?: readonly PageKind[];
  readonly lockCost?: { readonly n: number; readonly r: number; readonly p: number };
}

/** What an agent maps when it starts: a chunk for keys, one for what passes, and less than one to read into. */
const START_CHUNKS = 3;

/**
 * The best kind of which there is enough to start with, since all is of one kind: that of the first chunk alone would
 * leave none for the next under a limit in between.
 * @throws KeyError 'full'
 */
function bestKind(accept: readonly PageKind[]): PageKind {
  for (const kind of accept) {
    const probes: Pages[] = [];
    for (let i = 0; i < START_CHUNKS; i++) {
      const pages = mapPages(CUSTODY_CHUNK_BYTES, [kind]);
      if (pages !== undefined) probes.push(pages);
    }
    for (const pages of probes) unmapPages(pages);
    if (probes.length === START_CHUNKS) return kind;
  }
  throw new KeyError('full', 'no locked memory for keys: raise its limit (ulimit -l)');
}

class OwnedSlot implements Slot {
  readonly bytes: Uint8Array;
  readonly run: Run;
  readonly #release: (slot: OwnedSlot) => void;
  #live = true;

  constructor(length: number, run: Run, release: (slot: OwnedSlot) => void) {
    this.bytes = run.pages.bytes.subarray(run.at, run.at + length);
    this.run = run;
    this.#release = release;
  }

  get address(): number {
    return this.run.pages.address + this.run.at;
  }

  free(): void {
    if (!this.#live) return;
    this.#live = false;
    this.#release(this);
  }
}

export class Custody {
  readonly #lockCost: { readonly n: number; readonly r: number; readonly p: number };
  /** Apart, since what passes is soon gone again and its pages with it, and so that keys never take its last room. */
  readonly #keyPages: Arena;
  readonly #passingPages: Arena;
  /** Slots that hold key material, in the order in which they are sealed. */
  readonly #kept = new Set<OwnedSlot>();
  #mapped = 0;
  #used = 0;
  #seal: { salt: Uint8Array; verifier: Uint8Array; state: 'sealing' | 'sealed' } | undefined;
  readonly #kind: PageKind;

  constructor(options: CustodyOptions = {}) {
    this.#lockCost = options.lockCost ?? LOCK_COST;
    const gone = (pages: Pages): void => {
      this.#mapped -= pages.bytes.length;
    };
    this.#kind = bestKind(options.accept ?? ['memfd_secret', 'locked', 'plain']);
    this.#keyPages = new Arena(() => this.#map(), gone);
    this.#passingPages = new Arena(() => this.#map(), gone);
  }

  get sealed(): boolean {
    return this.#seal !== undefined;
  }

  status(): CustodyStatus {
    return { pages: this.#kind, mappedBytes: this.#mapped, usedBytes: this.#used, sealed: this.sealed };
  }

  #map(): Pages {
    const fits = this.#mapped + CUSTODY_CHUNK_BYTES <= MAX_CUSTODY_BYTES;
    const pages = fits ? mapPages(CUSTODY_CHUNK_BYTES, [this.#kind]) : undefined;
    if (pages === undefined)
      throw new KeyError('full', 'no more locked memory for keys: remove some, or raise its limit (ulimit -l)');
    this.#mapped += pages.bytes.length;
    return pages;
  }

  #allocate(length: number, kept: boolean): Slot {
    const size = kept ? keptSize(length) : passingSize(length);
    if (size > CUSTODY_CHUNK_BYTES) throw new KeyError('out-of-bounds', `${length} bytes do not fit into custody`);
    const run = (kept ? this.#keyPages : this.#passingPages).take(size);
    this.#used += size;
    const slot = new OwnedSlot(length, run, kept ? this.#releaseKept : this.#releasePassing);
    if (kept) this.#kept.add(slot);
    return slot;
  }

  readonly #releaseKept = (slot: OwnedSlot): void => {
    this.#kept.delete(slot);
    this.#nonces.delete(slot);
    this.#used -= slot.run.size;
    this.#keyPages.give(slot.run);
  };

  readonly #releasePassing = ({ run }: OwnedSlot): void => {
    this.#used -= run.size;
    this.#passingPages.give(run);
  };

  /**
   * A slot for key material, zeroed, which a lock encrypts.
   * @throws KeyError 'full', 'sealed' or 'out-of-bounds'
   */
  allocate(length: number): Slot {
    if (this.#seal !== undefined) throw new KeyError('sealed', 'the agent is locked');
    return this.#allocate(length, true);
  }

  /** A slot for bytes on their way (frames, pass phrases): zeroed, never sealed. @throws KeyError 'full', 'out-of-bounds' */
  passing(length: number): Slot {
    return this.#allocate(length, false);
  }

  /** Pages of their own for a buffer that lives as long as the agent: what comes in is read into it. @throws KeyError 'full' */
  buffer(length: number): Uint8Array {
    const pages = mapPages(length, [this.#kind]);
    if (pages === undefined) throw new KeyError('full', 'no locked memory to read into');
    return pages.bytes;
  }

  #sealedBytes(slot: OwnedSlot): { data: Uint8Array; tag: Uint8Array } {
    const { buffer, byteOffset, length } = slot.bytes;
    return { data: slot.bytes, tag: new Uint8Array(buffer, byteOffset + length, GCM_TAG_BYTES) };
  }

  async #derive(passphrase: Uint8Array, salt: Uint8Array): Promise<Slot> {
    const key = this.passing(SEAL_KEY_BYTES);
    const inputs: Slot[] = [];
    const input = (bytes: Uint8Array): Placed => {
      const slot = this.passing(bytes.length);
      inputs.push(slot);
      slot.bytes.set(bytes);
      return slot;
    };
    try {
      await scrypt(input(passphrase), input(salt), this.#lockCost, key);
      return key;
    } catch (error) {
      key.free();
      throw error;
    } finally {
      for (const slot of inputs) slot.free();
    }
  }

  /** Nonces count up from 1 under a key that is used for one seal alone; 0 is the verifier's. */
  #nonce(count: number): Uint8Array {
    const nonce = new Uint8Array(NONCE_BYTES);
    new DataView(nonce.buffer).setUint32(NONCE_BYTES - 4, count);
    return nonce;
  }

  /** Where each sealed slot's nonce is remembered, since slots may be freed while they are sealed. */
  readonly #nonces = new Map<OwnedSlot, number>();

  /**
   * Encrypts all slots under `passphrase` (copied; at least one byte). From the call on nothing can be allocated; the
   * slots are ciphertext when the promise settles, until when they must not be used.
   * @throws KeyError 'sealed' where it is sealed already
   */
  async seal(passphrase: Uint8Array): Promise<void> {
    if (this.#seal !== undefined) throw new KeyError('sealed', 'the agent is locked already');
    const salt = randomFillSync(new Uint8Array(SALT_BYTES));
    const seal = { salt, verifier: new Uint8Array(SEAL_KEY_BYTES + GCM_TAG_BYTES), state: 'sealing' as const };
    this.#seal = seal;
    let key: Slot;
    try {
      key = await this.#derive(passphrase, salt);
    } catch (error) {
      this.#seal = undefined;
      throw error;
    }
    try {
      let count = 0;
      const { verifier } = seal;
      aes256gcm(
        true,
        key.bytes,
        this.#nonce(count),
        verifier.subarray(0, SEAL_KEY_BYTES),
        verifier.subarray(SEAL_KEY_BYTES),
      );
      for (const slot of this.#kept) {
        const { data, tag } = this.#sealedBytes(slot);
        aes256gcm(true, key.bytes, this.#nonce(++count), data, tag);
        this.#nonces.set(slot, count);
      }
      this.#seal = { ...seal, state: 'sealed' };
    } finally {
      key.free();
    }
  }

  /**
   * Decrypts all slots.
   * @returns false for a wrong pass phrase, and where nothing is sealed
   */
  async unseal(passphrase: Uint8Array): Promise<boolean> {
    const seal = this.#seal;
    if (seal?.state !== 'sealed') return false;
    const key = await this.#derive(passphrase, seal.salt);
    try {
      // Another unseal may have come first while this one was deriving.
      if (this.#seal !== seal) return false;
      const probe = seal.verifier.slice(0, SEAL_KEY_BYTES);
      if (!aes256gcm(false, key.bytes, this.#nonce(0), probe, seal.verifier.slice(SEAL_KEY_BYTES))) return false;
      for (const [slot, count] of this.#nonces) {
        const { data, tag } = this.#sealedBytes(slot);
        if (!aes256gcm(false, key.bytes, this.#nonce(count), data, tag))
          throw new KeyError('internal', 'a sealed key does not open under the right pass phrase');
        tag.fill(0);
      }
      this.#nonces.clear();
      this.#seal = undefined;
      return true;
    } finally {
      key.free();
    }
  }
}
