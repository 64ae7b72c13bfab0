/**
 * The opposite of Reader: a growing buffer with the same verbs, each returning the writer. When it grows it wipes the
 * buffer that it leaves, and `wipe` clears the last one, so it may carry secrets outside of the agent (ssh-add's requests).
 */
import { utf8 } from './bytes.ts';
import { WireError } from './error.ts';

/** A number that does not fit would become another one on the wire: a lifetime of 2^32 + 60 s would be a minute. */
function demandFit(value: number, max: number, field: string): void {
  if (!Number.isInteger(value) || value < 0 || value > max) throw new WireError('bad-value', field);
}

export class Writer {
  #bytes: Uint8Array;
  #length = 0;

  constructor(capacity = 256) {
    this.#bytes = new Uint8Array(capacity);
  }

  get length(): number {
    return this.#length;
  }

  #reserve(more: number): number {
    const at = this.#length;
    const needed = at + more;
    if (needed > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(needed, this.#bytes.length * 2));
      grown.set(this.#bytes.subarray(0, at));
      this.#bytes.fill(0);
      this.#bytes = grown;
    }
    this.#length = needed;
    return at;
  }

  /** @throws WireError for what is no u8; u32 and u64 likewise */
  u8(value: number): this {
    demandFit(value, 0xff, 'u8');
    const at = this.#reserve(1);
    this.#bytes[at] = value;
    return this;
  }

  u32(value: number): this {
    demandFit(value, 0xffffffff, 'u32');
    const at = this.#reserve(4);
    this.#bytes[at] = value >>> 24;
    this.#bytes[at + 1] = value >>> 16;
    this.#bytes[at + 2] = value >>> 8;
    this.#bytes[at + 3] = value;
    return this;
  }

  u64(value: bigint): this {
    if (BigInt.asUintN(64, value) !== value) throw new WireError('bad-value', 'u64');
    return this.u32(Number(value >> 32n)).u32(Number(value & 0xffffffffn));
  }

  bool(value: boolean): this {
    return this.u8(value ? 1 : 0);
  }

  /** Bytes with no length in front of them. */
  bytes(value: Uint8Array): this {
    const at = this.#reserve(value.length);
    this.#bytes.set(value, at);
    return this;
  }

  string(value: Uint8Array): this {
    return this.u32(value.length).bytes(value);
  }

  text(value: string): this {
    return this.string(utf8(value));
  }

  /** A number that is not negative, from its big-endian magnitude. */
  mpint(magnitude: Uint8Array): this {
    let zeros = 0;
    while (zeros < magnitude.length && magnitude[zeros] === 0) zeros++;
    const number = magnitude.subarray(zeros);
    if (number.length > 0 && (number[0] as number) & 0x80) {
      return this.u32(number.length + 1)
        .u8(0)
        .bytes(number);
    }
    return this.string(number);
  }

  /** A string whose content `write` writes: its length is filled in afterwards. */
  nested(write: (writer: Writer) => void): this {
    const at = this.#reserve(4);
    const start = this.#length;
    write(this);
    const length = this.#length - start;
    this.#bytes[at] = length >>> 24;
    this.#bytes[at + 1] = length >>> 16;
    this.#bytes[at + 2] = length >>> 8;
    this.#bytes[at + 3] = length;
    return this;
  }

  /** What was written, as a view: valid until the next write, and not to be written again. */
  view(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  /** A copy of what was written. */
  finish(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }

  /** Clears what was written and starts anew. */
  wipe(): void {
    this.#bytes.fill(0);
    this.#length = 0;
  }
}
