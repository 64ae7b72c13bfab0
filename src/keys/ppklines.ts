/**
 * The lines of PuTTY's private key files, versions 2 and 3 (PuTTY manual, appendix C), in the one order that they may
 * have. What they hold is ppkfile.ts's to open.
 */
import { visible } from '../wire/visible.ts';
import type { Argon2Parameters, Argon2Variant } from './argon2.ts';
import { decodeBase64, type Line, latin1, lines, startsWith } from './armour.ts';
import { KeyError } from './error.ts';

export const PPK_BEGIN = 'PuTTY-User-Key-File-';
export const PPK = 'PuTTY private key';
/** Longest value of a line that is neither comment nor base64. */
const MAX_VALUE_BYTES = 2048;
/** HMAC-SHA-1 and HMAC-SHA-256. */
const MAC_BYTES = { 2: 20, 3: 32 } as const;

export interface PpkFile {
  readonly version: 2 | 3;
  readonly type: Uint8Array;
  readonly encrypted: boolean;
  /** In a character set that nothing tells; the MAC is over its bytes. */
  readonly comment: Uint8Array;
  readonly publicBlob: Uint8Array;
  /** Version 3, encrypted. */
  readonly derivation: Argon2Parameters | undefined;
  /** The caller wipes it: without encryption it is the key. */
  readonly privateBlob: Uint8Array;
  readonly mac: Uint8Array;
}

export function malformed(detail: string): KeyError {
  return new KeyError('malformed', `${PPK}: ${detail}`);
}

/** The lines of the file in the one order that they may have. */
class PpkLines {
  readonly #content: Uint8Array;
  readonly #lines: Generator<Line, undefined>;

  constructor(content: Uint8Array) {
    this.#content = content;
    this.#lines = lines(content);
  }

  #next(name: string): Line {
    const { value } = this.#lines.next();
    if (value === undefined) throw malformed(`the file ends before its ${name}`);
    return value;
  }

  bytes(name: string): Uint8Array {
    const line = this.#next(name).bytes;
    if (!startsWith(line, `${name}: `)) throw malformed(`${name} is not where it belongs`);
    return line.subarray(name.length + 2);
  }

  text(name: string): string {
    const value = this.bytes(name);
    if (value.length > MAX_VALUE_BYTES) throw malformed(`${name} is too long`);
    return latin1(value);
  }

  number(name: string): number {
    const digits = this.text(name);
    if (!/^[0-9]{1,9}$/.test(digits)) throw malformed(`${name} is no number`);
    return Number(digits);
  }

  hex(name: string): Uint8Array {
    const digits = this.text(name);
    if (!/^(?:[0-9a-fA-F]{2})*$/.test(digits)) throw malformed(`${name} is not hexadecimal`);
    return Uint8Array.from({ length: digits.length / 2 }, (_, i) =>
      Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16),
    );
  }

  /** A number of lines, and that many lines of base64. */
  block(name: string): Uint8Array {
    const count = this.number(name);
    let start: number | undefined;
    let end = 0;
    for (let i = 0; i < count; i++) {
      const line = this.#next(name);
      start ??= line.start;
      end = line.next;
    }
    return decodeBase64(this.#content.subarray(start ?? 0, end), PPK);
  }
}

const argon2Variants: Readonly<Record<string, Argon2Variant>> = {
  Argon2d: 'argon2d',
  Argon2i: 'argon2i',
  Argon2id: 'argon2id',
};

function readDerivation(file: PpkLines): Argon2Parameters {
  const name = file.text('Key-Derivation');
  const variant = argon2Variants[name];
  if (variant === undefined)
    throw new KeyError('unsupported', `${PPK}: key derivation "${visible(name, 80)}" is not served`);
  return {
    variant,
    memory: file.number('Argon2-Memory'),
    passes: file.number('Argon2-Passes'),
    parallelism: file.number('Argon2-Parallelism'),
    salt: file.hex('Argon2-Salt'),
  };
}

function versionOf(content: Uint8Array): 2 | 3 {
  const digit = content[PPK_BEGIN.length];
  const known = startsWith(content, `${PPK_BEGIN}2: `) ? 2 : startsWith(content, `${PPK_BEGIN}3: `) ? 3 : undefined;
  if (known !== undefined) return known;
  const version = digit === undefined ? '' : visible(String.fromCharCode(digit));
  throw new KeyError('unsupported', `${PPK}: version "${version}" of the format is not served, only 2 and 3`);
}

/** @throws KeyError 'malformed', 'unsupported' */
export function readPpkLines(content: Uint8Array): PpkFile {
  const version = versionOf(content);
  const file = new PpkLines(content);
  const type = file.bytes(`${PPK_BEGIN}${version}`);
  const encryption = file.text('Encryption');
  if (encryption !== 'none' && encryption !== 'aes256-cbc')
    throw new KeyError('unsupported', `${PPK}: encrypted with "${visible(encryption, 80)}", which is not served`);
  const encrypted = encryption !== 'none';
  const comment = file.bytes('Comment');
  const publicBlob = file.block('Public-Lines');
  const derivation = encrypted && version === 3 ? readDerivation(file) : undefined;
  const privateBlob = file.block('Private-Lines');
  try {
    const mac = file.hex('Private-MAC');
    if (mac.length !== MAC_BYTES[version]) throw malformed('Private-MAC has not the right length');
    return { version, type, encrypted, comment, publicBlob, derivation, privateBlob, mac };
  } catch (error) {
    privateBlob.fill(0);
    throw error;
  }
}
