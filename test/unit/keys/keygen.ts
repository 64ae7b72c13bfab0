/** What the tests of public keys share: keys made by ssh-keygen, and bytes put together without our writer. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { KeyError } from '../../../src/keys/error.ts';

/** A temporary folder that goes when the file's tests are over. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'latchkey-keys-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Runs ssh-keygen, which tells times in UTC, and gives what it writes. */
export function keygen(...args: string[]): string {
  return execFileSync('ssh-keygen', args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, TZ: 'UTC' },
  });
}

/** Makes a key pair without a pass phrase, and tells the path of its private half. */
export function makeKey(folder: string, name: string, ...type: string[]): string {
  const path = join(folder, name);
  keygen('-q', '-N', '', '-C', `comment of ${name}`, '-f', path, ...type);
  return path;
}

export const publicLine = (path: string): string => readFileSync(`${path}.pub`, 'utf8');

/** The blob in a .pub line, by Node's own base64. */
export const blobOf = (line: string): Uint8Array =>
  Uint8Array.from(Buffer.from(line.trim().split(' ')[1] ?? '', 'base64'));

export const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};

export const u64 = (value: bigint): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return bytes;
};

/** An SSH string of the parts, one after the other. */
export const string = (...parts: readonly (string | Uint8Array)[]): Buffer => {
  const content = Buffer.concat(parts.map((part) => Buffer.from(part as Uint8Array)));
  return Buffer.concat([u32(content.length), content]);
};

export const join8 = (...parts: readonly Uint8Array[]): Uint8Array => Uint8Array.from(Buffer.concat(parts));

/** An SSH mpint of big-endian bytes: one zero in front where the top bit is set, none else. */
export const mpint = (number: Uint8Array): Buffer => {
  const shortest = Buffer.from(
    Buffer.from(number)
      .toString('hex')
      .replace(/^(00)+/, ''),
    'hex',
  );
  return (shortest[0] ?? 0) >= 0x80 ? string(Buffer.from([0]), shortest) : string(shortest);
};

/** The strings in `bytes`, as views, until they end. */
export function strings(bytes: Uint8Array): Uint8Array[] {
  const found: Uint8Array[] = [];
  const buffer = Buffer.from(bytes);
  for (let at = 0; at + 4 <= buffer.length; ) {
    const length = buffer.readUInt32BE(at);
    found.push(buffer.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return found;
}

/** The code of the KeyError that `run` throws; anything else thrown goes on, and no error is told as such. */
export function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof KeyError) return error.code;
    throw error;
  }
  return 'no error';
}

/** `bytes` with the lowest bit of the byte at `index` turned. */
export function flipped(bytes: Uint8Array, index: number): Uint8Array {
  const other = Uint8Array.from(bytes);
  other[index] = (other[index] ?? 0) ^ 1;
  return other;
}
