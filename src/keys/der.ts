/**
 * A reader of DER (ITU-T X.690), as far as private key files need it: definite lengths, one-byte tags. Values come back
 * as views of the input.
 */
import { KeyError } from './error.ts';

export const DER = {
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  sequence: 0x30,
  context1: 0xa1,
} as const;

/** A file is at most 1 MiB: three bytes hold any length in it. */
const MAX_LENGTH_BYTES = 3;

export interface DerValue {
  readonly tag: number;
  readonly content: Uint8Array;
}

function short(): KeyError {
  return new KeyError('malformed', 'DER: a value ends before its length says');
}

/** The values that follow each other in `bytes`. @throws KeyError 'malformed' */
export function derValues(bytes: Uint8Array): readonly DerValue[] {
  const found: DerValue[] = [];
  for (let at = 0; at < bytes.length; ) {
    const tag = bytes[at++] as number;
    if ((tag & 0x1f) === 0x1f) throw new KeyError('malformed', 'DER: a tag of several bytes');
    const first = bytes[at++];
    if (first === undefined) throw short();
    let length = first;
    if (first & 0x80) {
      const count = first & 0x7f;
      if (count === 0 || count > MAX_LENGTH_BYTES) throw new KeyError('malformed', 'DER: a length that cannot be');
      length = 0;
      for (let i = 0; i < count; i++) {
        const byte = bytes[at++];
        if (byte === undefined) throw short();
        length = (length << 8) | byte;
      }
    }
    if (length > bytes.length - at) throw short();
    found.push({ tag, content: bytes.subarray(at, at + length) });
    at += length;
  }
  return found;
}

/** The content of `value`, which must have `tag`. @throws KeyError 'malformed' */
export function derContent(value: DerValue | undefined, tag: number): Uint8Array {
  if (value?.tag !== tag) throw new KeyError('malformed', 'DER: not the value that belongs here');
  return value.content;
}

/** The values inside the one sequence that `bytes` is. @throws KeyError 'malformed' */
export function derSequence(bytes: Uint8Array): readonly DerValue[] {
  const [outer, ...more] = derValues(bytes);
  if (more.length > 0) throw new KeyError('malformed', 'DER: bytes after the end');
  return derValues(derContent(outer, DER.sequence));
}
