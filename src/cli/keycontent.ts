/** Reads key files into memory of our own, where they can be wiped: Node's readFile leaves copies behind. */
import { readSync } from 'node:fs';
import { KeyError } from '../keys/error.ts';

/** OpenSSH reads up to 128 MiB; the largest key that we serve makes a file of some 20 KiB. */
export const MAX_KEY_FILE_BYTES = 1024 * 1024;

const FIRST_BYTES = 16 * 1024;
/** How long to wait for a standard input that somebody made non-blocking, in ms. */
const RETRY_MS = 20;

function readSome(fd: number, buffer: Uint8Array, at: number): number {
  for (;;) {
    try {
      return readSync(fd, buffer, at, buffer.length - at, null);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS);
    }
  }
}

/**
 * All that `fd` has, to its end. The caller wipes it.
 * @throws KeyError 'malformed' above MAX_KEY_FILE_BYTES; the system's error
 */
export function readKeyContent(fd: number): Uint8Array {
  let buffer = new Uint8Array(FIRST_BYTES);
  let length = 0;
  try {
    for (;;) {
      const count = readSome(fd, buffer, length);
      if (count === 0) return buffer.slice(0, length);
      length += count;
      if (length > MAX_KEY_FILE_BYTES)
        throw new KeyError('malformed', `a key file has ${MAX_KEY_FILE_BYTES} bytes at most`);
      if (length < buffer.length) continue;
      const grown = new Uint8Array(buffer.length * 2);
      grown.set(buffer);
      buffer.fill(0);
      buffer = grown;
    }
  } finally {
    buffer.fill(0);
  }
}
