/**
 * Cursor over the data types of RFC 4251 section 5. All of the decoding in the project goes through it, so a bound is
 * checked in one place. Byte strings come back as views of the input: whoever keeps one copies it.
 */
import { WireError } from './error.ts';

/** OpenSSH's bound for one number: 16384 bits and a sign byte. */
export const MAX_MPINT_BYTES = 16384 / 8 + 1;

const strictText = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const lenientText = new TextDecoder('utf-8', { ignoreBOM: true });

export class Reader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** Bytes not read yet. */
  get remaining(): number {
    return this.#bytes.length - this.#at;
  }

  #take(length: number, field: string): Uint8Array {
    if (length > this.remaining) throw new WireError('short', field);
    const view = this.#bytes.subarray(this.#at, this.#at + length);
    this.#at += length;
    return view;
  }

  u8(field: string): number {
    const value = this.#bytes[this.#at];
    if (value === undefined) throw new WireError('short', field);
    this.#at++;
    return value;
  }

  u32(field: string): number {
    if (this.remaining < 4) throw new WireError('short', field);
    const b = this.#bytes;
    const at = this.#at;
    this.#at += 4;
    return (
      (((b[at] as number) << 24) |
        ((b[at + 1] as number) << 16) |
        ((b[at + 2] as number) << 8) |
        (b[at + 3] as number)) >>>
      0
    );
  }

  u64(field: string): bigint {
    return (BigInt(this.u32(field)) << 32n) | BigInt(this.u32(field));
  }

  /** Any byte but 0 is true, as RFC 4251 has it. */
  bool(field: string): boolean {
    return this.u8(field) !== 0;
  }

  /** `length` bytes that have no length in front of them. */
  bytes(length: number, field: string): Uint8Array {
    return this.#take(length, field);
  }

  /** A byte string, as a view. `max` is a named bound in bytes. */
  string(field: string, max: number = Number.POSITIVE_INFINITY): Uint8Array {
    const length = this.u32(field);
    if (length > max) throw new WireError('too-long', field, `${length} bytes, at most ${max}`);
    return this.#take(length, field);
  }

  /** As OpenSSH's sshbuf_get_cstring: one NUL at the very end is tolerated and dropped, one anywhere else an error. */
  #cstring(field: string, max: number): Uint8Array {
    let bytes = this.string(field, max);
    if (bytes.at(-1) === 0) bytes = bytes.subarray(0, -1);
    if (bytes.includes(0)) throw new WireError('bad-text', field, 'NUL');
    return bytes;
  }

  /** A string that C programs take for text and people read. What is not UTF-8 is shown as U+FFFD. */
  text(field: string, max: number = Number.POSITIVE_INFINITY): string {
    return lenientText.decode(this.#cstring(field, max));
  }

  /**
   * As `text`, for what is compared or opened and not only shown: bytes that are not UTF-8 are an error, since with
   * U+FFFD in their place two different names would become one.
   */
  exactText(field: string, max: number = Number.POSITIVE_INFINITY): string {
    const bytes = this.#cstring(field, max);
    try {
      return strictText.decode(bytes);
    } catch {
      throw new WireError('bad-text', field, 'not UTF-8');
    }
  }

  /**
   * The magnitude of a number that may not be negative: a big-endian view without leading zeros. Leading zeros are
   * accepted, as OpenSSH does.
   */
  mpint(field: string): Uint8Array {
    const bytes = this.string(field, MAX_MPINT_BYTES);
    if (bytes.length > 0 && (bytes[0] as number) & 0x80) throw new WireError('bad-value', field, 'negative');
    let zeros = 0;
    while (zeros < bytes.length && bytes[zeros] === 0) zeros++;
    if (bytes.length - zeros === MAX_MPINT_BYTES) throw new WireError('too-long', field, 'more than 16384 bits');
    return bytes.subarray(zeros);
  }

  /** A reader over a nested string. */
  child(field: string, max?: number): Reader {
    return new Reader(this.string(field, max));
  }

  /** All that is left, as a view. */
  rest(): Uint8Array {
    return this.#take(this.remaining, 'rest');
  }

  /** What the bytes of the whole input are, up to here. */
  consumed(): Uint8Array {
    return this.#bytes.subarray(0, this.#at);
  }

  /** Demands that nothing is left. */
  end(field: string): void {
    if (this.remaining > 0) throw new WireError('trailing', field, `${this.remaining} bytes`);
  }
}
