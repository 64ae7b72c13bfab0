/**
 * Messages put together byte by byte, apart from our Writer: what the tests of the wire floor expect must not come from
 * the code under test. Built on Buffer.concat on purpose, slow and plain.
 */

export type Part = Uint8Array | string | number;

const plain = (bytes: Uint8Array): Uint8Array => new Uint8Array(bytes);

/** A number is one byte, a string its UTF-8 bytes, an array itself. */
export function raw(...parts: readonly Part[]): Uint8Array {
  return plain(
    Buffer.concat(
      parts.map((part) => (typeof part === 'number' ? Buffer.from([part]) : Buffer.from(part as Uint8Array))),
    ),
  );
}

export function u32(value: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return plain(bytes);
}

export function u64(value: bigint): Uint8Array {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return plain(bytes);
}

/** A string of RFC 4251: length, then the parts. */
export function str(...parts: readonly Part[]): Uint8Array {
  const content = raw(...parts);
  return raw(u32(content.length), content);
}

/** `length` bytes of `value`. */
export function fill(length: number, value = 0x61): Uint8Array {
  return new Uint8Array(length).fill(value);
}

/** 'a' as often as said. */
export function letters(length: number): string {
  return 'a'.repeat(length);
}

export function fromHex(hex: string): Uint8Array {
  return plain(Buffer.from(hex, 'hex'));
}

/** The field of a .pub line. */
export function fromPub(line: string): Uint8Array {
  return plain(Buffer.from(line.split(' ')[1] ?? '', 'base64'));
}
